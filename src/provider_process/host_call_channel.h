// SPDX-License-Identifier: Apache-2.0
// The embedder's end of the stream on which a program makes host calls (waxvm/abi/host_call.h).
#ifndef WAXVM_SRC_PROVIDER_PROCESS_HOST_CALL_CHANNEL_H_
#define WAXVM_SRC_PROVIDER_PROCESS_HOST_CALL_CHANNEL_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "src/base/unique_fd.h"
#include "waxvm/provider.h"

namespace waxvm::process {

/// Parses requests and queues replies without ever blocking. The program may write anything, stop
/// reading, or close its end; then the channel closes and nothing else happens.
/// Thread safety: none.
class HostCallChannel {
 public:
  /// `socket` must be non-blocking. A request over `max_request_bytes` closes the channel.
  HostCallChannel(UniqueFd socket, std::uint64_t max_request_bytes)
      : socket_(std::move(socket)), max_request_bytes_(max_request_bytes) {}

  int fd() const { return socket_.get(); }
  /// poll() events to wait for.
  short events() const;
  /// Whether a request was handed out and not answered.
  bool pending() const { return pending_; }

  /// Moves bytes after poll() reported something; returns a request once it is complete.
  std::optional<HostCallRequest> Advance();

  /// Queues the answer to the pending request.
  void Reply(const absl::StatusOr<std::string>& reply);

 private:
  bool ReadUpTo(std::size_t bytes);
  void Flush();
  bool HeaderIsValid() const;

  UniqueFd socket_;
  std::uint64_t max_request_bytes_;
  std::string in_;
  std::string out_;
  std::size_t out_sent_ = 0;
  bool pending_ = false;
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_HOST_CALL_CHANNEL_H_
