// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/filter_program.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <limits>
#include <span>

#include "src/base/status.h"

namespace waxvm::process {
namespace {

// Where x32's numbers begin; nothing above is a call of x86-64.
constexpr std::uint32_t kFirstForeign = 0x40000000;

using Label = std::size_t;
enum : Label { kAllow, kRefuse, kUnknown, kFirstFree };

/// Calls from number `first` up to the next run's go to `target`.
struct Run {
  std::uint32_t first = 0;
  Label target = kRefuse;
};

/// An assembler for jumps forward.
class Assembler {
 public:
  Label NewLabel() {
    place_.push_back(kNowhere);
    return place_.size() - 1;
  }
  void Place(Label label) { place_[label] = code_.size(); }
  void Load(std::size_t offset) { Add(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
  void And(std::uint32_t mask) { Add(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0); }
  void Return(std::uint32_t value) { Add(BPF_RET | BPF_K, value, 0, 0); }
  void Jump(int comparison, std::uint32_t value, Label then, Label otherwise) {
    Add(BPF_JMP | comparison | BPF_K, value, then, otherwise);
  }
  absl::StatusOr<std::vector<sock_filter>> Link() const;

 private:
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();
  struct Instruction {
    int code;
    std::size_t value;
    Label then, otherwise;
  };

  void Add(int code, std::size_t value, Label then, Label otherwise) {
    code_.push_back({code, value, then, otherwise});
  }

  std::vector<Instruction> code_;
  std::vector<std::size_t> place_ = std::vector<std::size_t>(kFirstFree, kNowhere);
};

absl::StatusOr<std::vector<sock_filter>> Assembler::Link() const {
  constexpr std::size_t kLongest = std::numeric_limits<std::uint8_t>::max();
  std::vector<sock_filter> linked;
  for (std::size_t at = 0; at < code_.size(); ++at) {
    const Instruction& from = code_[at];
    sock_filter to{static_cast<std::uint16_t>(from.code), 0, 0,
                   static_cast<std::uint32_t>(from.value)};
    if (BPF_CLASS(from.code) == BPF_JMP) {
      const std::size_t then = place_[from.then] - at - 1;
      const std::size_t otherwise = place_[from.otherwise] - at - 1;
      if (then > kLongest || otherwise > kLongest) {
        return Internal("the seccomp filter has jumps of %d and %d instructions, at most %d", then,
                        otherwise, kLongest);
      }
      to.jt = static_cast<std::uint8_t>(then);
      to.jf = static_cast<std::uint8_t>(otherwise);
    }
    linked.push_back(to);
  }
  return linked;
}

void AddTests(Assembler& out, std::span<const ArgumentTest> tests) {
  for (std::size_t i = 0; i < tests.size(); ++i) {
    const ArgumentTest& test = tests[i];
    const bool last = i + 1 == tests.size();
    const Label passed = last ? Label{kAllow} : out.NewLabel();
    out.Load(offsetof(seccomp_data, args) + test.argument * sizeof(std::uint64_t));
    if (test.mask != 0xffffffff) out.And(test.mask);
    for (std::size_t v = 0; v < test.values.size(); ++v) {
      const bool more = v + 1 < test.values.size();
      const Label next = more ? out.NewLabel() : Label{kRefuse};
      out.Jump(BPF_JEQ, test.values[v], passed, next);
      if (more) out.Place(next);
    }
    if (!last) out.Place(passed);
  }
}

/// A binary search; `runs` has at least two.
void AddSearch(Assembler& out, std::span<const Run> runs) {
  // One call among others that all go the same way.
  if (runs.size() == 3 && runs[0].target == runs[2].target && runs[1].first + 1 == runs[2].first) {
    out.Jump(BPF_JEQ, runs[1].first, runs[1].target, runs[0].target);
    return;
  }
  const std::size_t half = runs.size() / 2;
  const auto below = runs.first(half);
  const auto above = runs.subspan(half);
  const Label low = below.size() == 1 ? below[0].target : out.NewLabel();
  const Label high = above.size() == 1 ? above[0].target : out.NewLabel();
  out.Jump(BPF_JGE, above[0].first, high, low);
  if (below.size() > 1) {
    out.Place(low);
    AddSearch(out, below);
  }
  if (above.size() > 1) {
    out.Place(high);
    AddSearch(out, above);
  }
}

std::vector<Run> Merge(const std::map<std::uint32_t, Label>& targets) {
  std::vector<Run> runs = {{0, kRefuse}};
  const auto go_on = [&](std::uint32_t first, Label target) {
    if (runs.back().first == first) runs.pop_back();
    if (runs.empty() || runs.back().target != target) runs.push_back({first, target});
  };
  for (const auto& [number, target] : targets) {
    go_on(number, target);
    go_on(number + 1, kRefuse);
  }
  go_on(kFirstForeign, kUnknown);
  return runs;
}

}  // namespace

absl::StatusOr<std::vector<sock_filter>> CompileFilter(const FilterTable& table) {
  Assembler out;
  std::map<std::uint32_t, Label> targets;
  for (const int number : table.absent) targets[static_cast<std::uint32_t>(number)] = kUnknown;
  for (const auto& [number, tests] : table.allowed) {
    targets[static_cast<std::uint32_t>(number)] = tests.empty() ? Label{kAllow} : out.NewLabel();
  }
  const Label native = out.NewLabel();
  out.Load(offsetof(seccomp_data, arch));
  out.Jump(BPF_JEQ, AUDIT_ARCH_X86_64, native, kUnknown);
  out.Place(native);
  out.Load(offsetof(seccomp_data, nr));
  AddSearch(out, Merge(targets));
  for (const auto& [number, tests] : table.allowed) {
    if (tests.empty()) continue;
    out.Place(targets[static_cast<std::uint32_t>(number)]);
    AddTests(out, tests);
  }
  out.Place(kAllow);
  out.Return(SECCOMP_RET_ALLOW);
  out.Place(kRefuse);
  out.Return(table.refuse);
  out.Place(kUnknown);
  out.Return(table.unknown);
  return out.Link();
}

}  // namespace waxvm::process
