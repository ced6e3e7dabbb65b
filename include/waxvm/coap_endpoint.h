// SPDX-License-Identifier: Apache-2.0
// Where CoAP requests are served and sent, on any datagram socket.
#ifndef WAXVM_COAP_ENDPOINT_H_
#define WAXVM_COAP_ENDPOINT_H_

#include <array>
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
#include "waxvm/coap_link.h"
#include "waxvm/coap_owned_message.h"
#include "waxvm/coap_resource.h"
#include "waxvm/coap_transmission.h"
#include "waxvm/datagram.h"

namespace waxvm::coap {

/// A response, or one of several. Valid during the call that it is handed to.
struct Response {
  SocketAddress peer;
  Code code = Code::kEmpty;
  OptionsView options;
  Bytes payload;  ///< the whole body, put together of its blocks
  /// Further ones may follow: notifications, or the responses of a group's other members.
  bool more = false;
};

/// The same, kept.
struct Reply {
  SocketAddress peer;
  Message message;
};

/// Told of every response, and of the end without one: kDeadlineExceeded (none came, or no further
/// one: a request to a group ends like that), kAborted (reset by the peer), kUnavailable (the
/// network says that nobody is there), kCancelled (the endpoint is gone), kResourceExhausted (more
/// than `max_body_bytes`), kInvalidArgument (a response that makes no sense). Called on the thread
/// that runs the endpoint; may call the endpoint.
using ResponseHandler = absl::AnyInvocable<void(const absl::StatusOr<Response>&)>;

/// Of a request that was sent, for Cancel.
struct RequestId {
  std::uint64_t value = 0;
  bool operator==(const RequestId&) const = default;
};

struct RequestOptions {
  bool confirmable = true;
  /// From when it is sent; 0: as TransmissionParameters say. A group is listened to for that long.
  std::chrono::milliseconds timeout{0};
  /// The address that it is sent from, where the socket has several.
  SocketAddress local = {};
  /// Asks for notifications as well: the handler is told of each that is newer than those before,
  /// and the registration is renewed when none came for longer than its Max-Age. Spec: RFC 7641.
  bool observe = false;
};

/// When a peer has to show that it receives at its address, before its request is handled.
/// Spec: RFC 9175 section 2.4.
enum class EchoPolicy : std::uint8_t {
  /// Where the answer would be much longer than the request (TransmissionParameters::echo), and
  /// before it becomes an observer.
  kAmplification,
  kUnsafe,  ///< also before POST, PUT, DELETE, PATCH and iPATCH
  kAlways,
};

/// Every bound is there against a peer that asks for more than its part.
struct EndpointOptions {
  TransmissionParameters transmission = {};
  LayerLimits limits = {};
  EchoPolicy echo_policy = EchoPolicy::kAmplification;
  /// Requests a second that one peer may have handled; more get 4.29 with the time to wait. 0: any
  /// number. Spec: RFC 8516.
  double max_requests_per_second = 0;
  std::uint32_t request_burst = 32;
  /// The largest blocks that bodies are sent and asked for in: 0 to 6 are 16 to 1024 bytes.
  std::uint8_t block_exponent = 6;
  std::size_t max_body_bytes = std::size_t{1} << 20;  ///< of one request or response that comes
  /// Of all bodies that come in blocks, and of all that are kept until they have been fetched.
  std::size_t max_bodies_bytes = std::size_t{16} << 20;
  std::size_t max_observers = 4096;
  std::size_t max_observers_per_peer = 64;
  /// Every so many notifications, and after so long, one is confirmable, to find out whether its
  /// observer is still there. Spec: RFC 7641 section 4.5, which wants one each 24 hours.
  std::uint32_t confirm_every = 32;
  std::chrono::seconds confirm_after{3600};
  std::size_t batch = 64;  ///< datagrams that are taken at a time
  /// Time never goes back; empty: std::chrono::steady_clock.
  std::function<std::chrono::steady_clock::time_point()> clock = nullptr;
  /// Message ids, tokens and delays come from it; nullopt: from the system's generator. Only tests
  /// set it.
  std::optional<std::array<std::uint8_t, 32>> seed = std::nullopt;
};

struct EndpointStats {
  LayerStatistics messages;
  DatagramStats datagrams;
  std::uint64_t handled = 0;            ///< requests that a handler was called for
  std::uint64_t rate_limited = 0;       ///< got 4.29
  std::uint64_t challenged = 0;         ///< by the Echo policy
  std::uint64_t notifications = 0;      ///< sent
  std::uint64_t observers_refused = 0;  ///< by a bound; the request was answered
  std::uint64_t truncated = 0;          ///< datagrams longer than the socket takes: dropped
  std::uint64_t unsent = 0;             ///< datagrams that the socket had no room for
  std::size_t observers = 0;            ///< now
  std::size_t requests = 0;             ///< under way, now
  std::size_t body_bytes = 0;           ///< kept for transfers in blocks, now
};

/// Serves and sends on one socket.
///
/// Threads: it is run by whoever calls Poll, one thread at a time, or by a thread of its own from
/// Start on. Handlers run on that thread, one at a time, and may call everything but Poll, Start
/// and Ask, and not destroy it. All functions may be called from any thread, and wait while a
/// handler runs: of two endpoints on two threads, the handlers of one may call the other, or those
/// of the other the one; DeferredResponder::Send waits for nobody.
/// Spec: RFC 7252, 6690, 7641, 7959, 7967, 8132, 8516, 8768, 8974, 9175.
class Endpoint {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Errors: kInvalidArgument for options that cannot be.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Create(std::unique_ptr<DatagramSocket> socket,
                                                          const EndpointOptions& options = {});
  /// Handlers of requests that are under way are told kCancelled, and can ask nothing more. Blocks:
  /// until its own thread, if any, has ended. Nobody may be in Poll or Ask.
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Running.

  /// Handles what has come; where nothing has, what comes next. May return early. Blocks: until
  /// then, and until `deadline` at the utmost. Errors: kFailedPrecondition where another thread
  /// runs it; those of the socket.
  absl::Status Poll(TimePoint deadline);
  /// Runs it on a thread of its own from now on. Errors: kFailedPrecondition where it is running.
  absl::Status Start();
  /// For an event loop: Poll is due when this is readable, and at next_deadline(), whatever comes
  /// first; the first time, before either is looked at. -1: the socket has none.
  int descriptor() const;
  TimePoint next_deadline() const;
  SocketAddress local_address() const;

  // Serving.

  /// Errors: kAlreadyExists for the same path, kInvalidArgument.
  absl::Status Serve(Resource resource);
  /// Its observers are told 4.04. The handler is not running any more when this returns, unless it
  /// is the caller. Errors: kNotFound.
  absl::Status Remove(std::string_view path);
  /// What answers requests with Proxy-Uri or Proxy-Scheme, whose Hop-Limit has been checked and is
  /// in ServedRequest::hop_limit; without one they get 5.05. Spec: RFC 7252 section 5.7, RFC 8768.
  void ServeProxied(ResourceHandler handler);
  /// The resource at `path` has changed: its handler is asked, for each observer, for what they are
  /// told. Returns how many there are.
  std::size_t Notify(std::string_view path);
  /// The same with one message for all of them; of another class than 2, it ends the observations.
  std::size_t Notify(std::string_view path, const Message& message);
  /// Requests to this group are answered where Resource::multicast is set. Spec: RFC 7252
  /// section 8.
  absl::Status Join(const Address& group, std::uint32_t interface);
  absl::Status Leave(const Address& group, std::uint32_t interface);

  // Asking.

  /// Sends a request, in blocks where it is long, and tells `handler` what comes of it. To a group
  /// it is non-confirmable, whatever the options say, its body fits into one block, and of a long
  /// answer the handler gets the first block: the rest is to be had from Response::peer. With a
  /// No-Response option that wants nothing, the handler is never called unless it fails to be sent.
  /// A Block2 option of number 0 asks for blocks of that size, one of another number for that block
  /// alone. Errors: kInvalidArgument; kResourceExhausted where a bound is met; the handler is not
  /// called then.
  absl::StatusOr<RequestId> Request(const SocketAddress& peer, const Message& message,
                                    ResponseHandler handler, const RequestOptions& options = {});
  /// Its handler is not called any more. An observation is ended by rejecting its next
  /// notification. False: it has ended.
  bool Cancel(RequestId id);
  /// Sends a request and waits for its response; where no thread runs the endpoint, this one does
  /// meanwhile. Blocks. Errors: as ResponseHandler; kFailedPrecondition within a handler;
  /// kInvalidArgument where No-Response wants nothing.
  absl::StatusOr<Reply> Ask(const SocketAddress& peer, const Message& message,
                            const RequestOptions& options = {});

  EndpointStats stats() const;

 private:
  class Core;
  explicit Endpoint(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_ENDPOINT_H_
