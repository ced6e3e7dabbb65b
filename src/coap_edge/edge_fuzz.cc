// SPDX-License-Identifier: Apache-2.0
// Clients that send nonsense to a gateway's listeners, over loopback: libcoap 4.3.1 has assertions
// that are live, and one that a client could reach would end the process. Usage: edge_fuzz SECONDS
// [SEED [handshakes]]. With the third, records follow the cookie of a DTLS handshake as well, which
// ends the process in GnuTLS 3.7.9: see docs/coap-edge.md. Exits with 1 where the gateway does not
// answer any more.
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/unique_fd.h"
#include "waxvm/coap_edge.h"
#include "waxvm/coap_message.h"

namespace waxvm::coap {
namespace {

/// Answers at once, late, long, with observations, with nonsense, or never.
class AnyInside final : public InsideClient {
 public:
  absl::StatusOr<std::uint64_t> Request(Call call, Handler handler) override {
    const std::uint64_t id = ++last_;
    switch (id % 7) {
      case 0:
        return absl::ResourceExhaustedError("now and then");
      case 1:
        handler(Message(Code::kContent, std::string(id % 5000, 'x')), false);
        break;
      case 2:
        handler(Message(Code::kContent, "o"), call.observe);
        if (call.observe) handler(Message(Code::kContent, "p"), true);
        break;
      case 3:
        handler(absl::AbortedError("reset"), false);
        break;
      case 4:
        handler(Message(Code::kHopLimitReached, "fd00::1"), false);
        break;
      case 5:
        handler(call.request, false);
        break;
      default:
        break;
    }
    return id;
  }
  void Cancel(std::uint64_t) override {}

 private:
  std::uint64_t last_ = 0;
};

class Nonsense {
 public:
  explicit Nonsense(std::uint64_t seed) : random_(seed) {}

  std::uint32_t Below(std::uint32_t bound) {
    return std::uniform_int_distribution<std::uint32_t>(0, bound - 1)(random_);
  }
  std::string Bytes(std::size_t count) {
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(Below(256));
    return bytes;
  }

  /// Options as they are written, most of them legal.
  std::string Options() {
    static constexpr std::uint32_t kNumbers[] = {1,  3,  4,  5,   6,   7,   8,    9,    11,    12,
                                                 14, 15, 16, 17,  19,  20,  23,   27,   28,    31,
                                                 35, 39, 60, 252, 258, 292, 2048, 2049, 65535, 0};
    static constexpr std::uint32_t kUsual[] = {4, 6, 11, 11, 12, 15, 16, 17, 23, 27, 60, 258};
    std::vector<std::uint32_t> numbers(Below(5));
    for (std::uint32_t& number : numbers)
      number =
          Below(8) == 0 ? kNumbers[Below(std::size(kNumbers))] : kUsual[Below(std::size(kUsual))];
    if (Below(8) != 0) numbers.push_back(11);
    if (Below(8) != 0) std::sort(numbers.begin(), numbers.end());
    std::string text;
    std::uint32_t before = 0;
    for (const std::uint32_t number : numbers) {
      const std::string value = Value(number);
      AddOption(text, number - std::min(before, number), value);
      before = number;
    }
    if (Below(3) == 0) text += '\xff' + Bytes(Below(40));
    if (Below(40) == 0) text += '\xff' + Bytes(Below(1400));
    return text;
  }

  std::string Datagram() {
    if (Below(30) == 0) return Bytes(Below(64));
    const std::uint32_t token = Below(20) == 0 ? Below(16) : Below(9);
    std::string text(
        1, static_cast<char>((Below(30) == 0 ? Below(4) : 1) << 6 | Below(4) << 4 | token));
    text += Code();
    text += Bytes(2);
    text += Bytes(Below(20) == 0 ? Below(token + 1) : token);
    return Mutated(text + Options());
  }

  /// Spec: RFC 8323 section 3.2.
  std::string Frame() {
    const std::string token = Bytes(Below(20) == 0 ? Below(16) : Below(9));
    std::string rest = Options();
    std::string text;
    char code = Code();
    if (Below(4) == 0) {
      code = static_cast<char>(0xe0 + Below(8));  // signals
      rest.clear();
      AddOption(rest, Below(2) == 0 ? 2 : Below(8), Bytes(Below(5)));
    }
    const std::size_t length = Below(30) == 0 ? Below(70'000) : rest.size();
    const char low = static_cast<char>(token.size());
    if (length < 13) {
      text = std::string(1, static_cast<char>(length << 4 | low));
    } else if (length < 269) {
      text = {static_cast<char>(13 << 4 | low), static_cast<char>(length - 13)};
    } else {
      text = {static_cast<char>(14 << 4 | low), static_cast<char>((length - 269) >> 8),
              static_cast<char>(length - 269)};
    }
    return Mutated(text + code + token + rest);
  }

  /// Spec: RFC 6347 section 4.
  std::string Record() {
    const std::string body = Below(4) == 0 ? Bytes(Below(300)) : Hello(Bytes(Below(40)), 1);
    const std::uint32_t type = Below(2) == 0 ? 22 : 20 + Below(5);
    return Mutated(RecordOf(static_cast<char>(type), 0, body));
  }
  /// What follows when the gateway has sent a cookie: the way into the handshake itself.
  std::vector<std::string> AfterCookie(const std::string& cookie) {
    const std::string identity = Below(8) == 0 ? Bytes(Below(300)) : "alice";
    std::string exchange = {static_cast<char>(identity.size() >> 8),
                            static_cast<char>(identity.size())};
    exchange += identity;
    std::vector<std::string> records = {
        RecordOf(22, 0, Hello(cookie, Below(4) == 0 ? 1 : 0)),
        RecordOf(22, 0,
                 HandshakeOf(static_cast<char>(Below(6) == 0 ? Below(25) : 16), 2, exchange)),
        RecordOf(20, 0, std::string(1, '\1')), RecordOf(22, 1, Bytes(Below(60)))};
    for (std::string& record : records)
      if (Below(4) == 0) record = Mutated(std::move(record));
    if (Below(4) == 0) records.resize(1 + Below(3));
    return records;
  }

 private:
  char Code() {
    if (Below(10) == 0) return static_cast<char>(Below(256));
    return static_cast<char>(Below(12) == 0 ? 0x40 + Below(0x70) : Below(9));
  }
  std::string Value(std::uint32_t number) {
    static constexpr const char* kUris[] = {
        "coap://s/a", "coap://",      "coap:///",       "coap://[::1", "coaps+tcp://x:99999/",
        "http://a",   "coap://s:0/?", "coap://[v1.x]/", "c",           "coap://%/"};
    switch (number) {
      case 11:
        return Below(6) == 0 ? Bytes(Below(20)) : Below(8) != 0 ? "m" : ".well-known";
      case 35:
        return kUris[Below(std::size(kUris))];
      case 39:
        return Below(2) == 0 ? "coap" : "coaps";
      case 3:
        return Below(2) == 0 ? "s" : Bytes(Below(300));
      case 6:
        return Below(3) == 0 ? "" : Bytes(Below(4));
      case 16:
      case 258:
        return Bytes(Below(20) == 0 ? Below(4) : 1);
      case 5:
        return Below(20) == 0 ? "x" : "";
      case 12:
      case 17:
        return Bytes(Below(20) == 0 ? Below(9) : Below(3));
      case 23:
      case 27:
        return Below(2) == 0 ? std::string(1, static_cast<char>(Below(64))) : Bytes(Below(4));
      default:
        return Bytes(Below(20) == 0 ? Below(400) : 1 + Below(4));
    }
  }
  static void Extend(std::uint32_t value, int& nibble, std::string& bytes) {
    if (value < 13) {
      nibble = static_cast<int>(value);
    } else if (value < 269) {
      nibble = 13;
      bytes += static_cast<char>(value - 13);
    } else {
      nibble = 14;
      bytes += {static_cast<char>((value - 269) >> 8), static_cast<char>(value - 269)};
    }
  }
  static void AddOption(std::string& text, std::uint32_t delta, const std::string& value) {
    int high = 0;
    int low = 0;
    std::string extended;
    Extend(delta, high, extended);
    Extend(static_cast<std::uint32_t>(value.size()), low, extended);
    text += static_cast<char>(high << 4 | low);
    text += extended + value;
  }
  std::string RecordOf(char type, char epoch, const std::string& body) {
    std::string text(1, type);
    text += std::string("\xfe\xfd\0", 3) + epoch + std::string(5, '\0');
    text += static_cast<char>(++sequence_);
    text += {static_cast<char>(body.size() >> 8), static_cast<char>(body.size())};
    return text + body;
  }
  static std::string HandshakeOf(char type, char number, const std::string& body) {
    const std::string length = {'\0', static_cast<char>(body.size() >> 8),
                                static_cast<char>(body.size())};
    return std::string(1, type) + length + std::string(1, '\0') + number + std::string(3, '\0') +
           length + body;
  }
  std::string Hello(const std::string& cookie, std::uint32_t extended) {
    std::string body = std::string("\xfe\xfd", 2) + std::string(32, 'r') + std::string(1, '\0');
    body += static_cast<char>(cookie.size()) + cookie;
    body += std::string("\x00\x06\xc0\xa8\x00\xa8\x00\xae\x01\x00", 10);
    if (extended != 0) {
      const std::string extensions = Bytes(Below(60));
      body += {static_cast<char>(extensions.size() >> 8), static_cast<char>(extensions.size())};
      body += extensions;
    }
    return HandshakeOf(static_cast<char>(Below(16) == 0 ? Below(25) : 1), cookie.empty() ? 0 : 1,
                       body);
  }
  std::string Mutated(std::string text) {
    if (Below(5) == 0) {
      for (std::uint32_t i = Below(4); i > 0 && !text.empty(); --i)
        text[Below(static_cast<std::uint32_t>(text.size()))] = static_cast<char>(Below(256));
      if (Below(3) == 0) text.resize(Below(static_cast<std::uint32_t>(text.size()) + 1));
    }
    return text;
  }

  std::mt19937_64 random_;
  std::uint8_t sequence_ = 0;
};

UniqueFd Connect(const SocketAddress& address, int type) {
  sockaddr_in6 to = {};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(address.port);
  std::copy(address.address.bytes.begin(), address.address.bytes.end(), to.sin6_addr.s6_addr);
  UniqueFd fd(socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 &&
      errno != EINPROGRESS)
    fd.reset();
  pollfd connected = {fd.get(), POLLOUT, 0};
  poll(&connected, 1, 20);
  return fd;
}

/// Takes what has come; the last cookie of a HelloVerifyRequest in it.
std::string Drain(int fd) {
  constexpr std::size_t kCookieAt = 13 + 12 + 3;
  std::string cookie;
  char buffer[4096];
  for (ssize_t bytes; (bytes = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0;) {
    const std::string_view reply(buffer, static_cast<std::size_t>(bytes));
    if (reply.size() > kCookieAt && reply[0] == 22 && reply[13] == 3)
      cookie = reply.substr(kCookieAt, static_cast<unsigned char>(reply[kCookieAt - 1]));
  }
  return cookie;
}

/// A request that is refused needs nobody inside.
bool Answers(const SocketAddress& address, int type) {
  const UniqueFd fd = Connect(address, type);
  const std::string request = type == SOCK_DGRAM ? std::string("\x40\x01\x12\x34\xb1n", 6)
                                                 : std::string("\x00\xe1\x20\x01\xb1n", 6);
  for (int i = 0; i < 10; ++i) {
    send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
    pollfd waited = {fd.get(), POLLIN, 0};
    char buffer[512];
    if (poll(&waited, 1, 1000) > 0 && recv(fd.get(), buffer, sizeof buffer, 0) >= 4) return true;
  }
  return false;
}

int Run(int seconds, std::uint64_t seed, bool handshakes) {
  const SocketAddress any = {*Address::Parse("::1"), 0};
  EdgeOptions options;
  options.listeners = {
      {EdgeTransport::kUdp, any}, {EdgeTransport::kTcp, any}, {EdgeTransport::kDtls, any}};
  options.hosts = {{"s", *SocketAddress::Parse("[fd00::1]:5683")}};
  options.mappings = {{"/m", "coap://s/"}};
  options.rules = {{.who = "*",
                    .methods = {Code::kGet, Code::kPost, Code::kPut, Code::kDelete, Code::kFetch,
                                Code::kPatch, Code::kIPatch}}};
  options.verify_before_change = false;
  options.pre_shared_key = [](std::string_view) { return std::string("0123456789abcdef"); };
  options.limits.sessions = 100;
  options.limits.handshakes = 1'000'000;  // so that there are new ones all the time
  options.limits.requests_per_source = 1024;
  options.limits.request_time = std::chrono::milliseconds(500);
  options.limits.ack_delay = std::chrono::milliseconds(50);
  AnyInside inside;
  auto gateway = EdgeGateway::Start(inside, options);
  if (!gateway.ok()) return 1;
  const auto addresses = (*gateway)->addresses();

  Nonsense nonsense(seed);
  std::vector<UniqueFd> udp(8), tcp(8), dtls(8);
  std::uint64_t sent[3] = {};
  std::uint64_t cookies = 0;
  const auto renew = [&](UniqueFd& fd, std::size_t where, int type, std::uint32_t seldom) {
    if (fd && nonsense.Below(seldom) != 0) return;
    fd = Connect(addresses[where], type);
    // Settings first, mostly: without them a connection is closed at its first request.
    if (fd && type == SOCK_STREAM && nonsense.Below(8) != 0)
      send(fd.get(), "\x00\xe1", 2, MSG_NOSIGNAL);
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) {
    poll(nullptr, 0, 1);  // what is sent faster than it is read is dropped by the kernel
    for (std::size_t i = 0; i < udp.size(); ++i) {
      renew(udp[i], 0, SOCK_DGRAM, 200);
      renew(tcp[i], 1, SOCK_STREAM, 40);
      renew(dtls[i], 2, SOCK_DGRAM, 50);
      const std::pair<int, std::string> messages[] = {{udp[i].get(), nonsense.Datagram()},
                                                      {tcp[i].get(), nonsense.Frame()},
                                                      {dtls[i].get(), nonsense.Record()}};
      for (std::size_t k = 0; k < 3; ++k) {
        const auto& [fd, bytes] = messages[k];
        if (fd >= 0 && send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
          ++sent[k];
        } else if (k == 1 && errno != EAGAIN) {
          tcp[i].reset();
        }
        const std::string cookie = fd >= 0 ? Drain(fd) : "";
        if (k != 2 || cookie.empty() || !handshakes) continue;
        ++cookies;
        for (const std::string& record : nonsense.AfterCookie(cookie))
          send(fd, record.data(), record.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      }
    }
  }
  const bool alive = Answers(addresses[0], SOCK_DGRAM) && Answers(addresses[1], SOCK_STREAM);
  const EdgeStats stats = (*gateway)->stats();
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "seed %llu: %llu datagrams, %llu frames, %llu records, %llu with a cookie; %llu requests, "
      "%llu forwarded, "
      "%llu cut off; %ld KiB at most; %s\n",
      static_cast<unsigned long long>(seed), static_cast<unsigned long long>(sent[0]),
      static_cast<unsigned long long>(sent[1]), static_cast<unsigned long long>(sent[2]),
      static_cast<unsigned long long>(cookies), static_cast<unsigned long long>(stats.requests),
      static_cast<unsigned long long>(stats.forwarded),
      static_cast<unsigned long long>(stats.cut_off), usage.ru_maxrss,
      alive ? "it answers" : "IT DOES NOT ANSWER");
  return alive ? 0 : 1;
}

}  // namespace
}  // namespace waxvm::coap

int main(int count, char** arguments) {
  const int seconds = count > 1 ? std::atoi(arguments[1]) : 5;
  const std::uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1;
  return waxvm::coap::Run(seconds, seed, count > 3);
}
