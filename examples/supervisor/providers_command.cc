// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "commands.h"
#include "waxvm/providers.h"

namespace waxvm::cli {
namespace {

std::string Quoted(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&json, "\\u%04x", static_cast<unsigned>(c));
    } else {
      json += c;
    }
  }
  return json + '"';
}

std::string QuotedList(const std::vector<std::string>& items) {
  return "[" +
         absl::StrJoin(items, ", ",
                       [](std::string* out, const std::string& item) { *out += Quoted(item); }) +
         "]";
}

std::vector<std::string> LimitNames(const ProviderInfo& info) {
  std::vector<std::string> names;
  for (const LimitKind kind : info.enforceable_limits) names.emplace_back(LimitName(kind));
  return names;
}

std::string ToJson(const Provider& provider) {
  const ProviderInfo info = provider.info();
  const absl::Status available = provider.Available();
  const std::string reason = available.ok() ? "null" : Quoted(std::string(available.message()));
  return absl::StrFormat(
      "{\"name\": %s, \"isolation\": %s, \"available\": %s, \"reason\": %s, \"mechanism\": %s,\n"
      "   \"protects_against\": %s,\n   \"does_not_protect_against\": %s,\n"
      "   \"ambient\": %s, \"enforceable_limits\": %s}",
      Quoted(info.name), Quoted(IsolationName(info.isolation)), available.ok() ? "true" : "false",
      reason, Quoted(info.mechanism), QuotedList(info.protects_against),
      QuotedList(info.does_not_protect_against), QuotedList(info.ambient),
      QuotedList(LimitNames(info)));
}

/// One labelled line, or one a list entry.
std::string Lines(std::string_view label, const std::vector<std::string>& entries) {
  std::string lines;
  for (std::size_t i = 0; i < entries.size(); ++i)
    absl::StrAppendFormat(&lines, "  %-18s %s\n", i == 0 ? label : "", entries[i]);
  return lines;
}

std::string ToText(const Provider& provider) {
  const ProviderInfo info = provider.info();
  const absl::Status available = provider.Available();
  const std::string state =
      available.ok() ? "available"
                     : absl::StrFormat("not available: %s", std::string(available.message()));
  return absl::StrFormat("%s (isolation class %s): %s\n", info.name, IsolationName(info.isolation),
                         state) +
         Lines("mechanism", {info.mechanism}) + Lines("protects against", info.protects_against) +
         Lines("does not", info.does_not_protect_against) +
         Lines("cannot withhold",
               {info.ambient.empty() ? "-" : absl::StrJoin(info.ambient, ", ")}) +
         Lines("limits", {absl::StrJoin(LimitNames(info), ", ")});
}

}  // namespace

std::vector<std::shared_ptr<Provider>> AllProviders() {
  return {NewMockProvider(), NewProcessProvider(), NewMicroVmProvider()};
}

int ProvidersCommand(std::span<const std::string_view> arguments) {
  const bool json = arguments.size() == 1 && arguments[0] == "--json";
  if (!arguments.empty() && !json) {
    absl::FPrintF(stderr, "waxvm: providers takes nothing but --json, not '%s'\n",
                  arguments.back());
    return kExitFailed;
  }
  std::vector<std::string> entries;
  for (const auto& provider : AllProviders())
    entries.push_back(json ? ToJson(*provider) : ToText(*provider));
  const std::string text =
      json ? "{\"providers\": [\n  " + absl::StrJoin(entries, ",\n  ") + "\n]}\n"
           : absl::StrJoin(entries, "\n");
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) return kExitFailed;
  return kExitOk;
}

}  // namespace waxvm::cli
