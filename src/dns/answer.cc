// SPDX-License-Identifier: Apache-2.0
#include "waxvm/dns.h"

namespace waxvm {

bool DnsAnswer::Add(DnsType type, std::uint32_t ttl_seconds, std::string_view data) {
  // What no message has room for: each record takes twelve bytes more than its data.
  const std::size_t taken = bytes_.size() + 12 * entries_.size();
  if (overflowed_ || data.size() > kMaxBytes || taken + 12 + data.size() > kMaxBytes) {
    overflowed_ = true;
    return false;
  }
  entries_.push_back({type, ttl_seconds, bytes_.size(), data.size()});
  bytes_.append(data);
  return true;
}

void DnsAnswer::Clear() {
  entries_.clear();
  bytes_.clear();
  overflowed_ = false;
}

}  // namespace waxvm
