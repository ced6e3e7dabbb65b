// SPDX-License-Identifier: Apache-2.0
#include "streams.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"

namespace waxvm::cli {
namespace {

absl::Status WriteError(int error_number, std::string_view what) {
  return absl::ErrnoToStatus(error_number, absl::StrFormat("cannot write %s", what));
}

/// What one write to `fd` takes without blocking, once it is writable.
std::size_t BytesAtOnce(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? SSIZE_MAX : PIPE_BUF;
}

/// Renaming over a device, a pipe or /dev/stdout would replace it by a file.
bool IsStream(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) return false;
  return !S_ISREG(status.st_mode) || path.starts_with("/dev/") || path.starts_with("/proc/");
}

}  // namespace

OutputPassThrough::OutputPassThrough(std::stop_source& stop,
                                     std::optional<std::chrono::nanoseconds> wall_time)
    : stop_(stop), bytes_at_once_{BytesAtOnce(STDOUT_FILENO), BytesAtOnce(STDERR_FILENO)} {
  const auto now = std::chrono::steady_clock::now();
  if (wall_time && *wall_time < std::chrono::steady_clock::time_point::max() - now)
    deadline_ = now + *wall_time;
}

bool OutputPassThrough::WaitWritable(int fd) const {
  constexpr int kSliceMilliseconds = 50;
  pollfd ready = {.fd = fd, .events = POLLOUT, .revents = 0};
  while (poll(&ready, 1, kSliceMilliseconds) <= 0) {
    if (stop_.stop_requested()) return false;
    if (deadline_ && std::chrono::steady_clock::now() >= *deadline_) return false;
  }
  return true;
}

absl::Status OutputPassThrough::Write(Stream stream, std::string_view data) {
  const int fd = stream == Stream::kOutput ? STDOUT_FILENO : STDERR_FILENO;
  while (!data.empty() && !broken_) {
    if (!WaitWritable(fd)) return absl::OkStatus();
    const std::size_t part = std::min(data.size(), bytes_at_once_[static_cast<int>(stream)]);
    const ssize_t bytes = write(fd, data.data(), part);
    if (bytes >= 0) {
      data.remove_prefix(static_cast<std::size_t>(bytes));
    } else if (errno == EPIPE) {
      broken_ = true;
      stop_.request_stop();
    } else if (errno != EINTR && errno != EAGAIN) {
      return WriteError(errno, stream == Stream::kOutput ? "standard output" : "standard error");
    }
  }
  return absl::OkStatus();
}

ReportFile::ReportFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

ReportFile::ReportFile(ReportFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

ReportFile::~ReportFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<ReportFile> ReportFile::Open(std::string path) {
  if (IsStream(path)) {
    const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return WriteError(errno, path);
    return ReportFile(path, "", fd);
  }
  // The file behind a link is replaced, not the link.
  if (char* real = realpath(path.c_str(), nullptr); real != nullptr) {
    path = real;
    free(real);
  }
  std::string temporary = path + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return WriteError(errno, path);
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, 0666 & ~mask);
  return ReportFile(path, std::move(temporary), fd);
}

absl::Status ReportFile::Commit(std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t bytes = write(fd_, contents.data(), contents.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return WriteError(errno, path_);
    contents.remove_prefix(static_cast<std::size_t>(bytes));
  }
  if (temporary_.empty()) return absl::OkStatus();
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return WriteError(errno, path_);
  temporary_.clear();
  return absl::OkStatus();
}

}  // namespace waxvm::cli
