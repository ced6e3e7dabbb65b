// SPDX-License-Identifier: Apache-2.0
// The one seam between std::string_view and Debian's Abseil, which is built with its own
// absl::string_view type: everything that needs the conversion goes through here.
#ifndef WAXVM_SRC_BASE_STRINGS_H_
#define WAXVM_SRC_BASE_STRINGS_H_

#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace waxvm {

inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view ToStd(absl::string_view s) { return {s.data(), s.size()}; }

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_STRINGS_H_
