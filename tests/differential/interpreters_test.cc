// SPDX-License-Identifier: Apache-2.0
// Dynamic programs that ask for an interpreter that is none: refused before anything runs, and with
// words that name it. Linux refuses most of them too, when the program is started.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ostream>

#include "both.h"
#include "tests/support/process.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm::differential {
namespace {

using support::ReadFile;

void Write(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
  std::filesystem::permissions(path, std::filesystem::perms(0755));
}

// The program `elf`, asking for the interpreter `path`, whose name is added at its end.
std::string AskingFor(std::string elf, const std::string& path) {
  Elf64_Ehdr header;
  std::memcpy(&header, elf.data(), sizeof header);
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    char* at = elf.data() + header.e_phoff + sizeof segment * static_cast<std::size_t>(i);
    std::memcpy(&segment, at, sizeof segment);
    if (segment.p_type != PT_INTERP) continue;
    segment.p_offset = elf.size();
    segment.p_filesz = segment.p_memsz = path.size() + 1;
    std::memcpy(at, &segment, sizeof segment);
  }
  return elf + path + '\0';
}

struct Bad {
  std::string name;
  /// Leaves an interpreter at `path`, from a program that is one and the machine's own.
  std::function<void(const std::string& path, const std::string& program)> make;
  std::string reason;
  bool linux_refuses = true;  ///< Linux starts the others, and they crash
};
void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.name; }

std::vector<Bad> BadInterpreters() {
  return {
      {"Missing", [](const std::string&, const std::string&) {}, "No such file"},
      {"Folder",
       [](const std::string& path, const std::string&) { std::filesystem::create_directory(path); },
       ""},
      {"Fifo", [](const std::string& path, const std::string&) { mkfifo(path.c_str(), 0755); }, ""},
      {"LinkToItself",
       [](const std::string& path, const std::string&) {
         std::filesystem::create_symlink(path, path);
       },
       "symbolic links"},
      {"Empty", [](const std::string& path, const std::string&) { Write(path, ""); }, ""},
      {"NoElf",
       [](const std::string& path, const std::string&) {
         Write(path, "#!/bin/sh\n" + std::string(8192, '\n'));
       },
       "not an ELF image"},
      {"HeaderCut",
       [](const std::string& path, const std::string& program) {
         Write(path, program.substr(0, 100));
       },
       ""},
      {"SegmentsCut",
       [](const std::string& path, const std::string&) {
         const std::string linker = ReadFile("/lib64/ld-linux-x86-64.so.2");
         Write(path, linker.substr(0, linker.size() / 2));
       },
       "", false},
      {"AsksForOneItself",
       [](const std::string& path, const std::string& program) { Write(path, program); },
       "asks for an interpreter itself", false},
      {"FixedAddress",
       [](const std::string& path, const std::string&) {
         Write(path, ReadFile(GuestPath("true_musl")));
       },
       "not a shared object", false},
  };
}

class Interpreters : public testing::TestWithParam<Bad> {};

TEST_P(Interpreters, AreRefused) {
  if (const std::string reason = WhyNoMicroVm(); !reason.empty()) GTEST_SKIP() << reason;
  Scratch scratch;
  Command command;
  command.folder = scratch.Fresh();
  const std::string interpreter = command.folder + "/interpreter";
  const std::string program = ReadFile(GuestPath("true_dynamic"));
  ASSERT_GT(program.size(), sizeof(Elf64_Ehdr));
  GetParam().make(interpreter, program);
  command.arguments = {scratch.Beside("program")};
  Write(command.arguments[0], AskingFor(program, interpreter));
  if (GetParam().linux_refuses) {
    EXPECT_EQ(RunNatively(command).exit_code, -1);
  }

  RunOptions options;
  options.grants = {Files(command.folder, command.folder)};
  options.limits.wall_time = std::chrono::seconds(20) * Slowness();
  const auto result =
      RunOnce(NewMicroVmProvider(), Program::FromFile(command.arguments[0]), options);
  ASSERT_FALSE(result.ok()) << OutcomeName(result->outcome);
  const std::string message(result.status().message());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_NE(message.find("interpreter " + interpreter), std::string::npos) << message;
  EXPECT_NE(message.find(GetParam().reason), std::string::npos) << message;
}

// The same way of asking, for one that is there.
TEST(Interpreter, CanBeCalledAnything) {
  if (const std::string reason = WhyNoMicroVm(); !reason.empty()) GTEST_SKIP() << reason;
  Scratch scratch;
  Command command;
  command.whole_root = true;
  command.folder = scratch.Fresh();
  Write(command.folder + "/interpreter", ReadFile("/lib64/ld-linux-x86-64.so.2"));
  command.arguments = {scratch.Beside("program")};
  Write(command.arguments[0],
        AskingFor(ReadFile(GuestPath("true_dynamic")), command.folder + "/interpreter"));
  const Ran native = RunNatively(command);
  EXPECT_EQ(native.exit_code, 0);
  EXPECT_EQ(Difference(native, RunInMicroVm(command)), "");
}

INSTANTIATE_TEST_SUITE_P(Bad, Interpreters, testing::ValuesIn(BadInterpreters()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace waxvm::differential
