// SPDX-License-Identifier: Apache-2.0
// Nodes of the DHT on loopback; nothing of it reaches any other network.
#include "waxvm/dht.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "src/naming/advert_for_test.h"
#include "waxvm/directory.h"
#include "waxvm/petnames.h"
#include "waxvm/resolver.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using naming::KeyOf;
using naming::kTestTime;
using naming::NameAdvert;

constexpr char kHost[] = "127.0.0.1";

std::unique_ptr<Dht> NewNode(const std::string& network = "test") {
  auto node = Dht::Start({.network = network, .listen = "127.0.0.1:0", .lab = true});
  EXPECT_TRUE(node.ok()) << node.status();
  return node.ok() ? *std::move(node) : nullptr;
}

/// Nodes that know the first of them.
std::vector<std::unique_ptr<Dht>> NewNetwork(int count) {
  std::vector<std::unique_ptr<Dht>> nodes;
  for (int i = 0; i < count; ++i) {
    nodes.push_back(NewNode());
    if (i > 0) nodes[i]->AddNode(kHost, nodes[0]->port());
    if (i > 0) nodes[0]->AddNode(kHost, nodes[i]->port());
  }
  return nodes;
}

/// Tries again while the nodes still find one another.
absl::Status PublishSoon(Dht& node, const Advert& advert, const Signer& author) {
  absl::Status status;
  for (int i = 0; i < 20; ++i) {
    status = node.Publish(advert, author, 2s);
    if (status.ok() || absl::IsAborted(status)) return status;
  }
  return status;
}

TEST(Dht, TwentyNodesOfWhichHalfDie) {
  auto nodes = NewNetwork(20);
  std::vector<Advert> adverts;
  for (unsigned i = 0; i < 20; ++i) {
    const SigningKey key = KeyOf(100 + i);
    adverts.push_back(NameAdvert(key, "a", key.public_key(), 1));
    const absl::Status status = PublishSoon(*nodes[i], adverts.back(), key);
    ASSERT_TRUE(status.ok()) << i << status;
  }
  for (unsigned i = 0; i < 20; ++i) {
    const auto found = nodes[19 - i]->Fetch(adverts[i].slot(), 5s);
    ASSERT_TRUE(found.ok()) << i << found.status();
    EXPECT_EQ(*found, adverts[i].bytes()) << "the signed bytes, unchanged";
  }
  // Every second one, among them the one that all began with.
  for (std::size_t i = 0; i < nodes.size(); i += 2) nodes[i].reset();
  for (unsigned i = 0; i < 20; ++i) {
    const auto found = nodes[i % 2 == 0 ? 1 : 19]->Fetch(adverts[i].slot(), 5s);
    ASSERT_TRUE(found.ok()) << i << found.status();
    EXPECT_TRUE(Advert::Check(*found, kTestTime).ok());
  }
}

TEST(Dht, NewerAdvertsOtherNetworksAndNothing) {
  auto nodes = NewNetwork(4);
  const SigningKey key = KeyOf(1);
  const Advert first = NameAdvert(key, "a", key.public_key(), 5);
  ASSERT_TRUE(PublishSoon(*nodes[1], first, key).ok());
  const Advert newer = NameAdvert(key, "a", KeyOf(2).public_key(), 6);
  ASSERT_TRUE(PublishSoon(*nodes[2], newer, key).ok());
  EXPECT_EQ(*nodes[3]->Fetch(first.slot(), 5s), newer.bytes());
  // The same sequence with other bytes is not taken, and that is told.
  EXPECT_TRUE(
      absl::IsAborted(PublishSoon(*nodes[3], NameAdvert(key, "a", KeyOf(3).public_key(), 6), key)));
  EXPECT_TRUE(absl::IsInvalidArgument(nodes[0]->Publish(newer, KeyOf(2), 1s)));
  AdvertSlot slot = first.slot();
  slot.label = "b";
  const auto nothing = nodes[0]->Fetch(slot, 3s).status();
  EXPECT_TRUE(absl::IsNotFound(nothing) || absl::IsDeadlineExceeded(nothing)) << nothing;
  auto stranger = NewNode("another");
  stranger->AddNode(kHost, nodes[0]->port());
  EXPECT_FALSE(stranger->Fetch(first.slot(), 2s).ok());
}

TEST(Dht, PublishedAgainOnTime) {
  auto nodes = NewNetwork(3);
  const SigningKey key = KeyOf(1);
  const Advert advert = NameAdvert(key, "a", key.public_key(), 1, kTestTime, 10'000);
  ASSERT_TRUE(PublishSoon(*nodes[1], advert, key).ok());
  EXPECT_EQ(nodes[1]->Republish(kTestTime), 0u) << "it was published just now";
  EXPECT_EQ(nodes[1]->Republish(kTestTime + 3599), 0u);
  EXPECT_EQ(nodes[1]->Republish(kTestTime + 3600 + 361), 1u) << "an hour and up to a tenth";
  EXPECT_EQ(nodes[1]->Republish(kTestTime + 3600 + 362), 0u);
  // Nodes that come later have it after that, though all others are gone.
  auto late = NewNode();
  late->AddNode(kHost, nodes[1]->port());
  nodes[1]->AddNode(kHost, late->port());
  nodes[0].reset();
  nodes[2].reset();
  bool found = false;
  for (int i = 0; i < 20 && !found; ++i) {
    EXPECT_EQ(nodes[1]->Republish(kTestTime + 7'950), i == 0 ? 1u : 0u);
    found = late->Fetch(advert.slot(), 500ms).ok();
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(nodes[1]->Republish(kTestTime + 10'000), 0u) << "it has expired";
}

TEST(Dht, ForTheResolverOfAnotherProcess) {
  int to_child[2];
  int to_parent[2];
  ASSERT_EQ(pipe2(to_child, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(to_parent, O_CLOEXEC), 0);
  const SigningKey alice = KeyOf(1);
  const SigningKey topic = KeyOf(2);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto nodes = NewNetwork(3);
    const Advert name = NameAdvert(alice, "weather", topic.public_key(), 1);
    const auto advert = Advert::Make({.sequence = 1,
                                      .created = kTestTime,
                                      .expires = kTestTime + 1000,
                                      .ttl = 60,
                                      .body = TopicBody{.open = true}},
                                     topic);
    if (!PublishSoon(*nodes[0], name, alice).ok() || !PublishSoon(*nodes[1], *advert, topic).ok())
      _exit(1);
    const std::uint16_t port = nodes[0]->port();
    if (write(to_parent[1], &port, sizeof port) != sizeof port) _exit(2);
    char end;
    if (read(to_child[0], &end, 1) != 1) _exit(3);
    _exit(0);
  }
  close(to_parent[1]);
  std::uint16_t port = 0;
  ASSERT_EQ(read(to_parent[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
  auto node = NewNode();
  node->AddNode(kHost, port);
  auto directory = NewMemoryDirectory();
  auto petnames = Petnames::InMemory();
  ASSERT_TRUE(petnames.Set("alice", alice.public_key()).ok());
  absl::StatusOr<std::shared_ptr<const Resolution>> found = absl::NotFoundError("");
  for (std::uint64_t i = 0; i < 20 && !found.ok(); ++i) {
    const auto resolver =
        Resolver::Create(directory.get(), &petnames,
                         {.fetch = [&](const AdvertSlot& slot) { return node->Fetch(slot, 1s); },
                          .clock = [] { return kTestTime; }});
    found = resolver->Resolve("weather.alice");
  }
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->address, cga::GroupOf(topic.public_key()));
  EXPECT_EQ(write(to_child[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Dht, WhatCannotStart) {
  EXPECT_TRUE(absl::IsInvalidArgument(Dht::Start({.network = std::string(65, 'a')}).status()));
}

}  // namespace
}  // namespace waxvm
