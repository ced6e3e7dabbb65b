// SPDX-License-Identifier: Apache-2.0
#include "src/messaging/hub.h"

#include <chrono>
#include <utility>

#include "src/base/status.h"
#include "src/messaging/envelope_codec.h"

namespace waxvm {
namespace messaging {
namespace {

template <typename Clock>
std::uint64_t Milliseconds() {
  const auto now = Clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

absl::Status NoTopic(const PublicKey& topic) {
  return absl::NotFoundError(absl::StrFormat("the topic %s is not known here", topic.ToHex()));
}

}  // namespace

Hub::Hub(const MessageHubOptions& options) : options_(options) {
  if (!options_.clock) options_.clock = &Milliseconds<std::chrono::system_clock>;
  if (!options_.steady_clock) options_.steady_clock = &Milliseconds<std::chrono::steady_clock>;
}

absl::Status Hub::Start() {
  MutexLock lock(guard_mutex_);
  WAXVM_ASSIGN_OR_RETURN(guard_, ReplayGuard::Create(now(), options_.replay));
  return absl::OkStatus();
}

absl::Status Hub::SetTopic(const Advert& advert) {
  if (advert.As<TopicBody>() == nullptr) return InvalidArgument("this is no advert of a topic");
  std::shared_ptr<TopicState> topic;
  {
    MutexLock lock(mutex_);
    std::shared_ptr<TopicState>& known = topics_[advert.fields().author];
    if (known == nullptr) known = std::make_shared<TopicState>(advert.fields().author);
    topic = known;
  }
  return topic->SetAdvert(advert);
}

absl::Status Hub::RemoveTopic(const PublicKey& topic) {
  MutexLock lock(mutex_);
  const auto at = topics_.find(topic);
  if (at == topics_.end()) return NoTopic(topic);
  if (const std::size_t count = at->second->subscribers(); count > 0)
    return FailedPrecondition("%d engines have joined the topic", count);
  topics_.erase(at);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<TopicState>> Hub::FindTopic(const PublicKey& topic) const {
  MutexLock lock(mutex_);
  const auto at = topics_.find(topic);
  if (at == topics_.end()) return NoTopic(topic);
  return at->second;
}

absl::StatusOr<std::string> Hub::Retained(const PublicKey& topic) {
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<TopicState> state, FindTopic(topic));
  return state->Retained();
}

MessageHubStats Hub::stats() const {
  MutexLock lock(mutex_);
  return {.engines = ports_.size(),
          .topics = topics_.size(),
          .delivered = delivered_.load(),
          .refused = refused_.load()};
}

absl::Status Hub::Add(std::shared_ptr<Port> port) {
  MutexLock lock(mutex_);
  const PublicKey key = port->key;
  if (ports_.try_emplace(key, std::move(port)).second) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrFormat("there is an engine with the key %s already", key.ToHex()));
}

void Hub::Remove(const Port& port) {
  MutexLock lock(mutex_);
  ports_.erase(port.key);
}

std::shared_ptr<Port> Hub::Find(const PublicKey& engine) const {
  MutexLock lock(mutex_);
  const auto at = ports_.find(engine);
  return at == ports_.end() ? nullptr : at->second;
}

absl::Status Hub::Join(TopicState& topic, std::shared_ptr<Port> port, std::uint64_t mark,
                       bool retained) {
  MutexLock lock(joining_);
  if (options_.transport != nullptr && topic.subscribers() == 0)
    WAXVM_RETURN_IF_ERROR(options_.transport->Join(topic.key(), topic.group()));
  {
    // Unless it was removed meanwhile: nobody could publish to it, and nobody leave it.
    MutexLock topics_lock(mutex_);
    const auto at = topics_.find(topic.key());
    if (at != topics_.end() && at->second.get() == &topic) {
      topic.Join(std::move(port), mark, retained);
      return absl::OkStatus();
    }
  }
  if (options_.transport != nullptr && topic.subscribers() == 0)
    options_.transport->Leave(topic.key(), topic.group());
  return NoTopic(topic.key());
}

void Hub::Leave(TopicState& topic, const Port* port) {
  MutexLock lock(joining_);
  topic.Leave(port);
  if (options_.transport != nullptr && topic.subscribers() == 0)
    options_.transport->Leave(topic.key(), topic.group());
}

absl::Status Hub::Deliver(std::string envelope, const Address& source) {
  const auto destination = DestinationOf(envelope);
  absl::Status status = destination.status();
  if (status.ok())
    status = destination->kind == DestinationKind::kTopic
                 ? DeliverToTopic(destination->key, std::move(envelope), source)
                 : DeliverToEngine(destination->key, std::move(envelope), source);
  (status.ok() ? delivered_ : refused_).fetch_add(1, std::memory_order_relaxed);
  return status;
}

absl::Status Hub::DeliverToEngine(const PublicKey& engine, std::string envelope,
                                  const Address& source) {
  const std::shared_ptr<Port> port = Find(engine);
  if (port == nullptr)
    return absl::NotFoundError(absl::StrFormat("there is no engine %s here", engine.ToHex()));
  const bool kept = port->remote.Push(std::move(envelope), source);
  if (port->inbox.ShouldWake()) port->Wake();
  if (!kept) return absl::ResourceExhaustedError("the engine has no room for another envelope");
  return absl::OkStatus();
}

absl::Status Hub::DeliverToTopic(const PublicKey& topic, std::string envelope,
                                 const Address& source) {
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<TopicState> state, FindTopic(topic));
  const std::uint64_t time = now();
  // Before the signature, which costs more: who is not named cannot have us verify anything. That
  // it is a whole envelope is known since its destination was read.
  WAXVM_ASSIGN_OR_RETURN(
      const EnvelopeFields claimed,
      ParseUnsigned(std::string_view(envelope).substr(0, envelope.size() - kSignatureBytes)));
  WAXVM_RETURN_IF_ERROR(state->CheckPublisher(claimed.sender, time));
  const OpenOptions options = {.now = time, .kind = DestinationKind::kTopic, .destination = topic};
  WAXVM_ASSIGN_OR_RETURN(Envelope opened, OpenEnvelope(std::move(envelope), options));
  if (!Allows(opened.fields().sender))
    return absl::PermissionDeniedError("the publisher is not to be heard");
  {
    MutexLock lock(guard_mutex_);
    WAXVM_RETURN_IF_ERROR(guard_->Accept(opened.fields(), source, time));
  }
  state->Spread(TopicMessageRef(new TopicMessage(std::move(opened))));
  return absl::OkStatus();
}

}  // namespace messaging

absl::StatusOr<std::unique_ptr<MessageHub>> MessageHub::Create(const MessageHubOptions& options) {
  auto hub = std::make_unique<messaging::Hub>(options);
  WAXVM_RETURN_IF_ERROR(hub->Start());
  return hub;
}

}  // namespace waxvm
