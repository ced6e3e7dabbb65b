// SPDX-License-Identifier: Apache-2.0
#include "waxvm/simulated_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace waxvm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

SocketAddress At(std::string_view text) { return *SocketAddress::Parse(text); }

void Send(DatagramSocket& from, const SocketAddress& to, std::string_view text) {
  const Datagram datagram = {
      .peer = to, .local = {}, .bytes = std::as_bytes(std::span(text.data(), text.size()))};
  ASSERT_EQ(*from.Send({&datagram, 1}), 1u);
}

std::vector<std::string> Take(DatagramSocket& socket, std::size_t most = 100'000) {
  std::vector<std::string> texts;
  const std::span<const Datagram> came = *socket.Receive(most);
  for (const Datagram& datagram : came)
    texts.emplace_back(reinterpret_cast<const char*>(datagram.bytes.data()), datagram.bytes.size());
  return texts;
}

SimulatedNetwork Network(const NetworkConditions& conditions, std::uint64_t seed = 1) {
  return *SimulatedNetwork::Create({.seed = seed, .conditions = conditions});
}

TEST(SimulatedNetwork, ADatagramArrivesAfterItsDelayAndNotBefore) {
  SimulatedNetwork network = Network({.min_delay = milliseconds(5), .max_delay = milliseconds(5)});
  const auto a = *network.NewPort(At("[fd00::1]:5683"));
  const auto b = *network.NewPort(At("[fd00::2]:5683"));
  const auto start = network.now();
  Send(*a, b->local_address(), "hello");
  EXPECT_EQ(network.next_arrival(), start + milliseconds(5));
  network.AdvanceTo(start + milliseconds(4));
  EXPECT_TRUE(Take(*b).empty());
  network.AdvanceTo(start + milliseconds(5));
  const std::span<const Datagram> came = *b->Receive(10);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_EQ(came[0].peer, a->local_address());
  EXPECT_EQ(came[0].local, b->local_address());
  EXPECT_FALSE(network.next_arrival());
  network.AdvanceTo(start);
  EXPECT_EQ(network.now(), start + milliseconds(5));
}

std::vector<std::string> Deliveries(std::uint64_t seed) {
  SimulatedNetwork network = Network({.loss = 0.2,
                                      .duplication = 0.2,
                                      .reordering = 0.3,
                                      .min_delay = milliseconds(1),
                                      .max_delay = milliseconds(3)},
                                     seed);
  const auto a = *network.NewPort(At("[fd00::1]:1"));
  const auto b = *network.NewPort(At("[fd00::2]:1"));
  for (int i = 0; i < 1000; ++i) Send(*a, b->local_address(), std::to_string(i));
  network.AdvanceTo(network.now() + seconds(1));
  EXPECT_EQ(network.stats().carried + network.stats().lost, 1000 + network.stats().duplicated);
  return Take(*b);
}

TEST(SimulatedNetwork, TheSameSeedGivesTheSameAndAnotherOneSomethingElse) {
  const auto once = Deliveries(7);
  EXPECT_EQ(once, Deliveries(7));
  EXPECT_NE(once, Deliveries(8));
  EXPECT_FALSE(std::is_sorted(once.begin(), once.end(), [](const auto& x, const auto& y) {
    return std::stoi(x) < std::stoi(y);
  }));
  // 800 arrive once, 160 of them twice, give or take a few standard deviations.
  EXPECT_NEAR(static_cast<double>(once.size()), 960, 90);
}

TEST(SimulatedNetwork, LossOfAllAndOfNothing) {
  SimulatedNetwork network = Network({.loss = 1});
  const auto a = *network.NewPort(At("[fd00::1]:1"));
  for (int i = 0; i < 100; ++i) Send(*a, a->local_address(), "x");
  network.AdvanceTo(network.now() + seconds(1));
  EXPECT_TRUE(Take(*a).empty());
  EXPECT_EQ(network.stats().lost, 100u);
  ASSERT_TRUE(network.SetConditions({}).ok());
  for (int i = 0; i < 100; ++i) Send(*a, a->local_address(), std::to_string(i));
  network.AdvanceTo(network.now() + seconds(1));
  const auto got = Take(*a);
  ASSERT_EQ(got.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(got[i], std::to_string(i));
}

TEST(SimulatedNetwork, APartitionStopsBothDirectionsAndWhatIsOnItsWay) {
  SimulatedNetwork network = Network({});
  const auto a = *network.NewPort(At("[fd00::1]:1"));
  const auto b = *network.NewPort(At("[fd00::2]:1"));
  const auto c = *network.NewPort(At("[fd00::3]:1"));
  Send(*a, b->local_address(), "on its way");
  network.Partition(b->local_address().address, a->local_address().address, true);
  Send(*a, b->local_address(), "there");
  Send(*b, a->local_address(), "back");
  Send(*a, c->local_address(), "elsewhere");
  network.AdvanceTo(network.now() + seconds(1));
  EXPECT_TRUE(Take(*a).empty());
  EXPECT_TRUE(Take(*b).empty());
  EXPECT_EQ(Take(*c).size(), 1u);
  EXPECT_EQ(network.stats().parted, 3u);
  network.Partition(a->local_address().address, b->local_address().address, false);
  Send(*a, b->local_address(), "again");
  network.AdvanceTo(network.now() + seconds(1));
  EXPECT_EQ(Take(*b), std::vector<std::string>{"again"});
}

TEST(SimulatedNetwork, AGroupIsDeliveredToItsMembersAtThatPort) {
  SimulatedNetwork network = Network({});
  const Address group = *Address::Parse("ff15::1");
  const auto a = *network.NewPort(At("[fd00::1]:1"));
  const auto b = *network.NewPort(At("[fd00::2]:1"));
  const auto c = *network.NewPort(At("[fd00::3]:2"));
  for (DatagramSocket* port : {b.get(), c.get()}) ASSERT_TRUE(port->Join(group, 0).ok());
  EXPECT_EQ(b->Join(group, 0).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(b->Join(a->local_address().address, 0).code(), absl::StatusCode::kInvalidArgument);
  Send(*a, {group, 1, 0}, "all");
  network.AdvanceTo(network.now() + seconds(1));
  const std::span<const Datagram> came = *b->Receive(10);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_EQ(came[0].local.address, group);
  EXPECT_TRUE(Take(*c).empty());
  EXPECT_TRUE(Take(*a).empty());
  ASSERT_TRUE(b->Leave(group, 0).ok());
  EXPECT_EQ(b->Leave(group, 0).code(), absl::StatusCode::kNotFound);
  Send(*a, {group, 1, 0}, "all");
  network.AdvanceTo(network.now() + seconds(1));
  EXPECT_TRUE(Take(*b).empty());
}

TEST(SimulatedNetwork, WhatIsTooLongOrGoesNowhereIsReported) {
  SimulatedNetwork network = Network({.max_datagram_bytes = 10, .reports_unreachable = true});
  const auto a = *network.NewPort(At("[fd00::1]:1"));
  Send(*a, At("[fd00::9]:9"), "0123456789");
  Send(*a, At("[fd00::8]:9"), "0123456789a");
  network.AdvanceTo(network.now() + seconds(1));
  std::vector<DatagramError> errors(5);
  ASSERT_EQ(a->TakeErrors(errors), 2u);
  EXPECT_EQ(errors[0].status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(errors[1].peer, At("[fd00::9]:9"));
  EXPECT_EQ(errors[1].status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(network.stats().nowhere, 1u);
}

TEST(SimulatedNetwork, AFloodIsBounded) {
  SimulatedNetwork network = *SimulatedNetwork::Create({.port_capacity = 10, .capacity = 100});
  const auto a = *network.NewPort(At("[fd00::1]:1"));
  for (int i = 0; i < 1000; ++i) Send(*a, a->local_address(), "x");
  network.AdvanceTo(network.now() + seconds(1));
  EXPECT_EQ(Take(*a).size(), 10u);
  EXPECT_EQ(network.stats().overflowed, 990u);
}

TEST(SimulatedNetwork, PortsAreTakenOnceAndFreedAndMayOutliveTheNetwork) {
  auto network = std::make_unique<SimulatedNetwork>(Network({}));
  EXPECT_FALSE(network->NewPort(At("[::]:1")).ok());
  EXPECT_FALSE(network->NewPort(At("[ff02::1]:1")).ok());
  auto a = *network->NewPort(At("[fd00::1]:0"));
  auto b = *network->NewPort(At("[fd00::1]:0"));
  EXPECT_NE(a->local_address(), b->local_address());
  EXPECT_EQ(network->NewPort(a->local_address()).status().code(), absl::StatusCode::kAlreadyExists);
  const SocketAddress freed = a->local_address();
  a.reset();
  EXPECT_TRUE(network->NewPort(freed).ok());
  network.reset();
  Send(*b, freed, "into the void");
  EXPECT_TRUE(Take(*b).empty());
}

TEST(SimulatedNetwork, ConditionsThatCannotBeAreRefused) {
  for (const NetworkConditions& conditions :
       {NetworkConditions{.loss = 1.1}, NetworkConditions{.duplication = -0.1},
        NetworkConditions{.reordering = std::numeric_limits<double>::quiet_NaN()},
        NetworkConditions{.min_delay = milliseconds(2), .max_delay = milliseconds(1)},
        NetworkConditions{.min_delay = milliseconds(-2)},
        NetworkConditions{.reordering_delay = milliseconds(-1)}})
    EXPECT_FALSE(SimulatedNetwork::Create({.conditions = conditions}).ok());
}

}  // namespace
}  // namespace waxvm
