// SPDX-License-Identifier: Apache-2.0
#include "waxvm/replay_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>

#include "nlohmann/json.hpp"
#include "src/identity/text.h"
#include "src/messaging/messaging_for_test.h"

namespace waxvm::messaging {
namespace {

class MemoryStore final : public ReplayStore {
 public:
  absl::StatusOr<std::string> Load() override { return state; }
  absl::Status Save(std::string_view to) override {
    ++saves;
    if (result.ok()) state = std::string(to);
    return result;
  }
  std::string state;
  absl::Status result = absl::OkStatus();
  int saves = 0;
};

EnvelopeFields From(unsigned sender, std::uint64_t sequence, std::uint64_t created = kTestTime) {
  PublicKey key;  // not checked here, and quicker than a real one
  key.bytes[0] = static_cast<std::uint8_t>(sender);
  key.bytes[1] = static_cast<std::uint8_t>(sender >> 8);
  key.bytes[2] = static_cast<std::uint8_t>(sender >> 16);
  return {.sender = key, .sequence = sequence, .created = created, .expires = created + 60'000};
}

std::unique_ptr<ReplayGuard> NewGuard(ReplayOptions options = {}) {
  options.first_start = true;
  auto guard = ReplayGuard::Create(kTestTime, options);
  EXPECT_TRUE(guard.ok()) << guard.status();
  return *std::move(guard);
}

absl::Status Accept(ReplayGuard& guard, const EnvelopeFields& fields, unsigned source = 1) {
  return guard.Accept(fields, SourceOf(source), kTestTime);
}

TEST(ReplayGuard, HearsEachMessageOnce) {
  const auto guard = NewGuard();
  for (const std::uint64_t sequence : {5, 6, 9, 7, 0, 8, 2'000, 1'999}) {
    EXPECT_TRUE(Accept(*guard, From(1, sequence)).ok()) << sequence;
    EXPECT_TRUE(absl::IsAlreadyExists(Accept(*guard, From(1, sequence)))) << sequence;
  }
  EXPECT_TRUE(absl::IsAborted(Accept(*guard, From(1, 6))));
  EXPECT_TRUE(Accept(*guard, From(2, 6)).ok()) << "of another sender";
  EnvelopeFields elsewhere = From(1, 6);
  elsewhere.destination = PublicOf(9);
  EXPECT_TRUE(Accept(*guard, elsewhere).ok()) << "to another destination";
  EXPECT_EQ(guard->stats().windows, 3u);
  EXPECT_EQ(guard->stats().replays, 9u);
}

TEST(ReplayGuard, HasAWindowOfItsSize) {
  const auto guard = NewGuard();
  constexpr std::uint64_t kTop = 10'000;
  EXPECT_TRUE(Accept(*guard, From(1, kTop)).ok());
  EXPECT_TRUE(Accept(*guard, From(1, kTop - ReplayGuard::kReplayWindow + 1)).ok());
  EXPECT_TRUE(absl::IsAborted(Accept(*guard, From(1, kTop - ReplayGuard::kReplayWindow))));
  EXPECT_TRUE(Accept(*guard, From(1, UINT64_MAX)).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Accept(*guard, From(1, UINT64_MAX))));
  EXPECT_TRUE(Accept(*guard, From(1, UINT64_MAX - 1)).ok());
}

TEST(ReplayGuard, AgreesWithASetThatForgetsNothing) {
  std::mt19937_64 random(7);
  const auto guard = NewGuard();
  std::set<std::uint64_t> seen;
  std::uint64_t top = 0;
  for (int i = 0; i < 200'000; ++i) {
    if (random() % 50 == 0) top += random() % 3'000;
    const std::uint64_t sequence = top + random() % 2'000;
    const std::uint64_t highest = seen.empty() ? 0 : *seen.rbegin();
    const absl::Status status = Accept(*guard, From(1, sequence));
    if (seen.contains(sequence))
      ASSERT_FALSE(status.ok()) << sequence;
    else
      ASSERT_EQ(status.ok(), seen.empty() || sequence + ReplayGuard::kReplayWindow > highest)
          << sequence;
    if (status.ok()) seen.insert(sequence);
  }
}

TEST(ReplayGuard, AFloodFromOneSourceDisplacesNobodyElse) {
  const auto guard = NewGuard({.max_windows = 1'000});
  for (unsigned sender = 0; sender < 100; ++sender)
    ASSERT_TRUE(Accept(*guard, From(sender, 1), /*source=*/sender % 10).ok());
  for (unsigned sender = 1'000; sender < 50'000; ++sender)
    (void)Accept(*guard, From(sender, 1, kTestTime - 1), /*source=*/77);
  EXPECT_EQ(guard->stats().windows, 1'000u);
  EXPECT_GT(guard->stats().evicted, 10'000u);
  for (unsigned sender = 0; sender < 100; ++sender) {
    EXPECT_TRUE(absl::IsAlreadyExists(Accept(*guard, From(sender, 1), sender % 10))) << sender;
    EXPECT_TRUE(Accept(*guard, From(sender, 2), sender % 10).ok()) << sender;
  }
}

TEST(ReplayGuard, WhatWasForgottenIsNotHeardAgain) {
  const auto guard = NewGuard({.max_windows = 10});
  for (unsigned sender = 0; sender < 1'000; ++sender)
    ASSERT_TRUE(Accept(*guard, From(sender, 5, kTestTime + sender), sender).ok()) << sender;
  for (unsigned sender = 0; sender < 1'000; ++sender) {
    // Also from a source that never was here.
    EXPECT_FALSE(Accept(*guard, From(sender, 5, kTestTime + sender), 5'000).ok()) << sender;
    if (sender < 990) {  // the last ten are still known
      EXPECT_FALSE(Accept(*guard, From(sender, 4, kTestTime + sender - 1), sender).ok()) << sender;
    }
  }
  // A forgotten sender goes on with what it makes afterwards.
  EXPECT_TRUE(Accept(*guard, From(3, 6, kTestTime + 2'000), 3).ok());
}

TEST(ReplayGuard, AmongManySourcesTheOneThatWasSilentGoes) {
  const auto guard = NewGuard({.max_windows = 3});
  for (unsigned sender = 1; sender <= 3; ++sender)
    ASSERT_TRUE(Accept(*guard, From(sender, 1), sender).ok());
  ASSERT_TRUE(Accept(*guard, From(1, 2), 1).ok());
  ASSERT_TRUE(Accept(*guard, From(4, 1), 4).ok());  // displaces 2
  EXPECT_TRUE(absl::IsAlreadyExists(Accept(*guard, From(1, 1), 1)));
  EXPECT_TRUE(absl::IsAlreadyExists(Accept(*guard, From(3, 1), 3)));
  EXPECT_TRUE(absl::IsAborted(Accept(*guard, From(2, 1), 2)));
}

TEST(ReplayGuard, WithoutAStoreHearsNothingOlderThanItself) {
  const auto guard = ReplayGuard::Create(kTestTime);
  ASSERT_TRUE(guard.ok());
  EXPECT_TRUE(absl::IsAborted(Accept(**guard, From(1, 1, kTestTime))));
  EXPECT_TRUE(Accept(**guard, From(1, 1, kTestTime + 1)).ok());
  // Of senders whose clocks are ahead an earlier process may have heard what is made later.
  const auto sure = ReplayGuard::Create(kTestTime, {.start_margin = kMaxMessageSkew});
  ASSERT_TRUE(sure.ok());
  EXPECT_TRUE(absl::IsAborted(Accept(**sure, From(1, 1, kTestTime + kMaxMessageSkew))));
  EXPECT_TRUE(Accept(**sure, From(1, 1, kTestTime + kMaxMessageSkew + 1)).ok());
}

TEST(ReplayGuard, RemembersAfterAnOrderlyEnd) {
  MemoryStore store;
  {
    const auto guard = NewGuard({.max_windows = 50, .store = &store});
    for (unsigned sender = 0; sender < 100; ++sender)
      ASSERT_TRUE(Accept(*guard, From(sender, 5, kTestTime + sender), sender / 2).ok());
  }
  const auto guard = ReplayGuard::Create(kTestTime + 1'000, {.max_windows = 50, .store = &store});
  ASSERT_TRUE(guard.ok()) << guard.status();
  EXPECT_EQ((*guard)->stats().windows, 50u);
  for (unsigned sender = 0; sender < 100; ++sender)
    EXPECT_FALSE(Accept(**guard, From(sender, 5, kTestTime + sender), sender / 2).ok()) << sender;
  EXPECT_TRUE(Accept(**guard, From(99, 4, kTestTime), 49).ok()) << "made before the end, not heard";
}

TEST(ReplayGuard, AfterACrashHearsNothingOfTheTimeNotWrittenDown) {
  MemoryStore store;
  std::string before_crash;
  {
    const auto guard = NewGuard({.store = &store, .save_every = 5'000});
    ASSERT_TRUE(Accept(*guard, From(1, 1)).ok());
    ASSERT_TRUE(Accept(*guard, From(1, 2, kTestTime + 5'000)).ok());
    ASSERT_TRUE(Accept(*guard, From(2, 1, kTestTime + 4'000)).ok());
    const int saves = store.saves;
    ASSERT_TRUE(Accept(*guard, From(1, 3, kTestTime + 5'001)).ok());
    EXPECT_EQ(store.saves, saves + 1) << "a later message has to be covered first";
    before_crash = store.state;
  }
  store.state = before_crash;
  const auto guard = ReplayGuard::Create(kTestTime + 6'000, {.store = &store});
  ASSERT_TRUE(guard.ok());
  for (const auto& [sequence, created] :
       {std::pair{1u, 0u}, std::pair{2u, 5'000u}, std::pair{3u, 5'001u}, std::pair{4u, 5'002u}})
    EXPECT_FALSE(Accept(**guard, From(1, sequence, kTestTime + created)).ok()) << sequence;
  EXPECT_FALSE(Accept(**guard, From(2, 1, kTestTime + 4'000)).ok());
  EXPECT_TRUE(Accept(**guard, From(1, 5, kTestTime + 11'000)).ok());
  // An orderly end does not make certain what a crash left open.
  ASSERT_TRUE((*guard)->Save().ok());
  const auto third = ReplayGuard::Create(kTestTime + 7'000, {.store = &store});
  EXPECT_FALSE(Accept(**third, From(1, 4, kTestTime + 5'002)).ok());
}

TEST(ReplayGuard, GoesOnAfterItWasSaved) {
  MemoryStore store;
  const auto guard = NewGuard({.store = &store, .save_every = 5'000});
  ASSERT_TRUE(Accept(*guard, From(1, 1)).ok());
  ASSERT_TRUE(guard->Save().ok());
  ASSERT_TRUE(Accept(*guard, From(1, 2)).ok());
  // A crash here.
  MemoryStore left;
  left.state = store.state;
  const auto next = ReplayGuard::Create(kTestTime + 6'000, {.store = &left});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_FALSE(Accept(**next, From(1, 1)).ok());
  EXPECT_FALSE(Accept(**next, From(1, 2)).ok()) << "heard after what was written";
}

TEST(ReplayGuard, ThatIsNeverSavedHearsNothingAfterACrash) {
  MemoryStore store;
  const auto guard = NewGuard({.store = &store, .save_every = UINT64_MAX});
  for (unsigned i = 0; i < 5; ++i) ASSERT_TRUE(Accept(*guard, From(1, i, kTestTime + i)).ok());
  EXPECT_EQ(store.saves, 1) << "at its start";
  MemoryStore left;
  left.state = store.state;
  const auto next = ReplayGuard::Create(kTestTime + 6'000, {.store = &left});
  ASSERT_TRUE(next.ok()) << next.status();
  for (unsigned i = 0; i < 5; ++i)
    EXPECT_FALSE(Accept(**next, From(1, i, kTestTime + i)).ok()) << i;
}

TEST(ReplayGuard, IsNotWrittenByAForkedChild) {
  MemoryStore store;
  const auto guard = NewGuard({.store = &store});
  ASSERT_TRUE(Accept(*guard, From(1, 1)).ok());
  const int before = store.saves;
  const pid_t child = fork();
  if (child == 0) {
    // What the parent hears from here on is not known to the child: none of both may be lost.
    const bool refused = absl::IsFailedPrecondition(guard->Save()) &&
                         !Accept(*guard, From(1, 2)).ok() && store.saves == before;
    _exit(refused ? 0 : 1);
  }
  ASSERT_GT(child, 0);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(Accept(*guard, From(1, 2)).ok());
  EXPECT_TRUE(guard->Save().ok());
}

TEST(ReplayGuard, AFloodOfMessagesFromTheFutureKeepsNobodyNewOut) {
  const auto guard = NewGuard({.max_windows = 100});
  // All times that they leave behind are a minute ahead, which is as far as they may be.
  for (unsigned sender = 0; sender < 60'000; ++sender) {
    (void)Accept(*guard, From(sender, 1, kTestTime), 1);
    (void)Accept(*guard, From(sender, 2, kTestTime + kMaxMessageSkew), 1);
  }
  unsigned heard = 0;
  for (unsigned sender = 100'000; sender < 100'100; ++sender)
    heard += Accept(*guard, From(sender, 1, kTestTime + 1), 2 + sender).ok();
  EXPECT_GE(heard, 95u);
  // Whoever is no more than a moment ahead is heard from there as well.
  EXPECT_TRUE(Accept(*guard, From(200'000, 1, kTestTime + 500), 1).ok());
}

TEST(ReplayGuard, AcceptsNothingThatItCannotWriteDown) {
  MemoryStore store;
  const auto guard = NewGuard({.store = &store, .save_every = 1'000});
  store.result = absl::InternalError("disk on fire");
  const EnvelopeFields later = From(1, 1, kTestTime + 50'000);
  EXPECT_TRUE(absl::IsUnavailable(Accept(*guard, later)));
  store.result = absl::OkStatus();
  EXPECT_TRUE(Accept(*guard, later).ok()) << "it was not taken the first time";
  EXPECT_TRUE(absl::IsAlreadyExists(Accept(*guard, later)));
}

TEST(ReplayGuard, RefusesAStateThatIsNone) {
  MemoryStore store;
  {
    const auto guard = NewGuard({.store = &store});
    ASSERT_TRUE(Accept(*guard, From(1, 1)).ok());
  }
  const std::string good = store.state;
  for (std::size_t size = 1; size < good.size(); ++size) {
    store.state = good.substr(0, size);
    EXPECT_TRUE(absl::IsDataLoss(ReplayGuard::Create(kTestTime, {.store = &store}).status()));
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    store.state = good;
    store.state[at] = static_cast<char>(store.state[at] ^ 4);
    EXPECT_TRUE(absl::IsDataLoss(ReplayGuard::Create(kTestTime, {.store = &store}).status()));
  }
  store.state = good;
  EXPECT_TRUE(ReplayGuard::Create(kTestTime, {.store = &store}).ok());
}

TEST(ReplayGuard, WritesAndReadsTheGoldenState) {
  std::ifstream file(WAXVM_VECTORS_DIR "/replay.json");
  const std::string golden =
      identity::FromHex(nlohmann::json::parse(file).at("state").get<std::string>()).value();
  MemoryStore store;
  store.state = golden;
  // A clock that is behind changes nothing of what is covered.
  const auto guard = ReplayGuard::Create(/*now=*/0, {.store = &store});
  ASSERT_TRUE(guard.ok()) << guard.status();
  EXPECT_EQ((*guard)->stats().windows, 1u);
  EXPECT_EQ(store.saves, 1);
  EXPECT_EQ(identity::ToHex(store.state), identity::ToHex(golden));
  EnvelopeFields fields = {.sequence = 7, .created = kTestTime + 5'001};
  fields.sender.bytes.fill(1);
  fields.destination.bytes.fill(2);
  EXPECT_TRUE(absl::IsAlreadyExists(Accept(**guard, fields)));
  fields.sequence = 6;
  EXPECT_TRUE(Accept(**guard, fields).ok());
  fields.sequence = 5;
  fields.created = kTestTime + 5'000;
  EXPECT_TRUE(absl::IsAborted(Accept(**guard, fields)));
}

TEST(ReplayStore, IsAFileThatNobodyElseCanWrite) {
  std::string folder = (std::filesystem::temp_directory_path() / "waxvm_replay.XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/replay";
  const auto store = NewFileReplayStore(path);
  EXPECT_EQ(*store->Load(), "");
  ASSERT_TRUE(store->Save("first").ok());
  ASSERT_TRUE(store->Save("second").ok());
  EXPECT_EQ(*store->Load(), "second");
  struct stat info = {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(store->Load().status()));
  EXPECT_FALSE(NewFileReplayStore(folder)->Load().ok());
  EXPECT_FALSE(NewFileReplayStore(folder + "/none/replay")->Save("x").ok());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace waxvm::messaging
