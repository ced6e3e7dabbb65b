// SPDX-License-Identifier: Apache-2.0
#include "src/nats/stream_text.h"

#include <sodium.h>

#include <chrono>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "src/mailbox/checks.h"

namespace waxvm::nats {

using std::chrono::milliseconds;

std::string Hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes)
    absl::StrAppendFormat(&text, "%02x", static_cast<unsigned char>(byte));
  return text;
}

std::string Unhex(std::string_view text) {
  std::string bytes(text.size() / 2, '\0');
  std::size_t size = 0;
  if (sodium_hex2bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(),
                     text.size(), nullptr, &size, nullptr) != 0)
    return "";
  bytes.resize(size);
  return bytes;
}

std::string Encode(std::string_view name) {
  std::string token;
  for (const char c : name) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
        c == '_') {
      token.push_back(c);
    } else {
      absl::StrAppendFormat(&token, "=%02x", static_cast<unsigned char>(c));
    }
  }
  return token;
}

std::string Decode(std::string_view token) {
  std::string name;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '=' && i + 2 < token.size()) {
      name += Unhex(token.substr(i + 1, 2));
      i += 2;
    } else {
      name.push_back(token[i]);
    }
  }
  return name;
}

std::string Describe(const MailboxOptions& options) {
  return absl::StrFormat("waxvm-mailbox-v1 %d %d %d %d %d %d %d %d %d", options.topic,
                         options.strict, options.max_deliveries, options.first_back_off.count(),
                         options.max_back_off.count(), options.time_to_live.count(),
                         options.max_messages, options.max_bytes, options.max_dead_letters);
}

std::optional<MailboxOptions> Understand(const char* description) {
  if (description == nullptr) return std::nullopt;
  int topic = 0;
  int strict = 0;
  unsigned deliveries = 0;
  long long first = 0;
  long long most = 0;
  long long life = 0;
  unsigned long long messages = 0;
  unsigned long long bytes = 0;
  unsigned long long dead = 0;
  if (std::sscanf(description, "waxvm-mailbox-v1 %d %d %u %lld %lld %lld %llu %llu %llu", &topic,
                  &strict, &deliveries, &first, &most, &life, &messages, &bytes, &dead) != 9)
    return std::nullopt;
  MailboxOptions options = {.topic = topic != 0,
                            .strict = strict != 0,
                            .max_deliveries = deliveries,
                            .first_back_off = milliseconds(first),
                            .max_back_off = milliseconds(most),
                            .time_to_live = milliseconds(life),
                            .max_messages = messages,
                            .max_bytes = bytes,
                            .max_dead_letters = dead};
  if (!mailbox::CheckOptions(options).ok()) return std::nullopt;
  return options;
}

}  // namespace waxvm::nats
