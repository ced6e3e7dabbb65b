// SPDX-License-Identifier: Apache-2.0
#include "src/coap_endpoint/outgoing_batch.h"

#include <chrono>
#include <cstring>

namespace waxvm::coap {
namespace {

constexpr std::size_t kBytes = 128 << 10;
// While only another thread may send. More than that is as lost on the way.
constexpr std::size_t kMaxBytes = 4 << 20;
// Attack: peers under ever new addresses. Where one is forgotten, the network chooses.
constexpr std::size_t kMaxLocals = 16384;
// For a send buffer that is full. Nobody's timers wait longer.
constexpr std::chrono::milliseconds kSendWait{2};
constexpr int kSendAttempts = 5;

}  // namespace

std::size_t SocketAddressHash::operator()(const SocketAddress& address) const {
  std::uint64_t words[2];
  std::memcpy(words, address.address.bytes.data(), sizeof words);
  std::uint64_t mixed = words[0] * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ (mixed >> 29) ^ words[1]) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 32) ^ address.port ^ (std::uint64_t{address.zone} << 16)) *
          0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

OutgoingBatch::OutgoingBatch(DatagramSocket& socket, std::size_t batch, const LocalSource& source)
    : socket_(socket),
      batch_(batch),
      chooses_local_(socket.local_address().address == Address()),
      bytes_(kBytes),
      source_(source) {
  datagrams_.reserve(batch);
  begins_.reserve(batch);
}

std::span<std::byte> OutgoingBatch::Reserve(const SocketAddress& peer, std::size_t bytes) {
  if (datagrams_.size() >= batch_ || used_ + bytes > bytes_.size()) {
    if (may_send_) {
      status_.Update(Flush());
    } else if (used_ + bytes > bytes_.size()) {
      if (used_ + bytes > kMaxBytes) return {};
      bytes_.resize(std::max(2 * bytes_.size(), used_ + bytes));
    }
  }
  if (used_ + bytes > bytes_.size()) bytes_.resize(used_ + bytes);
  reserved_for_ = peer;
  return {&bytes_[used_], bytes};
}

void OutgoingBatch::Commit(std::size_t bytes) {
  datagrams_.push_back({.peer = reserved_for_, .local = LocalFor(reserved_for_), .bytes = {}});
  // Where they lie is told when they are sent, for the buffer may grow.
  begins_.push_back(used_);
  datagrams_.back().bytes = {static_cast<const std::byte*>(nullptr), bytes};
  used_ += (bytes + 15) / 16 * 16;
  if (used_ > bytes_.size()) used_ = bytes_.size();
}

const SocketAddress& OutgoingBatch::LocalFor(const SocketAddress& peer) {
  static constexpr SocketAddress kAny;
  if (!chooses_local_) return kAny;
  if (route_peer_ != nullptr && *route_peer_ == peer) return *route_local_;
  if (const auto found = locals_.find(peer); found != locals_.end()) return found->second;
  // Once for all that is sent again at one time: this looks at every request.
  if (!is_collected_) source_.CollectLocals(collected_);
  is_collected_ = true;
  const auto found = collected_.find(peer);
  return found == collected_.end() ? kAny : found->second;
}

void OutgoingBatch::Remember(const SocketAddress& peer, const SocketAddress& local) {
  if (!chooses_local_ || local.address == Address() || local.is_multicast()) return;
  const auto found = locals_.find(peer);
  if (found != locals_.end()) {
    found->second = local;
    return;
  }
  if (locals_.size() >= kMaxLocals) locals_.erase(locals_.begin());
  locals_.emplace(peer, local);
}

absl::Status OutgoingBatch::Flush() {
  for (std::size_t i = 0; i < datagrams_.size(); ++i)
    datagrams_[i].bytes = {&bytes_[begins_[i]], datagrams_[i].bytes.size()};
  absl::Status status = std::exchange(status_, absl::OkStatus());
  std::span<const Datagram> left = datagrams_;
  for (int attempt = 1; !left.empty() && status.ok();) {
    const absl::StatusOr<std::size_t> taken = socket_.Send(left);
    if (!taken.ok()) {
      status = taken.status();
    } else if (*taken == left.size()) {
      left = {};
    } else if (*taken == 0 && attempt++ == kSendAttempts) {
      break;
    } else {
      left = left.subspan(*taken);
      status = socket_.Wait(std::chrono::steady_clock::now() + kSendWait, true);
    }
  }
  unsent_ += left.size();
  datagrams_.clear();
  begins_.clear();
  if (is_collected_) collected_.clear();
  is_collected_ = false;
  used_ = 0;
  return status;
}

}  // namespace waxvm::coap
