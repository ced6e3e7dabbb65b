// SPDX-License-Identifier: Apache-2.0
// What a run did, as measured.
#ifndef WAXVM_REPORT_H_
#define WAXVM_REPORT_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "waxvm/fault.h"
#include "waxvm/identity.h"
#include "waxvm/limits.h"
#include "waxvm/provider.h"

namespace waxvm {

enum class Outcome { kExited, kFault, kLimit, kStopped };

/// "exited", "fault", "limit", "stopped".
std::string_view OutcomeName(Outcome outcome);

/// One thing that was refused, and how often.
struct Denial {
  Resource resource = Resource::kFile;
  std::string name;
  bool write = false;
  std::uint64_t count = 0;
};

struct Report {
  std::string provider;
  IsolationClass isolation = IsolationClass::kNone;
  std::vector<std::string> ambient;  ///< what the provider could not withhold

  std::chrono::nanoseconds wall_time{0};
  std::chrono::nanoseconds setup_time{0};     ///< until the program could start
  std::chrono::nanoseconds teardown_time{0};  ///< until everything was freed
  std::optional<std::chrono::nanoseconds> cpu_time;
  std::optional<std::uint64_t> peak_memory_bytes;
  /// As the program ended, or as the report was asked for.
  std::optional<InstanceMemory> memory = {};
  std::optional<std::uint64_t> fuel = {};  ///< instructions, where a limit has them counted
  std::optional<std::uint64_t> vm_exits;
  std::uint64_t output_bytes = 0;
  std::uint64_t host_calls = 0;
  std::uint64_t denials = 0;   ///< all refusals
  std::vector<Denial> denied;  ///< at most 256 distinct ones, in order of appearance
  /// Who the instance is, or was; empty without RunOptions::identity.
  std::optional<IdentityReport> identity = {};
};

/// The result of one run. Whatever the program did is data here; a status is only for what waxvm
/// itself could not do.
struct RunResult {
  Outcome outcome = Outcome::kExited;
  /// The program's own; 128 + signal for a fault, 124 for a limit, 143 when stopped.
  int exit_code = 0;
  std::optional<LimitKind> limit;
  std::optional<Fault> fault;
  std::string output;        ///< standard output, where it was collected
  std::string error_output;  ///< standard error, where it was collected
  Report report;
};

/// The report as one JSON object, the names as in docs/report.md. A figure that was not measured
/// is null.
std::string ReportToJson(const RunResult& result);
/// The same for what has not ended, as a session's: without outcome, exit code, limit and fault.
std::string ReportToJson(const Report& report);

}  // namespace waxvm

#endif  // WAXVM_REPORT_H_
