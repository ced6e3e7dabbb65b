// SPDX-License-Identifier: Apache-2.0
#include "src/messaging/topic_message.h"

#include <string>

namespace waxvm::messaging {

absl::StatusOr<void*> TopicMessage::DecodeAs(const Message::Operations* operations,
                                             Decode decode) const {
  MutexLock lock(mutex_);
  // Few types: each engine that joined has one for it, mostly the same.
  for (const Decoded* at = all_.get(); at != nullptr; at = at->next.get())
    if (at->operations == operations) return at->Object();
  absl::StatusOr<std::string> encoded = std::string();
  if (local()) {
    encoded = object_.Encode();
    if (!encoded.ok()) return encoded.status();
  }
  auto made = std::make_unique<Decoded>(Decoded{
      operations, decode(local() ? std::string_view(*encoded) : fields_.payload), std::move(all_)});
  all_ = std::move(made);
  const Decoded* const now = all_.get();
  const Decoded* none = nullptr;
  decoded_.compare_exchange_strong(none, now, std::memory_order_release);
  return now->Object();
}

}  // namespace waxvm::messaging
