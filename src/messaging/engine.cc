// SPDX-License-Identifier: Apache-2.0
// Sending, joining, and the engine's own thread; what comes in is in engine_poll.cc.
#include "waxvm/engine.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "src/base/status.h"
#include "src/messaging/engine_impl.h"

namespace waxvm {
namespace messaging {
namespace {

// Destinations whose sequences are counted. Who is forgotten goes on from the clock.
constexpr std::size_t kMaxPeers = 65'536;

}  // namespace

EngineImpl::EngineImpl(Hub& hub, const Signer& identity, const EngineOptions& options)
    : hub_(hub),
      identity_(identity),
      options_(options),
      port_(std::make_shared<Port>(identity.public_key(), options.inbox_messages,
                                   options.remote_messages, options.remote_bytes)) {
  MutexLock lock(peers_mutex_);
  last_peer_ = peers_.end();
}

absl::Status EngineImpl::Open() {
  WAXVM_ASSIGN_OR_RETURN(guard_, ReplayGuard::Create(hub_.now(), options_.replay));
  WAXVM_RETURN_IF_ERROR(hub_.Add(port_));
  added_ = true;
  return absl::OkStatus();
}

EngineImpl::~EngineImpl() {
  Stop();
  for (const PublicKey& topic : reader_.topics()) (void)Leave(topic);
  if (added_) hub_.Remove(*port_);
  port_->inbox.Close();
  // Others may hold the port for longer; what waits in it is of no use to them.
  Letter letter;
  while (void* storage = port_->inbox.Front(letter)) {
    Inbox::Discard(letter, storage);
    port_->inbox.PopFront();
  }
}

absl::Status EngineImpl::CheckThread() const {
  const std::thread::id id = thread_id_.load(std::memory_order_relaxed);
  if (id == std::thread::id() || id == std::this_thread::get_id()) return absl::OkStatus();
  return FailedPrecondition("the engine runs on a thread of its own, which alone may change it");
}

absl::Status EngineImpl::Register(MessageType type, Handler handler) {
  WAXVM_RETURN_IF_ERROR(CheckThread());
  auto made = std::make_unique<Handler>(std::move(handler));
  std::unique_ptr<Handler>& at = handlers_[type];
  if (at != nullptr) replaced_.push_back(std::move(at));
  at = std::move(made);
  return absl::OkStatus();
}

void EngineImpl::DropClosed(Ports& dropped) {
  ports_ = 0;
  for (auto& [key, peer] : peers_) {
    if (peer.port == nullptr) continue;
    if (peer.port->inbox.IsClosed())
      dropped.push_back(std::move(peer.port));
    else
      ++ports_;
  }
  // So that each costs a few steps, however many there are.
  tidy_at_ = 2 * ports_ + kLeastPorts;
}

EngineImpl::Peer& EngineImpl::PeerOf(const PublicKey& to, Ports& dropped) {
  if (last_peer_ == peers_.end() || last_peer_->first != to) {
    if (peers_.size() >= kMaxPeers) {
      for (auto& [key, peer] : peers_)
        if (peer.port != nullptr) dropped.push_back(std::move(peer.port));
      peers_.clear();
      ports_ = 0;
    }
    last_peer_ = peers_.try_emplace(to).first;
  }
  Peer& peer = last_peer_->second;
  // Above whatever an earlier process of this sender used, at up to 1,000 a millisecond.
  if (peer.next_sequence == 0) peer.next_sequence = hub_.now() * 1'000;
  if (peer.port != nullptr && !peer.port->inbox.IsClosed()) return peer;
  if (peer.port != nullptr) dropped.push_back(std::move(peer.port));
  peer.port = hub_.Find(to);
  if (peer.port != nullptr && ++ports_ > tidy_at_) DropClosed(dropped);
  return peer;
}

absl::StatusOr<std::uint64_t> EngineImpl::SendMessage(const PublicKey& to, Message& message,
                                                      const SendOptions& options) {
  if (message.empty()) return InvalidArgument("there is no message");
  std::chrono::steady_clock::time_point deadline = {};
  if (options.wait > 0)
    deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options.wait);
  Letter letter;
  letter.sender = key();
  std::unique_ptr<Extras> extras;
  if (options.in_reply_to != 0 || options.wants_errors)
    extras.reset(
        new Extras{.in_reply_to = options.in_reply_to, .wants_errors = options.wants_errors});
  letter.extras = extras.get();
  for (;;) {
    std::shared_ptr<Port> full;
    Ports dropped;
    {
      MutexLock lock(peers_mutex_);
      Peer& peer = PeerOf(to, dropped);
      letter.sequence = peer.next_sequence++;
      if (peer.port != nullptr) {
        bool wake = false;
        const Inbox::Result result = peer.port->inbox.Push(letter, &message, wake);
        if (wake) peer.port->Wake();
        if (result == Inbox::Result::kOk) {
          (void)extras.release();
          return letter.sequence;
        }
        if (result == Inbox::Result::kFull) full = peer.port;
      }
    }
    if (full == nullptr) return SendElsewhere(to, letter.sequence, message, options);
    if (options.wait == 0 || std::chrono::steady_clock::now() >= deadline)
      return absl::ResourceExhaustedError("the receiver's inbox is full");
    full->WaitForRoom(deadline);
  }
}

absl::StatusOr<std::uint64_t> EngineImpl::SendElsewhere(const PublicKey& to, std::uint64_t sequence,
                                                        Message& message,
                                                        const SendOptions& options) {
  if (hub_.transport() == nullptr)
    return absl::NotFoundError(
        absl::StrFormat("there is no engine %s here, and no way to others", to.ToHex()));
  WAXVM_ASSIGN_OR_RETURN(const std::string payload, message.Encode());
  const std::uint64_t now = hub_.now();
  const EnvelopeFields fields = {.type = message.type(),
                                 .destination = to,
                                 .sequence = sequence,
                                 .created = now,
                                 .expires = now + options.lifetime,
                                 .in_reply_to = options.in_reply_to,
                                 .encrypted = options.encrypt,
                                 .wants_errors = options.wants_errors,
                                 .payload = payload};
  WAXVM_ASSIGN_OR_RETURN(std::string envelope, SealEnvelope(fields, identity_));
  WAXVM_RETURN_IF_ERROR(hub_.transport()->Send(to, std::move(envelope)));
  message.Reset();
  return sequence;
}

absl::StatusOr<Published> EngineImpl::PublishMessage(const PublicKey& topic, Message message,
                                                     const PublishOptions& options) {
  if (message.empty()) return InvalidArgument("there is no message");
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<TopicState> state, hub_.FindTopic(topic));
  EngineTransport* const transport = hub_.transport();
  std::string envelope;
  WAXVM_ASSIGN_OR_RETURN(const Published published,
                         state->Publish({.publisher = key(),
                                         .now = hub_.now(),
                                         .signer = transport != nullptr ? &identity_ : nullptr},
                                        std::move(message), options, envelope));
  if (transport != nullptr)
    WAXVM_RETURN_IF_ERROR(transport->Publish(topic, state->group(), std::move(envelope)));
  return published;
}

absl::Status EngineImpl::Join(const PublicKey& topic, JoinOptions options) {
  WAXVM_RETURN_IF_ERROR(CheckThread());
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<TopicState> state, hub_.FindTopic(topic));
  const bool retained = options.retained;
  const auto mark = reader_.Add(topic, std::move(options));
  if (!mark) return absl::AlreadyExistsError("the engine has joined this topic");
  const absl::Status status = hub_.Join(*state, port_, *mark, retained);
  if (!status.ok()) reader_.Remove(topic);
  return status;
}

absl::Status EngineImpl::Leave(const PublicKey& topic) {
  WAXVM_RETURN_IF_ERROR(CheckThread());
  if (!reader_.Remove(topic)) return absl::NotFoundError("the engine has not joined this topic");
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<TopicState> state, hub_.FindTopic(topic));
  hub_.Leave(*state, port_.get());
  return absl::OkStatus();
}

absl::StatusOr<int> EngineImpl::descriptor() {
  if (!port_->wake) {
    port_->wake = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!port_->wake) return ErrnoStatus(errno, "eventfd");
    port_->Wake();  // whatever came before nobody was told of
  }
  return port_->wake.get();
}

int EngineImpl::next_timeout() const {
  const auto due = reader_.next_due();
  if (!due) return -1;
  const std::uint64_t now = hub_.steady();
  return *due <= now ? 0 : static_cast<int>(std::min<std::uint64_t>(*due - now, 60'000));
}

absl::Status EngineImpl::Start() {
  if (thread_.joinable()) return FailedPrecondition("the engine runs already");
  WAXVM_RETURN_IF_ERROR(descriptor().status());
  stop_ = false;
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void EngineImpl::Stop() {
  if (!thread_.joinable()) return;
  stop_ = true;
  port_->Wake();
  thread_.join();
  thread_id_ = std::thread::id();
}

void EngineImpl::Run() {
  thread_id_ = std::this_thread::get_id();
  while (!stop_) {
    if (Poll(256) > 0) continue;
    pollfd ready = {.fd = port_->wake.get(), .events = POLLIN, .revents = 0};
    (void)poll(&ready, 1, next_timeout());
  }
}

EngineStats EngineImpl::stats() const {
  return {.handled = counts_.handled.get(),
          .unknown_types = counts_.unknown_types.get(),
          .malformed = counts_.malformed.get(),
          .expired = counts_.expired.get(),
          .refused = counts_.refused.get(),
          .replays = counts_.replays.get(),
          .remote_dropped = port_->remote.dropped(),
          .errors_told = counts_.told.get(),
          .errors_withheld = counts_.withheld.get()};
}

absl::StatusOr<TopicStats> EngineImpl::topic_stats(const PublicKey& topic) const {
  WAXVM_RETURN_IF_ERROR(CheckThread());
  const auto stats = reader_.StatsOf(topic);
  if (!stats) return absl::NotFoundError("the engine has not joined this topic");
  return *stats;
}

}  // namespace messaging

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(MessageHub* hub, const Signer* identity,
                                                       const EngineOptions& options) {
  auto* const own = dynamic_cast<messaging::Hub*>(hub);
  if (own == nullptr) return InvalidArgument("the hub was not made by MessageHub::Create");
  auto engine = std::make_unique<messaging::EngineImpl>(*own, *identity, options);
  WAXVM_RETURN_IF_ERROR(engine->Open());
  return engine;
}

}  // namespace waxvm
