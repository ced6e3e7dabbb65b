// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_EXAMPLES_SUPERVISOR_ADVERT_JSON_H_
#define WAXVM_EXAMPLES_SUPERVISOR_ADVERT_JSON_H_

#include "waxvm/advert.h"
#include "words.h"

namespace waxvm::cli {

/// What an advert says, the envelope first.
Json AdvertToJson(const AdvertFields& fields);

Json ServiceToJson(const AdvertisedService& service);
Json TransportToJson(const AdvertisedTransport& transport);

std::string_view ReasonName(RevocationBody::Reason reason);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_ADVERT_JSON_H_
