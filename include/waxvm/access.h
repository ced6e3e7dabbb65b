// SPDX-License-Identifier: Apache-2.0
// The one policy point: what a program wants to touch, who decides, and how refusals are kept.
#ifndef WAXVM_ACCESS_H_
#define WAXVM_ACCESS_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace waxvm {

/// The kinds of thing an instance can ask for.
enum class Resource {
  kClock,
  kRandom,
  kFile,          ///< name: the absolute path inside the instance
  kHostFunction,  ///< name: the function's
  kSystemCall,    ///< name: the Linux call's; not offered by the provider
  kLimit,         ///< name: LimitName of a bound that was met with an errno
};

/// "clock", "random", "file", "host_function", "system_call", "limit".
std::string_view ResourceName(Resource resource);

struct Access {
  Resource resource = Resource::kFile;
  std::string_view name = {};
  /// For files: the access would change something.
  bool write = false;
};

/// Asked before an access that the grants allow; anything but OK refuses it. Receives the run's
/// label (RunOptions::label). Called from the thread that runs the instance.
using Authorizer = std::function<absl::Status(std::string_view label, const Access& access)>;

/// Where a provider asks and reports. The supervisor's implementation checks the grants, then the
/// authorizer, and records every refusal in the run's report.
/// Thread safety: all calls for one instance come from the thread in Provider::Create or
/// Instance::Resume.
class AccessGate {
 public:
  virtual ~AccessGate() = default;

  /// OK, or kPermissionDenied, which has then been recorded; the provider turns it into an errno.
  virtual absl::Status Check(const Access& access) = 0;

  /// Records a refusal that was decided elsewhere (an unknown system call, a bound that was met,
  /// a read-only folder), so that it is counted and named in the report.
  virtual void RecordDenial(const Access& access) = 0;
};

}  // namespace waxvm

#endif  // WAXVM_ACCESS_H_
