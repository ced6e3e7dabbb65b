// SPDX-License-Identifier: Apache-2.0
// Open files and descriptors, through system calls.
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/linux_abi/testing/fake_process.h"
#include "src/linux_abi/testing/file_fixture.h"

namespace waxvm::linux_abi {
namespace {

using FileCallsTest = FileFixture;

TEST_F(FileCallsTest, StandardStreams) {
  int input[2];
  ASSERT_EQ(::pipe2(input, O_CLOEXEC), 0);
  ASSERT_EQ(::write(input[1], "hello", 5), 5);
  ::close(input[1]);
  guest_.spec.input_fd = input[0];
  Start();
  EXPECT_EQ(Write(1, "out"), 3);
  EXPECT_EQ(Write(2, "err"), 3);
  EXPECT_EQ(guest_.host.output, "out");
  EXPECT_EQ(guest_.host.error_output, "err");
  EXPECT_EQ(Read(0, 2), "he");
  EXPECT_EQ(Read(0, 100), "llo");
  EXPECT_EQ(Read(0, 100), "");
  EXPECT_EQ(Write(0, "x"), -EBADF);
  EXPECT_EQ(Read(1, 1), "error 9");
  for (int fd = 0; fd < 3; ++fd) {
    EXPECT_TRUE(S_ISFIFO(FStat(fd).st_mode));
    EXPECT_EQ(guest_.Call(SYS_ioctl, fd, TCGETS, guest_.Reserve(64)), -ENOTTY);
    EXPECT_EQ(guest_.Call(SYS_lseek, fd, 0, SEEK_CUR), -ESPIPE);
  }
  ::close(input[0]);
}

TEST_F(FileCallsTest, LengthsThatLeaveTheUserHalfAreRefusedWhole) {
  Start();
  const std::uint64_t at = guest_.Put("text");
  for (const std::uint64_t bytes : {std::uint64_t{1} << 63, ~std::uint64_t{0}, kUserEnd}) {
    EXPECT_EQ(guest_.Call(SYS_write, 1, at, bytes), -EFAULT) << bytes;
    EXPECT_EQ(guest_.Call(SYS_read, 0, at, bytes), -EFAULT) << bytes;
  }
  EXPECT_EQ(guest_.host.output, "");
}

TEST_F(FileCallsTest, EmptyInputIsAtItsEnd) {
  Start();
  EXPECT_EQ(Read(0, 10), "");
}

TEST_F(FileCallsTest, InputThatNeverComesEndsWithTheRun) {
  int input[2];
  ASSERT_EQ(::pipe2(input, O_CLOEXEC), 0);
  guest_.spec.input_fd = input[0];
  Start();
  EXPECT_EQ(Read(0, 10), kAsleepText);
  ASSERT_EQ(guest_.Call(SYS_fcntl, 0, F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(Read(0, 10), "error " + std::to_string(EAGAIN));
  ::close(input[0]);
  ::close(input[1]);
}

TEST_F(FileCallsTest, OutputLimitEndsTheProcess) {
  guest_.host.output_limit = 4;
  Start();
  EXPECT_EQ(Write(1, "123456"), FakeProcess::kEnded);
  EXPECT_EQ(guest_.host.output, "1234");
  ASSERT_TRUE(guest_.process->ending().has_value());
  const auto* limit = std::get_if<LimitReached>(&*guest_.process->ending());
  ASSERT_NE(limit, nullptr);
  EXPECT_EQ(limit->limit, LimitKind::kOutput);
}

TEST_F(FileCallsTest, FailedOutputIsAnInputOutputError) {
  guest_.host.fail_output = true;
  Start();
  EXPECT_EQ(Write(1, "x"), -EIO);
}

TEST_F(FileCallsTest, HostilePointersAndCounts) {
  Start();
  EXPECT_EQ(guest_.Call(SYS_write, 1, kUnmapped, 10), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_write, 1, ~std::uint64_t{0} - 3, 100), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_write, 99, kUnmapped, 10), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_write, -1, kUnmapped, 10), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_writev, 1, kUnmapped, 1), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_writev, 1, guest_.Reserve(16), IOV_MAX + 1), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_writev, 1, guest_.Reserve(16), -1), -EINVAL);
  const std::array<iovec, 2> wrapping = {iovec{nullptr, SSIZE_MAX}, iovec{nullptr, SSIZE_MAX}};
  EXPECT_EQ(guest_.Call(SYS_writev, 1, guest_.PutObject(wrapping), 2), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_open, kUnmapped, O_RDONLY), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_fstat, 0, kUnmapped), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_pipe2, kUnmapped, 0), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_dup, 0), 3) << "the failed pipe left descriptors behind";
}

TEST_F(FileCallsTest, CopiesUpToTheFirstPageThatIsNotThere) {
  Start();
  const std::uint64_t end = FakeProcess::kScratch + FakeProcess::kScratchBytes;
  EXPECT_EQ(guest_.Call(SYS_write, 1, end - 5000, 100'000), 5000);
  EXPECT_EQ(guest_.host.output.size(), 5000u);

  const std::int64_t file = Open("/tmp/f", O_RDWR | O_CREAT);
  ASSERT_EQ(Write(file, std::string(9000, 'x')), 9000);
  ASSERT_EQ(guest_.Call(SYS_lseek, file, 0, SEEK_SET), 0);
  EXPECT_EQ(guest_.Call(SYS_read, file, end - 5000, 9000), 5000);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, 0, SEEK_CUR), 5000) << "what was not copied is not lost";
  EXPECT_EQ(guest_.Call(SYS_read, file, end, 10), -EFAULT);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, 0, SEEK_CUR), 5000);
}

TEST_F(FileCallsTest, ReadsAndWritesAtOffsets) {
  Start();
  const std::int64_t file = Open("/tmp/f", O_RDWR | O_CREAT | O_EXCL, 0600);
  ASSERT_EQ(file, 3);
  EXPECT_EQ(Write(file, "hello world"), 11);
  EXPECT_EQ(guest_.Call(SYS_pwrite64, file, guest_.Put("J"), 1, 0), 1);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, 0, SEEK_CUR), 11);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, -5, SEEK_END), 6);
  EXPECT_EQ(Read(file, 100), "world");
  EXPECT_EQ(guest_.Call(SYS_lseek, file, -1, SEEK_SET), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, 0, 77), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, INT64_MAX, SEEK_CUR), -EOVERFLOW);
  EXPECT_EQ(guest_.Call(SYS_pread64, file, guest_.Reserve(8), 8, -1), -EINVAL);
  const std::uint64_t buffer = guest_.Reserve(8);
  EXPECT_EQ(guest_.Call(SYS_pread64, file, buffer, 8, 0), 8);
  EXPECT_EQ(guest_.Text(buffer, 8), "Jello wo");
  EXPECT_EQ(guest_.Call(SYS_lseek, file, std::int64_t{1} << 40, SEEK_SET), std::int64_t{1} << 40);
  EXPECT_EQ(Write(file, "end"), 3);
  EXPECT_EQ(FStat(file).st_size, (std::int64_t{1} << 40) + 3);
  EXPECT_EQ(FStat(file).st_mode, mode_t{S_IFREG | 0600});
  EXPECT_EQ(guest_.Call(SYS_ftruncate, file, 3), 0);
  EXPECT_EQ(FStat(file).st_size, 3);
  EXPECT_EQ(guest_.Call(SYS_ftruncate, file, -1), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_ftruncate, file, INT64_MAX), -EFBIG);
}

TEST_F(FileCallsTest, Vectors) {
  Start();
  const std::int64_t file = Open("/tmp/f", O_RDWR | O_CREAT);
  const std::uint64_t text = guest_.Put("abcdef");
  const std::array<iovec, 3> parts = {iovec{reinterpret_cast<void*>(text + 3), 3},
                                      iovec{nullptr, 0}, iovec{reinterpret_cast<void*>(text), 3}};
  EXPECT_EQ(guest_.Call(SYS_writev, file, guest_.PutObject(parts), 3), 6);
  const std::uint64_t buffer = guest_.Put(std::string(16, '\0'));
  const std::array<iovec, 2> into = {iovec{reinterpret_cast<void*>(buffer + 4), 4},
                                     iovec{reinterpret_cast<void*>(buffer), 4}};
  EXPECT_EQ(guest_.Call(SYS_preadv, file, guest_.PutObject(into), 2, 0), 6);
  EXPECT_EQ(guest_.Text(buffer, 8), std::string("bc\0\0defa", 8));
  EXPECT_EQ(guest_.Call(SYS_preadv2, file, guest_.PutObject(into), 2, -1, 0, 0), 0);
  EXPECT_EQ(guest_.Call(SYS_preadv2, file, guest_.PutObject(into), 2, 0, 0, 0x1000), -EOPNOTSUPP);
  EXPECT_EQ(guest_.Call(SYS_pwritev, file, guest_.PutObject(into), 2, -5), -EINVAL);
}

TEST_F(FileCallsTest, AppendingAndAccessModes) {
  Start();
  const std::int64_t file = Open("/tmp/f", O_WRONLY | O_CREAT | O_APPEND);
  EXPECT_EQ(Write(file, "one"), 3);
  EXPECT_EQ(guest_.Call(SYS_lseek, file, 0, SEEK_SET), 0);
  EXPECT_EQ(Write(file, "two"), 3);
  EXPECT_EQ(Read(file, 1), "error 9");
  EXPECT_EQ(guest_.Call(SYS_fcntl, file, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
  const std::int64_t reader = Open("/tmp/f", O_RDONLY);
  EXPECT_EQ(Read(reader, 100), "onetwo");
  EXPECT_EQ(Write(reader, "x"), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_ftruncate, reader, 0), -EINVAL);
  const std::int64_t handle = Open("/tmp/f", O_PATH);
  EXPECT_EQ(Read(handle, 1), "error 9");
  EXPECT_EQ(FStat(handle).st_size, 6);
  EXPECT_EQ(guest_.Call(SYS_fchmod, handle, 0600), -EBADF);
}

TEST_F(FileCallsTest, DuplicatesShareTheOffset) {
  Start();
  const std::int64_t file = Open("/tmp/f", O_RDWR | O_CREAT);
  Write(file, "abcdef");
  const std::int64_t copy = guest_.Call(SYS_dup, file);
  EXPECT_EQ(copy, 4);
  guest_.Call(SYS_lseek, copy, 2, SEEK_SET);
  EXPECT_EQ(Read(file, 2), "cd");
  EXPECT_EQ(guest_.Call(SYS_dup2, file, 10), 10);
  EXPECT_EQ(guest_.Call(SYS_dup2, file, file), file);
  EXPECT_EQ(guest_.Call(SYS_dup3, file, file, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_dup3, file, 11, O_CLOEXEC), 11);
  EXPECT_EQ(guest_.Call(SYS_fcntl, 11, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(guest_.Call(SYS_fcntl, 10, F_GETFD), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, file, F_DUPFD, 10), 12);
  EXPECT_EQ(guest_.Call(SYS_fcntl, file, F_DUPFD, 1 << 20), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_dup2, file, 1 << 20), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_dup2, 55, 3), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_close, copy), 0);
  EXPECT_EQ(guest_.Call(SYS_close, copy), -EBADF);
  EXPECT_EQ(Read(10, 2), "ef");
  EXPECT_EQ(guest_.Call(SYS_close_range, 5, ~0u, 0), 0);
  EXPECT_EQ(guest_.Call(SYS_fcntl, 10, F_GETFD), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_fcntl, file, F_GETFD), 0);
  EXPECT_EQ(guest_.Call(SYS_close_range, 5, 4, 0), -EINVAL);
}

TEST_F(FileCallsTest, OpenFilesAreLimitedAndCounted) {
  guest_.spec.limits.open_files = 5;
  Start();
  EXPECT_EQ(Open("/dev/null", O_RDONLY), 3);
  EXPECT_EQ(Open("/dev/null", O_RDONLY), 4);
  EXPECT_EQ(Open("/tmp/not-made", O_WRONLY | O_CREAT), -EMFILE);
  EXPECT_EQ(guest_.Call(SYS_dup, 0), -EMFILE);
  EXPECT_EQ(guest_.Call(SYS_pipe, guest_.Reserve(8)), -EMFILE);
  EXPECT_TRUE(guest_.gate.HasDenied(Resource::kLimit, "open_files"));
  EXPECT_EQ(guest_.gate.denied.size(), 3u);
  EXPECT_EQ(guest_.Call(SYS_close, 3), 0);
  EXPECT_EQ(Open("/tmp/not-made", O_RDONLY), -ENOENT);
  EXPECT_EQ(guest_.Call(SYS_dup, 0), 3);
}

TEST_F(FileCallsTest, DescriptorsAreChargedAndGivenBack) {
  guest_.spec.limits.open_files = 1u << 30;
  Start();
  guest_.Put("touches the memory for arguments, which is charged as well");
  const std::uint64_t before = guest_.account.used_bytes();
  EXPECT_EQ(guest_.Call(SYS_dup2, 0, (1 << 30) - 1), -ENOMEM) << "a table of a thousand million";
  EXPECT_EQ(guest_.account.used_bytes(), before);
  const auto ends = Pipe();
  EXPECT_GT(guest_.account.used_bytes(), before + 65536);
  guest_.Call(SYS_close, ends[0]);
  guest_.Call(SYS_close, ends[1]);
  EXPECT_LT(guest_.account.used_bytes(), before + 4096);
}

TEST_F(FileCallsTest, Devices) {
  Start();
  const std::int64_t null = Open("/dev/null", O_RDWR);
  EXPECT_EQ(Write(null, "gone"), 4);
  EXPECT_EQ(Read(null, 4), "");
  EXPECT_TRUE(S_ISCHR(FStat(null).st_mode));
  EXPECT_EQ(Read(Open("/dev/zero", O_RDONLY), 4), std::string(4, '\0'));
  const std::int64_t full = Open("/dev/full", O_RDWR);
  EXPECT_EQ(Write(full, "x"), -ENOSPC);
  EXPECT_EQ(Open("/dev/tty", O_RDWR), -ENXIO);
  EXPECT_EQ(Open("/dev/urandom", O_RDONLY), -EACCES) << "nothing random without the grant";
  EXPECT_EQ(Open("/dev/mem", O_RDONLY), -ENOENT);
  EXPECT_EQ(guest_.Call(SYS_unlink, guest_.Put("/dev/null")), -EBUSY);
  EXPECT_EQ(guest_.Call(SYS_rmdir, guest_.Put("/dev")), -EBUSY);
}

TEST_F(FileCallsTest, RandomDeviceReadsTheGrantedSource) {
  guest_.spec.random = std::make_shared<FakeRandom>();
  Start();
  const std::int64_t random = Open("/dev/urandom", O_RDONLY);
  EXPECT_EQ(Read(random, 4), "\x10\x11\x12\x13") << "the first 16 went into the auxiliary vector";
  guest_.gate.refuse = [](const Access& access) { return access.resource == Resource::kRandom; };
  EXPECT_EQ(Open("/dev/random", O_RDONLY), -EACCES);
  EXPECT_TRUE(guest_.gate.HasDenied(Resource::kRandom, "/dev/urandom"));
}

TEST_F(FileCallsTest, Pipes) {
  Start();
  const auto [reader, writer] = Pipe(O_NONBLOCK);
  EXPECT_EQ(Read(reader, 10), "error " + std::to_string(EAGAIN));
  EXPECT_EQ(Write(writer, "through"), 7);
  const std::uint64_t count = guest_.Reserve(4);
  EXPECT_EQ(guest_.Call(SYS_ioctl, reader, FIONREAD, count), 0);
  EXPECT_EQ(guest_.Object<std::int32_t>(count), 7);
  EXPECT_EQ(Read(reader, 3), "thr");
  EXPECT_EQ(Read(reader, 100), "ough");
  EXPECT_EQ(Write(writer, std::string(70000, 'x')), 65536);
  EXPECT_EQ(Write(writer, "x"), -EAGAIN);
  EXPECT_EQ(Read(reader, 100'000), std::string(65536, 'x'));
  EXPECT_EQ(guest_.Call(SYS_lseek, reader, 0, SEEK_SET), -ESPIPE);
  EXPECT_EQ(guest_.Call(SYS_close, writer), 0);
  EXPECT_EQ(Read(reader, 10), "");
}

TEST_F(FileCallsTest, WritingToAPipeWithoutReaderIsASignal) {
  Start();
  const auto [reader, writer] = Pipe();
  guest_.Call(SYS_close, reader);
  EXPECT_EQ(Write(writer, "x"), FakeProcess::kEnded);
  ASSERT_TRUE(guest_.process->ending().has_value());
  const auto* fault = std::get_if<Fault>(&*guest_.process->ending());
  ASSERT_NE(fault, nullptr);
  EXPECT_EQ(fault->signal, SIGPIPE);
}

TEST_F(FileCallsTest, WaitingForOneselfLastsUntilTheEndOfTheRun) {
  Start();
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(Read(reader, 1), kAsleepText);
  EXPECT_EQ(guest_.host.waits, 1);
}

TEST_F(FileCallsTest, CopiesBetweenFiles) {
  Start();
  const std::int64_t from = Open("/tmp/from", O_RDWR | O_CREAT);
  const std::string text(200'000, 'y');
  Write(from, text);
  const std::int64_t to = Open("/tmp/to", O_RDWR | O_CREAT);
  const std::uint64_t offset = guest_.PutObject(std::int64_t{1000});
  EXPECT_EQ(guest_.Call(SYS_sendfile, to, from, offset, 1 << 30), 199'000);
  EXPECT_EQ(guest_.Object<std::int64_t>(offset), 200'000);
  EXPECT_EQ(FStat(to).st_size, 199'000);
  guest_.Call(SYS_lseek, from, 0, SEEK_SET);
  EXPECT_EQ(guest_.Call(SYS_sendfile, 1, from, 0, 10), 10);
  EXPECT_EQ(guest_.host.output, std::string(10, 'y'));
  EXPECT_EQ(guest_.Call(SYS_lseek, from, 0, SEEK_CUR), 10);
  EXPECT_EQ(guest_.Call(SYS_sendfile, 1, 0, 0, 10), -EINVAL);
  guest_.Call(SYS_lseek, to, 0, SEEK_SET);
  EXPECT_EQ(guest_.Call(SYS_copy_file_range, from, 0, to, 0, 100, 0), 100);
  EXPECT_EQ(guest_.Call(SYS_copy_file_range, from, 0, to, 0, 100, 1), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_copy_file_range, from, 0, from, 0, 100, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_copy_file_range, from, 0, 1, 0, 100, 0), -EINVAL);
}

TEST_F(FileCallsTest, DirectoriesAreListedOnceAndWhole) {
  Start();
  std::vector<std::string> expected = {".", ".."};
  for (int i = 0; i < 300; ++i) {
    const std::string name = "entry" + std::to_string(i);
    expected.push_back(name);
    guest_.Call(SYS_close, Open("/tmp/" + name, O_WRONLY | O_CREAT));
  }
  const std::int64_t directory = Open("/tmp", O_RDONLY | O_DIRECTORY);
  std::vector<std::string> names;
  while (true) {
    const std::uint64_t buffer = guest_.Reserve(1024);
    const std::int64_t n = guest_.Call(SYS_getdents64, directory, buffer, 1024);
    ASSERT_GE(n, 0);
    if (n == 0) break;
    const std::string bytes = guest_.Text(buffer, n);
    for (std::size_t at = 0; at < bytes.size();) {
      const auto* entry = reinterpret_cast<const dirent64*>(bytes.data() + at);
      names.emplace_back(entry->d_name);
      at += entry->d_reclen;
      if (names.back() == "entry7") {
        EXPECT_EQ(guest_.Call(SYS_unlink, guest_.Put("/tmp/entry7")), 0);
      }
    }
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAreArray(expected));
  EXPECT_EQ(guest_.Call(SYS_lseek, directory, 0, SEEK_SET), 0);
  EXPECT_EQ(guest_.Call(SYS_getdents64, directory, guest_.Reserve(16), 8), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_getdents64, 0, guest_.Reserve(16), 8), -ENOTDIR);
  EXPECT_EQ(Read(directory, 1), "error " + std::to_string(EISDIR));
  EXPECT_EQ(Open("/tmp", O_WRONLY), -EISDIR);
}

TEST_F(FileCallsTest, UnnamedFilesAndCounters) {
  Start();
  const std::int64_t file = guest_.Call(SYS_memfd_create, guest_.Put("name"), 1);
  EXPECT_EQ(Write(file, "in memory"), 9);
  EXPECT_EQ(FStat(file).st_nlink, 0u);
  EXPECT_EQ(guest_.Call(SYS_memfd_create, guest_.Put(std::string(250, 'n')), 0), -EINVAL);
  const std::int64_t counter = guest_.Call(SYS_eventfd2, 3, EFD_NONBLOCK);
  EXPECT_EQ(Read(counter, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(Read(counter, 8), "error " + std::to_string(EAGAIN));
  EXPECT_EQ(Read(counter, 7), "error " + std::to_string(EINVAL));
  EXPECT_EQ(guest_.Call(SYS_write, counter, guest_.PutObject(~std::uint64_t{0}), 8), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_write, counter, guest_.PutObject(~std::uint64_t{0} - 1), 8), 8);
  EXPECT_EQ(guest_.Call(SYS_write, counter, guest_.PutObject(std::uint64_t{1}), 8), -EAGAIN);
}

TEST_F(FileCallsTest, RandomArgumentsAreSurvived) {
  guest_.spec.limits.open_files = 64;
  Start();
  constexpr int kCalls[] = {SYS_read,         SYS_write,      SYS_pread64,      SYS_pwrite64,
                            SYS_readv,        SYS_writev,     SYS_lseek,        SYS_dup2,
                            SYS_dup3,         SYS_fcntl,      SYS_ioctl,        SYS_ftruncate,
                            SYS_fallocate,    SYS_getdents64, SYS_sendfile,     SYS_copy_file_range,
                            SYS_poll,         SYS_select,     SYS_epoll_ctl,    SYS_epoll_wait,
                            SYS_close_range,  SYS_open,       SYS_newfstatat,   SYS_statx,
                            SYS_renameat2,    SYS_linkat,     SYS_utimensat,    SYS_pipe2,
                            SYS_memfd_create, SYS_eventfd2,   SYS_epoll_create1};
  std::uint64_t state = 1;
  const auto next = [&state] {
    return state = state * 6364136223846793005u + 1442695040888963407u;
  };
  const auto argument = [&]() -> std::uint64_t {
    const std::uint64_t value = next() >> 20;
    switch (value % 5) {
      case 0:
        return value / 5 % 16;
      case 1:
        return FakeProcess::kScratch + value / 5 % 8192;
      case 2:
        return FakeProcess::kScratch + FakeProcess::kScratchBytes - value / 5 % 64;
      case 3:
        return ~std::uint64_t{0} - value / 5 % 64;
      default:
        return next();
    }
  };
  for (int i = 0; i < 20'000 && !guest_.process->ending(); ++i) {
    const int call = kCalls[(next() >> 33) % std::size(kCalls)];
    const std::int64_t result =
        guest_.Call(call, argument(), argument(), argument(), argument(), argument(), argument());
    ASSERT_GE(result, FakeProcess::kEnded);
    if (i % 500 == 0) guest_.Call(SYS_close_range, 3, ~0u, 0);
  }
  EXPECT_LE(guest_.account.used_bytes(), guest_.account.limit_bytes());
}

}  // namespace
}  // namespace waxvm::linux_abi
