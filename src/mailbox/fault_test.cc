// SPDX-License-Identifier: Apache-2.0
// The store is killed, the disk is full: nothing acknowledged is lost, and nothing that was
// acknowledged as done comes again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <future>
#include <map>
#include <set>
#include <thread>

#include "src/mailbox/store_for_test.h"

namespace waxvm::mailbox {
namespace {

constexpr MailboxOptions kPatient = {.max_deliveries = 1'000'000};

/// A clock that is ahead: whatever was leased before is not any more. Keys are remembered all
/// along.
MailboxFileOptions OptionsAt(int hours) {
  return {.key_window = std::chrono::hours(24 * 365), .clock = [hours] {
            return std::chrono::duration_cast<std::chrono::microseconds>(
                       (std::chrono::system_clock::now() + std::chrono::hours(hours))
                           .time_since_epoch())
                .count();
          }};
}

/// What a child says it is about to do, and has done.
struct Said {
  enum Kind : std::int64_t { kTriesAppend, kAppended, kTriesDone, kDone, kFinished };
  Kind kind;
  std::int64_t number;  ///< of a message, in its payload
};

class Voice {
 public:
  explicit Voice(int fd) : fd_(fd) {}
  void Say(Said::Kind kind, std::int64_t number) const {
    const Said said = {kind, number};
    if (write(fd_, &said, sizeof said) != sizeof said) _exit(5);
  }

 private:
  int fd_;
};

/// Appends, receives and acknowledges. Three messages a time, one of which stays.
void Work(MailboxFile& store, const Voice& voice, std::int64_t& next, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    std::vector<MailboxMessage> messages;
    for (int i = 0; i < 3; ++i) {
      const std::string name = std::to_string(next + i);
      messages.push_back({.mailbox = "a", .sender = "s", .payload = name, .idempotency_key = name});
      voice.Say(Said::kTriesAppend, next + i);
    }
    for (const auto& result : store.Append(std::move(messages)))
      if (!result.ok() || result->duplicate) _exit(4);
    for (int i = 0; i < 3; ++i) voice.Say(Said::kAppended, next + i);
    next += 3;
    const auto got = store.Receive({.mailbox = "a", .max_messages = 2});
    if (!got.ok()) _exit(6);
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : *got) {
      voice.Say(Said::kTriesDone, std::stoll(delivery.payload));
      settlements.push_back({.receipt = delivery.receipt});
    }
    for (const absl::Status& status : store.Settle(settlements))
      if (!status.ok()) _exit(7);
    for (const Delivery& delivery : *got) voice.Say(Said::kDone, std::stoll(delivery.payload));
  }
}

/// What must be there and what may be, from all that was said.
class Ledger {
 public:
  void Hear(const Said& said) {
    switch (said.kind) {
      case Said::kTriesAppend:
        maybe_.insert(said.number);
        break;
      case Said::kAppended:
        maybe_.erase(said.number);
        there_.insert(said.number);
        break;
      case Said::kTriesDone:
        // It may have been appended by one who was killed before he said so.
        there_.erase(said.number);
        maybe_.insert(said.number);
        break;
      case Said::kDone:
        maybe_.erase(said.number);
        done_.insert(said.number);
        break;
      case Said::kFinished:
        break;
    }
  }
  /// Opens the file, an hour after, and takes everything.
  void Check(const std::string& path, int round) {
    auto store = MailboxFile::Open(path, OptionsAt(2 * round + 1));
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Create("a", kPatient).ok());
    const auto got = (*store)->Receive({.mailbox = "a", .max_messages = 4096});
    ASSERT_TRUE(got.ok()) << got.status();
    std::set<std::int64_t> found;
    std::uint64_t last = 0;
    for (const Delivery& delivery : *got) {
      const std::int64_t number = std::stoll(delivery.payload);
      EXPECT_TRUE(found.insert(number).second) << number << " is there twice";
      EXPECT_GT(delivery.sequence, last);
      last = delivery.sequence;
      EXPECT_EQ(done_.count(number), 0u) << number << " was acknowledged as done, and came again";
      EXPECT_TRUE(there_.count(number) != 0 || maybe_.count(number) != 0) << number;
    }
    for (const std::int64_t number : there_)
      EXPECT_EQ(found.count(number), 1u) << number << " was acknowledged, and is lost";
    // What was in doubt is known now. Whether to append again, the key tells.
    for (const std::int64_t number : maybe_)
      (found.count(number) != 0 ? there_ : done_).insert(number);
    maybe_.clear();
    if (got->empty()) return;
    const auto again = (*store)->AppendOne(
        MailboxMessage{.mailbox = "a", .sender = "s", .idempotency_key = got->back().payload});
    EXPECT_TRUE(again.ok() && again->duplicate) << "its key was lost: " << again.status();
    if (got->size() > 1'000) Finish(**store, *got);
  }
  std::size_t heard() const { return there_.size() + done_.size(); }
  std::int64_t next() const {
    return std::max(there_.empty() ? 0 : *there_.rbegin(), done_.empty() ? 0 : *done_.rbegin()) + 1;
  }

 private:
  /// So that one call hands out all there is.
  void Finish(MailboxFile& store, const std::vector<Delivery>& all) {
    ASSERT_LT(all.size(), 4'096u);
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : all) settlements.push_back({.receipt = delivery.receipt});
    for (const absl::Status& status : store.Settle(std::move(settlements)))
      EXPECT_TRUE(status.ok()) << status;
    done_.insert(there_.begin(), there_.end());
    there_.clear();
  }

  std::set<std::int64_t> there_, maybe_, done_;
};

/// Works in a child of its own until somebody kills it.
[[noreturn]] void WorkUntilKilled(const std::string& path, int fd, std::int64_t next, int round,
                                  bool traced) {
  const Voice voice(fd);
  if (traced) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
    raise(SIGSTOP);
  }
  auto store = MailboxFile::Open(path, OptionsAt(2 * round));
  if (!store.ok() || !(*store)->Create("a", kPatient).ok()) _exit(3);
  if (!traced)
    for (;;) Work(**store, voice, next, 1);
  Work(**store, voice, next, 3);
  store->reset();
  voice.Say(Said::kFinished, 0);
  _exit(0);
}

void HearAll(int fd, Ledger& ledger, bool& finished) {
  for (Said said; read(fd, &said, sizeof said) == static_cast<ssize_t>(sizeof said);) {
    ledger.Hear(said);
    finished |= said.kind == Said::kFinished;
  }
  close(fd);
}

TEST(MailboxFaults, KilledAtAnyMoment) {
  const TempFolder temp{MemoryFolder()};
  Ledger ledger;
  for (int round = 0; round < 150 && !testing::Test::HasFailure(); ++round) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) WorkUntilKilled(temp / "m", ends[1], ledger.next(), round, false);
    close(ends[1]);
    // From the first word on, at another moment each round.
    pollfd word = {.fd = ends[0], .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&word, 1, 30'000), 1);
    std::this_thread::sleep_for(std::chrono::microseconds(round * 53 % 4'000));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    bool finished = false;
    HearAll(ends[0], ledger, finished);
    SCOPED_TRACE(round);
    ledger.Check(temp / "m", round);
  }
  EXPECT_GT(ledger.heard(), 1'000u);
}

/// Lets a child run to its `stops`-th entry to or return from a system call, of any of its threads,
/// and kills it there. False where it ended before.
bool KillAtSystemCall(pid_t child, int stops) {
  int status = 0;
  if (waitpid(child, &status, __WALL) != child || !WIFSTOPPED(status)) return false;
  ptrace(PTRACE_SETOPTIONS, child, nullptr,
         PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
  ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
  for (;;) {
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) return false;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (thread == child) return false;
      continue;
    }
    const int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80) && --stops <= 0) {
      kill(child, SIGKILL);
      while (waitpid(-1, &status, __WALL) > 0) {
      }
      return true;
    }
    const bool own = signal == SIGTRAP || signal == (SIGTRAP | 0x80) || signal == SIGSTOP;
    ptrace(PTRACE_SYSCALL, thread, nullptr, own ? 0 : signal);
  }
}

/// Deterministic where the other test is random: from the creation of the file to its closing.
TEST(MailboxFaults, KilledAtEverySystemCall) {
  constexpr int kStep = 3;
  int rounds = 0;
  bool finished = false;
  for (int stops = 1; !finished && !testing::Test::HasFailure(); stops += kStep, ++rounds) {
    ASSERT_LT(stops, 20'000) << "it never ends";
    const TempFolder temp{MemoryFolder()};
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) WorkUntilKilled(temp / "m", ends[1], 1, 0, true);
    close(ends[1]);
    const bool killed = KillAtSystemCall(child, stops);
    Ledger ledger;
    HearAll(ends[0], ledger, finished);
    if (rounds == 0 && !killed) GTEST_SKIP() << "nothing can be traced here";
    ASSERT_TRUE(killed || finished) << "it failed by itself after " << stops;
    SCOPED_TRACE(stops);
    ledger.Check(temp / "m", 0);
  }
  EXPECT_GT(rounds, 50);
}

TEST(MailboxFaults, AProcessThatDiesLeavesTheFileToOthers) {
  const TempFolder temp;
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = MailboxFile::Open(temp / "m");
    if (!store.ok() || write(ends[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char word;
  ASSERT_EQ(read(ends[0], &word, 1), 1);
  EXPECT_TRUE(absl::IsUnavailable(MailboxFile::Open(temp / "m").status()));
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(MailboxFile::Open(temp / "m").ok());
  close(ends[0]);
  close(ends[1]);
}

/// Appends until the disk is full. Returns what was stored, or -1 where something is wrong.
int FillUp(MailboxFile& store, absl::Status& refusal) {
  int stored = 0;
  for (;; ++stored) {
    const auto result = store.AppendOne(MailboxMessage{
        .mailbox = "a", .payload = std::to_string(stored) + std::string(4'000, ' ')});
    if (!result.ok()) {
      refusal = result.status();
      return stored;
    }
    if (stored > 10'000) return -1;
  }
}

/// Everything that was stored is handed out, in its order.
bool HoldsExactly(MailboxFile& store, int stored, std::string& receipt) {
  for (int i = 0; i < stored; ++i) {
    const auto got = store.Receive({.mailbox = "a"});
    if (!got.ok() || got->size() != 1 || std::stoi(got->front().payload) != i) return false;
    if (i == 0) receipt = got->front().receipt;
  }
  const auto more = store.Receive({.mailbox = "a"});
  return more.ok() && more->empty();
}

/// In a child, whose limit is its own. Returns which check failed, 0 for none.
int FillToTheLimit(const std::string& path) {
  signal(SIGXFSZ, SIG_IGN);
  auto store = MailboxFile::Open(path);
  if (!store.ok() || !(*store)->Create("a", kPatient).ok()) return 1;
  rlimit limit = {};
  getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = 600'000;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
  absl::Status refusal;
  const int stored = FillUp(**store, refusal);
  if (stored < 10) return 3;
  if (!absl::IsResourceExhausted(refusal)) return 4;
  if ((*store)->Info("a")->messages != static_cast<std::uint64_t>(stored)) return 5;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 6;
  std::string receipt;
  if (!HoldsExactly(**store, stored, receipt)) return 7;
  if (!(*store)->Acknowledge(receipt).ok()) return 8;
  if (!(*store)->AppendOne(MailboxMessage{.mailbox = "a"}).ok()) return 9;
  store->reset();
  auto again = MailboxFile::Open(path);
  return again.ok() && (*again)->Info("a")->messages == static_cast<std::uint64_t>(stored) ? 0 : 10;
}

/// On a file system of 1 MiB that is there for this child alone; 77: there can be none.
int FillTheDisk(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("none", folder.c_str(), "tmpfs", 0, "size=1m") != 0)
    return 77;
  auto store = MailboxFile::Open(folder + "/m");
  if (!store.ok() || !(*store)->Create("a", kPatient).ok()) return 1;
  absl::Status refusal;
  const int stored = FillUp(**store, refusal);
  if (stored < 10) return 3;
  if (!absl::IsResourceExhausted(refusal)) return 4;
  if (refusal.message().find("full") == refusal.message().npos) return 5;
  if ((*store)->Info("a")->messages != static_cast<std::uint64_t>(stored)) return 6;
  // Somebody makes room.
  if (mount("none", folder.c_str(), "tmpfs", MS_REMOUNT, "size=8m") != 0) return 7;
  std::string receipt;
  if (!HoldsExactly(**store, stored, receipt)) return 8;
  if (!(*store)->Acknowledge(receipt).ok()) return 9;
  return (*store)->AppendOne(MailboxMessage{.mailbox = "a"}).ok() ? 0 : 10;
}

/// Something is due that the disk has no room for, while somebody waits.
int WaitOnAFullDisk(const std::string& path) {
  signal(SIGXFSZ, SIG_IGN);
  auto store = MailboxFile::Open(path);
  if (!store.ok() || !(*store)->Create("a", {.max_deliveries = 1}).ok()) return 1;
  if (!(*store)->Create("b", {}).ok()) return 2;
  // A dead letter as soon as its lease ends.
  const MailboxMessage large = {.mailbox = "a", .payload = std::string(100'000, 'x')};
  if (!(*store)->AppendOne(large).ok()) return 3;
  const auto held = (*store)->Receive(ReceiveOptions{.mailbox = "a", .lease = milliseconds(1500)});
  if (!held.ok() || held->size() != 1) return 4;
  rlimit limit = {};
  getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = 600'000;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 5;
  absl::Status refusal;
  if (FillUp(**store, refusal) < 10) return 6;
  std::promise<absl::Status> told;
  auto ended = told.get_future();
  (*store)->Receive(
      {.mailbox = "b", .wait = milliseconds(4'000)},
      [&](absl::StatusOr<std::vector<Delivery>> got) { told.set_value(got.status()); });
  if (ended.wait_for(milliseconds(500)) == std::future_status::ready) return 7;
  const std::clock_t before = std::clock();
  if (ended.wait_for(std::chrono::seconds(8)) != std::future_status::ready) return 8;
  if ((*store)->AppendOne(large).ok()) return 9;  // it was full all along
  // Nor did it try again and again meanwhile.
  return std::clock() - before < CLOCKS_PER_SEC / 3 ? 0 : 10;
}

int InChild(int (*run)(const std::string&), const std::string& argument) {
  const pid_t child = fork();
  if (child == 0) _exit(run(argument));
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

TEST(MailboxFaults, AFullDiskIsAnErrorAndNoMore) {
  const TempFolder temp;
  const int failed = InChild(FillTheDisk, temp.path());
  if (failed == 77) GTEST_SKIP() << "no file system can be mounted here";
  EXPECT_EQ(failed, 0);
}

TEST(MailboxFaults, WhoeverWaitsIsToldWhenTheDiskIsFull) {
  const TempFolder temp{MemoryFolder()};
  EXPECT_EQ(InChild(WaitOnAFullDisk, temp / "m"), 0);
}

TEST(MailboxFaults, ALimitOfTheFileIsAnErrorAndNoMore) {
  const TempFolder temp{MemoryFolder()};
  EXPECT_EQ(InChild(FillToTheLimit, temp / "m"), 0);
}

}  // namespace
}  // namespace waxvm::mailbox
