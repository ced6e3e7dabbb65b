// SPDX-License-Identifier: Apache-2.0
// CoAP datagrams for comparing codecs: made at random, spoilt at random, and told apart by a reader
// that shares nothing with the library's.
#ifndef WAXVM_TESTS_COAP_MESSAGES_H_
#define WAXVM_TESTS_COAP_MESSAGES_H_

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace waxvm::coap {

/// What a message says.
struct Fields {
  int type = 0;
  int code = 0;
  int id = 0;
  std::string token;
  std::vector<std::pair<int, std::string>> options;  ///< in ascending order
  std::string payload;
  bool operator==(const Fields&) const = default;
};

/// Why a datagram is no message, the first reason from its front.
enum class Reason {
  kNone,
  kShort,  ///< fewer than four bytes
  kVersion,
  kReservedTokenLength,  ///< above 8 without extended tokens, 15 with them
  kEmptyWithMore,        ///< code 0.00 with a token or more bytes
  kTokenCutOff,
  kReservedField,  ///< 15 as an option's delta or length
  kOptionHeadCutOff,
  kOptionValueCutOff,
  kNumberOverflow,
  kMarkerWithoutPayload,
};

struct Reading {
  Reason reason = Reason::kNone;
  Fields fields;
};

/// Reads a datagram as RFC 7252 section 3 says, byte by byte.
Reading ReadSlowly(std::string_view datagram, bool extended_tokens);

/// The shortest encoding of what a message says.
std::string WriteSlowly(const Fields& fields);

class Generator {
 public:
  explicit Generator(std::uint32_t seed) : random_(seed) {}

  /// A well-formed message: mostly of registered options, some of which have odd lengths.
  Fields Make();
  /// The same with a few bytes changed, added, taken away or repeated.
  std::string Spoil(std::string datagram);
  std::uint32_t Below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_()) % bound; }

 private:
  std::string Bytes(std::size_t count);
  std::pair<int, std::string> MakeOption();

  std::mt19937 random_;
};

std::string ToHex(std::string_view bytes);

}  // namespace waxvm::coap

#endif  // WAXVM_TESTS_COAP_MESSAGES_H_
