// SPDX-License-Identifier: Apache-2.0
#include "waxvm/message.h"

#include "src/base/status.h"
#include "src/base/utf8.h"

namespace waxvm {
namespace {

constexpr std::size_t kMaxErrorTextBytes = 200;
constexpr int kMaxStatusCode = 16;

}  // namespace

absl::StatusOr<std::string> Message::Encode() const {
  if (operations_ == nullptr) return FailedPrecondition("there is no message");
  WAXVM_ASSIGN_OR_RETURN(std::string bytes, operations_->encode(storage_));
  if (bytes.size() > kMaxPayloadBytes)
    return InvalidArgument("a message takes %d bytes, at most %d", bytes.size(), kMaxPayloadBytes);
  return bytes;
}

absl::StatusOr<std::string> MessageError::Encode() const {
  std::string bytes(1, static_cast<char>(code));
  std::string_view shown = text;
  if (shown.size() > kMaxErrorTextBytes) shown = shown.substr(0, kMaxErrorTextBytes);
  while (!IsUtf8(shown)) shown.remove_suffix(1);  // cut within a character, at most 200 times
  return bytes.append(shown);
}

absl::StatusOr<MessageError> MessageError::Decode(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > 1 + kMaxErrorTextBytes)
    return InvalidArgument("an error of a message has %d bytes", bytes.size());
  const int code = static_cast<unsigned char>(bytes[0]);
  if (code < 1 || code > kMaxStatusCode) return InvalidArgument("%d is no code of an error", code);
  if (!IsUtf8(bytes.substr(1))) return InvalidArgument("the text of an error is not UTF-8");
  return MessageError{.code = static_cast<absl::StatusCode>(code),
                      .text = std::string(bytes.substr(1))};
}

}  // namespace waxvm
