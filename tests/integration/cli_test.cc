// SPDX-License-Identifier: Apache-2.0
// The waxvm command: exit codes, streams, error texts.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "fixture.h"

namespace waxvm::integration {
namespace {

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Completed Waxvm(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {WAXVM_COMMAND};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return RunCommand(all);
}

TEST(Command, Help) {
  for (const char* word : {"help", "--help", "-h"}) {
    const Completed help = Waxvm({word});
    EXPECT_EQ(help.exit_code, 0);
    for (const char* flag :
         {"--provider", "--memory", "--wall", "--cpu", "--output", "--open-files", "--processes",
          "--host-calls", "--fuel", "--grant", "--image", "--env", "--report", "--repeat", "--pool",
          "--identity", "--host-key", "--directory", "--service"})
      EXPECT_TRUE(Contains(help.output, flag)) << flag;
  }
  EXPECT_TRUE(Contains(Waxvm({"run", "--help"}).output, "--memory=SIZE"));
  EXPECT_TRUE(Waxvm({"--version"}).output.starts_with("waxvm 0."));
}

TEST(Command, RunsOftenFromAPool) {
  if (const std::string reason = WhyNot("microvm"); !reason.empty()) GTEST_SKIP() << reason;
  for (const char* pool : {"", "--pool=2"}) {
    std::vector<std::string> arguments = {"run", "--memory=64MiB", "--repeat=6"};
    if (*pool != '\0') arguments.emplace_back(pool);
    std::vector<std::string> good = arguments;
    good.push_back(Guest("true_musl"));
    const Completed run = Waxvm(good);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    EXPECT_TRUE(Contains(run.error, "6 runs; us each: minimum")) << run.error;
    std::vector<std::string> bad = arguments;
    bad.push_back(Guest("segv_musl"));
    EXPECT_EQ(Waxvm(bad).exit_code, 139);
  }
}

TEST(Command, WrongUsageIs125AndSaysWhatToDo) {
  const struct {
    std::vector<std::string> arguments;
    std::string text;
  } kCases[] = {{{}, "waxvm help"},
                {{"rum"}, "did you mean run?"},
                {{"run"}, "no program is given"},
                {{"run", "--memroy=1MiB", "x"}, "did you mean --memory?"},
                {{"run", "--memory=64MB", "x"}, "--memory: '64MB' is not a size"},
                {{"run", "--wall=fast", "x"}, "--wall: 'fast' is not a time"},
                {{"run", "--grant=disk", "x"}, "--grant: 'disk' is not a grant"},
                {{"run", "--grant=files:/a:b:ro", "x"}, "'b' is not absolute"},
                {{"run", "--identity=king", "x"}, "--identity: 'king' is none of self, sign"},
                {{"run", "--host-key=x", "x"}, "are of an --identity"},
                {{"run", "--identity", "--directory=x", "x"}, "--host-key=KEY"},
                {{"run", "--identity", "--host-key=./none", "--service=x", "x"}, "NAME,udp,PORT"},
                {{"run", "--provider=docker", "x"}, "there are mock, process, microvm"},
                {{"providers", "--xml"}, "--json"}};
  for (const auto& wrong : kCases) {
    const Completed run = Waxvm(wrong.arguments);
    EXPECT_EQ(run.exit_code, 125) << wrong.text;
    EXPECT_EQ(run.output, "") << wrong.text;
    EXPECT_TRUE(run.error.starts_with("waxvm: ")) << run.error;
    EXPECT_TRUE(Contains(run.error, wrong.text)) << run.error;
  }
}

TEST(Command, ProvidersAsText) {
  const Completed run = Waxvm({"providers"});
  EXPECT_EQ(run.exit_code, 0);
  for (const char* name :
       {"mock (isolation class none): available",
        "process (isolation class process): ", "microvm (isolation class microvm): "})
    EXPECT_TRUE(Contains(run.output, name)) << run.output;
}

TEST(Command, ProvidersAsJson) {
  const Completed run = Waxvm({"providers", "--json"});
  EXPECT_EQ(run.exit_code, 0);
  const auto all = ParseJsonObject(run.output);
  ASSERT_TRUE(all && all->contains("providers")) << run.output;
  for (const char* name :
       {"\"name\": \"mock\"", "\"name\": \"process\"", "\"name\": \"microvm\"",
        "\"isolation\": \"none\"", "\"available\": ", "\"reason\": ", "\"protects_against\": [",
        "\"does_not_protect_against\": [", "\"ambient\": [", "\"enforceable_limits\": ["})
    EXPECT_TRUE(Contains(run.output, name)) << name;
}

TEST(Command, MockRunsNoFiles) {
  const Completed run = RunCommand(WaxvmRun("mock", {}, {Guest("true_musl")}));
  EXPECT_EQ(run.exit_code, 126);
  EXPECT_TRUE(Contains(run.error, "native functions")) << run.error;
}

TEST(Command, UnavailableProviderIsNotReplacedByAWeakerOne) {
  const std::vector<std::string> nobody = {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534",
                                           "--clear-groups"};
  std::vector<std::string> run = nobody;
  if (getuid() != 0 || access(nobody[0].c_str(), X_OK) != 0)
    GTEST_SKIP() << "needs root and setpriv, to take a permission away";
  struct stat kvm = {};
  if (stat("/dev/kvm", &kvm) == 0 && (kvm.st_mode & 0006) == 0006)
    GTEST_SKIP() << "every user may open /dev/kvm here";
  // Neither named nor by default.
  for (const std::string flag : {"--provider=microvm", "--wall=10s"}) {
    run.resize(nobody.size());
    run.insert(run.end(), {WAXVM_COMMAND, "run", flag, "--", Guest("hello_musl")});
    const Completed refused = RunCommand(run);
    if (refused.exit_code == 127) GTEST_SKIP() << "user 65534 may not reach the build folder";
    EXPECT_EQ(refused.exit_code, 125);
    EXPECT_EQ(refused.output, "") << "something ran";
    EXPECT_TRUE(Contains(refused.error, "provider microvm is not available: ")) << refused.error;
    EXPECT_TRUE(Contains(refused.error, "/dev/kvm")) << refused.error;
    EXPECT_TRUE(Contains(refused.error, "Available: ")) << refused.error;
  }
}

TEST_P(EachProvider, ExitCodeIsPassedThrough) {
  for (const int code : {0, 1, 42, 255})
    EXPECT_EQ(Waxvm({}, {"probe_musl", "exit", std::to_string(code)}).exit_code, code);
}

TEST_P(EachProvider, ArgumentsAndEnvironment) {
  const std::string name = Guest("hello_musl");
  const Completed run =
      Waxvm({"--env=A=1", "--env=B=two words"}, {"hello_musl", "--wall=1s", "", "a b"});
  EXPECT_EQ(run.output, "argv[0]=" + name +
                            "\nargv[1]=--wall=1s\nargv[2]=\nargv[3]=a b\n"
                            "env[0]=A=1\nenv[1]=B=two words\n");
  EXPECT_EQ(run.error, "");
}

TEST_P(EachProvider, ProgramPathIsRelativeAndKeptAsArgumentZero) {
  CommandOptions options;
  options.working_folder = WAXVM_GUEST_DIR;
  const Completed run = RunCommand(WaxvmRun(GetParam(), {}, {"./hello_musl"}), options);
  EXPECT_EQ(run.output, "argv[0]=./hello_musl\n");
  // No search in PATH or anywhere else: a name is a path.
  EXPECT_EQ(RunCommand(WaxvmRun(GetParam(), {}, {"sh"}), options).exit_code, 127);
}

TEST_P(EachProvider, DashesMayBeLeftOut) {
  const Completed run = RunCommand({WAXVM_COMMAND, "run", std::string("--provider=") + GetParam(),
                                    Guest("hello_musl"), "--provider=x"});
  EXPECT_EQ(run.exit_code, 2) << run.error;
}

TEST_P(EachProvider, StreamsArePassedThrough) {
  CommandOptions options;
  for (int i = 0; i < 200'000; ++i) options.input += static_cast<char>(i * 11);
  const Completed cat = Waxvm({}, {"cat_stdin_musl"}, options);
  EXPECT_EQ(cat.exit_code, 0);
  EXPECT_TRUE(cat.output == options.input) << cat.output.size();
  const Completed streams = Waxvm({}, {"probe_musl", "streams"});
  EXPECT_TRUE(streams.output.starts_with("0\n2\n") && streams.error.starts_with("1\n3\n"));
}

TEST_P(EachProvider, OutputComesAsItIsWritten) {
  int in[2], out[2];
  ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  const pid_t child = StartCommand(WaxvmRun(GetParam(), {}, {Guest("cat_stdin_musl")}), in[0],
                                   out[1], STDERR_FILENO);
  close(in[0]);
  close(out[1]);
  for (const char letter : {'a', 'b'}) {
    char back = 0;
    EXPECT_EQ(write(in[1], &letter, 1), 1);
    EXPECT_EQ(read(out[0], &back, 1), 1);
    EXPECT_EQ(back, letter);
  }
  close(in[1]);
  EXPECT_EQ(Wait(child), 0);
  close(out[0]);
}

TEST_P(EachProvider, LimitsAre124) {
  const struct {
    std::string flag, program, limit;
  } kCases[] = {{"--wall=300ms", "spin_musl", "wall"},
                {"--cpu=300ms", "spin_musl", "cpu"},
                {"--memory=32MiB", "eat_memory_musl", "memory"},
                {"--output=10KiB", "flood_output_musl", "output"}};
  for (const auto& limit : kCases) {
    const Completed run = Waxvm({limit.flag, "--report=" + Path("r.json")}, {limit.program});
    EXPECT_EQ(run.exit_code, 124) << limit.flag << ": " << run.error;
    EXPECT_TRUE(Contains(run.error, "the " + limit.limit + " limit")) << run.error;
    auto report = ParseJsonObject(ReadFile(Path("r.json")));
    ASSERT_TRUE(report) << limit.flag;
    EXPECT_EQ((*report)["outcome"], "\"limit\"");
    EXPECT_EQ((*report)["limit"], "\"" + limit.limit + "\"");
    EXPECT_EQ((*report)["exit_code"], "124");
    EXPECT_EQ(run.output, limit.limit == "output" ? std::string(10 << 10, 'x') : "");
  }
}

TEST_P(EachProvider, FaultsAre128PlusSignal) {
  const struct {
    std::string program;
    int signal;
  } kCases[] = {{"segv_musl", SIGSEGV},
                {"stack_overflow_musl", SIGSEGV},
                {"illegal_instruction_musl", SIGILL},
                {"divide_by_zero_musl", SIGFPE},
                {"abort_musl", SIGABRT}};
  for (const auto& fault : kCases) {
    const Completed run = Waxvm({}, {fault.program});
    EXPECT_EQ(run.exit_code, 128 + fault.signal) << fault.program << ": " << run.error;
    EXPECT_TRUE(run.error.starts_with("waxvm: ")) << run.error;
  }
}

TEST_P(EachProvider, ProgramsThatCannotBeRunAre126) {
  std::ofstream(Path("script")) << "#!/bin/sh\necho no\n";
  std::ofstream(Path("empty"));
  std::ofstream(Path("cut"), std::ios::binary) << ReadFile(Guest("true_musl")).substr(0, 100);
  for (const char* name : {"script", "empty", "cut", ""}) {
    const Completed run = RunCommand(WaxvmRun(GetParam(), {}, {Path(name)}));
    EXPECT_EQ(run.exit_code, 126) << name << ": " << run.error;
    EXPECT_TRUE(Contains(run.error, Path(name))) << run.error;
  }
}

TEST_P(EachProvider, ProgramsThatDoNotExistAre127) {
  const Completed run = RunCommand(WaxvmRun(GetParam(), {}, {Path("nothing")}));
  EXPECT_EQ(run.exit_code, 127);
  EXPECT_TRUE(Contains(run.error, Path("nothing"))) << run.error;
}

TEST_P(EachProvider, RefusedOptionsAre125) {
  EXPECT_EQ(Waxvm({"--wall=0s"}, {"true_musl"}).exit_code, 125);
  EXPECT_EQ(Waxvm({"--memory=0"}, {"true_musl"}).exit_code, 125);
  const Completed grant = Waxvm({"--grant=files:" + Path("nothing") + ":/x:ro"}, {"true_musl"});
  EXPECT_EQ(grant.exit_code, 125);
  EXPECT_TRUE(Contains(grant.error, Path("nothing"))) << grant.error;
  const Completed report = Waxvm({"--report=" + Path("no/folder.json")}, {"hello_musl"});
  EXPECT_EQ(report.exit_code, 125);
  EXPECT_EQ(report.output, "") << "the program ran all the same";
}

TEST_P(EachProvider, Grants) {
  std::ofstream(Path("in.txt")) << "granted";
  const std::string read_only = "--grant=files:" + folder_ + ":/data:ro";
  const std::string writable = "--grant=files:" + folder_ + ":/data:rw";
  EXPECT_EQ(Waxvm({read_only}, {"probe_musl", "cat", "/data/in.txt"}).output,
            "/data/in.txt: granted\n");
  EXPECT_EQ(Waxvm({read_only}, {"probe_musl", "put", "/data/out.txt", "x"}).exit_code, 1);
  EXPECT_FALSE(std::filesystem::exists(Path("out.txt")));
  EXPECT_EQ(Waxvm({writable}, {"probe_musl", "put", "/data/out.txt", "x"}).exit_code, 0);
  EXPECT_EQ(ReadFile(Path("out.txt")), "x");
  EXPECT_EQ(Waxvm({}, {"probe_musl", "cat", Path("in.txt")}).exit_code, 1) << "nothing is ambient";
  EXPECT_EQ(Waxvm({"--grant=random"}, {"random_musl"}).exit_code, 0);
  EXPECT_NE(Waxvm({}, {"random_musl"}).exit_code, 0);
  EXPECT_EQ(Waxvm({"--grant=clock"}, {"clock_musl"}).exit_code, 0);
}

// One line, and only where the program ended badly and the report knows of something refused.
TEST_P(EachProvider, HintsNameTheMissingGrant) {
  constexpr char kHint[] = "waxvm: hint: the program was refused ";
  EXPECT_EQ(Waxvm({}, {"probe_musl", "exit", "3"}).error, "") << "nothing was refused";
  const Completed once = Waxvm({}, {"probe_glibc", "exit", "3"});
  EXPECT_EQ(once.exit_code, 3);
  EXPECT_EQ(once.error, "") << "what glibc asks for at its start is no program's need";
  if (std::string(GetParam()) != "microvm") return;  // the host's kernel refuses, and tells nobody
  const Completed write = Waxvm({"--grant=files:" + folder_ + ":/data:ro"},
                                {"probe_musl", "put", "/data/new\x1b[1m", "x"});
  EXPECT_EQ(write.exit_code, 1);
  EXPECT_TRUE(Contains(write.error, std::string(kHint) +
                                        "changing a granted file (/data/new\\x1b[1m), which "
                                        "--grant=files:HOST:GUEST:rw allows\n"))
      << write.error;
}

// What most people meet first.
TEST_P(EachProvider, PythonIsToldOfTheGrantItNeeds) {
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "/usr/bin/python3 is not installed";
  const auto run = [](std::vector<std::string> flags) {
    flags.push_back("--grant=files:/:/:ro");
    return RunCommand(WaxvmRun(GetParam(), flags, {"/usr/bin/python3", "-c", "pass"}));
  };
  const Completed without = run({});
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_TRUE(
      without.error.ends_with("\nwaxvm: hint: the program was refused random numbers (getrandom), "
                              "which --grant=random allows\n"))
      << without.error;
  const Completed with = run({"--grant=random"});
  EXPECT_EQ(with.exit_code, 0) << with.error;
  EXPECT_EQ(with.error, "");
}

TEST_P(EachProvider, AnIdentity) {
  ASSERT_EQ(RunCommand({WAXVM_COMMAND, "key", "new", "host", "--store=" + Path("keys")}).exit_code,
            0);
  const std::vector<std::string> flags = {
      "--identity=sign,revoke", "--host-key=" + Path("keys/host.pem"), "--directory=" + Path("d"),
      "--service=coap,udp,5683", "--report=" + Path("report")};
  const Completed run = Waxvm(flags, {"probe_musl", "hex", "waxvm.identity"});
  ASSERT_EQ(run.exit_code, 0) << run.error;
  const std::string report = ReadFile(Path("report"));
  const std::string key = "\"public_key\": \"";
  ASSERT_TRUE(Contains(report, key)) << report;
  const std::string digits = report.substr(report.find(key) + key.size(), 64);
  EXPECT_TRUE(run.output.starts_with("0 01000000")) << run.output;
  EXPECT_EQ(run.output.substr(2 + 2 * 32, 64), digits) << "who it is told that it is";
  EXPECT_TRUE(Contains(report, "\"address\": \"fd")) << report;
  EXPECT_TRUE(Contains(report, "\"adverts\": 2, \"advert_error\": null")) << report;
  EXPECT_TRUE(Contains(report, "\"advert_expires\": 9223372036854775807")) << "revoked";
  const Completed signed_by = Waxvm(flags, {"probe_musl", "hex", "waxvm.identity.sign", "x"});
  EXPECT_TRUE(signed_by.output.starts_with("0 ") && signed_by.output.size() == 2 + 128 + 1)
      << signed_by.output;
  const Completed refused = Waxvm(flags, {"probe_musl", "hex", "waxvm.identity.private_key"});
  EXPECT_TRUE(refused.output.starts_with("7 ")) << refused.output;
  EXPECT_TRUE(Waxvm({"--identity"}, {"probe_musl", "hex", "waxvm.identity"})
                  .output.starts_with("0 0100000000000000"))
      << "without a host there is no advert";
  const Completed no_key = Waxvm({"--identity", "--host-key=" + Path("none")}, {"true_musl"});
  EXPECT_EQ(no_key.exit_code, 125);
  EXPECT_TRUE(Contains(no_key.error, Path("none"))) << no_key.error;
}

TEST_P(EachProvider, ReportNamesEverything) {
  ASSERT_EQ(Waxvm({"--report=" + Path("r.json")}, {"random_musl"}).exit_code, 2);
  const std::string text = ReadFile(Path("r.json"));
  auto report = ParseJsonObject(text);
  ASSERT_TRUE(report) << text;
  for (const char* name :
       {"provider", "isolation", "outcome", "exit_code", "limit", "fault", "wall_seconds",
        "cpu_seconds", "peak_memory_bytes", "output_bytes", "host_calls", "denials", "denied",
        "ambient", "vm_exits", "setup_seconds", "teardown_seconds"})
    EXPECT_TRUE(report->contains(name)) << name << " is missing in " << text;
  EXPECT_EQ((*report)["provider"], std::string("\"") + GetParam() + "\"");
  EXPECT_EQ((*report)["outcome"], "\"exited\"");
  EXPECT_EQ((*report)["exit_code"], "2");
  EXPECT_EQ((*report)["limit"], "null");
  EXPECT_EQ((*report)["fault"], "null");
  EXPECT_EQ((*report)["host_calls"], "0");
  EXPECT_GT(std::atof((*report)["wall_seconds"].c_str()), 0);
  EXPECT_GE(std::atoi((*report)["denials"].c_str()), 1);
  EXPECT_TRUE((*report)["denied"].starts_with("[")) << (*report)["denied"];
  EXPECT_EQ((*report)["vm_exits"] == "null", std::string(GetParam()) != "microvm");
}

TEST_P(EachProvider, ReportOfAFault) {
  EXPECT_EQ(Waxvm({"--report=" + Path("r.json")}, {"segv_musl"}).exit_code, 139);
  auto report = ParseJsonObject(ReadFile(Path("r.json")));
  ASSERT_TRUE(report);
  EXPECT_EQ((*report)["outcome"], "\"fault\"");
  auto fault = ParseJsonObject((*report)["fault"]);
  ASSERT_TRUE(fault) << (*report)["fault"];
  EXPECT_EQ((*fault)["kind"], "\"segmentation\"");
  EXPECT_TRUE(fault->contains("address") && fault->contains("registers"));
}

TEST_P(EachProvider, ReportAppearsWholeAndAlone) {
  std::ofstream(Path("r.json")) << "older";
  EXPECT_EQ(Waxvm({"--report=" + Path("r.json")}, {"true_musl"}).exit_code, 0);
  EXPECT_TRUE(ParseJsonObject(ReadFile(Path("r.json"))));
  struct stat status = {};
  ASSERT_EQ(stat(Path("r.json").c_str(), &status), 0);
  const mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(status.st_mode & 0777, 0666 & ~mask);
  // A run that is refused leaves neither a report nor a temporary file behind.
  EXPECT_EQ(Waxvm({"--memory=0", "--report=" + Path("s.json")}, {"true_musl"}).exit_code, 125);
  long files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) ++files;
  EXPECT_EQ(files, 1);
}

TEST_P(EachProvider, ReportReplacesNoDeviceAndNoLink) {
  struct stat status = {};
  EXPECT_EQ(Waxvm({"--report=/dev/null"}, {"true_musl"}).exit_code, 0);
  ASSERT_EQ(lstat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  ASSERT_EQ(lstat("/dev/stdout", &status), 0);
  if (S_ISLNK(status.st_mode)) {
    EXPECT_TRUE(ParseJsonObject(Waxvm({"--report=/dev/stdout"}, {"true_musl"}).output));
    ASSERT_EQ(lstat("/dev/stdout", &status), 0);
    EXPECT_TRUE(S_ISLNK(status.st_mode));
  }
  std::ofstream(Path("real.json")) << "older";
  std::filesystem::create_symlink("real.json", Path("link.json"));
  EXPECT_EQ(Waxvm({"--report=" + Path("link.json")}, {"true_musl"}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(Path("link.json")));
  EXPECT_TRUE(ParseJsonObject(ReadFile(Path("real.json"))));
}

TEST_P(EachProvider, SignalsStopTheRun) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int number : {SIGTERM, SIGINT}) {
    const pid_t child =
        StartCommand(WaxvmRun(GetParam(), {"--report=" + Path("r.json")}, {Guest("spin_musl")}),
                     null, null, null);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    EXPECT_EQ(kill(child, number), 0);
    EXPECT_EQ(Wait(child), 128 + number);
    auto report = ParseJsonObject(ReadFile(Path("r.json")));
    ASSERT_TRUE(report);
    EXPECT_EQ((*report)["outcome"], "\"stopped\"");
    std::filesystem::remove(Path("r.json"));
  }
  close(null);
}

TEST_P(EachProvider, ReaderThatHasGoneEndsTheRun) {
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  close(out[0]);
  CommandOptions options;
  options.output_fd = out[1];
  const Completed run = Waxvm({}, {"flood_output_musl"}, options);
  EXPECT_EQ(run.exit_code, 128 + SIGPIPE) << run.error;
  close(out[1]);
}

TEST_P(EachProvider, ReaderThatDoesNotReadCannotStretchTheLimit) {
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  CommandOptions options;
  options.output_fd = out[1];
  const auto start = std::chrono::steady_clock::now();
  const Completed run = Waxvm({"--wall=500ms"}, {"flood_output_musl"}, options);
  EXPECT_EQ(run.exit_code, 124) << run.error;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  close(out[0]);
  close(out[1]);
}

INSTANTIATE_TEST_SUITE_P(Cli, EachProvider, testing::Values("process", "microvm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace waxvm::integration
