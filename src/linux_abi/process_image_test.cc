// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstdlib>
#include <fstream>
#include <vector>

#include "src/base/crc32c.h"
#include "src/linux_abi/image_codec.h"
#include "src/linux_abi/testing/fake_process.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kFeatures = 7;
// docs/formats/snapshot.md: the state of Source in version 1.
constexpr std::size_t kGoldenBytes = 11413;
constexpr std::uint32_t kGoldenCrc = 1918838785;

/// A process with a little of everything, in a host call.
struct Source {
  Source() {
    EXPECT_TRUE(fake.Start().ok());
    fake.Call(SYS_mkdirat, AT_FDCWD, fake.Put("/tmp/folder"), 0750);
    file = fake.Call(SYS_openat, AT_FDCWD, fake.Put("/tmp/folder/file"), O_CREAT | O_RDWR, 0640);
    fake.Call(SYS_write, file, fake.Put("some bytes"), 10);
    fake.Call(SYS_dup, file);
    fake.Call(SYS_symlinkat, fake.Put("file"), AT_FDCWD, fake.Put("/tmp/folder/link"));
    ends = fake.Reserve(8);
    fake.Call(SYS_pipe2, ends, 0);
    const int writer = fake.Object<int>(ends + 4);
    fake.Call(SYS_write, writer, fake.Put("in the pipe"), 11);
    events = fake.Call(SYS_eventfd2, 7, 0);
    const std::int64_t watcher = fake.Call(SYS_epoll_create1, 0);
    epoll_event event{};
    event.events = EPOLLIN;
    fake.Call(SYS_epoll_ctl, watcher, EPOLL_CTL_ADD, events, fake.PutObject(event));
    fake.Call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, fake.Reserve(8));
    fake.Call(SYS_chdir, fake.Put("/tmp/folder"));
    fake.Call(SYS_umask, 027);
    const std::uint64_t name = fake.Put("next");
    struct waxvm_host_call call {};
    call.version = WAXVM_HOST_CALL_VERSION;
    call.name_bytes = 4;
    call.name = name;
    fake.Call(static_cast<long>(WAXVM_HOST_CALL_NUMBER), fake.PutObject(call));
    EXPECT_TRUE(fake.process->pending_host_call());
  }

  FakeProcess fake;
  std::int64_t file = -1;
  std::int64_t events = -1;
  std::uint64_t ends = 0;
};

TEST(ProcessImage, IsTheSameAfterAFile) {
  Source source;
  const auto image = source.fake.process->TakeImage();
  ASSERT_TRUE(image.ok()) << image.status();
  const auto bytes = EncodeImage(*image);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto decoded = DecodeImage(*bytes, source.fake.spec, kFeatures);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*EncodeImage(*decoded), *bytes);

  FakeProcess other;
  auto process = Process::CreateFrom(*decoded, other.spec, other.pages, other.host, other.account);
  ASSERT_TRUE(process.ok()) << process.status();
  other.process = *std::move(process);
  const auto again = other.process->TakeImage();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*EncodeImage(*again), *bytes) << "a process that was made from it has the same image";
  EXPECT_EQ(other.process->files().Get(static_cast<std::uint64_t>(source.file)),
            other.process->files().Get(static_cast<std::uint64_t>(source.file) + 1))
      << "duplicates share one open file";
}

// The order and width of the fields is the format: where this fails, the version must change.
TEST(ProcessImage, FormatOfVersion1) {
  Source source;
  const auto image = source.fake.process->TakeImage();
  ASSERT_TRUE(image.ok()) << image.status();
  const auto bytes = EncodeImage(*image);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  if (const char* path = std::getenv("WAXVM_WRITE_GOLDEN")) {
    std::ofstream file(path, std::ios::binary);
    file.put('\0');  // as the input of snapshot_fuzz
    file.write(reinterpret_cast<const char*>(bytes->data()),
               static_cast<std::streamsize>(bytes->size()));
  }
  EXPECT_EQ(bytes->size(), kGoldenBytes);
  EXPECT_EQ(Crc32c(*bytes), kGoldenCrc);
}

TEST(ProcessImage, DamagedStatesAreRefusedOrHarmless) {
  Source source;
  const auto image = source.fake.process->TakeImage();
  ASSERT_TRUE(image.ok()) << image.status();
  const std::vector<std::byte> bytes = *EncodeImage(*image);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    ASSERT_FALSE(DecodeImage(std::span(bytes).first(length), source.fake.spec, kFeatures).ok())
        << length;
  int accepted = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::vector<std::byte> damaged = bytes;
    damaged[at] ^= std::byte{0x81};
    const auto decoded = DecodeImage(damaged, source.fake.spec, kFeatures);
    if (!decoded.ok()) continue;
    ++accepted;
    FakeProcess other;
    {
      const auto process =
          Process::CreateFrom(*decoded, other.spec, other.pages, other.host, other.account);
    }
    ASSERT_EQ(other.account.used_bytes(), 0u) << at;
  }
  EXPECT_GT(accepted, 0) << "registers, times and contents may be anything";
}

TEST(ProcessImage, MoreThreadsThanTheLimitAreRefused) {
  Source source;
  ProcessImage image = *source.fake.process->TakeImage();
  const std::uint64_t limit = 3;
  source.fake.spec.limits.processes = limit;
  CallImage call{.number = SYS_pause};
  const auto decode = [&] { return DecodeImage(*EncodeImage(image), source.fake.spec, kFeatures); };
  for (std::int32_t id = Process::kPid + 1; image.threads.threads.size() < limit; ++id) {
    image.threads.threads.push_back(
        {.id = id, .extended = std::make_shared<const ExtendedState>(), .call = call});
    image.threads.sleepers.push_back(id);
  }
  EXPECT_TRUE(decode().ok()) << decode().status();
  source.fake.spec.limits.processes = limit - 1;
  EXPECT_EQ(decode().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(decode().status().message()),
              testing::HasSubstr("limits.processes is 2"));
}

// A thread that is somewhere it cannot have slept would end another one, or be woken when it is
// gone.
TEST(ProcessImage, OnlyCallsThatSleepHaveSleepers) {
  Source source;
  const auto taken = source.fake.process->TakeImage();
  ASSERT_TRUE(taken.ok()) << taken.status();
  const auto check = [&](const auto& change) {
    ProcessImage image = *taken;
    constexpr std::int32_t kOther = Process::kPid + 1;
    CallImage call{.number = SYS_futex};
    call.arguments = {0x1000, FUTEX_WAIT | FUTEX_PRIVATE_FLAG};
    image.threads.threads.push_back(
        {.id = kOther, .extended = std::make_shared<const ExtendedState>(), .call = call});
    image.threads.sleepers = {kOther};
    image.threads.waiters = {{.address = 0x1000, .thread = kOther, .bitset = ~0u}};
    change(image.threads, *image.threads.threads.back().call);
    return CheckImage(image, kFeatures).ok();
  };
  EXPECT_TRUE(check([](ThreadsImage&, CallImage&) {}));
  EXPECT_TRUE(check([](ThreadsImage& threads, CallImage& call) {
    call.number = SYS_pause;
    threads.waiters.clear();
  }));
  EXPECT_FALSE(check([](ThreadsImage&, CallImage& call) { call.number = SYS_pause; }));
  EXPECT_FALSE(check([](ThreadsImage&, CallImage& call) { call.woken = true; }));
  EXPECT_FALSE(check([](ThreadsImage&, CallImage& call) { call.arguments[1] = FUTEX_WAKE; }));
  EXPECT_FALSE(
      check([](ThreadsImage& threads, CallImage&) { threads.runnable.swap(threads.sleepers); }));
  EXPECT_FALSE(check([](ThreadsImage& threads, CallImage&) {
    threads.waiters.push_back(threads.waiters.front());
  }));
  for (const std::uint64_t number :
       {std::uint64_t{SYS_exit}, std::uint64_t{SYS_clone}, std::uint64_t{SYS_rt_sigreturn},
        std::uint64_t{WAXVM_HOST_CALL_NUMBER}})
    EXPECT_FALSE(check([&](ThreadsImage& threads, CallImage& call) {
      call.number = number;
      threads.waiters.clear();
    })) << number;
  EXPECT_FALSE(
      check([](ThreadsImage&, CallImage& call) { call.progress = std::uint64_t{1} << 63; }));
}

TEST(ProcessImage, FilesOfTheHostAreRefusedByName) {
  FakeProcess fake;
  fake.Mount("/etc", "/data", Rights::kReadOnly);
  ASSERT_TRUE(fake.Start().ok());
  ASSERT_EQ(fake.Call(SYS_openat, AT_FDCWD, fake.Put("/data/passwd"), O_RDONLY, 0), 3);
  struct waxvm_host_call call {};
  call.version = WAXVM_HOST_CALL_VERSION;
  call.name_bytes = 4;
  call.name = fake.Put("next");
  fake.Call(static_cast<long>(WAXVM_HOST_CALL_NUMBER), fake.PutObject(call));
  const absl::Status status = fake.process->TakeImage().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_NE(status.message().find("descriptor 3, which is open for /data/passwd"),
            absl::string_view::npos)
      << status;
}

}  // namespace
}  // namespace waxvm::linux_abi
