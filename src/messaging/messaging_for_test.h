// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MESSAGING_MESSAGING_FOR_TEST_H_
#define WAXVM_SRC_MESSAGING_MESSAGING_FOR_TEST_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/mutex.h"
#include "waxvm/advert.h"
#include "waxvm/engine.h"

namespace waxvm::messaging {

/// A moment that no clock of a test is compared with. Units: milliseconds.
inline constexpr std::uint64_t kTestTime = 1'800'000'000'000;

/// The key of a number: always the same.
inline SigningKey KeyOf(unsigned number) {
  std::string seed(kKeyBytes, static_cast<char>(number & 0xff));
  seed[31] = static_cast<char>(seed[31] ^ (number >> 8 & 0xff));
  seed[30] = static_cast<char>(seed[30] ^ (number >> 16 & 0xff));
  return *SigningKey::FromSeed(seed);
}
/// Made once for each thread, as secret keys take pages of their own for a moment.
inline PublicKey PublicOf(unsigned number) {
  static thread_local std::map<unsigned, PublicKey> known;
  const auto [at, is_new] = known.try_emplace(number);
  if (is_new) at->second = KeyOf(number).public_key();
  return at->second;
}

inline Address SourceOf(unsigned number) {
  Address address = *Address::Parse("2001:db8::");
  address.bytes[14] = static_cast<std::uint8_t>(number >> 8);
  address.bytes[15] = static_cast<std::uint8_t>(number);
  return address;
}

/// Clocks that stand still until they are told otherwise.
struct TestClock {
  std::atomic<std::uint64_t> now = kTestTime;
  std::atomic<std::uint64_t> steady = 1'000'000;
  void Advance(std::uint64_t milliseconds) {
    now += milliseconds;
    steady += milliseconds;
  }
};

/// Nobody was there before: what was made at the same moment counts.
inline MessageHubOptions HubOptions(TestClock& clock, EngineTransport* transport = nullptr) {
  return {.transport = transport,
          .clock = [&clock] { return clock.now.load(); },
          .steady_clock = [&clock] { return clock.steady.load(); },
          .replay = {.first_start = true}};
}

/// Keeps what is sent until it is told to deliver it to hubs. Thread safety: any number of threads.
class TestTransport final : public EngineTransport {
 public:
  absl::Status Send(const PublicKey&, std::string envelope) override {
    return Keep(std::move(envelope));
  }
  absl::Status Publish(const PublicKey&, const Address&, std::string envelope) override {
    return Keep(std::move(envelope));
  }
  absl::Status Join(const PublicKey& topic, const Address& group) override {
    MutexLock lock(mutex_);
    joined_[topic] = group;
    return join_result;
  }
  void Leave(const PublicKey& topic, const Address&) override {
    MutexLock lock(mutex_);
    joined_.erase(topic);
  }
  std::map<PublicKey, Address> joined() {
    MutexLock lock(mutex_);
    return joined_;
  }
  /// Everything that was sent since it was asked last.
  std::vector<std::string> TakeSent() {
    MutexLock lock(mutex_);
    return std::exchange(sent_, {});
  }
  void DeliverAll(MessageHub& hub, const Address& source = SourceOf(0)) {
    for (std::string& envelope : TakeSent()) (void)hub.Deliver(std::move(envelope), source);
  }

  absl::Status join_result = absl::OkStatus();
  absl::Status send_result = absl::OkStatus();

 private:
  absl::Status Keep(std::string envelope) {
    MutexLock lock(mutex_);
    if (send_result.ok()) sent_.push_back(std::move(envelope));
    return send_result;
  }
  Mutex mutex_;
  std::vector<std::string> sent_ ABSL_GUARDED_BY(mutex_);
  std::map<PublicKey, Address> joined_ ABSL_GUARDED_BY(mutex_);
};

inline Advert TopicAdvert(const SigningKey& topic, std::vector<PublicKey> publishers,
                          std::uint64_t sequence = 1, bool open = false) {
  return *Advert::Make({.sequence = sequence,
                        .created = kTestTime / 1'000,
                        .expires = kTestTime / 1'000 + 86'400,
                        .ttl = 300,
                        .body = TopicBody{.open = open, .publishers = std::move(publishers)}},
                       topic);
}

/// A number, so that it is seen which one came.
struct Number {
  static constexpr MessageType kMessageType = 0xa001;
  std::uint64_t value = 0;
  absl::StatusOr<std::string> Encode() const { return std::to_string(value); }
  static absl::StatusOr<Number> Decode(std::string_view bytes) {
    if (bytes.empty() || bytes.size() > 20 ||
        bytes.find_first_not_of("0123456789") != std::string_view::npos)
      return absl::InvalidArgumentError("this is no number");
    return Number{std::stoull(std::string(bytes))};
  }
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_MESSAGING_FOR_TEST_H_
