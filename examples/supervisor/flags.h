// SPDX-License-Identifier: Apache-2.0
// The command lines of `waxvm run` and `waxvm call`.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_FLAGS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_FLAGS_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/advert.h"
#include "waxvm/grant.h"
#include "waxvm/limits.h"

namespace waxvm::cli {

/// An image to open: "tar:PATH", "oci:FOLDER[:REFERENCE]" or "erofs:PATH".
struct ImageFlag {
  enum class Kind { kTar, kOci, kErofs };
  Kind kind = Kind::kTar;
  std::string path;
  std::string reference;  ///< of an OCI layout; empty: its only image
};

struct RunFlags {
  std::string provider = "microvm";
  Limits limits;
  std::vector<Grant> grants;
  std::vector<ImageFlag> images;  ///< the lowest layer first
  std::vector<std::string> environment;
  std::string report_path;             ///< empty: no report
  std::string program;                 ///< empty only where an image may say what to run
  std::vector<std::string> arguments;  ///< after argv[0]; for call: the function and its argument
  std::uint64_t repeat = 1;            ///< calls, or runs
  std::uint64_t pool = 0;              ///< its instances; 0: none
  std::string snapshot_path;           ///< for call; empty: none
  /// Of `run`: who the instance is; the host's key and the directory are opened later.
  bool identity = false;
  bool grants_signing = false;
  bool grants_private_key = false;
  bool revokes = false;
  std::vector<AdvertisedService> services;
  std::string host_key;   ///< empty: none
  std::string directory;  ///< empty: none
  bool help = false;
};

/// Parses what follows `waxvm run`. Flags end at `--` or at the first argument that is none.
/// Errors: kInvalidArgument in words for the person who typed it.
absl::StatusOr<RunFlags> ParseRunFlags(std::span<const std::string_view> arguments);

/// The same for what follows `waxvm call`: it lacks some flags, has others, and needs a function.
absl::StatusOr<RunFlags> ParseCallFlags(std::span<const std::string_view> arguments);

/// One line a flag, for `waxvm help`: those of run, and of these the ones for many calls.
std::string RunFlagsHelp();
std::string CallFlagsHelp();

/// "1048576", "64MiB", "1GiB": an integer with B, KiB, MiB, GiB, TiB or nothing. Units: bytes.
absl::StatusOr<std::uint64_t> ParseBytes(std::string_view text);

/// "250ms", "1s", "1.5m": a decimal number with ns, us, ms, s, m or h.
absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text);

/// "clock", "random" or "files:HOST:GUEST:ro|rw"; HOST may contain colons.
absl::StatusOr<Grant> ParseGrant(std::string_view text);

/// FOLDER ends at the first colon; REFERENCE may contain some.
absl::StatusOr<ImageFlag> ParseImage(std::string_view text);

/// "NAME,udp,PORT", with udp, tcp or a number of IP.
absl::StatusOr<AdvertisedService> ParseService(std::string_view text);

/// The candidate nearest to `word` by edit distance, or "" where none is near.
std::string_view Nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_FLAGS_H_
