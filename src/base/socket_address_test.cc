// SPDX-License-Identifier: Apache-2.0
#include "waxvm/socket_address.h"

#include <gtest/gtest.h>

namespace waxvm {
namespace {

TEST(SocketAddress, IsReadAsItIsWritten) {
  for (const char* text : {"[::1]:5683", "[fd00::2]:0", "[fe80::1%2]:65535", "[ff18::1%7]:5683"}) {
    const auto address = SocketAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToText(), text);
  }
  EXPECT_EQ(SocketAddress::Parse("[fe80::1%2]:9")->zone, 2u);
}

TEST(SocketAddress, AnIPv4AddressIsMapped) {
  const auto address = SocketAddress::Parse("127.0.0.1:80");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->ToText(), "[::ffff:127.0.0.1]:80");
}

TEST(SocketAddress, WhatIsNoneIsRefused) {
  for (const char* text :
       {"", ":", "::1:80", "[::1]", "[::1]:", "[::1]:65536", "[::1]:-1", "[::1]:80x", "[::1]: 80",
        "[::1%]:80", "[::1%0]:80", "[::1%eth0]:80", "[]:80", "[1.2.3]:80", "1.2.3:80", "a:80"})
    EXPECT_FALSE(SocketAddress::Parse(text).ok()) << text;
}

TEST(SocketAddress, MulticastIsSeen) {
  EXPECT_TRUE(SocketAddress::Parse("[ff02::1]:1")->is_multicast());
  EXPECT_FALSE(SocketAddress::Parse("[fe80::1]:1")->is_multicast());
}

}  // namespace
}  // namespace waxvm
