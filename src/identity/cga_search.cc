// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "src/base/status.h"
#include "src/identity/cga_hash.h"

namespace waxvm::cga {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Modifiers that a thread takes at once: below a millisecond, so that nobody computes for long what
// a lower hit makes useless, and a stop is heard soon.
constexpr std::uint64_t kChunk = 1024;
constexpr std::chrono::milliseconds kProgressEvery{100};
constexpr unsigned kMaxThreads = 256;

/// `modifier` + `offset`, modulo 2^128.
Modifier Add(Modifier modifier, std::uint64_t offset) {
  unsigned carry = 0;
  for (std::size_t i = 0; i < modifier.size(); ++i) {
    std::uint8_t& byte = modifier[modifier.size() - 1 - i];
    carry += byte + (i < 8 ? static_cast<unsigned>(offset >> (8 * i) & 0xff) : 0u);
    byte = static_cast<std::uint8_t>(carry);
    carry >>= 8;
  }
  return modifier;
}

/// Threads take chunks in ascending order. One that hits tells the others, and chunks above the
/// lowest hit are not begun; those below it are searched to their end, so that the lowest hit of
/// all is what remains.
class SharedSearch {
 public:
  SharedSearch(const Sec& sec, std::string_view rest, const GenerateOptions& options)
      : sec_(sec), rest_(rest), options_(options) {}

  /// Takes part until there is nothing left to do. `progress` on the calling thread only.
  void Work(bool reports) {
    std::string input = Hash2Input(options_.modifier, rest_);
    auto reported = SteadyClock::now();
    for (;;) {
      if (options_.stop.stop_requested()) {
        stopped_ = true;
        return;
      }
      const std::uint64_t chunk = next_.fetch_add(kChunk, std::memory_order_relaxed);
      if (chunk >= best_.load(std::memory_order_relaxed)) return;
      TryChunk(input, chunk);
      if (!reports || !options_.progress) continue;
      const auto now = SteadyClock::now();
      if (now - reported < kProgressEvery) continue;
      reported = now;
      options_.progress(chunk + kChunk);
    }
  }

  bool stopped() const { return stopped_; }
  std::uint64_t best() const { return best_; }

 private:
  void TryChunk(std::string& input, std::uint64_t chunk) {
    Modifier modifier = Add(options_.modifier, chunk);
    for (std::uint64_t i = 0; i < kChunk; ++i, Increment(modifier)) {
      std::copy(modifier.begin(), modifier.end(), input.begin());
      if (!HasZeroBits(sec_.hash(input), sec_.zero_bits)) continue;
      std::uint64_t best = best_.load();
      while (chunk + i < best && !best_.compare_exchange_weak(best, chunk + i)) {
      }
      return;
    }
  }

  static void Increment(Modifier& modifier) {
    for (std::size_t i = modifier.size(); i-- > 0 && ++modifier[i] == 0;) {
    }
  }

  const Sec& sec_;
  const std::string_view rest_;
  const GenerateOptions& options_;
  std::atomic<std::uint64_t> next_ = 0;
  std::atomic<std::uint64_t> best_ = std::numeric_limits<std::uint64_t>::max();
  std::atomic<bool> stopped_ = false;
};

/// How many threads are worth starting beside the calling one.
unsigned Helpers(const Sec& sec, const GenerateOptions& options) {
  if (sec.zero_bits == 0) return 0;
  const unsigned wanted =
      options.threads == 0 ? std::thread::hardware_concurrency() : options.threads;
  return std::clamp(wanted, 1u, kMaxThreads) - 1;
}

}  // namespace

absl::StatusOr<Found> Search(const Sec& sec, std::string_view key_and_extensions,
                             const GenerateOptions& options) {
  SharedSearch search(sec, key_and_extensions, options);
  {
    std::vector<std::jthread> helpers;
    try {
      for (unsigned i = Helpers(sec, options); i > 0; --i)
        helpers.emplace_back([&] { search.Work(false); });
    } catch (const std::system_error&) {
      // The host has no more threads: the search takes longer, with the same result.
    }
    search.Work(true);
  }
  if (search.stopped()) return absl::CancelledError("the search for an address was stopped");
  Found found;
  found.modifier = Add(options.modifier, search.best());
  found.hash2 = sec.hash(Hash2Input(found.modifier, key_and_extensions));
  found.tries = search.best() + 1;
  return found;
}

}  // namespace waxvm::cga
