// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/call_format.h"

#include <bit>
#include <cstring>

#include "src/base/status.h"
#include "src/base/utf8.h"
#include "waxvm/session.h"

namespace waxvm {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

struct Header {
  std::uint32_t version;
  std::uint32_t second;  ///< state, or bytes of the name
  std::uint32_t third;   ///< status code, or bytes of the arguments
  std::uint32_t zero;
};
static_assert(sizeof(Header) == kCallHeaderBytes);

template <typename... Args>
absl::Status Broken(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::AbortedError("the program breaks the format of calls: " +
                            absl::StrFormat(format, args...));
}

absl::Status CheckBody(const ServeRequest& request, std::string_view body) {
  using State = ServeRequest::State;
  if (request.state == State::kReturned) {
    // The host holds the result for its caller: a program must not choose how much that is.
    if (body.size() <= kMaxCallBytes) return absl::OkStatus();
    return Broken("the result has %d bytes, at most %d", body.size(), kMaxCallBytes);
  }
  if (request.state == State::kFailed) {
    // Messages end in logs and on terminals, where a flood or bytes that are no text do harm.
    if (body.size() > kMaxCallMessageBytes)
      return Broken("the message of an error has %d bytes, at most %d", body.size(),
                    kMaxCallMessageBytes);
    if (!IsUtf8(body)) return Broken("the message of an error is not UTF-8");
    return absl::OkStatus();
  }
  if (body.empty()) return absl::OkStatus();
  return Broken("state %d comes with %d bytes, must be none",
                static_cast<std::uint32_t>(request.state), body.size());
}

}  // namespace

absl::StatusOr<ServeRequest> ParseServeRequest(std::string_view request) {
  using State = ServeRequest::State;
  Header header;
  if (request.size() < sizeof header)
    return Broken("a request of %d bytes, at least %d", request.size(), sizeof header);
  std::memcpy(&header, request.data(), sizeof header);
  if (header.version != kCallVersion)
    return Broken("version %d, must be %d", header.version, kCallVersion);
  if (header.second > static_cast<std::uint32_t>(State::kAgain))
    return Broken("state %d, at most %d", header.second, static_cast<std::uint32_t>(State::kAgain));
  if (header.zero != 0) return Broken("the reserved field is %d, must be 0", header.zero);
  const ServeRequest parsed{static_cast<State>(header.second),
                            static_cast<absl::StatusCode>(header.third)};
  if (parsed.state == State::kFailed) {
    constexpr auto kLast = static_cast<std::uint32_t>(absl::StatusCode::kUnauthenticated);
    if (header.third == 0 || header.third > kLast)
      return Broken("an error with the code %d, must be 1 to %d", header.third, kLast);
  } else if (header.third != 0) {
    return Broken("state %d comes with the code %d, must be 0", header.second, header.third);
  }
  WAXVM_RETURN_IF_ERROR(CheckBody(parsed, request.substr(sizeof header)));
  return parsed;
}

void EncodeCall(std::string_view function, std::string_view arguments, std::string& to) {
  const Header header{kCallVersion, static_cast<std::uint32_t>(function.size()),
                      static_cast<std::uint32_t>(arguments.size()), 0};
  to.clear();
  to.reserve(sizeof header + function.size() + arguments.size());
  to.append(reinterpret_cast<const char*>(&header), sizeof header);
  to.append(function);
  to.append(arguments);
}

}  // namespace waxvm
