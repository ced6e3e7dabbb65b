// SPDX-License-Identifier: Apache-2.0
// Prints docs/linux-abi.md from the table that serves the calls, so that the page cannot say
// anything else.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "src/linux_abi/fixed_answers.h"
#include "src/linux_abi/syscall_table.h"

namespace waxvm::linux_abi {
namespace {

/// One past the last call that SyscallName knows.
constexpr std::uint64_t kNumbers = 463;

constexpr std::string_view kHead = R"(# System calls in a microVM

<!-- Generated from the table in src/linux_abi; do not edit. To write it anew:
     cmake --build build/release --target linux_abi_table
     build/release/tests/docs/linux_abi_table > docs/linux-abi.md -->

What `linux_abi` serves, by number. *Full*: nothing is known to be missing for one process of any
number of threads on one processor. *Partial*: the last column says what is missing. *None*: the call
fails with `ENOSYS` and is named in the report as `system_call`. The numbers and names are those of
Linux 6.10 on x86-64. Calls marked † are answered inside the guest, without an exit.

Under the process provider the host's kernel serves the calls; its list is
`src/provider_process/syscall_policy.cc`.

)";

bool IsFixed(std::uint64_t number) {
  for (const FixedAnswer& answer : FixedAnswers())
    if (answer.number == number) return true;
  return false;
}

std::string Row(std::uint64_t number, std::string_view name) {
  const SyscallEntry* entry = FindSyscall(number);
  const std::string_view support = entry == nullptr                      ? "none"
                                   : entry->support == Support::kPartial ? "partial"
                                                                         : "full";
  return absl::StrFormat("| %d | `%s`%s | %s | %s |\n", number, name, IsFixed(number) ? " †" : "",
                         support, entry == nullptr ? "" : entry->missing);
}

std::string Page() {
  std::string rows;
  int full = 0;
  int partial = 0;
  int none = 0;
  for (std::uint64_t number = 0; number < kNumbers; ++number) {
    const std::string_view name = SyscallName(number);
    if (name.empty()) continue;
    const SyscallEntry* entry = FindSyscall(number);
    ++(entry == nullptr ? none : entry->support == Support::kPartial ? partial : full);
    rows += Row(number, name);
  }
  return absl::StrFormat(
      "%s%d full, %d partial, %d none.\n\n"
      "| number | call | support | missing |\n|---:|---|---|---|\n%s",
      kHead, full, partial, none, rows);
}

}  // namespace
}  // namespace waxvm::linux_abi

int main() {
  const std::string page = waxvm::linux_abi::Page();
  return std::fputs(page.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? 1 : 0;
}
