// SPDX-License-Identifier: Apache-2.0
// Each function prints and returns exactly what tests/guests/<name>.c, or probe.c here, does.
#include "native_programs.h"

#include <array>
#include <chrono>
#include <map>
#include <span>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "waxvm/native.h"

namespace waxvm::conformance {
namespace {

int True(NativeContext&) { return 0; }

int Hello(NativeContext& world) {
  int index = 0;
  std::string text;
  for (const std::string& argument : world.arguments())
    absl::StrAppendFormat(&text, "argv[%d]=%s\n", index++, argument);
  const int count = index;
  index = 0;
  for (const std::string& variable : world.environment())
    absl::StrAppendFormat(&text, "env[%d]=%s\n", index++, variable);
  return world.WriteOutput(text).ok() ? count : 255;
}

int CatStdin(NativeContext& world) {
  std::array<char, 4096> buffer;
  while (true) {
    const auto bytes = world.ReadInput(buffer);
    if (!bytes.ok()) return 1;
    if (*bytes == 0) return 0;
    if (!world.WriteOutput({buffer.data(), *bytes}).ok()) return 2;
  }
}

/// Without end, as far as a function can: a function is stopped where it asks its context.
int Spin(NativeContext& world) {
  while (world.WriteOutput("").ok()) {
  }
  return 1;
}

int FloodOutput(NativeContext& world) {
  const std::string line(65536, 'x');
  while (world.WriteOutput(line).ok()) {
  }
  return 1;
}

int Clock(NativeContext& world) {
  const auto now = world.ReadClock();
  if (!now.ok()) return 1;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*now);
  const std::string text =
      absl::StrFormat("realtime %d.%09d\n", seconds.count(), (*now - seconds).count());
  return world.WriteOutput(text).ok() ? 0 : 2;
}

int Random(NativeContext& world) {
  int failed = 0;
  for (const char* name : {"getrandom", "urandom"}) {
    std::array<std::byte, 16> bytes;
    std::string text = absl::StrFormat("%s ", name);
    if (world.ReadRandom(bytes).ok()) {
      for (const std::byte b : bytes) absl::StrAppendFormat(&text, "%02x", static_cast<int>(b));
    } else {
      ++failed;
      text += "refused";
    }
    if (!world.WriteOutput(text + "\n").ok()) return 3;
  }
  return failed;
}

/// The status and reply of a host call as the guest ABI shows them.
std::string Show(const absl::StatusOr<std::string>& reply, std::size_t most) {
  const int status = static_cast<int>(reply.status().code());
  const std::string text = reply.ok() ? *reply : std::string(reply.status().message());
  return absl::StrFormat("%d %d %s\n", status, text.size(), text.substr(0, most));
}

int HostCall(NativeContext& world) {
  const auto& arguments = world.arguments();
  const auto reply = world.CallHost(arguments.size() > 2 ? arguments[2] : "greet",
                                    arguments.size() > 1 ? arguments[1] : "world");
  const std::string text = reply.ok() ? *reply : std::string(reply.status().message());
  const std::string line =
      absl::StrFormat("%d %s\n", static_cast<int>(reply.status().code()), text.substr(0, 256));
  if (!world.WriteOutput(line).ok()) return 2;
  return reply.ok() ? 0 : 1;
}

int Streams(NativeContext& world) {
  for (int i = 0; i < 1000; ++i) {
    const std::string line = absl::StrFormat("%d\n", i);
    if (!(i % 2 == 0 ? world.WriteOutput(line) : world.WriteError(line)).ok()) return 1;
  }
  return 0;
}

int Call(NativeContext& world) {
  const auto& arguments = world.arguments();
  int bytes = 0, times = 0;
  if (arguments.size() < 5 || !absl::SimpleAtoi(arguments[3], &bytes) ||
      !absl::SimpleAtoi(arguments[4], &times))
    return 99;
  absl::StatusOr<std::string> reply;
  for (int i = 0; i < times; ++i)
    reply = world.CallHost(arguments[2], std::string(static_cast<std::size_t>(bytes), 'r'));
  return world.WriteOutput(Show(reply, 64)).ok() ? 0 : 2;
}

int CallHex(NativeContext& world) {
  const auto& arguments = world.arguments();
  const auto reply = world.CallHost(arguments[2], arguments.size() > 3 ? arguments[3] : "");
  std::string line = absl::StrFormat("%d ", static_cast<int>(reply.status().code()));
  for (const char c : reply.ok() ? *reply : std::string(reply.status().message()))
    absl::StrAppendFormat(&line, "%02x", static_cast<unsigned char>(c));
  return world.WriteOutput(line + "\n").ok() ? 0 : 2;
}

int Probe(NativeContext& world) {
  const auto& arguments = world.arguments();
  const std::string verb = arguments.size() > 1 ? arguments[1] : "";
  if (verb == "streams") return Streams(world);
  if (verb == "call") return Call(world);
  if (verb == "hex" && arguments.size() >= 3) return CallHex(world);
  int code = 99;
  if (verb == "exit" && arguments.size() == 3 && !absl::SimpleAtoi(arguments[2], &code)) return 99;
  return code;
}

}  // namespace

std::optional<Program> FindNativeProgram(const std::string& name) {
  static const std::map<std::string_view, int (*)(NativeContext&)> kPrograms = {
      {"true", True},     {"hello", Hello},        {"cat_stdin", CatStdin},
      {"spin", Spin},     {"clock", Clock},        {"flood_output", FloodOutput},
      {"random", Random}, {"host_call", HostCall}, {"probe", Probe}};
  const auto found = kPrograms.find(name);
  if (found == kPrograms.end()) return std::nullopt;
  return Program::FromFunction(name, found->second);
}

}  // namespace waxvm::conformance
