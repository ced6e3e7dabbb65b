// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/memory_cgroup.h"

#include <sys/stat.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace waxvm::process {
namespace {

std::string Found(std::string_view cgroups, std::string_view mounts) {
  const auto parent = FindMemoryCgroupParent(cgroups, mounts);
  if (!parent) return "none";
  return (parent->v2 ? "v2 " : "v1 ") + parent->path;
}

constexpr std::string_view kHybridMounts =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

TEST(MemoryCgroupTest, TheV1MemoryControllerWinsInAHybridLayout) {
  EXPECT_EQ(Found("8:pids:/\n4:memory:/app/one\n0::/\n", kHybridMounts),
            "v1 /sys/fs/cgroup/memory/app/one");
  EXPECT_EQ(Found("4:cpu,memory:/\n0::/x\n", "35 31 0:32 / /cg rw - cgroup cgroup rw,cpu,memory\n"),
            "v1 /cg");
}

TEST(MemoryCgroupTest, UnderV2ASiblingIsMade) {
  constexpr std::string_view kMounts = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
  EXPECT_EQ(Found("0::/user.slice/session-1.scope\n", kMounts), "v2 /sys/fs/cgroup/user.slice");
  EXPECT_EQ(Found("0::/\n", kMounts), "v2 /sys/fs/cgroup");
}

TEST(MemoryCgroupTest, InAContainerTheMountShowsAPartOfTheTree) {
  EXPECT_EQ(Found("4:memory:/docker/abc/sub\n",
                  "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            "v1 /sys/fs/cgroup/memory/sub");
  EXPECT_EQ(Found("4:memory:/elsewhere\n",
                  "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            "none");
}

TEST(MemoryCgroupTest, NothingIsFoundInNothing) {
  EXPECT_EQ(Found("", ""), "none");
  EXPECT_EQ(Found("garbage\n::\n", "also garbage\n - \n"), "none");
}

TEST(MemoryCgroupTest, TheFolderGoesAwayWithTheObject) {
  const auto parent = ProbeMemoryCgroups();
  if (!parent) GTEST_SKIP() << "no memory cgroup can be made here";
  struct stat about {};
  ASSERT_EQ(stat(parent->path.c_str(), &about), 0);
  const auto links = about.st_nlink;
  {
    auto group = MemoryCgroup::Create(*parent, 64 << 20);
    ASSERT_TRUE(group.ok()) << group.status();
    ASSERT_EQ(stat(parent->path.c_str(), &about), 0);
    EXPECT_GT(about.st_nlink, links);
    EXPECT_FALSE(group->Exhausted());
  }
  ASSERT_EQ(stat(parent->path.c_str(), &about), 0);
  EXPECT_EQ(about.st_nlink, links);
}

}  // namespace
}  // namespace waxvm::process
