// SPDX-License-Identifier: Apache-2.0
// A root image under an instance's tree: what is in it, what can be changed, and what that costs.
#include <dirent.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "src/linux_abi/testing/file_fixture.h"
#include "src/linux_abi/testing/host_directory.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/root_image/tar_builder_for_test.h"
#include "waxvm/root_image.h"

namespace waxvm::linux_abi {
namespace {

using root_image::TarBuilder;

RootImage MakeImage(const TarBuilder& tar) {
  std::string name = (std::filesystem::temp_directory_path() / "waxvm-tar-XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  const std::string bytes = tar.Bytes();
  EXPECT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  ::close(fd);
  auto image = RootImage::FromTar(name);
  std::filesystem::remove(name);
  EXPECT_TRUE(image.ok()) << image.status();
  return *std::move(image);
}

class ImageNodes : public FileFixture {
 protected:
  ImageNodes() {
    guest_.spec.root_image = MakeImage(TarBuilder()
                                           .set_owner(7)
                                           .File("bin/tool", std::string(10'000, 't'), 04755)
                                           .HardLink("bin/second", "bin/tool")
                                           .Link("bin/link", "tool")
                                           .File("etc/conf", "image")
                                           .Directory("etc/sub/deep", 0700)
                                           .Directory("empty")
                                           .File("tmp/hidden", "x")
                                           .File("dev/null", "no device"));
  }
  std::string Cat(std::string_view path) {
    const std::int64_t fd = Open(path, O_RDONLY);
    if (fd < 0) return "error " + std::to_string(-fd);
    const std::string text = Read(fd, 20'000);
    guest_.Call(SYS_close, fd);
    return text;
  }
  std::set<std::string> List(std::string_view path) {
    std::set<std::string> names;
    const std::int64_t fd = Open(path, O_RDONLY | O_DIRECTORY);
    EXPECT_GE(fd, 0) << path;
    const std::uint64_t buffer = guest_.Reserve(65536);
    std::int64_t n = 0;
    while ((n = guest_.Call(SYS_getdents64, fd, buffer, 65536)) > 0) {
      const std::string bytes = guest_.Text(buffer, n);
      for (std::size_t at = 0; at < bytes.size();) {
        const auto* entry = reinterpret_cast<const dirent64*>(bytes.data() + at);
        EXPECT_TRUE(names.insert(entry->d_name).second) << entry->d_name;
        at += entry->d_reclen;
      }
    }
    EXPECT_EQ(n, 0) << path;
    guest_.Call(SYS_close, fd);
    names.erase(".");
    names.erase("..");
    return names;
  }
  struct stat Stat(std::string_view path) {
    const std::uint64_t address = guest_.Reserve(sizeof(struct stat));
    EXPECT_EQ(guest_.Call(SYS_lstat, guest_.Put(path), address), 0) << path;
    return guest_.Object<struct stat>(address);
  }
  std::int64_t OnPath(long number, std::string_view path, int argument = 0) {
    return guest_.Call(number, guest_.Put(path), argument);
  }
  std::int64_t OnPaths(long number, std::string_view from, std::string_view to) {
    const std::uint64_t first = guest_.Put(from);
    return guest_.Call(number, first, guest_.Put(to));
  }
  using Names = std::set<std::string>;
};

TEST_F(ImageNodes, ShowsWhatTheImageHas) {
  Start();
  EXPECT_EQ(Cat("/bin/tool"), std::string(10'000, 't'));
  EXPECT_EQ(Cat("/bin/link"), std::string(10'000, 't'));
  EXPECT_EQ(Cat("/etc/../etc/conf"), "image");
  EXPECT_EQ(Cat("/etc/missing"), "error 2");
  EXPECT_EQ(List("/bin"), (Names{"tool", "second", "link"}));
  const struct stat tool = Stat("/bin/tool");
  EXPECT_EQ(tool.st_mode, S_IFREG | 04755u);
  EXPECT_EQ(tool.st_uid, 7u);
  EXPECT_EQ(tool.st_nlink, 2u);
  EXPECT_EQ(tool.st_size, 10'000);
  EXPECT_EQ(tool.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(tool.st_ino, Stat("/bin/second").st_ino);
  EXPECT_EQ(Stat("/bin/link").st_mode, S_IFLNK | 0777u);
  EXPECT_EQ(Stat("/etc/sub").st_nlink, 3u);
}

TEST_F(ImageNodes, TmpAndDevicesLieOverIt) {
  Start();
  EXPECT_EQ(List("/tmp"), Names{});
  EXPECT_EQ(Cat("/dev/null"), "");
  EXPECT_EQ(Cat("/tmp/hidden"), "error 2");
  const Names root = List("/");
  for (const char* name : {"bin", "etc", "empty", "tmp", "dev"}) EXPECT_TRUE(root.contains(name));
}

TEST_F(ImageNodes, WritesStayInTheInstance) {
  Start();
  FakeProcess other;
  other.spec.root_image = guest_.spec.root_image;
  ASSERT_TRUE(other.Start().ok());
  const std::int64_t fd = Open("/etc/conf", O_WRONLY);
  ASSERT_EQ(Write(fd, "CHANGE"), 6);
  EXPECT_EQ(Cat("/etc/conf"), "CHANGE");
  EXPECT_EQ(Open("/etc/new", O_CREAT | O_WRONLY), fd + 1);
  EXPECT_EQ(OnPath(SYS_unlink, "/bin/link"), 0);
  // Another instance, the image, and one made later see nothing of it.
  const std::int64_t others = other.Call(SYS_open, other.Put("/etc/conf"), O_RDONLY, 0);
  const std::uint64_t buffer = other.Reserve(100);
  EXPECT_EQ(other.Text(buffer, other.Call(SYS_read, others, buffer, 100)), "image");
  EXPECT_EQ(other.Call(SYS_access, other.Put("/etc/new"), F_OK), -ENOENT);
  EXPECT_EQ(*guest_.spec.root_image->ReadFile("etc/conf"), "image");
}

TEST_F(ImageNodes, HardLinksAreOneFile) {
  Start();
  const std::int64_t fd = Open("/bin/second", O_WRONLY | O_TRUNC);
  ASSERT_EQ(Write(fd, "new"), 3);
  EXPECT_EQ(Cat("/bin/tool"), "new");
  EXPECT_EQ(OnPath(SYS_unlink, "/bin/second"), 0);
  EXPECT_EQ(Stat("/bin/tool").st_nlink, 1u);
  EXPECT_EQ(Cat("/bin/tool"), "new");
}

TEST_F(ImageNodes, RemovedNamesStayAway) {
  Start();
  EXPECT_EQ(OnPath(SYS_unlink, "/etc/conf"), 0);
  EXPECT_EQ(Cat("/etc/conf"), "error 2");
  EXPECT_EQ(List("/etc"), Names{"sub"});
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc"), -ENOTEMPTY);
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc/sub"), -ENOTEMPTY) << "nobody has looked into it yet";
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc/sub/deep"), 0);
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc/sub"), 0);
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc"), 0);
  EXPECT_EQ(OnPath(SYS_mkdir, "/etc", 0755), 0);
  EXPECT_EQ(List("/etc"), Names{});
  EXPECT_EQ(Open("/etc/conf", O_CREAT | O_EXCL | O_WRONLY), 3);
  EXPECT_EQ(Cat("/etc/conf"), "");
  EXPECT_EQ(OnPath(SYS_unlink, "/etc/conf"), 0);
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc"), 0);
}

TEST_F(ImageNodes, DirectoriesMoveWithWhatIsInThem) {
  Start();
  EXPECT_EQ(OnPaths(SYS_rename, "/etc", "/moved"), 0);
  EXPECT_EQ(Cat("/moved/conf"), "image");
  EXPECT_EQ(Cat("/etc/conf"), "error 2");
  EXPECT_EQ(Stat("/moved").st_nlink, 3u);
  EXPECT_EQ(OnPaths(SYS_rename, "/empty", "/moved/sub"), -ENOTEMPTY);
  EXPECT_EQ(OnPaths(SYS_rename, "/moved/conf", "/bin/tool"), 0);
  EXPECT_EQ(Cat("/bin/tool"), "image");
  EXPECT_EQ(Stat("/bin/second").st_nlink, 1u);
}

TEST_F(ImageNodes, GrantedFoldersLieOverIt) {
  HostDirectory host;
  host.MakeFile("granted", "host");
  guest_.Mount(host.path(), "/etc/sub", Rights::kReadOnly);
  guest_.Mount(host.path() + "/granted", "/bin/tool", Rights::kReadOnly, /*is_directory=*/false);
  guest_.Mount(host.path(), "/new/place", Rights::kReadOnly);
  Start();
  EXPECT_EQ(Cat("/etc/sub/granted"), "host");
  EXPECT_EQ(Cat("/etc/conf"), "image");
  EXPECT_EQ(Cat("/bin/tool"), "host");
  EXPECT_EQ(Cat("/new/place/granted"), "host");
  EXPECT_EQ(OnPath(SYS_rmdir, "/etc/sub"), -EBUSY);
}

TEST_F(ImageNodes, AGrantIsNotPlacedThroughALinkOfTheImage) {
  HostDirectory host;
  guest_.Mount(host.path(), "/bin/link/x", Rights::kReadOnly);
  const absl::Status status = guest_.Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("symbolic link of the image"), std::string::npos) << status;
}

class BigImage : public ImageNodes {
 protected:
  static constexpr int kFiles = 10'000;
  BigImage() {
    TarBuilder tar;
    for (int i = 0; i < kFiles; ++i)
      tar.File("folder" + std::to_string(i % 100) + "/file" + std::to_string(i), "contents");
    guest_.spec.root_image = MakeImage(tar);
  }
};

TEST_F(BigImage, CostsANewInstanceNothing) {
  FakeProcess bare;
  MemoryAccount with(64 << 20), without(64 << 20);
  const auto make = [](FakeProcess& from, MemoryAccount& account) {
    const auto start = std::chrono::steady_clock::now();
    const auto made = FileSystem::Create(from.spec, account, from.host);
    EXPECT_TRUE(made.ok()) << made.status();
    return std::pair(std::chrono::steady_clock::now() - start, account.used_bytes());
  };
  auto best_with = std::chrono::nanoseconds::max(), best_without = best_with;
  std::uint64_t bytes_with = 0, bytes_without = 0;
  for (int round = 0; round < 20; ++round) {
    const auto [time_with, used_with] = make(guest_, with);
    const auto [time_without, used_without] = make(bare, without);
    best_with = std::min<std::chrono::nanoseconds>(best_with, time_with);
    best_without = std::min<std::chrono::nanoseconds>(best_without, time_without);
    bytes_with = used_with;
    bytes_without = used_without;
  }
  EXPECT_EQ(bytes_with, bytes_without);
  EXPECT_LT(best_with - best_without, std::chrono::microseconds(50));
  RecordProperty("nanoseconds_with", std::to_string(best_with.count()));
  RecordProperty("nanoseconds_without", std::to_string(best_without.count()));
  EXPECT_EQ(with.used_bytes(), 0u);
}

TEST_F(BigImage, LookingChargesOnlyWhatWasLookedAt) {
  Start();
  List("/dev");  // the guest's own memory for the buffer is touched from here on
  const std::uint64_t before = guest_.account.used_bytes();
  EXPECT_EQ(List("/").size(), 104u);
  EXPECT_EQ(List("/folder7").size(), 100u);
  EXPECT_LT(guest_.account.used_bytes() - before, 8192u) << "listing makes no nodes";
  EXPECT_EQ(Cat("/folder7/file7"), "contents");
  EXPECT_LT(guest_.account.used_bytes() - before, 8192u);
}

TEST_F(BigImage, LookingAtAllOfItMeetsTheMemoryLimit) {
  FakeProcess small(std::uint64_t{6} << 20);
  small.spec.root_image = guest_.spec.root_image;
  ASSERT_TRUE(small.Start().ok());
  int found = 0;
  for (int i = 0; i < kFiles; ++i) {
    const std::string path = "/folder" + std::to_string(i % 100) + "/file" + std::to_string(i);
    if (small.Call(SYS_access, small.Put(path), F_OK) == 0) ++found;
    ASSERT_LE(small.account.used_bytes(), small.account.limit_bytes());
  }
  EXPECT_GT(found, 100);
  EXPECT_LT(found, kFiles);
}

}  // namespace
}  // namespace waxvm::linux_abi
