// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/libcoap_outside.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sodium.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/coap_edge/policy.h"
#include "src/coap_edge/raw_key.h"
#include "src/coap_edge/socket_addresses.h"

namespace waxvm::coap::edge {
namespace {

constexpr std::chrono::seconds kSweepEvery{1};
// Connections that are looked at each time, besides all in the course of the rounds.
constexpr std::size_t kWatchedAtOnce = 64;
// What a client may send before its settings have been read, and once they could have been.
constexpr std::uint64_t kFirstBytes = 16'384;
constexpr std::uint64_t kSettingsBytes = 2048;
constexpr std::chrono::milliseconds kSettingsTime{200};
constexpr int kBacklog = 128;
constexpr int kUnsentMilliseconds = 30'000;
constexpr std::size_t kMaxKeyBytes = 64;
// What answers with a whole body have besides it.
constexpr std::size_t kMaxOptionBytes = 4096;

void Ignore(coap_log_t, const char*) {}

/// libcoap's own state, one for the process. It checks for itself whether it has been set up, but
/// not for two threads at once.
void StartLibcoap() {
  static const bool started = [] {
    coap_startup();
    // What peers send would be printed.
    coap_set_log_level(LOG_EMERG);
    coap_dtls_set_log_level(LOG_EMERG);
    coap_set_log_handler(Ignore);
    return true;
  }();
  static_cast<void>(started);
}

coap_proto_t ProtocolOf(EdgeTransport transport) {
  switch (transport) {
    case EdgeTransport::kUdp:
      return COAP_PROTO_UDP;
    case EdgeTransport::kTcp:
      return COAP_PROTO_TCP;
    case EdgeTransport::kDtls:
      return COAP_PROTO_DTLS;
  }
  return COAP_PROTO_NONE;
}

EdgeTransport TransportOf(coap_proto_t protocol) {
  if (protocol == COAP_PROTO_TCP) return EdgeTransport::kTcp;
  return protocol == COAP_PROTO_DTLS ? EdgeTransport::kDtls : EdgeTransport::kUdp;
}

OutsideRequest RequestOf(const coap_pdu_t* pdu) {
  OutsideRequest request;
  Message message(static_cast<Code>(coap_pdu_get_code(pdu)));
  coap_opt_iterator_t at;
  coap_option_iterator_init(pdu, &at, COAP_OPT_ALL);
  while (const coap_opt_t* option = coap_option_next(&at))
    message.Add(static_cast<OptionNumber>(at.number),
                {reinterpret_cast<const char*>(coap_opt_value(option)), coap_opt_length(option)});
  std::size_t bytes = 0;
  const std::uint8_t* payload = nullptr;
  if (coap_get_data(pdu, &bytes, &payload))
    message.SetPayload({reinterpret_cast<const char*>(payload), bytes});
  const coap_bin_const_t token = coap_pdu_get_token(pdu);
  request.token.assign(reinterpret_cast<const char*>(token.s), token.length);
  request.mid = static_cast<std::uint16_t>(coap_pdu_get_mid(pdu));
  request.confirmable = coap_pdu_get_type(pdu) == COAP_MESSAGE_CON;
  request.wire_bytes =
      4 + token.length + message.options().encoded().size() + (bytes == 0 ? 0 : bytes + 1);
  // libcoap counts hops of what is not addressed to a proxy by name; see AddResources.
  const OptionsView options = message.options();
  request.hop_counted = !options.proxy_uri() && !(options.proxy_scheme() && options.uri_host());
  request.message = std::move(message);
  return request;
}

bool Fill(coap_pdu_t* pdu, const std::string& token, const Message& message) {
  if (!coap_add_token(pdu, token.size(), reinterpret_cast<const std::uint8_t*>(token.data())))
    return false;
  for (const OptionView& option : message.options())
    if (!coap_add_option(pdu, static_cast<coap_option_num_t>(option.number), option.value.size(),
                         reinterpret_cast<const std::uint8_t*>(option.value.data())))
      return false;
  const std::string& payload = message.payload();
  return payload.empty() ||
         coap_add_data(pdu, payload.size(), reinterpret_cast<const std::uint8_t*>(payload.data()));
}

}  // namespace

LibcoapOutside::LibcoapOutside(const EdgeOptions& options, OutsideEvents& events)
    : options_(options), events_(&events) {}

absl::StatusOr<std::unique_ptr<LibcoapOutside>> LibcoapOutside::Create(const EdgeOptions& options,
                                                                       OutsideEvents& events) {
  StartLibcoap();
  std::unique_ptr<LibcoapOutside> outside(new LibcoapOutside(options, events));
  if (const absl::Status status = outside->Open(); !status.ok()) return status;
  return outside;
}

absl::Status LibcoapOutside::Open() {
  context_ = coap_new_context(nullptr);
  if (context_ == nullptr) return absl::UnavailableError("libcoap gives no context");
  const EdgeLimits& limits = options_.limits;
  coap_set_app_data(context_, this);
  coap_context_set_max_idle_sessions(context_, static_cast<unsigned>(limits.sessions));
  coap_context_set_max_handshake_sessions(context_, static_cast<unsigned>(limits.handshakes));
  coap_context_set_session_timeout(context_, static_cast<unsigned>(limits.idle_time.count()));
  // libcoap closes connections that send longer messages, before it has read them.
  coap_context_set_csm_max_message_size(context_, static_cast<std::uint32_t>(limits.message_bytes));
  coap_register_event_handler(context_, OnLibcoapEvent);
  coap_register_nack_handler(context_, OnLibcoapNack);
  AddResources();
  const bool secure =
      std::any_of(options_.listeners.begin(), options_.listeners.end(),
                  [](const EdgeListener& l) { return l.transport == EdgeTransport::kDtls; });
  if (secure) {
    if (const absl::Status status = OpenSecurity(); !status.ok()) return status;
  }
  for (const EdgeListener& listener : options_.listeners) {
    if (const absl::Status status = Listen(listener); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void LibcoapOutside::AddResources() {
  // Everything goes to one handler. A proxy resource with one empty name makes libcoap take every
  // request that names a host for one to this host, so that it neither acknowledges it at once nor
  // counts its hops. Of those that name none it does, and they are refused. The path of discovery
  // is there so that libcoap's own resource does not answer.
  const char* names[] = {""};
  coap_resource_t* const resources[] = {
      coap_resource_unknown_init2(OnLibcoapRequest, 0),
      coap_resource_init(coap_make_str_const(".well-known/core"), 0),
      coap_resource_proxy_uri_init2(RefuseProxying, 1, names, 0)};
  constexpr coap_request_t kMethods[] = {
      COAP_REQUEST_GET,   COAP_REQUEST_POST,  COAP_REQUEST_PUT,   COAP_REQUEST_DELETE,
      COAP_REQUEST_FETCH, COAP_REQUEST_PATCH, COAP_REQUEST_IPATCH};
  for (coap_resource_t* resource : resources) {
    for (const coap_request_t method : kMethods)
      coap_register_request_handler(resource, method,
                                    resource == resources[2] ? RefuseProxying : OnLibcoapRequest);
    coap_add_resource(context_, resource);
  }
}

absl::Status LibcoapOutside::OpenSecurity() {
  if (!options_.pre_shared_key && options_.raw_key_pem.empty())
    return absl::InvalidArgumentError("DTLS without pre_shared_key and raw_key_pem");
  if (options_.pre_shared_key) {
    coap_dtls_spsk_t setup = {};
    setup.version = COAP_DTLS_SPSK_SETUP_VERSION;
    setup.validate_id_call_back = OnIdentity;
    setup.id_call_back_arg = this;
    if (!coap_context_set_psk2(context_, &setup))
      return absl::UnavailableError("libcoap takes no pre-shared keys");
  }
  if (options_.raw_key_pem.empty()) return absl::OkStatus();
  for (const std::string& pem : options_.peer_keys_pem) {
    const auto identity = RawKeyIdentity(pem);
    if (!identity.ok()) return identity.status();
    peer_keys_.insert(*identity);
  }
  key_pem_ = options_.raw_key_pem;
  const bool both = key_pem_.find("BEGIN PUBLIC KEY") != std::string::npos &&
                    key_pem_.find("BEGIN PRIVATE KEY") != std::string::npos;
  if (!both && key_pem_.find("BEGIN EC PRIVATE KEY") == std::string::npos)
    return absl::InvalidArgumentError("raw_key_pem has no key pair");
  coap_dtls_pki_t setup = {};
  setup.version = COAP_DTLS_PKI_SETUP_VERSION;
  setup.verify_peer_cert = 1;
  setup.is_rpk_not_cert = 1;
  setup.validate_cn_call_back = OnRawKey;
  setup.cn_call_back_arg = this;
  setup.pki_key.key_type = COAP_PKI_KEY_PEM_BUF;
  auto& key = setup.pki_key.key.pem_buf;
  key.public_cert = key.private_key = reinterpret_cast<const std::uint8_t*>(key_pem_.c_str());
  key.public_cert_len = key.private_key_len = key_pem_.size() + 1;
  if (!coap_context_set_pki(context_, &setup))
    return absl::InvalidArgumentError("GnuTLS does not take raw_key_pem");
  return absl::OkStatus();
}

absl::Status LibcoapOutside::Listen(const EdgeListener& listener) {
  const coap_address_t address = ToLibcoap(listener.address);
  const coap_endpoint_t* const endpoint =
      coap_new_endpoint(context_, &address, ProtocolOf(listener.transport));
  if (endpoint == nullptr)
    return absl::UnavailableError(
        absl::StrFormat("cannot listen on %s", listener.address.ToText()));
  // "[::1]:5683 UDP": there is no other way to learn which port was picked.
  std::string text = coap_endpoint_str(endpoint);
  text.erase(std::min(text.find(' '), text.size()));
  auto bound = SocketAddress::Parse(text);
  if (!bound.ok()) return bound.status();
  addresses_.push_back(*bound);
  // libcoap lets five connections wait; a sixth would be a second late.
  if (listener.transport == EdgeTransport::kTcp) listen(FindListener(*bound), kBacklog);
  return absl::OkStatus();
}

LibcoapOutside::~LibcoapOutside() { Close(); }

void LibcoapOutside::Close() {
  if (context_ == nullptr) return;
  coap_register_event_handler(context_, nullptr);
  coap_register_nack_handler(context_, nullptr);
  // libcoap aborts the process where somebody still refers to a session that it frees.
  for (auto& [handle, client] : clients_)
    for (; client->holds > 0; --client->holds) coap_session_release(client->handle);
  clients_.clear();
  by_id_.clear();
  connections_.clear();
  connections_of_.clear();
  coap_free_context(std::exchange(context_, nullptr));
}

int LibcoapOutside::descriptor() const { return coap_context_get_coap_fd(context_); }

TimePoint LibcoapOutside::Prepare(TimePoint now) {
  coap_tick_t ticks;
  coap_ticks(&ticks);
  now_ = now;
  const unsigned milliseconds = coap_io_prepare_epoll(context_, ticks);
  const TimePoint due =
      milliseconds == 0 ? TimePoint::max() : now + std::chrono::milliseconds(milliseconds);
  return connections_.empty() ? due : std::min(due, next_sweep_);
}

void LibcoapOutside::Run(TimePoint now) {
  now_ = now;
  coap_io_process(context_, COAP_IO_NO_WAIT);
  WatchConnections(now);
  CloseDoomed();
}

void LibcoapOutside::AddTo(EdgeStats& stats) const {
  stats.handshakes = handshakes_;
  stats.unknown_keys = unknown_keys_;
  stats.cut_off = cut_off_;
  stats.sessions = clients_.size();
}

// Clients.

LibcoapOutside* LibcoapOutside::Of(const coap_session_t* session) {
  return static_cast<LibcoapOutside*>(coap_get_app_data(coap_session_get_context(session)));
}

LibcoapOutside::Client* LibcoapOutside::ClientOf(const coap_session_t* session) {
  const auto at = clients_.find(session);
  return at == clients_.end() ? nullptr : at->second.get();
}

LibcoapOutside::Client* LibcoapOutside::ReadyClient(SessionId session) {
  const auto at = by_id_.find(session);
  if (at == by_id_.end() || at->second->closed || !at->second->ready) return nullptr;
  // On a session that has ended libcoap would connect to the peer, as a client, to send.
  if (coap_session_get_state(at->second->handle) != COAP_SESSION_STATE_ESTABLISHED) return nullptr;
  return at->second;
}

Session* LibcoapOutside::Find(SessionId session) {
  Client* const client = ReadyClient(session);
  return client == nullptr ? nullptr : &client->session;
}

void LibcoapOutside::Opened(coap_session_t* handle) {
  // One that libcoap freed without a word: a handshake that failed at its second message.
  if (ClientOf(handle) != nullptr) Forget(handle);
  auto client = std::make_unique<Client>();
  client->handle = handle;
  client->since = client->last = now_;
  Session& session = client->session;
  session.id = next_session_++;
  session.transport = TransportOf(coap_session_get_proto(handle));
  session.peer = FromLibcoap(*coap_session_get_addr_remote(handle));
  session.source = SourceOf(session.peer);
  session.identity = kAnonymous;
  client->ready = session.transport == EdgeTransport::kUdp;
  by_id_.emplace(session.id, client.get());
  Client& added = *clients_.emplace(handle, std::move(client)).first->second;
  if (added.session.transport == EdgeTransport::kTcp) LimitConnections(added);
}

void LibcoapOutside::LimitConnections(Client& client) {
  const int descriptor =
      FindConnection(FromLibcoap(*coap_session_get_addr_local(client.handle)), client.session.peer);
  client.descriptor = descriptor;
  connections_.emplace(client.session.id, &client);
  const std::size_t own = ++connections_of_[client.session.source];
  // Without it nobody sees whether the client reads.
  if (descriptor < 0) return Doom(client);
  const int on = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnsentMilliseconds,
             sizeof kUnsentMilliseconds);
  if (own > options_.limits.tcp_per_source) return Doom(client);
  if (connections_.size() <= options_.limits.tcp_connections) return;
  const Client* oldest = &client;
  for (const auto& [id, other] : connections_)
    if (other->holds == 0 && !other->closed && other->last < oldest->last) oldest = other;
  Doom(*oldest);
}

void LibcoapOutside::Closed(Client& client) {
  if (std::exchange(client.closed, true)) return;
  events_->OnClosed(client.session.id);
  const SessionId id = client.session.id;
  if (connections_.erase(id) == 0) return;
  const auto source = connections_of_.find(client.session.source);
  if (--source->second == 0) connections_of_.erase(source);
}

void LibcoapOutside::Forget(coap_session_t* handle) {
  const auto at = clients_.find(handle);
  if (at == clients_.end()) return;
  Closed(*at->second);
  by_id_.erase(at->second->session.id);
  clients_.erase(at);
}

bool LibcoapOutside::IsReady(Client& client) {
  if (client.ready || client.session.transport != EdgeTransport::kDtls) return client.ready;
  // libcoap does not tell when a client's handshake is over, but hands requests on only then.
  if (client.candidate.empty() ||
      coap_session_get_state(client.handle) != COAP_SESSION_STATE_ESTABLISHED)
    return false;
  client.session.identity = client.candidate;
  ++handshakes_;
  return client.ready = true;
}

int LibcoapOutside::OnLibcoapEvent(coap_session_t* handle, coap_event_t event) {
  LibcoapOutside* const self = Of(handle);
  if (event == COAP_EVENT_SERVER_SESSION_NEW) {
    self->Opened(handle);
    return 0;
  }
  Client* const client = self->ClientOf(handle);
  if (client == nullptr) return 0;
  switch (event) {
    case COAP_EVENT_SERVER_SESSION_DEL:
      self->Forget(handle);
      break;
    case COAP_EVENT_SESSION_CONNECTED:
      client->ready = client->ready || client->session.transport == EdgeTransport::kTcp;
      break;
    case COAP_EVENT_DTLS_CLOSED:
    case COAP_EVENT_DTLS_ERROR:
    case COAP_EVENT_TCP_CLOSED:
    case COAP_EVENT_TCP_FAILED:
    case COAP_EVENT_SESSION_CLOSED:
    case COAP_EVENT_SESSION_FAILED:
      self->Closed(*client);
      break;
    default:
      break;
  }
  return 0;
}

// Keys.

bool LibcoapOutside::Nominate(Client* client, std::string identity) {
  // Nobody becomes somebody else by another handshake in the same session.
  if (client == nullptr || (!client->candidate.empty() && client->candidate != identity))
    return false;
  client->candidate = std::move(identity);
  return true;
}

const coap_bin_const_t* LibcoapOutside::OnIdentity(coap_bin_const_t* identity,
                                                   coap_session_t* session, void* data) {
  auto* const self = static_cast<LibcoapOutside*>(data);
  const std::string_view name(reinterpret_cast<const char*>(identity->s), identity->length);
  std::optional<std::string> key;
  if (name.size() <= kMaxKeyBytes && name != "*") key = self->options_.pre_shared_key(name);
  if (key && (key->empty() || key->size() > kMaxKeyBytes)) key = std::nullopt;
  if (!key || !self->Nominate(self->ClientOf(session), "psk:" + std::string(name))) {
    ++self->unknown_keys_;
    // The handshake goes on and fails as with a wrong key: nobody learns which identities there
    // are.
    key = std::string(16, '\0');
    randombytes_buf(key->data(), key->size());
  }
  self->offered_key_ = *std::move(key);
  self->offered_ = {self->offered_key_.size(),
                    reinterpret_cast<const std::uint8_t*>(self->offered_key_.data())};
  return &self->offered_;
}

int LibcoapOutside::OnRawKey(const char*, const std::uint8_t* key, std::size_t bytes,
                             coap_session_t* session, unsigned, int, void* data) {
  auto* const self = static_cast<LibcoapOutside*>(data);
  // A certificate gets here as well, in DER like a key: its hash is nobody's.
  const std::string identity = IdentityOfKey(key, bytes);
  if (self->peer_keys_.count(identity) != 0 && self->Nominate(self->ClientOf(session), identity))
    return 1;
  ++self->unknown_keys_;
  return 0;
}

// Messages.

void LibcoapOutside::OnLibcoapRequest(coap_resource_t*, coap_session_t* handle,
                                      const coap_pdu_t* pdu, const coap_string_t*,
                                      coap_pdu_t* response) {
  LibcoapOutside* const self = Of(handle);
  // libcoap drops an empty response that is no acknowledgement: the answer follows by Send.
  coap_pdu_set_code(response, COAP_EMPTY_CODE);
  coap_pdu_set_type(response, COAP_MESSAGE_NON);
  Client* const client = self->ClientOf(handle);
  if (client == nullptr || client->closed || coap_is_mcast(coap_session_get_addr_local(handle)))
    return;
  client->last = self->now_;
  // Attack: requests before the settings of a connection, whose answers libcoap would queue.
  if (!self->IsReady(*client)) return self->Doom(*client);
  self->events_->OnRequest(client->session, RequestOf(pdu));
  if (client->descriptor >= 0 && self->IsAbused(*client)) self->Doom(*client);
}

void LibcoapOutside::RefuseProxying(coap_resource_t*, coap_session_t*, const coap_pdu_t*,
                                    const coap_string_t*, coap_pdu_t* response) {
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_PROXYING_NOT_SUPPORTED);
}

void LibcoapOutside::OnLibcoapNack(coap_session_t* handle, const coap_pdu_t* sent,
                                   coap_nack_reason_t, coap_mid_t) {
  LibcoapOutside* const self = Of(handle);
  const Client* const client = self->ClientOf(handle);
  if (client == nullptr || sent == nullptr) return;
  const coap_bin_const_t token = coap_pdu_get_token(sent);
  self->events_->OnRejected(client->session.id,
                            {reinterpret_cast<const char*>(token.s), token.length});
}

void LibcoapOutside::Send(SessionId session, Carriage carriage, std::uint16_t mid,
                          const std::string& token, const Message& message) {
  const Client* const client = ReadyClient(session);
  if (client == nullptr) return;
  const auto code = static_cast<coap_pdu_code_t>(message.code());
  coap_pdu_t* pdu = nullptr;
  if (carriage == Carriage::kPiggybacked) {
    pdu = coap_pdu_init(COAP_MESSAGE_ACK, code, mid, coap_session_max_pdu_size(client->handle));
  } else {
    const auto type = carriage == Carriage::kConfirmable ? COAP_MESSAGE_CON : COAP_MESSAGE_NON;
    pdu = coap_new_pdu(type, code, client->handle);
  }
  if (pdu == nullptr) return;
  // What does not fit a client's own bound cannot be said to it.
  if (!Fill(pdu, token, message)) return coap_delete_pdu(pdu);
  coap_send(client->handle, pdu);
}

void LibcoapOutside::Acknowledge(SessionId session, std::uint16_t mid) {
  const Client* const client = ReadyClient(session);
  if (client == nullptr || !client->session.is_datagram()) return;
  coap_pdu_t* const pdu = coap_pdu_init(COAP_MESSAGE_ACK, COAP_EMPTY_CODE, mid, 0);
  if (pdu != nullptr) coap_send(client->handle, pdu);
}

std::size_t LibcoapOutside::RoomOf(SessionId session) {
  const Client* const client = ReadyClient(session);
  if (client == nullptr) return 0;
  return std::min(coap_session_max_pdu_size(client->handle),
                  options_.limits.max_body_bytes + kMaxOptionBytes);
}

void LibcoapOutside::Hold(SessionId session) {
  const auto at = by_id_.find(session);
  if (at == by_id_.end()) return;
  ++at->second->holds;
  coap_session_reference(at->second->handle);
}

void LibcoapOutside::Release(SessionId session) {
  const auto at = by_id_.find(session);
  if (at == by_id_.end() || at->second->holds == 0) return;
  --at->second->holds;
  coap_session_release(at->second->handle);
}

// Connections.

void LibcoapOutside::Doom(const Client& client) { doomed_.push_back(client.session.id); }

void LibcoapOutside::CloseDoomed() {
  for (const SessionId id : std::exchange(doomed_, {})) {
    const auto at = by_id_.find(id);
    if (at == by_id_.end() || at->second->closed) continue;
    ++cut_off_;
    // It is freed when libcoap looks for sessions that have ended.
    coap_session_t* const handle = at->second->handle;
    coap_session_reference(handle);
    coap_session_disconnected(handle, COAP_NACK_NOT_DELIVERABLE);
    coap_session_release(handle);
  }
}

bool LibcoapOutside::IsAbused(const Client& client) const {
  // Attack: a client that asks for answers, libcoap's own errors included, before its settings,
  // when libcoap keeps them all, in a list that it walks for each.
  if (!client.ready) {
    tcp_info info = {};
    socklen_t bytes = sizeof info;
    if (getsockopt(client.descriptor, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return false;
    // Requests may follow the settings at once, before libcoap has read these.
    const bool read = now_ - client.since > kSettingsTime;
    return info.tcpi_bytes_received > (read ? kSettingsBytes : kFirstBytes);
  }
  // Attack: a client that asks and does not read. libcoap queues without bound what the kernel does
  // not take any more; so a connection ends before there is a queue.
  int unread = 0;
  if (ioctl(client.descriptor, SIOCOUTQ, &unread) != 0) return false;
  if (static_cast<std::size_t>(unread) > options_.limits.unread_bytes) return true;
  pollfd writable = {client.descriptor, POLLOUT, 0};
  return poll(&writable, 1, 0) == 0;
}

void LibcoapOutside::WatchConnections(TimePoint now) {
  auto at = connections_.upper_bound(watched_);
  for (std::size_t i = std::min(kWatchedAtOnce, connections_.size()); i > 0; --i, ++at) {
    if (at == connections_.end()) at = connections_.begin();
    watched_ = at->first;
    if (IsAbused(*at->second)) Doom(*at->second);
  }
  if (now < next_sweep_) return;
  next_sweep_ = now + kSweepEvery;
  for (const auto& [id, client] : connections_)
    if (!client->ready && now - client->since > options_.limits.handshake_time) Doom(*client);
}

}  // namespace waxvm::coap::edge
