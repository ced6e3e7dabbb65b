// SPDX-License-Identifier: Apache-2.0
#include "src/isolation/output_limiter.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "src/base/status.h"

namespace waxvm {

OutputLimiter::OutputLimiter(std::optional<std::uint64_t> limit_bytes, OutputWriter writer)
    : limit_bytes_(limit_bytes.value_or(std::numeric_limits<std::uint64_t>::max())),
      writer_(std::move(writer)) {}

absl::StatusOr<std::size_t> OutputLimiter::Write(Stream stream, std::string_view data) {
  const std::size_t fits = std::min<std::uint64_t>(data.size(), limit_bytes_ - bytes_);
  if (fits < data.size()) limit_reached_ = true;
  if (fits == 0) return fits;
  if (writer_) WAXVM_RETURN_IF_ERROR(writer_(stream, data.substr(0, fits)));
  bytes_ += fits;
  return fits;
}

}  // namespace waxvm
