// SPDX-License-Identifier: Apache-2.0
#include "waxvm/key_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <span>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "src/base/file_io.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "src/identity/sodium_ready.h"
#include "src/identity/text.h"

namespace waxvm {
namespace {

constexpr std::string_view kSuffix = ".pem";
constexpr std::size_t kMaxNameBytes = 64;
// As DecodePem takes at most: a file that grows while it is read ends here.
constexpr std::size_t kMaxFileBytes = 16384;
// Of a folder: a listing is for people.
constexpr std::size_t kMaxFiles = 100'000;

absl::Status CheckName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (name.empty() || name.size() > kMaxNameBytes || name[0] == '.' ||
      !std::all_of(name.begin(), name.end(), allowed))
    return InvalidArgument(
        "'%s' is no name of a key: 1 to %d of a-z, A-Z, 0-9, -, _ and ., not "
        "starting with a dot",
        name.substr(0, 80), kMaxNameBytes);
  return absl::OkStatus();
}

std::string FileOf(std::string_view name) { return std::string(name).append(kSuffix); }

/// Of the effective user, and nobody else has any right on it.
absl::Status CheckOwned(const struct stat& status, const std::string& path) {
  if (status.st_uid != geteuid())
    return absl::PermissionDeniedError(
        absl::StrFormat("%s belongs to user %d, not to %d", path, status.st_uid, geteuid()));
  if ((status.st_mode & 077) != 0)
    return absl::PermissionDeniedError(absl::StrFormat(
        "%s is open to others (mode %04o); take their rights away with chmod go=", path,
        status.st_mode & 07777));
  return absl::OkStatus();
}

absl::StatusOr<Secret> ReadOwned(int folder, const std::string& file, const std::string& path) {
  // Without waiting: a FIFO in place of a key must not stop anybody.
  const UniqueFd fd(openat(folder, file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd && errno == ELOOP)
    return absl::PermissionDeniedError(absl::StrFormat("%s is a symbolic link", path));
  if (!fd) return ErrnoStatus(errno, path);
  struct stat status = {};
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(status.st_mode)) return InvalidArgument("%s is no regular file", path);
  WAXVM_RETURN_IF_ERROR(CheckOwned(status, path));
  // Another name of it would lie in a folder that nobody has checked.
  if (status.st_nlink != 1)
    return absl::PermissionDeniedError(absl::StrFormat("%s has %d names", path, status.st_nlink));
  if (status.st_size > static_cast<off_t>(kMaxFileBytes))
    return InvalidArgument("%s has %d bytes; a key has at most %d", path, status.st_size,
                           kMaxFileBytes);
  WAXVM_ASSIGN_OR_RETURN(Secret contents, Secret::Create(static_cast<std::size_t>(status.st_size)));
  std::size_t got = 0;
  while (got < contents.size()) {
    const ssize_t bytes = read(fd.get(), contents.data() + got, contents.size() - got);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return ErrnoStatus(errno, path);
    if (bytes == 0) break;
    got += static_cast<std::size_t>(bytes);
  }
  contents.Truncate(got);
  return contents;
}

absl::Status WriteDurably(int fd, std::string_view bytes, const std::string& path) {
  WAXVM_RETURN_IF_ERROR(WriteAll(fd, std::as_bytes(std::span(bytes)), path));
  if (fsync(fd) != 0) return ErrnoStatus(errno, path);
  return absl::OkStatus();
}

}  // namespace

struct KeyStore::Rep {
  std::string path;
  UniqueFd folder;

  std::string PathOf(std::string_view name) const {
    return absl::StrFormat("%s/%s", path, FileOf(name));
  }

  absl::StatusOr<Secret> Read(std::string_view name) const {
    WAXVM_RETURN_IF_ERROR(CheckName(name));
    return ReadOwned(folder.get(), FileOf(name), PathOf(name));
  }

  /// A file beside it, made durable, gets the name if nobody has it.
  absl::Status Write(std::string_view name, std::string_view pem) const {
    WAXVM_RETURN_IF_ERROR(CheckName(name));
    WAXVM_RETURN_IF_ERROR(identity::SodiumReady());
    std::string random(16, '\0');
    randombytes_buf(random.data(), random.size());
    const std::string draft = ".new-" + identity::ToHex(random);
    const std::string shown = PathOf(name);
    const UniqueFd fd(openat(folder.get(), draft.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return ErrnoStatus(errno, shown);
    const absl::Cleanup remove = [&] { (void)unlinkat(folder.get(), draft.c_str(), 0); };
    // A umask may have taken rights away.
    if (fchmod(fd.get(), 0600) != 0) return ErrnoStatus(errno, shown);
    WAXVM_RETURN_IF_ERROR(WriteDurably(fd.get(), pem, shown));
    if (linkat(folder.get(), draft.c_str(), folder.get(), FileOf(name).c_str(), 0) != 0)
      return ErrnoStatus(errno, shown);
    if (unlinkat(folder.get(), draft.c_str(), 0) != 0) return ErrnoStatus(errno, shown);
    if (fsync(folder.get()) != 0) return ErrnoStatus(errno, shown);
    return absl::OkStatus();
  }
};

KeyStore::KeyStore(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
KeyStore::KeyStore(KeyStore&&) noexcept = default;
KeyStore& KeyStore::operator=(KeyStore&&) noexcept = default;
KeyStore::~KeyStore() = default;

absl::StatusOr<KeyStore> KeyStore::Open(const std::string& folder) {
  std::string path = folder;
  // With a slash at its end a symbolic link would be followed.
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoStatus(errno, path);
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && (errno == ENOTDIR || errno == ELOOP))
    return InvalidArgument("%s is no folder, or a symbolic link", path);
  if (!fd) return ErrnoStatus(errno, path);
  struct stat status = {};
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(errno, path);
  WAXVM_RETURN_IF_ERROR(CheckOwned(status, path));
  auto rep = std::make_unique<Rep>();
  rep->path = std::move(path);
  rep->folder = std::move(fd);
  return KeyStore(std::move(rep));
}

absl::Status KeyStore::Save(std::string_view name, const SigningKey& key) {
  WAXVM_ASSIGN_OR_RETURN(const Secret pem, key.ToPem());
  return rep_->Write(name, pem.view());
}

absl::Status KeyStore::Save(std::string_view name, const ExchangeKey& key) {
  WAXVM_ASSIGN_OR_RETURN(const Secret pem, key.ToPem());
  return rep_->Write(name, pem.view());
}

absl::StatusOr<SigningKey> KeyStore::Load(std::string_view name) const {
  WAXVM_ASSIGN_OR_RETURN(const Secret pem, rep_->Read(name));
  auto key = SigningKey::FromPem(pem.view());
  if (!key.ok()) return Annotate(key.status(), PathOf(name));
  return key;
}

absl::StatusOr<ExchangeKey> KeyStore::LoadExchange(std::string_view name) const {
  WAXVM_ASSIGN_OR_RETURN(const Secret pem, rep_->Read(name));
  auto key = ExchangeKey::FromPem(pem.view());
  if (!key.ok()) return Annotate(key.status(), PathOf(name));
  return key;
}

absl::StatusOr<SigningKey> KeyStore::LoadOrCreate(std::string_view name) {
  auto found = Load(name);
  if (!absl::IsNotFound(found.status())) return found;
  WAXVM_ASSIGN_OR_RETURN(SigningKey key, SigningKey::Generate());
  const absl::Status saved = Save(name, key);
  if (absl::IsAlreadyExists(saved)) return Load(name);  // somebody else was faster
  if (!saved.ok()) return saved;
  return key;
}

absl::StatusOr<std::vector<std::string>> KeyStore::List() const {
  const int copy = openat(rep_->folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const listing = copy < 0 ? nullptr : fdopendir(copy);
  if (listing == nullptr) {
    const int error = errno;
    if (copy >= 0) close(copy);
    return ErrnoStatus(error, rep_->path);
  }
  const absl::Cleanup closing = [&] { closedir(listing); };
  std::vector<std::string> names;
  while (const dirent* const entry = readdir(listing)) {
    std::string_view name = entry->d_name;
    if (!name.ends_with(kSuffix)) continue;
    name.remove_suffix(kSuffix.size());
    if (CheckName(name).ok()) names.emplace_back(name);
    if (names.size() > kMaxFiles)
      return absl::ResourceExhaustedError(
          absl::StrFormat("%s has more than %d keys", rep_->path, kMaxFiles));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string KeyStore::PathOf(std::string_view name) const { return rep_->PathOf(name); }

absl::Status KeyStore::Remove(std::string_view name) {
  WAXVM_RETURN_IF_ERROR(CheckName(name));
  if (unlinkat(rep_->folder.get(), FileOf(name).c_str(), 0) != 0 || fsync(rep_->folder.get()) != 0)
    return ErrnoStatus(errno, PathOf(name));
  return absl::OkStatus();
}

absl::StatusOr<SigningKey> LoadKeyFile(const std::string& path) {
  WAXVM_ASSIGN_OR_RETURN(const Secret pem, ReadOwned(AT_FDCWD, path, path));
  auto key = SigningKey::FromPem(pem.view());
  if (!key.ok()) return Annotate(key.status(), path);
  return key;
}

}  // namespace waxvm
