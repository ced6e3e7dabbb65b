// SPDX-License-Identifier: Apache-2.0
#include "waxvm/lan.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/naming/advert_for_test.h"

namespace waxvm {
namespace {

using naming::KeyOf;
using naming::kTestTime;
using naming::NameAdvert;

/// An interface with multicast and a link-local address; empty where there is none.
std::string Link() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  std::string name;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET6) continue;
    const auto* address = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr);
    if ((one->ifa_flags & (IFF_UP | IFF_MULTICAST)) == (IFF_UP | IFF_MULTICAST) &&
        IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr))
      name = one->ifa_name;
  }
  freeifaddrs(all);
  return name;
}

class OnALink : public testing::Test {
 protected:
  void SetUp() override {
    if (Link().empty()) GTEST_SKIP() << "no interface here has multicast over IPv6";
    options_.interface_name = Link();
    // Of this process, so that tests that run at once do not hear one another.
    options_.port = static_cast<std::uint16_t>(20'000 + getpid() % 20'000);
  }
  std::unique_ptr<Lan> New(Directory& directory) {
    auto lan = Lan::Open(&directory, options_);
    EXPECT_TRUE(lan.ok()) << lan.status();
    return lan.ok() ? *std::move(lan) : nullptr;
  }
  static bool Readable(const Lan& lan, int milliseconds = 2'000) {
    pollfd waiting = {.fd = lan.descriptor(), .events = POLLIN, .revents = 0};
    return poll(&waiting, 1, milliseconds) == 1;
  }
  /// A datagram from nobody in particular.
  void Send(const std::string& bytes) {
    const UniqueFd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const unsigned scope = if_nametoindex(options_.interface_name.c_str());
    sockaddr_in6 to = {};
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(options_.port);
    to.sin6_scope_id = scope;
    std::memcpy(&to.sin6_addr, options_.group.bytes.data(), kAddressBytes);
    EXPECT_EQ(sendto(fd.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&to),
                     sizeof to),
              static_cast<ssize_t>(bytes.size()));
  }

  LanOptions options_;
  std::unique_ptr<Directory> mine_ = NewMemoryDirectory();
  std::unique_ptr<Directory> theirs_ = NewMemoryDirectory();
};

TEST_F(OnALink, NeighboursFindOneAnother) {
  const auto one = New(*mine_);
  const auto two = New(*theirs_);
  const Advert advert = NameAdvert(KeyOf(1), "a", KeyOf(2).public_key(), 1);
  one->Announce({advert});
  one->Poll(kTestTime);
  EXPECT_EQ(one->stats().sent, 1u);
  ASSERT_TRUE(Readable(*two));
  two->Poll(kTestTime);
  EXPECT_EQ(theirs_->Get(advert.slot(), kTestTime)->bytes(), advert.bytes());
  EXPECT_EQ(two->stats().accepted, 1u);
  // Not again before it is time, and nothing that has expired.
  one->Poll(kTestTime + 59);
  EXPECT_EQ(one->stats().sent, 1u);
  EXPECT_EQ(one->stats().accepted, 0u) << "one's own is no news";
  one->Poll(kTestTime + 60);
  EXPECT_EQ(one->stats().sent, 2u);
  one->Poll(kTestTime + 100'000);
  EXPECT_EQ(one->stats().sent, 2u);
}

TEST_F(OnALink, FloodsAndNonsense) {
  options_.per_neighbour = 5;
  const auto lan = New(*mine_);
  Send("nonsense");
  Send(std::string(1'400, 'x'));
  std::string forged = NameAdvert(KeyOf(1), "a", KeyOf(2).public_key(), 1).bytes();
  forged.back() = static_cast<char>(forged.back() ^ 1);
  Send(forged);
  ASSERT_TRUE(Readable(*lan));
  lan->Poll(kTestTime);
  while (Readable(*lan, 50)) lan->Poll(kTestTime);
  EXPECT_EQ(lan->stats().refused, 3u);
  for (int i = 0; i < 50; ++i) Send("flood");
  while (Readable(*lan, 50)) lan->Poll(kTestTime);
  EXPECT_EQ(lan->stats().refused, 5u) << "no more of one neighbour in a second";
  EXPECT_EQ(lan->stats().dropped, 48u);
  Send(NameAdvert(KeyOf(1), "a", KeyOf(2).public_key(), 1).bytes());
  ASSERT_TRUE(Readable(*lan));
  lan->Poll(kTestTime + 1);
  EXPECT_EQ(lan->stats().accepted, 1u) << "the next second is another one";
  EXPECT_EQ(mine_->Stats().adverts, 1u);
}

TEST(Lan, WhereNobodySaidWhereTo) {
  const auto directory = NewMemoryDirectory();
  EXPECT_TRUE(absl::IsNotFound(Lan::Open(directory.get(), {}).status()));
  EXPECT_TRUE(absl::IsNotFound(Lan::Open(directory.get(), {.interface_name = "nosuch0"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Lan::Open(directory.get(), {.interface_name = "lo", .group = *Address::Parse("ff0e::1")})
          .status()));
}

}  // namespace
}  // namespace waxvm
