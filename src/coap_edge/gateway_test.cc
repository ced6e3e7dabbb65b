// SPDX-License-Identifier: Apache-2.0
// libcoap's own clients outside, an Endpoint inside, the gateway between them, all on loopback.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "src/base/unique_fd.h"
#include "waxvm/coap_edge.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/coap_message.h"

namespace waxvm::coap {
namespace {

using namespace std::chrono_literals;

constexpr char kKey[] = "0123456789abcdef";
constexpr std::size_t kBigBytes = 5000;

std::string Output(const std::string& command) {
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::string output;
  char buffer[4096];
  while (const std::size_t bytes = fread(buffer, 1, sizeof buffer, pipe))
    output.append(buffer, bytes);
  pclose(pipe);
  return output;
}

/// A file that only this run of the test has.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content = "") {
    close(mkstemp(name_));
    std::ofstream(name_) << content;
  }
  ~TemporaryFile() { unlink(name_); }
  std::string name() const { return name_; }
  std::string content() const {
    std::ifstream file(name_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  char name_[32] = "/tmp/waxvm-edge-XXXXXX";
};

/// A pair of keys in one file, as coap-client takes it with -M, made by openssl.
std::string NewKeyPair() {
  const TemporaryFile file;
  Output("openssl ecparam -name prime256v1 -genkey -noout -out " + file.name());
  return file.content();
}
std::string NewEd25519KeyPair() {
  const TemporaryFile file;
  Output("openssl genpkey -algorithm ed25519 -out " + file.name());
  return file.content() + Output("openssl pkey -pubout -in " + file.name());
}
std::string PublicKeyOf(const std::string& pair) {
  const TemporaryFile file(pair);
  return Output("openssl pkey -pubout -in " + file.name());
}

sockaddr_in6 ToKernel(const SocketAddress& address) {
  sockaddr_in6 to = {};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(address.port);
  std::copy(address.address.bytes.begin(), address.address.bytes.end(), to.sin6_addr.s6_addr);
  return to;
}

UniqueFd Connect(const SocketAddress& address, int type) {
  UniqueFd fd(socket(AF_INET6, type | SOCK_CLOEXEC, 0));
  const sockaddr_in6 to = ToKernel(address);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) fd.reset();
  return fd;
}

/// What comes within a time; empty: nothing. At the end of a connection: "closed".
std::string Receive(int fd, std::chrono::milliseconds limit) {
  pollfd waited = {fd, POLLIN, 0};
  if (poll(&waited, 1, static_cast<int>(limit.count())) <= 0) return "";
  char buffer[65536];
  const ssize_t bytes = recv(fd, buffer, sizeof buffer, 0);
  return bytes <= 0 ? "closed" : std::string(buffer, static_cast<std::size_t>(bytes));
}

bool IsClosedWithin(int fd, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end)
    if (Receive(fd, 200ms) == "closed") return true;
  return false;
}

std::string Datagram(Type type, std::uint16_t mid, std::string_view token, const Message& message) {
  std::vector<std::byte> buffer(2048);
  MessageWriter writer(buffer, type, message.code(), mid, ToBytes(token));
  message.WriteTo(writer);
  return std::string(ToText(writer.message()));
}

class EdgeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    inside_ = NewEndpoint();
    client_ = NewEndpoint();
    ASSERT_NE(inside_, nullptr);
    ASSERT_NE(client_, nullptr);
    Serve();
    ASSERT_TRUE(inside_->Start().ok());
    ASSERT_TRUE(client_->Start().ok());
    inside_client_ = NewInsideClient(*client_);
    const SocketAddress any = {*Address::Parse("::1"), 0};
    // coap-client gives the address as the name of the server, and GnuTLS takes none with colons.
    const SocketAddress ipv4 = {*Address::Parse("::ffff:127.0.0.1"), 0};
    options_.listeners = {
        {EdgeTransport::kUdp, any}, {EdgeTransport::kTcp, any}, {EdgeTransport::kDtls, ipv4}};
    options_.hosts = {{"thermo", inside_->local_address()}};
    options_.mappings = {{"/home", "coap://thermo/"}, {"/only/temp", "coap://thermo/temp"}};
    options_.rules = {{.who = "anonymous", .host = "thermo", .path = "/temp"},
                      {.who = "anonymous", .host = "thermo", .path = "/big"},
                      {.who = "anonymous", .host = "thermo", .path = "/state"},
                      {.who = "anonymous", .host = "thermo", .path = "/slow"},
                      {.who = "anonymous", .host = "thermo", .path = "/count"},
                      {.who = "anonymous",
                       .host = "thermo",
                       .path = "/echo",
                       .methods = {Code::kPost, Code::kPut}},
                      {.who = "psk:alice", .host = "thermo", .path = "/secret"}};
    options_.pre_shared_key = [](std::string_view identity) -> std::optional<std::string> {
      if (identity == "alice") return kKey;
      if (identity == "bob") return "another key of 1";
      return std::nullopt;
    };
  }

  static std::unique_ptr<Endpoint> NewEndpoint() {
    auto socket = NewUdpSocket({.local = {*Address::Parse("::1"), 0}});
    if (!socket.ok()) return nullptr;
    EndpointOptions options;
    options.transmission.nstart = 64;  // one slow server must not hold up the others' requests
    auto endpoint = Endpoint::Create(*std::move(socket), options);
    return endpoint.ok() ? *std::move(endpoint) : nullptr;
  }

  void Serve() {
    const auto serve = [this](std::string path, Methods methods, ResourceHandler handler,
                              bool observable = false) {
      Resource resource;
      resource.path = std::move(path);
      resource.methods = methods;
      resource.observable = observable;
      resource.handler = std::move(handler);
      ASSERT_TRUE(inside_->Serve(std::move(resource)).ok());
    };
    serve("/temp", {Code::kGet},
          [](const ServedRequest&, Responder& to) { to.Send(Code::kContent, ToBytes("21.5")); });
    serve("/secret", {Code::kGet},
          [](const ServedRequest&, Responder& to) { to.Send(Code::kContent, ToBytes("gold")); });
    serve("/big", {Code::kGet}, [](const ServedRequest&, Responder& to) {
      to.Send(Code::kContent, ToBytes(std::string(kBigBytes, 'b')));
    });
    serve("/echo", {Code::kPost, Code::kPut}, [](const ServedRequest& request, Responder& to) {
      to.Send(Code::kChanged, request.payload);
    });
    serve("/count", {Code::kGet}, [this](const ServedRequest&, Responder& to) {
      to.Send(Code::kContent, ToBytes(std::to_string(++count_)));
    });
    serve("/slow", {Code::kGet}, [this](const ServedRequest&, Responder& to) {
      const std::lock_guard lock(mutex_);
      deferred_.push_back(to.Defer());
    });
    serve(
        "/state", {Code::kGet},
        [this](const ServedRequest&, Responder& to) {
          to.Send(Code::kContent, ToBytes("state " + std::to_string(state_)));
        },
        true);
  }

  void TearDown() override {
    gateway_.reset();
    inside_client_.reset();
    deferred_.clear();
  }

  void Start() {
    auto gateway = EdgeGateway::Start(*inside_client_, options_);
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    ASSERT_EQ(gateway_->addresses().size(), options_.listeners.size());
  }
  SocketAddress At(EdgeTransport transport) const {
    return gateway_->addresses()[static_cast<std::size_t>(transport)];
  }
  std::string Uri(const std::string& path, EdgeTransport transport = EdgeTransport::kUdp) const {
    const char* const schemes[] = {"coap", "coap+tcp", "coaps"};
    const std::string at = transport == EdgeTransport::kDtls
                               ? absl::StrFormat("127.0.0.1:%d", At(transport).port)
                               : At(transport).ToText();
    return absl::StrFormat("'%s://%s%s'", schemes[static_cast<int>(transport)], at, path);
  }
  std::string Plain(const std::string& arguments) const {
    return Output("timeout 20 coap-client-notls -B 8 " + arguments);
  }
  std::string Secure(const std::string& arguments) const {
    return Output("timeout 20 coap-client-gnutls -v 5 -B 6 " + arguments);
  }
  /// Until the gateway's figures say so.
  template <typename Condition>
  bool Eventually(Condition condition, std::chrono::milliseconds limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition(gateway_->stats())) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(10ms);
    }
    return true;
  }

  std::atomic<int> count_ = 0;
  std::atomic<int> state_ = 1;
  std::mutex mutex_;
  std::vector<DeferredResponder> deferred_;
  EdgeOptions options_;
  std::unique_ptr<Endpoint> inside_;
  std::unique_ptr<Endpoint> client_;
  std::unique_ptr<InsideClient> inside_client_;
  std::unique_ptr<EdgeGateway> gateway_;
};

TEST_F(EdgeTest, GetOverUdpAndTcp) {
  Start();
  EXPECT_EQ(Plain(Uri("/home/temp")), "21.5\n");
  EXPECT_EQ(Plain("-N " + Uri("/home/temp")), "21.5\n");
  EXPECT_EQ(Plain(Uri("/only/temp")), "21.5\n");
  EXPECT_EQ(Plain(Uri("/home/temp", EdgeTransport::kTcp)), "21.5\n");
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.forwarded == 4; }));
}

TEST_F(EdgeTest, WhatNoRuleAllowsIsRefused) {
  Start();
  EXPECT_NE(Plain(Uri("/home/secret")).find("4.03"), std::string::npos);
  EXPECT_NE(Plain("-m delete " + Uri("/home/temp")).find("4.05"), std::string::npos);
  EXPECT_NE(Plain(Uri("/nothing")).find("4.04"), std::string::npos);
  EXPECT_NE(Plain(Uri("/home/temp/below")).find("4.03"), std::string::npos);
  // "..", as a segment of its own, which coap-client would resolve.
  EXPECT_NE(Plain("-O 11,home -O 11,temp -O 11,.. -O 11,secret " + Uri("/")).find("4.02"),
            std::string::npos);
  EXPECT_EQ(gateway_->stats().forwarded, 0u);
}

TEST_F(EdgeTest, ForwardProxyWithProxyUriAndProxyScheme) {
  Start();
  const std::string proxy = "-P coap://" + At(EdgeTransport::kUdp).ToText() + " ";
  const std::string port = std::to_string(inside_->local_address().port);
  EXPECT_EQ(Plain(proxy + "coap://thermo:" + port + "/temp"), "21.5\n");
  const UniqueFd fd = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  const std::string get = Datagram(Type::kCon, 9, "",
                                   Message(Code::kGet)
                                       .SetPath("/temp")
                                       .SetProxyScheme("coap")
                                       .SetUriHost("Thermo")
                                       .SetUriPort(inside_->local_address().port));
  send(fd.get(), get.data(), get.size(), 0);
  const std::string answer = Receive(fd.get(), 3s);
  EXPECT_EQ(ToText(MessageView::Parse(ToBytes(answer)).payload()), "21.5");
  EXPECT_NE(Plain(proxy + "coap://thermo:" + port + "/secret").find("4.03"), std::string::npos);
  EXPECT_NE(Plain(proxy + "coap://thermo:1/temp").find("4.03"), std::string::npos);
  EXPECT_NE(Plain(proxy + "coap://other/temp").find("4.03"), std::string::npos);
  EXPECT_NE(Plain(proxy + "coaps://thermo/temp").find("5.05"), std::string::npos);
}

TEST_F(EdgeTest, BodiesInBlocksBothWays) {
  Start();
  const std::string big = std::string(kBigBytes, 'b') + "\n";
  EXPECT_EQ(Plain(Uri("/home/big")), big);
  EXPECT_EQ(Plain("-b 64 " + Uri("/home/big")), big);
  EXPECT_EQ(Plain(Uri("/home/big", EdgeTransport::kTcp)), big);
  const TemporaryFile body(std::string(3000, 'x'));
  EXPECT_EQ(Plain("-m put -f " + body.name() + " " + Uri("/home/echo")),
            std::string(3000, 'x') + "\n");
  EXPECT_EQ(Plain("-m put -b 128 -f " + body.name() + " " + Uri("/home/echo")),
            std::string(3000, 'x') + "\n");
  EXPECT_EQ(Plain("-m post -f " + body.name() + " " + Uri("/home/echo", EdgeTransport::kTcp)),
            std::string(3000, 'x') + "\n");
}

TEST_F(EdgeTest, TooLongBodies) {
  options_.limits.max_body_bytes = 4000;
  Start();
  const TemporaryFile body(std::string(6000, 'x'));
  EXPECT_NE(Plain("-m put -f " + body.name() + " " + Uri("/home/echo")).find("4.13"),
            std::string::npos);
  EXPECT_NE(
      Plain("-m put -f " + body.name() + " " + Uri("/home/echo", EdgeTransport::kTcp)).find("4.13"),
      std::string::npos);
  EXPECT_NE(Plain(Uri("/home/big")).find("5.02"), std::string::npos);
}

TEST_F(EdgeTest, Observe) {
  Start();
  for (const EdgeTransport transport : {EdgeTransport::kUdp, EdgeTransport::kTcp}) {
    state_ = 1;
    std::thread changes([this] {
      ASSERT_TRUE(Eventually([](const EdgeStats& s) { return s.observations_now == 1; }));
      for (state_ = 2; state_ <= 4; ++state_) {
        inside_->Notify("/state");
        std::this_thread::sleep_for(300ms);
      }
    });
    const std::string output = Plain("-w -s 2 " + Uri("/home/state", transport));
    changes.join();
    for (const char* state : {"state 1", "state 2", "state 3", "state 4"})
      EXPECT_NE(output.find(state), std::string::npos) << state << " not in " << output;
    EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.observations_now == 0; }, 10s));
  }
}

TEST_F(EdgeTest, DtlsWithPreSharedKeys) {
  Start();
  const std::string secret = Uri("/home/secret", EdgeTransport::kDtls);
  EXPECT_NE(Secure("-u alice -k " + std::string(kKey) + " " + secret).find("gold"),
            std::string::npos);
  EXPECT_NE(
      Output("timeout 20 coap-client-openssl -B 6 -u alice -k " + std::string(kKey) + " " + secret)
          .find("gold"),
      std::string::npos);
  // Somebody else with a key of his own; a wrong key; nobody's identity.
  EXPECT_NE(Secure("-u bob -k 'another key of 1' " + secret).find("4.03"), std::string::npos);
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.handshakes == 3; }));
  EXPECT_EQ(Secure("-u alice -k wrong " + secret).find("gold"), std::string::npos);
  EXPECT_EQ(Secure("-u carol -k " + std::string(kKey) + " " + secret).find("gold"),
            std::string::npos);
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.unknown_keys >= 1; }));
  EXPECT_EQ(gateway_->stats().handshakes, 3u);
  EXPECT_EQ(gateway_->stats().forwarded, 2u);
}

TEST_F(EdgeTest, DtlsWithRawPublicKeys) {
  const std::string friend_pair = NewKeyPair();
  const std::string stranger_pair = NewKeyPair();
  options_.raw_key_pem = NewKeyPair();
  options_.peer_keys_pem = {PublicKeyOf(friend_pair)};
  const auto identity = RawKeyIdentity(PublicKeyOf(friend_pair));
  ASSERT_TRUE(identity.ok()) << identity.status();
  options_.rules.push_back({.who = *identity, .host = "thermo", .path = "/secret"});
  Start();
  const TemporaryFile known(friend_pair);
  const TemporaryFile unknown(stranger_pair);
  const std::string secret = Uri("/home/secret", EdgeTransport::kDtls);
  EXPECT_NE(Secure("-n -M " + known.name() + " " + secret).find("gold"), std::string::npos);
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.handshakes == 1; }));
  EXPECT_EQ(Secure("-n -M " + unknown.name() + " " + secret).find("gold"), std::string::npos);
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.unknown_keys >= 1; }));
  // Both kinds of keys on one listener.
  EXPECT_NE(Secure("-u alice -k " + std::string(kKey) + " " + secret).find("gold"),
            std::string::npos);
}

TEST_F(EdgeTest, DtlsWithEd25519) {
  const std::string ecdsa = NewKeyPair();
  const std::string ed25519 = NewEd25519KeyPair();
  options_.raw_key_pem = NewEd25519KeyPair();
  options_.peer_keys_pem = {PublicKeyOf(ecdsa), ed25519};
  options_.rules.push_back({.who = "rpk:*", .host = "thermo", .path = "/secret"});
  Start();
  const TemporaryFile known(ecdsa);
  const std::string secret = Uri("/home/secret", EdgeTransport::kDtls);
  EXPECT_NE(Secure("-n -M " + known.name() + " " + secret).find("gold"), std::string::npos);
  // A difference that is known: libcoap's client with GnuTLS 3.7 has no answer for a server that
  // asks for its key where that is an Ed25519 one.
  const TemporaryFile other(ed25519);
  EXPECT_EQ(Secure("-n -M " + other.name() + " " + secret).find("gold"), std::string::npos);
}

TEST_F(EdgeTest, CertificatesAreNoRawKeys) {
  const std::string pair = NewKeyPair();
  options_.raw_key_pem = NewKeyPair();
  options_.peer_keys_pem = {PublicKeyOf(pair)};
  options_.rules.push_back({.who = "*", .host = "thermo", .path = "/secret"});
  Start();
  const TemporaryFile key(pair);
  const TemporaryFile certificate;
  Output("openssl req -x509 -new -key " + key.name() + " -subj /CN=RPK -days 2 -out " +
         certificate.name());
  for (const char* client : {"coap-client-gnutls", "coap-client-openssl"}) {
    const std::string output =
        Output(absl::StrFormat("timeout 20 %s -B 5 -n -c %s -j %s %s", client, certificate.name(),
                               key.name(), Uri("/home/secret", EdgeTransport::kDtls)));
    EXPECT_EQ(output.find("gold"), std::string::npos) << output;
  }
  EXPECT_EQ(gateway_->stats().handshakes, 0u);
}

TEST_F(EdgeTest, TwoGatewaysInARingStopAtTheHopLimit) {
  // The first sends to the second, and the second to the first.
  const auto port_of = [] {
    const auto socket = NewUdpSocket({.local = {*Address::Parse("::1"), 0}});
    return (*socket)->local_address();
  };
  const SocketAddress first = port_of();
  const SocketAddress second = port_of();
  const auto ring = [&](const SocketAddress& own, const SocketAddress& next) {
    EdgeOptions options;
    options.listeners = {{EdgeTransport::kUdp, own}};
    options.hosts = {{"next", next}};
    options.mappings = {{"/", "coap://next/"}};
    options.rules = {{.who = "*"}};
    return options;
  };
  auto other = EdgeGateway::Start(*inside_client_, ring(second, first));
  ASSERT_TRUE(other.ok()) << other.status();
  options_ = ring(first, second);
  Start();
  EXPECT_NE(Plain(Uri("/around")).find("5.08"), std::string::npos);
  EXPECT_NE(Plain("-H 3 " + Uri("/around")).find("5.08"), std::string::npos);
  EXPECT_LE(gateway_->stats().forwarded + (*other)->stats().forwarded, 20u);
}

TEST_F(EdgeTest, NobodyInsideAndTooLate) {
  options_.limits.request_time = 1500ms;
  options_.hosts.push_back({"gone", {*Address::Parse("::1"), 9}});
  options_.mappings.push_back({"/gone", "coap://gone/"});
  options_.rules.push_back({.who = "anonymous", .host = "gone"});
  Start();
  const std::string gone = Plain(Uri("/gone/x"));
  EXPECT_TRUE(gone.find("5.02") != std::string::npos || gone.find("5.04") != std::string::npos)
      << gone;
  EXPECT_NE(Plain(Uri("/home/slow")).find("5.04"), std::string::npos);
  EXPECT_NE(Plain(Uri("/home/slow", EdgeTransport::kTcp)).find("5.04"), std::string::npos);
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.requests_now == 0; }));
}

TEST_F(EdgeTest, RetransmissionsAreNotHandledAgain) {
  Start();
  const UniqueFd fd = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  const std::string request =
      Datagram(Type::kCon, 77, "tok", Message(Code::kGet).SetPath("/home/count"));
  std::string first;
  for (int i = 0; i < 5; ++i) {
    send(fd.get(), request.data(), request.size(), 0);
    const std::string answer = Receive(fd.get(), 2s);
    if (i == 0) first = answer;
    EXPECT_EQ(answer, first);
  }
  const auto view = MessageView::Parse(ToBytes(first));
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view.type(), Type::kAck);
  EXPECT_EQ(view.id(), 77);
  EXPECT_EQ(ToText(view.payload()), "1");
  EXPECT_EQ(count_, 1);
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.duplicates == 4; }));
}

TEST_F(EdgeTest, UnverifiedClientsGetLittle) {
  Start();
  const UniqueFd fd = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  const std::string get = Datagram(Type::kCon, 1, "", Message(Code::kGet).SetPath("/home/big"));
  send(fd.get(), get.data(), get.size(), 0);
  std::string all;
  for (std::string part; !(part = Receive(fd.get(), 3s)).empty();) all += part;
  EXPECT_LE(all.size(), 3 * get.size());
  const auto view = MessageView::Parse(ToBytes(all));
  EXPECT_EQ(view.code(), Code::kUnauthorized);
  const auto echo = view.options().echo();
  ASSERT_TRUE(echo.has_value());
  // With it, all of the first block.
  const std::string again =
      Datagram(Type::kCon, 2, "", Message(Code::kGet).SetPath("/home/big").SetEcho(*echo));
  send(fd.get(), again.data(), again.size(), 0);
  EXPECT_GT(Receive(fd.get(), 3s).size(), 1000u);
  // Nobody else can use it.
  const UniqueFd other = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  send(other.get(), again.data(), again.size(), 0);
  EXPECT_LE(Receive(other.get(), 3s).size(), 3 * again.size());
}

TEST_F(EdgeTest, NoResponse) {
  Start();
  const UniqueFd fd = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  const auto ask = [&](Type type, std::uint16_t mid) {
    const std::string get =
        Datagram(type, mid, "t", Message(Code::kGet).SetPath("/home/temp").SetNoResponse(2));
    send(fd.get(), get.data(), get.size(), 0);
    return Receive(fd.get(), 1s);
  };
  EXPECT_EQ(ask(Type::kNon, 1), "");
  EXPECT_EQ(ask(Type::kCon, 2).size(), 4u);  // an empty acknowledgement
}

TEST_F(EdgeTest, DiscoveryShowsWhatIsAllowed) {
  Start();
  const std::string links = Plain(Uri("/.well-known/core"));
  EXPECT_NE(links.find("</home>"), std::string::npos) << links;
  EXPECT_NE(links.find("</only/temp>"), std::string::npos) << links;
}

TEST_F(EdgeTest, IdleConnectionsGiveWay) {
  options_.limits.tcp_connections = 100;
  options_.limits.tcp_per_source = 2000;
  options_.limits.handshake_time = 2s;
  Start();
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 8192);
  setrlimit(RLIMIT_NOFILE, &files);
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 1000; ++i) idle.push_back(Connect(At(EdgeTransport::kTcp), SOCK_STREAM));
  EXPECT_EQ(Plain(Uri("/home/temp", EdgeTransport::kTcp)), "21.5\n");
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.cut_off >= 1000; }, 15s))
      << gateway_->stats().cut_off;
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.sessions <= 10; }, 5s))
      << gateway_->stats().sessions;
  EXPECT_EQ(Plain(Uri("/home/temp", EdgeTransport::kTcp)), "21.5\n");
}

TEST_F(EdgeTest, OneSourceHasSoManyConnections) {
  options_.limits.tcp_per_source = 5;
  Start();
  std::vector<UniqueFd> open;
  for (int i = 0; i < 20; ++i) open.push_back(Connect(At(EdgeTransport::kTcp), SOCK_STREAM));
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.cut_off == 15; }));
  int closed = 0;
  for (const UniqueFd& fd : open) closed += IsClosedWithin(fd.get(), 300ms) ? 1 : 0;
  EXPECT_EQ(closed, 15);
}

TEST_F(EdgeTest, GarbageOverTcp) {
  Start();
  for (const std::string& garbage :
       {std::string(3000, '\xff'), std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("\xf0\xff\xff\xff\xff\xe1", 6) + std::string(500, '\x00'),
        std::string(1, '\x00')}) {
    const UniqueFd fd = Connect(At(EdgeTransport::kTcp), SOCK_STREAM);
    send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    Receive(fd.get(), 200ms);
  }
  EXPECT_EQ(Plain(Uri("/home/temp", EdgeTransport::kTcp)), "21.5\n");
}

/// Sends requests with a method that nobody knows, and reads nothing: libcoap answers these itself,
/// and would queue the answers without bound. Whether the connection was closed.
bool IsCutOffForFlooding(const SocketAddress& address, bool settings) {
  const UniqueFd fd = Connect(address, SOCK_STREAM);
  const timeval limit = {0, 100'000};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (settings) {
    // With a ping, whose pong shows that they have been read.
    send(fd.get(), "\x00\xe1\x00\xe2", 4, MSG_NOSIGNAL);
    std::string answer;
    while (answer.find('\xe3') == std::string::npos) {
      const std::string part = Receive(fd.get(), 3s);
      if (part.empty() || part == "closed") return false;
      answer += part;
    }
  }
  std::string flood;
  for (int i = 0; i < 5000; ++i) flood += std::string("\x00\x1e", 2);
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (std::chrono::steady_clock::now() < end)
    if (send(fd.get(), flood.data(), flood.size(), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
      return true;
  return false;
}

long MemoryKibibytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST_F(EdgeTest, ConnectionsThatDoNotReadAreCutOff) {
  Start();
  const long before = MemoryKibibytes();
  EXPECT_TRUE(IsCutOffForFlooding(At(EdgeTransport::kTcp), true));
  EXPECT_TRUE(IsCutOffForFlooding(At(EdgeTransport::kTcp), false));
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.cut_off == 2; }));
  EXPECT_LT(MemoryKibibytes() - before, 32 * 1024);
}

TEST_F(EdgeTest, HalfFinishedHandshakes) {
  options_.limits.handshakes = 20;
  Start();
  // The beginning of a ClientHello without a cookie, from many addresses.
  const std::string hello(
      "\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x36\x01\x00\x00\x2a"
      "\x00\x00\x00\x00\x00\x00\x00\x2a\xfe\xfd",
      27);
  const std::string rest =
      std::string(32, 'r') + std::string("\x00\x00\x00\x02\xc0\xa8\x01\x00", 8);
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 500; ++i) {
    sockets.push_back(Connect(At(EdgeTransport::kDtls), SOCK_DGRAM));
    const std::string packet = hello + rest;
    send(sockets.back().get(), packet.data(), packet.size(), 0);
  }
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.sessions >= 20; }));
  std::this_thread::sleep_for(300ms);
  EXPECT_LE(gateway_->stats().sessions, 25u);
  EXPECT_EQ(Plain(Uri("/home/temp")), "21.5\n");  // UDP goes on
}

TEST_F(EdgeTest, DestroyedWithRequestsUnderWay) {
  Start();
  const UniqueFd fd = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  for (std::uint16_t i = 0; i < 40; ++i) {
    const std::string get = Datagram(Type::kCon, i, std::string(1, static_cast<char>(i)),
                                     Message(Code::kGet).SetPath("/home/slow"));
    send(fd.get(), get.data(), get.size(), 0);
  }
  EXPECT_TRUE(Eventually([](const EdgeStats& s) { return s.requests_now == 40; }));
  gateway_.reset();
  // Answers that come too late go nowhere.
  const std::lock_guard lock(mutex_);
  for (DeferredResponder& responder : deferred_) responder.Send(Message(Code::kContent));
}

TEST_F(EdgeTest, OneSourceHasSoManyRequests) {
  options_.limits.requests_per_source = 8;
  Start();
  const UniqueFd fd = Connect(At(EdgeTransport::kUdp), SOCK_DGRAM);
  for (std::uint16_t i = 0; i < 9; ++i) {
    const std::string get = Datagram(Type::kNon, i, "", Message(Code::kGet).SetPath("/home/slow"));
    send(fd.get(), get.data(), get.size(), 0);
  }
  const std::string answer = Receive(fd.get(), 3s);
  EXPECT_EQ(MessageView::Parse(ToBytes(answer)).code(), Code::kTooManyRequests);
}

TEST_F(EdgeTest, OptionsThatCannotBe) {
  const auto refused = [this](auto change) {
    EdgeOptions options = options_;
    change(options);
    return EdgeGateway::Start(*inside_client_, options).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.listeners.clear(); }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.rules[0].host = "other"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.rules[0].who = "somebody"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.mappings[0].uri = "coap://other/"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.pre_shared_key = nullptr; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.raw_key_pem = "nothing"; }));
  EXPECT_TRUE(refused([](EdgeOptions& o) { o.limits.requests = 0; }));
  EXPECT_FALSE(RawKeyIdentity(NewKeyPair()).ok());  // no public key
}

}  // namespace
}  // namespace waxvm::coap
