// SPDX-License-Identifier: Apache-2.0
// Exchanges between two libcoap contexts, over the same sockets and peers. libcoap is not
// thread-safe: the server is a process of its own. Its own client sessions have a socket each, so
// the client's come about as those of a server do: by a ping from each peer to the one socket,
// whereupon the client sends its requests on them.
#include <coap3/coap.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "benchmarks/coap_cases.h"
#include "benchmarks/pin.h"
#include "src/base/status.h"
#include "waxvm/datagram.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStepMs = 100;

coap_address_t AnyAddress(std::uint16_t port) {
  coap_address_t address;
  coap_address_init(&address);
  address.addr.sin6.sin6_family = AF_INET6;
  address.addr.sin6.sin6_port = htons(port);
  address.size = sizeof address.addr.sin6;
  return address;
}

void Answer(coap_resource_t*, coap_session_t*, const coap_pdu_t*, const coap_string_t*,
            coap_pdu_t* response) {
  static constexpr std::uint8_t kPayload[kPayloadBytes] = {};
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
  coap_add_data(response, sizeof kPayload, kPayload);
}

[[noreturn]] void Serve(std::uint16_t port) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  PinTo(/*last=*/true);
  const coap_address_t address = AnyAddress(port);
  coap_context_t* const context = coap_new_context(nullptr);
  if (context == nullptr || coap_new_endpoint(context, &address, COAP_PROTO_UDP) == nullptr)
    _exit(1);
  coap_resource_t* const resource = coap_resource_init(coap_make_str_const("t"), 0);
  coap_register_request_handler(resource, COAP_REQUEST_GET, Answer);
  coap_add_resource(context, resource);
  for (;;) coap_io_process(context, kStepMs);
}

class LibcoapLoad final : public ExchangeLoad {
 public:
  absl::Status Start(bool confirmable, std::size_t pairs, std::size_t in_flight) {
    confirmable_ = confirmable;
    pairs_ = pairs;
    in_flight_ = in_flight;
    coap_startup();
    coap_set_log_level(static_cast<coap_log_t>(0));
    context_ = coap_new_context(nullptr);
    if (context_ == nullptr) return Unavailable("libcoap has no context");
    coap_set_app_data(context_, this);
    coap_register_event_handler(context_, [](coap_session_t* session, coap_event_t event) {
      if (event == COAP_EVENT_SERVER_SESSION_NEW) Self(session)->sessions_.push_back(session);
      return 0;
    });
    coap_register_response_handler(context_, [](coap_session_t* session, const coap_pdu_t*,
                                                const coap_pdu_t* received, coap_mid_t) {
      Self(session)->OnResponse(coap_pdu_get_code(received));
      return COAP_RESPONSE_OK;
    });
    WAXVM_ASSIGN_OR_RETURN(const std::uint16_t server_port, MakeSessions());
    server_ = fork();
    if (server_ < 0) return ErrnoStatus(errno, "fork");
    if (server_ == 0) Serve(server_port);
    // What is sent before the server listens would be lost.
    usleep(200'000);
    PinTo(/*last=*/false);
    return absl::OkStatus();
  }
  ~LibcoapLoad() override {
    if (server_ > 0) {
      kill(server_, SIGKILL);
      waitpid(server_, nullptr, 0);
    }
    if (context_ != nullptr) coap_free_context(context_);
  }

  absl::Status Run(std::size_t count) override {
    left_ = static_cast<std::ptrdiff_t>(count);
    while (on_their_way_ < in_flight_ && status_.ok()) Ask();
    std::ptrdiff_t before = left_;
    Clock::time_point progress = Clock::now();
    while (left_ > 0 && status_.ok()) {
      if (coap_io_process(context_, kStepMs) < 0) return Unavailable("coap_io_process failed");
      if (left_ == before && Clock::now() - progress < std::chrono::seconds(5)) continue;
      if (left_ == before) return absl::DeadlineExceededError("a response was lost");
      before = left_;
      progress = Clock::now();
    }
    return status_;
  }

  /// The server's is another process's.
  void Count(benchmark::State& state) override { state.counters.erase("answering_cpu_us"); }

 private:
  static LibcoapLoad* Self(coap_session_t* session) {
    return static_cast<LibcoapLoad*>(coap_get_app_data(coap_session_get_context(session)));
  }

  /// A session for each pair, by a ping from where the server will be; the server's port.
  absl::StatusOr<std::uint16_t> MakeSessions() {
    WAXVM_ASSIGN_OR_RETURN(auto port_finder, NewUdpSocket({}));
    const std::uint16_t client_port = port_finder->local_address().port;
    port_finder.reset();
    const coap_address_t address = AnyAddress(client_port);
    if (coap_new_endpoint(context_, &address, COAP_PROTO_UDP) == nullptr)
      return Unavailable("libcoap has no endpoint");
    WAXVM_ASSIGN_OR_RETURN(auto pinger, NewUdpSocket({}));
    static constexpr std::byte kPing[4] = {std::byte{0x40}, std::byte{0}, std::byte{1},
                                           std::byte{1}};
    for (std::size_t pair = 0; pair < pairs_; ++pair) {
      const Datagram ping = {.peer = ClientAddress(pair, client_port),
                             .local = ServerAddress(pair, 0),
                             .bytes = kPing};
      WAXVM_RETURN_IF_ERROR(pinger->Send({&ping, 1}).status());
      for (int tries = 0; sessions_.size() <= pair && tries < 100; ++tries)
        coap_io_process(context_, kStepMs);
      if (sessions_.size() != pair + 1)
        return Unavailable("libcoap made %d sessions of %d pings", sessions_.size(), pair + 1);
      coap_session_set_nstart(sessions_.back(), 64);
    }
    return pinger->local_address().port;
  }

  void Ask() {
    coap_session_t* const session = sessions_[next_++ % pairs_];
    ++on_their_way_;
    coap_pdu_t* const request = coap_new_pdu(confirmable_ ? COAP_MESSAGE_CON : COAP_MESSAGE_NON,
                                             COAP_REQUEST_CODE_GET, session);
    std::uint8_t token[8];
    std::size_t token_bytes = 0;
    coap_session_new_token(session, &token_bytes, token);
    if (request == nullptr || coap_add_token(request, token_bytes, token) == 0 ||
        coap_add_option(request, COAP_OPTION_URI_PATH, 1,
                        reinterpret_cast<const std::uint8_t*>("t")) == 0 ||
        coap_send(session, request) == COAP_INVALID_MID)
      status_ = Unavailable("libcoap could not send a request");
  }
  void OnResponse(coap_pdu_code_t code) {
    if (code != COAP_RESPONSE_CODE_CONTENT)
      status_ = Unavailable("libcoap answered %d", static_cast<int>(code));
    --on_their_way_;
    --left_;
    if (status_.ok()) Ask();
  }

  bool confirmable_ = false;
  std::size_t pairs_ = 0;
  std::size_t in_flight_ = 0;
  coap_context_t* context_ = nullptr;
  pid_t server_ = -1;
  std::vector<coap_session_t*> sessions_;
  std::size_t next_ = 0;
  std::size_t on_their_way_ = 0;
  std::ptrdiff_t left_ = 0;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewLibcoapLoad(bool confirmable, std::size_t pairs,
                                                             std::size_t in_flight) {
  auto load = std::make_unique<LibcoapLoad>();
  WAXVM_RETURN_IF_ERROR(load->Start(confirmable, pairs, in_flight));
  return load;
}

}  // namespace waxvm
