// SPDX-License-Identifier: Apache-2.0
// Random schedules of operations, on the store and on a model that knows nothing of files, commits,
// cursors or timers; the store is closed and opened again in between.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <tuple>

#include "src/mailbox/store_for_test.h"

namespace waxvm::mailbox {
namespace {

struct ModelDelivery {
  enum State { kNew, kLeased, kWaiting, kDone };
  State state = kNew;
  std::int64_t until = 0;
  std::uint32_t deliveries = 0;
  bool rejected = false;
};

struct ModelMessage {
  std::string payload, sender, ordering;
  std::int64_t expires = 0;
  std::map<std::string, ModelDelivery> groups;
};

struct ModelBox {
  MailboxOptions options;
  std::uint64_t next = 1;
  std::map<std::uint64_t, ModelMessage> messages;
  std::set<std::string> groups;
  std::multiset<std::tuple<std::string, std::uint64_t>> dead;
};

class Model {
 public:
  std::map<std::string, ModelBox> boxes;
  std::map<std::tuple<std::string, std::string, std::string>,
           std::pair<std::uint64_t, std::int64_t>>
      keys;
  std::int64_t window = 0;

  void Advance(std::int64_t now) {
    for (auto& [name, box] : boxes) {
      for (auto& [sequence, message] : box.messages)
        for (auto& [group, delivery] : message.groups)
          EndLease(box, sequence, group, delivery, now);
      Sweep(box);
      for (auto at = box.messages.begin(); at != box.messages.end();) {
        ModelMessage& message = at->second;
        if (message.expires == 0 || message.expires > now) {
          ++at;
          continue;
        }
        std::int64_t held = 0;
        for (const auto& [group, delivery] : message.groups)
          if (delivery.state == ModelDelivery::kLeased) held = std::max(held, delivery.until);
        if (held > now) message.expires = held;
        at = held > now ? std::next(at) : box.messages.erase(at);
      }
      Sweep(box);
    }
    std::erase_if(keys, [&](const auto& entry) { return entry.second.second <= now; });
  }

  Appended Append(const MailboxMessage& message, std::int64_t now) {
    ModelBox& box = boxes[message.mailbox];
    const auto key = std::tuple(message.mailbox, message.sender, message.idempotency_key);
    if (!message.idempotency_key.empty()) {
      if (keys.count(key) != 0) return {keys[key].first, true};
      keys[key] = {box.next, now + window};
    }
    ModelMessage& made = box.messages[box.next];
    made.payload = message.payload;
    made.sender = message.sender;
    made.ordering = message.ordering_key;
    const auto life =
        message.time_to_live.count() != 0 ? message.time_to_live : box.options.time_to_live;
    if (life.count() != 0) made.expires = now + life.count() * 1'000;
    for (const std::string& group : box.groups) made.groups[group];
    return {box.next++, false};
  }

  std::vector<std::uint64_t> Receive(const std::string& name, const std::string& group,
                                     std::size_t max, std::int64_t until) {
    ModelBox& box = boxes[name];
    std::vector<std::uint64_t> out;
    std::set<std::string> blocked;
    for (auto& [sequence, message] : box.messages) {
      ModelDelivery& delivery = message.groups[group];
      if (out.size() == max || delivery.state == ModelDelivery::kDone) continue;
      const bool free = delivery.state == ModelDelivery::kNew &&
                        !(box.options.strict && blocked.count(message.ordering) != 0);
      blocked.insert(message.ordering);
      if (!free) continue;
      delivery = {ModelDelivery::kLeased, until, delivery.deliveries + 1, false};
      out.push_back(sequence);
    }
    return out;
  }

  absl::StatusCode Settle(const std::string& name, const std::string& group, std::uint64_t sequence,
                          std::uint32_t deliveries, const Settlement& settlement,
                          std::int64_t now) {
    ModelBox& box = boxes[name];
    const auto found = box.messages.find(sequence);
    if (box.groups.count(group) == 0 || found == box.messages.end() ||
        found->second.groups[group].state == ModelDelivery::kDone)
      return absl::StatusCode::kNotFound;
    ModelDelivery& delivery = found->second.groups[group];
    if (delivery.deliveries != deliveries || delivery.rejected)
      return absl::StatusCode::kFailedPrecondition;
    switch (settlement.kind) {
      case Settlement::Kind::kAcknowledge:
        delivery.state = ModelDelivery::kDone;
        break;
      case Settlement::Kind::kDead:
        Kill(box, sequence, group, delivery);
        break;
      case Settlement::Kind::kExtend:
        if (delivery.state != ModelDelivery::kLeased) return absl::StatusCode::kFailedPrecondition;
        delivery.until = now + settlement.time.count() * 1'000;
        break;
      case Settlement::Kind::kReject:
        if (delivery.deliveries >= box.options.max_deliveries) {
          Kill(box, sequence, group, delivery);
          break;
        }
        delivery.state = ModelDelivery::kWaiting;
        delivery.rejected = true;
        std::int64_t wait = settlement.time.count();
        if (wait == 0)
          wait = std::min<std::int64_t>(box.options.first_back_off.count() << (deliveries - 1),
                                        box.options.max_back_off.count());
        delivery.until = now + wait * 1'000;
        break;
    }
    Sweep(box);
    return absl::StatusCode::kOk;
  }

  /// What everybody is done with; of a topic, up to the first message that somebody is not.
  static void Sweep(ModelBox& box) {
    if (box.options.topic && box.groups.empty()) return;
    for (auto at = box.messages.begin(); at != box.messages.end();) {
      const auto& groups = at->second.groups;
      const bool done = std::all_of(box.groups.begin(), box.groups.end(), [&](const auto& group) {
        const auto found = groups.find(group);
        return found != groups.end() && found->second.state == ModelDelivery::kDone;
      });
      if (!done && box.options.topic) return;
      at = done ? box.messages.erase(at) : std::next(at);
    }
  }

 private:
  static void Kill(ModelBox& box, std::uint64_t sequence, const std::string& group,
                   ModelDelivery& delivery) {
    delivery.state = ModelDelivery::kDone;
    box.dead.emplace(group, sequence);
  }
  static void EndLease(ModelBox& box, std::uint64_t sequence, const std::string& group,
                       ModelDelivery& delivery, std::int64_t now) {
    const bool leased = delivery.state == ModelDelivery::kLeased;
    if ((!leased && delivery.state != ModelDelivery::kWaiting) || delivery.until > now) return;
    if (leased && delivery.deliveries >= box.options.max_deliveries) {
      Kill(box, sequence, group, delivery);
    } else {
      delivery.state = ModelDelivery::kNew;
    }
  }
};

struct Receipt {
  std::string mailbox, group, text;
  std::uint64_t sequence;
  std::uint32_t deliveries;
};

class Schedule : public StoreTest, public testing::WithParamInterface<int> {
 protected:
  static constexpr milliseconds kWindow{3'000};

  std::uint64_t Random(std::uint64_t below) { return random_() % below; }
  template <typename T>
  const T& OneOf(const std::vector<T>& all) {
    return all[Random(all.size())];
  }

  void SetUp() override {
    random_.seed(static_cast<std::uint64_t>(GetParam()));
    model_.window = kWindow.count() * 1'000;
    Open({.key_window = kWindow});
    Make("plain", {.max_deliveries = 3});
    Make("strict", {.strict = true, .max_deliveries = 4});
    Make("short", {.time_to_live = milliseconds(700)});
    Make("topic", {.topic = true, .max_deliveries = 3});
    Make("strict-topic", {.topic = true, .strict = true, .time_to_live = milliseconds(2'500)});
  }
  void Make(const std::string& name, MailboxOptions options) {
    options.first_back_off = milliseconds(50);
    options.max_back_off = milliseconds(300);
    ASSERT_TRUE(store_->Create(name, options).ok());
    model_.boxes[name].options = options;
    if (!options.topic) model_.boxes[name].groups.insert("");
    names_.push_back(name);
  }

  void DoAppend() {
    std::vector<MailboxMessage> messages(1 + Random(4));
    for (MailboxMessage& message : messages) {
      message = {.mailbox = OneOf(names_),
                 .sender = std::string(1, static_cast<char>('a' + Random(3))),
                 .payload = std::to_string(++payload_),
                 .ordering_key = std::string(Random(3), 'o')};
      if (Random(3) == 0) message.idempotency_key = std::to_string(Random(10));
      if (Random(4) == 0) message.time_to_live = milliseconds(1 + Random(2'000));
    }
    const auto results = store_->Append(messages);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      ASSERT_TRUE(results[i].ok()) << results[i].status();
      EXPECT_EQ(*results[i], model_.Append(messages[i], now_));
    }
  }
  void DoReceive() {
    const std::string name = OneOf(names_);
    const ModelBox& box = model_.boxes[name];
    if (box.groups.empty()) return;
    const std::vector<std::string> groups(box.groups.begin(), box.groups.end());
    const std::string group = OneOf(groups);
    const std::size_t max = 1 + Random(5);
    const milliseconds lease(1 + Random(800));
    const auto got =
        store_->Receive({.mailbox = name, .group = group, .max_messages = max, .lease = lease});
    ASSERT_TRUE(got.ok()) << got.status();
    const auto expected = model_.Receive(name, group, max, now_ + lease.count() * 1'000);
    ASSERT_EQ(got->size(), expected.size()) << name << " " << group;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const Delivery& delivery = (*got)[i];
      ASSERT_EQ(delivery.sequence, expected[i]) << name << " " << group;
      const ModelMessage& message = model_.boxes[name].messages[expected[i]];
      EXPECT_EQ(delivery.payload, message.payload);
      EXPECT_EQ(delivery.sender, message.sender);
      EXPECT_EQ(delivery.deliveries, message.groups.at(group).deliveries);
      EXPECT_LE(delivery.oldest_open, delivery.sequence);
      for (const auto& [sequence, other] : model_.boxes[name].messages) {
        const auto state = other.groups.find(group);
        if (sequence >= delivery.oldest_open) break;
        EXPECT_TRUE(state != other.groups.end() && state->second.state == ModelDelivery::kDone)
            << sequence << " is open, below " << delivery.oldest_open;
      }
      receipts_.push_back({name, group, delivery.receipt, delivery.sequence, delivery.deliveries});
    }
  }
  void DoSettle() {
    if (receipts_.empty()) return;
    const std::size_t at =
        receipts_.size() - 1 - Random(std::min<std::size_t>(receipts_.size(), 12));
    const Receipt receipt = receipts_[at];
    using Kind = Settlement::Kind;
    Settlement settlement = {.receipt = receipt.text};
    const std::uint64_t dice = Random(10);
    settlement.kind = dice < 6   ? Kind::kAcknowledge
                      : dice < 8 ? Kind::kReject
                      : dice < 9 ? Kind::kExtend
                                 : Kind::kDead;
    if (settlement.kind == Kind::kExtend || (settlement.kind == Kind::kReject && Random(2) == 0))
      settlement.time = milliseconds(1 + Random(500));
    const absl::Status status = store_->Settle({settlement}).front();
    EXPECT_EQ(status.code(), model_.Settle(receipt.mailbox, receipt.group, receipt.sequence,
                                           receipt.deliveries, settlement, now_))
        << status << " " << receipt.mailbox << " " << receipt.sequence;
  }
  void DoGroups() {
    const std::string name = Random(2) == 0 ? "topic" : "strict-topic";
    // Names are never used again: receipts of a group that was removed stay those of nobody.
    ModelBox& box = model_.boxes[name];
    if (Random(3) == 0 && !box.groups.empty()) {
      const std::vector<std::string> groups(box.groups.begin(), box.groups.end());
      const std::string group = OneOf(groups);
      EXPECT_TRUE(store_->Unsubscribe(name, group).ok());
      box.groups.erase(group);
      for (auto& [sequence, message] : box.messages) message.groups.erase(group);
      Model::Sweep(box);
    } else if (box.groups.size() < 3) {
      const std::string group = "g" + std::to_string(++payload_);
      const bool from_start = Random(2) == 0;
      EXPECT_TRUE(store_->Subscribe(name, group, from_start).ok());
      box.groups.insert(group);
      for (auto& [sequence, message] : box.messages)
        message.groups[group].state = from_start ? ModelDelivery::kNew : ModelDelivery::kDone;
    }
  }

  void Compare() {
    for (const std::string& name : names_) {
      const auto info = store_->Info(name);
      ASSERT_TRUE(info.ok());
      const ModelBox& box = model_.boxes[name];
      EXPECT_EQ(info->next_sequence, box.next) << name;
      EXPECT_EQ(info->dead_letters, box.dead.size()) << name;
      EXPECT_EQ(info->messages, box.messages.size()) << name;
      std::multiset<std::tuple<std::string, std::uint64_t>> dead;
      const auto letters = store_->DeadLetters(name, 4096);
      ASSERT_TRUE(letters.ok());
      for (const DeadLetter& letter : *letters) dead.emplace(letter.group, letter.message.sequence);
      EXPECT_EQ(dead, box.dead) << name;
    }
    EXPECT_EQ(store_->Stats().keys, model_.keys.size());
  }
  /// With everything acknowledged there is nothing left anywhere.
  void Drain() {
    for (int i = 0; i < 200; ++i) {
      Pass(milliseconds(100));
      model_.Advance(now_);
      for (const std::string& name : names_)
        for (const std::string& group : model_.boxes[name].groups)
          for (const Delivery& delivery : Take(name, 100, group))
            ASSERT_TRUE(store_->Acknowledge(delivery.receipt).ok());
    }
    for (const std::string& name : names_)
      if (!model_.boxes[name].groups.empty()) {
        EXPECT_EQ(store_->Info(name)->messages, 0u) << name;
      }
  }

  std::mt19937_64 random_;
  Model model_;
  std::vector<std::string> names_;
  std::vector<Receipt> receipts_;
  std::uint64_t payload_ = 0;
};

TEST_P(Schedule, DoesWhatTheModelDoes) {
  for (int step = 0; step < 500 && !HasFailure(); ++step) {
    SCOPED_TRACE(step);
    Pass(milliseconds(Random(3) == 0 ? Random(400) : 0));
    model_.Advance(now_);
    const std::uint64_t dice = Random(100);
    if (dice < 30) {
      DoAppend();
    } else if (dice < 60) {
      DoReceive();
    } else if (dice < 90) {
      DoSettle();
    } else if (dice < 95) {
      DoGroups();
    } else if (dice < 97) {
      Compare();
    } else {
      Open({.key_window = kWindow});
    }
  }
  if (!HasFailure()) Compare();
  if (!HasFailure()) Drain();
}

INSTANTIATE_TEST_SUITE_P(Seeds, Schedule, testing::Range(0, 24));

}  // namespace
}  // namespace waxvm::mailbox
