// SPDX-License-Identifier: Apache-2.0
// A program's standard input.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_INPUT_PUMP_H_
#define WAXVM_SRC_PROVIDER_PROCESS_INPUT_PUMP_H_

#include <poll.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "src/base/unique_fd.h"

namespace waxvm::process {

/// Carries bytes from a descriptor of the embedder into a pipe whose other end the program has. The
/// program never holds a file or terminal of the host: as its owner it could change its mode and
/// times, even through a descriptor that is open for reading only.
/// Thread safety: none.
class InputPump {
 public:
  /// A pump that has nothing to do.
  InputPump() = default;
  /// `reader` is the program's end, kept open here as well: writing must never raise SIGPIPE in the
  /// embedder. `sink` does not block.
  InputPump(UniqueFd source, UniqueFd sink, UniqueFd reader)
      : source_(std::move(source)),
        sink_(std::move(sink)),
        reader_(std::move(reader)),
        buffer_(kPortionBytes) {}

  /// What to wait for; fd -1 for nothing.
  pollfd Watched() const;
  /// Moves one portion after poll() found something. At the end of the input the pipe ends.
  /// Errors: what reading the source returned.
  absl::Status Move();

 private:
  static constexpr std::size_t kPortionBytes = 32768;

  void Close();

  UniqueFd source_;
  UniqueFd sink_;
  UniqueFd reader_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_INPUT_PUMP_H_
