// SPDX-License-Identifier: Apache-2.0
// The server under those who wish it ill: bytes of all kinds on both transports, floods, clients
// that are slow on purpose. It goes on answering everybody else, and holds no more than it may.
// `dns_attack_test --rounds=N` makes N times as many attempts.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "src/base/strings.h"
#include "src/base/unique_fd.h"
#include "src/dns/message.h"
#include "src/dns/rdata.h"
#include "src/dns/sockets.h"
#include "waxvm/dns.h"

namespace waxvm::dns {
namespace {

using Time = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A sanitizer keeps freed memory back.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

int& Rounds() {
  static int rounds = 1;
  return rounds;
}

std::string Query(std::uint16_t id, std::string_view name, int type, bool edns = false) {
  Message query = {.id = id, .flags = kFlagRd};
  query.questions.push_back(
      {.name = *Name::FromText(name), .type = static_cast<std::uint16_t>(type)});
  if (edns)
    query.additional.push_back({.type = 41, .klass = 4096, .data = std::string("\0\3\0\0", 4)});
  return *EncodeMessage(query);
}

std::string Framed(std::string_view message) {
  std::string framed = {static_cast<char>(message.size() >> 8), static_cast<char>(message.size())};
  return framed.append(message);
}

class DnsAttack : public testing::Test {
 protected:
  void SetUp() override {
    std::string zone =
        "a AAAA fd00::1\n_coap._udp.a SRV 0 0 1 a\nb HTTPS 1 a alpn=h3\n@ TXT about\n";
    for (int i = 0; i < 200; ++i)
      zone += absl::StrFormat("huge TXT %03d%s\n", i, std::string(200, 'x'));
    DnsServerOptions options;
    options.listen = {"[::1]:0", "127.0.0.1:0"};
    options.tcp_progress_time = milliseconds(500);
    options.tcp_idle_time = seconds(2);
    options.max_tcp_connections = options.max_tcp_connections_per_peer = 200;
    options.max_tcp_buffer_bytes = std::size_t{2} << 20;
    auto server = DnsServer::Create(*StaticDnsSource::FromZone(zone, "internal"), options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    resident_before_ = ResidentBytes();
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    ExpectAnswers();
    EXPECT_LE(server_->stats().buffer_bytes, std::size_t{2} << 20);
    EXPECT_LE(server_->stats().connections, 200u);
    if (!kWatched) {
      EXPECT_LT(ResidentBytes(), resident_before_ + (std::size_t{64} << 20));
    }
  }

  UniqueFd Connect(int type, int wait_ms = 5000) const {
    const Endpoint endpoint = *ParseEndpoint(server_->addresses()[0]);
    UniqueFd fd(socket(AF_INET6, type | SOCK_CLOEXEC, 0));
    const timeval limit = {wait_ms / 1000, wait_ms % 1000 * 1000};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd.get(), endpoint.get(), endpoint.size) != 0) return UniqueFd();
    return fd;
  }
  /// Somebody else asks, on both transports, and is answered soon.
  void ExpectAnswers() const {
    const auto start = Time::now();
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
      const UniqueFd fd = Connect(type);
      ASSERT_TRUE(fd);
      const std::string query = Query(0x7777, "a.internal.", 28);
      const std::string sent = type == SOCK_STREAM ? Framed(query) : query;
      ASSERT_EQ(send(fd.get(), sent.data(), sent.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(sent.size()));
      std::string answer(600, '\0');
      const ssize_t size = recv(fd.get(), answer.data(), answer.size(), 0);
      ASSERT_GT(size, 14) << (type == SOCK_STREAM ? "TCP" : "UDP");
      answer = answer.substr(type == SOCK_STREAM ? 2 : 0, static_cast<std::size_t>(size));
      EXPECT_EQ(answer.substr(0, 2), "\x77\x77");
      EXPECT_EQ(answer[7], 1) << "one record";
    }
    EXPECT_LT(Time::now() - start, seconds(3));
  }
  static std::size_t ResidentBytes() {
    std::size_t all = 0;
    std::size_t resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  }

  /// A question that was one, with something wrong.
  std::string Mutated() {
    static const std::vector<std::string> seeds = {Query(1, "a.internal.", 28),
                                                   Query(2, "_coap._udp.a.internal.", 33, true),
                                                   Query(3, "b.internal.", 65, true),
                                                   Query(4, "huge.internal.", 16, true),
                                                   Query(5, "internal.", 6),
                                                   Query(6, "nothing.internal.", 255, true),
                                                   Query(7, "1.0.d.f.ip6.arpa.", 12),
                                                   Query(8, "example.com.", 1),
                                                   std::string(12, '\0'),
                                                   std::string(600, '\xc0')};
    std::string query = seeds[random_() % seeds.size()];
    switch (random_() % 8) {
      case 0:
        query.resize(random_() % (query.size() + 1));
        break;
      case 1:
        query += std::string(random_() % 3000, static_cast<char>(random_()));
        break;
      case 2:
        for (std::size_t i = 4; i < std::min<std::size_t>(12, query.size()); ++i)
          query[i] = static_cast<char>(random_() % 4 == 0 ? random_() : random_() % 3);
        break;
      case 3:
        query.insert(random_() % query.size(), query.substr(random_() % query.size()));
        break;
      default:
        for (auto n = random_() % 6; n > 0; --n)
          query[random_() % query.size()] = static_cast<char>(random_());
    }
    return query;
  }

  std::unique_ptr<DnsServer> server_;
  std::mt19937 random_{20};
  std::size_t resident_before_ = 0;
};

TEST_F(DnsAttack, AnyDatagrams) {
  const UniqueFd fd = Connect(SOCK_DGRAM, 10);
  std::string answer(70'000, '\0');
  int answers = 0;
  for (int i = 0; i < 8000 * Rounds(); ++i) {
    const std::string query = Mutated();
    if (send(fd.get(), query.data(), query.size(), 0) < 0) continue;
    if (i % 16 != 0) continue;
    for (ssize_t size; (size = recv(fd.get(), answer.data(), answer.size(), MSG_DONTWAIT)) > 0;) {
      ++answers;
      const auto message = DecodeMessage(ToBytes(answer).first(static_cast<std::size_t>(size)));
      ASSERT_TRUE(message.ok()) << message.status();
      EXPECT_NE(message->flags & kFlagQr, 0);
      EXPECT_LE(size, 4096);
    }
    if (i % 1024 == 0) ExpectAnswers();
  }
  EXPECT_GT(answers, 100);
}

TEST_F(DnsAttack, AnyStreams) {
  std::string answers(200'000, '\0');
  for (int i = 0; i < 400 * Rounds(); ++i) {
    const UniqueFd fd = Connect(SOCK_STREAM, 200);
    ASSERT_TRUE(fd);
    std::string bytes;
    for (auto n = random_() % 20; n > 0; --n) {
      const std::string query = Mutated();
      // Now and then a length that lies.
      bytes += random_() % 16 == 0 ? Framed(query).replace(0, 2, "\x01\x30") : Framed(query);
    }
    std::size_t at = 0;
    while (at < bytes.size()) {
      const std::size_t part = std::min<std::size_t>(1 + random_() % 700, bytes.size() - at);
      if (send(fd.get(), &bytes[at], part, MSG_NOSIGNAL | MSG_DONTWAIT) <= 0) break;
      at += part;
      if (random_() % 3 == 0) (void)recv(fd.get(), answers.data(), answers.size(), MSG_DONTWAIT);
    }
    const linger reset = {1, 0};
    switch (random_() % 3) {
      case 0:
        setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        break;
      case 1:
        shutdown(fd.get(), SHUT_WR);
        break;
      default:
        break;
    }
    if (i % 100 == 0) ExpectAnswers();
  }
}

TEST_F(DnsAttack, SlowOnPurpose) {
  std::vector<UniqueFd> slow;
  const std::string query = Framed(Query(1, "a.internal.", 28));
  std::size_t at = 0;
  const auto end = Time::now() + seconds(2);
  while (Time::now() < end) {
    // Each keeps a question in the making; who was closed comes back.
    for (UniqueFd& fd : slow)
      if (send(fd.get(), &query[at % query.size()], 1, MSG_NOSIGNAL | MSG_DONTWAIT) <= 0)
        fd = Connect(SOCK_STREAM);
    ++at;
    for (int i = 0; i < 30 && slow.size() < 300; ++i) slow.push_back(Connect(SOCK_STREAM));
    ExpectAnswers();
  }
  EXPECT_GT(server_->stats().timed_out + server_->stats().evicted, 100u);
}

TEST_F(DnsAttack, AnswersThatNobodyTakes) {
  std::string queries;
  for (int i = 0; i < 800; ++i)
    queries += Framed(Query(static_cast<std::uint16_t>(i), "huge.internal.", 16));
  std::vector<UniqueFd> greedy;
  for (int i = 0; i < 150; ++i) {
    greedy.push_back(Connect(SOCK_STREAM));
    (void)send(greedy.back().get(), queries.data(), queries.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    EXPECT_LE(server_->stats().buffer_bytes, std::size_t{2} << 20);
    if (i % 25 == 0) ExpectAnswers();
  }
}

TEST_F(DnsAttack, ConnectionsOneAfterTheOther) {
  for (int i = 0; i < 2000 * Rounds(); ++i) {
    const UniqueFd fd = Connect(SOCK_STREAM);
    ASSERT_TRUE(fd) << i;
    if (i % 250 == 0) ExpectAnswers();
  }
  std::vector<UniqueFd> held;
  for (int i = 0; i < 500; ++i) held.push_back(Connect(SOCK_STREAM));
  ExpectAnswers();
}

TEST_F(DnsAttack, NoAnswerToAnswers) {
  const UniqueFd fd = Connect(SOCK_DGRAM, 200);
  std::string query = Query(1, "a.internal.", 28);
  query[2] = static_cast<char>(0x80);
  for (int i = 0; i < 1000; ++i) (void)send(fd.get(), query.data(), query.size(), 0);
  char byte = 0;
  EXPECT_LT(recv(fd.get(), &byte, 1, 0), 0);
}

TEST_F(DnsAttack, FromPortZero) {
  const UniqueFd raw(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!raw) GTEST_SKIP() << "raw sockets: " << strerror(errno);
  Endpoint endpoint = *ParseEndpoint(server_->addresses()[1]);
  const UniqueFd good(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const timeval limit = {5, 0};
  setsockopt(good.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ASSERT_EQ(connect(good.get(), endpoint.get(), endpoint.size), 0);
  const std::string query = Query(1, "a.internal.", 28);
  udphdr header = {};
  header.uh_dport = htons(endpoint.port());
  header.uh_ulen = htons(static_cast<std::uint16_t>(sizeof header + query.size()));
  std::string packet(reinterpret_cast<const char*>(&header), sizeof header);
  packet += query;
  endpoint.set_port(0);
  // Nothing can be sent there; who is answered in the same batch must not notice.
  for (int i = 0; i < 500; ++i) {
    if (sendto(raw.get(), packet.data(), packet.size(), 0, endpoint.get(), endpoint.size) < 0)
      GTEST_SKIP() << "raw sockets: " << strerror(errno);
    ASSERT_GT(send(good.get(), query.data(), query.size(), 0), 0);
    std::string answer(600, '\0');
    ASSERT_GT(recv(good.get(), answer.data(), answer.size(), 0), 0) << i;
  }
  EXPECT_GT(server_->stats().unsent, 0u);
}

}  // namespace
}  // namespace waxvm::dns

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], "--rounds=", 9) == 0)
      waxvm::dns::Rounds() = std::max(1, std::atoi(argv[i] + 9));
  return RUN_ALL_TESTS();
}
