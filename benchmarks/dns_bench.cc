// SPDX-License-Identifier: Apache-2.0
// What does an answer cost over UDP, next to sending the question back as it came? A bounded load
// generator on one CPU, who answers on another, all in one run, so that ratios are fair. Every
// answer is counted, and compared with the one that was checked first; a lost one is an error.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bitset>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/pin.h"
#include "benchmarks/spawn.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "src/dns/message.h"
#include "src/dns/rdata.h"
#include "src/dns/sockets.h"
#include "src/naming/advert_codec.h"
#include "src/naming/advert_for_test.h"
#include "waxvm/dns.h"
#include "waxvm/resolver_dns.h"

namespace waxvm::dns {
namespace {

// Datagrams of one system call, of the generator and of all who answer.
constexpr std::size_t kBatch = 64;
// Questions that wait for their answers: one batch is on its way while another is answered.
constexpr std::size_t kInFlight = 2 * kBatch;
constexpr std::size_t kMaxBytes = 2048;

/// Datagrams that are sent or received with one system call.
struct Batch {
  Batch() : bytes(kBatch * kMaxBytes) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts[i] = {&bytes[i * kMaxBytes], kMaxBytes};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
  }
  std::vector<std::uint8_t> bytes;
  std::array<iovec, kBatch> parts = {};
  std::array<mmsghdr, kBatch> messages = {};
  std::array<sockaddr_storage, kBatch> peers = {};
};

bool SendAll(int fd, mmsghdr* messages, std::size_t count) {
  while (count > 0) {
    const int sent = sendmmsg(fd, messages, static_cast<unsigned>(count), 0);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    messages += sent;
    count -= static_cast<std::size_t>(sent);
  }
  return true;
}

/// Who sends back what comes, and nothing else.
class Echo {
 public:
  /// `batched`: as many datagrams a system call as the server takes; otherwise one.
  explicit Echo(bool batched) {
    auto listener = Listen(*ParseEndpoint("[::1]:0"));
    if (!listener.ok()) return;
    listener_ = *std::move(listener);
    // It sleeps in recvmmsg, which is less work than asking first.
    const timeval wait = {0, 100'000};
    setsockopt(listener_.udp.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    const int flags = fcntl(listener_.udp.get(), F_GETFL);
    fcntl(listener_.udp.get(), F_SETFL, flags & ~O_NONBLOCK);
    thread_ = std::thread([this, batched] { batched ? RunBatched() : RunSingle(); });
  }
  ~Echo() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  std::string address() const { return listener_.endpoint.ToText(); }

 private:
  void RunBatched() {
    Batch batch;
    const int fd = listener_.udp.get();
    while (!stop_) {
      for (std::size_t i = 0; i < kBatch; ++i) {
        batch.messages[i].msg_hdr.msg_name = &batch.peers[i];
        batch.messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage);
        batch.parts[i].iov_len = kMaxBytes;
      }
      const int count = recvmmsg(fd, batch.messages.data(), kBatch, MSG_WAITFORONE, nullptr);
      if (count <= 0) continue;
      const auto received = static_cast<std::size_t>(count);
      for (std::size_t i = 0; i < received; ++i) batch.parts[i].iov_len = batch.messages[i].msg_len;
      SendAll(fd, batch.messages.data(), received);
    }
  }
  void RunSingle() {
    std::array<std::uint8_t, kMaxBytes> bytes;
    Endpoint peer;
    while (!stop_) {
      peer.size = sizeof peer.address;
      const ssize_t size =
          recvfrom(listener_.udp.get(), bytes.data(), bytes.size(), 0, peer.get(), &peer.size);
      if (size > 0)
        (void)sendto(listener_.udp.get(), bytes.data(), static_cast<std::size_t>(size), 0,
                     peer.get(), peer.size);
    }
  }

  Listener listener_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;
};

/// Sends one question over and over, and takes the answers.
class Generator {
 public:
  static absl::StatusOr<Generator> Create(const std::string& address, std::string query) {
    Generator generator;
    const Endpoint endpoint = *ParseEndpoint(address);
    generator.fd_ = UniqueFd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (connect(generator.fd_.get(), endpoint.get(), endpoint.size) != 0)
      return ErrnoStatus(errno, "connect");
    const timeval wait = {1, 0};
    setsockopt(generator.fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (send(generator.fd_.get(), query.data(), query.size(), 0) < 0)
      return ErrnoStatus(errno, "send");
    generator.expected_.resize(kMaxBytes);
    const ssize_t size = recv(generator.fd_.get(), generator.expected_.data(), kMaxBytes, 0);
    if (size < 0) return ErrnoStatus(errno, "no answer");
    generator.expected_.resize(static_cast<std::size_t>(size));
    generator.out_ = std::make_unique<Batch>();
    generator.in_ = std::make_unique<Batch>();
    for (std::size_t i = 0; i < kBatch; ++i) {
      std::memcpy(generator.out_->parts[i].iov_base, query.data(), query.size());
      generator.out_->parts[i].iov_len = query.size();
    }
    return generator;
  }

  /// The first answer, which all others must equal but for their id.
  const std::string& expected() const { return expected_; }

  /// Sends so many more, where they may be in flight. Errors: a lost or another answer.
  absl::Status Send(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      waiting_.set(next_id_);
      Store16(static_cast<std::uint8_t*>(out_->parts[i].iov_base), next_id_++);
    }
    if (!SendAll(fd_.get(), out_->messages.data(), count)) return ErrnoStatus(errno, "sendmmsg");
    in_flight_ += count;
    while (in_flight_ > kInFlight - kBatch) WAXVM_RETURN_IF_ERROR(Receive());
    return absl::OkStatus();
  }
  absl::Status Drain() {
    while (in_flight_ > 0) WAXVM_RETURN_IF_ERROR(Receive());
    return absl::OkStatus();
  }

 private:
  absl::Status Receive() {
    const int count = recvmmsg(fd_.get(), in_->messages.data(), kBatch, MSG_WAITFORONE, nullptr);
    if (count < 0 && errno == EINTR) return absl::OkStatus();
    if (count <= 0) return Internal("%d answers are lost", in_flight_);
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const auto* bytes = static_cast<const std::uint8_t*>(in_->parts[i].iov_base);
      const std::uint16_t id = Load16(bytes);
      if (in_->messages[i].msg_len != expected_.size() ||
          std::memcmp(bytes + 2, expected_.data() + 2, expected_.size() - 2) != 0 ||
          !waiting_.test(id))
        return Internal("answer %d is another one", id);
      waiting_.reset(id);
    }
    in_flight_ -= static_cast<std::size_t>(count);
    return absl::OkStatus();
  }

  UniqueFd fd_;
  std::string expected_;
  std::unique_ptr<Batch> out_;
  std::unique_ptr<Batch> in_;
  std::bitset<65536> waiting_;
  std::uint16_t next_id_ = 0;
  std::size_t in_flight_ = 0;
};

/// One exchange an iteration.
void Measure(benchmark::State& state, const std::string& address, const std::string& query,
             const std::function<absl::Status(const std::string& answer)>& check) {
  auto generator = Generator::Create(address, query);
  absl::Status status = generator.ok() ? check(generator->expected()) : generator.status();
  while (status.ok() && state.KeepRunningBatch(kBatch)) status = generator->Send(kBatch);
  if (status.ok()) status = generator->Drain();
  if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
}

void MeasureEcho(benchmark::State& state, const std::string& query, bool batched) {
  PinTo(true);
  const Echo echo(batched);
  PinTo(false);
  Measure(state, echo.address(), query, [&](const std::string& answer) {
    return answer == query ? absl::OkStatus() : Internal("it is no echo");
  });
}

struct Question {
  std::string name;
  std::string type;
  bool edns = false;
  Rcode rcode = Rcode::kNoError;
  std::size_t answers = 1;
};

std::string QueryOf(const Question& question) {
  Message query = {.flags = kFlagRd};
  query.questions.push_back(
      {.name = *Name::FromText(question.name), .type = *TypeFromText(question.type)});
  if (question.edns) query.additional.push_back({.type = 41, .klass = 1232});
  return *EncodeMessage(query);
}

/// 10,000 names, so that they are not all in the first cache.
const std::shared_ptr<StaticDnsSource>& Source() {
  static const auto source = [] {
    std::string zone;
    for (int i = 0; i < 10'000; ++i)
      zone += absl::StrFormat(
          "sensor-%d AAAA fd00::%x\n_coap._udp.sensor-%d SRV 0 0 5683 sensor-%d\n", i, i + 1, i, i);
    return *StaticDnsSource::FromZone(zone, "internal");
  }();
  return source;
}

/// The same names and addresses as petnames and adverts of 10,000 keys.
struct Adverts {
  Adverts() {
    const SigningKey vm = naming::KeyOf(1), host = naming::KeyOf(2);
    const std::string bytes = naming::VmAdvert(vm, host).bytes();
    std::vector<Advert> all;
    for (int i = 0; i < 10'000; ++i) {
      // Stores take adverts that were checked; these look like such.
      std::string other = bytes;
      for (const std::size_t at : {naming::kAuthorAt, naming::kBodyAt}) {
        other[at] = static_cast<char>(0xfd);
        std::fill_n(other.begin() + static_cast<std::ptrdiff_t>(at) + 1, 15, '\0');
        other[at + 14] = static_cast<char>((i + 1) >> 8);
        other[at + 15] = static_cast<char>((i + 1) & 0xff);
      }
      all.push_back(*Advert::FromTrusted(other));
      names += absl::StrFormat("sensor-%d %s\n", i, all.back().fields().author.ToBase32());
    }
    directory->Put(all);
    folder = std::filesystem::temp_directory_path() / "waxvm-bench-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) return;
    std::ofstream(folder + "/names") << names;
    std::filesystem::permissions(folder + "/names", std::filesystem::perms(0600));
    auto opened = Petnames::Open(folder + "/names");
    if (opened.ok()) petnames = *std::move(opened);
    // Time stands still, so that nothing expires.
    const auto clock = [] { return naming::kTestTime; };
    resolver = Resolver::Create(directory.get(), &petnames, {.clock = clock, .max_cached = 20'000});
    source =
        *ResolverDnsSource::Create(resolver.get(), directory.get(), &petnames, {.clock = clock});
  }
  ~Adverts() { std::filesystem::remove_all(folder); }

  std::string names, folder;
  std::unique_ptr<Directory> directory = NewMemoryDirectory();
  Petnames petnames = Petnames::InMemory();
  std::unique_ptr<Resolver> resolver;
  std::shared_ptr<DnsSource> source;
};

const std::shared_ptr<DnsSource>& SourceOfAdverts() {
  static const Adverts adverts;
  return adverts.source;
}

/// `dnsperf`, with two threads of its own, asks for 10,000 names in turn for a second.
void MeasureDnsPerf(benchmark::State& state, const std::shared_ptr<DnsSource>& source) {
  const std::string program = FindInPath("dnsperf");
  if (program.empty()) return state.SkipWithError("'UNAVAILABLE: dnsperf is not installed'");
  const auto server = DnsServer::Create(source);
  if (!server.ok()) return state.SkipWithError(std::string(server.status().message()).c_str());
  std::string questions = std::filesystem::temp_directory_path() / "waxvm-dnsperf-XXXXXX";
  const UniqueFd file(mkstemp(questions.data()));
  {
    std::ofstream lines(questions);
    for (int i = 0; i < 10'000; ++i) lines << "sensor-" << i << ".internal AAAA\n";
  }
  const std::string port = std::to_string(ParseEndpoint((*server)->addresses()[0])->port());
  const std::string command =
      program + " -f inet6 -s ::1 -p " + port + " -l 1 -T 2 -c 4 -q 256 -d " + questions + " 2>&1";
  for (auto _ : state) {
    double seconds = 0, lost = -1, completed = 0, no_error = 0;
    FILE* const output = popen(command.c_str(), "r");
    if (output == nullptr) break;
    char line[256];
    while (std::fgets(line, sizeof line, output) != nullptr) {
      (void)std::sscanf(line, " Queries lost: %lf", &lost);
      (void)std::sscanf(line, " Queries completed: %lf", &completed);
      (void)std::sscanf(line, " Response codes: NOERROR %lf", &no_error);
      (void)std::sscanf(line, " Run time (s): %lf", &seconds);
    }
    pclose(output);
    if (lost != 0 || completed < 1 || no_error != completed || seconds <= 0) {
      state.SkipWithError("dnsperf lost answers, or got others");
      break;
    }
    state.SetIterationTime(seconds / completed);
  }
  std::filesystem::remove(questions);
}

void MeasureDns(benchmark::State& state, const std::shared_ptr<DnsSource>& source,
                const Question& question) {
  PinTo(true);
  const auto server = DnsServer::Create(source);
  PinTo(false);
  if (!server.ok()) return state.SkipWithError(std::string(server.status().message()).c_str());
  Measure(state, (*server)->addresses()[0], QueryOf(question), [&](const std::string& answer) {
    const auto message = DecodeMessage(ToBytes(answer));
    if (!message.ok()) return message.status();
    if (message->rcode() != question.rcode || message->answers.size() != question.answers)
      return Internal("not the answer that was expected");
    return absl::OkStatus();
  });
}

void Register(const std::string& name, std::function<void(benchmark::State&)> function) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(function))->Unit(benchmark::kMicrosecond);
}

void RegisterAll() {
  const Question plain = {.name = "sensor-77.internal.", .type = "AAAA"};
  Register("UdpEcho/batched",
           [=](benchmark::State& state) { MeasureEcho(state, QueryOf(plain), true); });
  Register("UdpEcho/single",
           [=](benchmark::State& state) { MeasureEcho(state, QueryOf(plain), false); });
  std::string reverse = "e.4.";
  for (int i = 0; i < 28; ++i) reverse += "0.";
  const std::pair<std::string, Question> questions[] = {
      {"Dns/aaaa", plain},
      {"Dns/aaaa_edns", {.name = plain.name, .type = "AAAA", .edns = true}},
      {"Dns/srv", {.name = "_coap._udp.sensor-77.internal.", .type = "SRV"}},
      {"Dns/ptr", {.name = reverse + "d.f.ip6.arpa.", .type = "PTR"}},
      {"Dns/no_name",
       {.name = "nothing.internal.", .type = "AAAA", .rcode = Rcode::kNxDomain, .answers = 0}}};
  for (const auto& [name, question] : questions)
    Register(name, [question = question](benchmark::State& state) {
      MeasureDns(state, Source(), question);
    });
  const std::pair<std::string, Question> of_adverts[] = {
      {"DnsAdverts/aaaa", questions[0].second},
      {"DnsAdverts/srv", questions[2].second},
      {"DnsAdverts/ptr", questions[3].second},
      {"DnsAdverts/no_name", questions[4].second}};
  for (const auto& [name, question] : of_adverts)
    Register(name, [question = question](benchmark::State& state) {
      MeasureDns(state, SourceOfAdverts(), question);
    });
  const auto perf = [](const char* name, const std::shared_ptr<DnsSource>& (*source)()) {
    benchmark::RegisterBenchmark(
        name, [source](benchmark::State& state) { MeasureDnsPerf(state, source()); })
        ->Unit(benchmark::kMicrosecond)
        ->UseManualTime()
        ->Iterations(1);
  };
  perf("DnsPerf/aaaa", []() -> const std::shared_ptr<DnsSource>& {
    static const std::shared_ptr<DnsSource> source = Source();
    return source;
  });
  perf("DnsPerf/aaaa_of_adverts", SourceOfAdverts);
}

}  // namespace
}  // namespace waxvm::dns

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  waxvm::dns::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
