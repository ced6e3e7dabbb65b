// SPDX-License-Identifier: Apache-2.0
// waxvm call: results, streams, exit codes, error texts; and the example of a call.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "fixture.h"

namespace waxvm::integration {
namespace {

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<std::string> WaxvmCall(const std::string& provider,
                                   const std::vector<std::string>& flags,
                                   const std::vector<std::string>& call) {
  std::vector<std::string> all = {WAXVM_COMMAND, "call", "--provider=" + provider};
  all.insert(all.end(), flags.begin(), flags.end());
  all.push_back("--");
  all.insert(all.end(), call.begin(), call.end());
  return all;
}

CommandOptions WithInput(const std::string& input) {
  CommandOptions options;
  options.input = input;
  return options;
}

class CallCommand : public EachProvider {
 protected:
  Completed Call(const std::vector<std::string>& flags, const std::vector<std::string>& call,
                 const CommandOptions& options = {}) const {
    std::vector<std::string> guest = {Guest("call_functions_musl")};
    guest.insert(guest.end(), call.begin(), call.end());
    return RunCommand(WaxvmCall(GetParam(), flags, guest), options);
  }
};

TEST_P(CallCommand, PrintsTheResultAsItIs) {
  const Completed sum = Call({}, {"add", "20 22"});
  EXPECT_EQ(sum.exit_code, 0) << sum.error;
  EXPECT_EQ(sum.output, "42");
  EXPECT_EQ(sum.error, "");
  EXPECT_EQ(Call({}, {"echo"}).output, "");
  EXPECT_EQ(Call({}, {"echo", "--flag-like"}).output, "--flag-like");
}

TEST_P(CallCommand, TakesTheArgumentFromStandardInput) {
  std::string bytes(300'000, 'i');
  bytes[7] = '\0';
  const Completed echoed = Call({}, {"echo", "-"}, WithInput(bytes));
  EXPECT_EQ(echoed.exit_code, 0) << echoed.error;
  EXPECT_TRUE(echoed.output == bytes);
  const Completed more =
      Call({}, {"noop", "-"}, WithInput(std::string((std::size_t{15} << 20) + 1, 'i')));
  EXPECT_EQ(more.exit_code, 125);
  EXPECT_TRUE(Contains(more.error, "more than the 15728640 bytes")) << more.error;
}

TEST_P(CallCommand, ErrorsOfTheFunctionAre1) {
  const Completed unknown = Call({}, {"nonsense"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_EQ(unknown.output, "");
  EXPECT_EQ(unknown.error,
            "waxvm: nonsense: NOT_FOUND: the program exports no function nonsense\n");
  const Completed refused = Call({}, {"fail", "8 not today"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.error, "waxvm: fail: RESOURCE_EXHAUSTED: not today\n");
  for (const char* own : {"10 a function's own", "12 its own", "14 its own"})
    EXPECT_EQ(Call({}, {"fail", own}).exit_code, 1) << own;
}

TEST_P(CallCommand, ProgramsThatDoNotSurviveAre2) {
  const Completed fault = Call({}, {"fault"});
  EXPECT_EQ(fault.exit_code, 2);
  EXPECT_TRUE(Contains(fault.error, "fault: ABORTED: the program faulted: segmentation"))
      << fault.error;
  EXPECT_EQ(Call({}, {"exit"}).exit_code, 2);
}

TEST_P(CallCommand, BeginsWithASnapshotFile) {
  const std::string path = "/tmp/waxvm-call-" + std::to_string(::getpid()) + ".snapshot";
  ::unlink(path.c_str());
  const Completed first = Call({"--snapshot=" + path}, {"add", "20 22"});
  if (std::string(GetParam()) != "microvm") {
    EXPECT_EQ(first.exit_code, 125);
    EXPECT_TRUE(Contains(first.error, "no snapshot files")) << first.error;
    return;
  }
  EXPECT_EQ(first.exit_code, 0) << first.error;
  EXPECT_EQ(first.output, "42");
  EXPECT_TRUE(Contains(first.error, "made the snapshot " + path)) << first.error;
  const Completed second = Call({"--snapshot=" + path}, {"add", "1 2"});
  EXPECT_EQ(second.output, "3");
  EXPECT_TRUE(Contains(second.error, "begins with the snapshot " + path)) << second.error;
  EXPECT_EQ(Call({"--snapshot=" + path, "--pool=2", "--repeat=4"}, {"add", "2 2"}).output, "4");
  const Completed other = Call({"--snapshot=" + path, "--memory=64MiB"}, {"add", "3 3"});
  EXPECT_EQ(other.output, "6");
  EXPECT_TRUE(Contains(other.error, "made from something else") &&
              Contains(other.error, "made the snapshot"))
      << other.error;
  ::unlink(path.c_str());
  const Completed foreign = Call({"--snapshot=" WAXVM_COMMAND}, {"add", "3 3"});
  EXPECT_EQ(foreign.exit_code, 125);
  EXPECT_TRUE(Contains(foreign.error, "not a snapshot")) << foreign.error;
}

TEST_P(CallCommand, OutputOfTheProgramGoesToStandardError) {
  const Completed run = Call({"--repeat=2"}, {"write_output", "line"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.output, "");
  EXPECT_TRUE(Contains(run.error, "line")) << run.error;
}

TEST_P(CallCommand, RepeatPrintsTheTimes) {
  const Completed run = Call({"--repeat=100"}, {"counter"});
  EXPECT_EQ(run.output, "100") << "one program answers all of them";
  EXPECT_TRUE(run.error.starts_with("waxvm: 100 calls; us each: minimum ")) << run.error;
}

TEST_P(CallCommand, PoolGivesEachCallAStateOfItsOwn) {
  const Completed run = Call({"--pool=3", "--repeat=100"}, {"counter"});
  if (std::string(GetParam()) != "microvm") {
    EXPECT_EQ(run.exit_code, 125);
    EXPECT_TRUE(Contains(run.error, "this provider has no snapshots")) << run.error;
    return;
  }
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_EQ(run.output, "1");
  EXPECT_TRUE(run.error.starts_with("waxvm: 100 calls; us each: minimum ")) << run.error;
  EXPECT_EQ(Call({"--pool=2", "--repeat=9"}, {"fault"}).exit_code, 2);
  EXPECT_EQ(Call({"--pool=2", "--repeat=9"}, {"fail", "8 not today"}).exit_code, 1);
  EXPECT_EQ(Call({"--pool=1", "--wall=100ms"}, {"spin"}).exit_code, 124);
  const Completed written = Call({"--pool=2", "--repeat=4"}, {"write_output", "line"});
  EXPECT_TRUE(Contains(written.error, "line")) << written.error;
}

TEST_P(CallCommand, NeverReadyIs126) {
  const Completed run =
      RunCommand(WaxvmCall(GetParam(), {"--wall=300ms"}, {Guest("spin_musl"), "f"}));
  EXPECT_EQ(run.exit_code, 126);
  EXPECT_TRUE(Contains(run.error, "`wall` before it was ready for calls")) << run.error;
  const Completed ended = RunCommand(WaxvmCall(GetParam(), {}, {Guest("true_musl"), "f"}));
  EXPECT_EQ(ended.exit_code, 126);
  EXPECT_TRUE(Contains(ended.error, "exit code 0 before it was ready")) << ended.error;
  EXPECT_TRUE(Contains(ended.error, "waxvm/guest.h")) << ended.error;
}

TEST_P(CallCommand, LimitsOfACallAre124) {
  const Completed memory = Call({"--memory=32MiB"}, {"allocate", "200000000"});
  EXPECT_TRUE(memory.exit_code == 124 || memory.exit_code == 1) << memory.error;
  EXPECT_TRUE(Contains(memory.error, "RESOURCE_EXHAUSTED")) << memory.error;
  const Completed wall = Call({"--wall=500ms"}, {"spin"});
  if (Contains(wall.error, "UNIMPLEMENTED")) GTEST_SKIP() << wall.error;
  EXPECT_EQ(wall.exit_code, 124);
  EXPECT_TRUE(Contains(wall.error, "DEADLINE_EXCEEDED")) << wall.error;
}

TEST_P(CallCommand, ASignalStopsIt) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = StartCommand(
      WaxvmCall(GetParam(), {}, {Guest("call_functions_musl"), "spin"}), ends[0], 1, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  kill(child, SIGTERM);
  EXPECT_EQ(Wait(child), 128 + SIGTERM);
  close(ends[0]);
  close(ends[1]);
}

TEST_P(CallCommand, AGuestInRust) {
  const std::string guest = Guest("call_functions_rust");
  if (access(guest.c_str(), X_OK) != 0) GTEST_SKIP() << "rustc is not installed: no " << guest;
  const auto call = [&](const std::vector<std::string>& function) {
    std::vector<std::string> all = {guest};
    all.insert(all.end(), function.begin(), function.end());
    return RunCommand(WaxvmCall(GetParam(), {}, all));
  };
  EXPECT_EQ(call({"sort", "pear apple fig"}).output, "apple fig pear");
  EXPECT_EQ(call({"sort", "\xff"}).error, "waxvm: sort: INTERNAL: the function panicked\n");
  const Completed greet = call({"greet", "x"});
  EXPECT_TRUE(Contains(greet.error, "greet: PERMISSION_DENIED: host_function greet: not granted"))
      << greet.error;
}

INSTANTIATE_TEST_SUITE_P(Providers, CallCommand, testing::Values("process", "microvm"),
                         [](const auto& test) { return std::string(test.param); });

TEST(CallUsage, WrongUsageIs125) {
  const struct {
    std::vector<std::string> arguments;
    std::string text;
  } kCases[] = {{{}, "no program is given"},
                {{"x"}, "no function is given"},
                {{"x", ""}, "no function is given"},
                {{"x", std::string(256, 'f')}, "256 bytes, at most 255"},
                {{"x", "f", "1", "2"}, "2 are given; put quotes around it"},
                {{"--repeat=0", "x", "f"}, "at least one"},
                {{"--pool=0", "x", "f"}, "1 to 1000 instances"},
                {{"--report=r", "x", "f"}, "unknown flag --report"},
                {{"--repaet=2", "x", "f"}, "did you mean --repeat?"}};
  for (const auto& wrong : kCases) {
    std::vector<std::string> all = {WAXVM_COMMAND, "call"};
    all.insert(all.end(), wrong.arguments.begin(), wrong.arguments.end());
    const Completed run = RunCommand(all);
    EXPECT_EQ(run.exit_code, 125) << wrong.text;
    EXPECT_TRUE(Contains(run.error, wrong.text)) << run.error;
  }
  EXPECT_EQ(
      RunCommand({WAXVM_COMMAND, "call", "--provider=mock", "/nonexistent/program", "f"}).exit_code,
      127);
  const Completed help = RunCommand({WAXVM_COMMAND, "call", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_TRUE(Contains(help.output, "--repeat=N")) << help.output;
  EXPECT_TRUE(Contains(help.output, "exit codes of call")) << help.output;
}

TEST(CallExample, CallsAGuestThatCallsItsHost) {
  if (const std::string reason = WhyNot("microvm"); !reason.empty()) GTEST_SKIP() << reason;
  for (const std::string variant : {"_musl", "_glibc"}) {
    const Completed run = RunCommand({std::string(WAXVM_EXAMPLES_DIR) + "/call_function",
                                      Guest("call_function_guest" + variant), "Ada"});
    EXPECT_EQ(run.exit_code, 0) << run.error;
    EXPECT_EQ(run.output,
              "reverse: adA\ngreet: hello Dr. Ada\nsing: the program exports no function sing\n");
  }
}

}  // namespace
}  // namespace waxvm::integration
