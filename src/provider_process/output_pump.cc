// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/output_pump.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "src/base/status.h"

namespace waxvm::process {

OutputPump::OutputPump(UniqueFd output, UniqueFd error, OutputWriter writer,
                       std::optional<std::uint64_t> limit_bytes)
    : pipes_{std::move(output), std::move(error)}, limiter_(limit_bytes, std::move(writer)) {}

absl::Status OutputPump::Move(Stream stream) {
  UniqueFd& pipe = pipes_[Index(stream)];
  std::array<char, 32768> buffer;
  const ssize_t n = read(pipe.get(), buffer.data(), buffer.size());
  if (n < 0 && errno == EINTR) return absl::OkStatus();
  if (n < 0) return ErrnoStatus(errno, "reading the program's output");
  if (n == 0) {
    pipe.reset();
    return absl::OkStatus();
  }
  return limiter_.Write(stream, std::string_view(buffer.data(), static_cast<std::size_t>(n)))
      .status();
}

absl::Status OutputPump::Drain() {
  for (const Stream stream : {Stream::kOutput, Stream::kError}) {
    while (fd(stream) >= 0 && !limit_passed()) {
      pollfd readable{fd(stream), POLLIN, 0};
      if (poll(&readable, 1, 0) <= 0 || readable.revents == 0) break;
      WAXVM_RETURN_IF_ERROR(Move(stream));
    }
  }
  return absl::OkStatus();
}

}  // namespace waxvm::process
