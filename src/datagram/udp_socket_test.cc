// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/datagram/kernel_socket.h"
#include "waxvm/datagram.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::span<const std::byte> Bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// 0: there is none.
std::uint32_t MulticastInterface() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return 0;
  std::uint32_t found = 0;
  for (const ifaddrs* one = all; one != nullptr && found == 0; one = one->ifa_next)
    if ((one->ifa_flags & (IFF_UP | IFF_MULTICAST)) == (IFF_UP | IFF_MULTICAST) &&
        one->ifa_addr != nullptr && one->ifa_addr->sa_family == AF_INET6)
      found = if_nametoindex(one->ifa_name);
  freeifaddrs(all);
  return found;
}

struct Got {
  SocketAddress peer;
  SocketAddress local;
  std::string text;
  bool truncated;
};

class UdpSocketTest : public testing::TestWithParam<UdpBackend> {
 protected:
  std::unique_ptr<DatagramSocket> Open(const std::string& at, UdpOptions options = {}) {
    options.local = *SocketAddress::Parse(at);
    options.backend = GetParam();
    auto socket = NewUdpSocket(options);
    EXPECT_TRUE(socket.ok()) << socket.status();
    return socket.ok() ? *std::move(socket) : nullptr;
  }
  static void Send(DatagramSocket& from, const SocketAddress& to, std::string_view text,
                   const SocketAddress& local = {}) {
    const Datagram datagram = {.peer = to, .local = local, .bytes = Bytes(text)};
    const auto sent = from.Send({&datagram, 1});
    ASSERT_TRUE(sent.ok()) << sent.status();
    EXPECT_EQ(*sent, 1u);
  }
  /// The next `count` datagrams, or fewer where they do not come.
  static std::vector<Got> Take(DatagramSocket& socket, std::size_t count,
                               milliseconds limit = seconds(2)) {
    std::vector<Got> got;
    const auto deadline = Clock::now() + limit;
    while (got.size() < count && Clock::now() < deadline) {
      const auto came = socket.Receive(count - got.size());
      EXPECT_TRUE(came.ok()) << came.status();
      if (!came.ok()) break;
      for (const Datagram& datagram : *came)
        got.push_back({datagram.peer, datagram.local, Text(datagram.bytes), datagram.truncated});
      if (came->empty() && !socket.Wait(deadline, false).ok()) ADD_FAILURE() << "cannot wait";
    }
    return got;
  }
  static std::vector<DatagramError> TakeErrors(DatagramSocket& socket, std::size_t count) {
    std::vector<DatagramError> errors(count);
    std::size_t taken = 0;
    const auto deadline = Clock::now() + seconds(2);
    while (taken < count && Clock::now() < deadline) {
      (void)socket.Receive(1);
      taken += socket.TakeErrors(std::span(errors).subspan(taken));
      if (taken < count) (void)socket.Wait(Clock::now() + milliseconds(20), false);
    }
    errors.resize(taken);
    return errors;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, UdpSocketTest,
                         testing::Values(UdpBackend::kMmsg, UdpBackend::kIoUring),
                         [](const auto& tested) {
                           return tested.param == UdpBackend::kMmsg ? "mmsg" : "io_uring";
                         });

TEST_P(UdpSocketTest, ADatagramComesAsItWasSentAndCanBeAnswered) {
  const auto server = Open("[::1]:0");
  const auto client = Open("[::1]:0");
  Send(*client, server->local_address(), "question");
  const auto asked = Take(*server, 1);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].text, "question");
  EXPECT_EQ(asked[0].peer, client->local_address());
  EXPECT_EQ(asked[0].local, server->local_address());
  EXPECT_FALSE(asked[0].truncated);
  Send(*server, asked[0].peer, "answer", asked[0].local);
  const auto answered = Take(*client, 1);
  ASSERT_EQ(answered.size(), 1u);
  EXPECT_EQ(answered[0].text, "answer");
  EXPECT_EQ(answered[0].peer, server->local_address());
}

TEST_P(UdpSocketTest, ABatchKeepsItsOrderAndItsBoundaries) {
  const auto server = Open("[::1]:0");
  const auto client = Open("[::1]:0");
  constexpr int kCount = 200;  // more than one batch
  std::vector<std::string> texts;
  std::vector<Datagram> datagrams;
  for (int i = 0; i < kCount; ++i) texts.push_back(std::string(i % 7, 'x') + std::to_string(i));
  for (const std::string& text : texts)
    datagrams.push_back({.peer = server->local_address(), .local = {}, .bytes = Bytes(text)});
  const auto sent = client->Send(datagrams);
  ASSERT_TRUE(sent.ok()) << sent.status();
  EXPECT_EQ(*sent, texts.size());
  const auto got = Take(*server, kCount);
  ASSERT_EQ(got.size(), texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(got[i].text, texts[i]);
  EXPECT_EQ(server->stats().received, texts.size());
  EXPECT_EQ(client->stats().sent, texts.size());
  // That is what the batches are for.
  EXPECT_LE(client->stats().send_calls, 10u);
}

TEST_P(UdpSocketTest, ThousandsOfSourceAddressesAreTheirOwnPeersAndAreAnsweredFromTheAddressAsked) {
  const auto server = Open("[::]:0");
  const auto client = Open("[::]:0");
  SocketAddress to = *SocketAddress::Parse("127.9.8.7:1");
  to.port = server->local_address().port;
  std::set<SocketAddress> peers;
  for (int i = 0; i < 3000; ++i) {
    SocketAddress from = *SocketAddress::Parse("127.1.0.0:0");
    from.address.bytes[14] = static_cast<std::uint8_t>(i >> 8);
    from.address.bytes[15] = static_cast<std::uint8_t>(i);
    Send(*client, to, "q", from);
    const auto asked = Take(*server, 1);
    ASSERT_EQ(asked.size(), 1u);
    EXPECT_EQ(asked[0].peer.address, from.address);
    EXPECT_EQ(asked[0].local.address, to.address);
    peers.insert(asked[0].peer);
    Send(*server, asked[0].peer, "a", asked[0].local);
    const auto answered = Take(*client, 1);
    ASSERT_EQ(answered.size(), 1u);
    EXPECT_EQ(answered[0].peer, to);
    EXPECT_EQ(answered[0].local.address, from.address);
  }
  EXPECT_EQ(peers.size(), 3000u);
}

TEST_P(UdpSocketTest, EmptyAndLongestDatagramsPass) {
  UdpOptions options;
  options.max_datagram_bytes = 65535;
  const auto server = Open("[::1]:0", options);
  const auto client = Open("[::1]:0");
  const std::string longest(65507, 'y');
  Send(*client, server->local_address(), "");
  Send(*client, server->local_address(), longest);
  Send(*client, server->local_address(), "");
  const auto got = Take(*server, 3);
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0].text, "");
  EXPECT_EQ(got[1].text, longest);
  EXPECT_FALSE(got[1].truncated);
  EXPECT_EQ(got[2].text, "");
}

TEST_P(UdpSocketTest, WhatIsTooLongIsTruncatedAndSaysSoAndTheNextOneIsWhole) {
  UdpOptions options;
  options.max_datagram_bytes = 100;
  const auto server = Open("[::]:0", options);
  const auto client = Open("[::1]:0");
  SocketAddress to = *SocketAddress::Parse("[::1]:1");
  to.port = server->local_address().port;
  Send(*client, to, std::string(100, 'a'));
  Send(*client, to, std::string(101, 'b'));
  Send(*client, to, std::string(65507, 'c'));
  Send(*client, to, "d");
  const auto got = Take(*server, 4);
  ASSERT_EQ(got.size(), 4u);
  EXPECT_FALSE(got[0].truncated);
  EXPECT_EQ(got[0].text, std::string(100, 'a'));
  EXPECT_TRUE(got[1].truncated);
  EXPECT_EQ(got[1].text, std::string(100, 'b'));
  EXPECT_TRUE(got[2].truncated);
  EXPECT_EQ(got[3].text, "d");
  EXPECT_EQ(got[3].local.address, to.address);
  EXPECT_EQ(server->stats().truncated, 2u);
}

TEST_P(UdpSocketTest, AClosedPortIsReportedForThePeerThatHasItAndNobodyElseSuffers) {
  const auto client = Open("[::1]:0");
  const auto alive = Open("[::1]:0");
  SocketAddress dead;
  {
    const auto closed = Open("[::1]:0");
    dead = closed->local_address();
  }
  for (int i = 0; i < 5; ++i) {
    Send(*client, dead, "anybody?");
    Send(*client, alive->local_address(), "hello");
  }
  EXPECT_EQ(Take(*alive, 5).size(), 5u);
  const auto errors = TakeErrors(*client, 5);
  ASSERT_EQ(errors.size(), 5u);
  for (const DatagramError& error : errors) {
    EXPECT_EQ(error.peer.address, dead.address);
    EXPECT_EQ(error.peer.port, dead.port);
    EXPECT_EQ(error.status.code(), absl::StatusCode::kUnavailable) << error.status;
  }
  // The socket is none the worse for it.
  Send(*alive, client->local_address(), "still there");
  EXPECT_EQ(Take(*client, 1).size(), 1u);
}

TEST_P(UdpSocketTest, WhatCannotBeSentIsReportedAndTakesNothingWithIt) {
  const auto client = Open("[::1]:0");
  const auto server = Open("[::1]:0");
  const std::string too_long(70000, 'z');
  SocketAddress nobody = server->local_address();
  nobody.port = 0;
  const Datagram datagrams[] = {
      {.peer = server->local_address(), .local = {}, .bytes = Bytes("first")},
      {.peer = server->local_address(), .local = {}, .bytes = Bytes(too_long)},
      {.peer = nobody, .local = {}, .bytes = Bytes("port 0")},
      {.peer = server->local_address(), .local = {}, .bytes = Bytes("last")}};
  const auto sent = client->Send(datagrams);
  ASSERT_TRUE(sent.ok()) << sent.status();
  EXPECT_EQ(*sent, 4u);
  const auto got = Take(*server, 2);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].text, "first");
  EXPECT_EQ(got[1].text, "last");
  const auto errors = TakeErrors(*client, 2);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0].status.code(), absl::StatusCode::kOutOfRange) << errors[0].status;
  EXPECT_EQ(errors[1].peer.port, 0);
  EXPECT_EQ(client->stats().sent, 2u);
  EXPECT_EQ(client->stats().unsent, 2u);
}

TEST_P(UdpSocketTest, WithoutFragmentsWhatThePathDoesNotCarryIsRefused) {
  UdpOptions options;
  options.max_datagram_bytes = 65535;
  const auto server = Open("[::1]:0", options);
  options.fragments = false;
  const auto client = Open("[::1]:0", options);
  // The loopback interface carries packets of 65,536 bytes at the most, headers included.
  Send(*client, server->local_address(), std::string(65500, 'x'));
  Send(*client, server->local_address(), std::string(1200, 'x'));
  const auto got = Take(*server, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].text.size(), 1200u);
  const auto errors = TakeErrors(*client, 1);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].status.code(), absl::StatusCode::kOutOfRange) << errors[0].status;
}

TEST_P(UdpSocketTest, ErrorsThatNobodyTakesAreBounded) {
  const auto client = Open("[::1]:0");
  SocketAddress nobody = client->local_address();
  nobody.port = 0;
  const Datagram datagram = {.peer = nobody, .local = {}, .bytes = Bytes("x")};
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(client->Send({&datagram, 1}).ok());
  std::vector<DatagramError> errors(1000);
  EXPECT_EQ(client->TakeErrors(errors), 256u);
  EXPECT_EQ(client->TakeErrors(errors), 0u);
}

TEST_P(UdpSocketTest, AFloodOverflowsAndIsCountedAndTheSocketGoesOn) {
  UdpOptions options;
  options.kernel_buffer_bytes = 8192;
  const auto server = Open("[::1]:0", options);
  const auto client = Open("[::1]:0");
  const std::string text(1000, 'f');
  const Datagram datagram = {.peer = server->local_address(), .local = {}, .bytes = Bytes(text)};
  const std::vector<Datagram> many(64, datagram);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(client->Send(many).ok());
  std::size_t got = Take(*server, 6400, milliseconds(200)).size();
  EXPECT_GT(got, 0u);
  EXPECT_LT(got, 6400u);
  EXPECT_EQ(server->stats().overflows, 6400 - got);
  Send(*client, server->local_address(), "after");
  const auto after = Take(*server, 1);
  ASSERT_EQ(after.size(), 1u);
  EXPECT_EQ(after[0].text, "after");
}

TEST_P(UdpSocketTest, MoreThanThereAreBuffersForIsAllTaken) {
  UdpOptions options;
  options.batch = 4;
  const auto server = Open("[::1]:0", options);
  const auto client = Open("[::1]:0");
  Send(*client, server->local_address(), "warm up");
  ASSERT_EQ(Take(*server, 1).size(), 1u);
  for (int i = 0; i < 500; ++i) Send(*client, server->local_address(), std::to_string(i));
  const auto got = Take(*server, 500);
  ASSERT_EQ(got.size(), 500u);
  for (int i = 0; i < 500; ++i) EXPECT_EQ(got[i].text, std::to_string(i));
}

TEST_P(UdpSocketTest, BytesOfOneReceiveStayUntilTheNext) {
  UdpOptions options;
  options.batch = 2;
  const auto server = Open("[::1]:0", options);
  const auto client = Open("[::1]:0");
  ASSERT_TRUE(server->Receive(1).ok());
  for (int i = 0; i < 6; ++i) Send(*client, server->local_address(), std::to_string(i));
  for (int i = 0; i < 6; i += 2) {
    ASSERT_TRUE(server->Wait(Clock::now() + seconds(1), false).ok());
    const auto came = server->Receive(2);
    ASSERT_TRUE(came.ok());
    ASSERT_EQ(came->size(), 2u);
    for (int more = 0; more < 20; ++more) Send(*client, client->local_address(), "xxxxxxxx");
    EXPECT_EQ(Text((*came)[0].bytes), std::to_string(i));
    EXPECT_EQ(Text((*came)[1].bytes), std::to_string(i + 1));
  }
}

TEST_P(UdpSocketTest, WaitEndsAtItsDeadlineAndWhenWoken) {
  const auto socket = Open("[::1]:0");
  auto before = Clock::now();
  ASSERT_TRUE(socket->Wait(before + milliseconds(50), false).ok());
  EXPECT_GE(Clock::now() - before, milliseconds(49));
  socket->Wake();  // before the wait
  before = Clock::now();
  ASSERT_TRUE(socket->Wait(before + seconds(20), false).ok());
  std::thread waker([&] {
    std::this_thread::sleep_for(milliseconds(50));
    socket->Wake();
  });
  ASSERT_TRUE(socket->Wait(DatagramSocket::TimePoint::max(), false).ok());
  waker.join();
  EXPECT_LT(Clock::now() - before, seconds(10));
  EXPECT_GE(Clock::now() - before, milliseconds(40));
  // Woken once, it waits again.
  before = Clock::now();
  ASSERT_TRUE(socket->Wait(before + milliseconds(30), false).ok());
  EXPECT_GE(Clock::now() - before, milliseconds(29));
  before = Clock::now();
  ASSERT_TRUE(socket->Wait(before - seconds(5), false).ok());
  ASSERT_TRUE(socket->Wait(before + seconds(20), true).ok());  // it is writable
  EXPECT_LT(Clock::now() - before, seconds(10));
}

TEST_P(UdpSocketTest, TheDescriptorIsReadableWhenSomethingHasCome) {
  const auto server = Open("[::1]:0");
  const auto client = Open("[::1]:0");
  ASSERT_TRUE(server->Receive(1).ok());
  pollfd polled = {server->descriptor(), POLLIN, 0};
  EXPECT_EQ(poll(&polled, 1, 0), 0);
  Send(*client, server->local_address(), "hello");
  EXPECT_EQ(poll(&polled, 1, 2000), 1);
  EXPECT_EQ(Take(*server, 1).size(), 1u);
  EXPECT_EQ(poll(&polled, 1, 0), 0);
  server->Wake();
  EXPECT_EQ(poll(&polled, 1, 2000), 1);
  ASSERT_TRUE(server->Wait(Clock::now() + seconds(5), false).ok());
}

TEST_P(UdpSocketTest, GroupsAreJoinedAndLeftAndForeignOnesAreDropped) {
  const std::uint32_t interface = MulticastInterface();
  if (interface == 0) GTEST_SKIP() << "no interface with IPv6 multicast";
  // Of interface-local scope: these groups never leave this host.
  const Address group = *Address::Parse("ff11::77:1");
  const Address other = *Address::Parse("ff11::77:2");
  const auto server = Open("[::]:0");
  const auto neighbour = Open("[::]:0");
  const auto client = Open("[::]:0");
  EXPECT_FALSE(server->Join(*Address::Parse("fd00::1"), 0).ok());
  ASSERT_TRUE(server->Join(group, interface).ok());
  EXPECT_EQ(server->Join(group, interface).code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(neighbour->Join(other, interface).ok());
  const auto to = [&](const Address& address) {
    return SocketAddress{address, server->local_address().port, interface};
  };
  Send(*client, to(group), "to the group");
  auto got = Take(*server, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].local.address, group);
  EXPECT_EQ(got[0].local.zone, interface);
  // The answer goes out although nobody may send from a group's address.
  Send(*server, got[0].peer, "answer", got[0].local);
  EXPECT_EQ(Take(*client, 1).size(), 1u);
  Send(*client, to(other), "to the neighbour's group");
  SocketAddress direct = *SocketAddress::Parse("[::1]:1");
  direct.port = server->local_address().port;
  Send(*client, direct, "direct");
  got = Take(*server, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].text, "direct");
  EXPECT_EQ(got[0].local.address, direct.address);
  ASSERT_TRUE(server->Leave(group, interface).ok());
  EXPECT_EQ(server->Leave(group, interface).code(), absl::StatusCode::kNotFound);
  Send(*client, to(group), "to nobody");
  Send(*client, direct, "direct again");
  got = Take(*server, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].text, "direct again");
}

TEST_P(UdpSocketTest, OptionsThatCannotBeAreRefused) {
  const auto code = [&](UdpOptions options) {
    options.backend = GetParam();
    return NewUdpSocket(options).status().code();
  };
  EXPECT_EQ(code({.local = *SocketAddress::Parse("[ff02::1]:9")}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.max_datagram_bytes = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.max_datagram_bytes = 65536}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.batch = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.batch = 1025}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.multicast_hops = 256}), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(
      NewUdpSocket({.local = *SocketAddress::Parse("[2001:db8::1]:0"), .backend = GetParam()})
          .ok());
  const auto first = Open("[::1]:0");
  EXPECT_FALSE(NewUdpSocket({.local = first->local_address(), .backend = GetParam()}).ok());
}

TEST_P(UdpSocketTest, WithoutDescriptorsLeftItSaysSoAndLeaksNone) {
  rlimit before = {};
  getrlimit(RLIMIT_NOFILE, &before);
  const auto open_now = [] {
    UniqueFd probe(::dup(0));
    return probe.get();
  };
  const int lowest = open_now();
  for (int allowed = 0; allowed < 3; ++allowed) {
    rlimit few = before;
    few.rlim_cur = static_cast<rlim_t>(lowest + allowed);
    setrlimit(RLIMIT_NOFILE, &few);
    const auto socket =
        NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0"), .backend = GetParam()});
    setrlimit(RLIMIT_NOFILE, &before);
    if (allowed < 2) {
      EXPECT_EQ(socket.status().code(), absl::StatusCode::kResourceExhausted) << socket.status();
    }
  }
  EXPECT_EQ(open_now(), lowest);
}

TEST(UringSocketTest, AnotherThreadThanTheFirstIsRefusedAndNotServedWrongly) {
  auto socket =
      NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0"), .backend = UdpBackend::kIoUring});
  ASSERT_TRUE(socket.ok()) << socket.status();
  std::thread first([&] { EXPECT_TRUE((*socket)->Receive(1).ok()); });
  first.join();
  const std::string text = "x";
  const Datagram datagram = {.peer = (*socket)->local_address(), .local = {}, .bytes = Bytes(text)};
  EXPECT_EQ((*socket)->Send({&datagram, 1}).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace waxvm
