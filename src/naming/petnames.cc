// SPDX-License-Identifier: Apache-2.0
#include "waxvm/petnames.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <span>

#include "src/base/atomic_file.h"
#include "src/base/file_io.h"
#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "src/naming/advert_codec.h"

namespace waxvm {
namespace {

using SteadyClock = std::chrono::steady_clock;
using Names = std::map<std::string, PublicKey, std::less<>>;

constexpr std::size_t kMaxNames = 10'000;
// A name, a key and what is between them: more than so much is no file of names.
constexpr std::size_t kMaxFileBytes = kMaxNames * 128;
constexpr std::chrono::seconds kLookEvery{1};

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

absl::StatusOr<std::string> CheckedName(std::string_view name) {
  std::string lower = Lower(name.substr(0, naming::kMaxLabelBytes + 1));
  if (!naming::IsLabel(lower))
    return InvalidArgument("'%s' is no name: it has 1 to %d of a-z, 0-9 and '-', no '-' at an end",
                           lower, naming::kMaxLabelBytes);
  if (lower.size() == kKeyBase32Digits && PublicKey::Parse(lower).ok())
    return InvalidArgument("'%s' is a key; it needs no name", lower);
  return lower;
}

absl::StatusOr<Names> ParseNames(std::string_view text, const std::string& path) {
  Names names;
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view entry = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t space = std::min(entry.find(' '), entry.size());
    const auto name = CheckedName(entry.substr(0, space));
    const auto key =
        PublicKey::Parse(space < entry.size() ? entry.substr(space + 1) : std::string_view());
    if (!name.ok() || !key.ok() || !names.emplace(*name, *key).second || names.size() > kMaxNames)
      return absl::DataLossError(absl::StrFormat("%s, line %d: no name and key", path, line));
  }
  return names;
}

std::string WriteNames(const Names& names) {
  std::string text;
  for (const auto& [name, key] : names) text.append(name + " " + key.ToBase32() + "\n");
  return text;
}

/// What tells one state of the file from another one: it is always replaced, never changed.
struct FileState {
  ino_t inode = 0;
  off_t size = -1;
  timespec changed = {};
  bool operator==(const FileState& other) const {
    return inode == other.inode && size == other.size && changed.tv_sec == other.changed.tv_sec &&
           changed.tv_nsec == other.changed.tv_nsec;
  }
};

}  // namespace

class Petnames::Rep {
 public:
  explicit Rep(std::string path) : path_(std::move(path)) {}

  absl::Status Load() {
    const MutexLock lock(mutex_);
    return Read();
  }

  absl::Status Change(const std::function<absl::Status(Names&)>& change) {
    const MutexLock lock(mutex_);
    UniqueFd file_lock;
    if (!path_.empty()) {
      // One at a time, so that nobody writes over what another one just wrote.
      const std::string lock_path = path_ + ".lock";
      file_lock =
          UniqueFd(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
      if (!file_lock) return ErrnoStatus(errno, lock_path);
      while (flock(file_lock.get(), LOCK_EX) != 0)
        if (errno != EINTR) return ErrnoStatus(errno, lock_path);
      WAXVM_RETURN_IF_ERROR(Read());
    }
    Names names = names_;
    WAXVM_RETURN_IF_ERROR(change(names));
    if (!path_.empty()) WAXVM_RETURN_IF_ERROR(Write(names));
    names_ = std::move(names);
    ++version_;
    return absl::OkStatus();
  }

  std::optional<PublicKey> Find(std::string_view name) const {
    const MutexLock lock(mutex_);
    Look();
    const auto found = names_.find(Lower(name.substr(0, naming::kMaxLabelBytes + 1)));
    if (found == names_.end()) return std::nullopt;
    return found->second;
  }

  std::optional<std::string> NameOf(const PublicKey& key) const {
    const MutexLock lock(mutex_);
    Look();
    if (named_version_ != version_) {
      names_of_.clear();
      for (const auto& [name, named] : names_) names_of_.emplace(named, name);
      named_version_ = version_;
    }
    const auto found = names_of_.find(key);
    if (found == names_of_.end()) return std::nullopt;
    return found->second;
  }

  std::vector<std::pair<std::string, PublicKey>> List() const {
    const MutexLock lock(mutex_);
    Look();
    return {names_.begin(), names_.end()};
  }

  std::uint64_t Version() const {
    const MutexLock lock(mutex_);
    Look();
    return version_;
  }

 private:
  /// Reads the file again where another process may have written it.
  void Look() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (path_.empty() || SteadyClock::now() < next_look_) return;
    // What cannot be read now is what it was: names do not vanish because of that.
    (void)Read();
  }

  absl::Status Read() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    next_look_ = SteadyClock::now() + kLookEvery;
    const UniqueFd file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file && errno == ENOENT) {
      if (!names_.empty()) ++version_;
      names_.clear();
      state_ = {};
      return absl::OkStatus();
    }
    if (!file) return ErrnoStatus(errno, path_);
    struct stat status = {};
    if (fstat(file.get(), &status) != 0) return ErrnoStatus(errno, path_);
    if (!S_ISREG(status.st_mode)) return InvalidArgument("%s is no regular file", path_);
    if ((status.st_mode & 022) != 0 || (status.st_uid != geteuid() && status.st_uid != 0))
      return absl::PermissionDeniedError(
          absl::StrFormat("%s can be written by others (mode %04o, user %d)", path_,
                          status.st_mode & 07777, status.st_uid));
    const FileState state = {
        .inode = status.st_ino, .size = status.st_size, .changed = status.st_ctim};
    if (state == state_) return absl::OkStatus();
    if (status.st_size > static_cast<off_t>(kMaxFileBytes))
      return absl::DataLossError(
          absl::StrFormat("%s has %d bytes, more than any list of names", path_, status.st_size));
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t got = 0;
    while (got < text.size()) {
      const ssize_t bytes = read(file.get(), text.data() + got, text.size() - got);
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0) return ErrnoStatus(errno, path_);
      if (bytes == 0) break;
      got += static_cast<std::size_t>(bytes);
    }
    text.resize(got);
    WAXVM_ASSIGN_OR_RETURN(names_, ParseNames(text, path_));
    state_ = state;
    ++version_;
    return absl::OkStatus();
  }

  absl::Status Write(const Names& names) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    WAXVM_RETURN_IF_ERROR(ReplaceFile(path_, [&](int file) {
      const std::string text = WriteNames(names);
      return WriteAll(file, std::as_bytes(std::span(text)), path_);
    }));
    state_ = {};  // is read again at the next look
    return absl::OkStatus();
  }

  const std::string path_;  ///< empty: in memory
  mutable Mutex mutex_;
  mutable Names names_ ABSL_GUARDED_BY(mutex_);
  mutable FileState state_ ABSL_GUARDED_BY(mutex_);
  mutable SteadyClock::time_point next_look_ ABSL_GUARDED_BY(mutex_);
  mutable std::uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable std::map<PublicKey, std::string> names_of_ ABSL_GUARDED_BY(mutex_);
  mutable std::uint64_t named_version_ ABSL_GUARDED_BY(mutex_) = 0;  ///< that names_of_ is of
};

Petnames::Petnames(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Petnames::Petnames(Petnames&&) noexcept = default;
Petnames& Petnames::operator=(Petnames&&) noexcept = default;
Petnames::~Petnames() = default;

Petnames Petnames::InMemory() { return Petnames(std::make_unique<Rep>("")); }

absl::StatusOr<Petnames> Petnames::Open(const std::string& path) {
  if (path.empty()) return InvalidArgument("a file of names needs a path");
  auto rep = std::make_unique<Rep>(path);
  WAXVM_RETURN_IF_ERROR(rep->Load());
  return Petnames(std::move(rep));
}

absl::Status Petnames::Set(std::string_view name, const PublicKey& key) {
  WAXVM_ASSIGN_OR_RETURN(const std::string checked, CheckedName(name));
  return rep_->Change([&](Names& names) -> absl::Status {
    names[checked] = key;
    if (names.size() > kMaxNames)
      return absl::ResourceExhaustedError(absl::StrFormat("there are %d names", kMaxNames));
    return absl::OkStatus();
  });
}

absl::Status Petnames::Remove(std::string_view name) {
  return rep_->Change([&](Names& names) -> absl::Status {
    const auto found = names.find(Lower(name.substr(0, naming::kMaxLabelBytes + 1)));
    if (found == names.end())
      return absl::NotFoundError(absl::StrFormat("nobody is called '%s'", name.substr(0, 80)));
    names.erase(found);
    return absl::OkStatus();
  });
}

std::optional<PublicKey> Petnames::Find(std::string_view name) const { return rep_->Find(name); }
std::optional<std::string> Petnames::NameOf(const PublicKey& key) const {
  return rep_->NameOf(key);
}
std::vector<std::pair<std::string, PublicKey>> Petnames::List() const { return rep_->List(); }
std::uint64_t Petnames::Version() const { return rep_->Version(); }

}  // namespace waxvm
