// SPDX-License-Identifier: Apache-2.0
// The floor: datagrams sent back as they came, by the bare system calls and through the sockets
// that endpoints use.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "benchmarks/coap_cases.h"
#include "benchmarks/pin.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm {
namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kMaxBytes = 2048;
// A CoAP message of 16 bytes of payload with its header, token and path is no longer than this.
constexpr std::size_t kMessageBytes = kPayloadBytes + 16;
constexpr timeval kPatience = {2, 0};

absl::StatusOr<UniqueFd> Bind(std::uint16_t& port) {
  UniqueFd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  const int buffer = 4 << 20;
  sockaddr_in6 any = {};
  any.sin6_family = AF_INET6;
  socklen_t size = sizeof any;
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) != 0 ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any), &size) != 0)
    return ErrnoStatus(errno, "cannot make a socket");
  port = ntohs(any.sin6_port);
  return fd;
}

/// Datagrams of one system call.
struct Batch {
  Batch() {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts[i] = {&bytes[i * kMaxBytes], kMaxBytes};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_name = &peers[i];
      messages[i].msg_hdr.msg_control = controls[i].data();
      Reset(i, kMaxBytes);
    }
  }
  void Reset(std::size_t i, std::size_t room) {
    parts[i].iov_len = room;
    messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6);
    messages[i].msg_hdr.msg_controllen = CMSG_SPACE(sizeof(in6_pktinfo));
  }
  int Receive(int fd, std::size_t most) {
    return recvmmsg(fd, messages.data(), static_cast<unsigned>(most), MSG_WAITFORONE, nullptr);
  }
  bool Send(int fd, std::size_t count) {
    for (std::size_t sent = 0; sent < count;) {
      const int now = sendmmsg(fd, &messages[sent], static_cast<unsigned>(count - sent), 0);
      if (now <= 0) return false;
      sent += static_cast<std::size_t>(now);
    }
    return true;
  }

  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(kBatch * kMaxBytes);
  std::array<iovec, kBatch> parts = {};
  std::array<sockaddr_in6, kBatch> peers = {};
  struct alignas(cmsghdr) Control : std::array<std::uint8_t, CMSG_SPACE(sizeof(in6_pktinfo))> {};
  std::array<Control, kBatch> controls = {};
  std::array<mmsghdr, kBatch> messages = {};
};

/// The same with the bare system calls, blocking where there is nothing to do.
class RawLoad final : public ExchangeLoad {
 public:
  absl::Status Start(std::size_t in_flight) {
    in_flight_ = in_flight;
    std::uint16_t client_port = 0;
    WAXVM_ASSIGN_OR_RETURN(server_, Bind(server_port_));
    WAXVM_ASSIGN_OR_RETURN(client_, Bind(client_port));
    thread_ = std::thread([this] { Answer(); });
    PinTo(/*last=*/false);
    return absl::OkStatus();
  }
  ~RawLoad() override {
    stop_ = true;
    if (server_) shutdown(server_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Run(std::size_t count) override {
    while (count > 0) {
      while (on_their_way_ < in_flight_)
        if (!Ask(std::min(kBatch, in_flight_ - on_their_way_)))
          return ErrnoStatus(errno, "cannot send");
      const int came = answers_.Receive(client_.get(), std::min(kBatch, count));
      if (came <= 0) return ErrnoStatus(errno, "an answer was lost");
      on_their_way_ -= static_cast<std::size_t>(came);
      count -= static_cast<std::size_t>(came);
      for (std::size_t i = 0; i < static_cast<std::size_t>(came); ++i) answers_.Reset(i, kMaxBytes);
    }
    return absl::OkStatus();
  }

 private:
  bool Ask(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t pair = next_++ % kPairs;
      const SocketAddress to = ServerAddress(pair, server_port_);
      const SocketAddress from = ClientAddress(pair, 0);
      questions_.Reset(i, kMessageBytes);
      sockaddr_in6& peer = questions_.peers[i];
      peer.sin6_family = AF_INET6;
      peer.sin6_port = htons(to.port);
      std::memcpy(&peer.sin6_addr, to.address.bytes.data(), kAddressBytes);
      in6_pktinfo info = {};
      std::memcpy(&info.ipi6_addr, from.address.bytes.data(), kAddressBytes);
      cmsghdr header = {};
      header.cmsg_level = IPPROTO_IPV6;
      header.cmsg_type = IPV6_PKTINFO;
      header.cmsg_len = CMSG_LEN(sizeof info);
      std::memcpy(questions_.controls[i].data(), &header, sizeof header);
      std::memcpy(questions_.controls[i].data() + CMSG_LEN(0), &info, sizeof info);
    }
    on_their_way_ += count;
    return questions_.Send(client_.get(), count);
  }
  void Answer() {
    PinTo(/*last=*/true);
    Batch batch;
    while (!stop_) {
      const int came = batch.Receive(server_.get(), kBatch);
      if (came <= 0) continue;
      const auto count = static_cast<std::size_t>(came);
      for (std::size_t i = 0; i < count; ++i) batch.parts[i].iov_len = batch.messages[i].msg_len;
      batch.Send(server_.get(), count);
      for (std::size_t i = 0; i < count; ++i) batch.Reset(i, kMaxBytes);
    }
  }

  std::size_t in_flight_ = 0;
  std::uint16_t server_port_ = 0;
  UniqueFd server_;
  UniqueFd client_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
  Batch questions_;
  Batch answers_;
  std::size_t next_ = 0;
  std::size_t on_their_way_ = 0;
};

/// The same through DatagramSocket.
class SocketLoad final : public ExchangeLoad {
 public:
  absl::Status Start(UdpBackend backend, std::size_t in_flight) {
    in_flight_ = in_flight;
    WAXVM_ASSIGN_OR_RETURN(server_, NewUdpSocket({.backend = backend, .fragments = false}));
    WAXVM_ASSIGN_OR_RETURN(client_, NewUdpSocket({.backend = backend, .fragments = false}));
    const std::uint16_t port = server_->local_address().port;
    for (std::size_t i = 0; i < kPairs; ++i)
      all_.push_back(
          {.peer = ServerAddress(i, port), .local = ClientAddress(i, 0), .bytes = message_});
    thread_ = std::thread([this] { Answer(); });
    PinTo(/*last=*/false);
    return absl::OkStatus();
  }
  ~SocketLoad() override {
    stop_ = true;
    if (server_ != nullptr) server_->Wake();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Run(std::size_t count) override {
    while (count > 0) {
      while (on_their_way_ < in_flight_) {
        const std::size_t now = std::min(in_flight_ - on_their_way_, kPairs - next_);
        WAXVM_ASSIGN_OR_RETURN(const std::size_t sent,
                               client_->Send(std::span(all_).subspan(next_, now)));
        next_ = (next_ + sent) % kPairs;
        on_their_way_ += sent;
      }
      WAXVM_ASSIGN_OR_RETURN(const auto came, client_->Receive(std::min(kBatch, count)));
      on_their_way_ -= came.size();
      count -= came.size();
      const auto now = std::chrono::steady_clock::now();
      if (came.empty()) WAXVM_RETURN_IF_ERROR(client_->Wait(now + std::chrono::seconds(2), false));
      if (came.empty() && std::chrono::steady_clock::now() - now > std::chrono::seconds(1))
        return absl::DeadlineExceededError("an answer was lost");
    }
    return absl::OkStatus();
  }
  void Count(benchmark::State& state) override {
    const DatagramStats stats = client_->stats();
    state.counters["calls_per_exchange"] =
        static_cast<double>(stats.receive_calls + stats.send_calls + stats.wait_calls) /
        static_cast<double>(stats.received);
  }

 private:
  void Answer() {
    PinTo(/*last=*/true);
    while (!stop_) {
      const auto came = server_->Receive(kBatch);
      if (!came.ok()) return;
      if (!came->empty()) (void)server_->Send(*came);
      if (came->size() < kBatch) (void)server_->Wait(DatagramSocket::TimePoint::max(), false);
    }
  }

  std::size_t in_flight_ = 0;
  std::unique_ptr<DatagramSocket> server_;
  std::unique_ptr<DatagramSocket> client_;
  std::array<std::byte, kMessageBytes> message_ = {};
  std::vector<Datagram> all_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
  std::size_t next_ = 0;
  std::size_t on_their_way_ = 0;
};

double CpuMicroseconds(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

SocketAddress AddressOf(std::uint8_t net, std::size_t pair, std::uint16_t port) {
  SocketAddress result;
  result.address.bytes[10] = result.address.bytes[11] = 0xff;
  result.address.bytes[12] = 127;
  result.address.bytes[13] = net;
  result.address.bytes[14] = static_cast<std::uint8_t>(pair >> 8);
  result.address.bytes[15] = static_cast<std::uint8_t>(pair);
  result.port = port;
  return result;
}

}  // namespace

SocketAddress ClientAddress(std::size_t pair, std::uint16_t port) {
  return AddressOf(2, pair, port);
}
SocketAddress ServerAddress(std::size_t pair, std::uint16_t port) {
  return AddressOf(1, pair, port);
}

void MeasureExchanges(benchmark::State& state, const NewLoad& make, std::size_t in_flight) {
  constexpr std::size_t kAtOnce = 1024;
  auto load = make(in_flight);
  // Every peer is known before it counts.
  absl::Status status = load.ok() ? (*load)->Run(2 * kPairs) : load.status();
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
  const double asks_before = CpuMicroseconds(CLOCK_THREAD_CPUTIME_ID);
  const double all_before = CpuMicroseconds(CLOCK_PROCESS_CPUTIME_ID);
  while (status.ok() && state.KeepRunningBatch(kAtOnce)) {
    status = (*load)->Run(kAtOnce);
    if (!status.ok()) state.SkipWithError(status.ToString().c_str());
  }
  if (!status.ok()) return;
  const double asks = CpuMicroseconds(CLOCK_THREAD_CPUTIME_ID) - asks_before;
  const double all = CpuMicroseconds(CLOCK_PROCESS_CPUTIME_ID) - all_before;
  const auto exchanges = static_cast<double>(state.iterations());
  state.counters["asking_cpu_us"] = asks / exchanges;
  state.counters["answering_cpu_us"] = (all - asks) / exchanges;
  (*load)->Count(state);
}

absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewRawLoad(std::size_t in_flight) {
  auto load = std::make_unique<RawLoad>();
  WAXVM_RETURN_IF_ERROR(load->Start(in_flight));
  return load;
}

absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewSocketLoad(UdpBackend backend,
                                                            std::size_t in_flight) {
  auto load = std::make_unique<SocketLoad>();
  WAXVM_RETURN_IF_ERROR(load->Start(backend, in_flight));
  return load;
}

}  // namespace waxvm
