// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/launch.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "src/image/program_rep.h"
#include "src/provider_process/native_program.h"
#include "src/provider_process/setup_error.h"

extern "C" const char waxvm_stage_image[];
extern "C" const char waxvm_stage_image_end[];

namespace waxvm::process {
namespace {

// The id that programs see; the host's stays hidden.
constexpr std::uint32_t kGuestId = 1000;

absl::StatusOr<UniqueFd> UnpackStage() {
  const auto bytes = static_cast<std::size_t>(waxvm_stage_image_end - waxvm_stage_image);
  return NewSealedFile("waxvm-stage", Executable::kYes,
                       std::as_bytes(std::span(waxvm_stage_image, bytes)));
}

struct SocketPair {
  UniqueFd ours;
  UniqueFd theirs;
};

absl::StatusOr<SocketPair> MakeSocketPair(int type) {
  std::array<int, 2> fds;
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return ErrnoStatus(errno, "socketpair");
  }
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

absl::StatusOr<SocketPair> MakePipe() {
  std::array<int, 2> fds;
  if (pipe2(fds.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe2");
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

struct ProgramInput {
  UniqueFd descriptor;  ///< the program's
  InputPump pump;
};

/// Standard input as a pipe that the embedder fills.
absl::StatusOr<ProgramInput> PumpedInput(int input_fd) {
  WAXVM_ASSIGN_OR_RETURN(SocketPair pipe, MakePipe());
  UniqueFd source(fcntl(input_fd, F_DUPFD_CLOEXEC, 0));
  UniqueFd reader(fcntl(pipe.ours.get(), F_DUPFD_CLOEXEC, 0));
  if (!source || !reader || fcntl(pipe.theirs.get(), F_SETFL, O_NONBLOCK) != 0)
    return ErrnoStatus(errno, "standard input");
  return ProgramInput{std::move(pipe.ours),
                      InputPump(std::move(source), std::move(pipe.theirs), std::move(reader))};
}

/// Pipes without a name and sealed memory that are open for reading only are handed over as they
/// are: there is nothing of the host behind them that an owner could change.
absl::StatusOr<ProgramInput> OpenInput(int input_fd) {
  if (input_fd < 0) {
    WAXVM_ASSIGN_OR_RETURN(SocketPair ended, MakePipe());
    return ProgramInput{std::move(ended.ours), InputPump()};
  }
  const int flags = fcntl(input_fd, F_GETFL);
  struct stat about {};
  if (flags < 0 || fstat(input_fd, &about) != 0) return ErrnoStatus(errno, "standard input");
  if (S_ISDIR(about.st_mode) || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY) {
    return InvalidArgument("standard input (descriptor %d) is not open for reading bytes",
                           input_fd);
  }
  const int seals = fcntl(input_fd, F_GET_SEALS);
  const bool sealed = seals >= 0 && (seals & F_SEAL_WRITE) != 0;
  struct statfs where {};
  const bool pipe = S_ISFIFO(about.st_mode) && fstatfs(input_fd, &where) == 0 &&
                    static_cast<std::uint32_t>(where.f_type) == PIPEFS_MAGIC;
  const bool plain = pipe || sealed;
  if (!plain || (flags & O_ACCMODE) != O_RDONLY) return PumpedInput(input_fd);
  UniqueFd same(fcntl(input_fd, F_DUPFD_CLOEXEC, 0));
  if (!same) return ErrnoStatus(errno, "standard input");
  return ProgramInput{std::move(same), InputPump()};
}

std::size_t Depth(const std::string& path) {
  return path == "/" ? 0 : static_cast<std::size_t>(std::count(path.begin(), path.end(), '/'));
}

/// The message that tells the stage what to build.
class ConfigMessage {
 public:
  static absl::StatusOr<ConfigMessage> Build(const LaunchRequest& request);

  const wx_config& config() const { return *reinterpret_cast<const wx_config*>(bytes_.data()); }
  const std::vector<char>& bytes() const { return bytes_; }
  std::string GrantName(int item) const;

 private:
  absl::Status AddMounts(const InstanceSpec& spec);
  template <typename T>
  std::uint32_t Append(const T* data, std::size_t count);
  wx_config& mutable_config() { return *reinterpret_cast<wx_config*>(bytes_.data()); }

  std::vector<char> bytes_;
  std::vector<const FileMount*> mounts_;  ///< parents before what lies below them
};

template <typename T>
std::uint32_t ConfigMessage::Append(const T* data, std::size_t count) {
  bytes_.resize((bytes_.size() + alignof(T) - 1) / alignof(T) * alignof(T));
  const std::size_t at = bytes_.size();
  bytes_.resize(at + count * sizeof(T));
  if (count != 0) std::memcpy(bytes_.data() + at, data, count * sizeof(T));
  return static_cast<std::uint32_t>(at);
}

/// The path under which the granted object is found now, from the descriptor that was checked.
absl::StatusOr<std::string> CurrentPath(const FileMount& mount) {
  const std::string link = absl::StrFormat("/proc/self/fd/%d", *mount.host_fd);
  std::string path(4097, '\0');
  const ssize_t n = readlink(link.c_str(), path.data(), path.size());
  if (n < 0) return ErrnoStatus(errno, "readlink " + link);
  path.resize(static_cast<std::size_t>(n));
  if (path.size() > 4096 || path.front() != '/') {
    return InvalidArgument("grant of %s: it has no path", mount.host_path);
  }
  return path;
}

absl::Status ConfigMessage::AddMounts(const InstanceSpec& spec) {
  for (const FileMount& mount : spec.mounts) mounts_.push_back(&mount);
  std::stable_sort(mounts_.begin(), mounts_.end(), [](const FileMount* a, const FileMount* b) {
    return Depth(a->guest_path) < Depth(b->guest_path);
  });
  std::vector<wx_mount> entries;
  for (const FileMount* mount : mounts_) {
    if (mount->host_fd == nullptr || mount->guest_path.empty() || mount->guest_path[0] != '/') {
      return InvalidArgument("grant of %s: guest path '%s' is not absolute", mount->host_path,
                             mount->guest_path);
    }
    struct stat about {};
    if (fstat(*mount->host_fd, &about) != 0) return ErrnoStatus(errno, mount->host_path);
    if (!S_ISDIR(about.st_mode) && !S_ISREG(about.st_mode)) {
      return InvalidArgument("grant of %s: neither a folder nor a regular file", mount->host_path);
    }
    WAXVM_ASSIGN_OR_RETURN(const std::string path, CurrentPath(*mount));
    wx_mount entry{};
    entry.device = static_cast<std::uint64_t>(major(about.st_dev)) << 32 | minor(about.st_dev);
    entry.inode = about.st_ino;
    if (mount->rights == Rights::kReadWrite) entry.flags |= WX_MOUNT_WRITABLE;
    if (S_ISDIR(about.st_mode)) entry.flags |= WX_MOUNT_DIRECTORY;
    entry.host_path = Append(path.c_str(), path.size() + 1);
    entry.guest_path = Append(mount->guest_path.c_str(), mount->guest_path.size() + 1);
    entries.push_back(entry);
  }
  const std::uint32_t offset = Append(entries.data(), entries.size());
  mutable_config().mount_offset = offset;
  mutable_config().mount_count = static_cast<std::uint32_t>(entries.size());
  return absl::OkStatus();
}

absl::StatusOr<ConfigMessage> ConfigMessage::Build(const LaunchRequest& request) {
  ConfigMessage message;
  wx_config config{};
  config.host_uid = geteuid();
  config.host_gid = getegid();
  config.guest_uid = config.guest_gid = kGuestId;
  config.landlock_abi = request.host->landlock_abi;
  config.root_bytes = request.root_bytes;
  if (request.host->notifications) config.flags |= WX_LISTENER;
  if (request.spec != nullptr && request.spec->random != nullptr) config.flags |= WX_RANDOM_DEVICES;
  if (request.root_wanted) config.flags |= WX_ROOT_WANTED;
  config.rlimit_count =
      static_cast<std::uint32_t>(std::min<std::size_t>(request.rlimits.size(), WX_MAX_RLIMITS));
  std::copy_n(request.rlimits.begin(), config.rlimit_count, config.rlimits);
  message.Append(&config, 1);
  const std::uint32_t filter = message.Append(request.filter->data(), request.filter->size());
  message.mutable_config().filter_offset = filter;
  message.mutable_config().filter_count = static_cast<std::uint32_t>(request.filter->size());
  if (request.spec != nullptr) WAXVM_RETURN_IF_ERROR(message.AddMounts(*request.spec));
  if (message.bytes_.size() > WX_MAX_CONFIG) {
    return InvalidArgument("grants: %d of them need %d bytes of set-up, the limit is %d",
                           message.mounts_.size(), message.bytes_.size(), int{WX_MAX_CONFIG});
  }
  message.mutable_config().bytes = static_cast<std::uint32_t>(message.bytes_.size());
  return message;
}

std::string ConfigMessage::GrantName(int item) const {
  if (item < 0 || static_cast<std::size_t>(item) >= mounts_.size()) return {};
  const FileMount& mount = *mounts_[static_cast<std::size_t>(item)];
  return absl::StrFormat("grant of %s at %s", mount.host_path, mount.guest_path);
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

absl::StatusOr<InitProcess> SpawnStage(const InstanceSpec* spec, wx_spawn spawn) {
  static const std::vector<std::string> kNone;
  const std::vector<char*> arguments = Pointers(spec != nullptr ? spec->arguments : kNone);
  const std::vector<char*> environment = Pointers(spec != nullptr ? spec->environment : kNone);
  spawn.arguments = arguments.data();
  spawn.environment = environment.data();
  std::int32_t pidfd = -1;
  const long pid = wx_spawn_stage(&spawn, &pidfd);
  if (pid < 0) return CloneError(static_cast<int>(-pid));
  InitProcess init(static_cast<pid_t>(pid), UniqueFd(pidfd));
  if (spawn.failed_step == WX_STEP_STAGE && spawn.failed_errno == E2BIG) {
    return InvalidArgument(
        "arguments and environment are larger than this host passes to a program");
  }
  if (spawn.failed_step != WX_STEP_NONE)
    return StepError(spawn.failed_step, spawn.failed_errno, {});
  return init;
}

/// Waits for the sandbox's word that everything is in place.
absl::Status AwaitReady(Sandbox& sandbox, const ConfigMessage& message, bool needs_listener) {
  for (;;) {
    std::array<pollfd, 2> watched = {pollfd{sandbox.control.get(), POLLIN, 0},
                                     pollfd{sandbox.init.pidfd(), POLLIN, 0}};
    if (poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) {
      return ErrnoStatus(errno, "poll");
    }
    UniqueFd descriptor;
    const auto report = ReceiveReport(sandbox.control.get(), &descriptor);
    if (report && report->kind == WX_FAILED) {
      return StepError(report->step, report->error, message.GrantName(report->item));
    }
    if (report && report->kind == WX_ROOT) {
      if (!descriptor) return StepError(WX_STEP_ROOT, EMFILE, {});
      sandbox.root = std::move(descriptor);
      continue;
    }
    if (report && report->kind == WX_READY) {
      sandbox.listener = std::move(descriptor);
      if (needs_listener && !sandbox.listener) return StepError(WX_STEP_LISTENER, EMFILE, {});
      return absl::OkStatus();
    }
    if (report || watched[1].revents != 0 || (watched[0].revents & POLLHUP) != 0) {
      return absl::AbortedError("the sandbox died while it was being built");
    }
  }
}

}  // namespace

InitProcess::~InitProcess() {
  if (!pidfd_) return;
  if (!reaped_) {
    Kill();
    Wait();
  }
}

void InitProcess::Kill() {
  if (!reaped_) syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

void InitProcess::Wait() {
  if (reaped_) return;
  siginfo_t info{};
  int result;
  do {
    result = waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | __WALL);
  } while (result < 0 && errno == EINTR);
  reaped_ = true;
  if (result == 0) return;
  // Somebody else waits for all children of this process, or SIGCHLD is ignored: then only the
  // pidfd tells the end.
  pollfd ended{pidfd_.get(), POLLIN, 0};
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) continue;
}

absl::StatusOr<HostFacts> ProbeHost() {
  HostFacts facts;
  WAXVM_ASSIGN_OR_RETURN(facts.stage, UnpackStage());
  constexpr int kVersionQuery = 1;
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersionQuery);
  if (abi > 0) facts.landlock_abi = static_cast<std::uint32_t>(abi);
  std::uint32_t action = SECCOMP_RET_USER_NOTIF;
  facts.notifications = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
  return facts;
}

absl::StatusOr<Sandbox> Launch(const LaunchRequest& request) {
  WAXVM_ASSIGN_OR_RETURN(const ConfigMessage message, ConfigMessage::Build(request));
  const InstanceSpec* const spec = request.spec;
  WAXVM_ASSIGN_OR_RETURN(ProgramInput input, OpenInput(spec != nullptr ? spec->input_fd : -1));
  WAXVM_ASSIGN_OR_RETURN(SocketPair output, MakePipe());
  WAXVM_ASSIGN_OR_RETURN(SocketPair error, MakePipe());
  WAXVM_ASSIGN_OR_RETURN(SocketPair control, MakeSocketPair(SOCK_SEQPACKET));
  WAXVM_ASSIGN_OR_RETURN(SocketPair host_call, MakeSocketPair(SOCK_STREAM));
  const UniqueFd embedder(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!embedder) return ErrnoStatus(errno, "pidfd_open of this process");

  const bool native = spec != nullptr && spec->program.kind() == Program::Kind::kNative;
  const bool has_file = spec != nullptr && !native;
  wx_spawn spawn{};
  spawn.descriptors = {.input = input.descriptor.get(),
                       .output = output.theirs.get(),
                       .error = error.theirs.get(),
                       .control = control.theirs.get(),
                       .program = has_file ? spec->program.rep().file() : -1,
                       .embedder = embedder.get(),
                       .cgroup = request.cgroup,
                       .stage = native ? -1 : request.host->stage.get(),
                       .host_call = host_call.theirs.get()};
  if (!native) {
    const std::vector<char>& bytes = message.bytes();
    if (send(control.ours.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      return ErrnoStatus(errno, "sending the set-up");
    }
  }
  auto init =
      native ? SpawnNative(*spec, spawn.descriptors, message.config()) : SpawnStage(spec, spawn);
  if (!init.ok()) return init.status();
  Sandbox sandbox{*std::move(init),
                  std::move(control.ours),
                  std::move(output.ours),
                  std::move(error.ours),
                  std::move(host_call.ours),
                  UniqueFd(),
                  UniqueFd(),
                  std::move(input.pump)};
  control.theirs.reset();
  WAXVM_RETURN_IF_ERROR(AwaitReady(sandbox, message, request.host->notifications));
  return sandbox;
}

absl::Status StartProgram(const Sandbox& sandbox) {
  const char go = 1;
  if (send(sandbox.control.get(), &go, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
    return absl::OkStatus();
  // A sandbox that is gone says why in the events that follow.
  return errno == EPIPE ? absl::OkStatus() : ErrnoStatus(errno, "starting the program");
}

std::optional<wx_report> ReceiveReport(int control, UniqueFd* descriptor) {
  wx_report report{};
  iovec part{&report, sizeof report};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  const ssize_t n = recvmsg(control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n != static_cast<ssize_t>(sizeof report)) return std::nullopt;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    UniqueFd received(fd);
    if (descriptor != nullptr) *descriptor = std::move(received);
  }
  return report;
}

}  // namespace waxvm::process
