// SPDX-License-Identifier: Apache-2.0
#include "src/dns/udp_loop.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace waxvm::dns {
namespace {

// The longest question that is read; what is longer is malformed.
constexpr std::size_t kMaxQueryBytes = 4096;
// Not a multiple of a page, so that the beginnings of messages do not fall into one cache set.
constexpr std::size_t kSlotBytes = kMaxQueryBytes + 64;
constexpr std::size_t kOutBytes = 256 << 10;
// Batches of one socket before the others have their turn.
constexpr int kTurn = 8;
// For a send buffer that is full. Nobody's other answers wait longer.
constexpr int kSendWaitMs = 20;
constexpr int kSendAttempts = 5;
// Loopback has no fragments; elsewhere an answer must fit into the least of IPv6's MTUs.
constexpr std::size_t kLoopbackBytes = 4096;
constexpr std::size_t kAnywhereBytes = 1232;

}  // namespace

UdpLoop::UdpLoop(Service& service)
    : service_(service), in_(new std::uint8_t[kBatch * kSlotBytes]), out_(nullptr) {
  for (const Listener& listener : service.listeners) {
    std::size_t most = service.options.max_udp_bytes;
    if (most == 0) most = listener.endpoint.is_loopback() ? kLoopbackBytes : kAnywhereBytes;
    max_bytes_.push_back(std::clamp<std::size_t>(most, 512, kMaxMessageBytes));
    most_bytes_ = std::max(most_bytes_, max_bytes_.back());
  }
  out_.reset(new std::uint8_t[kOutBytes + most_bytes_]);
  for (std::size_t i = 0; i < kBatch; ++i) {
    in_parts_[i] = {&in_[i * kSlotBytes], kMaxQueryBytes};
    received_[i].msg_hdr.msg_iov = &in_parts_[i];
    received_[i].msg_hdr.msg_iovlen = 1;
    received_[i].msg_hdr.msg_name = &peers_[i];
    received_[i].msg_hdr.msg_control = controls_[i].data();
    answers_[i].msg_hdr.msg_iov = &out_parts_[i];
    answers_[i].msg_hdr.msg_iovlen = 1;
    ResetMessage(i);
  }
}

void UdpLoop::ResetMessage(std::size_t slot) {
  received_[slot].msg_hdr.msg_namelen = sizeof(sockaddr_storage);
  received_[slot].msg_hdr.msg_controllen = kControlBytes;
}

void UdpLoop::Run() {
  std::vector<pollfd> polled = {{service_.stop.get(), POLLIN, 0}};
  for (const Listener& listener : service_.listeners)
    polled.push_back({listener.udp.get(), POLLIN, 0});
  for (;;) {
    const int wait_ms = pending_.empty() ? -1 : static_cast<int>(kAskAgain.count());
    if (poll(polled.data(), polled.size(), wait_ms) < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return;
    }
    if (polled[0].revents != 0) return;
    for (std::size_t i = 0; i + 1 < polled.size(); ++i) {
      if (polled[i + 1].revents == 0) continue;
      for (int turn = 0; turn < kTurn && ServeBatch(i); ++turn) {
      }
    }
    if (!pending_.empty() && Clock::now() >= ask_again_at_) AskAgain();
  }
}

bool UdpLoop::ServeBatch(std::size_t listener) {
  const int fd = service_.listeners[listener].udp.get();
  const int count = recvmmsg(fd, received_.data(), kBatch, MSG_DONTWAIT, nullptr);
  if (count <= 0) return count < 0 && errno == EINTR;
  for (std::size_t slot = 0; slot < static_cast<std::size_t>(count); ++slot) {
    if (out_used_ > kOutBytes) Send(fd);
    AnswerOne(listener, slot);
    ResetMessage(slot);
  }
  Send(fd);
  Bump(service_.counters.udp_questions, count);
  return count == kBatch;
}

Asked UdpLoop::How(std::size_t listener, bool final) const {
  return {.max_udp_bytes = max_bytes_[listener], .final = final};
}

void UdpLoop::AnswerOne(std::size_t listener, std::size_t slot) {
  const msghdr& from = received_[slot].msg_hdr;
  const Bytes query(&in_[slot * kSlotBytes], received_[slot].msg_len);
  const std::span<std::uint8_t> out(&out_[out_used_], most_bytes_);
  const bool no_room = service_.options.max_pending <= pending_.size();
  const Response response = (from.msg_flags & MSG_TRUNC) != 0
                                ? service_.responder.Refuse(query, out)
                                : service_.responder.Respond(query, How(listener, no_room),
                                                             *service_.source, scratch_, out);
  if (response.pending) return Keep(listener, from, query);
  if (response.bytes == 0) return Bump(service_.counters.dropped_udp, 1);
  if (response.truncated) Bump(service_.counters.truncated, 1);
  Queue(from, response.bytes);
}

void UdpLoop::Queue(const msghdr& from, std::size_t bytes) {
  out_parts_[queued_] = {&out_[out_used_], bytes};
  msghdr& to = answers_[queued_].msg_hdr;
  to.msg_name = from.msg_name;
  to.msg_namelen = from.msg_namelen;
  // What says which address was asked says, sent back, which one answers.
  to.msg_control = from.msg_controllen == 0 ? nullptr : from.msg_control;
  to.msg_controllen = from.msg_controllen;
  ++queued_;
  out_used_ += (bytes + 63) / 64 * 64;
}

void UdpLoop::Send(int fd) {
  std::size_t sent = 0;
  std::size_t lost = 0;
  for (int attempts = 0; sent < queued_;) {
    const int count = sendmmsg(fd, &answers_[sent], static_cast<unsigned>(queued_ - sent),
                               MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
      attempts = 0;
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == ENOBUFS) && ++attempts < kSendAttempts) {
      pollfd writable = {fd, POLLOUT, 0};
      poll(&writable, 1, kSendWaitMs);
      continue;
    }
    // One that cannot be sent (to port 0, say) must not take the rest with it.
    ++sent;
    ++lost;
    attempts = 0;
  }
  Bump(service_.counters.udp_answers, queued_ - lost);
  Bump(service_.counters.unsent, lost);
  queued_ = 0;
  out_used_ = 0;
}

void UdpLoop::Keep(std::size_t listener, const msghdr& from, Bytes query) {
  Pending pending = {};
  pending.listener = listener;
  pending.peer.size = from.msg_namelen;
  std::memcpy(&pending.peer.address, from.msg_name, from.msg_namelen);
  pending.control_bytes = from.msg_controllen;
  std::memcpy(pending.control.data(), from.msg_control, from.msg_controllen);
  pending.query = ToText(query);
  const auto now = Clock::now();
  pending.deadline = now + service_.options.pending_time;
  if (pending_.empty()) ask_again_at_ = now + kAskAgain;
  pending_.push_back(std::move(pending));
  service_.counters.pending.store(pending_.size(), std::memory_order_relaxed);
}

void UdpLoop::AskAgain() {
  const auto now = Clock::now();
  ask_again_at_ = now + kAskAgain;
  const auto answered = [&](Pending& pending) {
    const Response response = service_.responder.Respond(
        ToBytes(pending.query), How(pending.listener, now >= pending.deadline), *service_.source,
        scratch_, {&out_[0], most_bytes_});
    if (response.pending) return false;
    if (response.truncated) Bump(service_.counters.truncated, 1);
    msghdr from = {};
    from.msg_name = &pending.peer.address;
    from.msg_namelen = pending.peer.size;
    from.msg_control = pending.control.data();
    from.msg_controllen = pending.control_bytes;
    if (response.bytes != 0) Queue(from, response.bytes);
    Send(service_.listeners[pending.listener].udp.get());
    return true;
  };
  std::erase_if(pending_, answered);
  service_.counters.pending.store(pending_.size(), std::memory_order_relaxed);
}

}  // namespace waxvm::dns
