// SPDX-License-Identifier: Apache-2.0
// The examples print what they promise, in C++ and in C alike.
#include "fixture.h"

namespace waxvm::integration {
namespace {

/// The parameter is the suffix of the executable: "" for C++, "_c" for C.
class Examples : public testing::TestWithParam<const char*> {
 protected:
  Completed Run(const std::string& name, const std::vector<std::string>& arguments) const {
    std::vector<std::string> all = {std::string(WAXVM_EXAMPLES_DIR) + "/" + name + GetParam()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return RunCommand(all);
  }
};

#define WAXVM_NEEDS_MICROVM() \
  if (const std::string reason = WhyNot("microvm"); !reason.empty()) GTEST_SKIP() << reason

TEST_P(Examples, RunProgram) {
  WAXVM_NEEDS_MICROVM();
  const Completed run = Run("run_program", {Guest("hello_musl"), "one", "two words"});
  EXPECT_EQ(run.output, "argv[0]=" + Guest("hello_musl") + "\nargv[1]=one\nargv[2]=two words\n");
  EXPECT_EQ(run.exit_code, 3) << run.error;
  EXPECT_EQ(Run("run_program", {Guest("spin_musl")}).exit_code, 124);
  const Completed missing = Run("run_program", {"/nonexistent/program"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_NE(missing.error.find("/nonexistent/program"), std::string::npos) << missing.error;
}

TEST_P(Examples, CallHostFunction) {
  WAXVM_NEEDS_MICROVM();
  const Completed run = Run("call_host_function", {Guest("host_call_musl")});
  EXPECT_EQ(run.output, "0 hello guest\nhost calls: 1\n");
  EXPECT_EQ(run.exit_code, 0) << run.error;
}

TEST(Example, GiveIdentity) {
  WAXVM_NEEDS_MICROVM();
  const Completed run =
      RunCommand({std::string(WAXVM_EXAMPLES_DIR) + "/give_identity", Guest("host_call_musl")});
  EXPECT_EQ(run.output,
            "the address is of fd00::/8, found by the key: yes\n"
            "statements that the host signed: 1\n");
  EXPECT_EQ(run.exit_code, 0) << run.error;
}

TEST_P(Examples, CallPool) {
  WAXVM_NEEDS_MICROVM();
  const Completed run = Run("call_pool", {Guest("call_function_guest_musl")});
  EXPECT_EQ(run.output, "2000 of 2000 calls answered\n") << run.error;
  EXPECT_EQ(run.exit_code, 0);
  const Completed no_guest = Run("call_pool", {Guest("true_musl")});
  EXPECT_EQ(no_guest.exit_code, 1);
  EXPECT_NE(no_guest.error.find("before it was ready"), std::string::npos) << no_guest.error;
}

TEST_P(Examples, LimitProgram) {
  WAXVM_NEEDS_MICROVM();
  EXPECT_EQ(Run("limit_program", {Guest("flood_output_musl")}).output,
            "limit: output, 65536 bytes of output\n");
  const Completed spin = Run("limit_program", {Guest("spin_musl")});
  EXPECT_TRUE(spin.output == "limit: cpu, 0 bytes of output\n" ||
              spin.output == "limit: wall, 0 bytes of output\n")
      << spin.output << spin.error;
  EXPECT_EQ(spin.exit_code, 124);
  EXPECT_EQ(Run("limit_program", {Guest("eat_memory_musl")}).output,
            "limit: memory, 0 bytes of output\n");
  EXPECT_TRUE(Run("limit_program", {Guest("true_musl")}).output.starts_with("exited, 0 bytes"));
}

TEST_P(Examples, RunInEveryProvider) {
  const Completed run = Run("run_in_every_provider", {Guest("hello_musl")});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  for (const std::string provider : {"process", "microvm"}) {
    const std::string line =
        provider + (WhyNot(provider).empty()
                        ? ": exit code 1, output:\nargv[0]=" + Guest("hello_musl") + "\n"
                        : ": not available: ");
    EXPECT_NE(run.output.find(line), std::string::npos) << run.output;
  }
}

TEST(MessagingExamples, SendMessage) {
  const std::string program = std::string(WAXVM_EXAMPLES_DIR) + "/send_message";
  const Completed run = RunCommand({program, "one", "three", ""});
  EXPECT_EQ(run.output, "3 bytes\n5 bytes\n0 bytes\n") << run.error;
  EXPECT_EQ(run.exit_code, 0);
}

TEST(MessagingExamples, PublishTopic) {
  const std::string program = std::string(WAXVM_EXAMPLES_DIR) + "/publish_topic";
  const Completed run = RunCommand({program, "1", "2"});
  EXPECT_EQ(run.output, "1\n2\nretained 2\n1\n2\n") << run.error;
  EXPECT_EQ(run.exit_code, 0);
}

INSTANTIATE_TEST_SUITE_P(Languages, Examples, testing::Values("", "_c"), [](const auto& test) {
  return std::string(*test.param == '\0' ? "cxx" : "c");
});

}  // namespace
}  // namespace waxvm::integration
