// SPDX-License-Identifier: Apache-2.0
// Programs that are not part of this project, run natively and under each provider: the same bytes
// and the same exit code.
#include <sys/stat.h>

#include <fstream>

#include "fixture.h"

namespace waxvm::integration {
namespace {

using Command = std::vector<std::string>;

class OutsidePrograms : public EachProvider {
 protected:
  void SetUp() override {
    EachProvider::SetUp();
    if (IsSkipped()) return;
    std::filesystem::create_directories(Path("tree/deep"));
    std::ofstream(Path("tree/one.txt")) << "one\nsecond line\n";
    std::ofstream(Path("tree/deep/two.txt")) << "two\n";
    std::ofstream numbers(Path("numbers"));
    for (int i = 0; i < 20'000; ++i) numbers << (i * 7919) % 20'011 << '\n';
  }

  /// The host's folder under its own path, so that both runs see the same names.
  void ExpectSame(const Command& command, const std::string& rights = "ro",
                  const std::string& input = "") const {
    CommandOptions options;
    options.input = input;
    std::string shown;
    for (const std::string& word : command) shown += word + " ";
    SCOPED_TRACE(shown);
    const Completed native = RunCommand(command, options);
    const Completed isolated =
        RunCommand(WaxvmRun(GetParam(),
                            {"--memory=256MiB", "--wall=30s", "--env=WAXVM_AMBIENT=leaked",
                             "--grant=files:" + folder_ + ":" + folder_ + ":" + rights},
                            command),
                   options);
    EXPECT_EQ(isolated.exit_code, native.exit_code) << isolated.error;
    EXPECT_TRUE(isolated.output == native.output)
        << "native:\n"
        << native.output.substr(0, 500) << "\nisolated:\n"
        << isolated.output.substr(0, 500) << isolated.error;
  }
};

constexpr char kBusybox[] = "/bin/busybox";

bool HasBusybox() {
  struct stat status = {};
  return stat(kBusybox, &status) == 0;
}

#define WAXVM_NEEDS_BUSYBOX() \
  if (!HasBusybox()) GTEST_SKIP() << kBusybox << " is not installed (busybox-static)"

TEST_P(OutsidePrograms, BusyboxWithoutInput) {
  WAXVM_NEEDS_BUSYBOX();
  for (const Command& command : std::vector<Command>{
           {kBusybox, "true"},
           {kBusybox, "false"},
           {kBusybox, "echo", "-e", "a\\tb", "c d"},
           {kBusybox, "printf", "%05d %x\\n", "42", "255"},
           {kBusybox, "seq", "1", "3", "5000"},
           {kBusybox, "expr", "6", "*", "7"},
           {kBusybox, "expr", "1", "-", "1"},
           {kBusybox, "env"},
           {kBusybox, "basename", "/a/b/c.txt", ".txt"},
           {kBusybox, "cal", "2", "2024"},
           {kBusybox, "factor", "1234567890123"},
           {kBusybox, "awk", "BEGIN { for (i = 0; i < 5; i++) printf \"%.6f\\n\", exp(i) }"},
           {kBusybox, "sh", "-c", "x=6; f() { return $((x * 7)); }; f; echo $?; exit 3"},
           {kBusybox, "no_such_applet"}})
    ExpectSame(command);
}

TEST_P(OutsidePrograms, BusyboxFilters) {
  WAXVM_NEEDS_BUSYBOX();
  const std::string input = ReadFile(Path("numbers"));
  for (const Command& command :
       std::vector<Command>{{kBusybox, "cat"},
                            {kBusybox, "wc"},
                            {kBusybox, "sort", "-n"},
                            {kBusybox, "sort", "-ru"},
                            {kBusybox, "head", "-n", "5"},
                            {kBusybox, "tail", "-n", "5"},
                            {kBusybox, "md5sum"},
                            {kBusybox, "sha256sum"},
                            {kBusybox, "sha3sum"},
                            {kBusybox, "base64"},
                            {kBusybox, "od", "-x"},
                            {kBusybox, "tr", "0-9", "a-j"},
                            {kBusybox, "sed", "s/1/one/g;/7/d"},
                            {kBusybox, "grep", "-c", "99"},
                            {kBusybox, "grep", "nothing at all"},
                            {kBusybox, "awk", "{ s += $1 } END { print s, NR }"},
                            {kBusybox, "bzip2", "-c"},
                            {kBusybox, "cut", "-c1-2"},
                            {kBusybox, "rev"},
                            {kBusybox, "tac"}})
    ExpectSame(command, "ro", input);
}

TEST_P(OutsidePrograms, BusyboxOnGrantedFiles) {
  WAXVM_NEEDS_BUSYBOX();
  for (const Command& command :
       std::vector<Command>{{kBusybox, "cat", Path("tree/one.txt"), Path("tree/deep/two.txt")},
                            {kBusybox, "cat", Path("tree/missing")},
                            {kBusybox, "ls", Path("tree")},
                            {kBusybox, "ls", "-R", Path("tree")},
                            {kBusybox, "wc", "-l", Path("numbers")},
                            {kBusybox, "stat", "-c", "%s %F %a", Path("tree/one.txt")},
                            {kBusybox, "sha256sum", Path("numbers"), Path("tree/one.txt")},
                            {kBusybox, "grep", "-r", "line", Path("tree/one.txt")},
                            {kBusybox, "cmp", Path("numbers"), Path("tree/one.txt")},
                            {kBusybox, "diff", Path("tree/one.txt"), Path("tree/deep/two.txt")},
                            {kBusybox, "test", "-d", Path("tree/deep")},
                            {kBusybox, "test", "-e", "/etc/waxvm_nothing"},
                            {kBusybox, "readlink", "-f", Path("tree/deep/../one.txt")},
                            {kBusybox, "find", Path("tree"), "-name", "two*"}})
    ExpectSame(command);
}

TEST_P(OutsidePrograms, BusyboxWritesGrantedFiles) {
  WAXVM_NEEDS_BUSYBOX();
  const Command steps[] = {{kBusybox, "cp", Path("numbers"), Path("tree/copy")},
                           {kBusybox, "mkdir", "-p", Path("tree/a/b/c")},
                           {kBusybox, "mv", Path("tree/copy"), Path("tree/a/b/moved")},
                           {kBusybox, "ln", "-s", "moved", Path("tree/a/b/link")},
                           {kBusybox, "truncate", "-s", "10", Path("tree/a/b/moved")},
                           {kBusybox, "tar", "-cf", Path("tree/all.tar"), "-C", Path("tree"), "a"},
                           {kBusybox, "rm", "-r", Path("tree/a/b")}};
  const std::vector<std::string> grant = {"--grant=files:" + folder_ + ":" + folder_ + ":rw"};
  for (const Command& step : steps) {
    const Completed run = RunCommand(WaxvmRun(GetParam(), grant, step));
    ASSERT_EQ(run.exit_code, 0) << step[1] << ": " << run.error;
  }
  EXPECT_EQ(ReadFile(Path("tree/all.tar")).substr(0, 2), "a/");
  EXPECT_FALSE(std::filesystem::exists(Path("tree/a/b")));
  EXPECT_TRUE(std::filesystem::is_directory(Path("tree/a")));
  const Completed list = RunCommand({kBusybox, "tar", "-tf", Path("tree/all.tar")});
  EXPECT_NE(list.output.find("a/b/moved\n"), std::string::npos) << list.output;
}

TEST_P(OutsidePrograms, StaticPieOfTheDistribution) {
  constexpr char kProgram[] = "/sbin/ldconfig";
  if (!ReadFile(kProgram).starts_with("\177ELF"))
    GTEST_SKIP() << kProgram << " is no ELF program here";
  ExpectSame({kProgram, "--version"});
  ExpectSame({kProgram, "--no-such-option"});
}

INSTANTIATE_TEST_SUITE_P(Cli, OutsidePrograms, testing::Values("process", "microvm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace waxvm::integration
