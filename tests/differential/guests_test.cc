// SPDX-License-Identifier: Apache-2.0
// Every program of tests/guests whose output is the same on any Linux, natively and in a microVM:
// the same output, the same exit code, the same files left behind. Programs that take a folder run
// once more in the microVM's own /tmp, which is memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <initializer_list>
#include <ostream>

#include "both.h"

namespace waxvm::differential {
namespace {

struct Guest {
  const char* name;
  const char* variants;  ///< as tests/guests/CMakeLists.txt builds them
  enum Argument { kNone, kFolder, kLibrary } argument = kNone;
};

constexpr Guest kGuests[] = {
    {"true", "musl musl_pie glibc glibc_pie dynamic"},
    {"hello", "musl musl_pie glibc glibc_pie"},
    {"cpp_exceptions", "glibc glibc_pie dynamic"},
    {"cpp_library", "glibc glibc_pie dynamic", Guest::kFolder},
    {"simd", "musl glibc"},
    {"cat_stdin", "musl glibc"},
    {"files", "musl glibc", Guest::kFolder},
    {"compute", "musl glibc"},
    {"segv", "musl glibc"},
    {"illegal_instruction", "musl"},
    {"divide_by_zero", "musl"},
    {"jump_nowhere", "musl"},
    {"abort", "musl"},
    {"stack_overflow", "musl"},
    {"ifunc", "glibc glibc_pie dynamic"},
    {"load_library", "dynamic", Guest::kLibrary},
    {"threads_basic", "musl musl_pie glibc glibc_pie dynamic"},
    {"threads_sync", "musl glibc dynamic"},
    {"threads_end", "musl glibc dynamic"},
    {"fairness", "musl glibc dynamic"},
    {"futex", "musl glibc dynamic"},
    {"futex_pi", "musl glibc dynamic"},
    {"signals_handlers", "musl glibc dynamic"},
    {"signals_faults", "musl glibc dynamic", Guest::kFolder},
    {"signals_interrupt", "musl glibc dynamic"},
    {"signals_state", "musl glibc dynamic"},
    {"signals_threads", "musl glibc dynamic"},
    {"channels", "musl glibc dynamic"},
    {"sockets", "musl glibc dynamic"},
    {"memory", "musl glibc dynamic"},
    {"memory_huge", "musl glibc dynamic"},
    {"memory_shared", "musl glibc dynamic", Guest::kFolder},
    {"signal_descriptors", "musl glibc dynamic"},
    {"timers", "musl glibc dynamic"},
    {"files_names", "musl glibc dynamic", Guest::kFolder},
    {"files_data", "musl glibc dynamic", Guest::kFolder},
    {"proc_self", "musl glibc dynamic"},
    {"statx", "musl glibc dynamic", Guest::kFolder},
    {"vectors", "musl glibc dynamic"},
    {"not_offered", "musl glibc dynamic"},
};

constexpr char kDynamicLinker[] = "/lib64/ld-linux-x86-64.so.2";

/// What is known to differ still: programs that have `part` in their name.
struct NotYet {
  std::string_view part;
  std::string_view reason;
};
const std::initializer_list<NotYet> kNotYet = {};

struct Build {
  const Guest* guest;
  std::string variant;
};
void PrintTo(const Build& build, std::ostream* out) {
  *out << build.guest->name << "_" << build.variant;
}

std::vector<Build> Builds(bool only_with_folder) {
  std::vector<Build> builds;
  for (const Guest& guest : kGuests) {
    if (only_with_folder && guest.argument != Guest::kFolder) continue;
    std::string_view rest = guest.variants;
    while (!rest.empty()) {
      const std::size_t space = std::min(rest.find(' '), rest.size());
      builds.push_back({&guest, std::string(rest.substr(0, space))});
      rest.remove_prefix(std::min(space + 1, rest.size()));
    }
  }
  return builds;
}

class Guests : public testing::TestWithParam<Build> {
 protected:
  void SetUp() override {
    if (const std::string reason = WhyNoMicroVm(); !reason.empty()) GTEST_SKIP() << reason;
    if (dynamic() && access(kDynamicLinker, R_OK) != 0)
      GTEST_SKIP() << "dynamic programs need " << kDynamicLinker << ", which is not here";
  }

  bool dynamic() const { return GetParam().variant == "dynamic"; }
  bool takes_folder() const { return GetParam().guest->argument == Guest::kFolder; }

  Command Prepare(const std::string& folder) const {
    const Guest& guest = *GetParam().guest;
    Command command;
    command.arguments = {GuestPath(std::string(guest.name) + "_" + GetParam().variant)};
    if (guest.argument == Guest::kLibrary)
      command.arguments.push_back(GuestPath("shared_library.so"));
    if (!folder.empty()) command.arguments.push_back(folder);
    for (int i = 0; i < 500; ++i) command.input += "line " + std::to_string(i * 7919) + "\n";
    command.whole_root = dynamic();
    command.wall_time = std::chrono::seconds(60);
    return command;
  }

  /// Skips what is known to differ, with the reason; fails where such a program is the same.
  void Expect(const Ran& native, const Ran& isolated) const {
    const std::string difference = Difference(native, isolated);
    const std::string name = std::string(GetParam().guest->name) + "_" + GetParam().variant;
    for (const NotYet& row : kNotYet) {
      if (name.find(row.part) == name.npos) continue;
      if (difference.empty())
        FAIL() << name << " is the same now: take '" << row.part << "' out of kNotYet";
      GTEST_SKIP() << difference << "not yet: " << row.reason;
    }
    if (!difference.empty()) FAIL() << difference;
    // A program that finds nothing here to try says so, natively and inside.
    if (native.output.starts_with("skipped: ")) GTEST_SKIP() << native.output.substr(9);
  }

  Scratch scratch_;
};

class GuestsInMemory : public Guests {};

TEST_P(Guests, SameAsNative) {
  Command command = Prepare(takes_folder() ? scratch_.Fresh() : "");
  if (takes_folder()) command.folder = scratch_.Fresh();
  const Ran native = RunNatively(command);
  if (takes_folder()) scratch_.Fresh();
  const Ran isolated = RunInMicroVm(command);
  Expect(native, isolated);
}

TEST_P(GuestsInMemory, SameAsNative) {
  Command command = Prepare(scratch_.Fresh());
  const Ran native = RunNatively(command);
  command.arguments.back() = "/tmp";
  Expect(native, RunInMicroVm(command));
}

std::string Name(const testing::TestParamInfo<Build>& test) {
  return std::string(test.param.guest->name) + "_" + test.param.variant;
}
INSTANTIATE_TEST_SUITE_P(Every, Guests, testing::ValuesIn(Builds(false)), Name);
INSTANTIATE_TEST_SUITE_P(Every, GuestsInMemory, testing::ValuesIn(Builds(true)), Name);

}  // namespace
}  // namespace waxvm::differential
