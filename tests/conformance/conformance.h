// SPDX-License-Identifier: Apache-2.0
// The suite that every Provider passes, whoever wrote it. Each test names a behaviour by the guest
// program that shows it; a subject runs that guest as an ELF file or as a native function.
#ifndef WAXVM_TESTS_CONFORMANCE_CONFORMANCE_H_
#define WAXVM_TESTS_CONFORMANCE_CONFORMANCE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "waxvm/provider.h"
#include "waxvm/supervisor.h"

namespace waxvm::conformance {

/// One provider and the kind of programs it is given here.
struct Subject {
  std::string name;
  std::shared_ptr<Provider> (*make)();
  Program::Kind programs;
};
void PrintTo(const Subject& subject, std::ostream* out);

/// All subjects: the library's providers and one that an embedder could have written.
std::vector<Subject> Subjects();

class Conformance : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override;

  bool native() const { return GetParam().programs == Program::Kind::kNative; }
  /// The provider lists `kind` among the limits it can enforce.
  bool Enforces(LimitKind kind) const;
  /// The provider says that it cannot withhold `resource`.
  bool IsAmbient(std::string_view resource) const;

  /// The program of that name, or empty where this subject's programs cannot do such a thing.
  std::optional<Program> Find(const std::string& name) const;

  /// Runs `name` with `options`; a failure of waxvm fails the test.
  RunResult Run(const std::string& name, const RunOptions& options = {}) const;
  /// The same, with the status of a run that is to be refused.
  absl::Status StatusOf(const std::string& name, const RunOptions& options) const;

  std::shared_ptr<Provider> provider_;
  ProviderInfo info_;
};

/// Skips the test where this subject has no program of that name.
#define WAXVM_NEEDS_PROGRAM(guest)                                                   \
  if (!Find(guest))                                                                  \
  GTEST_SKIP() << GetParam().name << " is given native functions here; none can do " \
               << "what the guest " << (guest) << " does"

/// Options with arguments, the most common kind.
RunOptions WithArguments(std::initializer_list<std::string> arguments);

/// Upper bounds on time are this many times longer where the machine itself is emulated.
int Slowness();

/// True inside the emulated machine, where loops are kept short.
bool InHardwareLane();

/// How often `resource` was refused; a `name` that is not empty must match too.
std::uint64_t Denials(const Report& report, Resource resource, std::string_view name = "");

/// A gate for instances that are made without a supervisor: allows everything, counts refusals.
class OpenGate final : public AccessGate {
 public:
  absl::Status Check(const Access&) override { return absl::OkStatus(); }
  void RecordDenial(const Access&) override { ++denials_; }
  int denials() const { return denials_; }

 private:
  int denials_ = 0;
};

/// A folder of the host that is gone with the object.
class TemporaryFolder {
 public:
  /// In `parent`, by default the folder for temporary files.
  explicit TemporaryFolder(const std::string& parent = "");
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  const std::string& path() const { return path_; }
  std::string Path(std::string_view name) const { return path_ + "/" + std::string(name); }
  void Write(std::string_view name, std::string_view contents) const;
  /// The contents of a file, or empty where there is none.
  std::optional<std::string> Read(std::string_view name) const;

 private:
  std::string path_;
};

}  // namespace waxvm::conformance

#endif  // WAXVM_TESTS_CONFORMANCE_CONFORMANCE_H_
