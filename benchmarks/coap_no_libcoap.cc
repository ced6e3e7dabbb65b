// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/coap_cases.h"

namespace waxvm {

absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewLibcoapLoad(bool, std::size_t, std::size_t) {
  return absl::UnavailableError("libcoap3-dev was not installed when this was built");
}

}  // namespace waxvm
