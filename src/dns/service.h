// SPDX-License-Identifier: Apache-2.0
// What the threads of a server share.
#ifndef WAXVM_SRC_DNS_SERVICE_H_
#define WAXVM_SRC_DNS_SERVICE_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/dns/responder.h"
#include "src/dns/sockets.h"
#include "waxvm/dns.h"

namespace waxvm::dns {

using Clock = std::chrono::steady_clock;

/// How often a source is asked again for what is pending.
inline constexpr std::chrono::milliseconds kAskAgain(10);

/// The members of DnsServerStats. Each is written by one thread only.
struct Counters {
  std::atomic<std::uint64_t> udp_questions = 0;
  std::atomic<std::uint64_t> udp_answers = 0;
  std::atomic<std::uint64_t> tcp_questions = 0;
  std::atomic<std::uint64_t> tcp_answers = 0;
  std::atomic<std::uint64_t> dropped_udp = 0;
  std::atomic<std::uint64_t> dropped_tcp = 0;
  std::atomic<std::uint64_t> truncated = 0;
  std::atomic<std::uint64_t> unsent = 0;
  std::atomic<std::size_t> connections = 0;
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> evicted = 0;
  std::atomic<std::uint64_t> timed_out = 0;
  std::atomic<std::size_t> buffer_bytes = 0;
  std::atomic<std::size_t> pending = 0;
};

/// Adds where this thread alone writes.
template <typename T, typename N>
void Bump(std::atomic<T>& counter, N by) {
  counter.store(counter.load(std::memory_order_relaxed) + static_cast<T>(by),
                std::memory_order_relaxed);
}

struct Service {
  DnsServerOptions options;
  Responder responder;
  std::shared_ptr<DnsSource> source;
  std::vector<Listener> listeners;
  UniqueFd stop;  ///< an eventfd, readable once the server ends
  Counters counters;
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_SERVICE_H_
