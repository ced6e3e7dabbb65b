// SPDX-License-Identifier: Apache-2.0
// Sockets of the family AF_UNIX, between ends that are both in the instance: making, naming and
// connecting them. No other family is offered: the instance has no network.
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "src/base/strings.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/socket_message.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

using Socket = std::shared_ptr<UnixSocket>;

ErrnoOr<Socket> SocketArgument(Process& process, std::uint64_t fd) {
  const ErrnoOr<OpenFile*> file = FileArgument(process, fd);
  if (!file.ok()) return file.error();
  Socket socket = std::dynamic_pointer_cast<UnixSocket>((*file)->shared_from_this());
  if (socket == nullptr) return Errno{ENOTSOCK};
  return socket;
}

std::string FamilyName(int family) {
  switch (family) {
    case AF_INET:
      return "AF_INET";
    case AF_INET6:
      return "AF_INET6";
    case AF_NETLINK:
      return "AF_NETLINK";
    case AF_PACKET:
      return "AF_PACKET";
    case AF_VSOCK:
      return "AF_VSOCK";
    default:
      return absl::StrFormat("family %d", family);
  }
}

// Families that a Linux with a network has, none of which makes pairs.
bool IsNetworkFamily(int family) {
  return family == AF_INET || family == AF_INET6 || family == AF_NETLINK || family == AF_PACKET;
}

ErrnoOr<int> TypeArgument(Process& process, const SyscallArguments& a, bool pair) {
  const auto family = static_cast<int>(a[0]);
  const auto type = static_cast<int>(a[1]);
  const auto protocol = static_cast<int>(a[2]);
  if ((type & ~(0xf | SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return Errno{EINVAL};
  constexpr int kTypes = 11;  // SOCK_MAX
  if ((type & 0xf) >= kTypes) return Errno{EINVAL};
  if (pair && IsNetworkFamily(family)) return Errno{EOPNOTSUPP};
  if (family != AF_UNIX) {
    const std::string name = absl::StrFormat("socket(%s)", FamilyName(family));
    process.gate().RecordDenial({.resource = Resource::kSystemCall, .name = name});
    return Errno{EAFNOSUPPORT};
  }
  if (protocol != 0 && protocol != AF_UNIX) return Errno{EPROTONOSUPPORT};
  switch (type & 0xf) {
    case SOCK_STREAM:
    case SOCK_DGRAM:
    case SOCK_SEQPACKET:
      return type & 0xf;
    case SOCK_RAW:  // as Linux has it
      return SOCK_DGRAM;
    default:
      return Errno{ESOCKTNOSUPPORT};
  }
}

int FileFlags(std::uint64_t type) { return (type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0; }

std::int64_t MakeSocket(Process& process, const SyscallArguments& a) {
  const ErrnoOr<int> type = TypeArgument(process, a, /*pair=*/false);
  if (!type.ok()) return type.result();
  return process.files().Add(
      UnixSocket::Create(process.file_system().context(), *type, FileFlags(a[1])),
      (a[1] & SOCK_CLOEXEC) != 0);
}

std::int64_t SocketPair(Process& process, const SyscallArguments& a) {
  const ErrnoOr<int> type = TypeArgument(process, a, /*pair=*/true);
  if (!type.ok()) return type.result();
  VfsContext& context = process.file_system().context();
  const Socket first = UnixSocket::Create(context, *type, FileFlags(a[1]));
  const Socket second = UnixSocket::Create(context, *type, FileFlags(a[1]));
  UnixSocket::Pair(*first, *second);
  FdTable& files = process.files();
  const bool close_on_exec = (a[1] & SOCK_CLOEXEC) != 0;
  const std::int64_t one = files.Add(first, close_on_exec);
  if (one < 0) return one;
  const std::int64_t other = files.Add(second, close_on_exec);
  std::int64_t result = other < 0 ? other : 0;
  if (result == 0) {
    const std::array<std::int32_t, 2> both = {static_cast<std::int32_t>(one),
                                              static_cast<std::int32_t>(other)};
    if (process.memory().WriteObject(a[3], both)) return 0;
    static_cast<void>(files.Close(static_cast<std::uint64_t>(other)));
    result = -EFAULT;
  }
  static_cast<void>(files.Close(static_cast<std::uint64_t>(one)));
  return result;
}

// A name nobody has yet: five hexadecimal digits, as Linux gives them.
std::int64_t BindToAny(Process& process, UnixSocket& socket) {
  VfsContext& context = process.file_system().context();
  constexpr std::uint64_t kNames = 1 << 20;
  for (std::uint64_t tries = 0; tries < kNames; ++tries) {
    const std::uint64_t number = ++context.last_inode % kNames;
    const std::int64_t bound =
        socket.BindAbstract(std::string(1, '\0') + absl::StrFormat("%05x", number));
    if (bound != -EADDRINUSE) return bound;
  }
  return -ENOSPC;
}

std::int64_t Bind(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  const ErrnoOr<std::string> name = ReadAddress(process, a[1], a[2]);
  if (!name.ok()) return name.result();
  if (!(*socket)->bound_name().empty()) return -EINVAL;
  if (name->empty()) return BindToAny(process, **socket);
  if (name->front() == '\0') return (*socket)->BindAbstract(*name);
  FileSystem& file_system = process.file_system();
  std::shared_ptr<MemoryNode> node;
  const std::int64_t made =
      file_system.MakeSpecial(file_system.working_directory(), *name, S_IFSOCK | 0777, &node);
  if (made < 0) return made == -EEXIST ? -EADDRINUSE : made;
  return (*socket)->BindNode(*name, *node);
}

// Who is bound to a name. Errors: ECONNREFUSED, those of the path.
ErrnoOr<Socket> FindTarget(Process& process, const std::string& name) {
  if (name.empty()) return Errno{EINVAL};
  FileSystem& file_system = process.file_system();
  Socket target;
  if (name.front() == '\0') {
    target = UnixSocket::FindAbstract(file_system.context(), name);
  } else {
    const ErrnoOr<std::shared_ptr<MemoryNode>> node =
        file_system.FindSocket(file_system.working_directory(), name);
    if (!node.ok()) return node.error();
    target = std::static_pointer_cast<UnixSocket>(
        std::static_pointer_cast<OpenFile>((*node)->endpoint.lock()));
  }
  if (target == nullptr) return Errno{ECONNREFUSED};
  return target;
}

std::int64_t Connect(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  const ErrnoOr<std::string> name = ReadAddress(process, a[1], a[2]);
  if (!name.ok()) {
    if (name.error().number != EAFNOSUPPORT || (*socket)->type() != SOCK_DGRAM) {
      return name.error().number == EAFNOSUPPORT ? -EINVAL : name.result();
    }
    (*socket)->Disconnect();
    return 0;
  }
  const ErrnoOr<Socket> target = FindTarget(process, *name);
  if (!target.ok()) return target.result();
  const std::int64_t connected = (*socket)->Connect(*target);
  if (connected != -EAGAIN || (*socket)->nonblocking()) return connected;
  const std::int64_t slept =
      process.Sleep({.files = {{std::make_shared<BacklogRoom>(*target), POLLOUT}},
                     .timeout = (*socket)->send_timeout,
                     .interrupted = kRestart});
  return slept == 0 ? -EAGAIN : slept;
}

std::int64_t Listen(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  return socket.ok() ? (*socket)->Listen(static_cast<int>(a[1])) : socket.result();
}

std::int64_t AcceptWithFlags(Process& process, const SyscallArguments& a, std::uint64_t flags) {
  if ((flags & ~std::uint64_t{SOCK_NONBLOCK | SOCK_CLOEXEC}) != 0) return -EINVAL;
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  const std::int64_t room = process.files().CheckRoom();
  if (room < 0) return room;
  ErrnoOr<Socket> accepted = (*socket)->Accept(FileFlags(flags));
  if (!accepted.ok()) {
    const bool sleeps = accepted.error().number == EAGAIN && !(*socket)->nonblocking();
    return sleeps ? SleepOnFile(process, **socket, POLLIN) : accepted.result();
  }
  const ErrnoOr<std::string> name = (*accepted)->PeerName();
  const std::int64_t written = WriteAddress(process, name.ok() ? *name : std::string(), a[1], a[2]);
  if (written < 0) return written;
  return process.files().Add(*std::move(accepted), (flags & SOCK_CLOEXEC) != 0);
}
std::int64_t Accept(Process& process, const SyscallArguments& a) {
  return AcceptWithFlags(process, a, 0);
}
std::int64_t Accept4(Process& process, const SyscallArguments& a) {
  return AcceptWithFlags(process, a, static_cast<std::uint32_t>(a[3]));
}

std::int64_t GetSockName(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  return a[1] == 0 ? -EFAULT : WriteAddress(process, (*socket)->bound_name(), a[1], a[2]);
}
std::int64_t GetPeerName(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  const ErrnoOr<std::string> name = (*socket)->PeerName();
  if (!name.ok()) return name.result();
  return a[1] == 0 ? -EFAULT : WriteAddress(process, *name, a[1], a[2]);
}

std::int64_t Shutdown(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  return socket.ok() ? (*socket)->Shutdown(static_cast<int>(a[1])) : socket.result();
}

using Limit = std::optional<std::chrono::nanoseconds>;

std::int64_t SetTimeLimit(Process& process, Limit& limit, const SyscallArguments& a) {
  timeval time{};
  if (static_cast<std::uint32_t>(a[4]) < sizeof time) return -EINVAL;
  if (!process.memory().ReadObject(a[3], time)) return -EFAULT;
  if (time.tv_usec < 0 || time.tv_usec > 999'999) return -EDOM;
  constexpr std::int64_t kMaxSeconds = 1'000'000'000;
  const auto given = std::chrono::seconds(std::clamp<std::int64_t>(time.tv_sec, 0, kMaxSeconds)) +
                     std::chrono::microseconds(time.tv_usec);
  limit = given.count() == 0 ? Limit() : Limit(given);
  return 0;
}

std::int64_t SetSockOpt(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  if (static_cast<int>(a[1]) != SOL_SOCKET) return -ENOPROTOOPT;
  switch (static_cast<int>(a[2])) {
    case SO_RCVTIMEO:
      return SetTimeLimit(process, (*socket)->receive_timeout, a);
    case SO_SNDTIMEO:
      return SetTimeLimit(process, (*socket)->send_timeout, a);
    default:
      break;
  }
  std::int32_t value = 0;
  if (static_cast<std::uint32_t>(a[4]) < sizeof value) return -EINVAL;
  if (!process.memory().ReadObject(a[3], value)) return -EFAULT;
  switch (static_cast<int>(a[2])) {
    case SO_PASSCRED:
      (*socket)->pass_credentials = value != 0;
      return 0;
    case SO_REUSEADDR:
    case SO_REUSEPORT:
    case SO_KEEPALIVE:
    case SO_LINGER:
    case SO_BROADCAST:
    case SO_PRIORITY:
    case SO_SNDBUF:
    case SO_RCVBUF:
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
    case SO_OOBINLINE:
    case SO_TIMESTAMP:
      return 0;
    default:
      return -ENOPROTOOPT;
  }
}

template <typename T>
std::int64_t WriteOption(Process& process, const SyscallArguments& a, const T& value) {
  std::int32_t room = 0;
  if (!process.memory().ReadObject(a[4], room)) return -EFAULT;
  if (room < 0) return -EINVAL;
  const auto bytes = std::min<std::size_t>(static_cast<std::size_t>(room), sizeof value);
  if (!process.memory().Write(a[3], std::as_bytes(std::span(&value, 1)).first(bytes)) ||
      !process.memory().WriteObject(a[4], static_cast<std::int32_t>(bytes))) {
    return -EFAULT;
  }
  return 0;
}

std::int64_t WriteTimeLimit(Process& process, const SyscallArguments& a, const Limit& limit) {
  const std::int64_t micros = limit.value_or(std::chrono::nanoseconds(0)).count() / 1000;
  return WriteOption(process, a,
                     timeval{.tv_sec = micros / 1'000'000, .tv_usec = micros % 1'000'000});
}

std::int64_t GetSockOpt(Process& process, const SyscallArguments& a) {
  const ErrnoOr<Socket> socket = SocketArgument(process, a[0]);
  if (!socket.ok()) return socket.result();
  if (static_cast<int>(a[1]) != SOL_SOCKET) return -EOPNOTSUPP;
  UnixSocket& at = **socket;
  switch (static_cast<int>(a[2])) {
    case SO_TYPE:
      return WriteOption(process, a, std::int32_t{at.type()});
    case SO_DOMAIN:
      return WriteOption(process, a, std::int32_t{AF_UNIX});
    case SO_ERROR:
      return WriteOption(process, a, static_cast<std::int32_t>(-at.TakeError()));
    case SO_ACCEPTCONN:
      return WriteOption(process, a, std::int32_t{at.listening()});
    case SO_PASSCRED:
      return WriteOption(process, a, std::int32_t{at.pass_credentials});
    case SO_SNDBUF:
    case SO_RCVBUF:
      return WriteOption(process, a, std::int32_t{UnixSocket::kBufferBytes});
    case SO_RCVTIMEO:
      return WriteTimeLimit(process, a, at.receive_timeout);
    case SO_SNDTIMEO:
      return WriteTimeLimit(process, a, at.send_timeout);
    case SO_PEERCRED: {
      const bool known = at.connected();
      const std::uint32_t nobody = known ? 0 : ~std::uint32_t{0};
      return WriteOption(
          process, a,
          std::array<std::uint32_t, 3>{known ? std::uint32_t{Process::kPid} : 0, nobody, nobody});
    }
    case SO_PROTOCOL:
    case SO_REUSEADDR:
    case SO_REUSEPORT:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_PRIORITY:
    case SO_OOBINLINE:
    case SO_TIMESTAMP:
      return WriteOption(process, a, std::int32_t{0});
    case SO_LINGER:
      return WriteOption(process, a, std::array<std::int32_t, 2>{});
    default:
      return -ENOPROTOOPT;
  }
}

constexpr std::string_view kUnixOnly = "AF_UNIX only, between ends that are both in the instance";
constexpr std::string_view kOptions =
    "of the level SOL_SOCKET, what AF_UNIX has; buffer sizes are fixed";

constexpr SyscallEntry kEntries[] = {
    {SYS_socket, "socket", MakeSocket, Support::kPartial, kUnixOnly},
    {SYS_socketpair, "socketpair", SocketPair, Support::kPartial, kUnixOnly},
    {SYS_bind, "bind", Bind, Support::kPartial, "names in granted folders: EPERM"},
    {SYS_connect, "connect", Connect},
    {SYS_listen, "listen", Listen},
    {SYS_accept, "accept", Accept},
    {SYS_accept4, "accept4", Accept4},
    {SYS_getsockname, "getsockname", GetSockName},
    {SYS_getpeername, "getpeername", GetPeerName},
    {SYS_shutdown, "shutdown", Shutdown},
    {SYS_setsockopt, "setsockopt", SetSockOpt, Support::kPartial, kOptions},
    {SYS_getsockopt, "getsockopt", GetSockOpt, Support::kPartial, kOptions},
};

}  // namespace

ErrnoOr<std::shared_ptr<UnixSocket>> SocketForMessage(Process& process, std::uint64_t fd) {
  return SocketArgument(process, fd);
}
ErrnoOr<std::shared_ptr<UnixSocket>> SocketByName(Process& process, const std::string& name) {
  return FindTarget(process, name);
}

std::span<const SyscallEntry> SocketCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
