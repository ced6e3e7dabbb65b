// SPDX-License-Identifier: Apache-2.0
// struct msghdr as the guest passes it, and the control messages in it.
#ifndef WAXVM_SRC_LINUX_ABI_SOCKET_MESSAGE_H_
#define WAXVM_SRC_LINUX_ABI_SOCKET_MESSAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/vfs/unix_socket.h"

namespace waxvm::linux_abi {

/// The kernel's user_msghdr.
struct MessageHeader {
  std::uint64_t name = 0;
  std::uint32_t name_bytes = 0;
  std::uint32_t padding = 0;
  std::uint64_t vectors = 0;
  std::uint64_t vector_count = 0;
  std::uint64_t control = 0;
  std::uint64_t control_bytes = 0;
  std::uint32_t flags = 0;
  std::uint32_t padding_at_end = 0;
};
static_assert(sizeof(MessageHeader) == 56);

/// The socket of a descriptor argument. Errors: EBADF, ENOTSOCK.
ErrnoOr<std::shared_ptr<UnixSocket>> SocketForMessage(Process& process, std::uint64_t fd);
/// Who is bound to a name. Errors: ECONNREFUSED, and those of a path.
ErrnoOr<std::shared_ptr<UnixSocket>> SocketByName(Process& process, const std::string& name);

/// The bytes of sun_path of an address: empty for none, a path, or a zero byte and a name.
/// Errors: EINVAL, EFAULT, EAFNOSUPPORT.
ErrnoOr<std::string> ReadAddress(Process& process, std::uint64_t address, std::uint64_t bytes);
/// Writes an address as far as there is room, and its full length. Returns 0 or -EFAULT, -EINVAL.
std::int64_t WriteAddress(Process& process, const std::string& name, std::uint64_t address,
                          std::uint64_t bytes_address);
/// The same into a buffer of known size; returns the full length or -EFAULT.
std::int64_t WriteAddressTo(Process& process, const std::string& name, std::uint64_t address,
                            std::uint32_t room);

/// What the control messages ask to send along. Errors: EINVAL, EBADF, EPERM, EFAULT, ENOBUFS.
ErrnoOr<Ancillary> ReadControl(Process& process, const MessageHeader& header);
/// Puts received files into descriptors and writes the control messages; updates control_bytes and
/// MSG_CTRUNC. Returns 0 or -EFAULT.
std::int64_t WriteControl(Process& process, UnixSocket& socket, Ancillary ancillary,
                          bool close_on_exec, MessageHeader& header);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SOCKET_MESSAGE_H_
