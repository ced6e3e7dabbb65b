// SPDX-License-Identifier: Apache-2.0
// Where the program's output and the report go.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_STREAMS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_STREAMS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/provider.h"

namespace waxvm::cli {

/// Passes a program's output on to this command's own streams. A reader that has gone stops the
/// run; one that does not read cannot keep the program alive past its deadline.
/// Thread safety: used by the thread that runs the program.
class OutputPassThrough {
 public:
  OutputPassThrough(std::stop_source& stop, std::optional<std::chrono::nanoseconds> wall_time);

  absl::Status Write(Stream stream, std::string_view data);
  /// The reader of a stream closed it.
  bool broken() const { return broken_; }

 private:
  /// Waits until `fd` takes bytes; false when the run is over anyway.
  bool WaitWritable(int fd) const;

  std::stop_source& stop_;
  std::array<std::size_t, 2> bytes_at_once_;  ///< by Stream
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  bool broken_ = false;
};

/// A file that appears at `path` whole or not at all.
class ReportFile {
 public:
  /// Opens it, so that a path that cannot be written is known before the program runs.
  static absl::StatusOr<ReportFile> Open(std::string path);
  ReportFile(ReportFile&& other) noexcept;
  ReportFile& operator=(ReportFile&&) = delete;
  ~ReportFile();

  absl::Status Commit(std::string_view contents);

 private:
  ReportFile(std::string path, std::string temporary, int fd);

  std::string path_;
  std::string temporary_;  ///< empty: `path` is a stream and written as it is
  int fd_;
};

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_STREAMS_H_
