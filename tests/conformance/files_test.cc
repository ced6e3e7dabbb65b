// SPDX-License-Identifier: Apache-2.0
// The files grant, and that there is no way around it.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_format.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

#define WAXVM_NEEDS_FILES() \
  if (native()) GTEST_SKIP() << "a native function has no system calls"

bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// A folder with something of every kind, and a secret beside it.
class Tree {
 public:
  Tree() {
    std::filesystem::create_directories(granted_.Path("sub/deep"));
    granted_.Write("a.txt", "alpha");
    granted_.Write("sub/b.txt", "beta");
    secret_.Write("secret.txt", "SECRET");
    Link("a.txt", "link");
    Link("/data/sub/b.txt", "absolute");
    Link("../a.txt", "sub/up");
    Link("/data/loop", "loop");
    Link(secret_.Path("secret.txt"), "escape_absolute");
    Link("../" + secret_.path().substr(secret_.path().rfind('/') + 1) + "/secret.txt",
         "escape_relative");
    Link("../../../../../../../.." + secret_.Path("secret.txt"), "escape_root");
    EXPECT_EQ(mkfifo(granted_.Path("fifo").c_str(), 0666), 0);
    for (const char* name : {"", "sub", "sub/deep"})
      std::filesystem::permissions(granted_.Path(name), std::filesystem::perms::all);
    for (const char* name : {"a.txt", "sub/b.txt"}) chmod(granted_.Path(name).c_str(), 0666);
  }

  const TemporaryFolder& granted() const { return granted_; }
  const TemporaryFolder& secret() const { return secret_; }

  RunOptions Options(std::vector<std::string> arguments, Rights rights) const {
    RunOptions options;
    options.arguments = std::move(arguments);
    options.grants = {Files(granted_.path(), "/data", rights)};
    return options;
  }

 private:
  void Link(const std::string& target, std::string_view name) const {
    std::filesystem::create_symlink(target, granted_.Path(name));
  }

  TemporaryFolder granted_;
  TemporaryFolder secret_;
};

TEST_P(Conformance, NoFileOfTheHostIsThere) {
  WAXVM_NEEDS_FILES();
  const TemporaryFolder host;
  host.Write("marker", "SECRET");
  const std::string self = absl::StrFormat("/proc/%d/environ", getpid());
  const RunResult result =
      Run("probe", WithArguments({"cat", host.Path("marker"), "/etc/passwd", "/etc/shadow", self,
                                  "/sys/kernel/notes", "/dev/kvm", "/dev/mem"}));
  EXPECT_FALSE(Contains(result.output, "SECRET"));
  EXPECT_FALSE(Contains(result.output, "root:"));
  EXPECT_EQ(result.exit_code, 7) << "each of the seven fails:\n" << result.output;
  const RunResult listing = Run("probe", WithArguments({"list", host.path()}));
  EXPECT_FALSE(Contains(listing.output, "marker"));
}

TEST_P(Conformance, TemporaryFilesArePrivate) {
  WAXVM_NEEDS_FILES();
  const RunResult files = Run("files");
  EXPECT_EQ(files.exit_code, 0) << files.output;
  EXPECT_EQ(Run("probe", WithArguments({"put", "/tmp/waxvm_marker", "x"})).exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists("/tmp/waxvm_marker")) << "written to the host's /tmp";
  EXPECT_EQ(Run("probe", WithArguments({"cat", "/tmp/waxvm_marker"})).exit_code, 1)
      << "one run sees what another wrote";
  EXPECT_EQ(Run("probe", WithArguments({"put", "/dev/null", "x"})).exit_code, 0);
}

TEST_P(Conformance, ReadOnlyGrantIsRead) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  const RunResult result =
      Run("probe", tree.Options({"cat", "/data/a.txt", "/data/sub/b.txt", "/data/sub/../a.txt",
                                 "/data//./sub/deep/../../a.txt"},
                                Rights::kReadOnly));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(result.output,
            "/data/a.txt: alpha\n/data/sub/b.txt: beta\n/data/sub/../a.txt: alpha\n"
            "/data//./sub/deep/../../a.txt: alpha\n");
  EXPECT_EQ(Run("probe", tree.Options({"list", "/data/sub/deep"}, Rights::kReadOnly)).output, "");
  const std::string names =
      Run("probe", tree.Options({"list", "/data/sub"}, Rights::kReadOnly)).output;
  EXPECT_TRUE(Contains(names, "b.txt\n") && Contains(names, "deep\n") && Contains(names, "up\n"));
}

TEST_P(Conformance, ReadOnlyGrantIsNotWritten) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  for (const std::vector<std::string>& attempt :
       std::vector<std::vector<std::string>>{{"put", "/data/a.txt", "overwritten"},
                                             {"put", "/data/new", "created"},
                                             {"put", "/data/link", "through a link"},
                                             {"mkdir", "/data/folder"},
                                             {"remove", "/data/a.txt"},
                                             {"rename", "/data/a.txt", "/data/renamed"},
                                             {"rename", "/data/a.txt", "/tmp/taken"},
                                             {"chmod", "/data/a.txt"}}) {
    const RunResult result = Run("probe", tree.Options(attempt, Rights::kReadOnly));
    SCOPED_TRACE(attempt[0] + " " + attempt[1]);
    EXPECT_EQ(result.exit_code, 1) << result.output;
  }
  EXPECT_EQ(tree.granted().Read("a.txt"), "alpha");
  EXPECT_EQ(std::filesystem::status(tree.granted().Path("a.txt")).permissions(),
            std::filesystem::perms(0666));
  EXPECT_FALSE(tree.granted().Read("new").has_value());
  EXPECT_FALSE(std::filesystem::exists(tree.granted().Path("folder")));
}

TEST_P(Conformance, RefusedWritesAreNamed) {
  WAXVM_NEEDS_FILES();
  if (info_.isolation == IsolationClass::kProcess)
    GTEST_SKIP() << info_.name << " leaves it to the host's kernel, which does not count";
  const Tree tree;
  const RunResult result =
      Run("probe", tree.Options({"put", "/data/a.txt", "x"}, Rights::kReadOnly));
  EXPECT_GE(result.report.denials, 1u);
  EXPECT_GE(Denials(result.report, Resource::kFile, "/data/a.txt"), 1u)
      << info_.name << " refused a write and did not name the file";
}

TEST_P(Conformance, WritableGrantIsWritten) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  EXPECT_EQ(Run("probe", tree.Options({"put", "/data/new", "made"}, Rights::kReadWrite)).exit_code,
            0);
  EXPECT_EQ(tree.granted().Read("new"), "made");
  EXPECT_EQ(Run("probe", tree.Options({"put", "/data/a.txt", "b"}, Rights::kReadWrite)).exit_code,
            0);
  EXPECT_EQ(tree.granted().Read("a.txt"), "b") << "truncated and written";
  EXPECT_EQ(Run("probe", tree.Options({"remove", "/data/new"}, Rights::kReadWrite)).exit_code, 0);
  EXPECT_FALSE(tree.granted().Read("new").has_value());
  const RunResult files = Run("files", tree.Options({"/data/sub/deep"}, Rights::kReadWrite));
  EXPECT_EQ(files.exit_code, 0) << files.output;
}

TEST_P(Conformance, SymbolicLinksAreFollowedInside) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  const RunResult result =
      Run("probe",
          tree.Options({"cat", "/data/link", "/data/absolute", "/data/sub/up"}, Rights::kReadOnly));
  EXPECT_EQ(result.output, "/data/link: alpha\n/data/absolute: beta\n/data/sub/up: alpha\n");
  EXPECT_EQ(Run("probe", tree.Options({"cat", "/data/loop"}, Rights::kReadOnly)).exit_code, 1);
}

TEST_P(Conformance, NothingLeadsOutOfAGrant) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  const std::string secret = tree.secret().Path("secret.txt");
  for (const Rights rights : {Rights::kReadOnly, Rights::kReadWrite}) {
    const RunResult result = Run(
        "probe",
        tree.Options({"cat", "/data/escape_absolute", "/data/escape_relative", "/data/escape_root",
                      "/data/../" + secret, "/data/sub/../../" + secret, secret,
                      "/data/../../.." + secret, "/../.." + secret, "/proc/self/root" + secret},
                     rights));
    EXPECT_FALSE(Contains(result.output, "SECRET")) << result.output;
    EXPECT_EQ(result.exit_code, 9) << result.output;
  }
  // A link that the program makes itself.
  const RunResult made =
      Run("probe", tree.Options({"link", secret, "/data/made"}, Rights::kReadWrite));
  EXPECT_FALSE(Contains(made.output, "SECRET")) << made.output;
  const RunResult put =
      Run("probe", tree.Options({"put", "/data/escape_absolute", "x"}, Rights::kReadWrite));
  EXPECT_NE(put.exit_code, 0) << put.output;
  EXPECT_EQ(tree.secret().Read("secret.txt"), "SECRET");
}

TEST_P(Conformance, DevicesAndSocketsAndPipesDoNotPass) {
  WAXVM_NEEDS_FILES();
  if (IsAmbient("fifo")) GTEST_SKIP() << info_.name << " declares that it cannot withhold FIFOs";
  const Tree tree;
  RunOptions options = tree.Options({"cat", "/data/fifo"}, Rights::kReadWrite);
  options.limits.wall_time = std::chrono::seconds(5) * Slowness();
  const RunResult result = Run("probe", options);
  EXPECT_EQ(result.outcome, Outcome::kExited) << "opening a FIFO must not hang";
  EXPECT_EQ(result.exit_code, 1) << result.output;
}

TEST_P(Conformance, SingleFileIsGranted) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  RunOptions options = WithArguments({"cat", "/etc/config", "/etc/a.txt", "/etc/sub/b.txt"});
  options.grants = {Files(tree.granted().Path("a.txt"), "/etc/config")};
  const RunResult result = Run("probe", options);
  EXPECT_TRUE(result.output.starts_with("/etc/config: alpha\n")) << result.output;
  EXPECT_EQ(result.exit_code, 2) << result.output;
}

TEST_P(Conformance, WholeRootWithAbsoluteLinks) {
  WAXVM_NEEDS_FILES();
  // Not in /tmp, which is the instance's own.
  const char* parent = access("/var/tmp", W_OK) == 0 ? "/var/tmp" : "/";
  if (access(parent, W_OK) != 0) GTEST_SKIP() << "no folder but /tmp is writable here";
  const TemporaryFolder host(parent);
  host.Write("target", "reached");
  std::filesystem::create_symlink(host.Path("target"), host.Path("absolute"));
  const std::string self = absl::StrFormat("/proc/%d/cmdline", getpid());
  RunOptions options = WithArguments({"cat", host.Path("absolute"), self, "/dev/kvm"});
  options.grants = {Files("/", "/", Rights::kReadOnly)};
  const RunResult result = Run("probe", options);
  EXPECT_TRUE(Contains(result.output, host.Path("absolute") + ": reached\n")) << result.output;
  EXPECT_EQ(result.exit_code, 2) << "the host's proc and devices never pass:\n" << result.output;
}

TEST_P(Conformance, NestedGrantsKeepTheirOwnRights) {
  WAXVM_NEEDS_FILES();
  const Tree tree;
  const TemporaryFolder inner;
  RunOptions options = tree.Options({"put", "/data/sub/x", "inner"}, Rights::kReadOnly);
  options.grants.push_back(Files(inner.path(), "/data/sub", Rights::kReadWrite));
  EXPECT_EQ(Run("probe", options).exit_code, 0);
  EXPECT_EQ(inner.Read("x"), "inner");
  options.arguments[1] = "/data/x";
  EXPECT_NE(Run("probe", options).exit_code, 0);
}

TEST_P(Conformance, GrantsThatMakeNoSenseAreRefused) {
  RunOptions options;
  options.grants = {Files("/nonexistent/waxvm", "/data")};
  EXPECT_TRUE(absl::IsNotFound(StatusOf("true", options)));
  for (const Grant& grant :
       {Files("/", "relative"), Files("/", "/a/../b"), Files("/", ""), Files("/dev/null", "/data"),
        Files("/proc", "/data"), Function("", nullptr), Function("empty", nullptr)}) {
    options.grants = {grant};
    const absl::Status status = StatusOf("true", options);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

}  // namespace
}  // namespace waxvm::conformance
