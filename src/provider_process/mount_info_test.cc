// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/mount_info.h"

#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace waxvm::process {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::string_view kText =
    "22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw\n"
    "23 27 0:22 / /sys rw - sysfs sysfs rw\n"
    "24 27 0:6 / /dev rw master:1 propagate_from:2 - devtmpfs devtmpfs rw\n"
    "25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw\n"
    "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
    "40 27 0:50 / /srv/a\\040b/c\\134d rw - proc proc rw\n"
    "41 27 0:51 / /srv/photos rw - fuse.sshfs host: rw\n"
    "42 27 0:52 / /srvother rw - cgroup2 none rw\n"
    "43 27 0:53 / /srv/new rw - futurefs none rw";

std::vector<std::string> Forbidden(std::string_view text, const char* folder) {
  wx_mount_cursor cursor{text.data(), text.size(), 0};
  std::vector<std::string> found;
  char below[64];
  while (wx_next_forbidden(&cursor, folder, below, sizeof below)) found.emplace_back(below);
  EXPECT_EQ(cursor.too_long, 0);
  return found;
}

TEST(MountInfoTest, FindsEveryKernelFileSystemBelowTheRoot) {
  EXPECT_THAT(Forbidden(kText, "/"),
              ElementsAre("proc", "sys", "dev", "srv/a b/c\\d", "srvother", "srv/new"));
}

TEST(MountInfoTest, ComparesWholePathComponents) {
  EXPECT_THAT(Forbidden(kText, "/srv"), ElementsAre("a b/c\\d", "new"));
  EXPECT_THAT(Forbidden(kText, "/sr"), IsEmpty());
  EXPECT_THAT(Forbidden(kText, "/proc"), IsEmpty());
}

TEST(MountInfoTest, AnUnknownTypeIsForbidden) {
  const auto allowed = [](std::uint64_t id) {
    return wx_mount_allowed(kText.data(), kText.size(), id);
  };
  EXPECT_TRUE(allowed(27));
  EXPECT_TRUE(allowed(25));
  EXPECT_TRUE(allowed(41));
  EXPECT_FALSE(allowed(22));
  EXPECT_FALSE(allowed(24));
  EXPECT_FALSE(allowed(43));
  EXPECT_FALSE(allowed(999)) << "an id that is not listed";
}

TEST(MountInfoTest, APathThatDoesNotFitIsAnErrorNotAMiss) {
  const std::string text = "40 27 0:50 / /srv/" + std::string(100, 'x') + " rw - proc proc rw\n";
  wx_mount_cursor cursor{text.data(), text.size(), 0};
  char below[64];
  EXPECT_EQ(wx_next_forbidden(&cursor, "/", below, sizeof below), 0);
  EXPECT_EQ(cursor.too_long, 1);
}

TEST(MountInfoTest, EveryPrefixOfATextIsReadWithoutRunningOver) {
  for (std::size_t length = 0; length <= kText.size(); ++length) {
    const std::string prefix(kText.substr(0, length));
    Forbidden(prefix, "/");
    wx_mount_allowed(prefix.data(), prefix.size(), 43);
  }
}

}  // namespace
}  // namespace waxvm::process
