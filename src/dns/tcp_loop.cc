// SPDX-License-Identifier: Apache-2.0
#include "src/dns/tcp_loop.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace waxvm::dns {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kReadBytes = 16 << 10;
// More is answered once this has been sent.
constexpr std::size_t kSendBytes = 64 << 10;
constexpr int kEvents = 128;
// Of one listener before connections have their turn.
constexpr int kAcceptTurn = 64;
constexpr milliseconds kMaxTick(250);
constexpr milliseconds kMinTick(5);

// What epoll gives back: a listener's index, or a connection's slot and generation.
constexpr std::uint64_t kStopTag = ~std::uint64_t{0};
constexpr std::uint64_t kListenerTag = std::uint64_t{1} << 63;
std::uint64_t TagOf(std::uint32_t slot, std::uint32_t generation) {
  return std::uint64_t{generation} << 32 | slot;
}

bool Control(int epoll, int operation, int fd, std::uint32_t interest, std::uint64_t tag) {
  epoll_event event = {};
  event.events = interest;
  event.data.u64 = tag;
  return epoll_ctl(epoll, operation, fd, &event) == 0;
}

milliseconds TickOf(const DnsServerOptions& options) {
  return std::clamp(std::min(options.tcp_idle_time, options.tcp_progress_time) / 4, kMinTick,
                    kMaxTick);
}

}  // namespace

TcpLoop::TcpLoop(Service& service, UniqueFd events)
    : service_(service),
      events_(std::move(events)),
      // A question that is not there as a whole, and what is read after it.
      input_(2 + service.options.max_tcp_query_bytes + kReadBytes),
      output_(kSendBytes + Stream::kAnswerBytes) {}

void TcpLoop::Run() {
  const int epoll = events_.get();
  if (!Control(epoll, EPOLL_CTL_ADD, service_.stop.get(), EPOLLIN, kStopTag)) return;
  for (std::size_t i = 0; i < service_.listeners.size(); ++i)
    Control(epoll, EPOLL_CTL_ADD, service_.listeners[i].tcp.get(), EPOLLIN, kListenerTag | i);
  std::array<epoll_event, kEvents> ready;
  for (;;) {
    const int count = epoll_wait(epoll, ready.data(), kEvents, WaitMs());
    if (count < 0 && errno != EINTR) return;
    now_ = Clock::now();
    for (int i = 0; i < count; ++i) {
      const std::uint64_t tag = ready[static_cast<std::size_t>(i)].data.u64;
      if (tag == kStopTag) return;
      if ((tag & kListenerTag) != 0) {
        Accept(static_cast<std::size_t>(tag & ~kListenerTag));
        continue;
      }
      // It may have been closed since, by another event of this batch.
      const auto slot = static_cast<std::uint32_t>(tag);
      Connection* const connection = connections_[slot].get();
      if (connection != nullptr && connection->generation == tag >> 32)
        OnEvent(*connection, ready[static_cast<std::size_t>(i)].events);
    }
    if (now_ >= next_tick_) Tick(now_);
  }
}

int TcpLoop::WaitMs() const {
  if (pending_ > 0) return static_cast<int>(kAskAgain.count());
  if (count_ == 0 && accepting_) return -1;
  return static_cast<int>(TickOf(service_.options).count());
}

void TcpLoop::Accept(std::size_t listener) {
  for (int i = 0; i < kAcceptTurn && AcceptOne(listener); ++i) {
  }
}

bool TcpLoop::AcceptOne(std::size_t listener) {
  const int fd = service_.listeners[listener].tcp.get();
  Endpoint peer;
  for (int attempt = 0; attempt < 2; ++attempt) {
    peer.size = sizeof peer.address;
    UniqueFd accepted(accept4(fd, peer.get(), &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted) {
      Admit(std::move(accepted), peer);
      return true;
    }
    if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
      return errno == ECONNABORTED || errno == EINTR;
    // The kernel says so even where nobody waits, for whom nothing need be closed.
    pollfd waiting = {fd, POLLIN, 0};
    if (poll(&waiting, 1, 0) <= 0) return false;
    if (!Evict(nullptr)) break;
  }
  // The process has no descriptor left. The listener stays readable: not looked at until the next
  // tick, or this thread would do nothing else.
  for (const Listener& each : service_.listeners)
    Control(events_.get(), EPOLL_CTL_MOD, each.tcp.get(), 0, kListenerTag);
  accepting_ = false;
  return false;
}

void TcpLoop::Admit(UniqueFd fd, const Endpoint& peer) {
  const PeerKey key = PeerOf(peer);
  const auto of_peer = std::count_if(
      connections_.begin(), connections_.end(),
      [&](const auto& connection) { return connection != nullptr && connection->peer == key; });
  if (static_cast<std::size_t>(of_peer) >= service_.options.max_tcp_connections_per_peer)
    Evict(&key);
  if (count_ >= service_.options.max_tcp_connections) Evict(nullptr);
  const int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  std::uint32_t slot = static_cast<std::uint32_t>(connections_.size());
  if (free_.empty()) {
    connections_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  // Below the bit that marks listeners.
  next_generation_ = (next_generation_ + 1) & 0x7fffffff;
  connections_[slot].reset(new Connection{.fd = std::move(fd),
                                          .peer = key,
                                          .slot = slot,
                                          .generation = next_generation_,
                                          .stream = Stream(service_.options.max_tcp_query_bytes)});
  Connection& connection = *connections_[slot];
  connection.last_question = now_;
  ++count_;
  Bump(service_.counters.accepted, 1);
  service_.counters.connections.store(count_, std::memory_order_relaxed);
  connection.interest = EPOLLIN;
  if (!Control(events_.get(), EPOLL_CTL_ADD, connection.fd.get(), EPOLLIN,
               TagOf(slot, connection.generation)))
    Close(slot);
}

bool TcpLoop::Evict(const PeerKey* peer) {
  const Connection* victim = nullptr;
  for (const auto& connection : connections_) {
    if (connection == nullptr || (peer != nullptr && connection->peer != *peer)) continue;
    if (victim == nullptr || (connection->idle() && !victim->idle()) ||
        (connection->idle() == victim->idle() && connection->last_question < victim->last_question))
      victim = connection.get();
  }
  if (victim == nullptr) return false;
  Close(victim->slot);
  Bump(service_.counters.evicted, 1);
  return true;
}

void TcpLoop::OnEvent(Connection& connection, std::uint32_t events) {
  const std::uint32_t slot = connection.slot;
  bool alive = (events & EPOLLERR) == 0;
  if (alive && (events & EPOLLOUT) != 0) alive = Flush(connection);
  if (alive && (events & (EPOLLIN | EPOLLHUP)) != 0) alive = Read(connection);
  if (!alive || !Watch(connection)) Close(slot);
}

bool TcpLoop::Read(Connection& connection) {
  // Nothing more is read while the peer does not take its answers; it can only have gone.
  if (!connection.idle()) return false;
  const std::size_t left = connection.in.size();
  std::copy(connection.in.begin(), connection.in.end(), input_.begin());
  const ssize_t bytes = recv(connection.fd.get(), &input_[left], kReadBytes, MSG_DONTWAIT);
  if (bytes < 0) return errno == EAGAIN || errno == EINTR;
  // At the end, every question that was there as a whole has been answered, and the answers taken.
  if (bytes == 0) return false;
  return Process(connection, left + static_cast<std::size_t>(bytes), false);
}

bool TcpLoop::ProcessHeld(Connection& connection, bool final) {
  std::copy(connection.in.begin(), connection.in.end(), input_.begin());
  return Process(connection, connection.in.size(), final);
}

bool TcpLoop::Process(Connection& connection, std::size_t bytes, bool final) {
  const bool was_pending = std::exchange(connection.pending, false);
  if (was_pending) --pending_;
  Bytes input(input_.data(), bytes);
  bool progress = false;
  while (connection.idle()) {
    const Stream::Result result = connection.stream.Answer(
        input, final && !progress, service_.responder, *service_.source, scratch_, output_);
    input = input.subspan(result.consumed);
    Bump(service_.counters.tcp_questions, result.questions);
    Bump(service_.counters.tcp_answers, result.answers);
    if (result.broken) Bump(service_.counters.dropped_tcp, 1);
    if (result.questions > 0) connection.last_question = now_;
    progress = progress || result.consumed > 0;
    if (result.pending) Wait(connection, was_pending && !progress);
    if (!Send(connection, {output_.data(), result.produced}) || result.broken) return false;
    if (result.consumed == 0) break;
  }
  const bool partial = !input.empty() || connection.stream.skipping();
  if (progress || !partial) connection.partial_since.reset();
  if (partial && !connection.partial_since) connection.partial_since = now_;
  return Hold(connection.in, input);
}

void TcpLoop::Wait(Connection& connection, bool still) {
  connection.pending = true;
  ++pending_;
  if (!still) connection.pending_since = now_;
  next_tick_ = std::min(next_tick_, now_ + kAskAgain);
}

bool TcpLoop::Hold(std::vector<std::uint8_t>& buffer, Bytes bytes) {
  if (buffer.empty() && bytes.empty()) return true;
  // Attack: many connections, each with as much as it may have.
  const std::size_t held = held_bytes_ - buffer.size() + bytes.size();
  if (held > service_.options.max_tcp_buffer_bytes) return false;
  held_bytes_ = held;
  std::vector<std::uint8_t>(bytes.begin(), bytes.end()).swap(buffer);
  service_.counters.buffer_bytes.store(held_bytes_, std::memory_order_relaxed);
  return true;
}

std::optional<std::size_t> TcpLoop::SendSome(const Connection& connection, Bytes bytes) {
  std::size_t all = 0;
  while (all < bytes.size()) {
    const ssize_t sent =
        send(connection.fd.get(), &bytes[all], bytes.size() - all, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return std::nullopt;
    if (sent < 0) break;
    all += static_cast<std::size_t>(sent);
  }
  return all;
}

bool TcpLoop::Send(Connection& connection, Bytes bytes) {
  const auto sent = SendSome(connection, bytes);
  if (!sent) return false;
  if (*sent == bytes.size()) return true;
  connection.unsent_since = now_;
  connection.out_begin = 0;
  return Hold(connection.out, bytes.subspan(*sent));
}

bool TcpLoop::Flush(Connection& connection) {
  const auto sent = SendSome(connection, Bytes(connection.out).subspan(connection.out_begin));
  if (!sent) return false;
  connection.out_begin += *sent;
  if (connection.out_begin < connection.out.size()) return true;
  connection.unsent_since.reset();
  return Hold(connection.out, {}) && ProcessHeld(connection, false);
}

bool TcpLoop::Watch(Connection& connection) {
  const std::uint32_t wanted = !connection.out.empty() ? EPOLLOUT
                               : connection.pending    ? 0u
                                                       : std::uint32_t{EPOLLIN};
  if (wanted == connection.interest) return true;
  connection.interest = wanted;
  return Control(events_.get(), EPOLL_CTL_MOD, connection.fd.get(), wanted,
                 TagOf(connection.slot, connection.generation));
}

void TcpLoop::Close(std::uint32_t slot) {
  Connection& connection = *connections_[slot];
  if (connection.pending) --pending_;
  held_bytes_ -= connection.in.size() + connection.out.size();
  connections_[slot].reset();
  free_.push_back(slot);
  --count_;
  service_.counters.connections.store(count_, std::memory_order_relaxed);
  service_.counters.buffer_bytes.store(held_bytes_, std::memory_order_relaxed);
}

bool TcpLoop::IsOver(const Connection& connection, Clock::time_point now) const {
  const DnsServerOptions& options = service_.options;
  // Attack: a byte now and then, or an answer that is never taken, on every connection there is.
  if (connection.unsent_since) return now - *connection.unsent_since > options.tcp_progress_time;
  if (connection.pending) return false;  // the source's time is bounded
  if (connection.partial_since) return now - *connection.partial_since > options.tcp_progress_time;
  return now - connection.last_question > options.tcp_idle_time;
}

void TcpLoop::Tick(Clock::time_point now) {
  next_tick_ = now + (pending_ > 0 ? kAskAgain : TickOf(service_.options));
  if (!accepting_) {
    accepting_ = true;
    for (std::size_t i = 0; i < service_.listeners.size(); ++i)
      Control(events_.get(), EPOLL_CTL_MOD, service_.listeners[i].tcp.get(), EPOLLIN,
              kListenerTag | i);
  }
  for (std::uint32_t slot = 0; slot < connections_.size(); ++slot) {
    if (connections_[slot] == nullptr) continue;
    Connection& connection = *connections_[slot];
    if (connection.pending) {
      const bool final = now - connection.pending_since > service_.options.pending_time;
      if (!ProcessHeld(connection, final) || !Watch(connection)) Close(slot);
    } else if (IsOver(connection, now)) {
      Close(slot);
      Bump(service_.counters.timed_out, 1);
    }
  }
}

}  // namespace waxvm::dns
