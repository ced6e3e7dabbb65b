// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/strings.h"
#include "src/base/utf8.h"
#include "waxvm/report.h"

namespace waxvm {
namespace {

std::string Quoted(std::string_view text) {
  std::string json = "\"";
  while (!text.empty()) {
    const char c = text.front();
    const std::size_t bytes = Utf8SequenceBytes(text);
    if (bytes == 0) {
      json += "\\ufffd";  // names come from the guest and may be any bytes
    } else if (c == '"' || c == '\\') {
      json += {'\\', c};
    } else if (bytes == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)) {
      absl::StrAppendFormat(&json, "\\u%04x", static_cast<unsigned>(c));
    } else {
      json += text.substr(0, bytes);
    }
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return json += '"';
}

/// Addresses as hexadecimal strings: a JSON number above 2^53 is not exact everywhere.
std::string Hex(std::uint64_t value) { return absl::StrFormat("\"0x%x\"", value); }

std::string Seconds(std::chrono::nanoseconds time) {
  const std::int64_t count = std::max<std::int64_t>(time.count(), 0);
  return absl::StrFormat("%d.%09d", count / 1'000'000'000, count % 1'000'000'000);
}

std::string Number(std::integral auto value) { return absl::StrFormat("%d", value); }

/// `write` of the value, or null.
template <typename T, typename Write>
std::string OrNull(const std::optional<T>& value, Write write) {
  return value ? std::string(write(*value)) : "null";
}

template <typename Range, typename Write>
std::string List(const Range& range, Write write) {
  std::string json = "[";
  for (const auto& element : range) {
    if (json.size() > 1) json += ", ";
    json += write(element);
  }
  return json += ']';
}

/// Puts an object together member by member.
class Object {
 public:
  Object& Add(std::string_view name, std::string_view json) {
    absl::StrAppendFormat(&json_, "%s\"%s\": %s", json_.size() > 1 ? ", " : "", name, json);
    return *this;
  }
  std::string Close() && { return std::move(json_ += '}'); }

 private:
  std::string json_ = "{";
};

std::string RegistersToJson(const Registers& registers) {
  Object json;
  for (std::size_t i = 0; i < registers.value.size(); ++i)
    json.Add(GeneralRegisterNames()[i], Hex(registers.value[i]));
  return std::move(json).Close();
}

std::string FaultToJson(const Fault& fault) {
  return std::move(Object()
                       .Add("kind", Quoted(FaultName(fault.kind)))
                       .Add("address", OrNull(fault.address, Hex))
                       .Add("registers", OrNull(fault.registers, RegistersToJson))
                       .Add("signal", Number(fault.signal))
                       .Add("detail", Quoted(fault.detail)))
      .Close();
}

std::string DenialToJson(const Denial& denial) {
  return std::move(Object()
                       .Add("resource", Quoted(ResourceName(denial.resource)))
                       .Add("name", Quoted(denial.name))
                       .Add("write", denial.write ? "true" : "false")
                       .Add("count", Number(denial.count)))
      .Close();
}

std::string Status(const absl::Status& status) {
  return status.ok() ? "null" : Quoted(ToStd(status.message()));
}

std::string IdentityToJson(const IdentityReport& identity) {
  const bool advertised = !identity.advert.empty();
  return std::move(
             Object()
                 .Add("address", Quoted(identity.address.ToText()))
                 .Add("public_key", Quoted(identity.public_key.ToHex()))
                 .Add("advert_expires",
                      advertised ? Number(identity.advert_expires) : std::string("null"))
                 .Add("adverts", Number(identity.adverts))
                 .Add("advert_error", Status(identity.advert_status))
                 .Add("statements", Number(identity.statements))
                 .Add("private_key_was_read", identity.private_key_was_read ? "true" : "false"))
      .Close();
}

void AddProvider(const Report& report, Object& json) {
  json.Add("provider", Quoted(report.provider))
      .Add("isolation", Quoted(IsolationName(report.isolation)));
}

void AddMeasurements(const Report& report, Object& json) {
  const auto number = [](std::uint64_t value) { return Number(value); };
  const auto resident = [](const InstanceMemory& m) { return Number(m.resident_bytes); };
  const auto shared = [](const InstanceMemory& m) {
    return Number(m.resident_bytes - std::min(m.private_bytes, m.resident_bytes));
  };
  const auto own = [](const InstanceMemory& m) { return Number(m.private_bytes); };
  json.Add("wall_seconds", Seconds(report.wall_time))
      .Add("cpu_seconds", OrNull(report.cpu_time, Seconds))
      .Add("peak_memory_bytes", OrNull(report.peak_memory_bytes, number))
      .Add("output_bytes", Number(report.output_bytes))
      .Add("host_calls", Number(report.host_calls))
      .Add("denials", Number(report.denials))
      .Add("denied", List(report.denied, DenialToJson))
      .Add("ambient", List(report.ambient, Quoted))
      .Add("vm_exits", OrNull(report.vm_exits, number))
      .Add("setup_seconds", Seconds(report.setup_time))
      .Add("teardown_seconds", Seconds(report.teardown_time))
      .Add("resident_bytes", OrNull(report.memory, resident))
      .Add("shared_bytes", OrNull(report.memory, shared))
      .Add("private_bytes", OrNull(report.memory, own))
      .Add("fuel", OrNull(report.fuel, number))
      .Add("identity", OrNull(report.identity, IdentityToJson));
}

}  // namespace

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kExited:
      return "exited";
    case Outcome::kFault:
      return "fault";
    case Outcome::kLimit:
      return "limit";
    case Outcome::kStopped:
      return "stopped";
  }
  return "unknown";
}

std::string ReportToJson(const RunResult& result) {
  const auto limit_name = [](LimitKind kind) { return Quoted(LimitName(kind)); };
  Object json;
  AddProvider(result.report, json);
  json.Add("outcome", Quoted(OutcomeName(result.outcome)))
      .Add("exit_code", Number(result.exit_code))
      .Add("limit", OrNull(result.limit, limit_name))
      .Add("fault", OrNull(result.fault, FaultToJson));
  AddMeasurements(result.report, json);
  return std::move(json).Close();
}

std::string ReportToJson(const Report& report) {
  Object json;
  AddProvider(report, json);
  AddMeasurements(report, json);
  return std::move(json).Close();
}

}  // namespace waxvm
