// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/vdso/guest_clock.h"

#include <x86intrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>

namespace waxvm::vmm {
namespace {

using std::chrono::nanoseconds;

constexpr std::int64_t kFirstLineNs = 1'000'000;
constexpr std::int64_t kLineGrowth = 10;
constexpr std::int64_t kLongestLineNs = nanoseconds(GuestClock::kLongestLine).count();
// Of several readings the one that took the least time is the most exact.
constexpr int kReadings = 5;
// Clocks are disciplined by up to 500 parts in a million; what is further off was no measurement.
constexpr double kMaxDeviation = 1e-3;
// How much flatter a line gets that was ahead of the host's clock.
constexpr double kMaxSlowing = 0.5;
// Readings scatter by less. What differs by more is a clock that was set.
constexpr std::int64_t kRealtimeScatterNs = 1000;
constexpr double kScale = 4294967296.0;  // 2^WAXVM_VDSO_SHIFT
static_assert(WAXVM_VDSO_SHIFT == 32);
static_assert(kLongestLineNs < std::int64_t{1} << 31, "cycles times multiplier fits into 64 bits");

}  // namespace

std::uint64_t ReadTsc() {
  _mm_lfence();
  return __rdtsc();
}

GuestClock::GuestClock(std::shared_ptr<ClockSource> host, std::uint64_t tsc_khz,
                       waxvm_vdso_page* page, Tsc tsc, MayShow may_show)
    : host_(std::move(host)),
      nominal_speed_(1e6 / static_cast<double>(tsc_khz)),
      page_(page),
      tsc_(std::move(tsc)),
      may_show_(std::move(may_show)),
      line_ns_(0) {}

nanoseconds GuestClock::MonotonicTime() {
  const MutexLock lock(mutex_);
  return nanoseconds(Monotonic());
}

nanoseconds GuestClock::RealTime() {
  const MutexLock lock(mutex_);
  const std::int64_t monotonic = Monotonic();
  return nanoseconds(monotonic + line_.realtime_offset_ns);
}

std::int64_t GuestClock::Monotonic() {
  std::uint64_t cycles = tsc_() - line_.tsc_base;
  // Another core's counter may be a moment behind that of the one that drew the line.
  if (cycles > std::numeric_limits<std::uint64_t>::max() - line_.tsc_limit) cycles = 0;
  if (line_.valid == 0 || cycles > line_.tsc_limit) {
    DrawLine();
    cycles = 0;
  }
  return waxvm_vdso_monotonic(&line_, cycles);
}

GuestClock::Sample GuestClock::TakeSample() {
  Sample sample;
  auto best_tsc = std::numeric_limits<std::uint64_t>::max();
  auto best_offset = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < kReadings; ++i) {
    const std::uint64_t tsc_before = tsc_();
    const std::int64_t monotonic = host_->MonotonicTime().count();
    const std::uint64_t tsc_after = tsc_();
    const std::int64_t real = host_->RealTime().count();
    const std::int64_t monotonic_after = host_->MonotonicTime().count();
    if (tsc_after - tsc_before < best_tsc) {
      best_tsc = tsc_after - tsc_before;
      sample.tsc = tsc_before + best_tsc / 2;
      sample.monotonic_ns = monotonic;
    }
    if (monotonic_after - monotonic < best_offset) {
      best_offset = monotonic_after - monotonic;
      sample.realtime_offset_ns = real - (monotonic + best_offset / 2);
    }
  }
  return sample;
}

double GuestClock::MeasuredSpeed(const Sample& sample) const {
  const auto elapsed = static_cast<std::int64_t>(sample.tsc - anchor_.tsc);
  if (elapsed <= 0) return nominal_speed_;
  const double speed = static_cast<double>(sample.monotonic_ns - anchor_.monotonic_ns) /
                       static_cast<double>(elapsed);
  return std::abs(speed / nominal_speed_ - 1) <= kMaxDeviation ? speed : nominal_speed_;
}

void GuestClock::DrawLine() {
  const Sample sample = TakeSample();
  double speed = nominal_speed_;
  if (line_.valid == 0) {
    line_ns_ = kFirstLineNs;
    anchor_ = sample;
    line_.monotonic_ns = sample.monotonic_ns;
    line_.realtime_offset_ns = sample.realtime_offset_ns;
  } else {
    speed = MeasuredSpeed(sample);
    line_ns_ = std::min(line_ns_ * kLineGrowth, kLongestLineNs);
    // Measured over too short a time, the speed is worse than over a longer one that ended now.
    if (sample.monotonic_ns - anchor_.monotonic_ns >= kLongestLineNs) anchor_ = sample;
    // The old line has ended, so it can have shown no more than its end.
    const std::int64_t shown = waxvm_vdso_monotonic(&line_, line_.tsc_limit);
    const std::int64_t ahead = shown - sample.monotonic_ns;
    line_.monotonic_ns = std::max(shown, sample.monotonic_ns);
    if (ahead > 0)
      speed *=
          1 - std::min(static_cast<double>(ahead) / static_cast<double>(line_ns_), kMaxSlowing);
    if (std::abs(sample.realtime_offset_ns - line_.realtime_offset_ns) > kRealtimeScatterNs)
      line_.realtime_offset_ns = sample.realtime_offset_ns;
  }
  line_.tsc_base = sample.tsc;
  line_.multiplier = static_cast<std::uint64_t>(speed * kScale);
  line_.tsc_limit = static_cast<std::uint64_t>(static_cast<double>(line_ns_) / speed);
  line_.valid = 1;
  Publish();
}

// A vDSO that was preempted between two of its reads sees the sequence change.
void GuestClock::Publish() {
  const bool shown = may_show_();
  const std::atomic_ref<std::uint32_t> sequence(page_->sequence);
  sequence.store(++line_.sequence, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  // A program that may not see the line must not find its numbers either.
  const waxvm_vdso_page line = shown ? line_ : waxvm_vdso_page{};
  page_->valid = line.valid;
  page_->tsc_base = line.tsc_base;
  page_->tsc_limit = line.tsc_limit;
  page_->multiplier = line.multiplier;
  page_->monotonic_ns = line.monotonic_ns;
  page_->realtime_offset_ns = line.realtime_offset_ns;
  sequence.store(++line_.sequence, std::memory_order_release);
}

}  // namespace waxvm::vmm
