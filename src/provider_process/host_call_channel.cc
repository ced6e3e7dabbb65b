// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/host_call_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "src/base/strings.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::process {
namespace {

using RequestFrame = waxvm_host_call_request_frame;
using ReplyFrame = waxvm_host_call_reply_frame;

RequestFrame FrameOf(const std::string& bytes) {
  RequestFrame frame;
  std::memcpy(&frame, bytes.data(), sizeof frame);
  return frame;
}

}  // namespace

short HostCallChannel::events() const {
  if (out_sent_ < out_.size()) return POLLOUT;
  return pending_ ? 0 : POLLIN;
}

/// Grows the buffer only by what arrived: a length in a header reserves nothing.
bool HostCallChannel::ReadUpTo(std::size_t bytes) {
  char part[16384];
  while (in_.size() < bytes) {
    const std::size_t wanted = std::min(sizeof part, bytes - in_.size());
    const ssize_t n = recv(socket_.get(), part, wanted, MSG_DONTWAIT);
    if (n > 0) {
      in_.append(part, static_cast<std::size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) socket_.reset();
    return false;
  }
  return true;
}

bool HostCallChannel::HeaderIsValid() const {
  const RequestFrame frame = FrameOf(in_);
  return frame.version == WAXVM_HOST_CALL_VERSION && frame.reserved == 0 && frame.name_bytes >= 1 &&
         frame.name_bytes <= WAXVM_HOST_CALL_MAX_NAME &&
         frame.request_bytes <= WAXVM_HOST_CALL_MAX_REQUEST &&
         frame.request_bytes <= max_request_bytes_;
}

std::optional<HostCallRequest> HostCallChannel::Advance() {
  Flush();
  if (!socket_ || pending_ || !out_.empty()) return std::nullopt;
  if (!ReadUpTo(sizeof(RequestFrame))) return std::nullopt;
  if (!HeaderIsValid()) {
    // There is no way to find the next frame in a stream after a wrong one.
    socket_.reset();
    return std::nullopt;
  }
  const RequestFrame frame = FrameOf(in_);
  if (!ReadUpTo(sizeof frame + frame.name_bytes + frame.request_bytes)) return std::nullopt;
  pending_ = true;
  HostCallRequest request{in_.substr(sizeof frame, frame.name_bytes),
                          in_.substr(sizeof frame + frame.name_bytes)};
  in_ = {};
  return request;
}

void HostCallChannel::Reply(const absl::StatusOr<std::string>& reply) {
  pending_ = false;
  ReplyFrame frame{WAXVM_HOST_CALL_VERSION, WAXVM_HOST_CALL_OK, 0, 0};
  std::string_view body;
  if (!reply.ok()) {
    frame.status = static_cast<std::uint32_t>(reply.status().code());
    body = ToStd(reply.status().message());
    body = body.substr(0, WAXVM_HOST_CALL_MAX_REPLY);
  } else if (reply->size() > WAXVM_HOST_CALL_MAX_REPLY) {
    frame.status = WAXVM_HOST_CALL_INTERNAL;
    body = "the reply is larger than 16 MiB";
  } else {
    body = *reply;
  }
  frame.reply_bytes = static_cast<std::uint32_t>(body.size());
  out_.assign(reinterpret_cast<const char*>(&frame), sizeof frame);
  out_.append(body);
  out_sent_ = 0;
  Flush();
}

void HostCallChannel::Flush() {
  while (socket_ && out_sent_ < out_.size()) {
    const ssize_t n = send(socket_.get(), out_.data() + out_sent_, out_.size() - out_sent_,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      out_sent_ += static_cast<std::size_t>(n);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    socket_.reset();
  }
  // It may have been a secret.
  explicit_bzero(out_.data(), out_.size());
  out_ = {};
  out_sent_ = 0;
}

}  // namespace waxvm::process
