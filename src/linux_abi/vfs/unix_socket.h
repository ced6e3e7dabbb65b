// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_UNIX_SOCKET_H_
#define WAXVM_SRC_LINUX_ABI_VFS_UNIX_SOCKET_H_

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// What one send carries beside its bytes.
struct Ancillary {
  std::vector<std::shared_ptr<OpenFile>> files;
  bool credentials = false;
};

/// What one receive found beside the bytes.
struct Received {
  std::size_t message_bytes = 0;  ///< of the whole message, for sockets that keep messages
  Ancillary ancillary;
  std::string from;  ///< the sender's name, as bytes of sun_path
};

/// An AF_UNIX socket: both ends are in the instance, nothing ever reaches the host. What is queued
/// is charged; files in flight are bounded for the instance, because sockets that carry each other
/// would otherwise keep any number of files for as long as the instance lives.
/// Names are the bytes of sun_path: empty, a path, or a zero byte and an abstract name.
/// Results are bytes, 0 or negated errno values. Thread safety: none.
class UnixSocket final : public OpenFile {
 public:
  /// What a socket takes in before its sender has to wait; one message may pass it.
  static constexpr std::size_t kBufferBytes = 212992;
  static constexpr std::size_t kMaxMessages = 512;
  /// SCM_MAX_FD.
  static constexpr std::size_t kMaxFiles = 253;

  /// `type`: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET. `flags`: O_NONBLOCK or 0.
  static std::shared_ptr<UnixSocket> Create(VfsContext& context, int type, int flags);
  /// The same as a snapshot had it.
  static std::shared_ptr<UnixSocket> CreateAs(VfsContext& context, int type, int flags,
                                              std::uint64_t inode);
  ~UnixSocket() override;

  int type() const { return type_; }
  /// What getsockname says: an accepted socket has the name of the one that listens.
  const std::string& bound_name() const { return name_.empty() ? accepted_name_ : name_; }
  bool listening() const { return listening_; }
  bool connected() const { return had_peer_; }
  std::shared_ptr<UnixSocket> peer() const { return peer_.lock(); }
  /// The name of the other end, which may be closed. Errors: ENOTCONN.
  ErrnoOr<std::string> PeerName() const;

  /// Makes two sockets each other's peer.
  static void Pair(UnixSocket& a, UnixSocket& b);
  /// An abstract name; or, for `node`, the name of a file. -EINVAL with a name already,
  /// -EADDRINUSE.
  std::int64_t BindAbstract(std::string name);
  std::int64_t BindNode(std::string name, MemoryNode& node);
  static std::shared_ptr<UnixSocket> FindAbstract(VfsContext& context, const std::string& name);
  std::int64_t Listen(int backlog);
  /// True while a connection would have to wait.
  bool backlog_full() const { return pending_.size() > backlog_; }
  /// -ECONNREFUSED, -EPROTOTYPE, -EISCONN, -EAGAIN (the backlog is full), -EPERM.
  std::int64_t Connect(const std::shared_ptr<UnixSocket>& target);
  /// A datagram socket forgets its peer, and what is queued with it.
  void Disconnect();
  /// Errors: EINVAL, EAGAIN.
  ErrnoOr<std::shared_ptr<UnixSocket>> Accept(int flags);
  std::int64_t Shutdown(int how);

  /// `target`: of a datagram; null for the peer. Takes a part where the type is a stream.
  std::int64_t Send(std::span<const std::byte> from, Ancillary ancillary,
                    const std::shared_ptr<UnixSocket>& target = nullptr);
  std::int64_t Receive(std::span<std::byte> to, bool peek, Received& received);
  /// What a call that may wait returns at once where Receive gave -EAGAIN: a datagram socket that
  /// was shut ends a wait, but says nothing to who does not wait.
  bool ends_waits() const { return type_ == SOCK_DGRAM && read_shut_; }

  std::int64_t TakeError();
  bool pass_credentials = false;
  std::optional<std::chrono::nanoseconds> receive_timeout;
  std::optional<std::chrono::nanoseconds> send_timeout;

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Write(std::span<const std::byte> from) override;
  std::int64_t Stat(struct stat& status) const override;
  std::int64_t SetMode(mode_t mode) override {
    mode_ = mode & 07777;
    return 0;
  }
  short Poll() const override;
  short bands() const override { return POLLRDNORM | POLLWRNORM | POLLWRBAND; }
  Edges edges() const override { return edges_; }
  std::int64_t Available() const override;
  bool has_messages() const override { return type_ != SOCK_STREAM; }
  std::optional<std::chrono::nanoseconds> WaitLimit(short events) const override {
    return (events & POLLIN) != 0 ? receive_timeout : send_timeout;
  }

  /// Drops what is queued: sockets that carry each other would otherwise keep each other.
  void Clear();

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  struct Message {
    std::vector<std::byte> bytes;
    std::size_t taken = 0;
    Ancillary ancillary;
    std::string from;
    MemoryCharge charge;
  };

  UnixSocket(VfsContext& context, int type, int flags, std::uint64_t inode);
  /// Whether a datagram socket lets in what `sender` sends: it has no peer, or that one.
  bool Admits(const UnixSocket& sender) const {
    return !had_peer_ || peer_.lock().get() == &sender;
  }
  bool HasRoom() const { return queued_ < kBufferBytes && queue_.size() < kMaxMessages; }
  /// True when nothing more will come.
  bool AtEnd() const;
  /// Whom a write goes to, or the error it gives.
  ErrnoOr<std::shared_ptr<UnixSocket>> Target(const std::shared_ptr<UnixSocket>& target);
  std::int64_t Enqueue(std::span<const std::byte> from, Ancillary ancillary,
                       const std::string& sender);
  /// Puts back what was queued in a snapshot; and what a socket costs that waits to be accepted.
  /// False when memory is refused.
  bool Requeue(std::span<const std::byte> bytes, Ancillary ancillary, const std::string& sender);
  bool ChargeAsPending();
  void PopFront();
  void PeerIsGone(bool with_unread);
  void Drop(Message message);

  VfsContext& context_;
  const int type_;
  const std::uint64_t inode_;
  mode_t mode_ = 0777;
  std::string name_;
  std::string accepted_name_;  ///< of an accepted socket: what it was connected to
  MemoryCharge charge_;        ///< of one that was never in a descriptor yet
  std::deque<Message> queue_;
  std::size_t queued_ = 0;
  std::weak_ptr<UnixSocket> peer_;
  bool had_peer_ = false;
  std::string peer_name_;  ///< once the peer is closed
  bool accepted_ = true;   ///< false while it waits for that
  bool read_shut_ = false;
  bool write_shut_ = false;
  bool listening_ = false;
  std::size_t backlog_ = 0;
  std::deque<std::shared_ptr<UnixSocket>> pending_;  ///< connected, not accepted yet
  int error_ = 0;
  Edges edges_;
};

/// Ready when a listening socket has room for a connection. Never in a descriptor.
class BacklogRoom final : public OpenFile {
 public:
  explicit BacklogRoom(std::shared_ptr<UnixSocket> socket)
      : OpenFile(O_PATH), socket_(std::move(socket)) {}
  std::int64_t Stat(struct stat& status) const override { return socket_->Stat(status); }
  short Poll() const override {
    return !socket_->listening() || !socket_->backlog_full() ? POLLOUT : 0;
  }

 private:
  std::shared_ptr<UnixSocket> socket_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_UNIX_SOCKET_H_
