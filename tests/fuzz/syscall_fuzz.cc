// SPDX-License-Identifier: Apache-2.0
// The boundary where a guest's registers and memory enter the host: sequences of system calls with
// arbitrary numbers and arguments, against the whole Linux personality on a machine in plain
// memory. Whatever they are, the host stays whole, the memory limit holds, and when the process is
// gone it holds nothing on the guest's behalf.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "src/linux_abi/testing/fake_process.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kMemoryBytes = std::uint64_t{8} << 20;
constexpr int kMaxCalls = 48;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  std::uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  std::uint64_t Word(int bytes) {
    std::uint64_t word = 0;
    for (int i = 0; i < bytes; ++i) word |= std::uint64_t{Byte()} << (8 * i);
    return word;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

// Arguments that mean something, more often than chance would make them.
std::uint64_t Argument(Input& input) {
  const std::uint8_t kind = input.Byte();
  const std::uint64_t scratch = FakeProcess::kScratch;
  switch (kind % 10) {
    case 0:
      return kind / 10;
    case 1:
      return scratch + 64 * (kind / 10);
    case 2:
      return scratch + FakeProcess::kScratchBytes - kind / 10;  // at the end of the mapping
    case 3:
      return std::uint64_t{0} - kind / 10;
    case 4:
      return std::uint64_t{1} << (input.Byte() % 64);
    case 5:
      return (std::uint64_t{1} << (input.Byte() % 64)) - 1;
    case 6:
      return kPageBytes * input.Word(2);
    case 7:
      return kUserEnd - kPageBytes * (kind / 10);
    case 8:
      return input.Word(4);
    default:
      return input.Word(8);
  }
}

// A folder to grant: a file, a folder, links that lead out, and things that must not pass.
const std::string& HostFolder() {
  static const std::string folder = [] {
    char path[] = "/tmp/waxvm-fuzz-XXXXXX";
    if (::mkdtemp(path) == nullptr) std::abort();
    const std::string root = path;
    ::close(::open((root + "/file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    ::mkdir((root + "/folder").c_str(), 0755);
    [[maybe_unused]] const bool made = ::symlink("/etc/passwd", (root + "/out").c_str()) == 0 &&
                                       ::symlink("../..", (root + "/folder/up").c_str()) == 0 &&
                                       ::mkfifo((root + "/fifo").c_str(), 0666) == 0;
    static const struct Remover {
      std::string root;
      ~Remover() {
        for (const char* name : {"/file", "/folder/up", "/out", "/fifo"})
          ::unlink((root + name).c_str());
        ::rmdir((root + "/folder").c_str());
        ::rmdir(root.c_str());
      }
    } remover{root};
    return root;
  }();
  return folder;
}

void FillScratch(FakeProcess& fake) {
  static constexpr const char* kTexts[] = {
      "/tmp/a",     "/data/file",   "/data/folder/up/x", "/data/out",
      "/data/fifo", "/dev/urandom", "/dev/null",         "..",
      "/",          "a/b/../c",     "/proc/self/exe",    "/tmp",
  };
  for (std::size_t i = 0; i < std::size(kTexts); ++i) {
    const std::span<const char> text(kTexts[i], std::strlen(kTexts[i]) + 1);
    Require(fake.process->memory().Write(FakeProcess::kScratch + 64 * i, std::as_bytes(text)));
  }
}

void PutBytes(FakeProcess& fake, Input& input) {
  std::byte bytes[32];
  const std::size_t count = input.Byte() % sizeof bytes;
  const std::uint64_t at = FakeProcess::kScratch + 64 * (input.Byte() % 24) + input.Byte() % 64;
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(input.Byte());
  static_cast<void>(fake.process->memory().Write(at, {bytes, count}));
}

std::uint64_t Number(Input& input) {
  const std::uint64_t number = input.Word(2);
  if (number >= 0xfff0) return static_cast<std::uint64_t>(WAXVM_HOST_CALL_NUMBER);
  return number % 460;
}

void Play(Input& input) {
  FakeProcess fake(kMemoryBytes);
  const std::uint8_t options = input.Byte();
  fake.spec.limits.open_files = 16;
  if ((options & 1) != 0) fake.spec.random = std::make_shared<FakeRandom>();
  if ((options & 2) != 0) fake.spec.clock = std::make_shared<FakeClock>();
  if ((options & 4) != 0) fake.Mount(HostFolder(), "/data", Rights::kReadOnly);
  if ((options & 8) != 0) fake.gate.refuse = [](const Access& access) { return access.write; };
  Require(fake.Start().ok());
  FillScratch(fake);
  for (int call = 0; call < kMaxCalls && !input.empty(); ++call) {
    if (input.Byte() % 4 == 0) PutBytes(fake, input);
    const std::uint64_t number = Number(input);
    SyscallArguments arguments;
    for (std::uint64_t& argument : arguments) argument = Argument(input);
    const auto result = fake.process->Dispatch(number, arguments);
    Require(fake.account.used_bytes() <= kMemoryBytes);
    if (fake.process->ending()) break;
    if (fake.process->pending_host_call()) {
      const bool fails = input.Byte() % 2 == 0;
      fake.process->CompleteHostCall(fails ? absl::StatusOr<std::string>(absl::InternalError("no"))
                                           : absl::StatusOr<std::string>("reply"));
    } else if (!result && fake.process->thread().asleep) {
      break;  // everybody sleeps, and this machine has nobody to wake them: the run is over
    } else {
      // Time passes, so that threads take turns and timers run out.
      fake.host.now += std::chrono::milliseconds(input.Byte() % 8);
      fake.process->Tick();
      Require(fake.account.used_bytes() <= kMemoryBytes);
      if (fake.process->ending() || fake.process->thread().asleep) break;
    }
  }
  fake.process.reset();
  Require(fake.account.used_bytes() == fake.pages.page_count() * kPageBytes);
}

}  // namespace
}  // namespace waxvm::linux_abi

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  waxvm::linux_abi::Input input(data, size);
  waxvm::linux_abi::Play(input);
  return 0;
}
