// SPDX-License-Identifier: Apache-2.0
// What the embedded store promises, one thing at a time.
#include "waxvm/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <fstream>
#include <future>
#include <thread>

#include "src/mailbox/schema.h"
#include "src/mailbox/store_for_test.h"
#include "waxvm/mailbox_dedup.h"

namespace waxvm::mailbox {
namespace {

using testing::HasSubstr;

class Mailbox : public StoreTest {
 protected:
  void SetUp() override { Open(); }
};

TEST_F(Mailbox, KeepsOrderForWhoWasAway) {
  ASSERT_TRUE(store_->Create("bob", {}).ok());
  for (int i = 0; i < 500; ++i)
    EXPECT_EQ(Put("bob", std::to_string(i))->sequence, static_cast<std::uint64_t>(i + 1));
  Open();
  for (int i = 0; i < 500; i += 10) {
    const auto got = Take("bob", 10);
    ASSERT_EQ(got.size(), 10u);
    for (int j = 0; j < 10; ++j) {
      EXPECT_EQ(got[j].payload, std::to_string(i + j));
      EXPECT_EQ(got[j].sender, "alice");
      EXPECT_EQ(got[j].appended_us, now_);
      EXPECT_EQ(got[j].leased_until_us, now_ + 1'000'000);
      EXPECT_TRUE(store_->Acknowledge(got[j].receipt).ok());
    }
  }
  EXPECT_TRUE(Take("bob").empty());
  EXPECT_EQ(store_->Info("bob")->messages, 0u);
  EXPECT_EQ(store_->Info("bob")->bytes, 0u);
  EXPECT_EQ(Put("bob", "x")->sequence, 501u) << "a sequence is never given twice";
  Open();
  EXPECT_EQ(store_->Info("bob")->next_sequence, 502u);
}

TEST_F(Mailbox, NamesAndSizesAreBounded) {
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Create("", {})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Create("a/b", {})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Create(std::string("a\0b", 3), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Create(std::string(129, 'a'), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Create("a", {.max_deliveries = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Create("a", {.time_to_live = milliseconds(-1)})));
  ASSERT_TRUE(store_->Create(std::string(128, 'a'), {}).ok());
  ASSERT_TRUE(store_->Create("a", {}).ok());
  EXPECT_TRUE(store_->Create("a", {}).ok()) << "as it is";
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Create("a", {.strict = true})));
  EXPECT_TRUE(absl::IsNotFound(Put("b", "x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Put("a", std::string((256 << 10) + 1, 'x')).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Put("a", "x", std::string(65, 's')).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Put("a", "x", "s", std::string(65, 'k')).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Put("a", "x", "s", "", std::string(65, 'o')).status()));
  EXPECT_TRUE(Put("a", std::string(256 << 10, 'x')).ok());
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->Receive({.mailbox = "a", .max_messages = 0}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->Receive({.mailbox = "a", .max_messages = 5000}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->Receive({.mailbox = "a", .lease = milliseconds(0)}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Receive({.mailbox = "a", .group = "g"}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Receive({.mailbox = "b"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->Append(std::vector<MailboxMessage>(4097, {.mailbox = "a"})).front().status()));
  EXPECT_EQ(store_->Append(std::vector<MailboxMessage>()).size(), 0u);
  const auto mixed = store_->Append({{.mailbox = "a", .payload = "good"}, {.mailbox = "a b"}});
  EXPECT_TRUE(mixed[0].ok());
  EXPECT_TRUE(absl::IsInvalidArgument(mixed[1].status()));
}

TEST_F(Mailbox, BytesOfAnyKindComeBack) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  const std::string bytes("\0\xff'\";--\n", 8);
  ASSERT_TRUE(store_
                  ->AppendOne(MailboxMessage{.mailbox = "a",
                                             .sender = bytes,
                                             .payload = bytes,
                                             .ordering_key = bytes,
                                             .format = 60})
                  .ok());
  ASSERT_TRUE(Put("a", "", "").ok());
  Open();
  const auto got = Take("a");
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].payload, bytes);
  EXPECT_EQ(got[0].sender, bytes);
  EXPECT_EQ(got[0].ordering_key, bytes);
  EXPECT_EQ(got[0].format, 60);
  EXPECT_EQ(got[1].payload, "");
  EXPECT_EQ(got[1].format, std::nullopt);
}

TEST_F(Mailbox, AKeyMakesTheSecondAppendTheFirst) {
  Open({.key_window = milliseconds(10'000)});
  ASSERT_TRUE(store_->Create("a", {}).ok());
  ASSERT_TRUE(store_->Create("b", {}).ok());
  EXPECT_EQ(*Put("a", "one", "alice", "k"), (Appended{1, false}));
  EXPECT_EQ(*Put("a", "two", "alice", "k"), (Appended{1, true}));
  EXPECT_EQ(*Put("a", "bob's", "bob", "k"), (Appended{2, false})) << "keys are a sender's own";
  EXPECT_EQ(*Put("b", "other", "alice", "k"), (Appended{1, false})) << "and a mailbox's";
  const auto both =
      store_->Append({{.mailbox = "a", .sender = "c", .payload = "x", .idempotency_key = "k"},
                      {.mailbox = "a", .sender = "c", .payload = "y", .idempotency_key = "k"}});
  EXPECT_EQ(*both[0], (Appended{3, false}));
  EXPECT_EQ(*both[1], (Appended{3, true}));
  const auto got = Take("a");
  EXPECT_EQ(Payloads(got), "one bob's x");
  for (const Delivery& delivery : got) EXPECT_TRUE(store_->Acknowledge(delivery.receipt).ok());
  Pass(milliseconds(9'999));
  Open({.key_window = milliseconds(10'000)});
  EXPECT_EQ(*Put("a", "two", "alice", "k"), (Appended{1, true}))
      << "done with, and the file reopened";
  Pass(milliseconds(1));
  EXPECT_EQ(*Put("a", "two", "alice", "k"), (Appended{4, false})) << "the window is over";
  EXPECT_EQ(store_->Stats().keys, 1u);
}

TEST_F(Mailbox, KeysAreRefusedRatherThanForgotten) {
  Open({.max_keys = 5, .max_keys_per_sender = 3});
  ASSERT_TRUE(store_->Create("a", {}).ok());
  for (const char* key : {"1", "2", "3"}) EXPECT_TRUE(Put("a", "x", "alice", key).ok());
  const auto fourth = Put("a", "x", "alice", "4");
  EXPECT_TRUE(absl::IsResourceExhausted(fourth.status()));
  EXPECT_THAT(std::string(fourth.status().message()), HasSubstr("max_keys_per_sender"));
  EXPECT_TRUE(Put("a", "x", "alice").ok()) << "without a key";
  EXPECT_TRUE(Put("a", "x", "alice", "1")->duplicate);
  EXPECT_TRUE(Put("a", "x", "bob", "1").ok());
  EXPECT_TRUE(Put("a", "x", "bob", "2").ok());
  EXPECT_THAT(std::string(Put("a", "x", "bob", "3").status().message()), HasSubstr("max_keys:"));
}

TEST_F(Mailbox, ALeaseHidesAndEnds) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  ASSERT_TRUE(Put("a", "x").ok());
  const auto first = Take("a");
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].deliveries, 1u);
  EXPECT_TRUE(Take("a").empty());
  Open();
  EXPECT_TRUE(Take("a").empty()) << "the lease outlives the process";
  Pass(milliseconds(999));
  EXPECT_TRUE(Take("a").empty());
  EXPECT_TRUE(store_->Extend(first[0].receipt, milliseconds(500)).ok());
  Pass(milliseconds(499));
  EXPECT_TRUE(Take("a").empty());
  Pass(milliseconds(1));
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Extend(first[0].receipt, milliseconds(500))));
  const auto second = Take("a");
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].deliveries, 2u);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Acknowledge(first[0].receipt)));
  EXPECT_TRUE(store_->Acknowledge(second[0].receipt).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Acknowledge(second[0].receipt)));
}

TEST_F(Mailbox, ALateAcknowledgementCountsWhileNobodyElseHasIt) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  ASSERT_TRUE(Put("a", "x").ok());
  const auto got = Take("a");
  Pass(milliseconds(5'000));
  EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok());
  EXPECT_TRUE(Take("a").empty());
}

TEST_F(Mailbox, ReceiptsCannotBeMadeUp) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  ASSERT_TRUE(Put("a", "x").ok());
  const std::string receipt = Take("a").at(0).receipt;
  for (std::size_t i = 0; i < receipt.size(); ++i) {
    std::string forged = receipt;
    forged[i] = forged[i] == '0' ? '1' : '0';
    EXPECT_TRUE(absl::IsPermissionDenied(store_->Acknowledge(forged))) << i;
  }
  EXPECT_TRUE(absl::IsPermissionDenied(store_->Acknowledge("")));
  EXPECT_TRUE(absl::IsPermissionDenied(store_->Acknowledge(std::string(64, 'z'))));
  EXPECT_TRUE(absl::IsPermissionDenied(store_->Acknowledge(receipt + "0")));
  ASSERT_TRUE(store_->Remove("a").ok());
  ASSERT_TRUE(store_->Create("a", {}).ok());
  ASSERT_TRUE(Put("a", "y").ok());
  ASSERT_EQ(Take("a").size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(store_->Acknowledge(receipt))) << "of another mailbox of that name";
}

TEST_F(Mailbox, ARejectedMessageComesBackLater) {
  ASSERT_TRUE(store_
                  ->Create("a", {.max_deliveries = 4,
                                 .first_back_off = milliseconds(100),
                                 .max_back_off = milliseconds(250)})
                  .ok());
  ASSERT_TRUE(Put("a", "x").ok());
  ASSERT_TRUE(Put("a", "y").ok());
  for (const int wait : {100, 200, 250}) {
    const auto got = Take("a", 1);
    ASSERT_EQ(Payloads(got), "x");
    EXPECT_TRUE(store_->Reject(got[0].receipt, "not now").ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Acknowledge(got[0].receipt)));
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Reject(got[0].receipt, "again")));
    Open();
    Pass(milliseconds(wait - 1));
    const auto other = Take("a", 1);
    ASSERT_EQ(Payloads(other), "y") << "later ones go on";
    EXPECT_TRUE(store_->Reject(other[0].receipt, "", milliseconds(1)).ok());
    Pass(milliseconds(1));
  }
  const auto last = Take("a", 1);
  ASSERT_EQ(Payloads(last), "x");
  EXPECT_EQ(last[0].deliveries, 4u);
  EXPECT_TRUE(store_->Reject(last[0].receipt, "no good").ok());
  const auto dead = *store_->DeadLetters("a", 10);
  ASSERT_EQ(dead.size(), 1u);
  EXPECT_EQ(dead[0].message.payload, "x");
  EXPECT_EQ(dead[0].message.sequence, 1u);
  EXPECT_EQ(dead[0].message.deliveries, 4u);
  EXPECT_THAT(dead[0].reason, HasSubstr("no good"));
  EXPECT_EQ(store_->Info("a")->messages, 1u);
  EXPECT_EQ(store_->Info("a")->dead_letters, 1u);
}

TEST_F(Mailbox, WhatIsNeverAcknowledgedDies) {
  ASSERT_TRUE(store_->Create("a", {.max_deliveries = 3, .max_dead_letters = 2}).ok());
  for (const char* payload : {"1", "2", "3"}) ASSERT_TRUE(Put("a", payload).ok());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Payloads(Take("a")), "1 2 3");
    Open();  // whoever had them crashed the process
    Pass(milliseconds(1'000));
  }
  EXPECT_TRUE(Take("a").empty());
  auto dead = *store_->DeadLetters("a", 10);
  ASSERT_EQ(dead.size(), 2u) << "the oldest was given up";
  EXPECT_EQ(dead[0].message.payload, "2");
  EXPECT_THAT(dead[0].reason, HasSubstr("3 times"));
  EXPECT_EQ(store_->Stats().dead_dropped, 1u);
  EXPECT_EQ(store_->Requeue("a", dead[0].id)->sequence, 4u);
  EXPECT_TRUE(absl::IsNotFound(store_->Requeue("a", dead[0].id).status()));
  EXPECT_TRUE(store_->RemoveDead("a", dead[1].id).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->RemoveDead("a", dead[1].id)));
  EXPECT_TRUE(store_->DeadLetters("a", 10)->empty());
  Open();
  const auto again = Take("a");
  ASSERT_EQ(Payloads(again), "2");
  EXPECT_EQ(again[0].deliveries, 1u);
  EXPECT_TRUE(store_
                  ->Settle({{.kind = Settlement::Kind::kDead,
                             .receipt = again[0].receipt,
                             .reason = "cannot be read"}})[0]
                  .ok());
  EXPECT_EQ(store_->DeadLetters("a", 10)->at(0).reason, "cannot be read");
  EXPECT_EQ(store_->Stats().messages, 0u);
  EXPECT_EQ(store_->Stats().bytes, 0u);
  EXPECT_EQ(store_->Stats().senders, 0u);
}

TEST_F(Mailbox, MessagesExpire) {
  ASSERT_TRUE(store_->Create("a", {.time_to_live = milliseconds(100)}).ok());
  ASSERT_TRUE(Put("a", "short").ok());
  ASSERT_TRUE(store_
                  ->AppendOne(MailboxMessage{
                      .mailbox = "a", .payload = "long", .time_to_live = milliseconds(10'000)})
                  .ok());
  Pass(milliseconds(99));
  EXPECT_EQ(store_->Info("a")->messages, 2u);
  Pass(milliseconds(1));
  EXPECT_EQ(store_->Info("a")->messages, 1u) << "also where nobody receives";
  const auto got = Take("a", 10, "", milliseconds(20'000));
  EXPECT_EQ(Payloads(got), "long");
  Pass(milliseconds(15'000));
  EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok()) << "whoever has it finishes with it";
  ASSERT_TRUE(Put("a", "held").ok());
  ASSERT_EQ(Take("a").size(), 1u);
  Pass(milliseconds(1'000));
  Open();
  EXPECT_TRUE(Take("a").empty()) << "the lease ended after it expired";
  EXPECT_EQ(store_->Stats().messages, 0u);
}

TEST_F(Mailbox, StrictOrderWaitsForTheEarlier) {
  ASSERT_TRUE(store_->Create("a", {.strict = true, .first_back_off = milliseconds(100)}).ok());
  for (const char* payload : {"a1", "b1", "a2", "b2", "a3"})
    ASSERT_TRUE(Put("a", payload, "s", "", std::string(1, payload[0])).ok());
  auto got = Take("a", 10, "", milliseconds(60'000));
  ASSERT_EQ(Payloads(got), "a1 b1");
  EXPECT_TRUE(Take("a").empty());
  EXPECT_TRUE(store_->Acknowledge(got[1].receipt).ok());
  Open();
  const auto second_b = Take("a");
  EXPECT_EQ(Payloads(second_b), "b2");
  EXPECT_TRUE(store_->Reject(got[0].receipt, "later").ok());
  EXPECT_TRUE(Take("a").empty()) << "a2 does not overtake a1";
  Pass(milliseconds(100));
  got = Take("a", 10);
  EXPECT_EQ(Payloads(got), "a1");
  EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok());
  got = Take("a", 10);
  EXPECT_EQ(Payloads(got), "a2");
  Pass(milliseconds(1'000));
  EXPECT_EQ(Payloads(Take("a", 10)), "a2 b2");
}

TEST_F(Mailbox, AStrictMailboxGoesOnWhenAWaitingMessageExpires) {
  ASSERT_TRUE(store_->Create("a", {.strict = true}).ok());
  ASSERT_TRUE(store_->AppendOne(MailboxMessage{.mailbox = "a", .payload = "1"}).ok());
  ASSERT_TRUE(store_
                  ->AppendOne(MailboxMessage{
                      .mailbox = "a", .payload = "2", .time_to_live = milliseconds(10)})
                  .ok());
  ASSERT_TRUE(Put("a", "3").ok());
  const auto got = Take("a");
  EXPECT_EQ(Payloads(got), "1");
  Pass(milliseconds(10));
  EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok());
  EXPECT_EQ(Payloads(Take("a")), "3");
}

TEST_F(Mailbox, EachGroupOfATopicGetsEverything) {
  ASSERT_TRUE(store_->Create("t", {.topic = true}).ok());
  ASSERT_TRUE(Put("t", "0").ok());
  ASSERT_TRUE(store_->Subscribe("t", "early", true).ok());
  ASSERT_TRUE(store_->Subscribe("t", "early", true).ok());
  ASSERT_TRUE(store_->Subscribe("t", "late", false).ok());
  ASSERT_TRUE(Put("t", "1").ok());
  ASSERT_TRUE(Put("t", "2").ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Receive({.mailbox = "t", .group = "nobody"}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Receive({.mailbox = "t"}).status()));
  const auto early = Take("t", 10, "early");
  ASSERT_EQ(Payloads(early), "0 1 2");
  const auto late = Take("t", 10, "late");
  EXPECT_EQ(Payloads(late), "1 2");
  for (const int i : {2, 0}) EXPECT_TRUE(store_->Acknowledge(early[i].receipt).ok());
  EXPECT_EQ(store_->Info("t")->messages, 2u) << "0 is done with for both";
  Open();
  EXPECT_EQ(store_->Info("t")->groups[0].done_up_to, 1u);
  EXPECT_EQ(store_->Info("t")->groups[0].open, 1u);
  Pass(milliseconds(1'000));
  const auto again = Take("t", 10, "early");
  EXPECT_EQ(Payloads(again), "1") << "2 was acknowledged out of order";
  EXPECT_TRUE(store_->Acknowledge(again[0].receipt).ok());
  EXPECT_EQ(store_->Info("t")->messages, 2u);
  EXPECT_TRUE(store_->Unsubscribe("t", "late").ok());
  EXPECT_EQ(store_->Info("t")->messages, 0u) << "nobody else is owed them";
  EXPECT_TRUE(absl::IsNotFound(store_->Acknowledge(late[0].receipt)));
  EXPECT_EQ(store_->Stats().bytes, 0u);
}

TEST_F(Mailbox, ATopicGoesOnOverWhatExpired) {
  ASSERT_TRUE(store_->Create("t", {.topic = true, .time_to_live = milliseconds(1'000)}).ok());
  ASSERT_TRUE(store_->Subscribe("t", "g", true).ok());
  for (const char* payload : {"1", "2", "3"}) ASSERT_TRUE(Put("t", payload).ok());
  Pass(milliseconds(1'000));
  ASSERT_TRUE(Put("t", "4").ok());
  ASSERT_TRUE(store_->Subscribe("t", "new", true).ok());
  Open();
  for (const char* group : {"g", "new"}) {
    const auto got = Take("t", 10, group);
    ASSERT_EQ(Payloads(got), "4");
    EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok());
    EXPECT_EQ(got[0].oldest_open, 4u);
  }
  EXPECT_EQ(store_->Stats().messages, 0u);
}

TEST_F(Mailbox, WhoeverFloodsMeetsAnOwnLimitFirst) {
  Open({.max_messages = 10,
        .max_bytes = 2'000,
        .max_messages_per_sender = 5,
        .max_bytes_per_sender = 1'000});
  ASSERT_TRUE(store_->Create("a", {.max_messages = 8}).ok());
  ASSERT_TRUE(store_->Create("b", {.max_bytes = 450}).ok());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Put("a", "x", "flood").ok());
  const auto refused = Put("a", "x", "flood");
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("max_messages_per_sender"));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Put("a", "x", "quiet").ok());
  EXPECT_THAT(std::string(Put("a", "x", "quiet").status().message()),
              HasSubstr("max_messages: the mailbox"));
  EXPECT_THAT(std::string(Put("b", std::string(400, 'x'), "quiet").status().message()),
              HasSubstr("max_bytes: the mailbox"));
  EXPECT_TRUE(Put("b", std::string(200, 'x'), "quiet").ok());
  EXPECT_THAT(std::string(Put("b", std::string(1'000, 'x'), "other").status().message()),
              HasSubstr("max_bytes_per_sender"));
  EXPECT_TRUE(Put("b", "", "other").ok());
  EXPECT_THAT(std::string(Put("b", "", "fourth").status().message()),
              HasSubstr("max_messages: the store"));
  const auto got = Take("a");
  EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok());
  EXPECT_TRUE(Put("a", "x", "flood").ok()) << "room that was made is room";
}

TEST_F(Mailbox, WhoeverTakesEverythingIsStopped) {
  Open({.max_leased = 3});
  ASSERT_TRUE(store_->Create("a", {}).ok());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Put("a", std::to_string(i)).ok());
  const auto got = Take("a");
  EXPECT_EQ(got.size(), 3u);
  const auto more = store_->Receive({.mailbox = "a"});
  EXPECT_TRUE(absl::IsResourceExhausted(more.status()));
  EXPECT_THAT(std::string(more.status().message()), HasSubstr("max_leased"));
  EXPECT_TRUE(store_->Acknowledge(got[1].receipt).ok());
  EXPECT_EQ(Payloads(Take("a")), "3");
}

TEST_F(Mailbox, AnAnswerIsBoundedInBytes) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Put("a", std::string(1'000, 'x')).ok());
  EXPECT_EQ(store_->Receive({.mailbox = "a", .max_messages = 9, .max_bytes = 2'500})->size(), 2u);
  EXPECT_EQ(store_->Receive({.mailbox = "a", .max_messages = 9, .max_bytes = 10})->size(), 1u);
}

TEST_F(Mailbox, AnExchangeIsAllOrNothing) {
  ASSERT_TRUE(store_->Create("in", {}).ok());
  ASSERT_TRUE(store_->Create("out", {.max_messages = 2}).ok());
  ASSERT_TRUE(Put("in", "x").ok());
  const std::string receipt = Take("in").at(0).receipt;
  const MailboxMessage one = {.mailbox = "out", .payload = "y"};
  const auto too_many = store_->Exchange({receipt}, {one, one, one});
  EXPECT_TRUE(absl::IsResourceExhausted(too_many.status())) << too_many.status();
  EXPECT_EQ(store_->Info("out")->messages, 0u);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Exchange({receipt, receipt}, {one}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Exchange({receipt}, {{.mailbox = "none"}}).status()));
  const auto done = store_->Exchange({receipt}, {one, one});
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->at(1).sequence, 2u);
  EXPECT_EQ(store_->Info("in")->messages, 0u);
  EXPECT_TRUE(absl::IsNotFound(store_->Exchange({receipt}, {one}).status()));
  Open();
  EXPECT_EQ(store_->Info("in")->messages, 0u);
  EXPECT_EQ(store_->Info("out")->messages, 2u);
}

TEST_F(Mailbox, DedupKnowsWhatTookEffect) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Put("a", std::to_string(i)).ok());
  MailboxDedup dedup;
  const auto got = Take("a");
  EXPECT_TRUE(dedup.Begin(got[0]));
  EXPECT_TRUE(dedup.Begin(got[2]));
  EXPECT_FALSE(dedup.Begin(got[0]));
  auto reread = MailboxDedup::FromBytes(dedup.ToBytes());
  ASSERT_TRUE(reread.ok());
  EXPECT_TRUE(store_->Acknowledge(got[0].receipt).ok());
  Pass(milliseconds(1'000));
  const auto again = Take("a");
  ASSERT_EQ(Payloads(again), "1 2 3");
  EXPECT_EQ(again[0].oldest_open, 2u);
  EXPECT_TRUE(reread->Begin(again[0]));
  EXPECT_FALSE(reread->Begin(again[1])) << "took effect before, was not acknowledged";
  EXPECT_TRUE(reread->Begin(again[2]));
  EXPECT_TRUE(reread->Contains(1));
  EXPECT_EQ(reread->ToBytes().size(), 4 * 8u) << "1 is forgotten, and not taken for new";
  for (const std::string& bad : {std::string(), std::string(7, '\0'), std::string(24, '\0')})
    EXPECT_TRUE(absl::IsInvalidArgument(MailboxDedup::FromBytes(bad).status())) << bad.size();
}

TEST(MailboxWaits, AReceiverIsWokenByAMessage) {
  const TempFolder temp;
  auto store = *MailboxFile::Open(temp / "m");
  ASSERT_TRUE(store->Create("a", {}).ok());
  std::vector<std::future<std::string>> waiters;
  for (int i = 0; i < 3; ++i)
    waiters.push_back(std::async(std::launch::async, [&store] {
      const auto got = store->Receive({.mailbox = "a", .wait = std::chrono::seconds(30)});
      return got.ok() && got->size() == 1 ? got->front().payload : got.status().ToString();
    }));
  std::this_thread::sleep_for(milliseconds(50));
  for (const char* payload : {"1", "2", "3"})
    ASSERT_TRUE(store->AppendOne(MailboxMessage{.mailbox = "a", .payload = payload}).ok());
  std::string all;
  for (auto& waiter : waiters) all += waiter.get();
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, "123") << "each one once";
}

TEST(MailboxWaits, EndByTimeByStopAndByTheStore) {
  const TempFolder temp;
  auto store = *MailboxFile::Open(temp / "m");
  ASSERT_TRUE(store->Create("a", {}).ok());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(store->Receive({.mailbox = "a", .wait = milliseconds(60)})->empty());
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(60));
  std::stop_source stop;
  auto stopped = std::async(std::launch::async, [&] {
    return store
        ->Receive({.mailbox = "a", .wait = std::chrono::seconds(30), .stop = stop.get_token()})
        .status();
  });
  std::this_thread::sleep_for(milliseconds(30));
  stop.request_stop();
  EXPECT_TRUE(absl::IsCancelled(stopped.get()));
  ASSERT_TRUE(store->AppendOne(MailboxMessage{.mailbox = "a", .payload = "x"}).ok());
  const auto leased = store->Receive({.mailbox = "a", .lease = milliseconds(50)});
  ASSERT_EQ(leased->size(), 1u);
  const auto again = store->Receive({.mailbox = "a", .wait = std::chrono::seconds(30)});
  ASSERT_EQ(again->size(), 1u) << "a lease that ends wakes who waits";
  EXPECT_EQ(again->front().deliveries, 2u);
  std::promise<absl::Status> cancelled;
  store->Receive({.mailbox = "a", .wait = std::chrono::seconds(30)},
                 [&](auto result) { cancelled.set_value(result.status()); });
  store.reset();
  EXPECT_TRUE(absl::IsCancelled(cancelled.get_future().get()));
}

TEST(MailboxWaits, WhatIsPendingIsBounded) {
  const TempFolder temp;
  auto store = *MailboxFile::Open(
      temp / "m", {.max_receivers = 2, .max_pending = 50, .max_pending_bytes = 10'000});
  ASSERT_TRUE(store->Create("a", {}).ok());
  const auto many = store->Append(std::vector<MailboxMessage>(51, {.mailbox = "a"}));
  EXPECT_THAT(std::string(many[0].status().message()), HasSubstr("max_pending:"));
  const auto large =
      store->AppendOne(MailboxMessage{.mailbox = "a", .payload = std::string(10'001, 'x')});
  EXPECT_THAT(std::string(large.status().message()), HasSubstr("max_pending_bytes:"));
  std::atomic<int> refused = 0;
  for (int i = 0; i < 3; ++i)
    store->Receive({.mailbox = "a", .wait = std::chrono::seconds(30)},
                   [&](auto result) { refused += absl::IsResourceExhausted(result.status()); });
  store.reset();
  EXPECT_EQ(refused, 1);
}

TEST(MailboxThreads, ManyShareCommits) {
  constexpr int kThreads = 8;
  constexpr int kEach = 100;
  const TempFolder temp;
  auto store = *MailboxFile::Open(temp / "m", {.gather = std::chrono::microseconds(500)});
  ASSERT_TRUE(store->Create("a", {}).ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::string name = std::to_string(t) + "." + std::to_string(i);
        EXPECT_TRUE(store
                        ->AppendOne(MailboxMessage{.mailbox = "a",
                                                   .sender = std::to_string(t),
                                                   .payload = name,
                                                   .idempotency_key = name})
                        .ok());
        const auto got = store->Receive({.mailbox = "a"});
        ASSERT_TRUE(got.ok());
        if (!got->empty()) {
          EXPECT_TRUE(store->Acknowledge(got->front().receipt).ok());
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  const MailboxFileStats stats = store->Stats();
  EXPECT_EQ(stats.keys, static_cast<std::uint64_t>(kThreads * kEach));
  EXPECT_LT(stats.commits, static_cast<std::uint64_t>(3 * kThreads * kEach)) << "none was shared";
}

// ---- The file

TEST_F(Mailbox, OneProcessHasTheFile) {
  const auto second = MailboxFile::Open(path());
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
  EXPECT_TRUE(store_->Create("a", {}).ok()) << "the first one is not disturbed";
  store_.reset();
  EXPECT_TRUE(MailboxFile::Open(path()).ok());
}

TEST_F(Mailbox, TheFileIsItsOwnersAlone) {
  struct stat status = {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(stat((path() + ".lock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(Mailbox, WhoIsToldOfTheEndAndAsksAgainIsToldAgain) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  MailboxFile* const store = store_.get();
  std::vector<absl::Status> told;
  store->Receive({.mailbox = "a", .wait = milliseconds(60'000)},
                 [&](absl::StatusOr<std::vector<Delivery>> first) {
                   told.push_back(first.status());
                   store->Receive({.mailbox = "a", .wait = milliseconds(60'000)},
                                  [&](absl::StatusOr<std::vector<Delivery>> again) {
                                    told.push_back(again.status());
                                  });
                   store->Append({{.mailbox = "a"}},
                                 [&](auto results) { told.push_back(results.front().status()); });
                 });
  store_.reset();
  ASSERT_EQ(told.size(), 3u) << "a callback is called once";
  for (const absl::Status& status : told) EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST_F(Mailbox, OtherFilesAreRefusedAndLeftAsTheyAre) {
  std::ofstream(temp_ / "text") << std::string(10'000, 'x');
  EXPECT_TRUE(absl::IsFailedPrecondition(MailboxFile::Open(temp_ / "text").status()));
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((temp_ / "other").c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "CREATE TABLE t(x)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  EXPECT_TRUE(absl::IsFailedPrecondition(MailboxFile::Open(temp_ / "other").status()));
  EXPECT_FALSE(MailboxFile::Open(temp_ / "no/such").ok());
}

/// The format is frozen: docs/formats/mailbox.md, and kVersion, go with the schema.
TEST_F(Mailbox, TheSchemaIsTheOneOfItsVersion) {
  store_.reset();
  sqlite3* file = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &file), SQLITE_OK);
  std::string schema;
  ASSERT_EQ(sqlite3_exec(
                file, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rootpage",
                [](void* to, int, char** values, char**) {
                  *static_cast<std::string*>(to) += std::string(values[0]) + ";\n";
                  return 0;
                },
                &schema, nullptr),
            SQLITE_OK);
  sqlite3_close(file);
  std::ifstream golden(std::string(WAXVM_VECTORS_DIR) + "/mailbox/schema_v1.sql");
  const std::string expected{std::istreambuf_iterator<char>(golden), {}};
  EXPECT_EQ(schema, expected);
  EXPECT_EQ(kVersion, 1);
}

/// A file that version 1 wrote, as text; what is in it is still understood.
TEST_F(Mailbox, AFileOfVersionOneIsRead) {
  sqlite3* file = nullptr;
  std::ifstream golden(std::string(WAXVM_VECTORS_DIR) + "/mailbox/store_v1.sql");
  const std::string sql{std::istreambuf_iterator<char>(golden), {}};
  ASSERT_FALSE(sql.empty());
  ASSERT_EQ(sqlite3_open((temp_ / "golden").c_str(), &file), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(file, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(file);
  sqlite3_close(file);
  auto store = MailboxFile::Open(temp_ / "golden", {.clock = [this] { return now_.load(); }});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(*(*store)->List(), (std::vector<std::string>{"bob", "news"}));
  const auto got = (*store)->Receive({.mailbox = "bob", .max_messages = 9});
  ASSERT_EQ(got->size(), 1u) << "the first one is leased";
  EXPECT_EQ(got->front().payload, "second");
  EXPECT_EQ(got->front().format, 50);
  EXPECT_TRUE(
      (*store)
          ->AppendOne(MailboxMessage{.mailbox = "bob", .sender = "alice", .idempotency_key = "k"})
          ->duplicate);
  EXPECT_EQ((*store)->DeadLetters("bob", 9)->at(0).reason, "no good");
  EXPECT_EQ((*store)->Info("news")->groups.at(0).done_up_to, 1u);
}

TEST_F(Mailbox, DamageIsRefusedOrHarmless) {
  ASSERT_TRUE(store_->Create("a", {}).ok());
  ASSERT_TRUE(store_->Create("t", {.topic = true}).ok());
  ASSERT_TRUE(store_->Subscribe("t", "g", true).ok());
  std::vector<MailboxMessage> messages;
  for (int i = 0; i < 300; ++i)
    messages.push_back({.mailbox = i % 3 == 0 ? "t" : "a",
                        .sender = "s",
                        .payload = std::to_string(i) + std::string(100, 'p'),
                        .idempotency_key = std::to_string(i)});
  for (const auto& result : store_->Append(messages)) ASSERT_TRUE(result.ok());
  Take("a", 5);
  store_.reset();
  sqlite3* file = nullptr;  // everything from the log into the file
  ASSERT_EQ(sqlite3_open(path().c_str(), &file), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(file, "PRAGMA wal_checkpoint(TRUNCATE)", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(file);
  std::ifstream good_file(path(), std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(good_file), {}};
  ASSERT_GT(good.size(), 60'000u);
  int refused = 0;
  int opened = 0;
  for (std::size_t at = 100; at < good.size(); at += 499) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    std::ofstream(temp_ / "bad", std::ios::binary | std::ios::trunc) << bad;
    for (const char* beside : {"bad-wal", "bad-shm"}) (void)unlink((temp_ / beside).c_str());
    auto store = MailboxFile::Open(temp_ / "bad", {.clock = [this] { return now_.load(); }});
    if (!store.ok()) {
      ++refused;
      EXPECT_FALSE(std::string(store.status().message()).empty());
      continue;
    }
    ++opened;
    // In what is not used, then: everything is there and right.
    const auto a = (*store)->Receive({.mailbox = "a", .max_messages = 1000});
    const auto t = (*store)->Receive({.mailbox = "t", .group = "g", .max_messages = 1000});
    ASSERT_TRUE(a.ok() && t.ok()) << at << a.status() << t.status();
    EXPECT_EQ(a->size(), 195u) << at;
    EXPECT_EQ(t->size(), 100u) << at;
    for (const auto* all : {&*a, &*t})
      for (const Delivery& delivery : *all) {
        const auto i = static_cast<std::size_t>(std::stoi(delivery.payload));
        EXPECT_EQ(delivery.payload, messages[i].payload);
      }
  }
  EXPECT_GT(refused, opened / 4) << refused << " refused, " << opened << " opened";
}

}  // namespace
}  // namespace waxvm::mailbox
