// SPDX-License-Identifier: Apache-2.0
// Clients by way of libcoap 4.3.1: its listeners, sessions and messages, and the bounds that it has
// not itself.
#ifndef WAXVM_SRC_COAP_EDGE_LIBCOAP_OUTSIDE_H_
#define WAXVM_SRC_COAP_EDGE_LIBCOAP_OUTSIDE_H_

#include <coap3/coap.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "src/coap_edge/exchange_memory.h"
#include "src/coap_edge/outside.h"

namespace waxvm::coap::edge {

/// Told of what clients do.
class OutsideEvents {
 public:
  virtual ~OutsideEvents() = default;
  virtual void OnRequest(Session& session, OutsideRequest request) = 0;
  virtual void OnRejected(SessionId session, const std::string& token) = 0;
  virtual void OnClosed(SessionId session) = 0;
};

/// Thread safety: none; it must be used by one thread at a time, as libcoap.
class LibcoapOutside final : public Outside {
 public:
  /// Errors: as EdgeGateway::Start.
  static absl::StatusOr<std::unique_ptr<LibcoapOutside>> Create(const EdgeOptions& options,
                                                                OutsideEvents& events);
  ~LibcoapOutside() override;

  std::vector<SocketAddress> addresses() const { return addresses_; }
  /// Readable when Run has something to do.
  int descriptor() const;
  /// Has to be called before waiting; when Run is due whatever comes.
  TimePoint Prepare(TimePoint now);
  void Run(TimePoint now);
  void AddTo(EdgeStats& stats) const;
  /// Nobody is told anything from now on, and nobody is answered.
  void Close();

  // Outside.
  Session* Find(SessionId session) override;
  void Send(SessionId session, Carriage carriage, std::uint16_t mid, const std::string& token,
            const Message& message) override;
  void Acknowledge(SessionId session, std::uint16_t mid) override;
  std::size_t RoomOf(SessionId session) override;
  void Hold(SessionId session) override;
  void Release(SessionId session) override;

 private:
  struct Client {
    Session session;
    coap_session_t* handle = nullptr;
    bool ready = false;   ///< it has shown who it is; requests count from then on
    bool closed = false;  ///< libcoap only has not freed it yet
    std::size_t holds = 0;
    int descriptor = -1;  ///< of a TCP connection; libcoap's
    TimePoint since;
    TimePoint last;
    std::string candidate;  ///< who it says that it is, during the handshake
  };

  LibcoapOutside(const EdgeOptions& options, OutsideEvents& events);
  absl::Status Open();
  absl::Status OpenSecurity();
  absl::Status Listen(const EdgeListener& listener);
  void AddResources();

  // What libcoap calls.
  static LibcoapOutside* Of(const coap_session_t* session);
  static void OnLibcoapRequest(coap_resource_t* resource, coap_session_t* session,
                               const coap_pdu_t* request, const coap_string_t* query,
                               coap_pdu_t* response);
  static void RefuseProxying(coap_resource_t* resource, coap_session_t* session,
                             const coap_pdu_t* request, const coap_string_t* query,
                             coap_pdu_t* response);
  static int OnLibcoapEvent(coap_session_t* session, coap_event_t event);
  static void OnLibcoapNack(coap_session_t* session, const coap_pdu_t* sent,
                            coap_nack_reason_t reason, coap_mid_t mid);
  static const coap_bin_const_t* OnIdentity(coap_bin_const_t* identity, coap_session_t* session,
                                            void* self);
  static int OnRawKey(const char* name, const std::uint8_t* key, std::size_t bytes,
                      coap_session_t* session, unsigned depth, int validated, void* self);

  Client* ClientOf(const coap_session_t* session);
  Client* ReadyClient(SessionId session);
  void Opened(coap_session_t* session);
  void LimitConnections(Client& client);
  bool IsReady(Client& client);
  void Closed(Client& client);
  void Forget(coap_session_t* session);
  void Doom(const Client& client);
  void CloseDoomed();
  /// Closes connections whose clients do not read, or never said what they are.
  void WatchConnections(TimePoint now);
  bool IsAbused(const Client& client) const;
  bool Nominate(Client* client, std::string identity);

  const EdgeOptions options_;
  OutsideEvents* events_;
  coap_context_t* context_ = nullptr;
  std::vector<SocketAddress> addresses_;
  std::set<std::string> peer_keys_;  // identities
  std::string key_pem_;
  std::string offered_key_;
  coap_bin_const_t offered_ = {};
  TimePoint now_;
  TimePoint next_sweep_;
  SessionId next_session_ = 1;
  SessionId watched_ = 0;
  std::unordered_map<const coap_session_t*, std::unique_ptr<Client>> clients_;
  std::map<SessionId, Client*> by_id_;
  std::map<SessionId, Client*> connections_;  // over TCP
  std::map<std::string, std::size_t> connections_of_;
  std::vector<SessionId> doomed_;
  std::uint64_t handshakes_ = 0;
  std::uint64_t unknown_keys_ = 0;
  std::uint64_t cut_off_ = 0;
};

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_LIBCOAP_OUTSIDE_H_
