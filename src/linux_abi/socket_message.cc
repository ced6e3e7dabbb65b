// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/socket_message.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/fd_table.h"

namespace waxvm::linux_abi {
namespace {

// Room for SCM_MAX_FD files many times over; a larger buffer is only an attempt to make the host
// read much.
constexpr std::uint64_t kMaxControlBytes = 20480;
constexpr std::size_t kFamilyBytes = sizeof(sa_family_t);

struct Credentials {
  std::int32_t pid = Process::kPid;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

std::size_t Aligned(std::size_t bytes) { return (bytes + 7) & ~std::size_t{7}; }

std::int64_t TakeFiles(Process& process, std::span<const std::byte> data, Ancillary& ancillary) {
  const std::size_t count = data.size() / sizeof(std::int32_t);
  if (ancillary.files.size() + count > UnixSocket::kMaxFiles) return -EINVAL;
  for (std::size_t i = 0; i < count; ++i) {
    std::int32_t fd = 0;
    std::memcpy(&fd, data.data() + i * sizeof fd, sizeof fd);
    std::shared_ptr<OpenFile> file =
        fd < 0 ? nullptr : process.files().Share(static_cast<std::uint64_t>(fd));
    if (file == nullptr) return -EBADF;
    ancillary.files.push_back(std::move(file));
  }
  return 0;
}

}  // namespace

ErrnoOr<std::string> ReadAddress(Process& process, std::uint64_t address, std::uint64_t bytes) {
  bytes = static_cast<std::uint32_t>(bytes);
  if (bytes < kFamilyBytes || bytes > sizeof(sockaddr_un)) return Errno{EINVAL};
  sockaddr_un read{};
  const auto to = std::as_writable_bytes(std::span(&read, 1)).first(bytes);
  if (!process.memory().Read(address, to)) return Errno{EFAULT};
  if (read.sun_family == AF_UNSPEC) return Errno{EAFNOSUPPORT};
  if (read.sun_family != AF_UNIX) return Errno{EINVAL};
  const std::size_t path_bytes = bytes - kFamilyBytes;
  std::string name(read.sun_path, path_bytes);
  // An abstract name is all of its bytes; a path ends at its zero byte.
  if (!name.empty() && name.front() != '\0') name.resize(std::min(name.find('\0'), name.size()));
  return name;
}

std::int64_t WriteAddressTo(Process& process, const std::string& name, std::uint64_t address,
                            std::uint32_t room) {
  sockaddr_un written{};
  written.sun_family = AF_UNIX;
  const std::size_t path_bytes = std::min(name.size(), sizeof written.sun_path);
  std::memcpy(written.sun_path, name.data(), path_bytes);
  const bool path = !name.empty() && name.front() != '\0';
  const std::size_t terminator = path && path_bytes < sizeof written.sun_path ? 1 : 0;
  const std::size_t bytes = kFamilyBytes + path_bytes + terminator;
  const auto from = std::as_bytes(std::span(&written, 1)).first(std::min<std::size_t>(bytes, room));
  if (!process.memory().Write(address, from)) return -EFAULT;
  return static_cast<std::int64_t>(bytes);
}

std::int64_t WriteAddress(Process& process, const std::string& name, std::uint64_t address,
                          std::uint64_t bytes_address) {
  if (address == 0) return 0;
  std::int32_t room = 0;
  if (!process.memory().ReadObject(bytes_address, room)) return -EFAULT;
  if (room < 0) return -EINVAL;
  const std::int64_t bytes =
      WriteAddressTo(process, name, address, static_cast<std::uint32_t>(room));
  if (bytes < 0) return bytes;
  return process.memory().WriteObject(bytes_address, static_cast<std::int32_t>(bytes)) ? 0
                                                                                       : -EFAULT;
}

ErrnoOr<Ancillary> ReadControl(Process& process, const MessageHeader& header) {
  Ancillary ancillary;
  if (header.control == 0 || header.control_bytes == 0) return ancillary;
  if (header.control_bytes > kMaxControlBytes) return Errno{ENOBUFS};
  std::vector<std::byte> bytes(header.control_bytes);
  if (!process.memory().Read(header.control, bytes)) return Errno{EFAULT};
  for (std::size_t at = 0; at + sizeof(cmsghdr) <= bytes.size();) {
    cmsghdr control{};
    std::memcpy(&control, bytes.data() + at, sizeof control);
    if (control.cmsg_len < sizeof control || control.cmsg_len > bytes.size() - at) {
      return Errno{EINVAL};
    }
    const std::span<const std::byte> data(bytes.data() + at + sizeof control,
                                          control.cmsg_len - sizeof control);
    at += Aligned(control.cmsg_len);
    if (control.cmsg_level != SOL_SOCKET) continue;
    if (control.cmsg_type == SCM_RIGHTS) {
      const std::int64_t taken = TakeFiles(process, data, ancillary);
      if (taken < 0) return ToErrno(taken);
    } else if (control.cmsg_type == SCM_CREDENTIALS) {
      Credentials given;
      if (data.size() != sizeof given) return Errno{EINVAL};
      std::memcpy(&given, data.data(), sizeof given);
      if (given.pid != Process::kPid || given.uid != 0 || given.gid != 0) return Errno{EPERM};
      ancillary.credentials = true;
    } else {
      return Errno{EINVAL};
    }
  }
  return ancillary;
}

std::int64_t WriteControl(Process& process, UnixSocket& socket, Ancillary ancillary,
                          bool close_on_exec, MessageHeader& header) {
  const std::uint64_t room = header.control == 0 ? 0 : header.control_bytes;
  std::vector<std::byte> bytes;
  const auto append = [&](int type, std::span<const std::byte> data) {
    cmsghdr control{};
    control.cmsg_len = sizeof control + data.size();
    control.cmsg_level = SOL_SOCKET;
    control.cmsg_type = type;
    const std::size_t at = bytes.size();
    bytes.resize(at + Aligned(control.cmsg_len));
    std::memcpy(bytes.data() + at, &control, sizeof control);
    std::ranges::copy(data, bytes.data() + at + sizeof control);
  };
  if (socket.pass_credentials) {
    const Credentials credentials;
    if (room >= CMSG_LEN(sizeof credentials)) {
      append(SCM_CREDENTIALS, std::as_bytes(std::span(&credentials, 1)));
    } else {
      header.flags |= MSG_CTRUNC;
    }
  }
  if (!ancillary.files.empty()) {
    const std::size_t used = bytes.size() + sizeof(cmsghdr);
    const std::uint64_t fit = room < used ? 0 : (room - used) / sizeof(std::int32_t);
    std::vector<std::int32_t> fds;
    for (std::shared_ptr<OpenFile>& file : ancillary.files) {
      if (fds.size() >= fit) break;
      const std::int64_t fd = process.files().Add(std::move(file), close_on_exec);
      if (fd < 0) break;
      fds.push_back(static_cast<std::int32_t>(fd));
    }
    if (fds.size() < ancillary.files.size()) header.flags |= MSG_CTRUNC;
    if (!fds.empty()) append(SCM_RIGHTS, std::as_bytes(std::span(fds)));
  }
  if (bytes.size() > room) bytes.resize(room);
  header.control_bytes = bytes.size();
  return bytes.empty() || process.memory().Write(header.control, bytes) ? 0 : -EFAULT;
}

}  // namespace waxvm::linux_abi
