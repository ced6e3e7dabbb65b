// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/input_pump.h"

#include <unistd.h>

#include <cerrno>

#include "src/base/status.h"

namespace waxvm::process {

pollfd InputPump::Watched() const {
  if (begin_ == end_) return {source_.get(), POLLIN, 0};
  return {sink_.get(), POLLOUT, 0};
}

absl::Status InputPump::Move() {
  if (!source_) return absl::OkStatus();
  if (begin_ == end_) {
    const ssize_t n = read(source_.get(), buffer_.data(), buffer_.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return absl::OkStatus();
    if (n <= 0) {
      const int error = errno;
      Close();
      return n == 0 ? absl::OkStatus() : ErrnoStatus(error, "reading the program's input");
    }
    begin_ = 0;
    end_ = static_cast<std::size_t>(n);
  }
  const ssize_t n = write(sink_.get(), buffer_.data() + begin_, end_ - begin_);
  if (n > 0) begin_ += static_cast<std::size_t>(n);
  return absl::OkStatus();
}

void InputPump::Close() {
  source_.reset();
  sink_.reset();
  reader_.reset();
}

}  // namespace waxvm::process
