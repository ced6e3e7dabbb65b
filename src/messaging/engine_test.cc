// SPDX-License-Identifier: Apache-2.0
#include "waxvm/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/messaging/hub.h"
#include "src/messaging/messaging_for_test.h"

namespace waxvm::messaging {
namespace {

using testing::ElementsAre;
using Bytes = BytesMessage<0xb001>;
using Typed = ValueMessage<0xb002>;

/// Cannot be written as bytes: who tries is found out. Move-only.
struct Unwritable {
  static constexpr MessageType kMessageType = 0xa002;
  std::unique_ptr<std::string> text;
  absl::StatusOr<std::string> Encode() const { return absl::InternalError("was serialised"); }
  static absl::StatusOr<Unwritable> Decode(std::string_view) {
    return absl::InternalError("was parsed");
  }
};

/// Too large for a cell of the inbox.
struct Large {
  static constexpr MessageType kMessageType = 0xa003;
  std::array<std::uint64_t, 100> numbers = {};
  absl::StatusOr<std::string> Encode() const { return absl::InternalError("was serialised"); }
  static absl::StatusOr<Large> Decode(std::string_view) { return absl::InternalError("parsed"); }
};

/// The type of Number, as somebody else wrote it.
struct OtherNumber {
  static constexpr MessageType kMessageType = Number::kMessageType;
  std::string digits;
  absl::StatusOr<std::string> Encode() const { return digits; }
  static absl::StatusOr<OtherNumber> Decode(std::string_view bytes) {
    return OtherNumber{std::string(bytes)};
  }
};

/// Counts the objects that are alive.
struct Counted {
  static constexpr MessageType kMessageType = 0xa004;
  static inline std::atomic<int> alive = 0;
  Counted() { ++alive; }
  Counted(Counted&&) noexcept { ++alive; }
  ~Counted() { --alive; }
  absl::StatusOr<std::string> Encode() const { return std::string(); }
  static absl::StatusOr<Counted> Decode(std::string_view) { return Counted(); }
};

class Engines : public testing::Test {
 protected:
  std::unique_ptr<Engine> NewEngine(MessageHub& hub, unsigned number, EngineOptions options = {}) {
    options.replay.first_start = true;
    keys_.push_back(std::make_unique<SigningKey>(KeyOf(number)));
    auto engine = Engine::Create(&hub, keys_.back().get(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  std::unique_ptr<Engine> NewEngine(unsigned number, const EngineOptions& options = {}) {
    return NewEngine(*hub_, number, options);
  }

  TestClock clock_;
  std::unique_ptr<MessageHub> hub_ = *MessageHub::Create(HubOptions(clock_));
  std::vector<std::unique_ptr<SigningKey>> keys_;
};

TEST_F(Engines, PassObjectsToEachOtherAsTheyAre) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2);
  std::string* seen = nullptr;
  ASSERT_TRUE(b->On<Unwritable>([&](Unwritable&& message, const MessageInfo& info) {
                 seen = message.text.get();
                 EXPECT_EQ(*seen, "hello");
                 EXPECT_EQ(info.sender, a->key());
                 EXPECT_TRUE(info.local);
                 EXPECT_EQ(info.topic, nullptr);
                 EXPECT_EQ(info.type, Unwritable::kMessageType);
               }).ok());
  std::uint64_t sum = 0;
  ASSERT_TRUE(b->On<Large>([&](const Large& message, const MessageInfo&) {
                 for (const std::uint64_t number : message.numbers) sum += number;
               }).ok());
  Unwritable message = {std::make_unique<std::string>("hello")};
  const std::string* const sent = message.text.get();
  ASSERT_TRUE(a->Send(b->key(), std::move(message)).ok());
  Large large;
  large.numbers.fill(3);
  ASSERT_TRUE(a->Send(b->key(), large).ok());
  EXPECT_EQ(seen, nullptr) << "handled before it was polled";
  EXPECT_EQ(b->Poll(), 2u);
  EXPECT_EQ(seen, sent);
  EXPECT_EQ(sum, 300u);
  EXPECT_EQ(b->Poll(), 0u);
  EXPECT_EQ(b->stats().handled, 2u);
}

TEST_F(Engines, KeepTheOrder) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2, {.inbox_messages = 4});
  std::vector<std::uint64_t> seen;
  std::vector<std::uint64_t> sequences;
  ASSERT_TRUE(b->On<Number>([&](const Number& number, const MessageInfo& info) {
                 seen.push_back(number.value);
                 sequences.push_back(info.sequence);
               }).ok());
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto sent = a->Send(b->key(), Number{i});
    ASSERT_TRUE(sent.ok());
    if (i % 3 == 0) b->Poll();
    if (!sequences.empty()) {
      EXPECT_GE(*sent, sequences.back());
    }
  }
  b->Poll();
  ASSERT_EQ(seen.size(), 100u);
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(seen[i], i);
  EXPECT_TRUE(std::is_sorted(sequences.begin(), sequences.end()));
}

TEST_F(Engines, TellSendersThatTheyAreTooFast) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2, {.inbox_messages = 8});
  int handled = 0;
  ASSERT_TRUE(b->On<Unwritable>([&](const Unwritable& m, const MessageInfo&) {
                 EXPECT_NE(m.text, nullptr);
                 ++handled;
               }).ok());
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(a->Send(b->key(), Unwritable{std::make_unique<std::string>("x")}).ok()) << i;
  Message message = Message::Of(Unwritable{std::make_unique<std::string>("again")});
  EXPECT_TRUE(absl::IsResourceExhausted(a->SendMessage(b->key(), message, {}).status()));
  ASSERT_FALSE(message.empty());
  EXPECT_EQ(*message.As<Unwritable>()->text, "again") << "it was taken although there was no room";
  EXPECT_EQ(b->Poll(1), 1u);
  EXPECT_TRUE(a->SendMessage(b->key(), message, {}).ok());
  EXPECT_TRUE(message.empty());
  b->Poll();
  EXPECT_EQ(handled, 9);
}

TEST_F(Engines, WaitForRoomWhereTheyAreAskedTo) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2, {.inbox_messages = 2});
  ASSERT_TRUE(b->On<Number>([](const Number&, const MessageInfo&) {}).ok());
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(a->Send(b->key(), Number{1}, {.wait = 30}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(a->Send(b->key(), Number{1}, {.wait = 30}).status()));
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(30));
  ASSERT_TRUE(b->Start().ok());
  for (std::uint64_t i = 0; i < 1'000; ++i)
    ASSERT_TRUE(a->Send(b->key(), Number{i}, {.wait = 10'000}).ok());
  while (b->stats().handled < 1'002) std::this_thread::yield();
}

TEST_F(Engines, CountWhatNobodyKnowsAndTellWhoAsked) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2);
  std::vector<std::string> errors;
  ASSERT_TRUE(a->On<MessageError>([&](const MessageError& error, const MessageInfo& info) {
                 errors.push_back(absl::StatusCodeToString(error.code) + " of " +
                                  std::to_string(info.in_reply_to));
                 EXPECT_EQ(info.sender, b->key());
               }).ok());
  ASSERT_TRUE(a->Send(b->key(), Bytes{"x"}).ok());
  const auto asked = a->Send(b->key(), Bytes{"x"}, {.wants_errors = true});
  ASSERT_TRUE(asked.ok());
  b->Poll();
  a->Poll();
  EXPECT_THAT(errors, ElementsAre("UNIMPLEMENTED of " + std::to_string(*asked)));
  EXPECT_EQ(b->stats().unknown_types, 2u);
  EXPECT_EQ(b->stats().errors_told, 1u);
  // An error of an error is not told.
  ASSERT_TRUE(a->Send(b->key(), MessageError{}, {.wants_errors = true}).ok());
  b->Poll();
  EXPECT_EQ(a->Poll(), 0u);
}

TEST_F(Engines, WithTypesOfTheirOwnForAMessageMeetInItsBytes) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2);
  std::vector<std::uint64_t> seen;
  std::vector<absl::StatusCode> errors;
  ASSERT_TRUE(b->On<Number>([&](const Number& n, const MessageInfo& info) {
                 seen.push_back(n.value);
                 EXPECT_TRUE(info.local);
               }).ok());
  ASSERT_TRUE(a->On<MessageError>([&](const MessageError& error, const MessageInfo&) {
                 errors.push_back(error.code);
               }).ok());
  ASSERT_TRUE(a->Send(b->key(), OtherNumber{"42"}).ok());
  ASSERT_TRUE(a->Send(b->key(), OtherNumber{"none"}, {.wants_errors = true}).ok());
  b->Poll();
  a->Poll();
  EXPECT_THAT(seen, ElementsAre(42u));
  EXPECT_THAT(errors, ElementsAre(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(b->stats().malformed, 1u);
}

TEST_F(Engines, AnswerAndSendToThemselves) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2);
  std::vector<std::uint64_t> seen;
  ASSERT_TRUE(b->On<Number>([&](Number n, const MessageInfo& info) {
                 ASSERT_TRUE(b->Reply(info, Number{n.value + 1}).ok());
               }).ok());
  std::uint64_t question = 0;
  ASSERT_TRUE(a->On<Number>([&](const Number& n, const MessageInfo& info) {
                 seen.push_back(n.value);
                 if (n.value != 10) return;
                 EXPECT_EQ(info.in_reply_to, question);
                 // A handler may put another one in its place, and send to its own engine.
                 ASSERT_TRUE(a->On<Number>([&](const Number& last, const MessageInfo&) {
                                seen.push_back(last.value * 100);
                              }).ok());
                 ASSERT_TRUE(a->Send(a->key(), Number{11}).ok());
               }).ok());
  const auto sent = a->Send(b->key(), Number{9});
  ASSERT_TRUE(sent.ok());
  question = *sent;
  b->Poll();
  a->Poll();
  EXPECT_THAT(seen, ElementsAre(10u, 1100u));
}

TEST_F(Engines, LetAHandlerReplaceItselfAndGoOn) {
  const auto a = NewEngine(1);
  struct {
    Engine* engine;
    int first = 0;
    int second = 0;
    int third = 0;
  } log = {a.get()};
  // What they capture is so little that it lies within what the engine keeps of a handler.
  ASSERT_TRUE(a->On<Number>([&log](const Number&, const MessageInfo&) {
                 EXPECT_TRUE(log.engine
                                 ->On<Number>([to = &log.second](const Number&,
                                                                 const MessageInfo&) { ++*to; })
                                 .ok());
                 ++log.first;
                 // What is kept of those that were replaced moves when it grows.
                 for (int i = 0; i < 40; ++i)
                   EXPECT_TRUE(log.engine
                                   ->On<Number>([to = &log.third](const Number&,
                                                                  const MessageInfo&) { ++*to; })
                                   .ok());
                 ++log.first;
               }).ok());
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(a->Send(a->key(), Number{1}).ok());
  EXPECT_EQ(a->Poll(), 2u);
  EXPECT_EQ(log.first, 2);
  EXPECT_EQ(log.second, 0);
  EXPECT_EQ(log.third, 1);
}

TEST_F(Engines, HaveAKeyEach) {
  const auto a = NewEngine(1);
  const SigningKey same = KeyOf(1);
  EXPECT_TRUE(absl::IsAlreadyExists(Engine::Create(hub_.get(), &same).status()));
  EXPECT_TRUE(absl::IsNotFound(a->Send(PublicOf(2), Number{1}).status()));
  auto b = NewEngine(2);
  EXPECT_TRUE(a->Send(PublicOf(2), Number{1}).ok());
  b.reset();
  EXPECT_TRUE(absl::IsNotFound(a->Send(PublicOf(2), Number{1}).status()));
  b = NewEngine(2);
  EXPECT_TRUE(a->Send(PublicOf(2), Number{1}).ok());
  EXPECT_EQ(b->Poll(), 1u) << "that of the engine before is gone, the new one is here";
  EXPECT_EQ(hub_->stats().engines, 2u);
}

TEST_F(Engines, FreeWhatWasNeverHandled) {
  {
    const auto a = NewEngine(1);
    auto b = NewEngine(2);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(a->Send(b->key(), Counted()).ok());
    EXPECT_EQ(Counted::alive, 10);
    EXPECT_EQ(b->Poll(3), 3u);  // unknown
    EXPECT_EQ(Counted::alive, 7);
    b.reset();
    EXPECT_EQ(Counted::alive, 0) << "although others still know its inbox";
  }
  EXPECT_EQ(Counted::alive, 0);
}

bool IsReadable(int fd) {
  pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&ready, 1, 0) == 1;
}

TEST_F(Engines, SayByTheirDescriptorThatThereIsSomething) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2);
  ASSERT_TRUE(b->On<Number>([](const Number&, const MessageInfo&) {}).ok());
  ASSERT_TRUE(a->Send(b->key(), Number{1}).ok());
  const int fd = *b->descriptor();
  EXPECT_TRUE(IsReadable(fd)) << "what came before it was asked for";
  EXPECT_EQ(b->Poll(), 1u);
  EXPECT_FALSE(IsReadable(fd));
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) ASSERT_TRUE(a->Send(b->key(), Number{1}).ok());
    EXPECT_TRUE(IsReadable(fd));
    EXPECT_EQ(b->Poll(2), 2u);
    EXPECT_TRUE(IsReadable(fd)) << "one is left";
    EXPECT_EQ(b->Poll(), 1u);
    EXPECT_FALSE(IsReadable(fd));
  }
}

TEST_F(Engines, RunOnAThreadOfTheirOwn) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(2);
  std::atomic<std::uint64_t> sum = 0;
  std::atomic<bool> other_thread = false;
  const auto here = std::this_thread::get_id();
  ASSERT_TRUE(b->On<Number>([&](const Number& n, const MessageInfo&) {
                 other_thread = std::this_thread::get_id() != here;
                 sum += n.value;
                 EXPECT_TRUE(b->On<Typed>([](const Typed&, const MessageInfo&) {}).ok());
               }).ok());
  ASSERT_TRUE(b->Start().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(b->Start()));
  for (std::uint64_t i = 0; i < 50; ++i) {
    ASSERT_TRUE(a->Send(b->key(), Number{i}).ok());
    if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  while (sum < 1'225) std::this_thread::yield();
  EXPECT_TRUE(other_thread);
  EXPECT_TRUE(absl::IsFailedPrecondition(b->On<Typed>([](const Typed&, const MessageInfo&) {})));
  b->Stop();
  ASSERT_TRUE(a->Send(b->key(), Number{1}).ok());
  b->Poll();
  EXPECT_EQ(sum, 1'226u);
}

TEST_F(Engines, TakeMessagesFromManyThreads) {
  constexpr std::uint64_t kEach = 20'000;
  const auto receiver = NewEngine(1, {.inbox_messages = 64});
  std::array<std::uint64_t, 4> next = {};
  ASSERT_TRUE(receiver
                  ->On<Number>([&](const Number& n, const MessageInfo&) {
                    EXPECT_EQ(n.value % kEach, next[n.value / kEach]++) << "out of order";
                  })
                  .ok());
  const auto shared = NewEngine(10);
  {
    std::vector<std::unique_ptr<Engine>> senders;
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < 4; ++t) {
      if (t > 1) senders.push_back(NewEngine(2 + t));
      Engine* const sender = t > 1 ? senders.back().get() : shared.get();
      threads.emplace_back([&, sender, t] {
        for (std::uint64_t i = 0; i < kEach; ++i)
          ASSERT_TRUE(sender->Send(receiver->key(), Number{t * kEach + i}, {.wait = 60'000}).ok());
      });
    }
    std::size_t handled = 0;
    const int fd = *receiver->descriptor();
    while (handled < 4 * kEach) {
      pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
      ASSERT_EQ(poll(&ready, 1, 60'000), 1) << "slept although there was something";
      handled += receiver->Poll();
    }
  }
  EXPECT_THAT(next, testing::Each(kEach));
}

// Each inbox is 128 KiB: who writes to many that come and go must not keep all of them.
TEST_F(Engines, AreNotKeptByThoseWhoWroteToThem) {
  const auto a = NewEngine(1);
  std::vector<std::weak_ptr<Port>> ports;
  for (unsigned i = 0; i < 600; ++i) {
    const SigningKey key = KeyOf(100 + i);
    auto engine = *Engine::Create(hub_.get(), &key);
    ASSERT_TRUE(a->Send(engine->key(), Number{i}).ok());
    ports.push_back(static_cast<Hub&>(*hub_).Find(engine->key()));
  }
  const auto kept = std::count_if(ports.begin(), ports.end(),
                                  [](const std::weak_ptr<Port>& port) { return !port.expired(); });
  EXPECT_LE(kept, 20);
}

TEST_F(Engines, EndWhileOthersSend) {
  const auto sender = NewEngine(1);
  std::atomic<bool> done = false;
  std::jthread thread([&] {
    while (!done) {
      const auto sent = sender->Send(PublicOf(2), Counted());
      ASSERT_TRUE(sent.ok() || absl::IsNotFound(sent.status()) ||
                  absl::IsResourceExhausted(sent.status()))
          << sent.status();
    }
  });
  for (int i = 0; i < 200; ++i) {
    const auto engine = NewEngine(2);
    engine->Poll(100);
  }
  done = true;
  thread.join();
}

/// Two processes, as far as their engines can tell.
class Remote : public Engines {
 protected:
  Remote() : there_(*MessageHub::Create(HubOptions(clock_, &back_))) {
    hub_ = *MessageHub::Create(HubOptions(clock_, &out_));
  }

  TestTransport out_;
  TestTransport back_;
  std::unique_ptr<MessageHub> there_;
};

TEST_F(Remote, AreSpokenToAsLocalOnes) {
  const auto a = NewEngine(1);
  const ExchangeKey exchange = *ExchangeKey::Of(KeyOf(2));
  const auto b = NewEngine(*there_, 2, {.exchange_key = &exchange});
  std::vector<std::string> seen;
  ASSERT_TRUE(b->On<Number>([&](const Number& n, const MessageInfo& info) {
                 seen.push_back(std::to_string(n.value) + (info.encrypted ? " secretly" : ""));
                 EXPECT_EQ(info.sender, a->key());
                 EXPECT_FALSE(info.local);
                 ASSERT_TRUE(b->Reply(info, Bytes{"thanks"}).ok());
               }).ok());
  std::uint64_t answers = 0;
  std::uint64_t last = 0;
  ASSERT_TRUE(a->On<Bytes>([&](const Bytes& bytes, const MessageInfo& info) {
                 EXPECT_EQ(bytes.bytes, "thanks");
                 EXPECT_EQ(info.in_reply_to, last);
                 ++answers;
               }).ok());
  for (const bool encrypt : {false, true}) {
    const auto sent = a->Send(b->key(), Number{encrypt ? 2u : 1u}, {.encrypt = encrypt});
    ASSERT_TRUE(sent.ok()) << sent.status();
    last = *sent;
    out_.DeliverAll(*there_);
    EXPECT_EQ(b->Poll(), 1u);
    back_.DeliverAll(*hub_);
    EXPECT_EQ(a->Poll(), 1u);
  }
  EXPECT_THAT(seen, ElementsAre("1", "2 secretly"));
  EXPECT_EQ(answers, 2u);
}

TEST_F(Remote, HearNothingTwiceNorLateNorFromWhoIsNotAllowed) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(*there_, 2);
  std::size_t seen = 0;
  ASSERT_TRUE(b->On<Number>([&](const Number&, const MessageInfo&) { ++seen; }).ok());
  ASSERT_TRUE(a->Send(b->key(), Number{1}, {.lifetime = 100}).ok());
  ASSERT_TRUE(a->Send(b->key(), Number{2}, {.lifetime = 100}).ok());
  ASSERT_TRUE(a->Send(b->key(), Number{3}, {.encrypt = true}).ok());
  const std::vector<std::string> sent = out_.TakeSent();
  ASSERT_EQ(sent.size(), 3u);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(there_->Deliver(sent[0], SourceOf(5)).ok());
  EXPECT_EQ(b->Poll(), 3u);
  EXPECT_EQ(seen, 1u);
  EXPECT_EQ(b->stats().replays, 2u);
  ASSERT_TRUE(there_->Deliver(sent[1], SourceOf(5)).ok());
  clock_.Advance(100);
  b->Poll();
  EXPECT_EQ(b->stats().expired, 1u);
  ASSERT_TRUE(there_->Deliver(sent[2], SourceOf(5)).ok());
  b->Poll();
  EXPECT_EQ(b->stats().refused, 1u) << "there is no key to decrypt with";
  EXPECT_FALSE(there_->Deliver("nonsense", SourceOf(5)).ok());
  EXPECT_TRUE(absl::IsNotFound(hub_->Deliver(sent[0], SourceOf(5))));
  EXPECT_EQ(there_->stats().refused, 1u);
  EXPECT_EQ(seen, 1u);

  MessageHubOptions options = HubOptions(clock_);
  options.allow = [](const PublicKey& sender) { return sender != PublicOf(1); };
  const auto strict = *MessageHub::Create(options);
  const auto c = NewEngine(*strict, 2);
  ASSERT_TRUE(a->Send(PublicOf(2), Number{1}).ok());
  out_.DeliverAll(*strict);
  c->Poll();
  EXPECT_EQ(c->stats().refused, 1u);
}

TEST_F(Remote, AreToldOfErrorsAtARate) {
  const auto a = NewEngine(1);
  const auto b = NewEngine(*there_, 2, {.errors_per_second = 3});
  int errors = 0;
  ASSERT_TRUE(a->On<MessageError>([&](const MessageError&, const MessageInfo&) { ++errors; }).ok());
  for (int second = 0; second < 2; ++second) {
    for (int i = 0; i < 10; ++i)
      ASSERT_TRUE(a->Send(b->key(), Number{1}, {.wants_errors = true}).ok());
    out_.DeliverAll(*there_);
    b->Poll();
    clock_.Advance(1'000);
  }
  back_.DeliverAll(*hub_);
  a->Poll();
  EXPECT_EQ(errors, 6);
  EXPECT_EQ(b->stats().errors_withheld, 14u);
  EXPECT_EQ(b->stats().unknown_types, 20u);
}

TEST_F(Remote, AreToldOfErrorsAsSecretlyAsTheyAsked) {
  const ExchangeKey exchange_a = *ExchangeKey::Of(KeyOf(1));
  const ExchangeKey exchange_b = *ExchangeKey::Of(KeyOf(2));
  const auto a = NewEngine(*hub_, 1, {.exchange_key = &exchange_a});
  const auto b = NewEngine(*there_, 2, {.exchange_key = &exchange_b});
  std::vector<bool> encrypted;
  ASSERT_TRUE(a->On<MessageError>([&](const MessageError&, const MessageInfo& info) {
                 encrypted.push_back(info.encrypted);
               }).ok());
  for (const bool encrypt : {false, true}) {
    ASSERT_TRUE(a->Send(b->key(), Number{1}, {.encrypt = encrypt, .wants_errors = true}).ok());
    out_.DeliverAll(*there_);
    b->Poll();
    back_.DeliverAll(*hub_);
    a->Poll();
  }
  EXPECT_THAT(encrypted, ElementsAre(false, true));
}

TEST_F(Remote, FloodsDisplaceNeitherOthersNorLocalMessages) {
  const auto a = NewEngine(1);
  const auto neighbour = NewEngine(*there_, 3);
  const auto b = NewEngine(*there_, 2, {.inbox_messages = 16, .remote_messages = 20});
  std::uint64_t local = 0;
  std::uint64_t remote = 0;
  ASSERT_TRUE(b->On<Number>([&](const Number&, const MessageInfo& info) {
                 ++(info.local ? local : remote);
               }).ok());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(a->Send(b->key(), Number{1}).ok());
  out_.DeliverAll(*there_, SourceOf(1));
  // Something that looks like an envelope to it, as often as anybody likes.
  ASSERT_TRUE(a->Send(b->key(), Number{1}).ok());
  std::string junk = out_.TakeSent().front();
  junk.back() = static_cast<char>(junk.back() ^ 1);
  int refused = 0;
  for (int i = 0; i < 10'000; ++i) refused += there_->Deliver(junk, SourceOf(66)).ok() ? 0 : 1;
  EXPECT_EQ(refused, 10'000 - 15);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(neighbour->Send(b->key(), Number{1}).ok());
  // Both are served although it has not all been looked at.
  EXPECT_EQ(b->Poll(22), 22u);
  EXPECT_EQ(local, 10u);
  EXPECT_EQ(remote, 5u);
  EXPECT_EQ(b->stats().remote_dropped, 9'985u);
}

TEST_F(Remote, GoOnAfterARestartOfTheSender) {
  auto a = NewEngine(1);
  const auto b = NewEngine(*there_, 2);
  std::size_t seen = 0;
  ASSERT_TRUE(b->On<Number>([&](const Number&, const MessageInfo&) { ++seen; }).ok());
  for (int run = 0; run < 3; ++run) {
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(a->Send(b->key(), Number{1}).ok());
    out_.DeliverAll(*there_);
    b->Poll();
    a.reset();
    clock_.Advance(1);
    a = NewEngine(1);
  }
  EXPECT_EQ(seen, 30u);
}

TEST_F(Remote, TellOfATransportThatFails) {
  const auto a = NewEngine(1);
  out_.send_result = absl::ResourceExhaustedError("no room");
  Message message = Message::Of(Number{1});
  EXPECT_TRUE(absl::IsResourceExhausted(a->SendMessage(PublicOf(2), message, {}).status()));
  EXPECT_FALSE(message.empty());
  Message unwritable = Message::Of(Unwritable{});
  EXPECT_TRUE(absl::IsInternal(a->SendMessage(PublicOf(2), unwritable, {}).status()));
  Message large = Message::Of(Bytes{std::string(kMaxPayloadBytes + 1, 'x')});
  EXPECT_TRUE(absl::IsInvalidArgument(a->SendMessage(PublicOf(2), large, {}).status()));
}

TEST(Message, IsAnObjectOfItsType) {
  Message number = Message::Of(Number{7});
  EXPECT_EQ(number.type(), Number::kMessageType);
  EXPECT_EQ(number.As<Number>()->value, 7u);
  EXPECT_EQ(number.As<OtherNumber>(), nullptr) << "of the same id, and another type";
  EXPECT_EQ(*number.Encode(), "7");
  Message moved = std::move(number);
  EXPECT_TRUE(number.empty());  // NOLINT: that is what is tested
  EXPECT_FALSE(number.Encode().ok());
  EXPECT_EQ(moved.As<Number>()->value, 7u);
  {
    Message counted = Message::Of(Counted());
    EXPECT_EQ(Counted::alive, 1);
    moved = std::move(counted);
    EXPECT_EQ(Counted::alive, 1);
    moved = Message();
    EXPECT_EQ(Counted::alive, 0);
  }
  const Typed typed = {.value = ValueMap{{"celsius", 21.5}}};
  EXPECT_EQ(*Typed::Decode(*typed.Encode())->value.Find("celsius")->As<double>(), 21.5);
  EXPECT_FALSE(Typed::Decode("nonsense").ok());
}

TEST(MessageErrors, AreCutAtAWholeCharacter) {
  MessageError error = {.code = absl::StatusCode::kInternal, .text = std::string(199, 'x') + "é"};
  EXPECT_EQ(MessageError::Decode(*error.Encode())->text, std::string(199, 'x'));
  EXPECT_EQ(MessageError::Decode(*error.Encode())->code, absl::StatusCode::kInternal);
  for (const std::string& bytes : {std::string(), std::string("\0x", 2), std::string("\x11x"),
                                   std::string("\1\xff"), "\1" + std::string(201, 'x')})
    EXPECT_FALSE(MessageError::Decode(bytes).ok()) << bytes;
}

}  // namespace
}  // namespace waxvm::messaging
