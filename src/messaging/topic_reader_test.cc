// SPDX-License-Identifier: Apache-2.0
// One engine's view of what is published, message by message.
#include "src/messaging/topic_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "src/messaging/messaging_for_test.h"

namespace waxvm::messaging {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kFirst = 100;

class Topics : public testing::Test {
 protected:
  void Join(JoinOptions options = {}, unsigned topic = 9) {
    options.on_gap = [this](const TopicGap& gap) {
      seen_.push_back((gap.restarted ? "restart " : "gap ") + Name(gap.publisher) +
                      std::to_string(gap.first_missing) + "-" + std::to_string(gap.last_missing));
    };
    marks_[topic] = reader_.Add(PublicOf(topic), std::move(options)).value();
  }

  struct What {
    unsigned publisher = 1;
    std::uint64_t sequence = kFirst;
    std::vector<MessageId> dependencies = {};
    std::uint64_t first = kFirst;
    unsigned topic = 9;
    bool local = false;
    std::size_t bytes = 0;
  };
  /// Gives it to the reader as if it had come now; what is handled is in seen_.
  void Come(const What& what) {
    const std::string payload(what.bytes, 'x');
    EnvelopeFields fields = {.type = 1,
                             .sender = PublicOf(what.publisher),
                             .kind = DestinationKind::kTopic,
                             .destination = PublicOf(what.topic),
                             .sequence = what.sequence,
                             .first_sequence = what.first,
                             .created = kTestTime,
                             .expires = kTestTime + 1,
                             .dependencies = what.dependencies,
                             .payload = payload};
    TopicMessageRef message(what.local
                                ? new TopicMessage(fields, Message::Of(Number{what.sequence}), "")
                                : new TopicMessage(Envelope("", fields)));
    reader_.Take(
        marks_[what.topic], std::move(message), [this] { return now_; },
        [this](const TopicReader::Handed& handed) { Handle(handed); });
    reader_.Tidy();
  }
  std::size_t Wait(std::uint64_t milliseconds) {
    now_ += milliseconds;
    return reader_.Expire(now_, [this](const TopicReader::Handed& handed) { Handle(handed); });
  }

  static std::string Name(const PublicKey& publisher) {
    for (unsigned i = 0; i < 5; ++i)
      if (publisher == PublicOf(i)) return std::string(1, "?abcd"[i]);
    return "other ";
  }
  static MessageId IdOf(unsigned publisher, std::uint64_t sequence, unsigned topic = 9) {
    return MessageId::Of(PublicOf(publisher), DestinationKind::kTopic, PublicOf(topic), sequence);
  }
  void Handle(const TopicReader::Handed& handed) {
    const EnvelopeFields& fields = handed.message.fields();
    seen_.push_back(Name(fields.sender) + std::to_string(fields.sequence) +
                    (handed.missing.empty() ? "" : "!" + std::to_string(handed.missing.size())));
  }
  TopicStats Stats(unsigned topic = 9) { return reader_.StatsOf(PublicOf(topic)).value(); }
  std::vector<std::string> Seen() { return std::exchange(seen_, {}); }

  TopicReader reader_;
  std::map<unsigned, std::uint64_t> marks_;
  std::uint64_t now_ = 1'000;
  std::vector<std::string> seen_;
};

TEST_F(Topics, AreReadFromWhereOneJoined) {
  Join();
  Come({.sequence = 140});
  Come({.sequence = 141});
  Come({.publisher = 2, .sequence = 100});
  Come({.sequence = 139});  // from before
  EXPECT_THAT(Seen(), ElementsAre("a140", "a141", "b100"));
  EXPECT_EQ(Stats().duplicates, 1u);
  EXPECT_EQ(reader_.next_due(), std::nullopt);
}

TEST_F(Topics, AreReadInTheOrderOfEachPublisher) {
  Join();
  for (const std::uint64_t sequence : {100, 103, 102, 102, 103, 101, 101, 104, 100})
    Come({.sequence = sequence});
  EXPECT_THAT(Seen(), ElementsAre("a100", "a101", "a102", "a103", "a104"));
  EXPECT_EQ(Stats().duplicates, 4u);
  EXPECT_EQ(Stats().gaps, 0u);
  EXPECT_EQ(Stats().held, 0u);
}

TEST_F(Topics, HaveGapsThatAreReportedOnce) {
  Join({.hold = 50});
  Come({.sequence = 100});
  Come({.sequence = 103});
  Come({.sequence = 106});
  Come({.publisher = 2, .sequence = 7, .first = 7});
  EXPECT_THAT(Seen(), ElementsAre("a100", "b7")) << "others need not wait";
  EXPECT_EQ(Wait(49), 0u);
  EXPECT_EQ(reader_.next_due(), now_ + 1);
  EXPECT_GT(Wait(1), 0u);
  EXPECT_THAT(Seen(), ElementsAre("gap a101-102", "a103", "gap a104-105", "a106"));
  Come({.sequence = 102});
  Come({.sequence = 103});
  Come({.sequence = 107});
  EXPECT_THAT(Seen(), ElementsAre("a107"));
  EXPECT_EQ(Stats().late, 1u);
  EXPECT_EQ(Stats().duplicates, 1u);
  EXPECT_EQ(Stats().missing, 4u);
  EXPECT_EQ(Stats().gaps, 2u);
}

TEST_F(Topics, HaveGapsAtOnceWhereNothingOvertakes) {
  Join();
  Come({.sequence = 100, .local = true});
  Come({.sequence = 103, .local = true});
  EXPECT_THAT(Seen(), ElementsAre("a100", "gap a101-102", "a103"));
  reader_.Remove(PublicOf(9));
  reader_.Tidy();
  Join({.hold = 0});
  Come({.sequence = 100});
  Come({.sequence = 102});
  EXPECT_THAT(Seen(), ElementsAre("a100", "gap a101-101", "a102"));
}

TEST_F(Topics, WaitForWhatAMessageDependsOn) {
  Join();
  Come({.publisher = 1, .sequence = 100});
  Come({.publisher = 3, .sequence = 100, .dependencies = {IdOf(2, 100)}});
  Come({.publisher = 2, .sequence = 100, .dependencies = {IdOf(1, 101), IdOf(1, 100)}});
  Come({.publisher = 3, .sequence = 101});
  EXPECT_THAT(Seen(), ElementsAre("a100"));
  EXPECT_EQ(Stats().held, 3u);
  Come({.publisher = 1, .sequence = 101});
  EXPECT_THAT(Seen(), ElementsAre("a101", "b100", "c100", "c101"));
  EXPECT_EQ(Stats().incomplete, 0u);
  EXPECT_EQ(Wait(10'000), 0u);
}

TEST_F(Topics, DependOnEachOther) {
  Join({}, 8);
  Join({}, 9);
  Come({.publisher = 1, .sequence = 100, .dependencies = {IdOf(2, 5, 8)}});
  EXPECT_THAT(Seen(), IsEmpty());
  Come({.publisher = 2, .sequence = 5, .first = 5, .topic = 8});
  EXPECT_THAT(Seen(), ElementsAre("b5", "a100"));
}

TEST_F(Topics, AreReadWithoutWhatNeverComes) {
  Join({.hold = 100});
  Come({.publisher = 1, .sequence = 100, .dependencies = {IdOf(2, 1), IdOf(2, 2)}, .local = true});
  Come({.publisher = 3, .sequence = 100, .dependencies = {IdOf(1, 100)}});
  Wait(60);
  Come({.publisher = 2, .sequence = 2, .first = 2});
  EXPECT_THAT(Seen(), ElementsAre("b2"));
  Wait(40);
  EXPECT_THAT(Seen(), ElementsAre("a100!1", "c100"));
  EXPECT_EQ(Stats().incomplete, 1u);
  // On itself, or on each other, for ever.
  Come({.publisher = 1, .sequence = 101, .dependencies = {IdOf(1, 101)}});
  Come({.publisher = 2, .sequence = 3, .dependencies = {IdOf(3, 101)}, .first = 2});
  Come({.publisher = 3, .sequence = 101, .dependencies = {IdOf(2, 3)}});
  EXPECT_THAT(Seen(), IsEmpty());
  Wait(100);
  EXPECT_THAT(Seen(), ElementsAre("a101!1", "b3!1", "c101"));
}

TEST_F(Topics, HoldBackSoMuchAndTakeItFromWhoHoldsMost) {
  Join({.max_held = 8});
  Come({.publisher = 1, .sequence = 100, .dependencies = {IdOf(3, 1)}});
  std::vector<std::string> handled;
  for (std::uint64_t i = 0; i < 50; ++i)
    Come({.publisher = 2, .sequence = 100 + i, .dependencies = {IdOf(3, 999)}});
  const auto seen = Seen();
  EXPECT_EQ(seen.size(), 43u);
  EXPECT_EQ(seen.front(), "b100!1");
  EXPECT_EQ(Stats().held, 8u);
  Come({.publisher = 3, .sequence = 1, .first = 1});
  EXPECT_THAT(Seen(), ElementsAre("c1", "a100")) << "it was not given up for the other's";
}

TEST_F(Topics, HoldBackSoManyBytes) {
  Join({.max_held_bytes = 10'000});
  for (std::uint64_t i = 0; i < 5; ++i)
    Come({.sequence = 100 + i, .dependencies = {IdOf(3, 999)}, .bytes = 4'000});
  EXPECT_EQ(Stats().held, 2u);
  EXPECT_EQ(Seen().size(), 3u);
  Come({.sequence = 105, .dependencies = {IdOf(3, 999)}, .bytes = 1'000'000});
  EXPECT_EQ(Stats().held, 0u);
  EXPECT_EQ(Seen().size(), 3u);
}

// Attack: a few large messages that wait for what never was, so that the many small ones of others
// are the first to be handled without what they depend on.
TEST_F(Topics, OfThoseThatWaitWhoHasMostBytesGivesUpBytes) {
  Join({.max_held_bytes = 20'000});
  for (std::uint64_t i = 0; i < 3; ++i)
    Come({.publisher = 2, .sequence = 100 + i, .dependencies = {IdOf(3, 999)}, .bytes = 10});
  for (std::uint64_t i = 0; i < 2; ++i)
    Come({.publisher = 1, .sequence = 100 + i, .dependencies = {IdOf(4, 999)}, .bytes = 12'000});
  EXPECT_THAT(Seen(), ElementsAre("a100!1"));
  EXPECT_EQ(Stats().held, 4u);
  Come({.publisher = 3, .sequence = 999});
  EXPECT_THAT(Seen(), ElementsAre("c999", "b100", "b101", "b102"));
}

TEST_F(Topics, SeeThatAPublisherStartedAnew) {
  Join();
  Come({.sequence = 100});
  Come({.sequence = 102});  // waits for 101
  Come({.sequence = 500, .first = 500});
  Come({.sequence = 101});
  Come({.sequence = 501, .first = 500});
  EXPECT_THAT(Seen(), ElementsAre("a100", "restart a101-499", "a500", "a501"));
  EXPECT_EQ(Stats().late + Stats().duplicates, 2u);
  EXPECT_EQ(Stats().missing, 0u) << "how many there were is not known";
}

TEST_F(Topics, FollowSoManyPublishers) {
  Join({.max_publishers = 10});
  for (unsigned round = 0; round < 3; ++round)
    for (unsigned publisher = 0; publisher < 30; ++publisher)
      Come({.publisher = 100 + publisher, .sequence = 100 + 2 * round});
  // Nobody is known for long enough to have gaps; nothing is lost, either.
  EXPECT_EQ(Stats().handled, 90u);
  EXPECT_EQ(Stats().gaps, 0u);
  // What waits for its publisher's own is handed over before the publisher is forgotten.
  Join({.max_publishers = 1}, 8);
  Come({.publisher = 1, .sequence = 100, .topic = 8});
  Come({.publisher = 1, .sequence = 102, .topic = 8});
  Seen();
  Come({.publisher = 2, .sequence = 100, .topic = 8});
  EXPECT_THAT(Seen(), ElementsAre("gap a101-101", "a102", "b100"));
}

TEST_F(Topics, ThatWereLeftAreNotRead) {
  Join();
  Come({.sequence = 100});
  Come({.sequence = 102});
  const std::uint64_t old = marks_[9];
  EXPECT_TRUE(reader_.Remove(PublicOf(9)));
  EXPECT_FALSE(reader_.Remove(PublicOf(9)));
  reader_.Tidy();
  Seen();
  Come({.sequence = 101});
  EXPECT_EQ(Wait(10'000), 0u);
  Join();
  EXPECT_NE(marks_[9], old);
  std::swap(marks_[9], marks_[7] = old);
  Come({.sequence = 103});  // for the one before
  EXPECT_THAT(Seen(), IsEmpty());
  EXPECT_EQ(reader_.Add(PublicOf(9), {}), std::nullopt) << "joined twice";
}

/// However they are lost, doubled and reordered: each at most once, in order, and every message is
/// either handled or within a gap.
TEST_F(Topics, AccountForEveryMessage) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 50; ++round) {
    reader_ = TopicReader();
    seen_.clear();
    std::vector<std::uint64_t> handled;
    std::uint64_t missing = 0;
    JoinOptions options = {.hold = static_cast<std::uint32_t>(random() % 20), .max_held = 8};
    options.on_gap = [&](const TopicGap& gap) {
      missing += gap.last_missing - gap.first_missing + 1;
    };
    marks_[9] = reader_.Add(PublicOf(9), std::move(options)).value();
    std::vector<What> way;
    for (std::uint64_t i = 0; i < 300; ++i)
      for (std::uint64_t copies = i == 0 ? 1 : random() % 3; copies > 0; --copies) {
        What what = {.sequence = kFirst + i};
        if (random() % 4 == 0) what.dependencies = {IdOf(1, kFirst + random() % 300)};
        way.push_back(what);
      }
    for (std::size_t i = 1; i + 1 < way.size(); ++i)
      std::swap(way[i], way[std::min(way.size() - 1, i + random() % 6)]);
    for (const What& what : way) {
      Come(what);
      if (random() % 5 == 0) Wait(random() % 30);
    }
    while (Stats().held > 0) Wait(100);
    std::uint64_t last = 0;
    for (const std::string& seen : seen_) {
      const std::uint64_t sequence = std::stoull(seen.substr(1));
      ASSERT_GT(sequence, last);
      last = sequence;
    }
    EXPECT_EQ(seen_.size() + missing, last - kFirst + 1) << round;
    EXPECT_EQ(Stats().missing, missing);
  }
}

}  // namespace
}  // namespace waxvm::messaging
