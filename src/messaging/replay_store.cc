// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <utility>

#include "src/base/atomic_file.h"
#include "src/base/file_io.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "waxvm/replay_guard.h"

namespace waxvm {
namespace {

class FileReplayStore final : public ReplayStore {
 public:
  explicit FileReplayStore(std::string path) : path_(std::move(path)) {}

  absl::StatusOr<std::string> Load() override {
    const UniqueFd file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file && errno == ENOENT) return std::string();
    if (!file) return ErrnoStatus(errno, path_);
    struct stat info = {};
    if (fstat(file.get(), &info) != 0) return ErrnoStatus(errno, path_);
    if (!S_ISREG(info.st_mode)) return FailedPrecondition("%s is no file", path_);
    // Whoever can write to it can have any message heard again.
    if (info.st_uid != geteuid() || (info.st_mode & 022) != 0)
      return absl::PermissionDeniedError(path_ + " can be written by others");
    std::string state(static_cast<std::size_t>(info.st_size), '\0');
    std::size_t have = 0;
    while (have < state.size()) {
      const ssize_t count = read(file.get(), state.data() + have, state.size() - have);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return ErrnoStatus(errno, path_);
      if (count == 0) break;
      have += static_cast<std::size_t>(count);
    }
    state.resize(have);
    return state;
  }

  absl::Status Save(std::string_view state) override {
    return ReplaceFile(path_, [&](int file) {
      return WriteAll(file, std::as_bytes(std::span(state.data(), state.size())), path_);
    });
  }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<ReplayStore> NewFileReplayStore(const std::string& path) {
  return std::make_unique<FileReplayStore>(path);
}

}  // namespace waxvm
