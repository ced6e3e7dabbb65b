// SPDX-License-Identifier: Apache-2.0
// Granted host folders as a hostile guest sees them.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/testing/fake_process.h"
#include "src/linux_abi/testing/host_directory.h"

namespace waxvm::linux_abi {
namespace {

using ::testing::Contains;
using ::testing::Not;

class GrantedFilesTest : public ::testing::Test {
 protected:
  void Start() { ASSERT_TRUE(guest_.Start().ok()); }

  std::int64_t Call1(long number, std::string_view path, std::int64_t a = 0, std::int64_t b = 0) {
    return guest_.Call(number, guest_.Put(path), a, b);
  }
  std::int64_t Call2(long number, std::string_view from, std::string_view to) {
    const std::uint64_t first = guest_.Put(from);
    return guest_.Call(number, first, guest_.Put(to));
  }
  std::int64_t Open(std::string_view path, int flags = O_RDONLY, int mode = 0644) {
    return Call1(SYS_open, path, flags, mode);
  }
  /// The file's contents, or "error N".
  std::string Contents(std::string_view path) {
    const std::int64_t fd = Open(path);
    if (fd < 0) return "error " + std::to_string(-fd);
    const std::uint64_t buffer = guest_.Reserve(4096);
    const std::int64_t n = guest_.Call(SYS_read, fd, buffer, 4096);
    guest_.Call(SYS_close, fd);
    return n < 0 ? "error " + std::to_string(-n) : guest_.Text(buffer, n);
  }
  std::int64_t Write(std::string_view path, std::string_view text, int flags = 0) {
    const std::int64_t fd = Open(path, O_WRONLY | O_CREAT | flags);
    if (fd < 0) return fd;
    const std::int64_t n = guest_.Call(SYS_write, fd, guest_.Put(text), std::uint64_t{text.size()});
    guest_.Call(SYS_close, fd);
    return n;
  }
  std::int64_t StatResult(std::string_view path, long call = SYS_stat) {
    const std::uint64_t name = guest_.Put(path);
    const std::uint64_t address = guest_.Reserve(sizeof(struct stat));
    const std::int64_t result = guest_.Call(call, name, address);
    status_ = guest_.Object<struct stat>(address);
    return result;
  }
  std::multiset<std::string> List(std::string_view path) {
    std::multiset<std::string> names;
    const std::int64_t fd = Open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return {"error " + std::to_string(-fd)};
    while (true) {
      const std::uint64_t buffer = guest_.Reserve(32768);
      const std::int64_t n = guest_.Call(SYS_getdents64, fd, buffer, 32768);
      if (n < 0) names.insert("error " + std::to_string(-n));
      if (n <= 0) break;
      const std::string bytes = guest_.Text(buffer, n);
      for (std::size_t at = 0; at < bytes.size();) {
        const auto* entry = reinterpret_cast<const dirent64*>(bytes.data() + at);
        names.insert(entry->d_name);
        at += entry->d_reclen;
      }
    }
    guest_.Call(SYS_close, fd);
    return names;
  }
  bool Denied(std::string_view path) { return guest_.gate.HasDenied(Resource::kFile, path); }

  static std::string Error(int number) { return "error " + std::to_string(number); }

  HostDirectory host_;
  FakeProcess guest_;
  struct stat status_ {};
};

TEST_F(GrantedFilesTest, ReadOnlyFolder) {
  host_.MakeFile("f", "contents");
  host_.MakeDirectory("d");
  guest_.Mount(host_.path(), "/data", Rights::kReadOnly);
  Start();
  EXPECT_EQ(Contents("/data/f"), "contents");
  EXPECT_EQ(StatResult("/data/f"), 0);
  EXPECT_EQ(status_.st_size, 8);
  EXPECT_EQ(status_.st_uid, 0u) << "the host's own user is root inside";
  EXPECT_TRUE(guest_.gate.denied.empty());

  EXPECT_EQ(Open("/data/f", O_RDWR), -EROFS);
  EXPECT_EQ(Open("/data/f", O_RDONLY | O_TRUNC), -EROFS);
  EXPECT_EQ(Open("/data/new", O_WRONLY | O_CREAT), -EROFS);
  EXPECT_EQ(Call1(SYS_unlink, "/data/f"), -EROFS);
  EXPECT_EQ(Call1(SYS_mkdir, "/data/e", 0755), -EROFS);
  EXPECT_EQ(Call1(SYS_mkdir, "/data/d", 0755), -EEXIST);
  EXPECT_EQ(Call1(SYS_rmdir, "/data/d"), -EROFS);
  EXPECT_EQ(Call2(SYS_rename, "/data/f", "/data/g"), -EROFS);
  EXPECT_EQ(Call2(SYS_link, "/data/f", "/data/g"), -EROFS);
  EXPECT_EQ(Call2(SYS_symlink, "f", "/data/g"), -EROFS);
  EXPECT_EQ(Call1(SYS_chmod, "/data/f", 0777), -EROFS);
  EXPECT_EQ(Call1(SYS_chown, "/data/f", 0, 0), -EROFS);
  EXPECT_EQ(Call1(SYS_utimes, "/data/f", 0), -EROFS);
  EXPECT_EQ(Call1(SYS_truncate, "/data/f", 0), -EROFS);
  EXPECT_EQ(Call1(SYS_access, "/data/f", W_OK), -EROFS);
  EXPECT_EQ(host_.Contents("f"), "contents");
  EXPECT_THAT(guest_.gate.denied, Contains(FakeGate::Denied{Resource::kFile, "/data/f", true}));
  EXPECT_THAT(guest_.gate.denied, Contains(FakeGate::Denied{Resource::kFile, "/data/new", true}));
  const std::int64_t reader = Open("/data/f");
  EXPECT_EQ(guest_.Call(SYS_fchmod, reader, 0777), -EROFS);
  EXPECT_EQ(guest_.Call(SYS_ftruncate, reader, 0), -EINVAL);
}

TEST_F(GrantedFilesTest, ReadWriteFolder) {
  host_.MakeFile("f", "old");
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  Start();
  EXPECT_EQ(Write("/data/f", "new text", O_TRUNC), 8);
  EXPECT_EQ(host_.Contents("f"), "new text");
  EXPECT_EQ(Write("/data/f", "!", O_APPEND), 1);
  EXPECT_EQ(host_.Contents("f"), "new text!");
  EXPECT_EQ(Call1(SYS_truncate, "/data/f", 3), 0);
  EXPECT_EQ(host_.Contents("f"), "new");
  EXPECT_EQ(Call1(SYS_mkdir, "/data/d", 0755), 0);
  EXPECT_EQ(Call2(SYS_rename, "/data/f", "/data/d/g"), 0);
  EXPECT_EQ(host_.Contents("d/g"), "new");
  EXPECT_EQ(Call2(SYS_link, "/data/d/g", "/data/h"), 0);
  EXPECT_EQ(Call1(SYS_rmdir, "/data/d"), -ENOTEMPTY);
  EXPECT_EQ(Call1(SYS_unlink, "/data/d/g"), 0);
  EXPECT_EQ(Call1(SYS_rmdir, "/data/d"), 0);
  EXPECT_EQ(host_.Contents("h"), "new");
  EXPECT_EQ(Write("/data/none/f", "x"), -ENOENT);
  EXPECT_EQ(Open("/data/h", O_RDWR | O_CREAT | O_EXCL), -EEXIST);
  EXPECT_EQ(Open("/data/h/", O_RDONLY), -ENOTDIR);
  EXPECT_EQ(Open("/data", O_RDWR), -EISDIR);
  EXPECT_EQ(Call1(SYS_rmdir, "/data"), -EBUSY);
  EXPECT_EQ(Call2(SYS_rename, "/data", "/other"), -EBUSY);
  EXPECT_EQ(Call2(SYS_rename, "/data/h", "/tmp/h"), -EXDEV);
  EXPECT_EQ(Call2(SYS_link, "/data/h", "/tmp/h"), -EXDEV);
  EXPECT_EQ(guest_.Call(SYS_chdir, guest_.Put("/data")), 0);
  EXPECT_EQ(Contents("h"), "new");
  EXPECT_EQ(Contents("../data/./h"), "new");
}

TEST_F(GrantedFilesTest, NothingSetUserIdIsMade) {
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  Start();
  guest_.Call(SYS_umask, 0);
  const mode_t host_umask = ::umask(077);
  EXPECT_GE(Open("/data/f", O_WRONLY | O_CREAT, 06777), 0);
  EXPECT_EQ(Call1(SYS_mkdir, "/data/d", 07777), 0);
  EXPECT_EQ(Call1(SYS_chmod, "/data/d", 07755), 0);
  EXPECT_EQ(Call1(SYS_mkdir, "/data/e", 07777), 0);
  ::umask(host_umask);
  struct stat status {};
  for (const char* name : {"e", "f"}) {
    ASSERT_EQ(::stat(host_.Path(name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0777u) << "the host process's umask does not count";
  }
  EXPECT_EQ(Call1(SYS_chmod, "/data/f", 06755), 0);
  ASSERT_EQ(::stat(host_.Path("f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
  ASSERT_EQ(::stat(host_.Path("d").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
  EXPECT_EQ(Call1(SYS_chown, "/data/f", 1000, 1000), -EPERM);
  EXPECT_EQ(Call1(SYS_chown, "/data/f", 0, -1), 0) << "what changes nothing";
  EXPECT_EQ(Call1(SYS_mknod, "/data/fifo", S_IFIFO | 0644), -EPERM);
}

TEST_F(GrantedFilesTest, NoWayOut) {
  host_.MakeFile("secret", "secret");
  host_.MakeDirectory("granted/d");
  host_.MakeFile("granted/f", "inside");
  host_.MakeLink("granted/up", "../secret");
  host_.MakeLink("granted/absolute", host_.Path("secret"));
  host_.MakeLink("granted/folder", host_.path());
  host_.MakeLink("granted/parent", "..");
  host_.MakeLink("granted/back", "/data/f");
  host_.MakeLink("granted/d/up", "../f");
  host_.MakeLink("granted/deep", "../../../../../../../../data/d/up");
  guest_.Mount(host_.Path("granted"), "/data", Rights::kReadWrite);
  Start();
  EXPECT_EQ(Contents("/data/../secret"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/d/../../secret"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/up"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/absolute"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/folder/secret"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/parent/secret"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/d/../parent/granted/f"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/back"), "inside") << "links go on in the guest's own namespace";
  EXPECT_EQ(Contents("/data/d/up"), "inside");
  EXPECT_EQ(Contents("/data/deep"), "inside");
  const std::int64_t directory = Open("/data/d", O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(guest_.Call(SYS_openat, directory, guest_.Put("../../secret"), O_RDONLY), -ENOENT);
  EXPECT_GE(guest_.Call(SYS_openat, directory, guest_.Put("../f"), O_RDONLY), 0);
  // Writing through a link makes the file where the guest sees it, not where the host would.
  EXPECT_EQ(Write("/data/up", "guest"), 5);
  EXPECT_EQ(host_.Contents("secret"), "secret");
  EXPECT_EQ(Contents("/secret"), "guest");
  EXPECT_EQ(Call2(SYS_rename, "/data/f", "/data/../secret"), -EXDEV);
  EXPECT_EQ(Call2(SYS_rename, "/data/up", "/data/moved"), 0) << "the link itself is renamed";
  EXPECT_EQ(Call1(SYS_unlink, "/data/absolute"), 0);
  EXPECT_EQ(host_.Contents("secret"), "secret");
}

TEST_F(GrantedFilesTest, DevicesSocketsAndFifosDoNotPass) {
  ASSERT_EQ(::mkfifo(host_.Path("fifo").c_str(), 0666), 0);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  host_.Path("socket").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const bool device = ::mknod(host_.Path("device").c_str(), S_IFCHR | 0666, makedev(1, 5)) == 0;
  host_.MakeLink("link", "fifo");
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  Start();
  for (const char* name : {"/data/fifo", "/data/socket", "/data/link"}) {
    EXPECT_EQ(Open(name, O_RDWR), -EACCES) << name;
    EXPECT_EQ(StatResult(name), -EACCES) << name;
    EXPECT_EQ(Open(name, O_PATH), -EACCES) << name;
  }
  EXPECT_TRUE(Denied("/data/fifo"));
  EXPECT_TRUE(Denied("/data/socket"));
  if (device) {
    EXPECT_EQ(Open("/data/device", O_RDONLY), -EACCES);
    EXPECT_TRUE(Denied("/data/device"));
  }
  EXPECT_EQ(Call1(SYS_unlink, "/data/fifo"), -EACCES);
  EXPECT_EQ(List("/data"), (std::multiset<std::string>{".", "..", "link"}));
  ::close(socket);
}

TEST_F(GrantedFilesTest, GrantedRootWithAbsoluteLinks) {
  host_.MakeDirectory("usr/lib/deep");
  host_.MakeDirectory("etc/alternatives");
  host_.MakeDirectory("tmp");
  host_.MakeDirectory("dev");
  host_.MakeFile("tmp/host-file", "host");
  host_.MakeFile("dev/host-file", "host");
  host_.MakeFile("usr/lib/deep/real", "library");
  host_.MakeLink("lib", "usr/lib");
  host_.MakeLink("etc/alternatives/real", "/lib/deep/real");
  host_.MakeLink("absolute", "/etc/alternatives/real");
  guest_.Mount(host_.path(), "/", Rights::kReadOnly);
  Start();
  EXPECT_EQ(Contents("/lib/deep/real"), "library");
  EXPECT_EQ(Contents("/absolute"), "library");
  EXPECT_EQ(Contents("/lib/../etc/../absolute"), Error(ENOENT)) << "/lib/.. is /usr";
  EXPECT_EQ(Contents("/lib/../../etc/../absolute"), "library");
  EXPECT_EQ(Contents("/tmp/host-file"), Error(ENOENT)) << "the instance has a /tmp of its own";
  EXPECT_EQ(Contents("/dev/host-file"), Error(ENOENT));
  EXPECT_EQ(Write("/tmp/f", "x"), 1);
  EXPECT_FALSE(host_.Exists("tmp/f"));
  EXPECT_EQ(Write("/f", "x"), -EROFS);
  EXPECT_EQ(List("/"), (std::multiset<std::string>{".", "..", "absolute", "dev", "etc", "lib",
                                                   "proc", "sys", "tmp", "usr"}));
}

TEST_F(GrantedFilesTest, TheHostsKernelFileSystemsDoNotPass) {
  guest_.Mount("/", "/", Rights::kReadOnly);
  guest_.Mount("/", "/host", Rights::kReadOnly);
  Start();
  for (const char* name :
       {"/host/proc/version", "/host/proc/self/environ", "/host/proc/self/root/etc/passwd",
        "/host/proc/1/cwd", "/host/sys/kernel", "/host/proc/self/maps", "/host/proc/self/fd/0",
        "/host/dev/null", "/host/dev/zero", "/proc/1/cwd"}) {
    const std::int64_t result = Open(name);
    // What this host does not have cannot be there either.
    EXPECT_TRUE(result == -EACCES || result == -ENOENT) << name << ": " << result;
  }
  EXPECT_EQ(Open("/host/proc/version"), -EACCES);
  EXPECT_TRUE(Denied("/host/proc"));
  EXPECT_NE(Contents("/proc/version").find("waxvm"), std::string::npos) << "the instance's own";
  EXPECT_NE(Contents("/etc/passwd"), Error(ENOENT));
  EXPECT_EQ(Write("/dev/null", "x"), 1) << "the instance's own devices stay";
}

TEST_F(GrantedFilesTest, AKernelFileSystemGrantedByMistake) {
  guest_.Mount("/proc/self", "/data", Rights::kReadOnly);
  Start();
  EXPECT_EQ(Open("/data/environ"), -EACCES);
  EXPECT_EQ(Open("/data"), -EACCES);
}

TEST_F(GrantedFilesTest, MountsWithinMountsAndSingleFiles) {
  host_.MakeDirectory("outer/sub");
  host_.MakeFile("outer/f", "outer");
  host_.MakeFile("outer/sub/hidden", "hidden");
  host_.MakeDirectory("inner");
  host_.MakeFile("inner/f", "inner");
  host_.MakeFile("single", "single");
  guest_.Mount(host_.Path("inner"), "/data/sub", Rights::kReadWrite);
  guest_.Mount(host_.Path("single"), "/data/file", Rights::kReadWrite, /*is_directory=*/false);
  guest_.Mount(host_.Path("inner"), "/data/not/there/at/all", Rights::kReadOnly);
  guest_.Mount(host_.Path("outer"), "/data", Rights::kReadOnly);
  Start();
  EXPECT_EQ(Contents("/data/f"), "outer");
  EXPECT_EQ(Contents("/data/sub/f"), "inner");
  EXPECT_EQ(Contents("/data/sub/../f"), "outer");
  EXPECT_EQ(Contents("/data/sub/hidden"), Error(ENOENT));
  EXPECT_EQ(Contents("/data/not/there/at/all/f"), "inner");
  EXPECT_EQ(Contents("/data/file"), "single");
  EXPECT_EQ(Write("/data/file", "SINGLE", O_TRUNC), 6);
  EXPECT_EQ(host_.Contents("single"), "SINGLE");
  EXPECT_EQ(Contents("/data/file/x"), Error(ENOTDIR));
  EXPECT_EQ(Write("/data/sub/new", "x"), 1);
  EXPECT_EQ(Write("/data/new", "x"), -EROFS);
  EXPECT_EQ(Call1(SYS_unlink, "/data/file"), -EBUSY);
  EXPECT_EQ(List("/data"), (std::multiset<std::string>{".", "..", "f", "file", "not", "sub"}));
  EXPECT_EQ(Call2(SYS_link, "/data/f", "/data/sub/link"), -EXDEV)
      << "a link would make what is read-only writable";
}

TEST_F(GrantedFilesTest, AMountPointBelowALinkOfTheFolderAround) {
  host_.MakeDirectory("root/srv/data/d");
  host_.MakeFile("root/srv/data/d/f", "linked");
  host_.MakeLink("root/relative", "srv/data");
  host_.MakeLink("root/absolute", "/srv/data");
  host_.MakeLink("root/out", "../inner");
  host_.MakeDirectory("inner");
  host_.MakeFile("inner/f", "inner");
  guest_.Mount(host_.Path("root"), "/", Rights::kReadOnly);
  for (const char* name : {"relative", "absolute", "out"}) {
    guest_.Mount(host_.Path("inner"), std::string("/") + name + "/mounted", Rights::kReadOnly);
  }
  Start();
  for (const std::string name : {"/relative", "/absolute"}) {
    EXPECT_EQ(Contents(name + "/mounted/f"), "inner") << name;
    EXPECT_EQ(Contents(name + "/d/f"), "linked") << name;
    EXPECT_EQ(List(name), (std::multiset<std::string>{".", "..", "mounted"})) << name;
  }
  EXPECT_EQ(Contents("/out/mounted/f"), "inner");
  EXPECT_EQ(Contents("/out/f"), Error(ENOENT));
}

TEST_F(GrantedFilesTest, TheGateIsAsked) {
  host_.MakeFile("open", "open");
  host_.MakeFile("secret", "secret");
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  guest_.gate.refuse = [](const Access& access) { return access.name == "/data/secret"; };
  Start();
  EXPECT_EQ(Contents("/data/open"), "open");
  EXPECT_THAT(guest_.gate.checked,
              Contains(FakeGate::Denied{Resource::kFile, "/data/open", false}));
  EXPECT_EQ(Contents("/data/secret"), Error(EACCES));
  EXPECT_EQ(Call2(SYS_rename, "/data/secret", "/data/x"), -EACCES);
  EXPECT_EQ(Call2(SYS_link, "/data/secret", "/data/x"), -EACCES);
  EXPECT_EQ(Call1(SYS_unlink, "/data/secret"), -EACCES);
  EXPECT_EQ(Call2(SYS_symlink, "secret", "/data/link"), 0);
  EXPECT_EQ(Contents("/data/link"), Error(EACCES));
  EXPECT_EQ(Contents("/data/../data/./secret"), Error(EACCES));
  EXPECT_TRUE(Denied("/data/secret"));
}

TEST_F(GrantedFilesTest, TheHostsTimeDoesNotShow) {
  host_.MakeFile("old", "old");
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, host_.Path("old").c_str(), long_ago, 0), 0);
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  Start();
  ASSERT_EQ(StatResult("/data/old"), 0);
  EXPECT_EQ(status_.st_mtim.tv_sec, 1000);
  ASSERT_EQ(Write("/data/new", "x"), 1);
  ASSERT_EQ(StatResult("/data/new"), 0);
  EXPECT_EQ(status_.st_mtim.tv_sec, kFixedTimeSeconds);
  EXPECT_EQ(status_.st_ctim.tv_sec, kFixedTimeSeconds);
}

TEST_F(GrantedFilesTest, TheHostsFileSizeLimitRaisesNoSignal) {
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{.rlim_cur = 4096, .rlim_max = old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Start();
  EXPECT_EQ(Write("/data/f", std::string(5000, 'x')), 4096);
  EXPECT_EQ(Write("/data/f", "x", O_APPEND), -EFBIG);
  EXPECT_EQ(Call1(SYS_truncate, "/data/f", 1 << 20), -EFBIG);
  const std::int64_t fd = Open("/data/f", O_RDWR);
  EXPECT_EQ(guest_.Call(SYS_fallocate, fd, 0, 0, 1 << 20), -EFBIG);
  EXPECT_EQ(guest_.Call(SYS_pwrite64, fd, guest_.Put("x"), 1, 4096), -EFBIG);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
}

int OpenDescriptors() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST_F(GrantedFilesTest, NoHostDescriptorIsHeldForADirectoryTree) {
  guest_.Mount(host_.path(), "/data", Rights::kReadWrite);
  Start();
  const int before = OpenDescriptors();
  ASSERT_EQ(Call1(SYS_chdir, "/data"), 0);
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(Call1(SYS_mkdir, "d", 0755), 0);
    ASSERT_EQ(Call1(SYS_chdir, "d"), 0);
  }
  EXPECT_EQ(OpenDescriptors(), before);
  for (int i = 0; i < 20; ++i) EXPECT_GE(Open(".", O_RDONLY | O_DIRECTORY), 0);
  guest_.process.reset();
  EXPECT_EQ(OpenDescriptors(), before);
}

// The gate is asked between looking at a file and opening it: the last moment to exchange it.
TEST_F(GrantedFilesTest, ExchangingAFileJustBeforeItIsOpened) {
  host_.MakeFile("secret", "SECRET");
  host_.MakeDirectory("granted");
  guest_.Mount(host_.Path("granted"), "/data", Rights::kReadWrite);
  host_.MakeFile("granted/f", "first");
  host_.MakeFile("granted/second", "second");
  ASSERT_EQ(::mkfifo(host_.Path("granted/fifo").c_str(), 0666), 0);
  host_.MakeLink("granted/link", "../secret");
  std::string other;
  guest_.gate.refuse = [&](const Access&) {
    if (!other.empty()) {
      std::filesystem::rename(host_.Path("granted/" + other), host_.Path("granted/f"));
    }
    other.clear();
    return false;
  };
  Start();
  EXPECT_EQ(Contents("/data/f"), "first");
  other = "second";
  EXPECT_EQ(Contents("/data/f"), "second");
  other = "link";
  EXPECT_EQ(Contents("/data/f"), Error(ELOOP));
  ASSERT_EQ(::unlink(host_.Path("granted/f").c_str()), 0);
  host_.MakeFile("granted/f", "third");
  other = "fifo";
  EXPECT_EQ(Contents("/data/f"), Error(EACCES));
  EXPECT_TRUE(Denied("/data/f"));
}

// A process on the host that keeps exchanging a file for a link to a secret, and a folder for a
// link to a folder with one, while the guest opens them.
TEST_F(GrantedFilesTest, ExchangingNamesWhileTheyAreOpened) {
  host_.MakeDirectory("outside");
  host_.MakeFile("outside/f", "SECRET");
  host_.MakeDirectory("granted/folder");
  host_.MakeFile("granted/folder/f", "inside");
  host_.MakeFile("granted/f", "inside");
  host_.MakeLink("granted/bad-file", "../outside/f");
  host_.MakeLink("granted/bad-folder", "../outside");
  ASSERT_EQ(::mkfifo(host_.Path("granted/fifo").c_str(), 0666), 0);
  guest_.Mount(host_.Path("granted"), "/data", Rights::kReadWrite);
  Start();
  std::atomic<bool> done = false;
  std::thread attacker([&] {
    const int folder = ::open(host_.Path("granted").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    constexpr unsigned kExchange = 2;
    while (!done) {
      ::renameat2(folder, "f", folder, "bad-file", kExchange);
      ::renameat2(folder, "folder", folder, "bad-folder", kExchange);
      ::renameat2(folder, "f", folder, "fifo", kExchange);
    }
    ::close(folder);
  });
  int inside = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(400);
  while (std::chrono::steady_clock::now() < end) {
    for (const char* name : {"/data/f", "/data/folder/f"}) {
      const std::string contents = Contents(name);
      EXPECT_THAT(contents, Not(::testing::HasSubstr("SECRET")));
      EXPECT_NE(contents, Error(ESPIPE)) << "a FIFO was opened";
      if (contents == "inside") ++inside;
    }
    Write("/data/folder/written", "x");
    Write("/data/f", "inside");
    Call1(SYS_chmod, "/data/f", 0640);
    Call1(SYS_mkdir, "/data/folder/made", 0755);
  }
  done = true;
  attacker.join();
  EXPECT_GT(inside, 0);
  EXPECT_EQ(host_.Contents("outside/f"), "SECRET");
  EXPECT_FALSE(host_.Exists("outside/written"));
  EXPECT_FALSE(host_.Exists("outside/made"));
}

}  // namespace
}  // namespace waxvm::linux_abi
