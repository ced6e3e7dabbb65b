// SPDX-License-Identifier: Apache-2.0
#include "conformance.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "embedder_provider.h"
#include "native_programs.h"
#include "waxvm/providers.h"

namespace waxvm::conformance {
namespace {

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  const std::string base = std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name;
  // musl for all but what needs the C++ library.
  struct stat status = {};
  for (const char* variant : {"_musl", "_glibc"})
    if (stat((base + variant).c_str(), &status) == 0) return base + variant;
  return base;
}

}  // namespace

void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }

std::vector<Subject> Subjects() {
  using Kind = Program::Kind;
  return {{"mock", [] { return NewMockProvider(); }, Kind::kNative},
          {"process", [] { return NewProcessProvider(); }, Kind::kElf},
          {"process_native", [] { return NewProcessProvider(); }, Kind::kNative},
          {"microvm", [] { return NewMicroVmProvider(); }, Kind::kElf},
          {"embedder", NewEmbedderProvider, Kind::kNative}};
}

INSTANTIATE_TEST_SUITE_P(EveryProvider, Conformance, testing::ValuesIn(Subjects()),
                         [](const auto& test) { return test.param.name; });

void Conformance::SetUp() {
  provider_ = GetParam().make();
  info_ = provider_->info();
  const absl::Status available = provider_->Available();
  if (!available.ok()) GTEST_SKIP() << info_.name << " is not available: " << available.message();
}

bool Conformance::Enforces(LimitKind kind) const {
  return std::ranges::find(info_.enforceable_limits, kind) != info_.enforceable_limits.end();
}

bool Conformance::IsAmbient(std::string_view resource) const {
  return std::ranges::find(info_.ambient, resource) != info_.ambient.end();
}

std::optional<Program> Conformance::Find(const std::string& name) const {
  if (native()) return FindNativeProgram(name);
  auto program = Program::FromFile(GuestPath(name));
  EXPECT_TRUE(program.ok()) << program.status();
  if (!program.ok()) return std::nullopt;
  return *std::move(program);
}

RunResult Conformance::Run(const std::string& name, const RunOptions& options) const {
  const std::optional<Program> program = Find(name);
  if (!program) {
    ADD_FAILURE() << "no program " << name;
    return {};
  }
  auto result = RunOnce(provider_, *program, options);
  EXPECT_TRUE(result.ok()) << name << ": " << result.status();
  return result.ok() ? *std::move(result) : RunResult{};
}

absl::Status Conformance::StatusOf(const std::string& name, const RunOptions& options) const {
  const std::optional<Program> program = Find(name);
  if (!program) return absl::NotFoundError("no program");
  return RunOnce(provider_, *program, options).status();
}

RunOptions WithArguments(std::initializer_list<std::string> arguments) {
  RunOptions options;
  options.arguments = arguments;
  return options;
}

bool InHardwareLane() {
  return std::getenv("WAXVM_LANE") != nullptr || std::getenv("WAXVM_HARDWARE_LANE") != nullptr;
}

int Slowness() { return InHardwareLane() ? 20 : WAXVM_SANITIZER_SLOWNESS; }

std::uint64_t Denials(const Report& report, Resource resource, std::string_view name) {
  std::uint64_t count = 0;
  for (const Denial& denial : report.denied)
    if (denial.resource == resource && (name.empty() || denial.name == name)) count += denial.count;
  return count;
}

TemporaryFolder::TemporaryFolder(const std::string& parent) {
  std::string name = parent.empty() ? std::filesystem::temp_directory_path().string() : parent;
  name += "/waxvm_conformance.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) std::abort();
  // Readable for the child of a process provider, whichever user that is.
  std::filesystem::permissions(name, std::filesystem::perms::all);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TemporaryFolder::Write(std::string_view name, std::string_view contents) const {
  std::ofstream(Path(name), std::ios::binary) << contents;
}

std::optional<std::string> TemporaryFolder::Read(std::string_view name) const {
  std::ifstream file(Path(name), std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

}  // namespace waxvm::conformance
