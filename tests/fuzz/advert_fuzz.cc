// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as an advert: none that is not signed is taken, and what can be read is written
// as the same bytes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/naming/advert_codec.h"
#include "waxvm/advert.h"

namespace waxvm {
namespace {

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void CheckForm(std::string_view bytes) {
  const auto fields = ParseAdvert(bytes);
  if (!fields.ok()) return Require(absl::IsInvalidArgument(fields.status()));
  Require(bytes.size() <= kMaxAdvertBytes);
  const auto written = naming::EncodeUnsigned(*fields);
  Require(written.ok());
  Require(*written == bytes.substr(0, bytes.size() - kSignatureBytes));
}

void CheckAccepted(std::string_view bytes, std::uint64_t now) {
  const auto advert = Advert::Check(bytes, now);
  if (!advert.ok()) return;
  Require(advert->bytes() == bytes);
  Require(advert->fields().expires > now);
  Require(advert->fields() == *ParseAdvert(bytes));
}

}  // namespace
}  // namespace waxvm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  waxvm::CheckForm(bytes);
  waxvm::CheckAccepted(bytes, 1'800'000'000);
  return 0;
}
