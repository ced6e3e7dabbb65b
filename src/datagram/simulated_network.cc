// SPDX-License-Identifier: Apache-2.0
#include "waxvm/simulated_network.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <queue>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm {
namespace {

using TimePoint = SimulatedNetwork::TimePoint;
using std::chrono::nanoseconds;

constexpr std::size_t kMaxErrors = 256;
constexpr std::uint16_t kFirstPort = 49152;

absl::Status Check(const NetworkConditions& conditions) {
  for (const double chance : {conditions.loss, conditions.duplication, conditions.reordering})
    if (!(chance >= 0 && chance <= 1))
      return InvalidArgument("a probability is %f, and must be from 0 to 1", chance);
  if (conditions.min_delay < nanoseconds::zero() || conditions.max_delay < conditions.min_delay ||
      conditions.reordering_delay < nanoseconds::zero())
    return InvalidArgument("a delay is less than it may be");
  return absl::OkStatus();
}

/// A datagram that owns its bytes.
struct Parcel {
  SocketAddress from;
  SocketAddress to;
  std::vector<std::byte> bytes;
};

struct Arrival {
  TimePoint at;
  std::uint64_t order;  ///< of those of one moment, the first that was sent is the first
  std::shared_ptr<const Parcel> parcel;
  bool operator>(const Arrival& other) const {
    return std::pair(at, order) > std::pair(other.at, other.order);
  }
};

}  // namespace

class SimulatedPort;

class SimulatedNetwork::State {
 public:
  explicit State(const SimulatedNetworkOptions& given)
      : options(given), conditions(given.conditions), now(given.start), random_(given.seed) {}

  void Send(const SocketAddress& from, const Datagram& datagram);
  void AdvanceTo(TimePoint time);

  const SimulatedNetworkOptions options;
  NetworkConditions conditions;
  TimePoint now;
  std::map<SocketAddress, SimulatedPort*> ports;
  std::set<std::pair<Address, Address>> parted;
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> arrivals;
  SimulatedNetwork::Stats stats;

 private:
  bool Happens(double chance) {
    // Drawn every time, so that one chance does not change what others come to.
    const double drawn = static_cast<double>(random_() >> 11) * 0x1.0p-53;
    return drawn < chance;
  }
  nanoseconds Between(nanoseconds least, nanoseconds most) {
    const auto range = static_cast<std::uint64_t>((most - least).count()) + 1;
    return least + nanoseconds(static_cast<std::int64_t>(random_() % range));
  }
  void Carry(std::shared_ptr<const Parcel> parcel);
  void Deliver(const std::shared_ptr<const Parcel>& parcel);

  std::mt19937_64 random_;
  std::uint64_t order_ = 0;
};

class SimulatedPort final : public DatagramSocket {
 public:
  SimulatedPort(std::shared_ptr<SimulatedNetwork::State> network, const SocketAddress& address,
                UniqueFd wake)
      : network_(std::move(network)), address_(address), wake_(std::move(wake)) {
    network_->ports[address_] = this;
  }
  ~SimulatedPort() override { network_->ports.erase(address_); }

  absl::StatusOr<std::span<const Datagram>> Receive(std::size_t most) override {
    ++counts_.receive_calls;
    taken_.clear();
    handed_.clear();
    for (; handed_.size() < most && !waiting_.empty(); waiting_.pop_front()) {
      taken_.push_back(std::move(waiting_.front()));
      const Parcel& parcel = *taken_.back();
      handed_.push_back({.peer = parcel.from, .local = parcel.to, .bytes = parcel.bytes});
    }
    counts_.received += handed_.size();
    SetReadable();
    return std::span<const Datagram>(handed_);
  }
  absl::StatusOr<std::size_t> Send(std::span<const Datagram> datagrams) override {
    ++counts_.send_calls;
    for (const Datagram& datagram : datagrams) {
      if (datagram.bytes.size() > network_->conditions.max_datagram_bytes) {
        AddError(
            {datagram.peer, absl::OutOfRangeError("not sent: longer than the network carries")});
        continue;
      }
      ++counts_.sent;
      network_->Send(address_, datagram);
    }
    return datagrams.size();
  }
  std::size_t TakeErrors(std::span<DatagramError> errors) override {
    const std::size_t count = std::min(errors.size(), errors_.size());
    std::move(errors_.begin(), errors_.begin() + static_cast<std::ptrdiff_t>(count),
              errors.begin());
    errors_.erase(errors_.begin(), errors_.begin() + static_cast<std::ptrdiff_t>(count));
    SetReadable();
    return count;
  }
  absl::Status Wait(TimePoint, bool) override {
    ++counts_.wait_calls;
    return absl::OkStatus();
  }
  void Wake() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
  }
  int descriptor() const override { return wake_.get(); }
  SocketAddress local_address() const override { return address_; }
  absl::Status Join(const Address& group, std::uint32_t) override {
    if (group.bytes[0] != 0xff) return InvalidArgument("%s is no multicast group", group.ToText());
    if (!groups_.insert(group).second)
      return absl::AlreadyExistsError("the group is joined already");
    return absl::OkStatus();
  }
  absl::Status Leave(const Address& group, std::uint32_t) override {
    if (groups_.erase(group) == 0) return absl::NotFoundError("the group was not joined");
    return absl::OkStatus();
  }
  DatagramStats stats() const override { return counts_; }

  bool HasJoined(const Address& group) const { return groups_.count(group) != 0; }
  /// False: there is no room.
  bool Put(std::shared_ptr<const Parcel> parcel) {
    if (waiting_.size() >= network_->options.port_capacity) {
      ++counts_.overflows;
      return false;
    }
    waiting_.push_back(std::move(parcel));
    Wake();
    return true;
  }
  void AddError(DatagramError error) {
    ++counts_.unsent;
    if (errors_.size() == kMaxErrors) errors_.pop_front();
    errors_.push_back(std::move(error));
    Wake();
  }

 private:
  /// The descriptor is readable as long as there is something.
  void SetReadable() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = read(wake_.get(), &count, sizeof count);
    if (!waiting_.empty() || !errors_.empty()) Wake();
  }

  std::shared_ptr<SimulatedNetwork::State> network_;
  const SocketAddress address_;
  UniqueFd wake_;
  std::set<Address> groups_;
  std::deque<std::shared_ptr<const Parcel>> waiting_;
  std::vector<std::shared_ptr<const Parcel>> taken_;
  std::vector<Datagram> handed_;
  std::deque<DatagramError> errors_;
  DatagramStats counts_;
};

void SimulatedNetwork::State::Send(const SocketAddress& from, const Datagram& datagram) {
  auto parcel = std::make_shared<Parcel>();
  parcel->from = from;
  parcel->to = datagram.peer;
  parcel->bytes.assign(datagram.bytes.begin(), datagram.bytes.end());
  if (Happens(conditions.loss)) {
    ++stats.lost;
    return;
  }
  if (Happens(conditions.duplication)) {
    ++stats.duplicated;
    Carry(parcel);
  }
  Carry(std::move(parcel));
}

void SimulatedNetwork::State::Carry(std::shared_ptr<const Parcel> parcel) {
  nanoseconds delay = Between(conditions.min_delay, conditions.max_delay);
  if (Happens(conditions.reordering))
    delay += Between(nanoseconds::zero(), conditions.reordering_delay);
  if (arrivals.size() >= options.capacity) {
    ++stats.overflowed;
    return;
  }
  arrivals.push({now + delay, order_++, std::move(parcel)});
}

void SimulatedNetwork::State::Deliver(const std::shared_ptr<const Parcel>& parcel) {
  const auto put = [&](SimulatedPort& port) {
    // What is on its way when the network parts is lost as well.
    const Address& to = port.local_address().address;
    if (parted.count(std::minmax(parcel->from.address, to)) != 0) {
      ++stats.parted;
    } else if (port.Put(parcel)) {
      ++stats.carried;
    } else {
      ++stats.overflowed;
    }
  };
  if (parcel->to.is_multicast()) {
    for (const auto& [address, port] : ports)
      if (address.port == parcel->to.port && port->HasJoined(parcel->to.address)) put(*port);
    return;
  }
  const auto found = ports.find(parcel->to);
  if (found != ports.end()) return put(*found->second);
  ++stats.nowhere;
  const auto sender = ports.find(parcel->from);
  if (conditions.reports_unreachable && sender != ports.end())
    sender->second->AddError({parcel->to, Unavailable("not delivered: nobody has this address")});
}

void SimulatedNetwork::State::AdvanceTo(TimePoint time) {
  while (!arrivals.empty() && arrivals.top().at <= time) {
    const Arrival arrival = arrivals.top();
    arrivals.pop();
    now = std::max(now, arrival.at);
    Deliver(arrival.parcel);
  }
  now = std::max(now, time);
}

SimulatedNetwork::SimulatedNetwork(std::shared_ptr<State> state) : state_(std::move(state)) {}
SimulatedNetwork::~SimulatedNetwork() = default;
SimulatedNetwork::SimulatedNetwork(SimulatedNetwork&&) noexcept = default;
SimulatedNetwork& SimulatedNetwork::operator=(SimulatedNetwork&&) noexcept = default;

absl::StatusOr<SimulatedNetwork> SimulatedNetwork::Create(const SimulatedNetworkOptions& options) {
  WAXVM_RETURN_IF_ERROR(Check(options.conditions));
  return SimulatedNetwork(std::make_shared<State>(options));
}

absl::StatusOr<std::unique_ptr<DatagramSocket>> SimulatedNetwork::NewPort(
    const SocketAddress& address) {
  SocketAddress chosen = address;
  if (address.address == Address() || address.is_multicast())
    return InvalidArgument("%s cannot be the address of a port", address.ToText());
  if (address.port == 0)
    for (chosen.port = kFirstPort; chosen.port != 0 && state_->ports.count(chosen) != 0;)
      ++chosen.port;
  if (chosen.port == 0) return absl::ResourceExhaustedError("every port of this address is taken");
  if (state_->ports.count(chosen) != 0)
    return absl::AlreadyExistsError(absl::StrFormat("%s is taken", chosen.ToText()));
  UniqueFd wake(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake) return ErrnoStatus(errno, "cannot make an event for a port");
  return std::make_unique<SimulatedPort>(state_, chosen, std::move(wake));
}

TimePoint SimulatedNetwork::now() const { return state_->now; }

std::optional<TimePoint> SimulatedNetwork::next_arrival() const {
  if (state_->arrivals.empty()) return std::nullopt;
  return state_->arrivals.top().at;
}

void SimulatedNetwork::AdvanceTo(TimePoint time) { state_->AdvanceTo(time); }

absl::Status SimulatedNetwork::SetConditions(const NetworkConditions& conditions) {
  WAXVM_RETURN_IF_ERROR(Check(conditions));
  state_->conditions = conditions;
  return absl::OkStatus();
}

void SimulatedNetwork::Partition(const Address& a, const Address& b, bool parted) {
  const std::pair<Address, Address> both = std::minmax(a, b);
  if (parted) {
    state_->parted.insert(both);
  } else {
    state_->parted.erase(both);
  }
}

SimulatedNetwork::Stats SimulatedNetwork::stats() const { return state_->stats; }

}  // namespace waxvm
