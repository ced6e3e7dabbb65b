// SPDX-License-Identifier: Apache-2.0
// A guest process on a fake machine, driven call by call from a test.
#ifndef WAXVM_SRC_LINUX_ABI_TESTING_FAKE_PROCESS_H_
#define WAXVM_SRC_LINUX_ABI_TESTING_FAKE_PROCESS_H_

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "src/image/elf_builder_for_test.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/testing/fake_machine.h"
#include "waxvm/program.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// What a FakeProcess is made from. Change it between construction and Start().
class FakeProcess {
 public:
  explicit FakeProcess(std::uint64_t memory_bytes = std::uint64_t{64} << 20)
      : account(memory_bytes),
        pages(account),
        spec(*Program::FromBytes(image::ElfBuilder().Bytes(), "test")) {
    spec.arguments = {"test"};
    spec.gate = &gate;
  }

  /// Grants a host folder or file.
  void Mount(const std::string& host_path, const std::string& guest_path, Rights rights,
             bool is_directory = true) {
    const int fd = ::open(host_path.c_str(), O_PATH | O_CLOEXEC);
    std::shared_ptr<const int> shared(new int(fd), [](const int* owned) {
      ::close(*owned);
      delete owned;
    });
    spec.mounts.push_back({.host_fd = std::move(shared),
                           .host_path = host_path,
                           .guest_path = guest_path,
                           .is_directory = is_directory,
                           .rights = rights});
  }

  /// Loads the program and maps kScratchBytes of memory for arguments at kScratch.
  absl::Status Start() {
    absl::StatusOr<std::unique_ptr<Process>> made =
        Process::Create(spec, pages, host, account, CpuFeatures{});
    if (!made.ok()) return made.status();
    process = *std::move(made);
    const std::int64_t mapped =
        process->memory().Map(kScratch, kScratchBytes, {.read = true, .write = true},
                              AddressSpace::Kind::kAnonymous, /*fixed=*/true);
    return mapped == static_cast<std::int64_t>(kScratch)
               ? absl::OkStatus()
               : absl::InternalError("the scratch memory could not be mapped");
  }

  /// Makes a system call; kEnded when there is no result.
  template <typename... Arguments>
  std::int64_t Call(long number, Arguments... arguments) {
    const SyscallArguments packed = {Pack(arguments)...};
    used_ = 0;
    return process->Dispatch(static_cast<std::uint64_t>(number), packed).value_or(kEnded);
  }

  /// Room for an argument of the next call, and what is in it.
  std::uint64_t Reserve(std::size_t bytes) {
    const std::uint64_t address = kScratch + used_;
    used_ += (bytes + 15) & ~std::size_t{15};
    return address;
  }
  std::uint64_t Put(std::string_view text) {
    const std::string terminated(text);
    const std::span<const char> bytes(terminated.c_str(), terminated.size() + 1);
    const std::uint64_t address = Reserve(bytes.size());
    static_cast<void>(process->memory().Write(address, std::as_bytes(bytes)));
    return address;
  }
  template <typename T>
  requires std::is_trivially_copyable_v<T> std::uint64_t PutObject(const T& object) {
    const std::uint64_t address = Reserve(sizeof object);
    static_cast<void>(process->memory().WriteObject(address, object));
    return address;
  }
  std::string Text(std::uint64_t address, std::int64_t bytes) {
    std::string text(static_cast<std::size_t>(std::max<std::int64_t>(bytes, 0)), '\0');
    const std::span<char> to(text);
    static_cast<void>(process->memory().Read(address, std::as_writable_bytes(to)));
    return text;
  }
  template <typename T>
  T Object(std::uint64_t address) {
    T object{};
    static_cast<void>(process->memory().ReadObject(address, object));
    return object;
  }

  static constexpr std::uint64_t kScratch = 0x10000000;
  static constexpr std::size_t kScratchBytes = std::size_t{4} << 20;
  static constexpr std::int64_t kEnded = -1'000'000;

  MemoryAccount account;
  FakePages pages;
  FakeHost host;
  FakeGate gate;
  InstanceSpec spec;
  std::unique_ptr<Process> process;

 private:
  static std::uint64_t Pack(std::uint64_t value) { return value; }
  static std::uint64_t Pack(std::int64_t value) { return static_cast<std::uint64_t>(value); }
  static std::uint64_t Pack(int value) { return static_cast<std::uint64_t>(std::int64_t{value}); }
  static std::uint64_t Pack(unsigned value) { return value; }
  static std::uint64_t Pack(std::string_view) = delete;

  std::size_t used_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_TESTING_FAKE_PROCESS_H_
