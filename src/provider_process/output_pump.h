// SPDX-License-Identifier: Apache-2.0
// Carries a program's standard output and error to the embedder.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_OUTPUT_PUMP_H_
#define WAXVM_SRC_PROVIDER_PROCESS_OUTPUT_PUMP_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "src/base/unique_fd.h"
#include "src/isolation/output_limiter.h"
#include "waxvm/provider.h"

namespace waxvm::process {

/// Thread safety: none.
class OutputPump {
 public:
  OutputPump(UniqueFd output, UniqueFd error, OutputWriter writer,
             std::optional<std::uint64_t> limit_bytes);

  /// The pipe's descriptor, -1 once it has ended.
  int fd(Stream stream) const { return pipes_[Index(stream)].get(); }
  std::uint64_t bytes() const { return limiter_.bytes(); }
  /// Whether the program wrote more than its limit; what fits has been delivered.
  bool limit_passed() const { return limiter_.limit_reached(); }

  /// Delivers one portion after poll() found something to read. Errors: what the writer returned.
  absl::Status Move(Stream stream);

  /// Delivers everything that is in the pipes now.
  absl::Status Drain();

 private:
  static std::size_t Index(Stream stream) { return stream == Stream::kOutput ? 0 : 1; }

  std::array<UniqueFd, 2> pipes_;
  OutputLimiter limiter_;
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_OUTPUT_PUMP_H_
