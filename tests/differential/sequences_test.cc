// SPDX-License-Identifier: Apache-2.0
// Random sequences of system calls give the same natively and in a microVM: in a granted folder and
// in the microVM's own memory. A sequence that differs is shrunk and printed.
//
// WAXVM_DIFFERENTIAL_SECONDS=N goes on for N seconds instead of the fixed seeds, beginning at
// WAXVM_DIFFERENTIAL_SEED (default: the time); tools/differential sets them.
// WAXVM_DIFFERENTIAL_WITHOUT="call call" leaves calls out, to look beyond a difference that is
// known.
#include <gtest/gtest.h>
#include <sys/utsname.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "both.h"
#include "sequence.h"
#include "sequence_kinds.h"

namespace waxvm::differential {
namespace {

constexpr int kSequencesInBatch = 100;
constexpr int kCalls = 40;
constexpr int kBatches = 6;
constexpr std::uint64_t kFirstSeed = 20'000;

/// Leaves out the calls that the environment names.
Sequence WithoutKnown(Sequence sequence) {
  const char* names = std::getenv("WAXVM_DIFFERENTIAL_WITHOUT");
  const std::string known = absl::StrCat(" ", names != nullptr ? names : "", " ");
  std::erase_if(sequence, [&known](const std::string& call) {
    return known.find(absl::StrCat(" ", call.substr(0, call.find(' ')), " ")) != known.npos;
  });
  return sequence;
}

/// What calls say of odd arguments changes now and then; the personality follows current Linux.
bool IsOlderThanTheAnswers() {
  utsname name{};
  int major = 0, minor = 0;
  return ::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2 ||
         std::pair(major, minor) < std::pair(6, 12);
}

class Sequences : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (const std::string reason = WhyNoMicroVm(); !reason.empty()) GTEST_SKIP() << reason;
    if (IsOlderThanTheAnswers())
      GTEST_SKIP()
          << "this host's Linux is older than 6.12, and some calls answered otherwise then";
  }

  /// Plays `sequences` in one run each, and gives the outputs.
  std::pair<Ran, Ran> Play(const std::vector<Sequence>& sequences) {
    Command command;
    command.input = ToInput(sequences);
    command.arguments = {GuestPath("play_calls_glibc"), scratch_.Fresh()};
    if (GetParam()) command.folder = scratch_.Fresh();
    Ran native = RunNatively(command);
    if (!GetParam())
      command.arguments[1] = "/tmp";
    else
      scratch_.Fresh();
    return {std::move(native), RunInMicroVm(command)};
  }

  bool Differs(const Sequence& sequence) {
    const auto [native, isolated] = Play({sequence});
    return native.output != isolated.output || native.exit_code != isolated.exit_code;
  }

  /// Shrinks the first sequence of a batch that differs, and says how. Nothing where none does.
  std::optional<std::string> CheckBatch(std::uint64_t seed) {
    std::vector<Sequence> sequences;
    for (int i = 0; i < kSequencesInBatch; ++i)
      sequences.push_back(WithoutKnown(RandomSequence(seed * kSequencesInBatch + i, kCalls)));
    const auto [native, isolated] = Play(sequences);
    if (native.output == isolated.output && native.exit_code == 0 && isolated.exit_code == 0)
      return std::nullopt;
    const auto native_parts = ByOutput(native.output, sequences.size());
    const auto isolated_parts = ByOutput(isolated.output, sequences.size());
    for (std::size_t i = 0; i < sequences.size(); ++i)
      if (native_parts[i] != isolated_parts[i]) return Explain(seed, i, sequences[i]);
    return "only the whole batch differs: " + Difference(native, isolated);
  }

  /// Every sequence that differs, unshrunk.
  void CheckAll(const std::vector<Sequence>& sequences) {
    constexpr int kMostShown = 40;
    const auto [native, isolated] = Play(sequences);
    EXPECT_EQ(native.exit_code, 0) << native.error;
    EXPECT_EQ(isolated.exit_code, 0) << isolated.report;
    const auto native_parts = ByOutput(native.output, sequences.size());
    const auto isolated_parts = ByOutput(isolated.output, sequences.size());
    int differ = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      if (native_parts[i] == isolated_parts[i] || ++differ > kMostShown) continue;
      ADD_FAILURE() << absl::StrJoin(sequences[i], "\n") << "\n"
                    << FirstDifference(native_parts[i], isolated_parts[i]);
    }
    EXPECT_EQ(differ, 0) << "of " << sequences.size();
  }

  std::string Explain(std::uint64_t seed, std::size_t at, const Sequence& sequence) {
    std::string text = absl::StrCat("batch ", seed, ", sequence ", at);
    if (!Differs(sequence)) return text + " differs after those before it, but not alone";
    const Sequence least = Shrink(sequence, [this](const Sequence& s) { return Differs(s); });
    absl::StrAppend(&text, ", shrunk from ", sequence.size(), " to ", least.size(), " calls:\n");
    for (const std::string& call : least) absl::StrAppend(&text, "  ", call, "\n");
    const auto [native, isolated] = Play({least});
    return absl::StrCat(text, "native:\n", native.output, "microVM: ", isolated.report, "\n",
                        isolated.output);
  }

  Scratch scratch_;
};

std::optional<int> FromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? std::nullopt : std::optional(std::atoi(text));
}

TEST_P(Sequences, SameAsNative) {
  const auto seconds = FromEnvironment("WAXVM_DIFFERENTIAL_SECONDS");
  const auto chosen = FromEnvironment("WAXVM_DIFFERENTIAL_SEED");
  const std::uint64_t first = chosen    ? static_cast<std::uint64_t>(*chosen)
                              : seconds ? static_cast<std::uint64_t>(std::time(nullptr))
                                        : kFirstSeed;
  const auto start = std::chrono::steady_clock::now();
  const auto end = start + std::chrono::seconds(seconds.value_or(0));
  std::uint64_t batch = 0;
  // At most three differences, each of which takes some time to shrink.
  for (int found = 0; found < 3; ++batch) {
    if (seconds ? std::chrono::steady_clock::now() >= end
                : batch == static_cast<std::uint64_t>(Slowness() > 1 ? 1 : kBatches))
      break;
    if (const auto difference = CheckBatch(first + batch)) {
      ADD_FAILURE() << *difference;
      ++found;
    }
  }
  std::printf("%llu sequences from batch %llu on\n",
              static_cast<unsigned long long>(batch * kSequencesInBatch),
              static_cast<unsigned long long>(first));
}

TEST_P(Sequences, EveryCallOnEveryKindOfFile) { CheckAll(CallsOnEveryKind()); }

TEST_P(Sequences, EveryMoveBetweenTwoKindsOfFile) { CheckAll(CallsOnEveryPair()); }

INSTANTIATE_TEST_SUITE_P(Every, Sequences, testing::Bool(), [](const auto& test) {
  return test.param ? "InGrantedFolder" : "InMemory";
});

TEST(Shrink, LeavesWhatIsNeeded) {
  Sequence sequence;
  for (int i = 0; i < 50; ++i) sequence.push_back(std::to_string(i));
  int asked = 0;
  const auto differs = [&asked](const Sequence& s) {
    ++asked;
    return std::find(s.begin(), s.end(), "7") != s.end() &&
           std::find(s.begin(), s.end(), "33") != s.end();
  };
  EXPECT_EQ(Shrink(sequence, differs), (Sequence{"7", "33"}));
  EXPECT_LE(asked, 400);
}

TEST(RandomSequence, DependsOnTheSeedAlone) {
  EXPECT_EQ(RandomSequence(5, 30), RandomSequence(5, 30));
  EXPECT_NE(RandomSequence(5, 30), RandomSequence(6, 30));
}

TEST(ByOutput, CutsAtTheAnnouncements) {
  EXPECT_EQ(ByOutput("sequence 0\na = 0\n  .\nsequence 1\nb = 0\n", 3),
            (std::vector<std::string>{"a = 0\n  .\n", "b = 0\n\n", ""}));
}

}  // namespace
}  // namespace waxvm::differential
