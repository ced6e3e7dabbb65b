// SPDX-License-Identifier: Apache-2.0
// What the host injects into one instance. Whatever is not granted does not exist inside.
#ifndef WAXVM_GRANT_H_
#define WAXVM_GRANT_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"
#include "waxvm/root_image.h"

namespace waxvm {

enum class Rights { kReadOnly, kReadWrite };

/// A source of time. Thread safety: implementations must allow calls from any thread.
class ClockSource {
 public:
  virtual ~ClockSource() = default;
  virtual std::chrono::nanoseconds RealTime() = 0;       ///< since the Unix epoch
  virtual std::chrono::nanoseconds MonotonicTime() = 0;  ///< never goes back
};

/// A source of randomness. Thread safety: implementations must allow calls from any thread.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual void Fill(std::span<std::byte> buffer) = 0;
};

/// What a host function may ask about the call it serves.
class HostCallContext {
 public:
  virtual ~HostCallContext() = default;
  /// RunOptions::label of the calling run.
  virtual std::string_view label() const = 0;
  /// True once the run was stopped or ran out of wall time: a slow function should return.
  virtual bool StopRequested() const = 0;
};

/// A function of the host that a guest may call by name: bytes in, bytes out. It may be slow, may
/// fail (its status reaches the guest as an error code and message) and may refuse
/// (kPermissionDenied). Called on the thread that runs the instance, for several instances at
/// once when it was granted to several.
using HostFunction = std::function<absl::StatusOr<std::string>(const HostCallContext& context,
                                                               std::string_view request)>;

struct ClockGrant {
  std::shared_ptr<ClockSource> source;
};
struct RandomGrant {
  std::shared_ptr<RandomSource> source;
};
struct FilesGrant {
  std::string host_path;
  std::string guest_path;
  Rights rights = Rights::kReadOnly;
};
struct FunctionGrant {
  std::string name;
  HostFunction function;
};
struct ImageGrant {
  RootImage image;
};

/// One capability with the name and rights under which an instance gets it.
using Grant = std::variant<ClockGrant, RandomGrant, FilesGrant, FunctionGrant, ImageGrant>;

/// The host's clocks, or `source` (which the process provider cannot inject and refuses).
/// Without this grant a program sees a fixed time.
Grant Clock(std::shared_ptr<ClockSource> source = nullptr);

/// The host's random number generator, or `source` (as above). Without it reads fail.
Grant Random(std::shared_ptr<RandomSource> source = nullptr);

/// The host folder or regular file `host_path`, seen inside as the absolute path `guest_path`.
/// Regular files, directories and symbolic links pass; the host's devices, sockets, FIFOs, proc
/// and sys never do. Symbolic links are followed in the instance's own namespace.
Grant Files(std::string host_path, std::string guest_path, Rights rights = Rights::kReadOnly);

/// The image as the root directory "/", for the microvm provider. What the program changes of it is
/// its own and gone with it; granted files, /tmp, /dev, /proc and /sys lie over it. At most one
/// image, and none beside files granted at "/".
Grant Image(RootImage image);

/// A host function under `name` (1 to 255 bytes; "waxvm.…" is reserved and refused).
Grant Function(std::string name, HostFunction function);

}  // namespace waxvm

#endif  // WAXVM_GRANT_H_
