// SPDX-License-Identifier: Apache-2.0
// How many requests a peer may have handled.
#ifndef WAXVM_SRC_COAP_ENDPOINT_RATE_LIMITER_H_
#define WAXVM_SRC_COAP_ENDPOINT_RATE_LIMITER_H_

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <unordered_map>

#include "src/coap_endpoint/outgoing_batch.h"

namespace waxvm::coap {

/// A bucket of tokens for each address, whatever its port. Thread safety: none.
class RateLimiter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// `per_second` 0: no limit.
  RateLimiter(double per_second, std::uint32_t burst)
      : per_second_(per_second), burst_(std::max<double>(burst, 1)) {}

  /// 0: the request is let through; otherwise how many seconds the peer is to wait.
  std::uint32_t Check(const SocketAddress& peer, TimePoint now) {
    if (per_second_ <= 0) return 0;
    const SocketAddress key = {.address = peer.address, .port = 0, .zone = peer.zone};
    // Attack: ever new addresses. Those that are full again are as if they had never been there.
    if (buckets_.size() >= kMaxBuckets) Sweep(now);
    if (buckets_.size() >= kMaxBuckets && buckets_.count(key) == 0)
      buckets_.erase(buckets_.begin());
    const auto [at, made] = buckets_.try_emplace(key, Bucket{burst_, now});
    Bucket& bucket = at->second;
    Fill(bucket, now);
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return 0;
    }
    return static_cast<std::uint32_t>(
        std::clamp(std::ceil((1 - bucket.tokens) / per_second_), 1.0, 86400.0));
  }

 private:
  static constexpr std::size_t kMaxBuckets = 8192;
  struct Bucket {
    double tokens;
    TimePoint filled;
  };
  void Fill(Bucket& bucket, TimePoint now) const {
    const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
    bucket.tokens = std::min(burst_, bucket.tokens + std::max(0.0, seconds) * per_second_);
    bucket.filled = now;
  }
  void Sweep(TimePoint now) {
    if (now - swept_ < std::chrono::seconds(1)) return;
    swept_ = now;
    for (auto at = buckets_.begin(); at != buckets_.end();) {
      Fill(at->second, now);
      at = at->second.tokens >= burst_ ? buckets_.erase(at) : std::next(at);
    }
  }

  const double per_second_;
  const double burst_;
  TimePoint swept_{};
  std::unordered_map<SocketAddress, Bucket, SocketAddressHash> buckets_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_RATE_LIMITER_H_
