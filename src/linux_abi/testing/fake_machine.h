// SPDX-License-Identifier: Apache-2.0
// A machine for tests and fuzzers of the Linux personality: pages in a map, a host that collects
// what is written, and a gate that remembers what was refused. No virtual machine, no kernel.
#ifndef WAXVM_SRC_LINUX_ABI_TESTING_FAKE_MACHINE_H_
#define WAXVM_SRC_LINUX_ABI_TESTING_FAKE_MACHINE_H_

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "src/base/checked.h"
#include "src/base/memory_account.h"
#include "src/linux_abi/host.h"
#include "waxvm/access.h"
#include "waxvm/grant.h"

namespace waxvm::linux_abi {

/// A PageMapper over a map of pages. Each page is charged to the account, as frames are.
class FakePages final : public PageMapper {
 public:
  explicit FakePages(MemoryAccount& account) : account_(account) {}
  ~FakePages() override {
    for (const auto& [address, page] : pages_)
      if (!page.shared) account_.Release(kPageBytes);
    account_.Release(shared_.size() * kPageBytes);
  }
  FakePages(const FakePages&) = delete;
  FakePages& operator=(const FakePages&) = delete;

  bool Populate(std::uint64_t address, std::uint64_t bytes, PageRights rights) override {
    for (std::uint64_t at = address; at < address + bytes; at += kPageBytes) {
      if (pages_.contains(at)) continue;
      if (!account_.Charge(kPageBytes)) return false;
      pages_.emplace(at, Page{std::make_shared<Frame>(), rights});
    }
    return true;
  }
  void Protect(std::uint64_t address, std::uint64_t bytes, PageRights rights) override {
    for (auto page = pages_.lower_bound(address);
         page != pages_.end() && page->first < address + bytes; ++page) {
      page->second.rights = rights;
    }
  }
  void Unmap(std::uint64_t address, std::uint64_t bytes) override {
    auto page = pages_.lower_bound(address);
    while (page != pages_.end() && page->first < address + bytes) {
      if (!page->second.shared) account_.Release(kPageBytes);
      page = pages_.erase(page);
    }
  }
  bool Move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) override {
    for (std::uint64_t offset = 0; offset < bytes; offset += kPageBytes) {
      auto page = pages_.extract(from + offset);
      if (page.empty()) continue;
      page.key() = to + offset;
      pages_.insert(std::move(page));
    }
    return true;
  }
  bool IsPresent(std::uint64_t address) const override {
    return pages_.contains(PageFloor(address));
  }
  std::size_t CopyFrom(std::uint64_t address, std::span<std::byte> to) const override {
    return ForEachPiece(address, to.size(), [&](std::byte* page, std::size_t done, std::size_t n) {
      std::memcpy(to.data() + done, page, n);
    });
  }
  std::size_t CopyTo(std::uint64_t address, std::span<const std::byte> from) override {
    return ForEachPiece(address, from.size(),
                        [&](std::byte* page, std::size_t done, std::size_t n) {
                          std::memcpy(page, from.data() + done, n);
                        });
  }
  std::int64_t Fill(std::uint64_t address, std::uint64_t bytes, PageRights rights,
                    PageReader read) override {
    if (!Populate(address, bytes, rights)) return -ENOMEM;
    std::int64_t error = 0;
    std::uint64_t filled = 0;
    ForEachPiece(address, bytes, [&](std::byte* page, std::size_t done, std::size_t n) {
      while (error >= 0 && filled >= done && filled < done + n) {
        const std::int64_t got = read({page + (filled - done), done + n - filled}, filled);
        if (got <= 0) {
          error = got;
          return;
        }
        filled += static_cast<std::uint64_t>(got);
      }
    });
    return error < 0 ? error : static_cast<std::int64_t>(filled);
  }
  std::optional<SharedFrame> NewSharedFrame() override {
    if (!account_.Charge(kPageBytes)) return std::nullopt;
    shared_.emplace(++last_shared_, std::make_shared<Frame>());
    return last_shared_;
  }
  void FreeSharedFrame(SharedFrame frame) override {
    shared_.erase(frame);
    account_.Release(kPageBytes);
  }
  bool MapShared(std::uint64_t address, SharedFrame frame, PageRights rights) override {
    pages_.insert_or_assign(address, Page{shared_.at(frame), rights, /*shared=*/true});
    return true;
  }
  void ReadShared(SharedFrame frame, std::span<std::byte> to) const override {
    std::memcpy(to.data(), shared_.at(frame)->data(), to.size());
  }
  void WriteShared(SharedFrame frame, std::span<const std::byte> from) override {
    std::memcpy(shared_.at(frame)->data(), from.data(), from.size());
  }
  std::uint64_t ReclaimUntouched() override { return 0; }
  std::uint64_t FreeBytes() const override { return account_.free_bytes(); }

  /// The rights of a present page, for assertions.
  std::optional<PageRights> RightsAt(std::uint64_t address) const {
    const auto page = pages_.find(PageFloor(address));
    if (page == pages_.end()) return std::nullopt;
    return page->second.rights;
  }
  std::size_t page_count() const { return pages_.size(); }
  std::size_t shared_frame_count() const { return shared_.size(); }

 private:
  using Frame = std::array<std::byte, kPageBytes>;
  struct Page {
    std::shared_ptr<Frame> frame;
    PageRights rights;
    bool shared = false;
  };

  template <typename Copy>
  std::size_t ForEachPiece(std::uint64_t address, std::size_t bytes, Copy copy) const {
    std::size_t done = 0;
    while (done < bytes) {
      const std::uint64_t at = address + done;
      const auto page = pages_.find(PageFloor(at));
      if (page == pages_.end()) break;
      const std::size_t offset = at - PageFloor(at);
      const std::size_t n = std::min<std::size_t>(bytes - done, kPageBytes - offset);
      copy(page->second.frame->data() + offset, done, n);
      done += n;
    }
    return done;
  }

  MemoryAccount& account_;
  std::map<std::uint64_t, Page> pages_;
  std::map<SharedFrame, std::shared_ptr<Frame>> shared_;
  SharedFrame last_shared_ = 0;
};

/// A Host that keeps what was written and really polls host descriptors. It never sleeps: a wait
/// on nothing reports the timeout at once, or, without one, the end of the run.
class FakeHost final : public Host {
 public:
  OutputResult WriteOutput(Stream stream, std::string_view data) override {
    if (fail_output) return OutputResult::kFailed;
    const std::size_t written = output.size() + error_output.size();
    const std::size_t room = output_limit - std::min(output_limit, written);
    (stream == Stream::kOutput ? output : error_output).append(data.substr(0, room));
    return data.size() > room ? OutputResult::kLimit : OutputResult::kOk;
  }
  int Wait(std::span<pollfd> descriptors,
           std::optional<std::chrono::nanoseconds> timeout) override {
    ++waits;
    if (timeout) waited += std::min(*timeout, std::chrono::nanoseconds::max() - waited);
    if (stopped || waits > max_waits) return -EINTR;
    const int ready = ::poll(descriptors.data(), descriptors.size(), 0);
    if (ready > 0) return ready;
    if (!timeout) return -EINTR;
    now += std::min(*timeout, std::chrono::nanoseconds::max() - now);
    return 0;
  }
  CpuRegisters Registers() override { return registers; }
  void SetRegisters(const CpuRegisters& values) override { registers = values; }
  void SaveExtended(ExtendedState& state) override {
    state = extended;
    // Not for ever, so that who waits for time not to pass ends all the same.
    if (++saves <= 1000) now += save_takes;
  }
  bool LoadExtended(const ExtendedState& state) override {
    extended = state;
    return true;
  }
  std::uint64_t ExtendedFeatures() override { return 3; }
  std::size_t ExtendedBytes() override { return 576; }
  bool AtUserMode() override { return at_user_mode; }
  std::chrono::nanoseconds Now() override { return now; }
  void InterruptAt(std::optional<std::chrono::nanoseconds> when) override { interrupt_at = when; }
  void SetThreadId(std::int32_t id) override { thread_id = id; }
  std::chrono::nanoseconds CpuTime() override { return cpu_time; }

  std::string output;
  std::string error_output;
  std::size_t output_limit = std::size_t{1} << 24;
  bool fail_output = false;
  bool stopped = false;
  int waits = 0;
  int max_waits = 100'000;  ///< then the run is over: a timer that nobody handles goes on for ever
  int saves = 0;
  std::chrono::nanoseconds save_takes{0};  ///< how far SaveExtended moves the clock
  std::chrono::nanoseconds waited{0};
  std::chrono::nanoseconds cpu_time{0};
  std::chrono::nanoseconds now{1'000'000'000};
  std::optional<std::chrono::nanoseconds> interrupt_at;
  CpuRegisters registers;
  ExtendedState extended;
  bool at_user_mode = true;
  std::int32_t thread_id = 0;
};

/// A gate that allows everything but what `refuse` names, and keeps every denial.
class FakeGate final : public AccessGate {
 public:
  struct Denied {
    Resource resource;
    std::string name;
    bool write;
    bool operator==(const Denied&) const = default;
  };

  absl::Status Check(const Access& access) override {
    checked.push_back({access.resource, std::string(access.name), access.write});
    if (!refuse || !refuse(access)) return absl::OkStatus();
    RecordDenial(access);
    return absl::PermissionDeniedError("refused by the test");
  }
  void RecordDenial(const Access& access) override {
    denied.push_back({access.resource, std::string(access.name), access.write});
  }
  bool HasDenied(Resource resource, std::string_view name) const {
    return std::any_of(denied.begin(), denied.end(),
                       [&](const Denied& d) { return d.resource == resource && d.name == name; });
  }

  std::function<bool(const Access&)> refuse;
  std::vector<Denied> checked;
  std::vector<Denied> denied;
};

/// Bytes 0, 1, 2 … instead of randomness.
class FakeRandom final : public RandomSource {
 public:
  void Fill(std::span<std::byte> buffer) override {
    for (std::byte& byte : buffer) byte = static_cast<std::byte>(next_++);
  }

 private:
  unsigned char next_ = 0;
};

/// A clock that stands still until it is moved.
class FakeClock final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override { return now; }
  std::chrono::nanoseconds MonotonicTime() override { return now; }

  std::chrono::nanoseconds now = std::chrono::seconds(1'700'000'000);
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_TESTING_FAKE_MACHINE_H_
