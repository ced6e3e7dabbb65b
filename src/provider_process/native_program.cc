// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/native_program.h"

#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "src/base/status.h"
#include "src/image/program_rep.h"
#include "src/provider_process/setup_error.h"
#include "waxvm/abi/host_call.h"
#include "waxvm/native.h"

namespace waxvm::process {
namespace {

/// NativeContext over the same descriptors that any program has.
class ForkedContext final : public NativeContext {
 public:
  explicit ForkedContext(const InstanceSpec& spec) : spec_(spec) {}

  const std::vector<std::string>& arguments() const override { return spec_.arguments; }
  const std::vector<std::string>& environment() const override { return spec_.environment; }

  absl::Status WriteOutput(std::string_view data) override { return Write(STDOUT_FILENO, data); }
  absl::Status WriteError(std::string_view data) override { return Write(STDERR_FILENO, data); }

  absl::StatusOr<std::size_t> ReadInput(std::span<char> buffer) override {
    for (;;) {
      const ssize_t n = read(STDIN_FILENO, buffer.data(), buffer.size());
      if (n >= 0) return static_cast<std::size_t>(n);
      if (errno != EINTR) return ErrnoStatus(errno, "reading standard input");
    }
  }

  absl::StatusOr<std::string> CallHost(std::string_view name, std::string_view request) override;

  absl::StatusOr<std::chrono::nanoseconds> ReadClock() override {
    if (!spec_.host_clock) {
      // A call that tells the time and is refused: so the refusal is counted.
      syscall(SYS_adjtimex, nullptr);
      return absl::PermissionDeniedError("clock: not granted");
    }
    timespec now{};
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return ErrnoStatus(errno, "clock_gettime");
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  }

  absl::Status ReadRandom(std::span<std::byte> buffer) override {
    while (!buffer.empty()) {
      // Without the grant the filter refuses the call and the refusal is counted.
      const ssize_t n = getrandom(buffer.data(), buffer.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "random");
      buffer = buffer.subspan(static_cast<std::size_t>(n));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status Write(int fd, std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = write(fd, data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "writing output");
      data.remove_prefix(static_cast<std::size_t>(n));
    }
    return absl::OkStatus();
  }

  const InstanceSpec& spec_;
};

bool ReceiveAll(void* to, std::size_t bytes) {
  return waxvm_transfer_(0 /* read */, to, bytes) == 0;
}

absl::StatusOr<std::string> ForkedContext::CallHost(std::string_view name,
                                                    std::string_view request) {
  if (name.empty() || name.size() > WAXVM_HOST_CALL_MAX_NAME) {
    return InvalidArgument("host function name of %d bytes, the limit is 255", name.size());
  }
  if (request.size() > WAXVM_HOST_CALL_MAX_REQUEST) {
    return InvalidArgument("host call request of %d bytes, the limit is 16 MiB", request.size());
  }
  const waxvm_host_call_request_frame frame{WAXVM_HOST_CALL_VERSION,
                                            static_cast<std::uint32_t>(name.size()),
                                            static_cast<std::uint32_t>(request.size()), 0};
  std::string message(reinterpret_cast<const char*>(&frame), sizeof frame);
  message.append(name).append(request);
  WAXVM_RETURN_IF_ERROR(Write(WAXVM_HOST_CALL_FD, message));
  waxvm_host_call_reply_frame reply{};
  if (!ReceiveAll(&reply, sizeof reply) || reply.reply_bytes > WAXVM_HOST_CALL_MAX_REPLY) {
    return Unavailable("the host closed the channel for host calls");
  }
  std::string body(reply.reply_bytes, '\0');
  if (!ReceiveAll(body.data(), body.size())) {
    return Unavailable("the host closed the channel for host calls");
  }
  if (reply.status == WAXVM_HOST_CALL_OK) return body;
  return absl::Status(static_cast<absl::StatusCode>(reply.status), body);
}

/// Pid 2: never returns into the embedder's code below it.
[[noreturn]] void RunFunction(const InstanceSpec& spec, const wx_config& config) {
  if (wx_sandbox_enter(&config) != 0) wx_exit(125);
  close(WX_FD_CONTROL);
  ForkedContext context(spec);
  const int code = spec.program.rep().function()(context);
  wx_exit(code & 0xff);
}

/// Pid 1 of the new namespaces.
[[noreturn]] void RunInit(const InstanceSpec& spec, const wx_descriptors& descriptors,
                          const wx_config& config) {
  // Before the descriptors are in place only the end of this process can tell of a failure.
  if (wx_place_descriptors(&descriptors) != 0) wx_exit(125);
  if (wx_sandbox_init(&config) != 0) wx_exit(125);
  const pid_t program = fork();
  if (program == 0) RunFunction(spec, config);
  if (program < 0) {
    wx_report_failure(WX_STEP_FORK, -errno, -1);
    wx_exit(125);
  }
  wx_sandbox_reap(program);
}

struct CloneResult {
  std::int32_t pid = 0;  ///< or a negated errno
};

/// In the forked go-between: makes pid 1 a child of the embedder and hands over its pidfd.
[[noreturn]] void RunGoBetween(const InstanceSpec& spec, const wx_descriptors& descriptors,
                               const wx_config& config, int channel) {
  std::int32_t pidfd = -1;
  const long pid = wx_clone_native(&pidfd);
  if (pid == 0) RunInit(spec, descriptors, config);
  CloneResult result{static_cast<std::int32_t>(pid)};
  iovec part{&result, sizeof result};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (pid > 0) {
    message.msg_control = space.data();
    message.msg_controllen = space.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &pidfd, sizeof pidfd);
  }
  sendmsg(channel, &message, MSG_NOSIGNAL);
  wx_exit(0);
}

absl::StatusOr<InitProcess> ReceiveInit(int channel) {
  CloneResult result;
  iovec part{&result, sizeof result};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  ssize_t n;
  do {
    n = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(sizeof result)) {
    return absl::AbortedError("the sandbox died while it was being built");
  }
  if (result.pid < 0) return CloneError(-result.pid);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) {
    return absl::ResourceExhaustedError("no descriptor is left for the sandbox's pidfd");
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return InitProcess(result.pid, UniqueFd(fd));
}

}  // namespace

absl::StatusOr<InitProcess> SpawnNative(const InstanceSpec& spec, const wx_descriptors& descriptors,
                                        const wx_config& config) {
  std::array<int, 2> fds;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return ErrnoStatus(errno, "socketpair");
  }
  const UniqueFd ours(fds[0]);
  UniqueFd theirs(fds[1]);
  // No handler of the embedder may run in the child: pid 1 starts with all handlers reset, and
  // until then every signal is blocked.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t go_between = fork();
  if (go_between == 0) RunGoBetween(spec, descriptors, config, theirs.get());
  const int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (go_between < 0) return ErrnoStatus(fork_error, "fork");
  theirs.reset();
  auto init = ReceiveInit(ours.get());
  while (waitpid(go_between, nullptr, 0) < 0 && errno == EINTR) continue;
  return init;
}

}  // namespace waxvm::process
