// SPDX-License-Identifier: Apache-2.0
// What to run.
#ifndef WAXVM_PROGRAM_H_
#define WAXVM_PROGRAM_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace waxvm {

class NativeContext;

/// The body of a native program; its result is the exit code (the low eight bits count).
using NativeFunction = std::function<int(NativeContext&)>;

namespace internal {
class ProgramRep;
}

/// A program: an ELF64 x86-64 executable, or a native function of the embedding application.
/// Immutable and cheap to copy; copies share one image.
/// Thread safety: a Program may be used from any number of threads at once.
class Program {
 public:
  enum class Kind { kElf, kNative };

  /// Reads a whole executable into an immutable copy: later changes of the file do not matter.
  /// Blocks: on file reads.
  /// Errors: kNotFound, kPermissionDenied, kInvalidArgument (with the ELF field and its value),
  /// kResourceExhausted for an image over 1 GiB.
  static absl::StatusOr<Program> FromFile(const std::string& path);

  /// The same from a readable descriptor of a regular file, read from its start; `fd` stays the
  /// caller's. `name` becomes the default argv[0].
  static absl::StatusOr<Program> FromDescriptor(int fd, std::string name);

  /// The same from bytes, which are copied.
  static absl::StatusOr<Program> FromBytes(std::span<const std::byte> bytes, std::string name);

  /// A function of the embedding application, for the mock and process providers. Under the
  /// process provider it runs in a forked child: what it changes in memory stays there.
  static Program FromFunction(std::string name, NativeFunction function);

  Kind kind() const;

  /// The path or name given at creation.
  const std::string& name() const;

  /// For providers: the parsed image. See src/image/program_rep.h.
  const internal::ProgramRep& rep() const { return *rep_; }

 private:
  explicit Program(std::shared_ptr<const internal::ProgramRep> rep) : rep_(std::move(rep)) {}

  std::shared_ptr<const internal::ProgramRep> rep_;
};

}  // namespace waxvm

#endif  // WAXVM_PROGRAM_H_
