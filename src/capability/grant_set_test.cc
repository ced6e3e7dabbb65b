// SPDX-License-Identifier: Apache-2.0
#include "src/capability/grant_set.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "src/capability/file_grant.h"
#include "src/capability/host_sources.h"

namespace waxvm {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Echo(const HostCallContext&, std::string_view request) {
  return std::string(request);
}

absl::Status StatusOf(const std::vector<Grant>& grants) { return OpenGrants(grants).status(); }

void ExpectInvalid(const absl::Status& status, const std::string& message) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(message));
}

class GrantTest : public ::testing::Test {
 protected:
  GrantTest() {
    std::string name = (std::filesystem::temp_directory_path() / "waxvm-grant-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    std::filesystem::create_directory(folder_ + "/data");
    std::ofstream(folder_ + "/file") << "contents";
  }
  ~GrantTest() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(GrantTest, NothingIsAmbient) {
  const auto set = OpenGrants({});
  ASSERT_TRUE(set.ok());
  for (Resource resource : {Resource::kClock, Resource::kRandom, Resource::kFile,
                            Resource::kHostFunction, Resource::kSystemCall, Resource::kLimit})
    EXPECT_FALSE(set->Allows({resource, "/", false})) << ResourceName(resource);
}

TEST_F(GrantTest, HostSources) {
  const auto set = OpenGrants(std::vector<Grant>{Clock(), Random()});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_TRUE(set->host_clock && set->host_random);
  EXPECT_TRUE(set->Allows({Resource::kClock, ""}));
  EXPECT_TRUE(set->Allows({Resource::kRandom, ""}));
  EXPECT_GT(set->clock->RealTime(), std::chrono::hours(24 * 365 * 50));  // after 2020
  const auto before = set->clock->MonotonicTime();
  EXPECT_GE(set->clock->MonotonicTime(), before);

  // More than getrandom returns at once; every 64-byte block of zeroes would mean a gap.
  std::vector<std::byte> bytes((std::size_t{1} << 20) + 7);
  set->random->Fill(bytes);
  for (std::size_t at = 0; at + 64 <= bytes.size(); at += 64)
    EXPECT_FALSE(std::all_of(bytes.begin() + at, bytes.begin() + at + 64, [](std::byte b) {
      return b == std::byte{0};
    })) << at;
}

TEST_F(GrantTest, InjectedSources) {
  const auto clock = NewHostClock();
  const auto set = OpenGrants(std::vector<Grant>{Clock(clock)});
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->clock, clock);
  EXPECT_FALSE(set->host_clock);
}

TEST_F(GrantTest, SourcesOnlyOnce) {
  ExpectInvalid(StatusOf({Clock(), Clock()}), "the clock is granted twice");
  ExpectInvalid(StatusOf({Random(), Random()}), "randomness is granted twice");
}

TEST_F(GrantTest, FunctionNames) {
  EXPECT_TRUE(StatusOf({Function(std::string(255, 'n'), Echo)}).ok());
  ExpectInvalid(StatusOf({Function("", Echo)}), "has 0 bytes, must be 1 to 255");
  ExpectInvalid(StatusOf({Function(std::string(256, 'n'), Echo)}), "has 256 bytes");
  ExpectInvalid(StatusOf({Function("add", nullptr)}), "the host function \"add\" is empty");
  ExpectInvalid(StatusOf({Function("add", Echo), Function("add", Echo)}), "granted twice");
  const auto set = OpenGrants(std::vector<Grant>{Function("add", Echo)});
  EXPECT_TRUE(set->Allows({Resource::kHostFunction, "add"}));
  EXPECT_FALSE(set->Allows({Resource::kHostFunction, "ad"}));
}

TEST_F(GrantTest, FoldersAndFiles) {
  const auto set = OpenGrants(std::vector<Grant>{
      Files(folder_, "/in"), Files(folder_ + "/data", "/in/out", Rights::kReadWrite),
      Files(folder_ + "/file", "/etc/one")});
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->mounts.size(), 3u);
  EXPECT_TRUE(set->mounts[0].is_directory);
  EXPECT_FALSE(set->mounts[2].is_directory);
  EXPECT_NE(::fcntl(*set->mounts[0].host_fd, F_GETFL) & O_PATH, 0);
  EXPECT_NE(::fcntl(*set->mounts[0].host_fd, F_GETFD) & FD_CLOEXEC, 0);

  const auto allows = [&](std::string_view path, bool write) {
    return set->Allows({Resource::kFile, path, write});
  };
  EXPECT_TRUE(allows("/in", false));
  EXPECT_TRUE(allows("/in/a/b", false));
  EXPECT_FALSE(allows("/in/a/b", true));
  EXPECT_TRUE(allows("/in/out/b", true));
  EXPECT_FALSE(allows("/in/outer", true));
  EXPECT_TRUE(allows("/etc/one", false));
  EXPECT_FALSE(allows("/etc", false));
  EXPECT_FALSE(allows("/inner", false));
  EXPECT_FALSE(allows("/in/../etc/passwd", false));
  EXPECT_FALSE(allows("in", false));
}

TEST_F(GrantTest, RootCanBeGranted) {
  const auto set = OpenGrants(std::vector<Grant>{Files("/", "/")});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_TRUE(set->Allows({Resource::kFile, "/etc/passwd", false}));
  EXPECT_FALSE(set->Allows({Resource::kFile, "/etc/passwd", true}));
}

TEST_F(GrantTest, OneImageAndNoFilesInItsPlace) {
  std::ofstream(folder_ + "/empty.tar") << std::string(1024, '\0');
  const auto image = RootImage::FromTar(folder_ + "/empty.tar");
  ASSERT_TRUE(image.ok()) << image.status();
  const auto set = OpenGrants(std::vector<Grant>{Image(*image), Files(folder_, "/data")});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(&set->root_image->rep(), &image->rep());
  EXPECT_FALSE(set->Allows({Resource::kFile, "/etc/passwd", false}));
  ExpectInvalid(StatusOf({Image(*image), Image(*image)}), "granted twice");
  ExpectInvalid(StatusOf({Files(folder_, "/"), Image(*image)}), "both a root image and files");
}

TEST_F(GrantTest, DescriptorClosesWithTheLastCopy) {
  int number = -1;
  {
    auto mount = OpenFileGrant({folder_, "/in", Rights::kReadOnly});
    ASSERT_TRUE(mount.ok());
    const FileMount copy = *mount;
    number = *copy.host_fd;
    *mount = FileMount{};
    EXPECT_NE(::fcntl(number, F_GETFD), -1);
  }
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST_F(GrantTest, HostPathIsOpenedOnce) {
  std::filesystem::create_directory_symlink(folder_ + "/data", folder_ + "/link");
  const auto mount = OpenFileGrant({folder_ + "/link", "/in", Rights::kReadOnly});
  ASSERT_TRUE(mount.ok()) << mount.status();  // a link of the embedder's is followed
  std::filesystem::remove(folder_ + "/link");
  std::filesystem::create_directory_symlink("/", folder_ + "/link");
  struct stat opened, data;
  ::fstat(*mount->host_fd, &opened);
  ::stat((folder_ + "/data").c_str(), &data);
  EXPECT_EQ(opened.st_ino, data.st_ino);
}

TEST_F(GrantTest, BadGuestPaths) {
  ExpectInvalid(StatusOf({Files(folder_, "")}), "is empty");
  ExpectInvalid(StatusOf({Files(folder_, "data")}), "\"data\" is not absolute");
  ExpectInvalid(StatusOf({Files(folder_, "/data/")}), "empty component");
  ExpectInvalid(StatusOf({Files(folder_, "//data")}), "empty component");
  ExpectInvalid(StatusOf({Files(folder_, "/a/../b")}), "\"/a/../b\" contains \"..\"");
  ExpectInvalid(StatusOf({Files(folder_, "/a/.")}), "contains \".\"");
  ExpectInvalid(StatusOf({Files(folder_, std::string("/a\0b", 4))}), "zero byte");
  ExpectInvalid(StatusOf({Files(folder_, "/" + std::string(4095, 'a'))}), "4096 bytes");
  ExpectInvalid(StatusOf({Files(folder_, "/a"), Files("/", "/a")}), "\"/a\" is granted twice");
  EXPECT_TRUE(CheckGuestPath("/..a/...").ok());
}

TEST_F(GrantTest, BadHostPaths) {
  const absl::Status missing = StatusOf({Files(folder_ + "/missing", "/a")});
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr(folder_ + "/missing"));
  EXPECT_EQ(StatusOf({Files("", "/a")}).code(), absl::StatusCode::kNotFound);
  ExpectInvalid(StatusOf({Files("/dev/null", "/a")}), "neither a folder nor a regular file");
  ExpectInvalid(StatusOf({Files("/proc", "/a")}), "file system of the kernel");
  ExpectInvalid(StatusOf({Files("/proc/self/status", "/a")}), "file system of the kernel");
  ExpectInvalid(StatusOf({Files("/sys", "/a")}), "file system of the kernel");
  ASSERT_EQ(::mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  ExpectInvalid(StatusOf({Files(folder_ + "/fifo", "/a")}), "neither a folder");
}

}  // namespace
}  // namespace waxvm
