// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <clocale>
#include <string>

#include "src/base/utf8.h"
#include "waxvm/report.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;

RunResult Full() {
  RunResult result;
  result.outcome = Outcome::kFault;
  result.exit_code = 139;
  Registers registers;
  registers.value[0] = 0xffffffffffffffff;
  registers.value[16] = 0x401136;
  result.fault = Fault{.kind = FaultKind::kSegmentation,
                       .signal = 11,
                       .address = 0x10,
                       .registers = registers,
                       .detail = "write to 0x10"};
  result.report = {.provider = "microvm",
                   .isolation = IsolationClass::kMicroVm,
                   .ambient = {"rdtsc", "rdrand"},
                   .wall_time = 1'234'567'891ns,
                   .setup_time = 5ns,
                   .teardown_time = 20ms,
                   .cpu_time = 1s,
                   .peak_memory_bytes = 4096,
                   .memory = InstanceMemory{.resident_bytes = 12288, .private_bytes = 4096},
                   .fuel = 77,
                   .vm_exits = 12,
                   .output_bytes = 3,
                   .host_calls = 2,
                   .denials = 7,
                   .denied = {{Resource::kFile, "/etc/passwd", true, 6},
                              {Resource::kSystemCall, "bpf", false, 1}},
                   .identity = IdentityReport{.public_key = {.bytes = {0xab}},
                                              .address = *Address::Parse("fd00::5"),
                                              .advert = "signed",
                                              .advert_expires = 12,
                                              .adverts = 3,
                                              .statements = 4,
                                              .private_key_was_read = true,
                                              .advert_status = absl::InternalError("no \"room\"")}};
  return result;
}

TEST(ReportJsonTest, EverythingMeasured) {
  EXPECT_EQ(
      ReportToJson(Full()),
      R"({"provider": "microvm", "isolation": "microvm", "outcome": "fault", "exit_code": 139, )"
      R"("limit": null, "fault": {"kind": "segmentation", "address": "0x10", "registers": )"
      R"({"rax": "0xffffffffffffffff", "rbx": "0x0", "rcx": "0x0", "rdx": "0x0", "rsi": "0x0", )"
      R"("rdi": "0x0", "rbp": "0x0", "rsp": "0x0", "r8": "0x0", "r9": "0x0", "r10": "0x0", )"
      R"("r11": "0x0", "r12": "0x0", "r13": "0x0", "r14": "0x0", "r15": "0x0", )"
      R"("rip": "0x401136", "rflags": "0x0"}, "signal": 11, "detail": "write to 0x10"}, )"
      R"("wall_seconds": 1.234567891, "cpu_seconds": 1.000000000, "peak_memory_bytes": 4096, )"
      R"("output_bytes": 3, "host_calls": 2, "denials": 7, "denied": [{"resource": "file", )"
      R"("name": "/etc/passwd", "write": true, "count": 6}, {"resource": "system_call", )"
      R"("name": "bpf", "write": false, "count": 1}], "ambient": ["rdtsc", "rdrand"], )"
      R"("vm_exits": 12, "setup_seconds": 0.000000005, "teardown_seconds": 0.020000000, )"
      R"("resident_bytes": 12288, "shared_bytes": 8192, "private_bytes": 4096, "fuel": 77, )"
      R"("identity": {"address": "fd00::5", "public_key": ")" +
          PublicKey{.bytes = {0xab}}.ToHex() +
          R"(", "advert_expires": 12, "adverts": 3, )"
          R"("advert_error": "no \"room\"", "statements": 4, "private_key_was_read": true}})");
}

TEST(ReportJsonTest, WhatWasNotMeasuredIsNull) {
  RunResult result;
  result.outcome = Outcome::kLimit;
  result.limit = LimitKind::kOpenFiles;
  result.report.provider = "mock";
  EXPECT_EQ(ReportToJson(result),
            R"({"provider": "mock", "isolation": "none", "outcome": "limit", "exit_code": 0, )"
            R"("limit": "open_files", "fault": null, "wall_seconds": 0.000000000, )"
            R"("cpu_seconds": null, "peak_memory_bytes": null, "output_bytes": 0, )"
            R"("host_calls": 0, "denials": 0, "denied": [], "ambient": [], "vm_exits": null, )"
            R"("setup_seconds": 0.000000000, "teardown_seconds": 0.000000000, )"
            R"("resident_bytes": null, "shared_bytes": null, "private_bytes": null, )"
            R"("fuel": null, "identity": null})");
}

std::string ShownName(std::string name) {
  RunResult result;
  result.report.denied = {{Resource::kFile, std::move(name), false, 1}};
  const std::string json = ReportToJson(result);
  const std::size_t start = json.find(R"("name": )") + 8;
  return json.substr(start, json.find(R"(, "write")") - start);
}

TEST(ReportJsonTest, NamesMayBeAnyBytes) {
  EXPECT_EQ(ShownName("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(ShownName(std::string("\0\n\x1f\x7f", 4)), R"("\u0000\u000a\u001f\u007f")");
  EXPECT_EQ(ShownName("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9d"),
            "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9d\"");
  EXPECT_EQ(ShownName("\xff\x80z"), R"("\ufffd\ufffdz")");
  EXPECT_EQ(ShownName("\xe2\x82"), R"("\ufffd\ufffd")");
  EXPECT_EQ(ShownName("\xc3\""), R"("\ufffd\"")");
}

TEST(ReportJsonTest, Utf8) {
  EXPECT_EQ(Utf8SequenceBytes(""), 0u);
  EXPECT_EQ(Utf8SequenceBytes("a"), 1u);
  EXPECT_EQ(Utf8SequenceBytes("\xc0\x80"), 0u) << "overlong";
  EXPECT_EQ(Utf8SequenceBytes("\xe0\x9f\xbf"), 0u) << "overlong";
  EXPECT_EQ(Utf8SequenceBytes("\xed\xa0\x80"), 0u) << "surrogate";
  EXPECT_EQ(Utf8SequenceBytes("\xed\x9f\xbf"), 3u);
  EXPECT_EQ(Utf8SequenceBytes("\xf0\x8f\xbf\xbf"), 0u) << "overlong";
  EXPECT_EQ(Utf8SequenceBytes("\xf4\x8f\xbf\xbf"), 4u);
  EXPECT_EQ(Utf8SequenceBytes("\xf4\x90\x80\x80"), 0u) << "above U+10FFFF";
}

TEST(ReportJsonTest, OfWhatHasNotEnded) {
  const std::string whole = ReportToJson(Full()), json = ReportToJson(Full().report);
  const std::size_t from = whole.find("\"outcome\""), to = whole.find("\"wall_seconds\"");
  EXPECT_EQ(json, whole.substr(0, from) + whole.substr(to));
}

TEST(ReportJsonTest, LocaleDoesNotMatter) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  if (std::setlocale(LC_ALL, "de_DE.UTF-8") == nullptr &&
      std::setlocale(LC_ALL, "C.UTF-8") == nullptr)
    GTEST_SKIP() << "no locale but C is installed";
  const std::string json = ReportToJson(Full());
  std::setlocale(LC_ALL, before.c_str());
  EXPECT_NE(json.find("\"wall_seconds\": 1.234567891,"), std::string::npos);
}

}  // namespace
}  // namespace waxvm
