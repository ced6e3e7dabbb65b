// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_FIXED_ANSWERS_H_
#define WAXVM_SRC_LINUX_ABI_FIXED_ANSWERS_H_

#include <cstdint>
#include <span>

namespace waxvm::linux_abi {

/// A call that has no effect and whose result is a constant for as long as one thread runs, so that
/// a machine may answer it without asking. All but gettid's are the same for every thread.
struct FixedAnswer {
  std::uint32_t number;
  std::int32_t value;
};

std::span<const FixedAnswer> FixedAnswers();

/// The one that changes with the thread: Host::SetThreadId.
inline constexpr std::uint32_t kGettidNumber = 186;

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_FIXED_ANSWERS_H_
