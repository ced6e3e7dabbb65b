// SPDX-License-Identifier: Apache-2.0
#include "flags.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace waxvm::cli {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""ns;

absl::StatusOr<RunFlags> Parse(std::initializer_list<std::string_view> arguments) {
  return ParseRunFlags({arguments.begin(), arguments.size()});
}

std::string ErrorOf(std::initializer_list<std::string_view> arguments) {
  const auto flags = Parse(arguments);
  return flags.ok() ? "no error" : std::string(flags.status().message());
}

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

TEST(ParseBytes, Units) {
  EXPECT_EQ(*ParseBytes("0"), 0u);
  EXPECT_EQ(*ParseBytes("1048576"), 1048576u);
  EXPECT_EQ(*ParseBytes("7B"), 7u);
  EXPECT_EQ(*ParseBytes("3KiB"), 3072u);
  EXPECT_EQ(*ParseBytes("64MiB"), 64u << 20);
  EXPECT_EQ(*ParseBytes("1GiB"), 1u << 30);
  EXPECT_EQ(*ParseBytes("2TiB"), std::uint64_t{2} << 40);
  EXPECT_EQ(*ParseBytes("18446744073709551615"), UINT64_MAX);
}

TEST(ParseBytes, RefusesEverythingElse) {
  for (const char* text : {"", "MiB", "-1", "+1", "1.5MiB", "64M", "64MB", "64mib", " 64", "64 MiB",
                           "0x10", "18446744073709551616", "16777216TiB", "1MiB2"})
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
}

TEST(ParseDuration, Units) {
  EXPECT_EQ(*ParseDuration("5ns"), 5ns);
  EXPECT_EQ(*ParseDuration("7us"), 7000ns);
  EXPECT_EQ(*ParseDuration("250ms"), 250ms);
  EXPECT_EQ(*ParseDuration("1s"), 1000ms);
  EXPECT_EQ(*ParseDuration("1m"), 60000ms);
  EXPECT_EQ(*ParseDuration("2h"), 7200000ms);
  EXPECT_EQ(*ParseDuration("1.5s"), 1500ms);
  EXPECT_EQ(*ParseDuration("0.1s"), 100ms);
  EXPECT_EQ(*ParseDuration("0.000000001s"), 1ns);
  EXPECT_EQ(*ParseDuration("0.5ns"), 0ns);
  EXPECT_EQ(*ParseDuration("9223372036854775807ns"), std::chrono::nanoseconds::max());
}

TEST(ParseDuration, RefusesEverythingElse) {
  for (const char* text : {"", "s", "1", "-1s", "1..5s", "1.s", ".5s", "1sec", "1 s",
                           "1.0000000001s", "9223372036854775808ns", "99999999999h", "1e3s"})
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
}

TEST(ParseGrant, Kinds) {
  EXPECT_TRUE(std::holds_alternative<ClockGrant>(*ParseGrant("clock")));
  EXPECT_TRUE(std::holds_alternative<RandomGrant>(*ParseGrant("random")));
  const auto files = std::get<FilesGrant>(*ParseGrant("files:/srv/a:b:/data:rw"));
  EXPECT_EQ(files.host_path, "/srv/a:b");
  EXPECT_EQ(files.guest_path, "/data");
  EXPECT_EQ(files.rights, Rights::kReadWrite);
  EXPECT_EQ(std::get<FilesGrant>(*ParseGrant("files:.:/:ro")).rights, Rights::kReadOnly);
}

TEST(ParseGrant, RefusesEverythingElse) {
  for (const char* text :
       {"", "clocks", "network", "files", "files:", "files:/a", "files:/a:/b", "files:/a:/b:rx",
        "files::/b:ro", "files:/a:b:ro", "files:/a::ro", "files:ro"})
    EXPECT_FALSE(ParseGrant(text).ok()) << text;
}

TEST(ParseImage, Kinds) {
  const auto tar = *ParseImage("tar:/srv/a:b.tar");
  EXPECT_EQ(tar.kind, ImageFlag::Kind::kTar);
  EXPECT_EQ(tar.path, "/srv/a:b.tar");
  const auto oci = *ParseImage("oci:layout:docker.io/library/busybox:1.36");
  EXPECT_EQ(oci.kind, ImageFlag::Kind::kOci);
  EXPECT_EQ(oci.path, "layout");
  EXPECT_EQ(oci.reference, "docker.io/library/busybox:1.36");
  EXPECT_EQ(ParseImage("oci:layout")->reference, "");
  EXPECT_EQ(ParseImage("erofs:root.img")->kind, ImageFlag::Kind::kErofs);
}

TEST(ParseImage, RefusesEverythingElse) {
  for (const char* text : {"", "root.tar", "tar", "tar:", "zip:a", "oci:", "oci:a:", "oci::a"})
    EXPECT_FALSE(ParseImage(text).ok()) << text;
}

TEST(ParseRunFlags, ImagesAreStackedInTheirOrderAndMayNameTheProgram) {
  const auto flags = Parse({"--image=tar:a", "--image", "erofs:b"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  ASSERT_EQ(flags->images.size(), 2u);
  EXPECT_EQ(flags->images[1].path, "b");
  EXPECT_EQ(flags->program, "");
  EXPECT_EQ(Parse({"--image=tar:a", "--", "/bin/sh", "-c"})->program, "/bin/sh");
}

TEST(ParseRunFlags, Everything) {
  const auto flags = Parse({"--provider=process", "--memory=64MiB", "--wall=1s", "--cpu", "500ms",
                            "--output=0", "--open-files=8", "--processes=1", "--host-calls=3",
                            "--grant=clock", "--grant=files:/a:/b:ro", "--env=A=1=2",
                            "--env=B=", "--report=r.json", "--", "./guest", "--memory=1", "--"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->provider, "process");
  EXPECT_EQ(flags->limits.memory_bytes, 64u << 20);
  EXPECT_EQ(flags->limits.wall_time, 1000ms);
  EXPECT_EQ(flags->limits.cpu_time, 500ms);
  EXPECT_EQ(flags->limits.output_bytes, 0u);
  EXPECT_EQ(flags->limits.open_files, 8u);
  EXPECT_EQ(flags->limits.processes, 1u);
  EXPECT_EQ(flags->limits.host_calls, 3u);
  EXPECT_EQ(flags->grants.size(), 2u);
  EXPECT_EQ(flags->environment, (std::vector<std::string>{"A=1=2", "B="}));
  EXPECT_EQ(flags->report_path, "r.json");
  EXPECT_EQ(flags->program, "./guest");
  EXPECT_EQ(flags->arguments, (std::vector<std::string>{"--memory=1", "--"}));
}

TEST(ParseRunFlags, NothingIsTheDefault) {
  const auto flags = Parse({"guest", "-x"});
  ASSERT_TRUE(flags.ok());
  EXPECT_EQ(flags->provider, "microvm");
  EXPECT_FALSE(flags->limits.memory_bytes || flags->limits.wall_time || flags->limits.output_bytes);
  EXPECT_TRUE(flags->grants.empty() && flags->environment.empty() && flags->report_path.empty());
  EXPECT_EQ(flags->program, "guest");
  EXPECT_EQ(flags->arguments, (std::vector<std::string>{"-x"}));
}

TEST(ParseRunFlags, ErrorsSayWhatToDo) {
  EXPECT_TRUE(Contains(ErrorOf({"--memroy=1", "x"}), "did you mean --memory"));
  EXPECT_TRUE(Contains(ErrorOf({"--openfiles=1", "x"}), "did you mean --open-files"));
  EXPECT_TRUE(Contains(ErrorOf({"--xyzzyxyzzy", "x"}), "unknown flag --xyzzyxyzzy; see"));
  EXPECT_TRUE(Contains(ErrorOf({"-m", "x"}), "two dashes"));
  EXPECT_TRUE(Contains(ErrorOf({"--memory=64M", "x"}), "--memory: '64M' is not a size"));
  EXPECT_TRUE(Contains(ErrorOf({"--memory"}), "--memory needs a value: --memory=SIZE"));
  EXPECT_TRUE(Contains(ErrorOf({"--cpu=1s", "--cpu=2s", "x"}), "--cpu is given twice"));
  EXPECT_TRUE(Contains(ErrorOf({"--env=PATH", "x"}), "NAME=VALUE"));
  EXPECT_TRUE(Contains(ErrorOf({"--env==x", "x"}), "NAME=VALUE"));
  EXPECT_TRUE(Contains(ErrorOf({"--report=", "x"}), "file name is missing"));
  for (const auto& none : {Parse({}), Parse({"--"}), Parse({"--wall=1s"}), Parse({"--", ""})})
    EXPECT_TRUE(Contains(std::string(none.status().message()), "no program is given"));
}

}  // namespace
}  // namespace waxvm::cli
