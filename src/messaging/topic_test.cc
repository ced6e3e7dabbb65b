// SPDX-License-Identifier: Apache-2.0
// Topics between engines, in one process and between several.
#include "waxvm/topic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/messaging/messaging_for_test.h"
#include "src/messaging/topic_state.h"
#include "waxvm/cga.h"

namespace waxvm::messaging {
namespace {

using testing::ElementsAre;

/// Not to be serialised, nor copied.
struct Whole {
  static constexpr MessageType kMessageType = 0xa010;
  std::string text;
  Whole(std::string from) : text(std::move(from)) {}  // NOLINT: a test
  Whole(Whole&&) = default;
  absl::StatusOr<std::string> Encode() const { return absl::InternalError("was serialised"); }
  static absl::StatusOr<Whole> Decode(std::string_view) { return absl::InternalError("parsed"); }
};

/// Counts how often its bytes were read.
struct Parsed {
  static constexpr MessageType kMessageType = 0xa011;
  static inline std::atomic<int> times = 0;
  std::string text;
  absl::StatusOr<std::string> Encode() const { return text; }
  static absl::StatusOr<Parsed> Decode(std::string_view bytes) {
    ++times;
    if (bytes == "bad") return absl::InvalidArgumentError("it is bad");
    return Parsed{std::string(bytes)};
  }
};

class TopicsOfEngines : public testing::Test {
 protected:
  TopicsOfEngines() : topic_key_(KeyOf(50)), topic_(topic_key_.public_key()) {
    hub_ = *MessageHub::Create(HubOptions(clock_, &out_));
    there_ = *MessageHub::Create(HubOptions(clock_, &back_));
    quiet_ = *MessageHub::Create(HubOptions(clock_));
    for (MessageHub* hub : {hub_.get(), there_.get(), quiet_.get()})
      EXPECT_TRUE(hub->SetTopic(TopicAdvert(topic_key_, {PublicOf(1), PublicOf(2)})).ok());
  }

  std::unique_ptr<Engine> NewEngine(MessageHub& hub, unsigned number, EngineOptions options = {}) {
    options.replay.first_start = true;
    keys_.push_back(std::make_unique<SigningKey>(KeyOf(number)));
    auto engine = Engine::Create(&hub, keys_.back().get(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  /// One that has joined, and whose numbers are in `seen`.
  std::unique_ptr<Engine> NewReader(MessageHub& hub, unsigned number,
                                    std::vector<std::string>& seen, JoinOptions join = {},
                                    EngineOptions options = {}) {
    auto engine = NewEngine(hub, number, options);
    EXPECT_TRUE(engine
                    ->On<Number>([&seen](const Number& n, const MessageInfo& info) {
                      EXPECT_NE(info.topic, nullptr);
                      seen.push_back((info.retained ? "retained " : "") + std::to_string(n.value) +
                                     (info.missing.empty() ? "" : " incomplete"));
                    })
                    .ok());
    join.on_gap = [&seen](const TopicGap& gap) {
      seen.push_back(std::to_string(gap.last_missing - gap.first_missing + 1) + " missing");
    };
    EXPECT_TRUE(engine->Join(topic_, std::move(join)).ok());
    return engine;
  }

  TestClock clock_;
  TestTransport out_;
  TestTransport back_;
  SigningKey topic_key_;
  PublicKey topic_;
  std::unique_ptr<MessageHub> hub_;
  std::unique_ptr<MessageHub> there_;
  std::unique_ptr<MessageHub> quiet_;  ///< without a transport
  std::vector<std::unique_ptr<SigningKey>> keys_;
};

TEST_F(TopicsOfEngines, GiveOneObjectToAll) {
  const auto publisher = NewEngine(*quiet_, 1);
  std::vector<std::unique_ptr<Engine>> readers;
  std::vector<const Whole*> seen;
  for (unsigned i = 0; i < 1'000; ++i) {
    readers.push_back(NewEngine(*quiet_, 100 + i, {.inbox_messages = 4}));
    ASSERT_TRUE(readers.back()
                    ->On<Whole>([&](const Whole& whole, const MessageInfo& info) {
                      EXPECT_EQ(whole.text, "hello");
                      EXPECT_EQ(info.sender, publisher->key());
                      EXPECT_EQ(*info.topic, topic_);
                      EXPECT_TRUE(info.local);
                      seen.push_back(&whole);
                    })
                    .ok());
    ASSERT_TRUE(readers.back()->Join(topic_).ok());
  }
  const auto published = publisher->Publish(topic_, Whole("hello"));
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->delivered, 1'000u);
  for (const auto& reader : readers) EXPECT_EQ(reader->Poll(), 1u);
  ASSERT_EQ(seen.size(), 1'000u);
  for (const Whole* whole : seen) EXPECT_EQ(whole, seen.front());
}

TEST_F(TopicsOfEngines, AreForThosePublishersWhoAreNamed) {
  std::vector<std::string> seen;
  const auto reader = NewReader(*there_, 9, seen);
  const auto stranger = NewEngine(*hub_, 3);
  EXPECT_TRUE(absl::IsPermissionDenied(stranger->Publish(topic_, Number{1}).status()));
  EXPECT_TRUE(absl::IsNotFound(stranger->Publish(PublicOf(51), Number{1}).status()));
  EXPECT_TRUE(absl::IsNotFound(stranger->Join(PublicOf(51))));
  // From elsewhere, by somebody whose process does not look.
  const EnvelopeFields fields = {.type = Number::kMessageType,
                                 .kind = DestinationKind::kTopic,
                                 .destination = topic_,
                                 .sequence = 1,
                                 .first_sequence = 1,
                                 .created = kTestTime,
                                 .expires = kTestTime + 1'000,
                                 .payload = "1"};
  EXPECT_TRUE(
      absl::IsPermissionDenied(there_->Deliver(*SealEnvelope(fields, KeyOf(3)), SourceOf(1))));
  std::string forged = *SealEnvelope(fields, KeyOf(1));
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_TRUE(absl::IsUnauthenticated(there_->Deliver(forged, SourceOf(1))));
  EXPECT_TRUE(there_->Deliver(*SealEnvelope(fields, KeyOf(1)), SourceOf(1)).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(there_->Deliver(*SealEnvelope(fields, KeyOf(1)), SourceOf(1))));
  reader->Poll();
  EXPECT_THAT(seen, ElementsAre("1"));
  // A newer advert names others, an older one is no way back.
  ASSERT_TRUE(hub_->SetTopic(TopicAdvert(topic_key_, {PublicOf(3)}, 2)).ok());
  EXPECT_TRUE(stranger->Publish(topic_, Number{1}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(hub_->SetTopic(TopicAdvert(topic_key_, {}, 1))));
  ASSERT_TRUE(hub_->SetTopic(TopicAdvert(topic_key_, {}, 3, /*open=*/true)).ok());
  EXPECT_TRUE(NewEngine(*hub_, 77)->Publish(topic_, Number{1}).ok());
  clock_.Advance(86'400'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(stranger->Publish(topic_, Number{1}).status()));
}

TEST_F(TopicsOfEngines, ReachOtherProcesses) {
  std::vector<std::string> seen;
  EXPECT_TRUE(back_.joined().empty());
  const auto reader = NewReader(*there_, 9, seen);
  const auto second = NewReader(*there_, 10, seen);
  EXPECT_EQ(back_.joined().at(topic_), cga::GroupOf(topic_));
  const auto publisher = NewEngine(*hub_, 1);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(publisher->Publish(topic_, Number{i}).ok());
  std::vector<std::string> sent = out_.TakeSent();
  ASSERT_EQ(sent.size(), 3u);
  for (const std::size_t i : {0, 2, 2, 1}) (void)there_->Deliver(sent[i], SourceOf(1));
  reader->Poll();
  EXPECT_THAT(seen, ElementsAre("0", "1", "2"));
  EXPECT_EQ(there_->stats().refused, 1u) << "the one that came twice";
  EXPECT_EQ(reader->topic_stats(topic_)->handled, 3u);
  // Somebody elsewhere who joins late gets the last one from here, as it was signed.
  EXPECT_EQ(*there_->Retained(topic_), sent[2]);
  EXPECT_EQ(*hub_->Retained(topic_), sent[2]);
  EXPECT_TRUE(absl::IsFailedPrecondition(there_->RemoveTopic(topic_)));
  ASSERT_TRUE(reader->Leave(topic_).ok());
  EXPECT_FALSE(back_.joined().empty());
  ASSERT_TRUE(second->Leave(topic_).ok());
  EXPECT_TRUE(back_.joined().empty());
  EXPECT_TRUE(absl::IsNotFound(second->Leave(topic_)));
  EXPECT_TRUE(there_->RemoveTopic(topic_).ok());
  EXPECT_TRUE(absl::IsNotFound(there_->RemoveTopic(topic_)));
  EXPECT_TRUE(absl::IsNotFound(quiet_->Retained(topic_).status()));
}

TEST_F(TopicsOfEngines, ParseWhatComesFromElsewhereOnceForAll) {
  const auto publisher = NewEngine(*hub_, 1);
  std::vector<std::unique_ptr<Engine>> readers;
  int seen = 0;
  for (unsigned i = 0; i < 10; ++i) {
    readers.push_back(NewEngine(*there_, 100 + i));
    ASSERT_TRUE(readers.back()
                    ->On<Parsed>([&](const Parsed& p, const MessageInfo& info) {
                      EXPECT_EQ(p.text, "good");
                      EXPECT_FALSE(info.local);
                      ++seen;
                    })
                    .ok());
    ASSERT_TRUE(readers.back()->Join(topic_).ok());
  }
  for (const char* text : {"good", "bad", "good"})
    ASSERT_TRUE(publisher->Publish(topic_, Parsed{text}).ok());
  out_.DeliverAll(*there_);
  Parsed::times = 0;
  for (const auto& reader : readers) reader->Poll();
  EXPECT_EQ(seen, 20);
  EXPECT_EQ(Parsed::times, 3);
  EXPECT_EQ(readers[9]->stats().malformed, 1u);
}

TEST_F(TopicsOfEngines, KeepTheLastMessageForWhoJoinsLate) {
  const auto publisher = NewEngine(*quiet_, 1);
  ASSERT_TRUE(publisher->Publish(topic_, Number{1}).ok());
  ASSERT_TRUE(publisher->Publish(topic_, Number{2}).ok());
  std::vector<std::string> with;
  std::vector<std::string> without;
  const auto a = NewReader(*quiet_, 8, with);
  const auto b = NewReader(*quiet_, 9, without, {.retained = false});
  ASSERT_TRUE(publisher->Publish(topic_, Number{3}).ok());
  a->Poll();
  b->Poll();
  EXPECT_THAT(with, ElementsAre("retained 2", "3"));
  EXPECT_THAT(without, ElementsAre("3"));
}

TEST_F(TopicsOfEngines, LetSlowReadersSeeTheirGapAndNobodyElse) {
  const auto publisher = NewEngine(*quiet_, 1);
  std::vector<std::string> slow;
  std::vector<std::string> fast;
  const auto a = NewReader(*quiet_, 8, slow, {}, {.inbox_messages = 2});
  const auto b = NewReader(*quiet_, 9, fast);
  for (std::uint64_t i = 0; i < 5; ++i) {
    const auto published = publisher->Publish(topic_, Number{i});
    EXPECT_EQ(published->dropped, i < 2 ? 0u : 1u);
  }
  a->Poll();
  ASSERT_TRUE(publisher->Publish(topic_, Number{5}).ok());
  a->Poll();
  b->Poll();
  EXPECT_THAT(slow, ElementsAre("0", "1", "3 missing", "5"));
  EXPECT_THAT(fast, ElementsAre("0", "1", "2", "3", "4", "5"));
}

TEST_F(TopicsOfEngines, KeepWhatDependsOnAnotherBehindIt) {
  const auto first = NewEngine(*hub_, 1);
  const auto second = NewEngine(*hub_, 2);
  std::vector<std::string> seen;
  const auto reader = NewReader(*there_, 9, seen, {.hold = 500});
  const auto cause = first->Publish(topic_, Number{1});
  ASSERT_TRUE(second->Publish(topic_, Number{2}, {.dependencies = {cause->id}}).ok());
  std::vector<std::string> sent = out_.TakeSent();
  ASSERT_TRUE(there_->Deliver(sent[1], SourceOf(1)).ok());
  reader->Poll();
  EXPECT_THAT(seen, ElementsAre());
  EXPECT_EQ(reader->next_timeout(), 500);
  ASSERT_TRUE(there_->Deliver(sent[0], SourceOf(1)).ok());
  reader->Poll();
  EXPECT_THAT(seen, ElementsAre("1", "2"));
  EXPECT_EQ(reader->next_timeout(), -1);
  // And without it after a while.
  const auto lost = first->Publish(topic_, Number{3});
  ASSERT_TRUE(second->Publish(topic_, Number{4}, {.dependencies = {lost->id}}).ok());
  ASSERT_TRUE(there_->Deliver(out_.TakeSent()[1], SourceOf(1)).ok());
  reader->Poll();
  clock_.Advance(500);
  EXPECT_EQ(reader->next_timeout(), 0);
  EXPECT_EQ(reader->Poll(), 1u);
  EXPECT_THAT(seen, ElementsAre("1", "2", "4 incomplete"));
  const std::vector<MessageId> many(kMaxDependencies + 1);
  EXPECT_TRUE(
      absl::IsInvalidArgument(first->Publish(topic_, Number{5}, {.dependencies = many}).status()));
}

TEST_F(TopicsOfEngines, MayBeLeftAndJoinedByHandlers) {
  const auto publisher = NewEngine(*quiet_, 1);
  const auto reader = NewEngine(*quiet_, 9);
  std::vector<std::uint64_t> seen;
  ASSERT_TRUE(reader
                  ->On<Number>([&](const Number& n, const MessageInfo&) {
                    seen.push_back(n.value);
                    if (n.value != 1) return;
                    EXPECT_TRUE(reader->Leave(topic_).ok());
                    EXPECT_TRUE(reader->Join(topic_, {.retained = false}).ok());
                  })
                  .ok());
  ASSERT_TRUE(reader->Join(topic_).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(reader->Join(topic_)));
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(publisher->Publish(topic_, Number{i}).ok());
  reader->Poll();
  ASSERT_TRUE(publisher->Publish(topic_, Number{3}).ok());
  reader->Poll();
  EXPECT_THAT(seen, ElementsAre(0u, 1u, 3u)) << "2 was for the subscription that is gone";
}

/// Asks about its topic when it goes.
struct Curious {
  static constexpr MessageType kMessageType = 0xa00c;
  MessageHub* hub = nullptr;
  PublicKey topic = {};
  int* asked = nullptr;
  Curious(MessageHub* its_hub, const PublicKey& its_topic, int* counter)
      : hub(its_hub), topic(its_topic), asked(counter) {}
  Curious(Curious&& other) noexcept
      : hub(std::exchange(other.hub, nullptr)), topic(other.topic), asked(other.asked) {}
  ~Curious() {
    if (hub == nullptr) return;
    (void)hub->Retained(topic);
    ++*asked;
  }
  absl::StatusOr<std::string> Encode() const { return std::string(); }
  static absl::StatusOr<Curious> Decode(std::string_view) {
    return absl::UnimplementedError("only here");
  }
};

TEST_F(TopicsOfEngines, MayBeAskedByWhatTheyForget) {
  int asked = 0;
  {
    const auto publisher = NewEngine(*quiet_, 1);
    for (int i = 0; i < 3; ++i)
      ASSERT_TRUE(publisher->Publish(topic_, Curious(quiet_.get(), topic_, &asked)).ok());
    EXPECT_EQ(asked, 2);
    publisher->Publish(topic_, Number{1}).IgnoreError();
  }
  EXPECT_EQ(asked, 3);
}

/// By the time that it has joined, the topic is gone.
class LateTransport final : public EngineTransport {
 public:
  absl::Status Send(const PublicKey&, std::string) override { return absl::OkStatus(); }
  absl::Status Publish(const PublicKey&, const Address&, std::string) override {
    return absl::OkStatus();
  }
  absl::Status Join(const PublicKey& topic, const Address&) override {
    ++joined;
    return remove ? hub->RemoveTopic(topic) : absl::OkStatus();
  }
  void Leave(const PublicKey&, const Address&) override { --joined; }
  MessageHub* hub = nullptr;
  bool remove = true;
  int joined = 0;
};

TEST_F(TopicsOfEngines, ThatWereRemovedMeanwhileAreNotJoined) {
  LateTransport transport;
  const auto hub = *MessageHub::Create(HubOptions(clock_, &transport));
  transport.hub = hub.get();
  ASSERT_TRUE(hub->SetTopic(TopicAdvert(topic_key_, {PublicOf(1)})).ok());
  const auto engine = NewEngine(*hub, 1);
  EXPECT_TRUE(absl::IsNotFound(engine->Join(topic_)));
  EXPECT_EQ(transport.joined, 0);
  // As if it had never been there.
  transport.remove = false;
  ASSERT_TRUE(hub->SetTopic(TopicAdvert(topic_key_, {PublicOf(1)})).ok());
  ASSERT_TRUE(engine->Join(topic_).ok());
  EXPECT_EQ(engine->Publish(topic_, Number{1})->delivered, 1u);
}

TEST(TopicState, ForgetsPublishersWhoNeverComeAgain) {
  const SigningKey key = KeyOf(50);
  TopicState state(key.public_key());
  ASSERT_TRUE(state.SetAdvert(TopicAdvert(key, {}, 1, /*open=*/true)).ok());
  const auto publish = [&](std::uint32_t number) {
    TopicState::Local from = {.now = kTestTime};
    std::memcpy(from.publisher.bytes.data(), &number, sizeof number);
    std::string ignored;
    return state.Publish(from, Message::Of(Number{number}), {}, ignored)->sequence;
  };
  const std::uint64_t first = publish(0);
  EXPECT_EQ(publish(0), first + 1);
  for (int i = 0; i < 10; ++i) publish(1);
  for (std::uint32_t i = 1; i <= 70'000; ++i) publish(i);
  // Forgotten, and above whatever anybody who was forgotten used: readers see that it began anew.
  EXPECT_GE(publish(0), first + 10);
}

TEST_F(TopicsOfEngines, SayWhyNobodyCanJoin) {
  const auto reader = NewEngine(*there_, 9);
  back_.join_result = absl::UnavailableError("no multicast here");
  EXPECT_TRUE(absl::IsUnavailable(reader->Join(topic_)));
  back_.join_result = absl::OkStatus();
  EXPECT_TRUE(reader->Join(topic_).ok());
}

TEST_F(TopicsOfEngines, AreReadByThreadsWhileOthersPublish) {
  constexpr std::uint64_t kEach = 5'000;
  std::atomic<std::uint64_t> handled = 0;
  std::atomic<std::uint64_t> missing = 0;
  std::vector<std::unique_ptr<Engine>> readers;
  for (unsigned i = 0; i < 3; ++i) {
    readers.push_back(NewEngine(*quiet_, 100 + i, {.inbox_messages = 128}));
    ASSERT_TRUE(
        readers.back()->On<Number>([&](const Number&, const MessageInfo&) { ++handled; }).ok());
    JoinOptions join;
    join.on_gap = [&](const TopicGap& gap) { missing += gap.last_missing - gap.first_missing + 1; };
    ASSERT_TRUE(readers.back()->Join(topic_, std::move(join)).ok());
    ASSERT_TRUE(readers.back()->Start().ok());
  }
  std::atomic<std::uint64_t> dropped = 0;
  {
    std::vector<std::unique_ptr<Engine>> publishers;
    std::vector<std::jthread> threads;
    for (unsigned p = 1; p <= 2; ++p) {
      publishers.push_back(NewEngine(*quiet_, p));
      threads.emplace_back([&, publisher = publishers.back().get()] {
        for (std::uint64_t i = 0; i < kEach; ++i) {
          const auto published = publisher->Publish(topic_, Number{i});
          ASSERT_TRUE(published.ok());
          dropped += published->dropped;
        }
      });
    }
  }
  while (handled + dropped < 2 * 3 * kEach) std::this_thread::yield();
  for (const auto& reader : readers) reader->Stop();
  EXPECT_EQ(handled + dropped, 2 * 3 * kEach);
  EXPECT_LE(missing, dropped) << "what was dropped last has nobody after it to show the gap";
}

}  // namespace
}  // namespace waxvm::messaging
