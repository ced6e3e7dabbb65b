// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/file_fixture.h"
#include "src/linux_abi/testing/host_directory.h"

namespace waxvm::linux_abi {
namespace {

using SpliceCallsTest = FileFixture;

TEST_F(SpliceCallsTest, ThroughAPipe) {
  Start();
  const std::int64_t file = Open("/tmp/a", O_RDWR | O_CREAT);
  Write(file, "0123456789");
  const auto [reader, writer] = Pipe();
  const auto [second_reader, second_writer] = Pipe();
  const std::uint64_t offset = guest_.PutObject(std::int64_t{2});
  EXPECT_EQ(guest_.Call(SYS_splice, file, offset, writer, 0, 5, 0), 5);
  EXPECT_EQ(guest_.Object<std::int64_t>(offset), 7);
  EXPECT_EQ(guest_.Call(SYS_tee, reader, second_writer, 3, 0), 3);
  EXPECT_EQ(Read(second_reader, 10), "234");
  EXPECT_EQ(guest_.Call(SYS_splice, reader, 0, second_writer, 0, 100, 0), 5);
  EXPECT_EQ(Read(second_reader, 10), "23456");
  EXPECT_EQ(guest_.Call(SYS_splice, reader, 0, file, 0, 1, SPLICE_F_NONBLOCK), -EAGAIN);
  EXPECT_EQ(guest_.Call(SYS_splice, file, 0, file, 0, 1, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_splice, file, 0, writer, offset, 1, 0), -ESPIPE);
}

TEST_F(SpliceCallsTest, SealsHold) {
  Start();
  const std::int64_t fd = guest_.Call(SYS_memfd_create, guest_.Put("m"), MFD_ALLOW_SEALING);
  EXPECT_EQ(Write(fd, "abc"), 3);
  EXPECT_EQ(guest_.Call(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
  EXPECT_EQ(Write(fd, "d"), -EPERM);
  EXPECT_EQ(guest_.Call(SYS_ftruncate, fd, 1), -EPERM);
  EXPECT_EQ(guest_.Call(SYS_lseek, fd, 0, SEEK_SET), 0);
  EXPECT_EQ(Write(fd, "x"), 1);
  EXPECT_EQ(guest_.Call(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
  EXPECT_EQ(Write(fd, "y"), -EPERM);
  EXPECT_EQ(guest_.Call(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK), -EPERM);
  EXPECT_EQ(guest_.Call(SYS_fcntl, fd, F_GET_SEALS, 0),
            F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL);
  const std::int64_t plain = guest_.Call(SYS_memfd_create, guest_.Put("m"), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, plain, F_ADD_SEALS, F_SEAL_GROW), -EPERM);
}

TEST_F(SpliceCallsTest, LocksOfOpenFilesConflict) {
  Start();
  const std::int64_t one = Open("/tmp/l", O_RDWR | O_CREAT);
  const std::int64_t other = Open("/tmp/l", O_RDWR);
  EXPECT_EQ(guest_.Call(SYS_flock, one, LOCK_EX), 0);
  EXPECT_EQ(guest_.Call(SYS_flock, other, LOCK_SH | LOCK_NB), -EAGAIN);
  EXPECT_EQ(guest_.Call(SYS_flock, other, LOCK_SH), FakeProcess::kEnded) << "it sleeps";
  EXPECT_EQ(guest_.Call(SYS_close, one), 0);
  EXPECT_EQ(guest_.Call(SYS_flock, other, LOCK_SH | LOCK_NB), 0);
  const std::int64_t third = Open("/tmp/l", O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_len = 10;
  EXPECT_EQ(guest_.Call(SYS_fcntl, other, F_OFD_SETLK, guest_.PutObject(lock)), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, third, F_OFD_SETLK, guest_.PutObject(lock)), -EAGAIN);
  EXPECT_EQ(guest_.Call(SYS_fcntl, third, F_SETLK, guest_.PutObject(lock)), -EAGAIN);
  const std::uint64_t asked = guest_.PutObject(lock);
  EXPECT_EQ(guest_.Call(SYS_fcntl, third, F_GETLK, asked), 0);
  EXPECT_EQ(guest_.Object<struct flock>(asked).l_pid, -1);
  lock.l_start = 10;
  EXPECT_EQ(guest_.Call(SYS_fcntl, third, F_OFD_SETLK, guest_.PutObject(lock)), 0);
}

TEST_F(SpliceCallsTest, FilesWithoutANameLockEachOther) {
  Start();
  const std::int64_t counter = guest_.Call(SYS_eventfd2, 0, 0);
  const std::int64_t epoll = guest_.Call(SYS_epoll_create1, 0);
  EXPECT_EQ(guest_.Call(SYS_flock, counter, LOCK_EX), 0);
  EXPECT_EQ(guest_.Call(SYS_flock, epoll, LOCK_SH | LOCK_NB), -EAGAIN);
  EXPECT_EQ(guest_.Call(SYS_close, counter), 0);
  EXPECT_EQ(guest_.Call(SYS_flock, epoll, LOCK_SH | LOCK_NB), 0);
}

TEST_F(SpliceCallsTest, RecordLocksEndWithAnyClose) {
  Start();
  const std::int64_t holder = Open("/tmp/l", O_RDWR | O_CREAT);
  const std::int64_t other = Open("/tmp/l", O_RDWR);
  const std::int64_t asking = Open("/tmp/l", O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  EXPECT_EQ(guest_.Call(SYS_fcntl, holder, F_SETLK, guest_.PutObject(lock)), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, asking, F_OFD_SETLK, guest_.PutObject(lock)), -EAGAIN);
  EXPECT_EQ(guest_.Call(SYS_close, other), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, asking, F_OFD_SETLK, guest_.PutObject(lock)), 0);
}

TEST_F(SpliceCallsTest, KindsOfFilesThatAreNotMoved) {
  Start();
  const std::int64_t file = Open("/tmp/a", O_RDWR | O_CREAT);
  Write(file, "0123456789");
  const auto [reader, writer] = Pipe();
  const std::uint64_t zero = guest_.PutObject(std::int64_t{0});
  EXPECT_EQ(guest_.Call(SYS_sendfile, file, reader, zero, 5), -ESPIPE);
  const std::int64_t counter = guest_.Call(SYS_eventfd2, 5, 0);
  EXPECT_EQ(guest_.Call(SYS_lseek, counter, 3, SEEK_SET), 0);
  EXPECT_EQ(guest_.Call(SYS_fchmod, counter, 0600), -EOPNOTSUPP);
  EXPECT_EQ(guest_.Call(SYS_fallocate, counter, 0, 0, 5), -ENODEV);
  EXPECT_EQ(guest_.Call(SYS_splice, counter, 0, writer, 0, 8, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_pwrite64, reader, zero, 1, 0), -ESPIPE);
  EXPECT_EQ(guest_.Call(SYS_fcntl, writer, F_GETFL), O_WRONLY);
  EXPECT_EQ(Write(counter, "123456789"), -EINVAL);
  const std::int64_t memory = guest_.Call(SYS_memfd_create, guest_.Put("m"), 0);
  EXPECT_EQ(guest_.Call(SYS_copy_file_range, file, 0, memory, 0, 5, 0), -EXDEV);
}

TEST_F(SpliceCallsTest, LocksOfGrantedFilesAreTheHosts) {
  HostDirectory folder;
  folder.MakeFile("f", "x");
  guest_.Mount(folder.path(), "/data", Rights::kReadWrite);
  Start();
  const std::int64_t fd = Open("/data/f", O_RDWR);
  const int host = ::open(folder.Path("f").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(host, 0);
  EXPECT_EQ(guest_.Call(SYS_flock, fd, LOCK_EX | LOCK_NB), 0);
  EXPECT_NE(::flock(host, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(guest_.Call(SYS_flock, fd, LOCK_UN), 0);
  EXPECT_EQ(::flock(host, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(guest_.Call(SYS_flock, fd, LOCK_EX | LOCK_NB), -EAGAIN);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  const std::int64_t second = Open("/data/f", O_RDWR);
  EXPECT_EQ(guest_.Call(SYS_fcntl, fd, F_SETLK, guest_.PutObject(lock)), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, second, F_SETLK, guest_.PutObject(lock)), 0)
      << "one process, one owner";
  EXPECT_NE(::fcntl(host, F_OFD_SETLK, &lock), 0);
  lock.l_type = F_UNLCK;
  EXPECT_EQ(guest_.Call(SYS_fcntl, second, F_SETLK, guest_.PutObject(lock)), 0);
  lock.l_type = F_WRLCK;
  EXPECT_EQ(::fcntl(host, F_OFD_SETLK, &lock), 0);
  ::close(host);
}

}  // namespace
}  // namespace waxvm::linux_abi
