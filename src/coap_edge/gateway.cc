// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "src/coap_edge/libcoap_outside.h"
#include "src/coap_edge/policy.h"
#include "src/coap_edge/proxy.h"
#include "waxvm/coap_edge.h"

namespace waxvm::coap {
namespace {

using edge::TimePoint;
using std::chrono::steady_clock;

/// Answers from inside on their way to the gateway's thread. Outlives the gateway where handlers
/// do.
class Inbox {
 public:
  struct Item {
    absl::StatusOr<Message> answer;
    bool more;
  };
  using Items = std::map<std::uint64_t, Item>;

  explicit Inbox(UniqueFd wake) : wake_(std::move(wake)) {}

  void Put(std::uint64_t exchange, absl::StatusOr<Message> answer, bool more) {
    {
      const MutexLock lock(mutex_);
      if (closed_) return;
      // Attack: notifications faster than they are sent on. The latest counts.
      items_.insert_or_assign(exchange, Item{std::move(answer), more});
    }
    Wake();
  }
  Items Take() {
    const MutexLock lock(mutex_);
    return std::exchange(items_, {});
  }
  void Close() {
    const MutexLock lock(mutex_);
    closed_ = true;
    items_.clear();
  }
  void Wake() const { eventfd_write(wake_.get(), 1); }
  void Woken() const {
    eventfd_t count;
    eventfd_read(wake_.get(), &count);
  }
  int descriptor() const { return wake_.get(); }

 private:
  Mutex mutex_;
  Items items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  const UniqueFd wake_;
};

absl::Status CheckLimits(const EdgeLimits& limits) {
  constexpr std::size_t kMost = std::size_t{1} << 30;
  const std::size_t counts[] = {
      limits.sessions,       limits.tcp_connections,  limits.tcp_per_source,
      limits.handshakes,     limits.requests,         limits.requests_per_source,
      limits.max_body_bytes, limits.max_bodies_bytes, limits.unread_bytes};
  for (const std::size_t count : counts)
    if (count == 0 || count > kMost)
      return absl::InvalidArgumentError(absl::StrFormat("a limit of %d", count));
  // Shorter ones could not carry a block; longer ones libcoap could not measure.
  if (limits.message_bytes < 1152 || limits.message_bytes > (8u << 20))
    return absl::InvalidArgumentError(
        absl::StrFormat("message_bytes is %d, not 1152 to 8 MiB", limits.message_bytes));
  if (limits.idle_time.count() <= 0 || limits.idle_time > std::chrono::hours(24 * 365) ||
      limits.request_time.count() <= 0)
    return absl::InvalidArgumentError("a time that is not above 0");
  return absl::OkStatus();
}

class Gateway final : public EdgeGateway, private edge::OutsideEvents {
 public:
  explicit Gateway(std::shared_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}
  ~Gateway() override {
    stop_ = true;
    inbox_->Wake();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Open(InsideClient& inside, const EdgeOptions& options) {
    auto policy = edge::Policy::Create(options);
    if (!policy.ok()) return policy.status();
    auto outside = edge::LibcoapOutside::Create(options, *this);
    if (!outside.ok()) return outside.status();
    outside_ = *std::move(outside);
    addresses_ = outside_->addresses();
    std::array<std::uint8_t, edge::EchoIssuer::kKeyBytes> key;
    randombytes_buf(key.data(), key.size());
    proxy_ = std::make_unique<edge::Proxy>(
        options, *std::move(policy), key, *outside_, inside,
        [inbox = inbox_](std::uint64_t exchange, absl::StatusOr<Message> answer, bool more) {
          inbox->Put(exchange, std::move(answer), more);
        });
    // The embedder's signals are no concern of this thread; SIGPIPE of a connection is one of its
    // own that must not end the process.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { Run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return absl::OkStatus();
  }

  std::vector<SocketAddress> addresses() const override { return addresses_; }
  EdgeStats stats() const override {
    const MutexLock lock(mutex_);
    return stats_;
  }

 private:
  void Run() {
    while (!stop_) {
      Wait();
      outside_->Run(steady_clock::now());
      for (auto& [exchange, item] : inbox_->Take())
        proxy_->OnAnswer(exchange, std::move(item.answer), item.more, steady_clock::now());
      proxy_->OnTime(steady_clock::now());
    }
    inbox_->Close();
    proxy_.reset();
    outside_.reset();
  }

  void Wait() {
    const TimePoint now = steady_clock::now();
    const TimePoint prepared = outside_->Prepare(now);  // sessions that have ended are freed here
    const TimePoint due = std::min(prepared, proxy_->NextDeadline());
    Publish();
    pollfd waited[] = {{outside_->descriptor(), POLLIN, 0}, {inbox_->descriptor(), POLLIN, 0}};
    int milliseconds = -1;
    if (due != TimePoint::max()) {
      constexpr std::chrono::milliseconds kLongest{60'000};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - now);
      milliseconds =
          static_cast<int>(std::clamp(left, std::chrono::milliseconds(0), kLongest).count());
    }
    poll(waited, 2, milliseconds);
    if (waited[1].revents != 0) inbox_->Woken();
  }

  void Publish() {
    EdgeStats stats = proxy_->stats();
    outside_->AddTo(stats);
    const MutexLock lock(mutex_);
    stats_ = stats;
  }

  // edge::OutsideEvents.
  void OnRequest(edge::Session& session, edge::OutsideRequest request) override {
    proxy_->OnRequest(session, std::move(request), steady_clock::now());
  }
  void OnRejected(edge::SessionId session, const std::string& token) override {
    proxy_->OnRejected(session, token);
  }
  void OnClosed(edge::SessionId session) override { proxy_->OnClosed(session); }

  const std::shared_ptr<Inbox> inbox_;
  std::vector<SocketAddress> addresses_;
  std::unique_ptr<edge::LibcoapOutside> outside_;
  std::unique_ptr<edge::Proxy> proxy_;
  std::atomic<bool> stop_ = false;
  mutable Mutex mutex_;
  EdgeStats stats_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EdgeGateway>> EdgeGateway::Start(InsideClient& inside,
                                                                EdgeOptions options) {
  if (options.listeners.empty()) return absl::InvalidArgumentError("no listeners");
  if (const absl::Status status = CheckLimits(options.limits); !status.ok()) return status;
  if (sodium_init() < 0) return absl::InternalError("libsodium could not be initialised");
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return ErrnoStatus(errno, "eventfd");
  auto gateway = std::make_unique<Gateway>(std::make_shared<Inbox>(std::move(wake)));
  if (const absl::Status status = gateway->Open(inside, options); !status.ok()) return status;
  return gateway;
}

}  // namespace waxvm::coap
