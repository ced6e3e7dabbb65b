// SPDX-License-Identifier: Apache-2.0
// A program's exit code, arguments, environment and standard streams.
#include <fcntl.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_format.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ns;

TEST_P(Conformance, ExitCodes) {
  for (const int code : {0, 1, 42, 124, 127, 128, 137, 139, 254, 255}) {
    const RunResult result = Run("probe", WithArguments({"exit", absl::StrFormat("%d", code)}));
    EXPECT_EQ(result.outcome, Outcome::kExited);
    EXPECT_EQ(result.exit_code, code);
    EXPECT_FALSE(result.limit || result.fault);
  }
  EXPECT_EQ(Run("probe", WithArguments({"exit", "256"})).exit_code, 0) << "only eight bits count";
}

TEST_P(Conformance, ArgumentsAreExact) {
  RunOptions options = WithArguments({"", "two words", "\xff\xfe\n\t\"'\\$", "--flag=x"});
  options.argument_zero = "zero";
  const RunResult result = Run("hello", options);
  EXPECT_EQ(result.output,
            "argv[0]=zero\nargv[1]=\nargv[2]=two words\nargv[3]=\xff\xfe\n\t\"'\\$\n"
            "argv[4]=--flag=x\n");
  EXPECT_EQ(result.exit_code, 5);
}

TEST_P(Conformance, ArgumentZeroDefaultsToTheName) {
  const RunResult result = Run("hello");
  EXPECT_EQ(result.output, absl::StrFormat("argv[0]=%s\n", Find("hello")->name()));
}

TEST_P(Conformance, ManyArguments) {
  RunOptions options;
  std::string expected = "argv[0]=zero\n";
  options.argument_zero = "zero";
  for (int i = 1; i <= 254; ++i) {
    options.arguments.push_back(std::string(static_cast<std::size_t>(i), 'a'));
    expected += absl::StrFormat("argv[%d]=%s\n", i, options.arguments.back());
  }
  const RunResult result = Run("hello", options);
  EXPECT_EQ(result.output, expected);
  EXPECT_EQ(result.exit_code, 255);
}

TEST_P(Conformance, EnvironmentIsExactlyWhatIsGiven) {
  ASSERT_EQ(setenv("WAXVM_AMBIENT", "leaked", 1), 0);
  RunOptions options;
  options.argument_zero = "zero";
  EXPECT_EQ(Run("hello", options).output, "argv[0]=zero\n");
  options.environment = {"A=1", "B=", "C=x=y z"};
  EXPECT_EQ(Run("hello", options).output, "argv[0]=zero\nenv[0]=A=1\nenv[1]=B=\nenv[2]=C=x=y z\n");
}

TEST_P(Conformance, InputIsEmptyUnlessGiven) {
  const RunResult result = Run("cat_stdin");
  EXPECT_EQ(result.output, "");
  EXPECT_EQ(result.exit_code, 0);
}

TEST_P(Conformance, InputBytesArriveWhole) {
  RunOptions options;
  for (std::size_t i = 0; i < 300'000; ++i) options.input += static_cast<char>(i * 7 + i / 256);
  const RunResult result = Run("cat_stdin", options);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output.size(), options.input.size());
  EXPECT_TRUE(result.output == options.input) << "the bytes differ";
  EXPECT_EQ(result.report.output_bytes, options.input.size());
}

TEST_P(Conformance, InputFromADescriptorThatIsSlow) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  std::jthread writer([&] {
    for (int i = 0; i < 5; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_EQ(write(ends[1], "drip\n", 5), 5);
    }
    close(ends[1]);
  });
  RunOptions options;
  options.input_fd = ends[0];
  const RunResult result = Run("cat_stdin", options);
  EXPECT_EQ(result.output, "drip\ndrip\ndrip\ndrip\ndrip\n");
  EXPECT_GE(fcntl(ends[0], F_GETFD), 0) << "the descriptor is the caller's and stays open";
  close(ends[0]);
}

TEST_P(Conformance, StreamsAreSeparateAndInOrder) {
  std::string odd, even;
  for (int i = 0; i < 1000; ++i) (i % 2 == 0 ? even : odd) += absl::StrFormat("%d\n", i);
  const RunResult result = Run("probe", WithArguments({"streams"}));
  EXPECT_EQ(result.output, even);
  EXPECT_EQ(result.error_output, odd);
  EXPECT_EQ(result.report.output_bytes, even.size() + odd.size());
}

TEST_P(Conformance, WriterTakesTheOutputOnTheCallersThread) {
  const std::thread::id caller = std::this_thread::get_id();
  std::string odd, even;
  RunOptions options = WithArguments({"streams"});
  options.output = [&](Stream stream, std::string_view data) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    (stream == Stream::kOutput ? even : odd) += data;
    return absl::OkStatus();
  };
  const RunResult result = Run("probe", options);
  EXPECT_EQ(result.output + result.error_output, "");
  EXPECT_EQ(even.size() + odd.size(), result.report.output_bytes);
  EXPECT_TRUE(even.starts_with("0\n2\n4\n") && odd.ends_with("997\n999\n"));
}

TEST_P(Conformance, WriterThatFailsEndsTheRun) {
  RunOptions options;
  options.output = [](Stream, std::string_view) { return absl::DataLossError("disk full"); };
  const absl::Status status = StatusOf("flood_output", options);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_NE(status.ToString().find("disk full"), std::string::npos) << status;
}

TEST_P(Conformance, ReportIsFilledIn) {
  const RunResult result = Run("hello");
  const Report& report = result.report;
  EXPECT_EQ(report.provider, info_.name);
  EXPECT_EQ(report.isolation, info_.isolation);
  EXPECT_EQ(report.ambient, info_.ambient);
  EXPECT_EQ(report.output_bytes, result.output.size());
  EXPECT_GT(report.wall_time.count(), 0);
  EXPECT_GE(report.setup_time.count(), 0);
  EXPECT_GE(report.teardown_time.count(), 0);
  EXPECT_LE(report.wall_time, std::chrono::seconds(5) * Slowness());
  EXPECT_GE(report.cpu_time.value_or(0ns), 0ns);
  EXPECT_GT(report.peak_memory_bytes.value_or(1), 0u);
  EXPECT_EQ(report.vm_exits.has_value(), info_.isolation == IsolationClass::kMicroVm);
  EXPECT_EQ(report.host_calls, 0u);
  EXPECT_EQ(report.denials, 0u);
  EXPECT_TRUE(report.denied.empty());
}

TEST_P(Conformance, ProgramsOfOrdinaryTools) {
  WAXVM_NEEDS_PROGRAM("simd");
  const RunResult simd = Run("simd");
  EXPECT_EQ(simd.exit_code, 0) << simd.output;
  EXPECT_TRUE(simd.output == "avx kept\n" || simd.output == "sse kept\n") << simd.output;
  const RunResult exceptions = Run("cpp_exceptions");
  EXPECT_EQ(exceptions.exit_code, 0);
  EXPECT_EQ(exceptions.output, "caught bottom, unwound 113\n");
  const RunResult compute = Run("compute", WithArguments({"10"}));
  EXPECT_EQ(compute.exit_code, 0);
  EXPECT_EQ(compute.output, Run("compute", WithArguments({"10"})).output);
}

TEST_P(Conformance, EveryToolchain) {
  if (native()) GTEST_SKIP() << "a native function comes from the embedder's toolchain";
  for (const char* variant : {"musl", "musl_pie", "glibc", "glibc_pie"}) {
    SCOPED_TRACE(variant);
    EXPECT_EQ(Run(absl::StrFormat("true_%s", variant)).exit_code, 0);
    RunOptions options = WithArguments({"x"});
    options.argument_zero = "hello";
    options.environment = {"A=1"};
    const RunResult hello = Run(absl::StrFormat("hello_%s", variant), options);
    EXPECT_EQ(hello.output, "argv[0]=hello\nargv[1]=x\nenv[0]=A=1\n");
  }
  for (const char* name : {"simd_glibc", "files_glibc", "cpp_exceptions_glibc_pie"}) {
    const RunResult result = Run(name);
    EXPECT_EQ(result.exit_code, 0) << name << ": " << result.output << result.error_output;
  }
}

TEST_P(Conformance, SignalsStartOutUntouched) {
  if (native()) GTEST_SKIP() << "a native function has no system calls";
  const RunResult result = Run("probe", WithArguments({"signals"}));
  EXPECT_EQ(result.output, "");
  EXPECT_EQ(result.exit_code, 0);
}

TEST_P(Conformance, OnlyTheStandardStreamsAreOpen) {
  if (native()) GTEST_SKIP() << "a native function has no system calls";
  // Neither what the embedder has open, with or without close-on-exec, nor what the provider does.
  const int leaked = open("/dev/null", O_RDONLY);
  EXPECT_EQ(Run("probe", WithArguments({"descriptors"})).output, "0\n1\n2\n");
  close(leaked);
}

}  // namespace
}  // namespace waxvm::conformance
