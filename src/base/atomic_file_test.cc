// SPDX-License-Identifier: Apache-2.0
#include "src/base/atomic_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace waxvm {
namespace {

class AtomicFileTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/waxvm-atomic-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    path_ = folder_ + "/file";
  }
  void TearDown() override {
    for (const std::string& name : Names()) ::unlink((folder_ + "/" + name).c_str());
    ::rmdir(folder_.c_str());
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    DIR* directory = ::opendir(folder_.c_str());
    while (const dirent* entry = ::readdir(directory))
      if (entry->d_name[0] != '.' || std::strlen(entry->d_name) > 2) names.push_back(entry->d_name);
    ::closedir(directory);
    return names;
  }
  std::string Contents() const {
    const int file = ::open(path_.c_str(), O_RDONLY);
    std::string text(1 << 20, '\0');
    const ssize_t got = ::read(file, text.data(), text.size());
    ::close(file);
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return text;
  }
  // In pieces, so that there is something to be killed between.
  absl::Status Put(const std::string& text) const {
    return ReplaceFile(path_, [&](int file) {
      for (std::size_t at = 0; at < text.size(); at += 1000)
        if (::write(file, text.data() + at, std::min<std::size_t>(1000, text.size() - at)) < 0)
          return absl::InternalError("write");
      return absl::OkStatus();
    });
  }

  std::string folder_;
  std::string path_;
};

TEST_F(AtomicFileTest, MakesAndReplaces) {
  EXPECT_TRUE(Put("one").ok());
  EXPECT_EQ(Contents(), "one");
  EXPECT_TRUE(Put("another one").ok());
  EXPECT_EQ(Contents(), "another one");
  EXPECT_EQ(Names(), std::vector<std::string>{"file"});
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(AtomicFileTest, FailureLeavesTheOldFile) {
  ASSERT_TRUE(Put("old").ok());
  const absl::Status status = ReplaceFile(path_, [](int file) {
    EXPECT_EQ(::write(file, "new", 3), 3);
    return absl::UnavailableError("no more");
  });
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(Contents(), "old");
  EXPECT_EQ(Names(), std::vector<std::string>{"file"});
  EXPECT_FALSE(ReplaceFile(folder_ + "/none/file", [](int) { return absl::OkStatus(); }).ok());
  EXPECT_FALSE(ReplaceFile(folder_ + "/", [](int) { return absl::OkStatus(); }).ok());
}

TEST_F(AtomicFileTest, ReplacesALinkItself) {
  ASSERT_TRUE(Put("old").ok());
  const std::string link = folder_ + "/link";
  ASSERT_EQ(::symlink("file", link.c_str()), 0);
  EXPECT_TRUE(ReplaceFile(link, [](int) { return absl::OkStatus(); }).ok());
  EXPECT_EQ(Contents(), "old");
}

// SIGKILL before the system call with that number; true once the writer has come to its end.
bool KillAtCall(int number, const std::function<void()>& write) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    write();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  for (int stops = 0; WIFSTOPPED(status); ++stops) {
    if (stops == number) {
      ::kill(child, SIGKILL);
    } else {
      ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    }
    ::waitpid(child, &status, 0);
  }
  EXPECT_TRUE(!WIFEXITED(status) || WEXITSTATUS(status) == 0) << "no tracing here";
  return WIFEXITED(status);
}

TEST_F(AtomicFileTest, KilledAtEveryStepTheOldFileIsWhole) {
  const std::string old(5000, 'o');
  const std::string fresh(9000, 'n');
  ASSERT_TRUE(Put(old).ok());
  int steps = 0;
  int replaced = 0;
  // Each call stops twice, before and behind it.
  for (bool finished = false; !finished && steps < 500; ++steps) {
    finished = KillAtCall(steps, [&] { static_cast<void>(Put(fresh)); });
    const std::string now = Contents();
    ASSERT_TRUE(now == old || now == fresh) << "after " << steps << ": " << now.size() << " bytes";
    if (now == fresh && !finished) ++replaced;
    ASSERT_TRUE(now == old || Put(old).ok());
  }
  EXPECT_GT(steps, 20) << "open, nine writes, sync, link, rename, sync";
  EXPECT_GT(replaced, 0) << "killed behind the rename";
}

}  // namespace
}  // namespace waxvm
