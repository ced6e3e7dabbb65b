// SPDX-License-Identifier: Apache-2.0
// The parameters of SVCB and HTTPS records.
#ifndef WAXVM_SRC_DNS_SVCB_H_
#define WAXVM_SRC_DNS_SVCB_H_

#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/dns/wire.h"

namespace waxvm::dns {

/// Whether these are parameters: keys strictly rise, values are those of their keys, and what is
/// mandatory is there. Errors: kInvalidArgument. Spec: RFC 9460 sections 2.2, 7 and 8.
absl::Status CheckSvcParams(Bytes params);

/// `value` as a word in quotes, in presentation form. Spec: RFC 1035 section 5.1.
void AppendQuoted(Bytes value, std::string& text);

/// In presentation form, each with a blank before it. `params` were checked.
std::string SvcParamsToText(Bytes params);

/// From words "key=value", in any order. Errors: kInvalidArgument. Spec: RFC 9460 section 2.1.
absl::StatusOr<std::string> SvcParamsFromText(std::span<const std::string> words);

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_SVCB_H_
