// SPDX-License-Identifier: Apache-2.0
// Names and attributes in the instance's own tree, through system calls.
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/testing/fake_process.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {
namespace {

class PathCallsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(guest_.Start().ok()); }

  std::int64_t Call1(long number, std::string_view path, std::int64_t a = 0, std::int64_t b = 0) {
    return guest_.Call(number, guest_.Put(path), a, b);
  }
  std::int64_t Call2(long number, std::string_view from, std::string_view to) {
    const std::uint64_t first = guest_.Put(from);
    return guest_.Call(number, first, guest_.Put(to));
  }
  std::int64_t MakeFile(std::string_view path, int mode = 0644) {
    const std::int64_t fd = Call1(SYS_open, path, O_WRONLY | O_CREAT | O_EXCL, mode);
    return fd < 0 ? fd : guest_.Call(SYS_close, fd);
  }
  std::int64_t Open(std::string_view path, int flags) { return Call1(SYS_open, path, flags, 0644); }
  std::int64_t StatResult(std::string_view path, bool follow = true) {
    const std::uint64_t name = guest_.Put(path);
    const std::uint64_t address = guest_.Reserve(sizeof(struct stat));
    const std::int64_t result = guest_.Call(follow ? SYS_stat : SYS_lstat, name, address);
    status_ = guest_.Object<struct stat>(address);
    return result;
  }
  struct stat Stat(std::string_view path, bool follow = true) {
    EXPECT_EQ(StatResult(path, follow), 0) << path;
    return status_;
  }
  std::string WorkingDirectory() {
    const std::uint64_t buffer = guest_.Reserve(PATH_MAX);
    const std::int64_t n = guest_.Call(SYS_getcwd, buffer, PATH_MAX);
    return n < 0 ? "error " + std::to_string(-n) : guest_.Text(buffer, n - 1);
  }
  std::string ReadLink(std::string_view path) {
    const std::uint64_t name = guest_.Put(path);
    const std::uint64_t buffer = guest_.Reserve(PATH_MAX);
    const std::int64_t n = guest_.Call(SYS_readlink, name, buffer, PATH_MAX);
    return n < 0 ? "error " + std::to_string(-n) : guest_.Text(buffer, n);
  }

  FakeProcess guest_;
  struct stat status_ {};
};

TEST_F(PathCallsTest, TheTreeAtTheStart) {
  EXPECT_EQ(WorkingDirectory(), "/");
  EXPECT_EQ(Stat("/tmp").st_mode, mode_t{S_IFDIR | 01777});
  EXPECT_EQ(Stat("/").st_nlink, 6u);
  EXPECT_EQ(StatResult("/etc/passwd"), -ENOENT);
  EXPECT_EQ(Stat("/proc").st_mode, mode_t{S_IFDIR | 0555});
  EXPECT_EQ(Stat("/..").st_ino, Stat("/").st_ino);
  EXPECT_EQ(Stat("/../../tmp/../tmp/.").st_ino, Stat("/tmp").st_ino);
  EXPECT_EQ(Stat("/tmp").st_mtim.tv_sec, kFixedTimeSeconds) << "no clock was granted";
}

TEST_F(PathCallsTest, PathsAsTheKernelReadsThem) {
  ASSERT_EQ(MakeFile("/tmp/f"), 0);
  EXPECT_EQ(StatResult(""), -ENOENT);
  EXPECT_EQ(StatResult("/tmp/f/"), -ENOTDIR);
  EXPECT_EQ(StatResult("/tmp/f/."), -ENOTDIR);
  EXPECT_EQ(StatResult("/tmp/f/.."), -ENOTDIR);
  EXPECT_EQ(StatResult("/tmp/none/.."), -ENOENT);
  EXPECT_EQ(StatResult("//tmp///f"), 0);
  EXPECT_EQ(StatResult("/tmp/" + std::string(255, 'n')), -ENOENT);
  EXPECT_EQ(StatResult("/tmp/" + std::string(256, 'n')), -ENAMETOOLONG);
  std::string deep = "/tmp";
  while (deep.size() + 2 < PATH_MAX) deep += "/.";
  EXPECT_EQ(StatResult(deep), 0);
  EXPECT_EQ(StatResult(deep + "/././././"), -ENAMETOOLONG);
  EXPECT_EQ(MakeFile("/tmp/f"), -EEXIST);
  EXPECT_EQ(Open("/tmp/new/", O_WRONLY | O_CREAT), -EISDIR);
  EXPECT_EQ(Open("/tmp", O_RDONLY | O_CREAT), -EISDIR);
  EXPECT_EQ(Open("/tmp", O_RDWR | O_CREAT | O_EXCL), -EEXIST);
  EXPECT_EQ(Open("/tmp/.", O_RDWR | O_CREAT | O_EXCL), -EEXIST);
  EXPECT_EQ(Open("/tmp/..", O_RDWR | O_CREAT), -EISDIR);
  EXPECT_EQ(Open("/tmp/f", O_RDONLY | O_DIRECTORY), -ENOTDIR);
  for (const long call : {SYS_rename, SYS_link}) {
    EXPECT_EQ(Call2(call, "/tmp/f/x", ""), -ENOTDIR) << "the first name is looked at first";
    EXPECT_EQ(Call2(call, "/tmp/f", ""), -ENOENT);
    EXPECT_EQ(guest_.Call(call, guest_.Put("/tmp/f/x"), 8), -ENOTDIR);
    EXPECT_EQ(guest_.Call(call, guest_.Put("/tmp/f"), 8), -EFAULT);
  }
  EXPECT_EQ(Open("/tmp/f", O_ACCMODE), -EINVAL);
}

TEST_F(PathCallsTest, Directories) {
  EXPECT_EQ(Call1(SYS_mkdir, "/a", 0777), 0);
  EXPECT_EQ(Stat("/a").st_mode, mode_t{S_IFDIR | 0755}) << "the umask was applied";
  EXPECT_EQ(Call1(SYS_mkdir, "/a/b/", 0700), 0);
  EXPECT_EQ(Stat("/a").st_nlink, 3u);
  EXPECT_EQ(Call1(SYS_mkdir, "/a", 0777), -EEXIST);
  EXPECT_EQ(Call1(SYS_mkdir, "/", 0777), -EEXIST);
  EXPECT_EQ(Call1(SYS_mkdir, "/a/.", 0777), -EEXIST);
  EXPECT_EQ(Call1(SYS_mkdir, "/no/where", 0777), -ENOENT);
  EXPECT_EQ(Call1(SYS_rmdir, "/a"), -ENOTEMPTY);
  EXPECT_EQ(Call1(SYS_rmdir, "/a/b/."), -EINVAL);
  EXPECT_EQ(Call1(SYS_rmdir, "/a/b/.."), -ENOTEMPTY);
  EXPECT_EQ(Call1(SYS_rmdir, "/"), -EBUSY);
  EXPECT_EQ(Call1(SYS_unlink, "/a/b"), -EISDIR);
  EXPECT_EQ(Call1(SYS_chdir, "/a/b"), 0);
  EXPECT_EQ(WorkingDirectory(), "/a/b");
  EXPECT_EQ(Call1(SYS_rmdir, "/a/b"), 0);
  EXPECT_EQ(WorkingDirectory(), "error " + std::to_string(ENOENT));
  EXPECT_EQ(MakeFile("lost"), -ENOENT);
  EXPECT_EQ(Call1(SYS_mkdir, "lost", 0777), -ENOENT);
  EXPECT_EQ(Call1(SYS_chdir, "/a"), 0);
  EXPECT_EQ(MakeFile("here"), 0);
  EXPECT_EQ(StatResult("/a/here"), 0);
  EXPECT_EQ(guest_.Call(SYS_getcwd, guest_.Reserve(2), 2), -ERANGE);
}

TEST_F(PathCallsTest, PathsRelativeToADescriptor) {
  ASSERT_EQ(Call1(SYS_mkdir, "/a", 0755), 0);
  ASSERT_EQ(MakeFile("/a/f"), 0);
  const std::int64_t directory = Open("/a", O_RDONLY | O_DIRECTORY);
  const std::int64_t file = Open("/a/f", O_RDONLY);
  EXPECT_EQ(guest_.Call(SYS_openat, directory, guest_.Put("f"), O_RDONLY), file + 1);
  EXPECT_EQ(guest_.Call(SYS_openat, directory, guest_.Put("../a/f"), O_RDONLY), file + 2);
  EXPECT_EQ(guest_.Call(SYS_openat, file, guest_.Put("f"), O_RDONLY), -ENOTDIR);
  EXPECT_EQ(guest_.Call(SYS_openat, 99, guest_.Put("f"), O_RDONLY), -EBADF);
  EXPECT_EQ(guest_.Call(SYS_openat, 99, guest_.Put("/a/f"), O_RDONLY), file + 3);
  EXPECT_EQ(guest_.Call(SYS_unlinkat, directory, guest_.Put("f"), 0x4000), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_unlinkat, directory, guest_.Put("f"), 0), 0);
  EXPECT_EQ(guest_.Call(SYS_fchdir, directory), 0);
  EXPECT_EQ(WorkingDirectory(), "/a");
  EXPECT_EQ(guest_.Call(SYS_fchdir, file), -ENOTDIR);
  const std::uint64_t empty = guest_.Put("");
  const std::uint64_t buffer = guest_.Reserve(sizeof(struct stat));
  EXPECT_EQ(guest_.Call(SYS_newfstatat, file, empty, buffer, AT_EMPTY_PATH), 0);
  EXPECT_EQ(guest_.Object<struct stat>(buffer).st_nlink, 0u);
  EXPECT_EQ(guest_.Call(SYS_newfstatat, file, empty, buffer, 0), -ENOENT);
  EXPECT_EQ(guest_.Call(SYS_newfstatat, file, empty, buffer, 0x10000), -EINVAL);
}

TEST_F(PathCallsTest, SymbolicLinks) {
  ASSERT_EQ(Call1(SYS_mkdir, "/a", 0755), 0);
  ASSERT_EQ(MakeFile("/a/f"), 0);
  EXPECT_EQ(Call2(SYS_symlink, "../a/f", "/a/relative"), 0);
  EXPECT_EQ(Call2(SYS_symlink, "/a", "/tmp/absolute"), 0);
  EXPECT_EQ(Call2(SYS_symlink, "/tmp/made", "/tmp/dangling"), 0);
  EXPECT_EQ(Call2(SYS_symlink, "loop", "/tmp/loop"), 0);
  EXPECT_EQ(Call2(SYS_symlink, "", "/tmp/empty"), -ENOENT);
  EXPECT_EQ(Call2(SYS_symlink, "x", "/tmp/loop"), -EEXIST);
  EXPECT_EQ(Stat("/a/relative").st_ino, Stat("/a/f").st_ino);
  EXPECT_EQ(Stat("/tmp/absolute/relative").st_ino, Stat("/a/f").st_ino);
  EXPECT_EQ(Stat("/tmp/absolute/..").st_ino, Stat("/").st_ino);
  EXPECT_TRUE(S_ISLNK(Stat("/tmp/absolute", false).st_mode));
  EXPECT_TRUE(S_ISDIR(Stat("/tmp/absolute/", false).st_mode));
  EXPECT_EQ(ReadLink("/a/relative"), "../a/f");
  EXPECT_EQ(ReadLink("/a/f"), "error " + std::to_string(EINVAL));
  EXPECT_EQ(StatResult("/tmp/loop"), -ELOOP);
  EXPECT_EQ(Open("/tmp/loop", O_WRONLY | O_CREAT), -ELOOP);
  EXPECT_EQ(Open("/a/relative", O_RDONLY | O_NOFOLLOW), -ELOOP);
  EXPECT_EQ(Open("/a/relative", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), -ENOTDIR);
  EXPECT_EQ(Open("/tmp/dangling", O_RDONLY), -ENOENT);
  EXPECT_EQ(Open("/tmp/dangling", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
  EXPECT_GE(Open("/tmp/dangling", O_WRONLY | O_CREAT), 0);
  EXPECT_EQ(StatResult("/tmp/made"), 0);
  EXPECT_EQ(Call1(SYS_unlink, "/tmp/absolute"), 0);
  EXPECT_EQ(StatResult("/a/f"), 0);
}

TEST_F(PathCallsTest, FortyLinksAndNoMore) {
  ASSERT_EQ(MakeFile("/tmp/0"), 0);
  for (int i = 1; i <= 41; ++i) {
    ASSERT_EQ(Call2(SYS_symlink, std::to_string(i - 1), "/tmp/" + std::to_string(i)), 0);
  }
  EXPECT_EQ(StatResult("/tmp/40"), 0);
  EXPECT_EQ(StatResult("/tmp/41"), -ELOOP);
}

TEST_F(PathCallsTest, HardLinks) {
  ASSERT_EQ(MakeFile("/tmp/f"), 0);
  EXPECT_EQ(Call2(SYS_link, "/tmp/f", "/tmp/g"), 0);
  EXPECT_EQ(Stat("/tmp/g").st_nlink, 2u);
  EXPECT_EQ(Stat("/tmp/g").st_ino, Stat("/tmp/f").st_ino);
  EXPECT_EQ(Call2(SYS_link, "/tmp/f", "/tmp/g"), -EEXIST);
  EXPECT_EQ(Call2(SYS_link, "/tmp", "/other"), -EPERM);
  EXPECT_EQ(Call2(SYS_link, "/dev/null", "/tmp/null"), -EPERM);
  EXPECT_EQ(Call1(SYS_unlink, "/tmp/f"), 0);
  EXPECT_EQ(Stat("/tmp/g").st_nlink, 1u);
  const std::int64_t unnamed = guest_.Call(SYS_open, guest_.Put("/tmp"), O_TMPFILE | O_RDWR, 0600);
  ASSERT_GE(unnamed, 0);
  const std::uint64_t empty = guest_.Put("");
  EXPECT_EQ(
      guest_.Call(SYS_linkat, unnamed, empty, AT_FDCWD, guest_.Put("/tmp/named"), AT_EMPTY_PATH),
      0);
  EXPECT_EQ(Stat("/tmp/named").st_nlink, 1u);
}

TEST_F(PathCallsTest, Renaming) {
  ASSERT_EQ(Call1(SYS_mkdir, "/a", 0755), 0);
  ASSERT_EQ(Call1(SYS_mkdir, "/a/b", 0755), 0);
  ASSERT_EQ(Call1(SYS_mkdir, "/full", 0755), 0);
  ASSERT_EQ(MakeFile("/full/f"), 0);
  ASSERT_EQ(MakeFile("/f"), 0);
  EXPECT_EQ(Call2(SYS_rename, "/a", "/a/b/c"), -EINVAL);
  EXPECT_EQ(Call2(SYS_rename, "/a", "/full"), -ENOTEMPTY);
  EXPECT_EQ(Call2(SYS_rename, "/a", "/f"), -ENOTDIR);
  EXPECT_EQ(Call2(SYS_rename, "/f", "/a"), -EISDIR);
  EXPECT_EQ(Call2(SYS_rename, "/f", "/f2/"), -ENOTDIR);
  EXPECT_EQ(Call2(SYS_rename, "/none", "/f"), -ENOENT);
  EXPECT_EQ(Call2(SYS_rename, "/tmp", "/t"), -EBUSY);
  EXPECT_EQ(Call2(SYS_rename, "/f", "/dev/null"), -EBUSY);
  EXPECT_EQ(Call2(SYS_rename, "/a/.", "/x"), -EBUSY);
  EXPECT_EQ(Call2(SYS_rename, "/f", "/f"), 0);
  EXPECT_EQ(Call2(SYS_rename, "/a/b", "/full/b"), 0);
  EXPECT_EQ(Stat("/a").st_nlink, 2u);
  EXPECT_EQ(Stat("/full").st_nlink, 3u);
  EXPECT_EQ(Call1(SYS_chdir, "/full/b"), 0);
  EXPECT_EQ(Call2(SYS_rename, "/full", "/moved"), 0);
  EXPECT_EQ(WorkingDirectory(), "/moved/b");
  EXPECT_EQ(Stat("..").st_ino, Stat("/moved").st_ino);
  EXPECT_EQ(Call2(SYS_rename, "/moved/f", "/f"), 0);
  const std::uint64_t from = guest_.Put("/f");
  ASSERT_EQ(guest_.Call(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, guest_.Put("/g"), 1), 0);
  ASSERT_EQ(MakeFile("/f"), 0);
  const std::uint64_t again = guest_.Put("/f");
  EXPECT_EQ(guest_.Call(SYS_renameat2, AT_FDCWD, again, AT_FDCWD, guest_.Put("/g"), 1), -EEXIST);
  EXPECT_EQ(guest_.Call(SYS_renameat2, AT_FDCWD, 0, AT_FDCWD, 0, 4), -EINVAL);
}

TEST_F(PathCallsTest, Attributes) {
  ASSERT_EQ(MakeFile("/tmp/f", 0666), 0);
  EXPECT_EQ(Stat("/tmp/f").st_mode & 07777, 0644u);
  EXPECT_EQ(guest_.Call(SYS_umask, 077), 022);
  EXPECT_EQ(Call1(SYS_chmod, "/tmp/f", 04711), 0);
  EXPECT_EQ(Stat("/tmp/f").st_mode & 07777, 04711u);
  EXPECT_EQ(Call1(SYS_chown, "/tmp/f", 7, -1), 0);
  EXPECT_EQ(Stat("/tmp/f").st_uid, 7u);
  EXPECT_EQ(Stat("/tmp/f").st_gid, 0u);
  EXPECT_EQ(Call1(SYS_access, "/tmp/f", R_OK | W_OK | X_OK), 0);
  EXPECT_EQ(Call1(SYS_chmod, "/tmp/f", 0), 0);
  EXPECT_EQ(Call1(SYS_access, "/tmp/f", R_OK | W_OK), 0) << "root may read what nobody may";
  EXPECT_EQ(Call1(SYS_access, "/tmp/f", X_OK), -EACCES);
  EXPECT_EQ(Call1(SYS_access, "/tmp/f", 8), -EINVAL);
  const std::array<timespec, 2> times = {timespec{5, 6}, timespec{0, UTIME_OMIT}};
  const std::uint64_t name = guest_.Put("/tmp/f");
  EXPECT_EQ(guest_.Call(SYS_utimensat, AT_FDCWD, name, guest_.PutObject(times), 0), 0);
  EXPECT_EQ(Stat("/tmp/f").st_atim.tv_sec, 5);
  EXPECT_EQ(Stat("/tmp/f").st_mtim.tv_sec, kFixedTimeSeconds);
  const std::array<timespec, 2> bad = {timespec{5, -1}, timespec{0, 0}};
  EXPECT_EQ(guest_.Call(SYS_utimensat, AT_FDCWD, 0, guest_.PutObject(bad), 0), -EINVAL);
  const std::uint64_t path = guest_.Put("/tmp/f");
  const std::uint64_t statx_buffer = guest_.Reserve(sizeof(struct statx));
  EXPECT_EQ(guest_.Call(SYS_statx, AT_FDCWD, path, 0, STATX_ALL, statx_buffer), 0);
  EXPECT_EQ(guest_.Object<struct statx>(statx_buffer).stx_uid, 7u);
  const std::uint64_t root = guest_.Put("/tmp");
  const std::uint64_t statfs_buffer = guest_.Reserve(sizeof(struct statfs));
  EXPECT_EQ(guest_.Call(SYS_statfs, root, statfs_buffer), 0);
  EXPECT_EQ(guest_.Object<struct statfs>(statfs_buffer).f_type, 0x01021994);
}

TEST_F(PathCallsTest, TruncateAndSpecialFiles) {
  ASSERT_EQ(MakeFile("/tmp/f"), 0);
  EXPECT_EQ(Call1(SYS_truncate, "/tmp/f", 1 << 20), 0);
  EXPECT_EQ(Stat("/tmp/f").st_size, 1 << 20);
  EXPECT_EQ(Call1(SYS_truncate, "/tmp/f", -1), -EINVAL);
  EXPECT_EQ(Call1(SYS_truncate, "/tmp", 0), -EISDIR);
  EXPECT_EQ(Call1(SYS_mknod, "/tmp/fifo", S_IFIFO | 0644), 0);
  EXPECT_EQ(Call1(SYS_mknod, "/tmp/device", S_IFCHR | 0644, 0x103), -EPERM);
  EXPECT_EQ(Call1(SYS_mknod, "/tmp/regular", S_IFREG | 0644), 0);
  EXPECT_EQ(Call1(SYS_creat, "/tmp/f", 0644), 3);
  EXPECT_EQ(Stat("/tmp/f").st_size, 0);
}

TEST_F(PathCallsTest, FilesPlacedBeforeTheStart) {
  FileSystem& files = guest_.process->file_system();
  const std::string_view text = "127.0.0.1 localhost\n";
  EXPECT_TRUE(files.AddFile("/etc/hosts", std::as_bytes(std::span(text)), 0444).ok());
  EXPECT_TRUE(files.AddSymbolicLink("/opt/bin/hosts", "/etc/hosts").ok());
  EXPECT_EQ(Stat("/opt/bin/hosts").st_size, static_cast<off_t>(text.size()));
  EXPECT_EQ(ReadLink("/opt/bin/hosts"), "/etc/hosts");
}

TEST(PathLimits, NamesAndNodesAreCharged) {
  FakeProcess guest(std::uint64_t{2} << 20);
  ASSERT_TRUE(guest.Start().ok());
  guest.Put("touches the memory for arguments");
  const std::uint64_t before = guest.account.used_bytes();
  std::int64_t result = 0;
  int made = 0;
  while (made < 100'000) {
    const std::string path = "/tmp/" + std::string(200, 'n') + std::to_string(made);
    result = guest.Call(SYS_mkdir, guest.Put(path), 0755);
    if (result < 0) break;
    ++made;
  }
  EXPECT_EQ(result, -ENOSPC);
  EXPECT_GT(made, 100);
  for (int i = 0; i < made; ++i) {
    const std::string path = "/tmp/" + std::string(200, 'n') + std::to_string(i);
    ASSERT_EQ(guest.Call(SYS_rmdir, guest.Put(path)), 0);
  }
  EXPECT_EQ(guest.account.used_bytes(), before);
}

TEST(PathLimits, ADeepTreeIsFreedWithoutRecursion) {
  FakeProcess guest(std::uint64_t{512} << 20);
  ASSERT_TRUE(guest.Start().ok());
  for (int i = 0; i < 200'000; ++i) {
    ASSERT_EQ(guest.Call(SYS_mkdir, guest.Put("d"), 0755), 0);
    ASSERT_EQ(guest.Call(SYS_chdir, guest.Put("d")), 0);
  }
  EXPECT_EQ(guest.Call(SYS_getcwd, guest.Reserve(PATH_MAX), PATH_MAX), -ENAMETOOLONG);
  guest.process.reset();
}

TEST(PathTimes, ComeFromTheGrantedClock) {
  FakeProcess guest;
  const auto clock = std::make_shared<FakeClock>();
  guest.spec.clock = clock;
  ASSERT_TRUE(guest.Start().ok());
  clock->now = std::chrono::seconds(1'800'000'000) + std::chrono::nanoseconds(5);
  ASSERT_EQ(guest.Call(SYS_mkdir, guest.Put("/a"), 0755), 0);
  const std::uint64_t name = guest.Put("/a");
  const std::uint64_t buffer = guest.Reserve(sizeof(struct stat));
  ASSERT_EQ(guest.Call(SYS_stat, name, buffer), 0);
  EXPECT_EQ(guest.Object<struct stat>(buffer).st_mtim.tv_sec, 1'800'000'000);
  EXPECT_EQ(guest.Object<struct stat>(buffer).st_mtim.tv_nsec, 5);
}

TEST_F(PathCallsTest, OpenAt2StaysWhereItIsTold) {
  MakeFile("/tmp/outside");
  Call1(SYS_mkdir, "/tmp/d", 0755);
  MakeFile("/tmp/d/inside");
  Call2(SYS_symlink, "/tmp/outside", "/tmp/d/absolute");
  Call2(SYS_symlink, "../outside", "/tmp/d/relative");
  Call2(SYS_symlink, "inside", "/tmp/d/good");
  const std::int64_t directory = Open("/tmp/d", O_RDONLY | O_DIRECTORY);
  const auto open = [&](std::string_view path, std::uint64_t resolve, std::uint64_t bytes = 24) {
    const std::uint64_t name = guest_.Put(path);
    const open_how how{.flags = O_RDONLY, .mode = 0, .resolve = resolve};
    return guest_.Call(SYS_openat2, directory, name, guest_.PutObject(how), bytes);
  };
  EXPECT_GE(open("good", RESOLVE_BENEATH), 0);
  EXPECT_EQ(open("../outside", RESOLVE_BENEATH), -EXDEV);
  EXPECT_EQ(open("relative", RESOLVE_BENEATH), -EXDEV);
  EXPECT_EQ(open("absolute", RESOLVE_BENEATH), -EXDEV);
  EXPECT_EQ(open("/tmp/outside", RESOLVE_BENEATH), -EXDEV);
  EXPECT_EQ(open("absolute", RESOLVE_IN_ROOT), -ENOENT);
  EXPECT_GE(open("/inside", RESOLVE_IN_ROOT), 0);
  EXPECT_GE(open("../../inside", RESOLVE_IN_ROOT), 0);
  EXPECT_EQ(open("good", RESOLVE_NO_SYMLINKS), -ELOOP);
  EXPECT_GE(open("relative", 0), 0);
  EXPECT_EQ(open("good", 0, 16), -EINVAL);
  EXPECT_EQ(open("good", 1 << 20), -EINVAL);
}

TEST_F(PathCallsTest, ExchangingNames) {
  MakeFile("/tmp/a");
  Call1(SYS_mkdir, "/tmp/b", 0755);
  const auto exchange = [&](std::string_view from, std::string_view to) {
    const std::uint64_t first = guest_.Put(from);
    return guest_.Call(SYS_renameat2, AT_FDCWD, first, AT_FDCWD, guest_.Put(to),
                       unsigned{RENAME_EXCHANGE});
  };
  EXPECT_EQ(exchange("/tmp/a", "/tmp/missing"), -ENOENT);
  EXPECT_EQ(exchange("/tmp/a", "/tmp/b"), 0);
  EXPECT_TRUE(S_ISDIR(Stat("/tmp/a").st_mode));
  EXPECT_TRUE(S_ISREG(Stat("/tmp/b").st_mode));
  EXPECT_EQ(exchange("/tmp/a", "/tmp/a/in"), -ENOENT);
}

TEST_F(PathCallsTest, TheNamespaceIsNotTheGuestsToChange) {
  EXPECT_EQ(Call1(SYS_chroot, "/tmp"), -EPERM);
  EXPECT_TRUE(guest_.gate.HasDenied(Resource::kSystemCall, "chroot"));
  EXPECT_EQ(guest_.Call(SYS_mount, 0, 0, 0, 0, 0), -EPERM);
}

}  // namespace
}  // namespace waxvm::linux_abi
