// SPDX-License-Identifier: Apache-2.0
#include "waxvm/messaging_coap.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/messaging_coap/transport_state.h"

namespace waxvm {
namespace {

using coap::Code;
using coap::ContentFormat;
using coap::Message;
using coap::OptionNumber;
using coap::Responder;
using coap::ServedRequest;
using messaging_coap::State;
using messaging_coap::Unsent;

/// One queue that is full is no reason to keep a peer from all others for long.
constexpr std::uint32_t kRetryAfterSeconds = 1;
constexpr std::uint8_t kNothingWanted = 2 | 8 | 16;  // Spec: RFC 7967 section 2.1
constexpr std::size_t kETagBytes = 8;

Code CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return Code::kChanged;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:        // of the future
    case absl::StatusCode::kDeadlineExceeded:  // of the past
      return Code::kBadRequest;
    case absl::StatusCode::kUnauthenticated:
      return Code::kUnauthorized;
    case absl::StatusCode::kPermissionDenied:
      return Code::kForbidden;
    case absl::StatusCode::kNotFound:
      return Code::kNotFound;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return Code::kConflict;
    case absl::StatusCode::kResourceExhausted:
      return Code::kTooManyRequests;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kFailedPrecondition:
      return Code::kServiceUnavailable;
    default:
      return Code::kInternalServerError;
  }
}

absl::StatusCode StatusCodeOf(Code code) {
  switch (code) {
    case Code::kUnauthorized:
      return absl::StatusCode::kUnauthenticated;
    case Code::kForbidden:
      return absl::StatusCode::kPermissionDenied;
    case Code::kNotFound:
      return absl::StatusCode::kNotFound;
    case Code::kConflict:
      return absl::StatusCode::kAlreadyExists;
    case Code::kTooManyRequests:
      return absl::StatusCode::kResourceExhausted;
    case Code::kServiceUnavailable:
      return absl::StatusCode::kUnavailable;
    default:
      return coap::ClassOf(code) == 4 ? absl::StatusCode::kInvalidArgument
                                      : absl::StatusCode::kInternal;
  }
}

/// What became of a request that was to be answered with 2.04.
absl::Status OutcomeOf(const absl::StatusOr<coap::Response>& response) {
  if (!response.ok()) return response.status();
  if (response->code == Code::kChanged) return absl::OkStatus();
  return absl::Status(StatusCodeOf(response->code),
                      absl::StrFormat("the peer answered %s", coap::ToText(response->code)));
}

/// Without a word: the answer is never longer than what it answers, whoever that was sent by.
void Answer(const absl::Status& status, Responder& responder) {
  Message message(CodeOf(status));
  if (message.code() == Code::kTooManyRequests || message.code() == Code::kServiceUnavailable)
    message.SetMaxAge(kRetryAfterSeconds);
  responder.Send(message);
}

/// From a peer that has shown that it receives at its address: its share is its own.
void OnPost(State& state, const ServedRequest& request, Responder& responder) {
  if (request.payload.size() > state.options.max_envelope_bytes) {
    state.Refused();
    return responder.Send(Code::kRequestEntityTooLarge);
  }
  const std::string_view bytes = coap::ToText(request.payload);
  Answer(state.Deliver(std::string(bytes), request.peer.address), responder);
}

/// To a group, from whoever claims to be there: all of them have one share together.
void OnGroupPost(State& state, const ServedRequest& request, Responder& responder) {
  if (!request.multicast) return responder.Send(Code::kMethodNotAllowed);
  responder.Ignore();
  const std::string_view bytes = coap::ToText(request.payload);
  // Attack: an envelope to an engine, so that a queue fills that nobody verified the senders of.
  const auto destination = DestinationOf(bytes);
  if (bytes.size() > state.options.max_envelope_bytes || !destination.ok() ||
      destination->kind != DestinationKind::kTopic)
    return state.Refused();
  (void)state.Deliver(std::string(bytes), Address());
}

void OnGet(State& state, std::size_t segments, const ServedRequest& request, Responder& responder) {
  // Each member of a group would answer.
  if (request.multicast) return responder.Ignore();
  std::vector<std::string_view> path;
  request.options.ForEach(OptionNumber::kUriPath,
                          [&](std::string_view segment) { path.push_back(segment); });
  if (path.size() != segments + 1) return responder.Send(Code::kNotFound);
  const auto topic = PublicKey::Parse(path.back());
  if (!topic.ok()) return responder.Send(Code::kBadRequest);
  absl::StatusOr<std::string> envelope = Unavailable("nobody is served here any more");
  {
    MutexLock lock(state.hub_mutex);
    if (state.hub != nullptr) envelope = state.hub->Retained(*topic);
  }
  if (!envelope.ok()) return Answer(envelope.status(), responder);
  Message message(Code::kContent);
  // Of its signature, so that the blocks of two messages are never put together.
  message.AddETag(std::string_view(*envelope).substr(envelope->size() - kETagBytes));
  message.SetMaxAge(0);
  message.SetPayload(ContentFormat::kOctetStream, *std::move(envelope));
  responder.Send(message);
}

void SendNext(const std::shared_ptr<State>& state, const SocketAddress& peer);

void OnAnswer(const std::shared_ptr<State>& state, const SocketAddress& peer, const PublicKey& to,
              const absl::StatusOr<coap::Response>& response) {
  const absl::Status status = OutcomeOf(response);
  if (status.ok()) {
    ++state->counters.accepted;
  } else {
    state->Tell(to, status);
  }
  // Who did not answer this one would be waited for as long for each of the others.
  if (!response.ok())
    for (const Unsent& unsent : state->GiveUp(peer)) state->Tell(unsent.to, status);
  SendNext(state, peer);
}

/// Has the endpoint send one. Errors: as Endpoint::Request.
absl::Status SendOne(const std::shared_ptr<State>& state, const SocketAddress& peer,
                     Unsent unsent) {
  const std::size_t bytes = unsent.envelope.size();
  Message message = Message(Code::kPost).SetPath(state->options.path);
  message.SetPayload(ContentFormat::kOctetStream, std::move(unsent.envelope));
  const auto id = state->endpoint.Request(
      peer, message,
      [state, peer, bytes, to = unsent.to](const absl::StatusOr<coap::Response>& response) {
        state->Free(peer, bytes);
        OnAnswer(state, peer, to, response);
      });
  if (!id.ok()) state->Free(peer, bytes);
  return id.status();
}

void SendNext(const std::shared_ptr<State>& state, const SocketAddress& peer) {
  while (std::optional<Unsent> next = state->Next(peer)) {
    const PublicKey to = next->to;
    const absl::Status status = SendOne(state, peer, *std::move(next));
    if (status.ok()) return;
    state->Tell(to, status);
  }
}

class Transport final : public CoapTransport {
 public:
  Transport(coap::Endpoint* endpoint, const CoapTransportOptions& options)
      : endpoint_(*endpoint),
        state_(std::make_shared<State>(*endpoint, options)),
        topic_path_(options.path + "/t") {}
  ~Transport() override {
    Stop();
    state_->GiveUpAll();
  }

  absl::Status Send(const PublicKey& to, std::string envelope) override {
    WAXVM_ASSIGN_OR_RETURN(const SocketAddress peer, state_->options.find(to));
    return Post(to, peer, std::move(envelope));
  }

  absl::Status Publish(const PublicKey& topic, const Address& group,
                       std::string envelope) override {
    absl::Status status;
    for (const SocketAddress& peer : PeersOf(topic)) status.Update(Post(topic, peer, envelope));
    if (state_->options.multicast_interface) status.Update(PostToGroup(group, std::move(envelope)));
    return status;
  }

  absl::Status Join(const PublicKey& topic, const Address& group) override {
    if (const auto interface = state_->options.multicast_interface)
      WAXVM_RETURN_IF_ERROR(endpoint_.Join(group, *interface));
    // Whoever cannot be asked is no reason not to hear the others.
    for (const SocketAddress& peer : PeersOf(topic)) (void)FetchRetained(topic, peer);
    return absl::OkStatus();
  }
  void Leave(const PublicKey&, const Address& group) override {
    if (const auto interface = state_->options.multicast_interface)
      (void)endpoint_.Leave(group, *interface);
  }

  absl::Status Serve(MessageHub* hub) override;
  void Stop() override;
  absl::Status FetchRetained(const PublicKey& topic, const SocketAddress& peer) override;
  CoapTransportStats stats() const override;

 private:
  std::vector<SocketAddress> PeersOf(const PublicKey& topic) const {
    return state_->options.topic_peers ? state_->options.topic_peers(topic)
                                       : std::vector<SocketAddress>();
  }
  absl::Status Post(const PublicKey& to, const SocketAddress& peer, std::string envelope);
  absl::Status PostToGroup(const Address& group, std::string envelope);
  absl::Status ServeEngines();
  absl::Status ServeTopics();
  /// The hub, whom nobody calls any more then. False: there was none.
  bool Forget();

  coap::Endpoint& endpoint_;
  const std::shared_ptr<State> state_;
  const std::string topic_path_;
};

absl::Status Transport::Post(const PublicKey& to, const SocketAddress& peer, std::string envelope) {
  if (peer.is_multicast()) return InvalidArgument("%s is a group", peer.ToText());
  WAXVM_ASSIGN_OR_RETURN(const bool idle, state_->Queue(peer, to, std::move(envelope)));
  absl::Status status;
  if (idle) {
    // What is refused at once is no failure to be told later; others may wait behind it by now.
    status = SendOne(state_, peer, *state_->Next(peer));
    if (!status.ok()) SendNext(state_, peer);
  }
  if (status.ok()) ++state_->counters.sent;
  return status;
}

absl::Status Transport::PostToGroup(const Address& group, std::string envelope) {
  Message message = Message(Code::kPost).SetPath(topic_path_).SetNoResponse(kNothingWanted);
  message.SetPayload(ContentFormat::kOctetStream, std::move(envelope));
  const SocketAddress to = {.address = group,
                            .port = state_->options.multicast_port,
                            .zone = *state_->options.multicast_interface};
  WAXVM_RETURN_IF_ERROR(endpoint_
                            .Request(to, message, [](const absl::StatusOr<coap::Response>&) {},
                                     {.confirmable = false})
                            .status());
  ++state_->counters.multicast;
  return absl::OkStatus();
}

absl::Status Transport::FetchRetained(const PublicKey& topic, const SocketAddress& peer) {
  const Message message = Message(Code::kGet)
                              .SetPath(topic_path_ + "/" + topic.ToBase32())
                              .SetAccept(ContentFormat::kOctetStream);
  return endpoint_
      .Request(peer, message,
               [state = state_](const absl::StatusOr<coap::Response>& response) {
                 if (!response.ok() || response->code != Code::kContent) return;
                 if (response->payload.size() > state->options.max_envelope_bytes)
                   return state->Refused();
                 (void)state->Deliver(std::string(coap::ToText(response->payload)),
                                      response->peer.address);
               })
      .status();
}

absl::Status Transport::Serve(MessageHub* hub) {
  {
    MutexLock lock(state_->hub_mutex);
    if (state_->hub != nullptr) return FailedPrecondition("a hub is served already");
    state_->hub = hub;
    state_->stopped = false;
  }
  absl::Status status = ServeEngines();
  if (status.ok()) {
    status = ServeTopics();
    if (!status.ok()) (void)endpoint_.Remove(state_->options.path);
  }
  if (!status.ok()) Forget();
  return status;
}

absl::Status Transport::ServeEngines() {
  return endpoint_.Serve(
      {.path = state_->options.path,
       .methods = {Code::kPost},
       // Attack: envelopes in the name of another address, which fill what it has a share of.
       .verified = {Code::kPost},
       .consumes = {ContentFormat::kOctetStream},
       .attributes = {{"rt", "waxvm.engine"}},
       .handler = [state = state_](const ServedRequest& request, Responder& responder) {
         OnPost(*state, request, responder);
       }});
}

absl::Status Transport::ServeTopics() {
  const auto segments =
      static_cast<std::size_t>(std::count(topic_path_.begin(), topic_path_.end(), '/'));
  return endpoint_.Serve(
      {.path = topic_path_,
       .prefix = true,
       .methods = {Code::kGet, Code::kPost},
       .consumes = {ContentFormat::kOctetStream},
       .produces = {ContentFormat::kOctetStream},
       .multicast = true,
       .attributes = {{"rt", "waxvm.topic"}},
       .handler = [state = state_, segments](const ServedRequest& request, Responder& responder) {
         if (request.code == Code::kGet) return OnGet(*state, segments, request, responder);
         OnGroupPost(*state, request, responder);
       }});
}

bool Transport::Forget() {
  MutexLock lock(state_->hub_mutex);
  state_->stopped = true;
  return std::exchange(state_->hub, nullptr) != nullptr;
}

void Transport::Stop() {
  // Without a hub, what is at these paths is another's.
  if (!Forget()) return;
  (void)endpoint_.Remove(state_->options.path);
  (void)endpoint_.Remove(topic_path_);
}

CoapTransportStats Transport::stats() const {
  const State::Counters& counters = state_->counters;
  MutexLock lock(state_->lines_mutex);
  return {.sent = counters.sent,
          .accepted = counters.accepted,
          .failed = counters.failed,
          .multicast = counters.multicast,
          .received = counters.received,
          .refused = counters.refused,
          .unsent_bytes = state_->unsent_bytes};
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoapTransport>> CoapTransport::Create(
    coap::Endpoint* endpoint, const CoapTransportOptions& options) {
  if (!options.find) return InvalidArgument("nobody says where engines are");
  if (options.path.size() < 2 || options.path.front() != '/' || options.path.back() == '/')
    return InvalidArgument("\"%s\" is no path of a resource", options.path);
  if (options.max_envelope_bytes == 0 || options.max_unsent_bytes == 0 ||
      options.max_unsent_bytes_per_peer == 0)
    return InvalidArgument("a bound of 0 lets nothing pass");
  return std::make_unique<Transport>(endpoint, options);
}

}  // namespace waxvm
