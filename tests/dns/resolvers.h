// SPDX-License-Identifier: Apache-2.0
// What ordinary programs ask through: a resolver with stub zones, and a machine with a resolv.conf.
#ifndef WAXVM_TESTS_DNS_RESOLVERS_H_
#define WAXVM_TESTS_DNS_RESOLVERS_H_

#include <linux/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "src/base/strings.h"
#include "src/base/unique_fd.h"
#include "src/dns/sockets.h"
#include "tests/support/process.h"

namespace waxvm::dns {

using std::chrono::milliseconds;

inline constexpr char kUnbound[] = "/usr/sbin/unbound";

/// unbound in the foreground, for as long as this lives.
class Unbound {
 public:
  Unbound(const std::string& server_port, const std::string& folder) {
    // A port that was free a moment ago.
    port_ = std::to_string(Listen(*ParseEndpoint("[::1]:0"))->endpoint.port());
    std::ofstream(folder + "/unbound.conf")
        << "server:\n interface: ::1@" << port_ << "\n directory: \"" << folder
        << "\"\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n"
           " do-daemonize: no\n do-not-query-localhost: no\n module-config: \"iterator\"\n"
           " use-caps-for-id: yes\n qname-minimisation: yes\n num-threads: 1\n"
           " local-zone: \"d.f.ip6.arpa.\" nodefault\n"
           "remote-control:\n control-enable: no\n";
    std::ofstream config(folder + "/unbound.conf", std::ios::app);
    for (const char* zone : {"internal", "d.f.ip6.arpa"})
      config << "stub-zone:\n name: \"" << zone << "\"\n stub-addr: ::1@" << server_port << "\n";
    config.close();
    const UniqueFd log(memfd_create("unbound", MFD_CLOEXEC));
    child_ = support::Start({kUnbound, "-d", "-p", "-c", folder + "/unbound.conf"}, {}, 0,
                            log.get(), log.get());
    for (int i = 0; i < 500 && !Answers(); ++i) std::this_thread::sleep_for(milliseconds(20));
  }
  ~Unbound() {
    if (child_ <= 0) return;
    kill(child_, SIGTERM);
    support::Wait(child_, milliseconds(5000));
  }
  Unbound(const Unbound&) = delete;
  Unbound& operator=(const Unbound&) = delete;
  const std::string& port() const { return port_; }

 private:
  bool Answers() const {
    const Endpoint endpoint = *ParseEndpoint("[::1]:" + port_);
    const UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return connect(fd.get(), endpoint.get(), endpoint.size) == 0;
  }
  std::string port_;
  pid_t child_ = -1;
};

/// Makes the calling process one of a machine of its own, whose resolver asks 127.0.0.1 and ::1.
/// Returns what kept it from that.
inline std::string EnterOwnMachine(const std::string& folder) {
  const bool root = geteuid() == 0;
  if (unshare(CLONE_NEWNS | CLONE_NEWNET | (root ? 0 : CLONE_NEWUSER)) != 0)
    return std::string("unshare: ") + strerror(errno);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return std::string("mount: ") + strerror(errno);
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq up = {};
  strncpy(up.ifr_name, "lo", IFNAMSIZ - 1);
  up.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(fd.get(), SIOCSIFFLAGS, &up) != 0) return std::string("lo: ") + strerror(errno);
  std::ofstream(folder + "/nsswitch.conf") << "hosts: dns\n";
  for (const char* file : {"resolv.conf", "nsswitch.conf"})
    if (mount((folder + "/" + file).c_str(), (std::string("/etc/") + file).c_str(), nullptr,
              MS_BIND, nullptr) != 0)
      return absl::StrFormat("mount over /etc/%s: %s", file, strerror(errno));
  return "";
}

}  // namespace waxvm::dns

#endif  // WAXVM_TESTS_DNS_RESOLVERS_H_
