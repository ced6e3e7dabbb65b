// SPDX-License-Identifier: Apache-2.0
// What the CoAP benchmarks have in common: thousands of peers over two sockets, and where threads
// run.
#ifndef WAXVM_BENCHMARKS_COAP_CASES_H_
#define WAXVM_BENCHMARKS_COAP_CASES_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "waxvm/datagram.h"
#include "waxvm/socket_address.h"

namespace waxvm {

/// Pairs of addresses: the client of number i asks the server of number i, each for the other a
/// peer of its own. All of 127.0.0.0/8 is this host, so that one socket has every one of them.
inline constexpr std::size_t kPairs = 4096;
inline constexpr std::size_t kPayloadBytes = 16;

SocketAddress ClientAddress(std::size_t pair, std::uint16_t port);
SocketAddress ServerAddress(std::size_t pair, std::uint16_t port);

/// Where exchanges are counted from: one side asks, the other one answers.
class ExchangeLoad {
 public:
  virtual ~ExchangeLoad() = default;
  /// Runs until `count` more exchanges have ended; as many as there are to be are always on their
  /// way, from one call to the next as well.
  virtual absl::Status Run(std::size_t count) = 0;
  /// Shown next to the time.
  virtual void Count(benchmark::State&) {}
};

using NewLoad = std::function<absl::StatusOr<std::unique_ptr<ExchangeLoad>>(std::size_t in_flight)>;

/// An iteration is one exchange. Takes the real time; the name has no suffix. The counters
/// `asking_cpu_us` and `answering_cpu_us` are what either side used of its CPU for one.
void MeasureExchanges(benchmark::State& state, const NewLoad& make, std::size_t in_flight);

absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewRawLoad(std::size_t in_flight);
absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewSocketLoad(UdpBackend backend,
                                                            std::size_t in_flight);
absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewWaxLoad(bool confirmable, UdpBackend backend,
                                                         std::size_t in_flight);
/// libcoap looks at all of its sessions for each datagram; `pairs` tells what that costs.
absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewLibcoapLoad(bool confirmable, std::size_t pairs,
                                                             std::size_t in_flight);

}  // namespace waxvm

#endif  // WAXVM_BENCHMARKS_COAP_CASES_H_
