// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

#include "src/base/status.h"
#include "src/dns/service.h"
#include "src/dns/tcp_loop.h"
#include "src/dns/udp_loop.h"
#include "waxvm/dns.h"

namespace waxvm {

using dns::Listener;
using dns::Service;

class DnsServer::State {
 public:
  State(std::unique_ptr<Service> service, UniqueFd events)
      : service_(std::move(service)), udp_(*service_), tcp_(*service_, std::move(events)) {
    for (const Listener& listener : service_->listeners)
      addresses_.push_back(listener.endpoint.ToText());
  }
  ~State() {
    const std::uint64_t one = 1;
    while (write(service_->stop.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
    for (std::thread* thread : {&udp_thread_, &tcp_thread_})
      if (thread->joinable()) thread->join();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Signals of the embedder's are not taken by these threads.
  absl::Status Start() {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    absl::Status status;
    try {
      udp_thread_ = std::thread([this] { udp_.Run(); });
      tcp_thread_ = std::thread([this] { tcp_.Run(); });
      pthread_setname_np(udp_thread_.native_handle(), "waxvm-dns-udp");
      pthread_setname_np(tcp_thread_.native_handle(), "waxvm-dns-tcp");
    } catch (const std::system_error& error) {
      status = ErrnoStatus(error.code().value(), "cannot start a thread");
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return status;
  }

  const std::vector<std::string>& addresses() const { return addresses_; }
  const dns::Counters& counters() const { return service_->counters; }

 private:
  const std::unique_ptr<Service> service_;
  std::vector<std::string> addresses_;
  dns::UdpLoop udp_;
  dns::TcpLoop tcp_;
  std::thread udp_thread_;
  std::thread tcp_thread_;
};

namespace {

// More addresses than anybody listens on; each is looked at for every batch.
constexpr std::size_t kMaxListeners = 64;

absl::Status Check(const DnsServerOptions& options) {
  if (options.listen.empty() || options.listen.size() > kMaxListeners)
    return InvalidArgument("%d addresses to listen on; there are 1 to %d", options.listen.size(),
                           kMaxListeners);
  if (options.max_udp_bytes != 0 && (options.max_udp_bytes < 512 || options.max_udp_bytes > 65535))
    return InvalidArgument("answers over UDP have 512 to 65535 bytes, not %d",
                           options.max_udp_bytes);
  // A question has at most 12 + 255 + 4 bytes, and EDNS.
  if (options.max_tcp_query_bytes < 512 || options.max_tcp_query_bytes > 65535)
    return InvalidArgument("questions over TCP have at most 512 to 65535 bytes, not %d",
                           options.max_tcp_query_bytes);
  if (options.max_tcp_connections == 0 || options.max_tcp_connections_per_peer == 0)
    return InvalidArgument("there is at least one TCP connection, in all and of each peer");
  for (const auto time : {options.tcp_idle_time, options.tcp_progress_time, options.pending_time})
    if (time.count() < 0 || time > std::chrono::hours(24))
      return InvalidArgument("a time is %d ms; it is 0 to 24 hours", time.count());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DnsServer>> DnsServer::Create(std::shared_ptr<DnsSource> source,
                                                             const DnsServerOptions& options) {
  if (source == nullptr) return InvalidArgument("a DNS server needs a source of names");
  WAXVM_RETURN_IF_ERROR(Check(options));
  WAXVM_ASSIGN_OR_RETURN(dns::Responder responder, dns::Responder::Create(options));
  std::vector<Listener> listeners;
  for (const std::string& text : options.listen) {
    WAXVM_ASSIGN_OR_RETURN(const dns::Endpoint endpoint, dns::ParseEndpoint(text));
    WAXVM_ASSIGN_OR_RETURN(Listener listener, dns::Listen(endpoint));
    listeners.push_back(std::move(listener));
  }
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return ErrnoStatus(errno, "eventfd");
  UniqueFd events(epoll_create1(EPOLL_CLOEXEC));
  if (!events) return ErrnoStatus(errno, "epoll_create1");
  auto state = std::make_unique<State>(std::unique_ptr<Service>(new Service{options,
                                                                            std::move(responder),
                                                                            std::move(source),
                                                                            std::move(listeners),
                                                                            std::move(stop),
                                                                            {}}),
                                       std::move(events));
  WAXVM_RETURN_IF_ERROR(state->Start());
  return std::unique_ptr<DnsServer>(new DnsServer(std::move(state)));
}

DnsServer::DnsServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
DnsServer::~DnsServer() = default;

const std::vector<std::string>& DnsServer::addresses() const { return state_->addresses(); }

DnsServerStats DnsServer::stats() const {
  const auto get = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  const dns::Counters& c = state_->counters();
  return {.udp_questions = get(c.udp_questions),
          .udp_answers = get(c.udp_answers),
          .tcp_questions = get(c.tcp_questions),
          .tcp_answers = get(c.tcp_answers),
          .dropped = get(c.dropped_udp) + get(c.dropped_tcp),
          .truncated = get(c.truncated),
          .unsent = get(c.unsent),
          .connections = get(c.connections),
          .accepted = get(c.accepted),
          .evicted = get(c.evicted),
          .timed_out = get(c.timed_out),
          .buffer_bytes = get(c.buffer_bytes),
          .pending = get(c.pending)};
}

}  // namespace waxvm
