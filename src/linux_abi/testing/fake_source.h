// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_TESTING_FAKE_SOURCE_H_
#define WAXVM_SRC_LINUX_ABI_TESTING_FAKE_SOURCE_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "src/linux_abi/mapped_source.h"

namespace waxvm::linux_abi {

/// A file of bytes in a vector, which can be made to fail, and counts what is asked of it.
class FakeSource final : public MappedSource {
 public:
  /// Byte i is i / 4096 + 1, so that every page tells which one it is.
  explicit FakeSource(std::size_t size, FileIdentity identity = {.device = 0x801, .inode = 42},
                      std::string path = "/lib/fake.so")
      : MappedSource(identity, std::move(path)), bytes(size) {
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i / 4096 + 1);
  }

  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override {
    if (error != 0) return -error;
    if (offset >= bytes.size()) return 0;
    const std::size_t count = std::min<std::size_t>(to.size(), bytes.size() - offset);
    std::memcpy(to.data(), bytes.data() + offset, count);
    bytes_read += count;
    return static_cast<std::int64_t>(count);
  }
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override {
    if (error != 0) return -error;
    if (bytes.size() < offset + from.size()) bytes.resize(offset + from.size());
    std::memcpy(bytes.data() + offset, from.data(), from.size());
    bytes_written += from.size();
    return static_cast<std::int64_t>(from.size());
  }
  std::int64_t Size() const override { return static_cast<std::int64_t>(bytes.size()); }
  std::shared_ptr<MappedSource> Freeze() override { return nullptr; }

  std::vector<std::byte> bytes;
  int error = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_TESTING_FAKE_SOURCE_H_
