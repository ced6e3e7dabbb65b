// SPDX-License-Identifier: Apache-2.0
#include "src/base/sealed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "src/base/file_io.h"
#include "src/base/status.h"

namespace waxvm {
namespace {

// Newer than Debian 12's headers (Linux 6.3).
constexpr unsigned kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL
constexpr unsigned kExec = 0x10;       // MFD_EXEC

}  // namespace

absl::StatusOr<UniqueFd> NewMemoryFile(const char* name, Executable executable) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const unsigned wish = executable == Executable::kYes ? kExec : kNoExecSeal;
  int fd = ::memfd_create(name, kFlags | wish);
  // EINVAL: a kernel before the two flags. EACCES: vm.memfd_noexec=2 forbids executable ones; the
  // contents can still be read, and a provider that has to execute them says so.
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, kFlags);
  if (fd < 0 && errno == EACCES) fd = ::memfd_create(name, kFlags | kNoExecSeal);
  if (fd < 0) return ErrnoStatus(errno, "cannot create a file in memory");
  return UniqueFd(fd);
}

absl::Status SealFile(int fd) {
  // A page that the kernel is moving at this moment counts as one that somebody may write to;
  // nobody keeps it for long.
  constexpr int kTries = 200;
  for (int tries = 1;; ++tries) {
    if (::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
      return absl::OkStatus();
    if (errno != EBUSY || tries == kTries)
      return ErrnoStatus(errno, "cannot seal a file in memory");
    ::usleep(1000);
  }
}

absl::StatusOr<UniqueFd> NewSealedFile(const char* name, Executable executable,
                                       std::span<const std::byte> bytes) {
  WAXVM_ASSIGN_OR_RETURN(UniqueFd file, NewMemoryFile(name, executable));
  WAXVM_RETURN_IF_ERROR(WriteAll(file.get(), bytes, "cannot write to a file in memory"));
  WAXVM_RETURN_IF_ERROR(SealFile(file.get()));
  if (::lseek(file.get(), 0, SEEK_SET) != 0)
    return ErrnoStatus(errno, "cannot rewind a file in memory");
  return file;
}

}  // namespace waxvm
