// SPDX-License-Identifier: Apache-2.0
#include "waxvm/replay_guard.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "src/base/byte_archive.h"
#include "src/base/crc32c.h"
#include "src/base/fork_guard.h"
#include "src/base/status.h"
#include "src/identity/sodium_ready.h"
#include "src/messaging/replay_window.h"

namespace waxvm {
namespace {

using messaging::ReplayWindow;

static_assert(ReplayWindow::kBits == ReplayGuard::kReplayWindow);

constexpr std::size_t kFloors = 16'384;
// How far ahead whoever has others forgotten may be. Units: milliseconds.
constexpr std::uint64_t kFlooderSkew = 1'000;
/// The version is its last digit: docs/formats/replay.md.
constexpr std::array<char, 16> kMagic = {'w', 'a', 'x', 'v', 'm', '-', 'r', 'e',
                                         'p', 'l', 'a', 'y', '-', 'v', '1', '\0'};
// A state with more is none: whoever wrote it would have us take any amount of memory.
constexpr std::size_t kMaxStateBytes = std::size_t{256} << 20;

/// Who sends to whom.
struct Channel {
  PublicKey sender = {};
  PublicKey destination = {};
  auto operator<=>(const Channel&) const = default;
};

struct Window {
  ReplayWindow seen = {};
  std::uint64_t last_created = 0;  ///< the latest time of a message in it
  Address source = {};
  std::list<Channel>::iterator place = {};
};

struct Source {
  std::list<Channel> channels = {};  ///< least recently used first
  std::list<Address>::iterator place = {};
};

/// What is written of one window.
struct Record {
  PublicKey sender = {};
  PublicKey destination = {};
  Address source = {};
  std::uint64_t last_created = 0;
  ReplayWindow seen = {};
};
template <class Archive>
void Transfer(Archive& archive, Record& record) {
  archive(record.sender.bytes, record.destination.bytes, record.source.bytes, record.last_created,
          record.seen);
}

/// What a guard leaves behind.
struct State {
  std::array<char, 16> magic = kMagic;
  /// Messages that were created until then may have come and not be in it.
  std::uint64_t covers = 0;
  std::array<std::uint8_t, crypto_shorthash_KEYBYTES> hash_key = {};
  std::vector<std::uint64_t> floors = {};  ///< none or kFloors
  std::vector<Record> windows = {};        ///< of each source the one least recently used first
};
template <class Archive>
void Transfer(Archive& archive, State& state) {
  archive(state.magic, state.covers, state.hash_key, state.floors, state.windows);
}
// A change of what is in a record changes the version.
static_assert(sizeof(ReplayWindow) == 16 + 128 && sizeof(PublicKey) == 32 && sizeof(Address) == 16);

class Guard final : public ReplayGuard {
 public:
  explicit Guard(const ReplayOptions& options) : options_(options) {
    options_.max_windows = std::max<std::size_t>(options_.max_windows, 1);
    randombytes_buf(hash_key_.data(), hash_key_.size());
  }
  ~Guard() override { (void)Save(); }

  absl::Status Start(std::uint64_t now) {
    if (options_.store == nullptr) {
      if (!options_.first_start) floor_ = Later(now, options_.start_margin);
      return absl::OkStatus();
    }
    WAXVM_ASSIGN_OR_RETURN(const std::string state, options_.store->Load());
    if (state.empty()) {
      if (!options_.first_start) floor_ = Later(now, options_.start_margin);
    } else {
      WAXVM_RETURN_IF_ERROR(Read(state));
    }
    return Cover(now);
  }

  absl::Status Accept(const EnvelopeFields& fields, const Address& source,
                      std::uint64_t now) override {
    if (options_.store != nullptr) WAXVM_RETURN_IF_ERROR(CheckProcess());
    const Channel channel = {fields.sender, fields.destination};
    const auto at = windows_.find(channel);
    if (const absl::Status status = Look(channel, at, fields); !status.ok()) {
      ++stats_.replays;
      return status;
    }
    if (fields.created > Later(now, kFlooderSkew) &&
        CrowdsOthersOut(at != windows_.end() ? at->second.source : source)) {
      ++stats_.replays;
      return absl::AbortedError("there is no room to remember a message from the future");
    }
    // On disk before it counts: after a crash nobody knows what was accepted since.
    if (options_.store != nullptr && std::max(fields.created, now) > covers_)
      WAXVM_RETURN_IF_ERROR(Cover(std::max(fields.created, now)));
    Window& window = at != windows_.end() ? at->second : Add(channel, source);
    window.seen.Set(fields.sequence);
    window.last_created = std::max(window.last_created, fields.created);
    Use(window);
    ++stats_.accepted;
    return absl::OkStatus();
  }

  absl::Status Save() override {
    if (options_.store == nullptr) return absl::OkStatus();
    WAXVM_RETURN_IF_ERROR(Write(/*covers=*/0));
    // What is heard after this is not in it, and has to be covered anew.
    covers_ = 0;
    return absl::OkStatus();
  }

  ReplayStats stats() const override {
    ReplayStats stats = stats_;
    stats.windows = windows_.size();
    return stats;
  }

 private:
  static std::uint64_t Later(std::uint64_t time, std::uint64_t by) {
    return time > UINT64_MAX - by ? UINT64_MAX : time + by;
  }

  using Windows = std::map<Channel, Window>;  // not hashed: keys are chosen by strangers

  absl::Status Look(const Channel& channel, Windows::const_iterator at,
                    const EnvelopeFields& fields) {
    // Before a start that knows nothing, or in the time that a crash made uncertain.
    if (fields.created <= floor_)
      return absl::AbortedError("the message is older than what is remembered");
    if (at == windows_.end()) {
      if (!floors_.empty() && fields.created <= FloorOf(channel))
        return absl::AbortedError("its sender was forgotten since this message was made");
      return absl::OkStatus();
    }
    switch (at->second.seen.Look(fields.sequence)) {
      case ReplayWindow::Verdict::kNew:
        return absl::OkStatus();
      case ReplayWindow::Verdict::kSeen:
        return absl::AlreadyExistsError(
            absl::StrFormat("the message %d of this sender came before", fields.sequence));
      case ReplayWindow::Verdict::kTooOld:
        break;
    }
    return absl::AbortedError(absl::StrFormat(
        "the message %d of this sender is more than %d behind", fields.sequence, kReplayWindow));
  }

  /// Attack: a source has its own windows given up by the thousand, each of them with the latest
  /// time that is believed. All entries of the table would be ahead of the clock before long, and
  /// nobody without a window be heard. So it is where there is no room, and for the source that
  /// has most.
  bool CrowdsOthersOut(const Address& source) const {
    if (windows_.size() < options_.max_windows) return false;
    const auto at = sources_.find(source);
    const std::size_t count = at == sources_.end() ? 0 : at->second.channels.size();
    return count > 1 && count == by_size_.rbegin()->first;
  }

  Window& Add(const Channel& channel, const Address& source) {
    const auto [at, is_new] = sources_.try_emplace(source);
    if (is_new) {
      std::list<Address>& line = by_size_[0];
      at->second.place = line.insert(line.end(), source);
    }
    std::list<Channel>& channels = at->second.channels;
    channels.push_back(channel);
    Move(at->second, channels.size() - 1, channels.size());
    Window& window = windows_[channel];
    window.source = source;
    window.place = std::prev(channels.end());
    // Whoever has just come counts with what it has now: one more than others that had as many.
    if (windows_.size() > options_.max_windows) Evict();
    return window;
  }

  void Use(const Window& window) {
    Source& source = sources_.at(window.source);
    source.channels.splice(source.channels.end(), source.channels, window.place);
    Move(source, source.channels.size(), source.channels.size());
  }

  /// From one line to the end of another one, or of the same.
  void Move(Source& source, std::size_t from, std::size_t to) {
    std::list<Address>& line = by_size_.at(from);
    std::list<Address>& end = by_size_[to];
    end.splice(end.end(), line, source.place);
    if (line.empty()) by_size_.erase(from);
  }

  /// The source with the most windows loses the one it used least recently; among several, it is
  /// the source that was silent for longest. It is never the one that was added last, unless that
  /// has others as well.
  void Evict() {
    const Address address = by_size_.rbegin()->second.front();
    const auto source = sources_.find(address);
    std::list<Channel>& channels = source->second.channels;
    const auto at = windows_.find(channels.front());
    if (floors_.empty()) floors_.resize(kFloors);
    std::uint64_t& floor = FloorOf(at->first);
    floor = std::max(floor, at->second.last_created);
    windows_.erase(at);
    channels.pop_front();
    Move(source->second, channels.size() + 1, channels.size());
    if (channels.empty()) {
      by_size_.erase(0);
      sources_.erase(source);
    }
    ++stats_.evicted;
  }

  std::uint64_t& FloorOf(const Channel& channel) {
    static_assert(sizeof(Channel) == 2 * kKeyBytes);
    std::uint64_t hash = 0;
    static_assert(sizeof hash == crypto_shorthash_BYTES);
    crypto_shorthash(reinterpret_cast<unsigned char*>(&hash),
                     reinterpret_cast<const unsigned char*>(&channel), sizeof channel,
                     hash_key_.data());
    return floors_[hash % kFloors];
  }

  absl::Status Cover(std::uint64_t time) {
    const std::uint64_t covers = Later(time, options_.save_every);
    if (const absl::Status status = Write(covers); !status.ok())
      return Unavailable("what was heard cannot be written down: %s",
                         std::string_view(status.message().data(), status.message().size()));
    covers_ = covers;
    return absl::OkStatus();
  }

  /// A forked child and its parent would overwrite what the other one heard.
  absl::Status CheckProcess() const {
    if (!fork_guard_.InChild()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "the guard was made before a fork; its store is another's");
  }

  absl::Status Write(std::uint64_t covers) {
    WAXVM_RETURN_IF_ERROR(CheckProcess());
    State state = {.covers = covers, .hash_key = hash_key_, .floors = floors_};
    // An earlier uncertainty does not end with an orderly end.
    state.covers = std::max(covers, floor_);
    for (const auto& [address, source] : sources_)
      for (const Channel& channel : source.channels) {
        const Window& window = windows_.at(channel);
        state.windows.push_back(
            {channel.sender, channel.destination, address, window.last_created, window.seen});
      }
    ByteWriter writer;
    Transfer(writer, state);
    std::vector<std::byte> bytes = writer.Take();
    const std::uint32_t checksum = Crc32c(bytes);
    ByteWriter end;
    end(checksum);
    const std::vector<std::byte> tail = end.Take();
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    return options_.store->Save({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  absl::Status Read(const std::string& bytes) {
    const auto lost = [](std::string_view what) {
      return absl::DataLossError(absl::StrFormat("what was heard before cannot be read: %s", what));
    };
    if (bytes.size() < sizeof(std::uint32_t) || bytes.size() > kMaxStateBytes)
      return lost("its size");
    const auto all = std::as_bytes(std::span(bytes));
    const auto body = all.first(all.size() - sizeof(std::uint32_t));
    std::uint32_t checksum = 0;
    ByteReader(all.subspan(body.size()))(checksum);
    if (checksum != Crc32c(body)) return lost("its checksum");
    State state;
    ByteReader reader(body);
    Transfer(reader, state);
    if (!reader.ok() || !reader.at_end() || state.magic != kMagic) return lost("its form");
    if (!state.floors.empty() && state.floors.size() != kFloors) return lost("its table of times");
    floor_ = state.covers;
    hash_key_ = state.hash_key;
    floors_ = std::move(state.floors);
    for (Record& record : state.windows) {
      const Channel channel = {record.sender, record.destination};
      if (windows_.contains(channel)) return lost("a sender is in it twice");
      Window& window = Add(channel, record.source);
      window.seen = record.seen;
      window.last_created = record.last_created;
    }
    stats_ = {};
    return absl::OkStatus();
  }

  ReplayOptions options_;
  const ForkGuard fork_guard_;
  Windows windows_;
  std::map<Address, Source> sources_;
  std::map<std::size_t, std::list<Address>> by_size_;  ///< sources; least recently used first
  std::vector<std::uint64_t> floors_;                  ///< empty until a window was given up
  std::array<std::uint8_t, crypto_shorthash_KEYBYTES> hash_key_;
  std::uint64_t floor_ = 0;   ///< nothing that is older is believed, whoever sent it
  std::uint64_t covers_ = 0;  ///< what the store says of us
  ReplayStats stats_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ReplayGuard>> ReplayGuard::Create(std::uint64_t now,
                                                                 const ReplayOptions& options) {
  WAXVM_RETURN_IF_ERROR(identity::SodiumReady());
  auto guard = std::make_unique<Guard>(options);
  WAXVM_RETURN_IF_ERROR(guard->Start(now));
  return guard;
}

}  // namespace waxvm
