// SPDX-License-Identifier: Apache-2.0
// What a CoAP endpoint serves, and how its handlers answer.
#ifndef WAXVM_COAP_RESOURCE_H_
#define WAXVM_COAP_RESOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "waxvm/coap_link.h"
#include "waxvm/coap_owned_message.h"
#include "waxvm/socket_address.h"

namespace waxvm::coap {

/// A request as its handler sees it. Valid during the call.
struct ServedRequest {
  Code code = Code::kEmpty;
  OptionsView options;
  Bytes payload;  ///< the whole body, put together of its blocks
  SocketAddress peer;
  SocketAddress local;  ///< the address, or group, that it came to
  bool confirmable = false;
  bool multicast = false;
  bool verified = false;      ///< the peer has shown that it receives at its address
  bool notification = false;  ///< asked for by the endpoint, to tell an observer
  /// Of a proxied request: what is sent on with it. Spec: RFC 8768.
  std::optional<std::uint8_t> hop_limit = std::nullopt;
};

class AnswerContext;
class DeferredState;

/// Answers a request later, from any thread, or after the endpoint is gone, when nothing is sent.
/// Whoever destroys it unused answers 5.00. Never waits for a handler. Move-only.
/// Thread safety: none; distinct objects may be used from distinct threads.
class DeferredResponder {
 public:
  DeferredResponder();
  explicit DeferredResponder(std::unique_ptr<DeferredState> state);
  ~DeferredResponder();
  DeferredResponder(DeferredResponder&&) noexcept;
  DeferredResponder& operator=(DeferredResponder&&) noexcept;

  /// Once; later ones do nothing.
  void Send(const Message& response);

 private:
  std::unique_ptr<DeferredState> state_;
};

/// Answers a request while its handler runs; where that returns without having answered, the answer
/// is 5.00. Long bodies are sent in blocks; a 2.05 whose ETag the request has is sent as 2.03.
class Responder {
 public:
  explicit Responder(AnswerContext& context) : context_(context) {}
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;

  /// The first answer counts.
  void Send(Code code, Bytes payload = {}, std::optional<ContentFormat> format = std::nullopt);
  void Send(const Message& response);
  /// The client gets an empty acknowledgement meanwhile. An invalid one where it was answered.
  DeferredResponder Defer();
  /// No answer at all, which is for requests to a group.
  void Ignore();
  /// Whether If-Match and If-None-Match allow the request; otherwise it has been answered with
  /// 4.12. `etag`: of the resource now, empty where it has none; nullopt where it does not exist.
  /// Spec: RFC 7252 section 5.10.8.
  bool PreconditionsHold(std::optional<std::string_view> etag);

 private:
  AnswerContext& context_;
};

/// Called on the thread that runs the endpoint, one request at a time.
using ResourceHandler = absl::AnyInvocable<void(const ServedRequest&, Responder&)>;

/// A set of methods.
class Methods {
 public:
  constexpr Methods(std::initializer_list<Code> codes) {
    for (const Code code : codes) bits_ |= 1u << static_cast<unsigned>(code);
  }
  constexpr bool Has(Code code) const {
    return static_cast<unsigned>(code) < 32 && (bits_ >> static_cast<unsigned>(code) & 1) != 0;
  }

 private:
  std::uint32_t bits_ = 0;
};

struct Resource {
  /// "/a/b": one Uri-Path for each segment; nothing is decoded. "/": no path at all.
  std::string path = {};
  /// Those below the path as well. The longest path that fits is asked.
  bool prefix = false;
  /// Others get 4.05.
  Methods methods = {Code::kGet};
  /// Those that are handled only from peers that have shown that they receive at their address,
  /// whatever EndpointOptions::echo_policy says: a handler that gives something away is not called
  /// for an answer that is then found to be too long. Spec: RFC 9175 section 2.4.
  Methods verified = {};
  /// Bodies of other formats get 4.15; none: all are taken.
  std::vector<ContentFormat> consumes = {};
  /// A request that accepts none of them gets 4.06; none: the handler looks at Accept.
  std::vector<ContentFormat> produces = {};
  /// Clients are told when it changes: see Endpoint::Notify.
  bool observable = false;
  /// Answers requests to a group. Spec: RFC 7252 section 8.2.
  bool multicast = false;
  /// Whether /.well-known/core lists it, and with what besides ct and obs. Spec: RFC 6690.
  bool listed = true;
  std::vector<LinkAttribute> attributes = {};
  ResourceHandler handler = {};
};

}  // namespace waxvm::coap

#endif  // WAXVM_COAP_RESOURCE_H_
