// SPDX-License-Identifier: Apache-2.0
// The side of the gateway that clients see, as the proxy needs it; libcoap is behind it, and a fake
// in its tests.
#ifndef WAXVM_SRC_COAP_EDGE_OUTSIDE_H_
#define WAXVM_SRC_COAP_EDGE_OUTSIDE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "waxvm/coap_edge.h"

namespace waxvm::coap::edge {

using SessionId = std::uint64_t;

/// A client as long as its connection, or its address, is known.
struct Session {
  SessionId id = 0;
  EdgeTransport transport = EdgeTransport::kUdp;
  SocketAddress peer;
  std::string source;  ///< what the bounds of one source are counted by
  std::string identity;
  bool verified = false;  ///< it receives at its address

  bool is_datagram() const { return transport != EdgeTransport::kTcp; }
};

struct OutsideRequest {
  Message message;
  std::string token;
  std::uint16_t mid = 0;
  bool confirmable = false;
  std::size_t wire_bytes = 0;
  /// The Hop-Limit has been checked and counted down already.
  bool hop_counted = false;
};

/// How a response travels; over TCP it is all the same.
enum class Carriage : std::uint8_t { kPiggybacked, kConfirmable, kNonConfirmable };

/// Towards clients.
class Outside {
 public:
  virtual ~Outside() = default;
  /// nullptr where it is gone. Valid until the session is closed.
  virtual Session* Find(SessionId session) = 0;
  /// `mid`: of the request, which a piggybacked response repeats.
  virtual void Send(SessionId session, Carriage carriage, std::uint16_t mid,
                    const std::string& token, const Message& message) = 0;
  virtual void Acknowledge(SessionId session, std::uint16_t mid) = 0;
  /// The longest options and payload that the client takes in one message.
  virtual std::size_t RoomOf(SessionId session) = 0;
  /// Whether the session is in use, however long nothing comes of it.
  virtual void Hold(SessionId session) = 0;
  virtual void Release(SessionId session) = 0;
};

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_OUTSIDE_H_
