// SPDX-License-Identifier: Apache-2.0
#include "tests/coap/command.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;

std::vector<std::string> Environment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  return environment;
}

sockaddr_in6 LoopbackPort(std::uint16_t port) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  address.sin6_port = htons(port);
  return address;
}

/// A socket at a port of ::1; which, is in `port`.
int OpenLoopback(std::uint16_t& port) {
  const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 address = LoopbackPort(0);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return -1;
  port = ntohs(address.sin6_port);
  return fd;
}

}  // namespace

Completed RunProgram(const std::vector<std::string>& arguments, const std::string& input) {
  support::RunOptions options;
  options.limit = milliseconds(60'000);
  options.input = input;
  options.start.environment = Environment();
  return support::Run(arguments, options);
}

Completed RunCoap(std::vector<std::string> arguments, const std::string& input) {
  arguments.insert(arguments.begin(), {WAXVM_COMMAND, "coap"});
  return RunProgram(arguments, input);
}

Background::Background(const std::vector<std::string>& arguments) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) return;
  support::StartOptions options;
  options.environment = Environment();
  child_ = support::Start(arguments, options, STDIN_FILENO, ends[1], STDERR_FILENO);
  close(ends[1]);
  output_ = ends[0];
}

std::string Background::ReadLine() {
  std::string line;
  char c = 0;
  pollfd readable = {output_, POLLIN, 0};
  while (poll(&readable, 1, 10'000) > 0 && read(output_, &c, 1) == 1 && c != '\n')
    line.push_back(c);
  return line;
}

int Background::WaitFor(std::string& output) {
  char part[4096];
  pollfd readable = {output_, POLLIN, 0};
  for (ssize_t count = 0;
       poll(&readable, 1, 30'000) > 0 && (count = read(output_, part, sizeof part)) > 0;)
    output.append(part, static_cast<std::size_t>(count));
  return Stop(0);
}

int Background::Stop(int signal) {
  int code = -1;
  if (child_ > 0) {
    if (signal != 0) kill(child_, signal);
    code = support::Wait(child_, milliseconds(30'000));
  }
  child_ = -1;
  if (output_ >= 0) close(output_);
  output_ = -1;
  return code;
}

Served::Served(const std::string& folder, std::vector<std::string> flags)
    : program_([&] {
        flags.insert(flags.begin(), {WAXVM_COMMAND, "coap", "serve", "--listen=[::1]:0"});
        flags.push_back(folder);
        return flags;
      }()) {
  line_ = program_.ReadLine();
  const std::size_t at = line_.find("coap://");
  if (at != line_.npos) uri_ = line_.substr(at, line_.rfind('/') - at);
}

std::uint16_t Served::port() const {
  const std::size_t colon = uri_.rfind(':');
  return colon == uri_.npos ? 0 : static_cast<std::uint16_t>(std::atoi(uri_.c_str() + colon + 1));
}

std::uint16_t FreePort() {
  std::uint16_t port = 0;
  const int fd = OpenLoopback(port);
  if (fd >= 0) close(fd);
  return port;
}

LossyRelay::LossyRelay(std::uint16_t to, double loss, std::uint64_t seed)
    : to_(to), loss_(loss), state_(seed) {
  front_ = OpenLoopback(port_);
  wake_ = eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { Run(); });
}

LossyRelay::~LossyRelay() {
  const std::uint64_t one = 1;
  if (write(wake_, &one, sizeof one) == sizeof one) thread_.join();
  close(front_);
  close(wake_);
}

std::string LossyRelay::Uri(const std::string& path) const {
  return "coap://[::1]:" + std::to_string(port_) + path;
}

bool LossyRelay::Loses() {
  // SplitMix64.
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  const bool loses = static_cast<double>(z >> 11) / 9007199254740992.0 < loss_;
  ++(loses ? lost_ : passed_);
  return loses;
}

void LossyRelay::Run() {
  // One socket towards the server for each client, so that it tells them apart.
  struct Client {
    sockaddr_in6 address;
    int back;
  };
  std::map<std::string, Client> clients;
  std::array<char, 65536> bytes;
  const sockaddr_in6 server = LoopbackPort(to_);
  for (;;) {
    std::vector<pollfd> polled = {{wake_, POLLIN, 0}, {front_, POLLIN, 0}};
    std::vector<const Client*> at;
    for (const auto& [name, client] : clients) {
      polled.push_back({client.back, POLLIN, 0});
      at.push_back(&client);
    }
    if (poll(polled.data(), polled.size(), -1) < 0 || polled[0].revents != 0) break;
    if (polled[1].revents != 0) {
      Client client = {};
      socklen_t size = sizeof client.address;
      const ssize_t count = recvfrom(front_, bytes.data(), bytes.size(), 0,
                                     reinterpret_cast<sockaddr*>(&client.address), &size);
      if (count >= 0 && !Loses()) {
        const std::string name(reinterpret_cast<const char*>(&client.address), size);
        auto known = clients.find(name);
        if (known == clients.end()) {
          std::uint16_t port = 0;
          client.back = OpenLoopback(port);
          known = clients.emplace(name, client).first;
        }
        (void)sendto(known->second.back, bytes.data(), static_cast<std::size_t>(count), 0,
                     reinterpret_cast<const sockaddr*>(&server), sizeof server);
      }
    }
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (polled[i + 2].revents == 0) continue;
      const ssize_t count = recv(at[i]->back, bytes.data(), bytes.size(), 0);
      if (count < 0 || Loses()) continue;
      (void)sendto(front_, bytes.data(), static_cast<std::size_t>(count), 0,
                   reinterpret_cast<const sockaddr*>(&at[i]->address), sizeof at[i]->address);
    }
  }
  for (const auto& [name, client] : clients) close(client.back);
}

TempFolder::TempFolder() {
  path_ = std::filesystem::temp_directory_path() / "waxvm-coap-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) path_.clear();
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

void TempFolder::Write(const std::string& name, const std::string& bytes) const {
  const std::filesystem::path path = path_ + "/" + name;
  std::filesystem::create_directories(path.parent_path());
  // At once: whoever looks meanwhile sees the old or the new one.
  const std::filesystem::path part = path.parent_path() / ".part";
  std::ofstream(part, std::ios::binary) << bytes;
  std::filesystem::rename(part, path);
}

std::string LongText(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + " ";
  text.resize(bytes);
  return text;
}

}  // namespace waxvm::coap
