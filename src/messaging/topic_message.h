// SPDX-License-Identifier: Apache-2.0
// A message that was published: one object, shared by all who have joined.
#ifndef WAXVM_SRC_MESSAGING_TOPIC_MESSAGE_H_
#define WAXVM_SRC_MESSAGING_TOPIC_MESSAGE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/mutex.h"
#include "waxvm/envelope.h"
#include "waxvm/message.h"

namespace waxvm::messaging {

/// Never changes, but for what it was decoded as. Counts its references itself: so many at once, as
/// there are subscribers. Thread safety: any number of threads.
class TopicMessage {
 public:
  using Decode = absl::StatusOr<Message> (*)(std::string_view bytes);

  /// With one reference. Of a local one `object` is what was published, and `envelope` is empty
  /// unless it was sent elsewhere as well.
  TopicMessage(EnvelopeFields fields, Message object, std::string envelope)
      : fields_(std::move(fields)),
        id_(fields_.id()),
        object_(std::move(object)),
        envelope_(std::move(envelope)) {
    // The payload would point into what is not ours.
    if (!object_.empty()) fields_.payload = {};
  }
  /// One from elsewhere; its payload lies in its bytes.
  explicit TopicMessage(Envelope envelope) : opened_(std::move(envelope)) {
    fields_ = opened_->fields();
    id_ = fields_.id();
  }

  void Ref(std::uint32_t count = 1) const {
    references_.fetch_add(count, std::memory_order_relaxed);
  }
  void Unref(std::uint32_t count = 1) const {
    if (references_.fetch_sub(count, std::memory_order_acq_rel) == count) delete this;
  }

  const EnvelopeFields& fields() const { return fields_; }
  const MessageId& id() const { return id_; }
  bool local() const { return !opened_.has_value(); }
  /// What it takes where it waits.
  std::size_t bytes() const { return sizeof *this + fields_.payload.size(); }
  /// Empty where it was never signed.
  const std::string& envelope() const { return opened_ ? opened_->bytes() : envelope_; }

  /// Its storage as an object of the type with `operations`; made once for the first type that
  /// asks.
  absl::StatusOr<void*> ObjectAs(const Message::Operations* operations, Decode decode) const {
    if (object_.operations() == operations) return object_.storage();
    const Decoded* first = decoded_.load(std::memory_order_acquire);
    if (first != nullptr && first->operations == operations) return first->Object();
    return DecodeAs(operations, decode);
  }

 private:
  struct Decoded {
    const Message::Operations* operations;
    mutable absl::StatusOr<Message> message;
    std::unique_ptr<const Decoded> next;
    absl::StatusOr<void*> Object() const {
      if (!message.ok()) return message.status();
      return message->storage();
    }
  };

  ~TopicMessage() = default;
  absl::StatusOr<void*> DecodeAs(const Message::Operations* operations, Decode decode) const;

  EnvelopeFields fields_ = {};
  MessageId id_ = {};
  mutable Message object_ = {};
  std::string envelope_ = {};
  std::optional<Envelope> opened_ = {};
  mutable std::atomic<std::uint32_t> references_ = 1;
  mutable std::atomic<const Decoded*> decoded_ = nullptr;
  mutable Mutex mutex_;
  mutable std::unique_ptr<const Decoded> all_ ABSL_GUARDED_BY(mutex_);
};

/// Owns one reference. Thread safety: none.
class TopicMessageRef {
 public:
  TopicMessageRef() = default;
  /// Takes over a reference that somebody counted.
  explicit TopicMessageRef(const TopicMessage* message) : message_(message) {}
  TopicMessageRef(TopicMessageRef&& other) noexcept
      : message_(std::exchange(other.message_, nullptr)) {}
  TopicMessageRef& operator=(TopicMessageRef&& other) noexcept {
    std::swap(message_, other.message_);
    return *this;
  }
  ~TopicMessageRef() {
    if (message_ != nullptr) message_->Unref();
  }
  const TopicMessage* get() const { return message_; }
  const TopicMessage* operator->() const { return message_; }
  const TopicMessage& operator*() const { return *message_; }
  explicit operator bool() const { return message_ != nullptr; }

 private:
  const TopicMessage* message_ = nullptr;
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_TOPIC_MESSAGE_H_
