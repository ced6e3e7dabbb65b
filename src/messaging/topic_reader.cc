// SPDX-License-Identifier: Apache-2.0
#include "src/messaging/topic_reader.h"

#include <algorithm>
#include <cstring>

namespace waxvm::messaging {

std::optional<std::uint64_t> TopicReader::Add(const PublicKey& topic, JoinOptions options) {
  std::size_t slot = slots_.size();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i] != nullptr && !slots_[i]->removed && slots_[i]->topic == topic)
      return std::nullopt;
    if (slots_[i] == nullptr) slot = i;
  }
  if (slot == slots_.size()) {
    slots_.emplace_back();
    generations_.push_back(0);
  }
  if (remembered_.empty()) remembered_.resize(kRemembered);
  options.max_publishers = std::max<std::size_t>(options.max_publishers, 1);
  slots_[slot] = std::make_unique<Subscription>();
  slots_[slot]->topic = topic;
  slots_[slot]->options = std::move(options);
  slots_[slot]->last = slots_[slot]->publishers.end();
  return (std::uint64_t{++generations_[slot]} << 32 | slot) & ~kRetainedBit;
}

bool TopicReader::Remove(const PublicKey& topic) {
  for (const auto& subscription : slots_)
    if (subscription != nullptr && !subscription->removed && subscription->topic == topic)
      return subscription->removed = true;
  return false;
}

std::vector<PublicKey> TopicReader::topics() const {
  std::vector<PublicKey> topics;
  for (const auto& subscription : slots_)
    if (subscription != nullptr && !subscription->removed) topics.push_back(subscription->topic);
  return topics;
}

std::optional<TopicStats> TopicReader::StatsOf(const PublicKey& topic) const {
  for (const auto& subscription : slots_)
    if (subscription != nullptr && !subscription->removed && subscription->topic == topic) {
      TopicStats stats = subscription->stats;
      stats.held = subscription->held.size();
      return stats;
    }
  return std::nullopt;
}

void TopicReader::Tidy() {
  for (auto& subscription : slots_)
    if (subscription != nullptr && subscription->removed) {
      held_ -= subscription->held.size();
      subscription.reset();
    }
}

void TopicReader::Take(std::uint64_t mark, TopicMessageRef message, Clock clock, Handle handle) {
  const std::size_t slot = mark & 0xffff'ffff;
  if (slot >= slots_.size() || slots_[slot] == nullptr || slots_[slot]->removed) return;
  // Of a subscription that was here before this one.
  if ((generations_[slot] & 0x7fff'ffff) != (mark >> 32 & 0x7fff'ffff)) return;
  Subscription& subscription = *slots_[slot];
  const EnvelopeFields& fields = message->fields();
  bool is_new = false;
  Publisher& publisher = Follow(subscription, *message, is_new, handle);
  if (is_new) {
    publisher.first = fields.first_sequence;
    publisher.next = fields.sequence;
  } else if (fields.first_sequence > publisher.first) {
    Restart(subscription, publisher, fields);
  }
  if (IsOld(subscription, publisher, fields.sequence)) return;
  Held held = {.message = std::move(message),
               .retained = (mark & kRetainedBit) != 0,
               .publisher = &publisher,
               .missing = {}};
  if (!fields.dependencies.empty()) held.missing = MissingOf(fields.dependencies);
  // Within a process nothing overtakes: what is not here yet does not come.
  const bool in_order =
      fields.sequence == publisher.next || (held.message->local() && publisher.held == 0);
  if (subscription.options.hold == 0 || (in_order && held.missing.empty()))
    HandOver(subscription, std::move(held), handle);
  else
    Hold(subscription, std::move(held), clock, handle);
  if (held_ > 0) Release(handle);
}

TopicReader::Publisher& TopicReader::Follow(Subscription& subscription, const TopicMessage& message,
                                            bool& is_new, Handle handle) {
  const PublicKey& key = message.fields().sender;
  Publishers& publishers = subscription.publishers;
  if (subscription.last != publishers.end() && subscription.last->first == key)
    return subscription.last->second;
  auto at = publishers.find(key);
  is_new = at == publishers.end();
  if (is_new) {
    // Keys cost nothing: who publishes under many displaces those who were silent for longest.
    if (publishers.size() >= subscription.options.max_publishers) {
      const auto oldest = publishers.find(subscription.used.front());
      for (std::size_t i = subscription.held.size(); i > 0; --i)
        if (i <= subscription.held.size() && subscription.held[i - 1].publisher == &oldest->second)
          Force(subscription, i - 1, handle);
      publishers.erase(oldest);
      subscription.used.pop_front();
    }
    at = publishers.try_emplace(key).first;
    at->second.place = subscription.used.insert(subscription.used.end(), key);
  } else {
    subscription.used.splice(subscription.used.end(), subscription.used, at->second.place);
  }
  subscription.last = at;
  return at->second;
}

/// The publisher began anew; whatever it said before and did not come is lost.
void TopicReader::Restart(Subscription& subscription, Publisher& publisher,
                          const EnvelopeFields& fields) {
  // What waits for something of the old run would wait in vain, and is not kept back by the new
  // one.
  std::erase_if(subscription.held, [&](const Held& held) {
    if (held.publisher != &publisher) return false;
    subscription.held_bytes -= held.message->bytes();
    --held_;
    ++subscription.stats.late;
    return true;
  });
  publisher.held = publisher.held_bytes = 0;
  if (fields.first_sequence > publisher.next)
    Report(subscription, {.topic = subscription.topic,
                          .publisher = fields.sender,
                          .first_missing = publisher.next,
                          .last_missing = fields.first_sequence - 1,
                          .restarted = true});
  publisher.first = fields.first_sequence;
  publisher.next = fields.first_sequence;
  publisher.missing.clear();
}

bool TopicReader::IsOld(Subscription& subscription, const Publisher& publisher,
                        std::uint64_t sequence) {
  if (sequence >= publisher.next) {
    if (publisher.held == 0) return false;
    const bool waits =
        std::any_of(subscription.held.begin(), subscription.held.end(), [&](const Held& held) {
          return held.publisher == &publisher && held.message->fields().sequence == sequence;
        });
    if (waits) ++subscription.stats.duplicates;
    return waits;
  }
  for (const auto& run : publisher.missing)
    if (sequence >= run.first && sequence <= run.second) {
      ++subscription.stats.late;
      return true;
    }
  ++subscription.stats.duplicates;
  return true;
}

void TopicReader::Hold(Subscription& subscription, Held held, Clock clock, Handle handle) {
  held.due = clock() + subscription.options.hold;
  subscription.held_bytes += held.message->bytes();
  held.publisher->held_bytes += held.message->bytes();
  ++held.publisher->held;
  ++held_;
  subscription.held.push_back(std::move(held));
  while (subscription.held.size() > subscription.options.max_held)
    ForceLargest(subscription, &Publisher::held, handle);
  while (subscription.held_bytes > subscription.options.max_held_bytes &&
         !subscription.held.empty())
    ForceLargest(subscription, &Publisher::held_bytes, handle);
}

TopicReader::Held TopicReader::TakeOut(Subscription& subscription, std::size_t index) {
  Held held = std::move(subscription.held[index]);
  subscription.held.erase(subscription.held.begin() + static_cast<std::ptrdiff_t>(index));
  subscription.held_bytes -= held.message->bytes();
  held.publisher->held_bytes -= held.message->bytes();
  --held.publisher->held;
  --held_;
  return held;
}

void TopicReader::ForceLargest(Subscription& subscription, std::size_t Publisher::*what,
                               Handle handle) {
  const auto& all = subscription.held;
  const auto largest = std::max_element(
      all.begin(), all.end(),
      [what](const Held& a, const Held& b) { return a.publisher->*what < b.publisher->*what; });
  const Publisher* const publisher = largest->publisher;
  std::size_t first = static_cast<std::size_t>(largest - all.begin());
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].publisher == publisher &&
        all[i].message->fields().sequence < all[first].message->fields().sequence)
      first = i;
  HandOver(subscription, TakeOut(subscription, first), handle);
}

void TopicReader::Force(Subscription& subscription, std::size_t index, Handle handle) {
  const Publisher* const publisher = subscription.held[index].publisher;
  const std::uint64_t last = subscription.held[index].message->fields().sequence;
  for (;;) {
    std::optional<std::size_t> first;
    for (std::size_t i = 0; i < subscription.held.size(); ++i) {
      const std::uint64_t sequence = subscription.held[i].message->fields().sequence;
      if (subscription.held[i].publisher == publisher && sequence <= last &&
          (!first || sequence < subscription.held[*first].message->fields().sequence))
        first = i;
    }
    if (!first) return;
    HandOver(subscription, TakeOut(subscription, *first), handle);
  }
}

void TopicReader::HandOver(Subscription& subscription, Held held, Handle handle) {
  const EnvelopeFields& fields = held.message->fields();
  Publisher& publisher = *held.publisher;
  if (fields.sequence > publisher.next) {
    subscription.stats.missing += fields.sequence - publisher.next;
    // A bound: of a publisher with more holes the oldest count as duplicates when they come.
    if (publisher.missing.size() == kMaxRuns) publisher.missing.erase(publisher.missing.begin());
    publisher.missing.emplace_back(publisher.next, fields.sequence - 1);
    Report(subscription, {.topic = subscription.topic,
                          .publisher = fields.sender,
                          .first_missing = publisher.next,
                          .last_missing = fields.sequence - 1});
  }
  publisher.next = fields.sequence + 1;
  ++subscription.stats.handled;
  if (!held.missing.empty()) ++subscription.stats.incomplete;
  Remember(held.message->id());
  if (!subscription.removed)
    handle({.message = *held.message, .retained = held.retained, .missing = held.missing});
}

void TopicReader::Report(Subscription& subscription, const TopicGap& gap) {
  ++subscription.stats.gaps;
  if (subscription.options.on_gap && !subscription.removed) subscription.options.on_gap(gap);
}

void TopicReader::Remember(const MessageId& id) {
  std::memcpy(remembered_[next_remembered_].data(), id.bytes.data(), sizeof(ShortId));
  next_remembered_ = (next_remembered_ + 1) % kRemembered;
  if (held_ == 0) return;
  for (const auto& subscription : slots_) {
    if (subscription == nullptr) continue;
    for (Held& held : subscription->held) std::erase(held.missing, id);
  }
}

std::vector<MessageId> TopicReader::MissingOf(const std::vector<MessageId>& dependencies) const {
  std::vector<MessageId> missing;
  for (const MessageId& id : dependencies) {
    ShortId wanted;
    std::memcpy(wanted.data(), id.bytes.data(), sizeof wanted);
    if (std::find(remembered_.begin(), remembered_.end(), wanted) == remembered_.end())
      missing.push_back(id);
  }
  return missing;
}

bool TopicReader::ReleaseOne(Subscription& subscription, Handle handle) {
  for (std::size_t i = 0; i < subscription.held.size(); ++i) {
    const Held& held = subscription.held[i];
    if (held.missing.empty() && held.message->fields().sequence == held.publisher->next) {
      HandOver(subscription, TakeOut(subscription, i), handle);
      return true;
    }
  }
  return false;
}

void TopicReader::Release(Handle handle) {
  // Each turn hands over one of the held messages, which are bounded.
  for (bool again = true; again && held_ > 0;) {
    again = false;
    for (std::size_t slot = 0; slot < slots_.size(); ++slot)
      if (slots_[slot] != nullptr && !slots_[slot]->removed)
        again = ReleaseOne(*slots_[slot], handle) || again;
  }
}

std::size_t TopicReader::Expire(std::uint64_t now, Handle handle) {
  std::size_t due = 0;
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] == nullptr || slots_[slot]->removed) continue;
    Subscription& subscription = *slots_[slot];
    for (;;) {
      const auto at = std::find_if(subscription.held.begin(), subscription.held.end(),
                                   [now](const Held& held) { return held.due <= now; });
      if (at == subscription.held.end()) break;
      ++due;
      Force(subscription, static_cast<std::size_t>(at - subscription.held.begin()), handle);
      Release(handle);
    }
  }
  return due;
}

std::optional<std::uint64_t> TopicReader::next_due() const {
  if (held_ == 0) return std::nullopt;
  std::optional<std::uint64_t> due;
  for (const auto& subscription : slots_) {
    if (subscription == nullptr || subscription->removed) continue;
    for (const Held& held : subscription->held)
      if (!due || held.due < *due) due = held.due;
  }
  return due;
}

}  // namespace waxvm::messaging
