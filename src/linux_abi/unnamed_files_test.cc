// SPDX-License-Identifier: Apache-2.0
// Files made without a name, names for open files, and what syncing does, in granted folders and in
// the instance's own memory.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/file_fixture.h"
#include "src/linux_abi/testing/host_directory.h"

namespace waxvm::linux_abi {
namespace {

class UnnamedFilesTest : public FileFixture {
 protected:
  void SetUp() override {
    host_.MakeDirectory("rw/d");
    host_.MakeDirectory("ro");
    host_.MakeFile("ro/f", "host");
    guest_.Mount(host_.Path("rw"), "/data", Rights::kReadWrite);
    guest_.Mount(host_.Path("ro"), "/fixed", Rights::kReadOnly);
    Start();
  }
  std::int64_t LinkByNumber(std::int64_t fd, std::string_view to) {
    const std::uint64_t from = guest_.Put("/proc/self/fd/" + std::to_string(fd));
    return guest_.Call(SYS_linkat, AT_FDCWD, from, AT_FDCWD, guest_.Put(to), AT_SYMLINK_FOLLOW);
  }
  std::int64_t LinkEmpty(std::int64_t fd, std::string_view to) {
    const std::uint64_t from = guest_.Put("");
    return guest_.Call(SYS_linkat, fd, from, AT_FDCWD, guest_.Put(to), AT_EMPTY_PATH);
  }
  /// False where the host's file system has no O_TMPFILE.
  bool HostHasUnnamed() {
    const int fd = ::open(host_.Path("rw").c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }

  HostDirectory host_;
};

TEST_F(UnnamedFilesTest, InAGrantedFolder) {
  if (!HostHasUnnamed()) GTEST_SKIP() << "the host's file system has no O_TMPFILE";
  const std::int64_t fd = Open("/data/d", O_TMPFILE | O_RDWR, 07666);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(Write(fd, "nameless"), 8);
  EXPECT_EQ(FStat(fd).st_nlink, 0u);
  EXPECT_EQ(FStat(fd).st_mode, mode_t{S_IFREG | 0644}) << "the umask counts, and no set-user-id";
  EXPECT_EQ(guest_.Call(SYS_fchmod, fd, 06755), 0);
  EXPECT_EQ(FStat(fd).st_mode, mode_t{S_IFREG | 0755});
  EXPECT_EQ(LinkByNumber(fd, "/tmp/x"), -EXDEV);
  EXPECT_EQ(LinkByNumber(fd, "/fixed/x"), -EROFS);
  EXPECT_EQ(LinkByNumber(fd, "/data/one"), 0);
  EXPECT_EQ(host_.Contents("rw/one"), "nameless");
  EXPECT_EQ(LinkEmpty(fd, "/data/d/two"), 0);
  EXPECT_EQ(LinkEmpty(fd, "/data/d/two"), -EEXIST);
  EXPECT_EQ(host_.Contents("rw/d/two"), "nameless");
  EXPECT_EQ(FStat(fd).st_nlink, 2u);
  const std::int64_t kept = Open("/data", O_TMPFILE | O_WRONLY | O_EXCL);
  ASSERT_GE(kept, 0);
  EXPECT_EQ(LinkByNumber(kept, "/data/kept"), -ENOENT) << "O_EXCL: never a name";
  EXPECT_EQ(Read(kept, 1), "error " + std::to_string(EBADF));
}

TEST_F(UnnamedFilesTest, TheGrantIsAskedFor) {
  EXPECT_EQ(Open("/fixed", O_TMPFILE | O_RDWR), -EROFS);
  EXPECT_TRUE(guest_.gate.HasDenied(Resource::kFile, "/fixed"));
  EXPECT_EQ(Open("/data", O_TMPFILE), -EINVAL) << "not for writing";
  EXPECT_EQ(Open("/fixed/f", O_TMPFILE | O_RDWR), -ENOTDIR);
  EXPECT_EQ(Open("/proc", O_TMPFILE | O_RDWR), -EOPNOTSUPP);
  guest_.gate.refuse = [](const Access& access) { return access.write; };
  EXPECT_EQ(Open("/data", O_TMPFILE | O_RDWR), -EACCES);
}

TEST_F(UnnamedFilesTest, OpenFilesGetMoreNamesWithinTheirFolderAlone) {
  const std::int64_t fixed = Open("/fixed/f", O_RDONLY);
  EXPECT_EQ(LinkEmpty(fixed, "/data/f"), -EXDEV) << "the name would make it writable";
  EXPECT_EQ(LinkEmpty(fixed, "/tmp/f"), -EXDEV);
  const std::int64_t fd = Open("/data/a", O_RDWR | O_CREAT);
  Write(fd, "text");
  EXPECT_EQ(LinkEmpty(fd, "/data/b"), 0);
  EXPECT_EQ(host_.Contents("rw/b"), "text");
  const std::int64_t handle = Open("/data/a", O_PATH);
  EXPECT_EQ(LinkEmpty(handle, "/data/c"), 0);
  guest_.gate.refuse = [](const Access& access) { return access.name == "/data/a"; };
  EXPECT_EQ(LinkEmpty(fd, "/data/e"), -EACCES) << "what cannot be written cannot be named anew";
  guest_.gate.refuse = nullptr;
  EXPECT_EQ(LinkEmpty(Open("/data/d", O_RDONLY), "/data/e"), -EPERM);
  for (const char* name : {"/data/a", "/data/b", "/data/c"}) {
    EXPECT_EQ(guest_.Call(SYS_unlink, guest_.Put(name)), 0);
  }
  EXPECT_EQ(LinkEmpty(fd, "/data/e"), -ENOENT) << "it lost its last name";
}

TEST_F(UnnamedFilesTest, InMemory) {
  const std::int64_t fd = Open("/tmp", O_TMPFILE | O_WRONLY, 0600);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(Write(fd, "abc"), 3);
  EXPECT_EQ(Read(fd, 3), "error " + std::to_string(EBADF)) << "opened for writing alone";
  EXPECT_EQ(LinkEmpty(fd, "/data/x"), -EXDEV);
  EXPECT_EQ(LinkByNumber(fd, "/tmp/x"), 0);
  EXPECT_EQ(Read(Open("/tmp/x", O_RDONLY), 10), "abc");
  EXPECT_EQ(guest_.Call(SYS_unlink, guest_.Put("/tmp/x")), 0);
  EXPECT_EQ(LinkByNumber(fd, "/tmp/x"), -ENOENT) << "the name it got is gone";
  EXPECT_EQ(LinkByNumber(Open("/tmp", O_TMPFILE | O_RDWR | O_EXCL), "/tmp/x"), -ENOENT);
  const std::int64_t memory = guest_.Call(SYS_memfd_create, guest_.Put("m"), 0);
  EXPECT_EQ(LinkEmpty(memory, "/tmp/x"), -EXDEV);
}

TEST_F(UnnamedFilesTest, Syncing) {
  const std::int64_t directory = Open("/data/d", O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(guest_.Call(SYS_fsync, directory), 0);
  EXPECT_EQ(::rmdir(host_.Path("rw/d").c_str()), 0);
  EXPECT_EQ(guest_.Call(SYS_fsync, directory), 0) << "it is the directory, not what has its name";
  EXPECT_EQ(guest_.Call(SYS_fsync, Open("/tmp", O_RDONLY)), 0);
  EXPECT_EQ(guest_.Call(SYS_fsync, Open("/data", O_PATH)), -EBADF);
  const std::int64_t fd = Open("/data/f", O_RDWR | O_CREAT);
  Write(fd, "text");
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(guest_.Call(SYS_syncfs, fd), 0);
  EXPECT_EQ(guest_.Call(SYS_syncfs, reader), 0);
  EXPECT_EQ(guest_.Call(SYS_syncfs, 99), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_sync), 0);
  EXPECT_EQ(guest_.Call(SYS_sync_file_range, fd, 0, 4, SYNC_FILE_RANGE_WRITE), 0);
  EXPECT_EQ(guest_.Call(SYS_sync_file_range, fd, -1, 4, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_sync_file_range, fd, 0, 4, 8), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_sync_file_range, writer, 0, 0, 0), -ESPIPE);
}

}  // namespace
}  // namespace waxvm::linux_abi
