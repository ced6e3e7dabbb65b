// SPDX-License-Identifier: Apache-2.0
// Datagrams on their way from the message layer to a socket.
#ifndef WAXVM_SRC_COAP_ENDPOINT_OUTGOING_BATCH_H_
#define WAXVM_SRC_COAP_ENDPOINT_OUTGOING_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "src/coap/message_layer.h"
#include "waxvm/datagram.h"

namespace waxvm::coap {

struct SocketAddressHash {
  std::size_t operator()(const SocketAddress& address) const;
};
using Locals = std::unordered_map<SocketAddress, SocketAddress, SocketAddressHash>;

/// Knows from where requests were sent that may have to be sent again.
class LocalSource {
 public:
  virtual ~LocalSource() = default;
  virtual void CollectLocals(Locals& locals) const = 0;
};

/// Thread safety: none.
class OutgoingBatch final : public DatagramSink {
 public:
  /// `batch`: as many are sent at once. `source` is asked where something is sent again.
  OutgoingBatch(DatagramSocket& socket, std::size_t batch, const LocalSource& source);

  std::span<std::byte> Reserve(const SocketAddress& peer, std::size_t bytes) override;
  void Commit(std::size_t bytes) override;

  /// What is reserved for `peer` from now on goes out from `local`. The pointers are valid until
  /// ForgetRoute.
  void SetRoute(const SocketAddress& peer, const SocketAddress& local) {
    route_peer_ = &peer;
    route_local_ = &local;
  }
  void ForgetRoute() { route_peer_ = nullptr; }
  /// The same for what is sent without a route, which happens later: notifications, answers of a
  /// handler that took its time.
  void Remember(const SocketAddress& peer, const SocketAddress& local);

  /// Whether the socket may be used: only the thread that runs the endpoint may. Otherwise
  /// datagrams are kept, up to a bound.
  void AllowSending(bool allowed) { may_send_ = allowed; }
  bool empty() const { return datagrams_.empty(); }
  /// Errors: those of the socket.
  absl::Status Flush();

  std::uint64_t unsent() const { return unsent_; }

 private:
  const SocketAddress& LocalFor(const SocketAddress& peer);

  DatagramSocket& socket_;
  const std::size_t batch_;
  /// A socket with one address has nothing to choose.
  const bool chooses_local_;
  std::vector<std::byte> bytes_;
  std::size_t used_ = 0;
  std::vector<Datagram> datagrams_;
  std::vector<std::size_t> begins_;
  SocketAddress reserved_for_;
  const SocketAddress* route_peer_ = nullptr;
  const SocketAddress* route_local_ = nullptr;
  const LocalSource& source_;
  Locals locals_;
  /// Those of `source_`, from when one is needed until the batch is sent.
  Locals collected_;
  bool is_collected_ = false;
  absl::Status status_;
  bool may_send_ = false;
  std::uint64_t unsent_ = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_OUTGOING_BATCH_H_
