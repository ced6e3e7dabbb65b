// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/naming/author_book.h"
#include "src/naming/slot_rules.h"
#include "waxvm/directory.h"

namespace waxvm {
namespace {

using naming::Held;
using naming::Verdict;

class MemoryDirectory final : public Directory {
 public:
  explicit MemoryDirectory(const DirectoryOptions& options)
      : max_slots_(std::max<std::size_t>(options.max_adverts, 1)) {}

  std::vector<absl::Status> Put(std::span<const Advert> adverts) override {
    const MutexLock lock(mutex_);
    std::vector<absl::Status> results;
    results.reserve(adverts.size());
    for (const Advert& advert : adverts) results.push_back(PutOne(advert));
    return results;
  }

  absl::StatusOr<Advert> Get(const AdvertSlot& slot, std::uint64_t now) override {
    const MutexLock lock(mutex_);
    if (slot.type != AdvertType::kRevocation && book_.IsRevoked(slot.author))
      return naming::RevokedStatus(slot.author);
    const auto found = slots_.find(slot);
    if (found == slots_.end()) return absl::NotFoundError("no advert of this slot is known");
    book_.SetUsed(slot.author);
    const Entry& entry = found->second;
    if (entry.quarantined || entry.advert.fields().expires <= now)
      return naming::Serve(entry.held(), now);
    return entry.advert;
  }

  absl::StatusOr<Advert> FindByAddress(const Address& address, std::uint64_t now) override {
    AdvertSlot slot;
    {
      const MutexLock lock(mutex_);
      // A vm comes before a host of the same key.
      const auto found = by_address_.lower_bound({address, AdvertSlot{.type = AdvertType{0}}});
      if (found == by_address_.end() || found->first != address)
        return absl::NotFoundError("no advert of this address is known");
      slot = found->second;
    }
    return Get(slot, now);
  }

  std::vector<Equivocation> Equivocations() override {
    const MutexLock lock(mutex_);
    return {equivocations_.begin(), equivocations_.end()};
  }

  std::uint64_t Version() override {
    const MutexLock lock(mutex_);
    return version_;
  }

  DirectoryStats Stats() override {
    const MutexLock lock(mutex_);
    return {.adverts = slots_.size(), .authors = book_.authors(), .evicted = evicted_};
  }

 private:
  struct Entry {
    Advert advert;
    std::uint64_t stored;  ///< in this order
    bool quarantined = false;
    Held held() const { return {.bytes = advert.bytes(), .quarantined = quarantined}; }
  };
  using Slots = std::map<AdvertSlot, Entry>;

  absl::Status PutOne(const Advert& advert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    AdvertSlot slot = advert.slot();
    const bool revokes = slot.type == AdvertType::kRevocation;
    if (!revokes && book_.IsRevoked(slot.author)) return naming::RevokedStatus(slot.author);
    const auto found = slots_.find(slot);
    if (found != slots_.end()) return PutAgain(found->second, advert);
    ++version_;
    const PublicKey author = slot.author;
    Index(slot, advert);
    slots_.emplace(std::move(slot), Entry{.advert = advert, .stored = ++stored_});
    book_.Add(author);
    if (revokes) Revoke(author);
    while (slots_.size() > max_slots_) Evict();
    return absl::OkStatus();
  }

  absl::Status PutAgain(Entry& entry, const Advert& advert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Verdict verdict = naming::Judge(entry.held(), advert);
    if (verdict == Verdict::kNewer) {
      Unindex(advert.slot(), entry.advert);
      Index(advert.slot(), advert);
      entry = {.advert = advert, .stored = ++stored_};
      ++version_;
    }
    if (verdict == Verdict::kEquivocation) {
      equivocations_.push_back(naming::Report(entry.held(), advert));
      if (equivocations_.size() > naming::kMaxEquivocations) equivocations_.pop_front();
      entry.quarantined = true;
      ++version_;
    }
    return naming::ToStatus(verdict, advert);
  }

  void Index(const AdvertSlot& slot, const Advert& advert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (const Address* address = naming::ClaimedAddress(advert))
      by_address_.emplace(*address, slot);
  }
  void Unindex(const AdvertSlot& slot, const Advert& advert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (const Address* address = naming::ClaimedAddress(advert))
      by_address_.erase({*address, slot});
  }

  Slots::iterator FirstOf(const PublicKey& author) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return slots_.lower_bound({.author = author, .type = AdvertType{0}, .label = ""});
  }

  /// Nothing else of this author will be asked for.
  void Revoke(const PublicKey& author) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto at = FirstOf(author); at != slots_.end() && at->first.author == author;) {
      if (at->first.type == AdvertType::kRevocation) {
        ++at;
        continue;
      }
      Unindex(at->first, at->second.advert);
      at = slots_.erase(at);
      book_.Remove(author);
    }
    book_.SetRevoked(author);
  }

  void Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto author = book_.Largest(book_.revoked() > max_slots_ / 2);
    if (!author) return;
    std::vector<Slots::iterator> theirs;
    for (auto at = FirstOf(*author); at != slots_.end() && at->first.author == *author; ++at)
      theirs.push_back(at);
    std::sort(theirs.begin(), theirs.end(),
              [](auto a, auto b) { return a->second.stored < b->second.stored; });
    theirs.resize(std::min(theirs.size(), naming::EvictionBatch(theirs.size())));
    for (const auto at : theirs) {
      Unindex(at->first, at->second.advert);
      slots_.erase(at);
      book_.Remove(*author);
      ++evicted_;
    }
  }

  const std::size_t max_slots_;
  Mutex mutex_;
  Slots slots_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<Address, AdvertSlot>> by_address_ ABSL_GUARDED_BY(mutex_);
  naming::AuthorBook book_ ABSL_GUARDED_BY(mutex_);
  std::deque<Equivocation> equivocations_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t stored_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t evicted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::unique_ptr<Directory> NewMemoryDirectory(const DirectoryOptions& options) {
  return std::make_unique<MemoryDirectory>(options);
}

}  // namespace waxvm
