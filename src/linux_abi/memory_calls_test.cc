// SPDX-License-Identifier: Apache-2.0
// mmap and its kind as a program calls them, and dynamic executables.
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/fake_process.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kPage = kPageBytes;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

class MemoryCallsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(guest_.Start().ok()); }

  /// A file of `pages` pages of 'a'.
  std::int64_t MakeFile(const char* path, std::size_t pages, int flags = O_RDWR) {
    const std::int64_t fd = guest_.Call(SYS_open, guest_.Put(path), O_CREAT | O_RDWR, 0644);
    EXPECT_GE(fd, 0);
    const std::string text(pages * kPage, 'a');
    std::uint64_t at = guest_.Reserve(text.size());
    EXPECT_TRUE(guest_.process->memory().Write(at, std::as_bytes(std::span(text))));
    EXPECT_EQ(guest_.Call(SYS_pwrite64, fd, at, text.size(), 0), text.size());
    if (flags == O_RDWR) return fd;
    guest_.Call(SYS_close, fd);
    return guest_.Call(SYS_open, guest_.Put(path), flags);
  }
  std::int64_t MapFile(std::int64_t fd, std::uint64_t bytes, int protection, int flags) {
    return guest_.Call(SYS_mmap, 0, bytes, protection, flags, fd, 0);
  }
  char At(std::int64_t address) { return guest_.Text(static_cast<std::uint64_t>(address), 1)[0]; }
  bool Store(std::int64_t address, char value) {
    return guest_.process->memory().WriteObject(static_cast<std::uint64_t>(address), value);
  }

  FakeProcess guest_;
};

TEST_F(MemoryCallsTest, FilesAndTheirSharedMappingsAgree) {
  const std::int64_t fd = MakeFile("/tmp/f", 2);
  const std::int64_t first = MapFile(fd, 2 * kPage, kReadWrite, MAP_SHARED);
  const std::int64_t second = MapFile(fd, 2 * kPage, PROT_READ, MAP_SHARED);
  ASSERT_GT(first, 0);
  ASSERT_GT(second, 0);
  ASSERT_TRUE(Store(first + 10, 'X'));
  EXPECT_EQ(At(second + 10), 'X');
  const std::uint64_t buffer = guest_.Reserve(16);
  EXPECT_EQ(guest_.Call(SYS_pread64, fd, buffer, 1, 10), 1);
  EXPECT_EQ(guest_.Text(buffer, 1), "X") << "read sees the store";
  ASSERT_TRUE(guest_.process->memory().WriteObject(buffer, 'Y'));
  EXPECT_EQ(guest_.Call(SYS_pwrite64, fd, buffer, 1, 10), 1);
  EXPECT_EQ(At(first + 10), 'Y') << "the mapping sees the write";
  EXPECT_EQ(At(second + 10), 'Y');
  EXPECT_EQ(guest_.Call(SYS_ftruncate, fd, kPage), 0);
  char byte;
  EXPECT_FALSE(
      guest_.process->memory().ReadObject(static_cast<std::uint64_t>(second) + kPage, byte));
  ASSERT_TRUE(Store(first, 'Z'));
  EXPECT_EQ(guest_.Call(SYS_close, fd), 0);
  EXPECT_EQ(guest_.Call(SYS_munmap, first, 2 * kPage), 0);
  EXPECT_EQ(guest_.Call(SYS_munmap, second, 2 * kPage), 0);
  const std::int64_t again = guest_.Call(SYS_open, guest_.Put("/tmp/f"), O_RDONLY);
  const std::uint64_t to = guest_.Reserve(16);
  EXPECT_EQ(guest_.Call(SYS_read, again, to, 1), 1);
  EXPECT_EQ(guest_.Text(to, 1), "Z");
}

TEST_F(MemoryCallsTest, MappingsThatGrowDown) {
  const std::int64_t stack =
      MapFile(-1, kPage, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN);
  ASSERT_GT(stack, 0);
  const std::int64_t fd = MakeFile("/tmp/f", 1);
  const auto below = static_cast<std::uint64_t>(stack) - 5 * kPage;
  EXPECT_EQ(guest_.Call(SYS_pread64, fd, below - 2, 4, 0), 4) << "a call grows it as well";
  EXPECT_EQ(guest_.Text(below - 2, 4), "aaaa");
  EXPECT_EQ(guest_.Call(SYS_munmap, below - kPage, 7 * kPage), 0);
  EXPECT_EQ(guest_.Call(SYS_pread64, fd, below, 4, 0), -EFAULT);
  EXPECT_EQ(MapFile(-1, kPage, kReadWrite, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN), -EINVAL);
  EXPECT_EQ(MapFile(fd, kPage, kReadWrite, MAP_PRIVATE | MAP_GROWSDOWN), -EINVAL);
}

TEST_F(MemoryCallsTest, RemovingMakesAHoleInTheFile) {
  const std::int64_t fd = MakeFile("/tmp/f", 2);
  const std::int64_t shared = MapFile(fd, 2 * kPage, kReadWrite, MAP_SHARED);
  ASSERT_TRUE(Store(shared + 1, 'X'));
  EXPECT_EQ(guest_.Call(SYS_madvise, shared, kPage, MADV_REMOVE), 0);
  EXPECT_EQ(At(shared + 1), '\0');
  EXPECT_EQ(At(shared + static_cast<std::int64_t>(kPage)), 'a');
  const std::uint64_t buffer = guest_.Reserve(16);
  EXPECT_EQ(guest_.Call(SYS_pread64, fd, buffer, 1, 1), 1);
  EXPECT_EQ(guest_.Text(buffer, 1), std::string(1, '\0'));
  const std::int64_t own = MapFile(fd, kPage, kReadWrite, MAP_PRIVATE);
  EXPECT_EQ(guest_.Call(SYS_madvise, own, kPage, MADV_REMOVE), -EACCES);
  EXPECT_EQ(guest_.Call(SYS_madvise, FakeProcess::kScratch, kPage, MADV_REMOVE), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_madvise, 0x700000000, kPage, MADV_REMOVE), -ENOMEM);
}

TEST_F(MemoryCallsTest, PrivateMappingOutlivesItsDescriptor) {
  const std::int64_t fd = MakeFile("/tmp/f", 64);
  const std::int64_t at = MapFile(fd, 64 * kPage, kReadWrite, MAP_PRIVATE);
  ASSERT_GT(at, 0);
  EXPECT_EQ(guest_.Call(SYS_close, fd), 0);
  EXPECT_EQ(guest_.Call(SYS_unlink, guest_.Put("/tmp/f")), 0);
  EXPECT_EQ(At(at + 63 * static_cast<std::int64_t>(kPage)), 'a');
}

TEST_F(MemoryCallsTest, RefusesWhatLinuxRefuses) {
  const std::int64_t writable = MakeFile("/tmp/w", 1, O_WRONLY);
  const std::int64_t readable = MakeFile("/tmp/r", 1, O_RDONLY);
  EXPECT_EQ(MapFile(writable, kPage, PROT_READ, MAP_PRIVATE), -EACCES);
  EXPECT_EQ(MapFile(readable, kPage, kReadWrite, MAP_SHARED), -EACCES);
  EXPECT_GT(MapFile(readable, kPage, kReadWrite, MAP_PRIVATE), 0);
  EXPECT_EQ(MapFile(99, kPage, PROT_READ, MAP_PRIVATE), -EBADF);
  EXPECT_EQ(MapFile(readable, 0, PROT_READ, MAP_PRIVATE), -EINVAL);
  EXPECT_EQ(MapFile(readable, kPage, PROT_READ, 0), -EINVAL);
  EXPECT_EQ(MapFile(readable, kPage, PROT_READ, MAP_SHARED_VALIDATE | 0x80000), -EOPNOTSUPP);
  EXPECT_EQ(guest_.Call(SYS_mmap, 0, kPage, PROT_READ, MAP_PRIVATE, readable, 1), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_mmap, 0, 2 * kPage, PROT_READ, MAP_PRIVATE, readable,
                        std::uint64_t{0x7ffffffffffff000}),
            -EOVERFLOW);
  constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  EXPECT_EQ(MapFile(-1, kPage, kReadWrite, kAnonymous | MAP_HUGETLB), -ENOMEM);
  const std::int64_t at = MapFile(-1, kPage, kReadWrite, kAnonymous | MAP_STACK | MAP_POPULATE);
  ASSERT_GT(at, 0);
  EXPECT_EQ(guest_.Call(SYS_mprotect, at, kPage, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP),
            -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_mprotect, at, kPage, 0x40), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_msync, at, kPage, MS_SYNC | MS_ASYNC), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_madvise, at, kPage, 12345), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_madvise, at, kPage, MADV_FREE), 0);
  EXPECT_EQ(guest_.Call(SYS_mlock, at, kPage), 0);
  EXPECT_EQ(guest_.Call(SYS_mlock, 0x10000, kPage), -ENOMEM);
}

TEST_F(MemoryCallsTest, ResidencyIsTold) {
  const std::int64_t at = MapFile(-1, 1 << 20, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS);
  ASSERT_GT(at, 0);
  const std::uint64_t to = guest_.Reserve(256);
  ASSERT_EQ(guest_.Call(SYS_mincore, at, 1 << 20, to), 0);
  EXPECT_EQ(guest_.Text(to, 256), std::string(256, '\0'));
  ASSERT_TRUE(Store(at, 'x'));
  const std::uint64_t again = guest_.Reserve(256);
  ASSERT_EQ(guest_.Call(SYS_mincore, at, 1 << 20, again), 0);
  EXPECT_EQ(guest_.Text(again, 1), "\1");
  EXPECT_EQ(guest_.Text(again + 255, 1)[0], '\0');
  EXPECT_EQ(guest_.Call(SYS_mincore, 0x10000, kPage, to), -ENOMEM);
}

// A program that asks for an interpreter, and the interpreter where it is granted.
class DynamicProgramTest : public testing::Test {
 protected:
  static constexpr char kPath[] = "/ld.so";

  static std::vector<std::byte> Program() {
    image::ElfBuilder builder;
    builder.program_headers.insert(
        builder.program_headers.begin(),
        {PT_INTERP, PF_R, 0x300, 0x401300, 0x401300, sizeof kPath, sizeof kPath, 1});
    std::vector<std::byte> bytes = builder.Bytes();
    std::memcpy(bytes.data() + 0x300, kPath, sizeof kPath);
    return bytes;
  }
  void SetUp() override {
    guest_.spec.program = *waxvm::Program::FromBytes(Program(), "/bin/dynamic");
  }

  FakeProcess guest_;
};

TEST_F(DynamicProgramTest, SaysWhichGrantIsMissing) {
  const absl::Status status = guest_.Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  EXPECT_NE(message.find("/ld.so"), std::string::npos) << message;
  EXPECT_NE(message.find("--grant=files:/:/:ro"), std::string::npos) << message;
}

}  // namespace
}  // namespace waxvm::linux_abi
