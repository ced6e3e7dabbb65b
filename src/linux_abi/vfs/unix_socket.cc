// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/unix_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "src/linux_abi/vfs/pipe.h"

namespace waxvm::linux_abi {
namespace {

// A queued message, and a connection that waits to be accepted, with what the containers take.
constexpr std::uint64_t kChargePerMessage = 256;
// As for a descriptor: the host may hold one for the file.
constexpr std::uint64_t kChargePerFile = 512;
constexpr std::size_t kMaxBacklog = 4096;

}  // namespace

std::shared_ptr<UnixSocket> UnixSocket::Create(VfsContext& context, int type, int flags) {
  return CreateAs(context, type, flags, ++context.last_inode);
}

std::shared_ptr<UnixSocket> UnixSocket::CreateAs(VfsContext& context, int type, int flags,
                                                 std::uint64_t inode) {
  return std::shared_ptr<UnixSocket>(new UnixSocket(context, type, flags, inode));
}

UnixSocket::UnixSocket(VfsContext& context, int type, int flags, std::uint64_t inode)
    : OpenFile(O_RDWR | flags), context_(context), type_(type), inode_(inode) {
  SetMadeWithoutName();
  context_.sockets.insert(this);
}

UnixSocket::~UnixSocket() {
  context_.sockets.erase(this);
  if (name_.starts_with('\0')) context_.abstract_sockets.erase(name_);
  if (const std::shared_ptr<UnixSocket> other = peer_.lock()) {
    const std::weak_ptr<OpenFile> self = weak_from_this();
    if (!other->peer_.owner_before(self) && !self.owner_before(other->peer_))
      other->peer_name_ = bound_name();
    // Linux takes an empty message in front for one whose byte out of band was read.
    const std::size_t read = !queue_.empty() && queue_.front().bytes.empty() ? 1 : 0;
    if (type_ != SOCK_DGRAM) other->PeerIsGone(queue_.size() > read || !accepted_);
  }
  Clear();
}

void UnixSocket::Clear() {
  while (!queue_.empty()) PopFront();
  // Connections nobody accepted are closed; each is a socket with a queue of its own.
  for (std::shared_ptr<UnixSocket>& socket : std::exchange(pending_, {})) {
    context_.doomed_files.push_back(std::move(socket));
  }
  // A socket in the queue of a socket in a queue …: a guest can make the chain as long as it may
  // have files in flight, so they are not destroyed by recursion.
  if (std::exchange(context_.dooming, true)) return;
  while (!context_.doomed_files.empty()) {
    const std::shared_ptr<OpenFile> doomed = std::move(context_.doomed_files.back());
    context_.doomed_files.pop_back();
  }
  context_.dooming = false;
}

void UnixSocket::PopFront() {
  Message message = std::move(queue_.front());
  queue_.pop_front();
  queued_ -= message.bytes.size() - message.taken;
  ++edges_.out;
  Drop(std::move(message));
  if (const std::shared_ptr<UnixSocket> other = peer_.lock()) ++other->edges_.out;
}

void UnixSocket::Drop(Message message) {
  context_.files_in_flight -= message.ancillary.files.size();
  for (std::shared_ptr<OpenFile>& file : message.ancillary.files) {
    context_.doomed_files.push_back(std::move(file));
  }
}

void UnixSocket::PeerIsGone(bool with_unread) {
  if (with_unread) error_ = ECONNRESET;
  ++edges_.in;
  ++edges_.out;
}

ErrnoOr<std::string> UnixSocket::PeerName() const {
  if (!had_peer_) return Errno{ENOTCONN};
  const std::shared_ptr<UnixSocket> other = peer_.lock();
  return other != nullptr ? other->bound_name() : peer_name_;
}

void UnixSocket::Pair(UnixSocket& a, UnixSocket& b) {
  a.peer_ = std::static_pointer_cast<UnixSocket>(b.shared_from_this());
  b.peer_ = std::static_pointer_cast<UnixSocket>(a.shared_from_this());
  a.had_peer_ = b.had_peer_ = true;
}

std::int64_t UnixSocket::BindAbstract(std::string name) {
  if (!name_.empty()) return -EINVAL;
  const auto self = std::static_pointer_cast<UnixSocket>(shared_from_this());
  if (!context_.abstract_sockets.emplace(name, self).second) return -EADDRINUSE;
  name_ = std::move(name);
  return 0;
}

std::int64_t UnixSocket::BindNode(std::string name, MemoryNode& node) {
  if (!name_.empty()) return -EINVAL;
  node.endpoint = shared_from_this();
  name_ = std::move(name);
  return 0;
}

std::shared_ptr<UnixSocket> UnixSocket::FindAbstract(VfsContext& context, const std::string& name) {
  const auto found = context.abstract_sockets.find(name);
  return found == context.abstract_sockets.end() ? nullptr : found->second.lock();
}

std::int64_t UnixSocket::Listen(int backlog) {
  if (type_ == SOCK_DGRAM) return -EOPNOTSUPP;
  if (name_.empty() || had_peer_) return -EINVAL;
  listening_ = true;
  backlog_ = backlog < 0 ? kMaxBacklog
                         : std::min<std::size_t>(static_cast<unsigned>(backlog), kMaxBacklog);
  return 0;
}

std::int64_t UnixSocket::Connect(const std::shared_ptr<UnixSocket>& target) {
  if (target == nullptr) return -ECONNREFUSED;
  if (target->type_ != type_) return -EPROTOTYPE;
  if (type_ == SOCK_DGRAM) {
    if (!target->Admits(*this)) return -EPERM;
    if (peer_.lock() != target) Disconnect();
    peer_ = target;
    had_peer_ = true;
    peer_name_ = target->bound_name();
    return 0;
  }
  if (had_peer_) return -EISCONN;
  if (listening_) return -EINVAL;
  if (!target->listening_ || target->read_shut_) return -ECONNREFUSED;
  if (target->backlog_full()) return -EAGAIN;
  MemoryCharge charge;
  if (!charge.Resize(context_.account, kChargePerFile)) return -ENOMEM;
  const std::shared_ptr<UnixSocket> accepted = Create(context_, type_, 0);
  accepted->charge_ = std::move(charge);
  accepted->accepted_name_ = target->name_;
  accepted->accepted_ = false;
  Pair(*this, *accepted);
  target->pending_.push_back(accepted);
  ++target->edges_.in;
  ++edges_.out;
  return 0;
}

void UnixSocket::Disconnect() {
  if (!std::exchange(had_peer_, false)) return;
  const std::shared_ptr<UnixSocket> other = std::exchange(peer_, {}).lock();
  if (queue_.empty()) return;
  Clear();
  if (other != nullptr && other->peer_.lock().get() == this) other->PeerIsGone(true);
}

ErrnoOr<std::shared_ptr<UnixSocket>> UnixSocket::Accept(int flags) {
  if (type_ == SOCK_DGRAM) return Errno{EOPNOTSUPP};
  if (!listening_) return Errno{EINVAL};
  if (pending_.empty()) return Errno{read_shut_ ? EINVAL : EAGAIN};
  std::shared_ptr<UnixSocket> socket = std::move(pending_.front());
  pending_.pop_front();
  socket->accepted_ = true;
  ++edges_.out;
  socket->SetStatusFlags(flags & O_NONBLOCK);
  return socket;
}

std::int64_t UnixSocket::Shutdown(int how) {
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  const std::shared_ptr<UnixSocket> other = peer_.lock();
  const bool both_ways = type_ != SOCK_DGRAM && other != nullptr;
  if (how != SHUT_WR) {
    read_shut_ = true;
    if (both_ways) other->write_shut_ = true;
  }
  if (how != SHUT_RD) {
    write_shut_ = true;
    if (both_ways) other->read_shut_ = true;
  }
  for (UnixSocket* socket : {this, other.get()}) {
    if (socket == nullptr) continue;
    ++socket->edges_.in;
    ++socket->edges_.out;
  }
  return 0;
}

bool UnixSocket::AtEnd() const {
  if (read_shut_) return true;
  return type_ != SOCK_DGRAM && had_peer_ && peer_.expired();
}

ErrnoOr<std::shared_ptr<UnixSocket>> UnixSocket::Target(const std::shared_ptr<UnixSocket>& target) {
  // A stream keeps its error for who reads.
  if (type_ != SOCK_STREAM)
    if (const std::int64_t error = TakeError(); error < 0) return ToErrno(error);
  if (type_ != SOCK_DGRAM && !had_peer_) return Errno{ENOTCONN};
  if (write_shut_) return Errno{EPIPE};
  if (target != nullptr) {
    if (target->type_ != SOCK_DGRAM) return Errno{EPROTOTYPE};
    if (!target->Admits(*this)) return Errno{EPERM};
    if (target->read_shut_) return Errno{EPIPE};
    return target;
  }
  if (!had_peer_) return Errno{ENOTCONN};
  std::shared_ptr<UnixSocket> other = peer_.lock();
  if (other == nullptr && type_ == SOCK_DGRAM) {
    Disconnect();  // which is found out here, and told once
    return Errno{ECONNREFUSED};
  }
  if (other == nullptr) return Errno{EPIPE};
  if (type_ == SOCK_DGRAM && !other->Admits(*this)) return Errno{EPERM};
  if (other->read_shut_) return Errno{EPIPE};
  return other;
}

std::int64_t UnixSocket::Enqueue(std::span<const std::byte> from, Ancillary ancillary,
                                 const std::string& sender) {
  const bool plain = ancillary.files.empty() && !ancillary.credentials;
  Message* last = queue_.empty() ? nullptr : &queue_.back();
  // Small writes to a stream share a message: a guest could else make one of every byte.
  if (type_ == SOCK_STREAM && plain && last != nullptr && last->ancillary.files.empty() &&
      !last->ancillary.credentials && last->bytes.size() + from.size() <= 65536) {
    if (!last->charge.Resize(context_.account,
                             kChargePerMessage + 2 * (last->bytes.size() + from.size()))) {
      return -ENOBUFS;
    }
    last->bytes.insert(last->bytes.end(), from.begin(), from.end());
  } else {
    if (context_.files_in_flight + ancillary.files.size() > context_.max_files_in_flight) {
      return -ETOOMANYREFS;
    }
    Message message;
    const std::uint64_t bytes = kChargePerMessage + 2 * from.size() + sender.size() +
                                ancillary.files.size() * kChargePerFile;
    if (!message.charge.Resize(context_.account, bytes)) return -ENOBUFS;
    message.bytes.assign(from.begin(), from.end());
    message.from = sender;
    context_.files_in_flight += ancillary.files.size();
    message.ancillary = std::move(ancillary);
    queue_.push_back(std::move(message));
  }
  queued_ += from.size();
  ++edges_.in;
  return static_cast<std::int64_t>(from.size());
}

bool UnixSocket::Requeue(std::span<const std::byte> bytes, Ancillary ancillary,
                         const std::string& sender) {
  if (context_.files_in_flight + ancillary.files.size() > context_.max_files_in_flight)
    return false;
  Message message;
  if (!message.charge.Resize(context_.account, kChargePerMessage + 2 * bytes.size() +
                                                   sender.size() +
                                                   ancillary.files.size() * kChargePerFile))
    return false;
  message.bytes.assign(bytes.begin(), bytes.end());
  message.from = sender;
  context_.files_in_flight += ancillary.files.size();
  message.ancillary = std::move(ancillary);
  queue_.push_back(std::move(message));
  queued_ += bytes.size();
  return true;
}

bool UnixSocket::ChargeAsPending() { return charge_.Resize(context_.account, kChargePerFile); }

std::int64_t UnixSocket::Send(std::span<const std::byte> from, Ancillary ancillary,
                              const std::shared_ptr<UnixSocket>& target) {
  if (ancillary.files.size() > kMaxFiles) return -EINVAL;
  const ErrnoOr<std::shared_ptr<UnixSocket>> to = Target(target);
  if (!to.ok()) return to.result();
  UnixSocket& receiver = **to;
  if (type_ == SOCK_STREAM) {
    if (from.empty()) return 0;
    if (!receiver.HasRoom()) return -EAGAIN;
    from = from.first(std::min(from.size(), kBufferBytes - receiver.queued_));
  } else {
    if (from.size() > kBufferBytes) return -EMSGSIZE;
    if (!receiver.HasRoom()) return -EAGAIN;
  }
  return receiver.Enqueue(from, std::move(ancillary), bound_name());
}

std::int64_t UnixSocket::Receive(std::span<std::byte> to, bool peek, Received& received) {
  if (type_ != SOCK_DGRAM && !had_peer_) return type_ == SOCK_STREAM ? -EINVAL : -ENOTCONN;
  // Before whole messages, but behind what a stream holds.
  if (queue_.empty() || type_ != SOCK_STREAM)
    if (const std::int64_t error = TakeError(); error < 0) return error;
  if (queue_.empty()) return type_ != SOCK_DGRAM && AtEnd() ? 0 : -EAGAIN;
  std::size_t done = 0;
  bool first = true;
  for (std::size_t i = 0; i < queue_.size();) {
    Message& message = queue_[i];
    const bool special = !message.ancillary.files.empty() || message.ancillary.credentials;
    if (!first && (special || type_ != SOCK_STREAM)) break;
    const std::size_t left = message.bytes.size() - message.taken;
    const std::size_t n = std::min(left, to.size() - done);
    std::copy_n(message.bytes.data() + message.taken, n, to.data() + done);
    done += n;
    if (first) {
      received.message_bytes = left;
      received.from = message.from;
      received.ancillary.credentials = message.ancillary.credentials;
      received.ancillary.files = message.ancillary.files;
      if (!peek) {
        context_.files_in_flight -= message.ancillary.files.size();
        message.ancillary.files.clear();
      }
    }
    first = false;
    const bool whole = type_ != SOCK_STREAM || n == left;
    if (peek) {
      ++i;
    } else if (whole) {
      PopFront();
    } else {
      message.taken += n;
      queued_ -= n;
    }
    if (!whole || done == to.size() || special) break;
  }
  return static_cast<std::int64_t>(done);
}

std::int64_t UnixSocket::TakeError() { return -std::int64_t{std::exchange(error_, 0)}; }

std::int64_t UnixSocket::Read(std::span<std::byte> to) {
  if (to.empty()) return 0;
  Received received;
  const std::int64_t n = Receive(to, /*peek=*/false, received);
  return n == -EAGAIN && !nonblocking() && ends_waits() ? 0 : n;
}

std::int64_t UnixSocket::Write(std::span<const std::byte> from) { return Send(from, {}); }

std::int64_t UnixSocket::Stat(struct stat& status) const {
  StatUnnamed(inode_, S_IFSOCK | mode_, status);
  return 0;
}

short UnixSocket::Poll() const {
  int state = 0;
  if (listening_) return static_cast<short>(pending_.empty() ? 0 : POLLIN);
  if (error_ != 0) state |= POLLERR;
  if (!queue_.empty() || AtEnd()) state |= POLLIN;
  const std::shared_ptr<UnixSocket> other = peer_.lock();
  if (type_ == SOCK_DGRAM) {
    if (read_shut_) state |= POLLRDHUP;
    if (read_shut_ && write_shut_) state |= POLLHUP;
    if (other == nullptr || other->HasRoom()) state |= POLLOUT;
    return static_cast<short>(state);
  }
  if (AtEnd()) state |= POLLRDHUP;
  if (!had_peer_) return static_cast<short>(state | POLLOUT | POLLHUP);
  if (other == nullptr || (read_shut_ && write_shut_)) state |= POLLHUP;
  // What a writer waits for is some room, so that it is not woken for every byte that is read.
  if (other == nullptr || write_shut_ || (other->HasRoom() && other->queued_ <= kBufferBytes / 2)) {
    state |= POLLOUT;
  }
  return static_cast<short>(state);
}

std::int64_t UnixSocket::Available() const {
  if (listening_) return -EINVAL;
  if (type_ != SOCK_DGRAM) return static_cast<std::int64_t>(queued_);
  return queue_.empty() ? 0 : static_cast<std::int64_t>(queue_.front().bytes.size());
}

}  // namespace waxvm::linux_abi
