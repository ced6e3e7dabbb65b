// SPDX-License-Identifier: Apache-2.0
#include "src/base/fork_guard.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

namespace waxvm {
namespace {

/// What `body` returns in a forked child.
template <typename Body>
int InForkedChild(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ForkGuardTest, TellsParentFromChild) {
  ForkGuard guard;
  EXPECT_FALSE(guard.InChild());
  EXPECT_EQ(InForkedChild([&] {
              if (!guard.InChild()) return 1;
              const ForkGuard own;
              if (own.InChild()) return 2;
              // A grandchild is no parent either.
              return InForkedChild([&] { return guard.InChild() && own.InChild() ? 0 : 3; });
            }),
            0);
  EXPECT_FALSE(guard.InChild());
  const ForkGuard moved = std::move(guard);
  EXPECT_FALSE(moved.InChild());
  EXPECT_EQ(InForkedChild([&] { return moved.InChild() ? 0 : 1; }), 0);
}

}  // namespace
}  // namespace waxvm
