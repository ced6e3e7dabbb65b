// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_TESTING_FILE_FIXTURE_H_
#define WAXVM_SRC_LINUX_ABI_TESTING_FILE_FIXTURE_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/fake_process.h"

namespace waxvm::linux_abi {

/// An address at which a FakeProcess has nothing.
inline constexpr std::uint64_t kUnmapped = 0x7000'0000'0000;

/// What FileFixture::Read says when the thread went to sleep.
inline const std::string kAsleepText = "error " + std::to_string(-FakeProcess::kEnded);

/// A process and the calls on open files that most tests need.
class FileFixture : public ::testing::Test {
 protected:
  void Start() { ASSERT_TRUE(guest_.Start().ok()); }

  std::int64_t Open(std::string_view path, int flags, int mode = 0644) {
    return guest_.Call(SYS_open, guest_.Put(path), flags, mode);
  }
  std::int64_t Write(std::int64_t fd, std::string_view text) {
    return guest_.Call(SYS_write, fd, guest_.Put(text), std::uint64_t{text.size()});
  }
  std::string Read(std::int64_t fd, std::size_t bytes) {
    const std::uint64_t buffer = guest_.Reserve(bytes);
    const std::int64_t n = guest_.Call(SYS_read, fd, buffer, std::uint64_t{bytes});
    return n < 0 ? "error " + std::to_string(-n) : guest_.Text(buffer, n);
  }
  std::array<std::int64_t, 2> Pipe(int flags = 0) {
    const std::uint64_t fds = guest_.Reserve(8);
    EXPECT_EQ(guest_.Call(SYS_pipe2, fds, flags), 0);
    const auto both = guest_.Object<std::array<std::int32_t, 2>>(fds);
    return {both[0], both[1]};
  }
  struct stat FStat(std::int64_t fd) {
    const std::uint64_t address = guest_.Reserve(sizeof(struct stat));
    EXPECT_EQ(guest_.Call(SYS_fstat, fd, address), 0);
    return guest_.Object<struct stat>(address);
  }

  FakeProcess guest_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_TESTING_FILE_FIXTURE_H_
