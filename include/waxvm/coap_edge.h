// SPDX-License-Identifier: Apache-2.0
// The gateway between CoAP clients outside and CoAP endpoints inside. In a library of its own,
// waxvm_coap_edge, which is built where libcoap's GnuTLS flavour is installed.
#ifndef WAXVM_COAP_EDGE_H_
#define WAXVM_COAP_EDGE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "waxvm/coap_code.h"
#include "waxvm/coap_owned_message.h"
#include "waxvm/socket_address.h"

namespace waxvm::coap {

/// kDtls: with GnuTLS 3.7.9 a client without any key can end the process during a handshake; see
/// docs/coap-edge.md. Spec: RFC 7252, RFC 8323, RFC 7252 section 9 with DTLS 1.2 of RFC 6347.
enum class EdgeTransport : std::uint8_t { kUdp, kTcp, kDtls };

/// Port 0 picks one.
struct EdgeListener {
  EdgeTransport transport = EdgeTransport::kUdp;
  SocketAddress address;
};

/// A server inside: nobody reaches one that is not listed. The name is the host of a URI: a DNS
/// name in lower case, or an address as its text without brackets; its port is that of the address.
struct EdgeHost {
  std::string name;
  SocketAddress address;
};

/// Makes a path of the gateway that of a server inside: with path "/home" and uri
/// "coap://thermostat/sensors", /home/temp?x is coap://thermostat/sensors/temp?x.
struct EdgeMapping {
  std::string path;
  std::string uri;
};

/// Allows requests. What no rule allows is refused.
struct EdgeRule {
  /// "anonymous" (UDP and TCP), "psk:IDENTITY", "rpk:" and what RawKeyIdentity gives of the key;
  /// "psk:*", "rpk:*"; "*" is everybody.
  std::string who;
  std::string host = "*";   ///< the name of an EdgeHost, or all of them
  std::string path = "/*";  ///< inside; "/a" is that alone, "/a/*" what is below it as well
  std::vector<Code> methods = {Code::kGet};
};

/// Every bound is there against a client that takes more than its part. A source is an IPv4
/// address, or the /64 of an IPv6 one.
struct EdgeLimits {
  std::size_t sessions = 1024;              ///< of each datagram listener, while they are idle
  std::size_t tcp_connections = 512;        ///< the one that was idle longest gives way
  std::size_t tcp_per_source = 64;          ///< further ones are closed
  std::size_t handshakes = 256;             ///< of DTLS, unfinished; more are not answered
  std::chrono::seconds handshake_time{10};  ///< until a TCP connection has sent its settings
  std::chrono::seconds idle_time{120};      ///< a session that says nothing for so long is closed
  std::size_t requests = 1024;              ///< under way inside; more get 5.03
  std::size_t requests_per_source = 64;     ///< more get 4.29
  std::size_t observations = 1024;          ///< more are answered like any request
  std::size_t observations_per_source = 64;
  std::size_t max_body_bytes = std::size_t{64} << 10;   ///< of a request or response
  std::size_t max_bodies_bytes = std::size_t{8} << 20;  ///< of all that are kept for transfers
  std::size_t message_bytes = std::size_t{16}
                              << 10;  ///< over TCP; longer ones close the connection
  std::size_t unread_bytes = std::size_t{256} << 10;  ///< a TCP client that leaves more is cut off
  std::chrono::milliseconds request_time{20'000};     ///< then 5.04
  /// A request that takes longer gets an empty acknowledgement first.
  std::chrono::milliseconds ack_delay{1000};
};

struct EdgeOptions {
  std::vector<EdgeListener> listeners;
  std::vector<EdgeHost> hosts;
  std::vector<EdgeMapping> mappings = {};
  std::vector<EdgeRule> rules = {};
  /// The key of a client with this identity (at most 64 bytes, no zero), 1 to 64 bytes; nullopt:
  /// there is none. Called on the gateway's thread, must not block.
  std::function<std::optional<std::string>(std::string_view identity)> pre_shared_key = nullptr;
  /// The gateway's own key pair for raw public keys, in PEM: "EC PRIVATE KEY", or "PUBLIC KEY" and
  /// "PRIVATE KEY" (ECDSA or Ed25519). Empty: none. Spec: RFC 7250.
  std::string raw_key_pem = "";
  /// Public keys of clients, each in PEM ("PUBLIC KEY"). Others fail the handshake.
  std::vector<std::string> peer_keys_pem = {};
  /// Over UDP, whether a client has to show that it receives at its address before POST, PUT,
  /// DELETE, PATCH and iPATCH, besides before it observes and before it is sent more than three
  /// times what it sent. Spec: RFC 9175 section 2.4.
  bool verify_before_change = true;
  EdgeLimits limits = {};
};

/// Sums since the start, but for the last line.
struct EdgeStats {
  std::uint64_t requests = 0;    ///< repeated ones not counted
  std::uint64_t duplicates = 0;  ///< of datagrams; not sent inside again
  std::uint64_t forwarded = 0;   ///< sent inside
  std::uint64_t refused = 0;     ///< by the rules
  std::uint64_t challenged = 0;  ///< 4.01 with Echo
  std::uint64_t over_limit = 0;  ///< 4.13, 4.29, 5.03
  std::uint64_t timeouts = 0;    ///< 5.04
  std::uint64_t loops = 0;       ///< 5.08, besides those that libcoap answers
  std::uint64_t notifications = 0;
  std::uint64_t handshakes = 0;    ///< finished, and followed by a request
  std::uint64_t unknown_keys = 0;  ///< identities and raw keys that nobody knows
  std::uint64_t cut_off = 0;       ///< connections closed by a bound
  std::size_t sessions = 0, requests_now = 0, observations_now = 0, body_bytes = 0;
};

/// Sends requests to servers inside. An Endpoint's comes from NewInsideClient.
class InsideClient {
 public:
  struct Call {
    SocketAddress peer;
    Message request;
    bool observe = false;
    std::chrono::milliseconds timeout{0};
    std::size_t max_body_bytes = 0;
  };
  /// Told of an answer, `more` if others may follow; or of the end without one, as
  /// coap::ResponseHandler is. From any thread, also during Request.
  using Handler = absl::AnyInvocable<void(absl::StatusOr<Message> answer, bool more)>;

  virtual ~InsideClient() = default;
  /// Returns what Cancel takes, not 0. Errors: kResourceExhausted where a bound is met; the handler
  /// is not called then. Must not block for long: nobody outside is served meanwhile.
  virtual absl::StatusOr<std::uint64_t> Request(Call call, Handler handler) = 0;
  virtual void Cancel(std::uint64_t id) = 0;
};

class Endpoint;
/// The endpoint must outlive it, and has to be run by somebody else than the gateway.
std::unique_ptr<InsideClient> NewInsideClient(Endpoint& endpoint);

/// "rpk:" and the SHA-256 of a public key in PEM, as a rule names it. Errors: kInvalidArgument.
absl::StatusOr<std::string> RawKeyIdentity(std::string_view pem);

/// Listens outside, and asks inside what the rules allow: as a reverse proxy for mapped paths, as a
/// forward proxy for Proxy-Uri and Proxy-Scheme. Nothing is cached.
///
/// Threads: libcoap may be used by one thread at a time only; the gateway has one of its own, which
/// ends with it. All functions may be called from any thread. libcoap's own log, one for the
/// process, is turned off.
/// Spec: RFC 7252 section 5.7, RFC 7641, 7959, 7967, 8323, 8768, 9175.
class EdgeGateway {
 public:
  /// The client must outlive the gateway. Errors: kInvalidArgument for options that cannot be;
  /// kUnavailable where an address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<EdgeGateway>> Start(InsideClient& inside,
                                                            EdgeOptions options);
  /// Requests under way are cancelled inside and not answered. Blocks: until the thread has ended;
  /// so not in a handler that the InsideClient waits for.
  virtual ~EdgeGateway() = default;

  /// Of the listeners, in their order, with the ports that were picked.
  virtual std::vector<SocketAddress> addresses() const = 0;
  virtual EdgeStats stats() const = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_EDGE_H_
