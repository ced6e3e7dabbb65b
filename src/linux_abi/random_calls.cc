// SPDX-License-Identifier: Apache-2.0
// getrandom, from the granted source or not at all.
#include <sys/random.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

// What one call gives at most, as Linux documents it.
constexpr std::uint64_t kMaxBytes = 0x1ffffff;

std::int64_t Getrandom(Process& process, const SyscallArguments& a) {
  if ((a[2] & ~std::uint64_t{GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE}) != 0) return -EINVAL;
  if (!process.gate().Check({.resource = Resource::kRandom, .name = "getrandom"}).ok())
    return -EPERM;
  RandomSource* source = process.spec().random.get();
  if (source == nullptr) return -EPERM;
  const std::uint64_t bytes = std::min(a[1], kMaxBytes);
  std::array<std::byte, 4096> chunk;
  for (std::uint64_t done = 0; done < bytes;) {
    const std::span<std::byte> part(chunk.data(),
                                    std::min<std::uint64_t>(chunk.size(), bytes - done));
    source->Fill(part);
    if (!process.memory().Write(a[0] + done, part))
      return done != 0 ? static_cast<std::int64_t>(done) : -EFAULT;
    done += part.size();
  }
  return static_cast<std::int64_t>(bytes);
}

constexpr SyscallEntry kCalls[] = {{SYS_getrandom, "getrandom", Getrandom}};

}  // namespace

std::span<const SyscallEntry> RandomCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
