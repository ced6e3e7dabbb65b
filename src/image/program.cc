// SPDX-License-Identifier: Apache-2.0
#include "waxvm/program.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "src/base/file_io.h"
#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "src/image/program_rep.h"

namespace waxvm {
namespace {

constexpr char kFileName[] = "waxvm-program";
constexpr std::size_t kCopyBytes = std::size_t{1} << 18;

absl::Status TooLarge(std::uint64_t bytes) {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "the image has %d bytes or more, at most %d are allowed", bytes, image::kMaxImageBytes));
}

/// Copies `from`, a regular file, from its start; returns how many bytes there were. The bound
/// holds while reading, too: a file may grow for as long as somebody appends to it.
absl::StatusOr<std::uint64_t> CopyFile(int from, int to) {
  std::vector<std::byte> buffer(kCopyBytes);
  std::uint64_t copied = 0;
  for (;;) {
    const ssize_t got = ::pread(from, buffer.data(), buffer.size(), static_cast<off_t>(copied));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "cannot read");
    if (got == 0) return copied;
    copied += static_cast<std::uint64_t>(got);
    if (copied > image::kMaxImageBytes) return TooLarge(copied);
    WAXVM_RETURN_IF_ERROR(WriteAll(to, std::span(buffer).first(static_cast<std::size_t>(got)),
                                   "cannot write to a file in memory"));
  }
}

absl::Status CheckReadableRegularFile(int fd) {
  struct stat info;
  if (::fstat(fd, &info) != 0) {
    if (errno == EBADF) return InvalidArgument("%d is not an open descriptor", fd);
    return ErrnoStatus(errno, "cannot stat");
  }
  if (!S_ISREG(info.st_mode))
    return InvalidArgument("not a regular file (%s)",
                           S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket");
  const int flags = ::fcntl(fd, F_GETFL);
  if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
    return InvalidArgument("the descriptor %d is not open for reading", fd);
  if (info.st_size > static_cast<off_t>(image::kMaxImageBytes))
    return TooLarge(static_cast<std::uint64_t>(info.st_size));
  return absl::OkStatus();
}

using Rep = std::shared_ptr<const internal::ProgramRep>;

/// `file` holds the image and is sealed: what is parsed here is what will run.
absl::StatusOr<Rep> ParseSealed(UniqueFd file, std::uint64_t size, std::string name) {
  if (size == 0) return InvalidArgument("not an ELF image (0 bytes)");
  WAXVM_ASSIGN_OR_RETURN(Mapping bytes, Mapping::Map(size, PROT_READ, MAP_PRIVATE, file.get()));
  WAXVM_ASSIGN_OR_RETURN(image::ElfImage elf, image::ParseElf({bytes.data(), size}));
  return std::make_shared<const internal::ProgramRep>(std::move(name), std::move(file),
                                                      std::move(bytes), size, std::move(elf));
}

absl::StatusOr<Rep> ReadDescriptor(int fd, std::string name) {
  WAXVM_RETURN_IF_ERROR(CheckReadableRegularFile(fd));
  WAXVM_ASSIGN_OR_RETURN(UniqueFd file, NewMemoryFile(kFileName, Executable::kYes));
  WAXVM_ASSIGN_OR_RETURN(const std::uint64_t size, CopyFile(fd, file.get()));
  WAXVM_RETURN_IF_ERROR(SealFile(file.get()));
  return ParseSealed(std::move(file), size, std::move(name));
}

absl::StatusOr<Rep> CopyBytes(std::span<const std::byte> bytes, std::string name) {
  if (bytes.size() > image::kMaxImageBytes) return TooLarge(bytes.size());
  WAXVM_ASSIGN_OR_RETURN(UniqueFd file, NewSealedFile(kFileName, Executable::kYes, bytes));
  return ParseSealed(std::move(file), bytes.size(), std::move(name));
}

}  // namespace

absl::StatusOr<Program> Program::FromFile(const std::string& path) {
  if (path.find('\0') != std::string::npos)
    return InvalidArgument("the path of a program contains a zero byte");
  // O_NONBLOCK: opening a FIFO must not wait for a writer; what is not a file is refused next.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) {
    if (errno == ENXIO) return InvalidArgument("%s: not a regular file (a socket)", path);
    return ErrnoStatus(errno, path);
  }
  return FromDescriptor(fd.get(), path);
}

absl::StatusOr<Program> Program::FromDescriptor(int fd, std::string name) {
  absl::StatusOr<Rep> rep = ReadDescriptor(fd, name);
  if (!rep.ok()) return Annotate(rep.status(), name);
  return Program(*std::move(rep));
}

absl::StatusOr<Program> Program::FromBytes(std::span<const std::byte> bytes, std::string name) {
  absl::StatusOr<Rep> rep = CopyBytes(bytes, name);
  if (!rep.ok()) return Annotate(rep.status(), name);
  return Program(*std::move(rep));
}

Program Program::FromFunction(std::string name, NativeFunction function) {
  return Program(
      std::make_shared<const internal::ProgramRep>(std::move(name), std::move(function)));
}

Program::Kind Program::kind() const { return rep_->kind(); }

const std::string& Program::name() const { return rep_->name(); }

}  // namespace waxvm
