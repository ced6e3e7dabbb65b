// SPDX-License-Identifier: Apache-2.0
// What a process knows of one topic: its rules, who joined, what was published last.
#ifndef WAXVM_SRC_MESSAGING_TOPIC_STATE_H_
#define WAXVM_SRC_MESSAGING_TOPIC_STATE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/mutex.h"
#include "src/messaging/port.h"
#include "src/messaging/topic_message.h"
#include "waxvm/address.h"
#include "waxvm/advert.h"
#include "waxvm/topic.h"

namespace waxvm::messaging {

/// Thread safety: any number of threads.
class TopicState {
 public:
  explicit TopicState(const PublicKey& topic);

  const PublicKey& key() const { return key_; }
  const Address& group() const { return group_; }

  /// Errors: kInvalidArgument, kFailedPrecondition.
  absl::Status SetAdvert(const Advert& advert);
  /// Whether `publisher` may publish at `now`, in milliseconds. Errors: kPermissionDenied,
  /// kDeadlineExceeded.
  absl::Status CheckPublisher(const PublicKey& publisher, std::uint64_t now) const;

  /// What comes in from elsewhere; it was opened and checked.
  void Spread(TopicMessageRef message);

  struct Local {
    PublicKey publisher = {};
    std::uint64_t now = 0;
    /// Signs; null where it goes nowhere but to engines of this process.
    const Signer* signer = nullptr;
  };
  /// Numbers an object, and gives it to all; `envelope` is what is to be sent elsewhere.
  absl::StatusOr<Published> Publish(const Local& from, Message message,
                                    const PublishOptions& options, std::string& envelope);

  /// The last message, if there is one and it is wanted, is the first to arrive.
  void Join(std::shared_ptr<Port> port, std::uint64_t mark, bool retained);
  void Leave(const Port* port);
  std::size_t subscribers() const;
  absl::StatusOr<std::string> Retained() const;

 private:
  struct Subscriber {
    std::shared_ptr<Port> port;
    std::uint64_t mark;
  };
  struct Sequences {
    std::uint64_t first = 0;
    std::uint64_t next = 0;
  };

  absl::Status CheckRules(const PublicKey& publisher, std::uint64_t now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveToAll(const TopicMessage& message, Published& published)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// Returns what is retained no longer, to be dropped without the lock: what is in it may ask
  /// about this topic when it goes.
  [[nodiscard]] TopicMessageRef Retain(TopicMessageRef message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Sequences& SequencesOf(const Local& from) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const PublicKey key_;
  const Address group_;
  mutable Mutex mutex_;
  TopicBody rules_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t advert_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t expires_ ABSL_GUARDED_BY(mutex_) = 0;  ///< seconds, as an advert has it
  std::vector<Subscriber> subscribers_ ABSL_GUARDED_BY(mutex_);
  std::map<PublicKey, Sequences> publishers_ ABSL_GUARDED_BY(mutex_);  ///< of this process
  std::uint64_t forgotten_ ABSL_GUARDED_BY(mutex_) = 0;  ///< no sequence of theirs is above it
  TopicMessageRef retained_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_TOPIC_STATE_H_
