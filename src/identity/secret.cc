// SPDX-License-Identifier: Apache-2.0
#include <sodium.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/base/status.h"
#include "src/identity/sodium_ready.h"
#include "waxvm/key.h"

namespace waxvm {
namespace identity {

absl::Status SodiumReady() {
  static const bool ready = sodium_init() >= 0;
  if (!ready) return Unavailable("libsodium could not be initialised");
  return absl::OkStatus();
}

}  // namespace identity

absl::StatusOr<Secret> Secret::Create(std::size_t size) {
  WAXVM_RETURN_IF_ERROR(identity::SodiumReady());
  // Never empty: sodium_malloc(0) may give null.
  const std::size_t reserved = std::max<std::size_t>(size, 1);
  void* data = sodium_malloc(reserved);
  if (data == nullptr) return absl::ResourceExhaustedError("no memory for a secret");
  // sodium_malloc locks as well, but says nothing where that fails.
  if (sodium_mlock(data, reserved) != 0) {
    const int error = errno;
    sodium_free(data);
    return absl::ResourceExhaustedError(
        ErrnoStatus(error, "memory for a secret cannot be locked (see ulimit -l)").message());
  }
  sodium_memzero(data, reserved);
  return Secret(static_cast<char*>(data), size);
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Secret::~Secret() { sodium_free(data_); }  // wipes; null is allowed

void Secret::Truncate(std::size_t size) {
  if (size >= size_) return;
  sodium_memzero(data_ + size, size_ - size);
  size_ = size;
}

}  // namespace waxvm
