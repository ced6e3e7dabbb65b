// SPDX-License-Identifier: Apache-2.0
// A network that loses, repeats, delays and reorders what it carries, the same way every time.
#ifndef WAXVM_SIMULATED_NETWORK_H_
#define WAXVM_SIMULATED_NETWORK_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "waxvm/datagram.h"
#include "waxvm/socket_address.h"

namespace waxvm {

/// How a network treats each datagram. Probabilities are from 0 to 1.
struct NetworkConditions {
  double loss = 0;
  double duplication = 0;  ///< of one copy more, with a delay of its own
  /// Of a delay of up to `reordering_delay` on top, so that later ones overtake it.
  double reordering = 0;
  std::chrono::nanoseconds min_delay = std::chrono::milliseconds(1);
  std::chrono::nanoseconds max_delay = std::chrono::milliseconds(1);
  std::chrono::nanoseconds reordering_delay = std::chrono::milliseconds(10);
  /// What is longer is refused to its sender, with an error of TakeErrors.
  std::size_t max_datagram_bytes = 65535;
  /// Whether who sends to an address that nobody has learns of it.
  bool reports_unreachable = false;
};

struct SimulatedNetworkOptions {
  /// The same seed, conditions and calls give the same deliveries.
  std::uint64_t seed = 1;
  NetworkConditions conditions = {};
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::time_point{};
  /// Datagrams that wait at one port; further ones are lost.
  std::size_t port_capacity = 4096;
  /// Datagrams on their way, in all; further ones are lost.
  std::size_t capacity = 1 << 20;
};

/// Ports in one process, and a time that passes when it is told to. A port's Wait does not: what
/// should happen next is up to whoever holds the network.
/// Thread safety: none, nor between its ports; a port's Wake may be called from any thread.
class SimulatedNetwork {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Errors: kInvalidArgument for a probability or a delay that cannot be.
  static absl::StatusOr<SimulatedNetwork> Create(const SimulatedNetworkOptions& options = {});
  ~SimulatedNetwork();
  SimulatedNetwork(SimulatedNetwork&&) noexcept;
  SimulatedNetwork& operator=(SimulatedNetwork&&) noexcept;

  /// A socket at this address, which may outlive the network; nothing is delivered then. Port 0
  /// picks one. Errors: kAlreadyExists where the address is taken; kInvalidArgument for [::].
  absl::StatusOr<std::unique_ptr<DatagramSocket>> NewPort(const SocketAddress& address);

  TimePoint now() const;
  /// When the next datagram arrives, if one is on its way.
  std::optional<TimePoint> next_arrival() const;
  /// Lets time pass, and delivers what arrives until then. Time never goes back.
  void AdvanceTo(TimePoint time);

  /// From now on. Errors: as Create.
  absl::Status SetConditions(const NetworkConditions& conditions);
  /// Nothing passes between the addresses in either direction any more, or it does again.
  void Partition(const Address& a, const Address& b, bool parted);

  /// What became of datagrams, since the network was made.
  struct Stats {
    std::uint64_t carried = 0;
    std::uint64_t lost = 0;  ///< by chance
    std::uint64_t duplicated = 0;
    std::uint64_t parted = 0;      ///< by Partition
    std::uint64_t overflowed = 0;  ///< by a bound of the options
    std::uint64_t nowhere = 0;     ///< to an address that nobody has
  };
  Stats stats() const;

 private:
  friend class SimulatedPort;
  class State;
  explicit SimulatedNetwork(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace waxvm

#endif  // WAXVM_SIMULATED_NETWORK_H_
