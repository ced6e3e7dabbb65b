// SPDX-License-Identifier: Apache-2.0
// The files of a folder, for people who name them from outside.
#ifndef WAXVM_EXAMPLES_SUPERVISOR_COAP_FOLDER_H_
#define WAXVM_EXAMPLES_SUPERVISOR_COAP_FOLDER_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace waxvm::cli {

/// What tells one state of a file from another without reading it.
struct FileState {
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  ///< nanoseconds
  std::int64_t changed = 0;
  auto operator<=>(const FileState&) const = default;
};

/// A folder that is never left. Names are those of Uri-Path options. Attack: "..", a symbolic link
/// that leads out, one that is put in place between check and use, a device, a pipe that never
/// ends. Every path is resolved by the kernel, below the folder and without following any link
/// (openat2), and what is no plain file is not there. Names that begin with a dot are not there
/// either: version control, editors' remains, what is being written.
class Folder {
 public:
  struct Limits {
    std::size_t file_bytes = std::size_t{16} << 20;
    std::size_t files = 4096;  ///< that are listed
    std::size_t depth = 16;
  };

  /// Errors: what the system says; kUnimplemented before Linux 5.6.
  static absl::StatusOr<Folder> Open(const std::string& path, const Limits& limits);
  Folder(Folder&& other) noexcept;
  Folder& operator=(Folder&&) = delete;
  ~Folder();

  /// Errors: kNotFound for everything that is no file to be served; kResourceExhausted for one that
  /// is too long; kPermissionDenied.
  absl::StatusOr<std::string> Read(const std::vector<std::string>& path) const;
  /// Replaces the file at once, or makes it; folders are not made. Whether it is new.
  /// Errors: kNotFound for the folder it is to be in, and for names that are not served;
  /// kPermissionDenied; kResourceExhausted; kFailedPrecondition where something else is there.
  absl::StatusOr<bool> Write(const std::vector<std::string>& path, std::string_view bytes) const;
  /// Errors: kNotFound, kPermissionDenied.
  absl::Status Remove(const std::vector<std::string>& path) const;
  /// All files that are served, "/a/b" and how they are. What cannot be read is left out.
  std::map<std::string, FileState> List() const;

  /// Whether a segment may be asked for at all.
  static bool IsServed(std::string_view name);

 private:
  Folder(int fd, const Limits& limits) : fd_(fd), limits_(limits) {}
  int OpenBelow(const std::string& path, int flags) const;

  int fd_;
  Limits limits_;
};

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_COAP_FOLDER_H_
