// SPDX-License-Identifier: Apache-2.0
// The server on real sockets.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <random>
#include <thread>

#include "src/base/strings.h"
#include "src/base/unique_fd.h"
#include "src/dns/message.h"
#include "src/dns/rdata.h"
#include "src/dns/sockets.h"
#include "waxvm/dns.h"

namespace waxvm::dns {
namespace {

using std::chrono::milliseconds;

constexpr int kWaitMs = 5000;

std::string Query(std::uint16_t id, std::string_view name = "a.internal.", int type = 28) {
  Message query = {.id = id};
  query.questions.push_back(
      {.name = *Name::FromText(name), .type = static_cast<std::uint16_t>(type)});
  return *EncodeMessage(query);
}

std::string Framed(std::string_view message) {
  std::string framed = {static_cast<char>(message.size() >> 8), static_cast<char>(message.size())};
  return framed.append(message);
}

UniqueFd Connect(const std::string& address, int type) {
  const Endpoint endpoint = *ParseEndpoint(address);
  UniqueFd fd(socket(endpoint.address.ss_family, type | SOCK_CLOEXEC, 0));
  if (!fd || connect(fd.get(), endpoint.get(), endpoint.size) != 0) return UniqueFd();
  const timeval limit = {kWaitMs / 1000, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return fd;
}

bool SendAll(const UniqueFd& fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string Receive(const UniqueFd& fd) {
  std::string bytes(65536, '\0');
  const ssize_t size = recv(fd.get(), bytes.data(), bytes.size(), 0);
  bytes.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return bytes;
}

std::string ReceiveExactly(const UniqueFd& fd, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t at = 0;
  while (at < size) {
    const ssize_t got = recv(fd.get(), &bytes[at], size - at, 0);
    if (got <= 0) break;
    at += static_cast<std::size_t>(got);
  }
  bytes.resize(at);
  return bytes;
}

/// One message over TCP; "": the connection was closed, or nothing came.
std::string ReceiveMessage(const UniqueFd& fd) {
  const std::string size = ReceiveExactly(fd, 2);
  if (size.size() < 2) return "";
  return ReceiveExactly(fd, Load16(ToBytes(size).data()));
}

/// "id:rcode:answers", or "nothing".
std::string Summary(const std::string& raw) {
  if (raw.empty()) return "nothing";
  const auto message = DecodeMessage(ToBytes(raw));
  if (!message.ok()) return std::string(message.status().message());
  return absl::StrFormat("%d:%d:%d", message->id, message->flags & kRcodeMask,
                         message->answers.size());
}

/// Whether the peer has closed it, or does within `limit`.
bool Closed(const UniqueFd& fd, int limit_ms) {
  pollfd readable = {fd.get(), POLLIN, 0};
  if (poll(&readable, 1, limit_ms) <= 0) return false;
  char byte = 0;
  return recv(fd.get(), &byte, 1, MSG_PEEK) <= 0;
}

int Entries(const char* path) {
  int count = 0;
  DIR* const folder = opendir(path);
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

class DnsServerTest : public testing::Test {
 protected:
  void Start(DnsServerOptions options = {}) {
    if (source_ == nullptr) {
      std::string zone = "a AAAA fd00::1\n";
      for (int i = 0; i < 100; ++i) zone += absl::StrFormat("big AAAA fd00::%x\n", i + 2);
      for (int i = 0; i < 200; ++i)
        zone += absl::StrFormat("huge TXT %03d%s\n", i, std::string(200, 'x'));
      source_ = *StaticDnsSource::FromZone(zone, "internal");
    }
    auto server = DnsServer::Create(source_, options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string address(std::size_t at = 0) const { return server_->addresses().at(at); }
  UniqueFd Udp() const { return Connect(address(), SOCK_DGRAM); }
  UniqueFd Tcp() const { return Connect(address(), SOCK_STREAM); }
  std::string AskUdp(const std::string& query) const {
    const UniqueFd fd = Udp();
    EXPECT_TRUE(SendAll(fd, query));
    return Receive(fd);
  }
  std::string AskTcp(const std::string& query) const {
    const UniqueFd fd = Tcp();
    EXPECT_TRUE(SendAll(fd, Framed(query)));
    return ReceiveMessage(fd);
  }
  /// Waits until it holds, or five seconds.
  template <typename Condition>
  bool Until(Condition condition) const {
    for (int i = 0; i < 500; ++i) {
      if (condition(server_->stats())) return true;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return false;
  }

  std::shared_ptr<DnsSource> source_;
  std::unique_ptr<DnsServer> server_;
};

TEST_F(DnsServerTest, AnswersOnUdpAndTcpOfTheSamePort) {
  Start({.listen = {"[::1]:0", "127.0.0.1:0"}});
  ASSERT_EQ(server_->addresses().size(), 2u);
  EXPECT_TRUE(address().starts_with("[::1]:")) << address();
  EXPECT_EQ(Summary(AskUdp(Query(1))), "1:0:1");
  EXPECT_EQ(Summary(AskTcp(Query(2))), "2:0:1");
  for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
    const UniqueFd fd = Connect(address(1), type);
    SendAll(fd, type == SOCK_DGRAM ? Query(3) : Framed(Query(3)));
    EXPECT_EQ(Summary(type == SOCK_DGRAM ? Receive(fd) : ReceiveMessage(fd)), "3:0:1");
  }
  // They are counted when they are on their way.
  EXPECT_TRUE(
      Until([](const auto& stats) { return stats.udp_answers == 2 && stats.tcp_answers == 2; }));
}

TEST_F(DnsServerTest, TruncatedAnswersAreWholeOverTcp) {
  Start();
  const auto truncated = DecodeMessage(ToBytes(AskUdp(Query(1, "big.internal."))));
  ASSERT_TRUE(truncated.ok());
  EXPECT_NE(truncated->flags & kFlagTc, 0);
  EXPECT_EQ(Summary(AskTcp(Query(1, "big.internal."))), "1:0:100");
  EXPECT_EQ(Summary(AskTcp(Query(1, "huge.internal.", 16))), "1:0:200");
  EXPECT_TRUE(Until([](const auto& stats) { return stats.truncated == 1; }));
}

TEST_F(DnsServerTest, LeavesNoDescriptorAndNoThread) {
  const int before = Entries("/proc/self/fd");
  const int threads_before = Entries("/proc/self/task");
  for (int i = 0; i < 20; ++i) {
    Start();
    const UniqueFd held = Tcp();
    EXPECT_EQ(Summary(AskTcp(Query(2))), "2:0:1");
    server_.reset();
    EXPECT_TRUE(Closed(held, kWaitMs));
  }
  EXPECT_EQ(Entries("/proc/self/fd"), before);
  EXPECT_EQ(Entries("/proc/self/task"), threads_before);
}

TEST_F(DnsServerTest, AnAddressThatIsTakenIsSaid) {
  Start();
  const auto second = DnsServer::Create(source_, {.listen = {address()}});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find(address()), second.status().message().npos)
      << second.status();
  for (const char* bad : {"", "::1:53", "[::1]", "[::1]:65536", "localhost:53", "1.2.3:4", ":53"})
    EXPECT_TRUE(absl::IsInvalidArgument(DnsServer::Create(source_, {.listen = {bad}}).status()))
        << bad;
  EXPECT_FALSE(DnsServer::Create(source_, {.listen = {}}).ok());
  EXPECT_FALSE(DnsServer::Create(nullptr).ok());
  EXPECT_FALSE(DnsServer::Create(source_, {.max_tcp_connections = 0}).ok());
}

TEST_F(DnsServerTest, EveryAddressAnswersAsTheOneThatWasAsked) {
  Start({.listen = {"0.0.0.0:0"}});
  const std::string port = address().substr(address().rfind(':'));
  // A connected socket takes answers from nowhere else.
  for (const char* host : {"127.0.0.1", "127.0.0.2", "127.1.2.3"}) {
    const UniqueFd fd = Connect(host + port, SOCK_DGRAM);
    SendAll(fd, Query(4));
    EXPECT_EQ(Summary(Receive(fd)), "4:0:1") << host;
  }
}

TEST_F(DnsServerTest, Pipelining) {
  Start();
  const UniqueFd fd = Tcp();
  std::string queries;
  for (std::uint16_t id = 0; id < 2000; ++id) queries += Framed(Query(id));
  std::thread writer([&] { EXPECT_TRUE(SendAll(fd, queries)); });
  for (int id = 0; id < 2000; ++id)
    ASSERT_EQ(Summary(ReceiveMessage(fd)), absl::StrFormat("%d:0:1", id));
  writer.join();
}

TEST_F(DnsServerTest, AClosedWritingSideStillGetsItsAnswers) {
  Start();
  const UniqueFd fd = Tcp();
  std::string queries;
  for (std::uint16_t id = 0; id < 100; ++id) queries += Framed(Query(id, "huge.internal.", 16));
  std::thread writer([&] {
    SendAll(fd, queries);
    shutdown(fd.get(), SHUT_WR);
  });
  for (int id = 0; id < 100; ++id)
    ASSERT_EQ(Summary(ReceiveMessage(fd)), absl::StrFormat("%d:0:200", id));
  writer.join();
  EXPECT_TRUE(Closed(fd, kWaitMs));
}

TEST_F(DnsServerTest, AThousandIdleConnectionsStarveNobody) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit before = limit;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < 2500) GTEST_SKIP() << "this process may only open " << limit.rlim_cur;
  // All of them kept, and then the limits that are met.
  for (const bool all : {true, false}) {
    DnsServerOptions options;
    if (all) options.max_tcp_connections = options.max_tcp_connections_per_peer = 1100;
    Start(options);
    std::vector<UniqueFd> idle;
    for (int i = 0; i < 1000; ++i) {
      idle.push_back(Tcp());
      ASSERT_TRUE(idle.back());
    }
    EXPECT_TRUE(Until([](const auto& stats) { return stats.accepted == 1000; }));
    EXPECT_EQ(server_->stats().connections, all ? 1000 : options.max_tcp_connections_per_peer);
    EXPECT_EQ(server_->stats().buffer_bytes, 0u);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(Summary(AskUdp(Query(1))), "1:0:1");
      EXPECT_EQ(Summary(AskTcp(Query(2))), "2:0:1");
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
    SendAll(idle.back(), Framed(Query(3)));
    EXPECT_EQ(Summary(ReceiveMessage(idle.back())), "3:0:1");
    EXPECT_EQ(Closed(idle.front(), 0), !all) << "the longest idle makes room";
    server_.reset();
  }
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(DnsServerTest, NoDescriptorLeftIsSurvived) {
  Start();
  std::vector<UniqueFd> mine;
  const UniqueFd udp = Udp();
  for (int i = 0; i < 3; ++i) mine.push_back(Tcp());
  ASSERT_TRUE(Until([](const auto& stats) { return stats.connections == 3; }));
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit before = limit;
  const UniqueFd next(dup(0));
  // One for the client's end, none for the server's.
  limit.rlim_cur = static_cast<rlim_t>(next.get()) + 2;
  setrlimit(RLIMIT_NOFILE, &limit);
  const UniqueFd fd = Tcp();
  EXPECT_TRUE(fd);
  SendAll(fd, Framed(Query(5)));
  EXPECT_EQ(Summary(ReceiveMessage(fd)), "5:0:1") << "an idle one made room";
  SendAll(udp, Query(6));
  EXPECT_EQ(Summary(Receive(udp)), "6:0:1");
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(server_->stats().evicted, 1u);
}

TEST_F(DnsServerTest, IdleAndSlowConnectionsAreClosed) {
  Start({.tcp_idle_time = milliseconds(200), .tcp_progress_time = milliseconds(200)});
  const UniqueFd idle = Tcp();
  const UniqueFd partial = Tcp();
  SendAll(partial, Framed(Query(1)).substr(0, 7));
  const UniqueFd skipped = Tcp();
  SendAll(skipped, Framed(Query(1) + std::string(60'000, 'x')).substr(0, 100));
  EXPECT_TRUE(Closed(idle, 2000));
  EXPECT_TRUE(Closed(partial, 2000));
  ReceiveMessage(skipped);
  EXPECT_TRUE(Closed(skipped, 2000));
  // A byte now and then is no progress.
  const UniqueFd slow = Tcp();
  const std::string query = Framed(Query(1));
  std::size_t sent = 0;
  const auto start = std::chrono::steady_clock::now();
  while (sent < query.size() && SendAll(slow, query.substr(sent, 1))) {
    ++sent;
    if (Closed(slow, 30)) break;
  }
  EXPECT_LT(sent, query.size());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_TRUE(Until([](const auto& stats) { return stats.connections == 0; }));
  EXPECT_EQ(server_->stats().timed_out, 4u);
}

TEST_F(DnsServerTest, WhoNeverReadsIsClosedAndMemoryIsBounded) {
  Start({.tcp_progress_time = milliseconds(300), .max_tcp_buffer_bytes = 1 << 20});
  std::vector<UniqueFd> greedy;
  std::string queries;
  for (std::uint16_t id = 0; id < 500; ++id) queries += Framed(Query(id, "huge.internal.", 16));
  std::size_t most = 0;
  for (int i = 0; i < 40; ++i) {
    greedy.push_back(Tcp());
    send(greedy.back().get(), queries.data(), queries.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    most = std::max(most, server_->stats().buffer_bytes);
    EXPECT_EQ(Summary(AskUdp(Query(1))), "1:0:1");
  }
  EXPECT_LE(most, std::size_t{1} << 20);
  EXPECT_EQ(Summary(AskTcp(Query(2))), "2:0:1");
  EXPECT_TRUE(Until([](const auto& stats) { return stats.connections == 0; }));
  EXPECT_EQ(server_->stats().buffer_bytes, 0u);
}

TEST_F(DnsServerTest, The65535ByteQuestion) {
  Start();
  std::string query = Query(8);
  query.resize(65535, 'x');
  const UniqueFd fd = Tcp();
  ASSERT_TRUE(SendAll(fd, Framed(query) + Framed(Query(9))));
  EXPECT_EQ(Summary(ReceiveMessage(fd)), "8:1:0");
  EXPECT_EQ(Summary(ReceiveMessage(fd)), "9:0:1");
  // As a datagram it is cut off.
  query.resize(60'000);
  EXPECT_EQ(Summary(AskUdp(query)), "8:1:0");
}

TEST_F(DnsServerTest, NothingIsAnsweredToAnAnswer) {
  Start();
  const UniqueFd fd = Udp();
  std::string answer = Query(1);
  answer[2] = static_cast<char>(0x80);
  SendAll(fd, answer);
  SendAll(fd, "short");
  SendAll(fd, Query(2));
  EXPECT_EQ(Summary(Receive(fd)), "2:0:1");
  EXPECT_TRUE(Until([](const auto& stats) { return stats.dropped == 2; }));
  const UniqueFd tcp = Tcp();
  SendAll(tcp, Framed(answer));
  EXPECT_TRUE(Closed(tcp, kWaitMs));
}

TEST_F(DnsServerTest, EveryQuestionOfAFloodIsAnswered) {
  Start();
  const UniqueFd fd = Udp();
  std::map<int, int> answers;
  constexpr int kInFlight = 100;
  int sent = 0;
  int received = 0;
  while (received < 20'000) {
    while (sent < 20'000 && sent - received < kInFlight)
      SendAll(fd, Query(static_cast<std::uint16_t>(sent++)));
    const std::string raw = Receive(fd);
    ASSERT_FALSE(raw.empty()) << received << " of " << sent;
    ++answers[Load16(ToBytes(raw).data())];
    ++received;
  }
  EXPECT_EQ(answers.size(), 20'000u) << "each once";
  EXPECT_TRUE(Until([](const auto& stats) { return stats.udp_answers == 20'000; }));
  EXPECT_EQ(server_->stats().unsent, 0u);
}

class Slow final : public DnsSource {
 public:
  DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) override {
    if (question.name == "slow" && !ready) return DnsFound::kPending;
    answer.Add(DnsType::kAaaa, 1, std::string(16, 'a'));
    return DnsFound::kYes;
  }
  std::atomic<bool> ready = false;
};

TEST_F(DnsServerTest, WaitsForASourceWithoutKeepingOthersWaiting) {
  auto source = std::make_shared<Slow>();
  source_ = source;
  Start();
  const UniqueFd udp = Udp();
  const UniqueFd tcp = Tcp();
  SendAll(udp, Query(1, "slow.internal."));
  SendAll(tcp, Framed(Query(2, "slow.internal.")) + Framed(Query(3)));
  EXPECT_TRUE(Until([](const auto& stats) { return stats.pending == 1; }));
  EXPECT_EQ(Summary(AskUdp(Query(4))), "4:0:1");
  EXPECT_EQ(Summary(AskTcp(Query(5))), "5:0:1");
  const auto start = std::chrono::steady_clock::now();
  source->ready = true;
  EXPECT_EQ(Summary(Receive(udp)), "1:0:1");
  EXPECT_EQ(Summary(ReceiveMessage(tcp)), "2:0:1");
  EXPECT_EQ(Summary(ReceiveMessage(tcp)), "3:0:1");
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(1500));
  EXPECT_TRUE(Until([](const auto& stats) { return stats.pending == 0; }));
}

TEST_F(DnsServerTest, WaitingEndsAndIsBounded) {
  source_ = std::make_shared<Slow>();
  Start({.pending_time = milliseconds(300), .max_pending = 3});
  std::vector<UniqueFd> fds;
  for (std::uint16_t id = 0; id < 5; ++id) {
    fds.push_back(Udp());
    SendAll(fds.back(), Query(id, "slow.internal."));
    Until([&](const auto& stats) { return stats.udp_questions == id + 1u; });
  }
  EXPECT_EQ(Summary(Receive(fds[3])), "3:2:0") << "at once";
  EXPECT_EQ(Summary(Receive(fds[4])), "4:2:0");
  EXPECT_EQ(server_->stats().pending, 3u);
  EXPECT_EQ(Summary(Receive(fds[0])), "0:2:0");
  EXPECT_EQ(Summary(Receive(fds[2])), "2:2:0");
  EXPECT_EQ(Summary(AskTcp(Query(7, "slow.internal."))), "7:2:0");
}

}  // namespace
}  // namespace waxvm::dns
