// SPDX-License-Identifier: Apache-2.0
#include "src/messaging/topic_state.h"

#include <algorithm>
#include <utility>

#include "src/base/status.h"
#include "src/messaging/envelope_codec.h"
#include "waxvm/cga.h"

namespace waxvm::messaging {
namespace {

// Engines that come, publish and go would be remembered for ever.
constexpr std::size_t kMaxPublishers = 65'536;

}  // namespace

TopicState::TopicState(const PublicKey& topic) : key_(topic), group_(cga::GroupOf(topic)) {}

absl::Status TopicState::SetAdvert(const Advert& advert) {
  const TopicBody* const body = advert.As<TopicBody>();
  if (body == nullptr) return InvalidArgument("this is no advert of a topic");
  MutexLock lock(mutex_);
  if (expires_ != 0 && advert.fields().sequence < advert_sequence_)
    return FailedPrecondition("the topic's advert %d is known, this is number %d", advert_sequence_,
                              advert.fields().sequence);
  rules_ = *body;
  advert_sequence_ = advert.fields().sequence;
  expires_ = advert.fields().expires;
  return absl::OkStatus();
}

absl::Status TopicState::CheckRules(const PublicKey& publisher, std::uint64_t now) const {
  if (expires_ <= now / 1'000) return absl::DeadlineExceededError("the topic's advert has expired");
  const std::vector<PublicKey>& named = rules_.publishers;
  if (rules_.open || std::find(named.begin(), named.end(), publisher) != named.end())
    return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrFormat("the topic's advert does not name the publisher %s", publisher.ToHex()));
}

absl::Status TopicState::CheckPublisher(const PublicKey& publisher, std::uint64_t now) const {
  MutexLock lock(mutex_);
  return CheckRules(publisher, now);
}

void TopicState::GiveToAll(const TopicMessage& message, Published& published) {
  const auto count = static_cast<std::uint32_t>(subscribers_.size());
  if (count == 0) return;
  // One for each at once; those that nobody took are given back.
  message.Ref(count);
  Letter letter;
  letter.topic_message = &message;
  letter.sender = message.fields().sender;
  std::uint32_t dropped = 0;
  for (const Subscriber& subscriber : subscribers_) {
    letter.sequence = subscriber.mark;
    bool wake = false;
    if (subscriber.port->inbox.Push(letter, nullptr, wake) != Inbox::Result::kOk)
      ++dropped;
    else if (wake)
      subscriber.port->Wake();
  }
  published.delivered = count - dropped;
  published.dropped = dropped;
  if (dropped > 0) message.Unref(dropped);
}

TopicMessageRef TopicState::Retain(TopicMessageRef message) {
  // One that was overtaken on its way is not the last one.
  if (retained_ && retained_->fields().sender == message->fields().sender &&
      retained_->fields().sequence > message->fields().sequence)
    return message;
  return std::exchange(retained_, std::move(message));
}

void TopicState::Spread(TopicMessageRef message) {
  TopicMessageRef dropped;
  MutexLock lock(mutex_);
  Published ignored;
  GiveToAll(*message, ignored);
  dropped = Retain(std::move(message));
}

TopicState::Sequences& TopicState::SequencesOf(const Local& from) {
  auto at = publishers_.find(from.publisher);
  if (at != publishers_.end()) return at->second;
  if (publishers_.size() >= kMaxPublishers) {
    for (const auto& [key, sequences] : publishers_)
      forgotten_ = std::max(forgotten_, sequences.next);
    publishers_.clear();
  }
  // Above whatever an earlier process of this publisher can have used, and without a hole from
  // here.
  const std::uint64_t first = std::max(from.now * 1'000, forgotten_);
  return publishers_.try_emplace(from.publisher, Sequences{first, first}).first->second;
}

absl::StatusOr<Published> TopicState::Publish(const Local& from, Message message,
                                              const PublishOptions& options,
                                              std::string& envelope) {
  std::string payload;
  if (from.signer != nullptr) {
    WAXVM_ASSIGN_OR_RETURN(payload, message.Encode());
  }
  TopicMessageRef dropped;
  MutexLock lock(mutex_);
  WAXVM_RETURN_IF_ERROR(CheckRules(from.publisher, from.now));
  Sequences& sequences = SequencesOf(from);
  EnvelopeFields fields = {.type = message.type(),
                           .sender = from.publisher,
                           .kind = DestinationKind::kTopic,
                           .destination = key_,
                           .sequence = sequences.next,
                           .first_sequence = sequences.first,
                           .created = from.now,
                           .expires = from.now + options.lifetime,
                           .dependencies = options.dependencies,
                           .payload = payload};
  WAXVM_RETURN_IF_ERROR(CheckFields(fields));
  if (from.signer != nullptr) {
    WAXVM_ASSIGN_OR_RETURN(envelope, SealEnvelope(fields, *from.signer));
  }
  ++sequences.next;
  TopicMessageRef shared(new TopicMessage(std::move(fields), std::move(message), envelope));
  Published published = {.sequence = shared->fields().sequence, .id = shared->id()};
  GiveToAll(*shared, published);
  dropped = Retain(std::move(shared));
  return published;
}

void TopicState::Join(std::shared_ptr<Port> port, std::uint64_t mark, bool retained) {
  MutexLock lock(mutex_);
  if (retained && retained_) {
    Letter letter;
    letter.topic_message = retained_.get();
    letter.sequence = mark | kRetainedBit;
    letter.sender = retained_->fields().sender;
    retained_->Ref();
    bool wake = false;
    // Where the inbox is full it does without.
    if (port->inbox.Push(letter, nullptr, wake) != Inbox::Result::kOk) retained_->Unref();
    if (wake) port->Wake();
  }
  subscribers_.push_back({std::move(port), mark});
}

void TopicState::Leave(const Port* port) {
  MutexLock lock(mutex_);
  std::erase_if(subscribers_, [port](const Subscriber& s) { return s.port.get() == port; });
}

std::size_t TopicState::subscribers() const {
  MutexLock lock(mutex_);
  return subscribers_.size();
}

absl::StatusOr<std::string> TopicState::Retained() const {
  MutexLock lock(mutex_);
  if (!retained_ || retained_->envelope().empty())
    return absl::NotFoundError("the topic has no message that was signed");
  return retained_->envelope();
}

}  // namespace waxvm::messaging
