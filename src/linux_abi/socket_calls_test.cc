// SPDX-License-Identifier: Apache-2.0
// AF_UNIX sockets, through system calls.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "src/linux_abi/socket_message.h"
#include "src/linux_abi/testing/file_fixture.h"

namespace waxvm::linux_abi {
namespace {

class SocketCallsTest : public FileFixture {
 protected:
  std::array<std::int64_t, 2> Pair(int type) {
    const std::uint64_t fds = guest_.Reserve(8);
    EXPECT_EQ(guest_.Call(SYS_socketpair, AF_UNIX, type, 0, fds), 0);
    const auto both = guest_.Object<std::array<std::int32_t, 2>>(fds);
    return {both[0], both[1]};
  }
  std::int64_t WithAddress(long call, std::int64_t fd, std::string_view name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    const auto bytes = static_cast<unsigned>(sizeof(sa_family_t) + name.size());
    return guest_.Call(call, fd, guest_.PutObject(address), bytes);
  }
  std::int64_t Send(std::int64_t fd, std::string_view text, int flags = 0) {
    return guest_.Call(SYS_sendto, fd, guest_.Put(text), std::uint64_t{text.size()}, flags, 0, 0);
  }
  std::string Receive(std::int64_t fd, std::size_t bytes, int flags = 0) {
    const std::uint64_t buffer = guest_.Reserve(bytes);
    const std::int64_t n = guest_.Call(SYS_recvfrom, fd, buffer, std::uint64_t{bytes}, flags, 0, 0);
    return n < 0 ? "error " + std::to_string(-n) : guest_.Text(buffer, n);
  }
  /// sendmsg of one byte and a descriptor.
  std::int64_t SendFile(std::int64_t to, std::int64_t fd) {
    const struct {
      std::uint64_t bytes;
      std::int32_t level;
      std::int32_t type;
      std::int32_t fd;
      std::int32_t padding;
    } control{CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS, static_cast<std::int32_t>(fd), 0};
    MessageHeader header;
    header.control = guest_.PutObject(control);
    header.control_bytes = sizeof control;
    header.vectors = guest_.PutObject(GuestRange{guest_.Put("x"), 1});
    header.vector_count = 1;
    return guest_.Call(SYS_sendmsg, to, guest_.PutObject(header), 0);
  }
  /// The descriptor that came, or -1.
  std::int64_t ReceiveFile(std::int64_t from, std::uint32_t* flags = nullptr,
                           std::uint64_t room = 64) {
    MessageHeader header;
    header.control = guest_.Reserve(64);
    header.control_bytes = room;
    header.vectors = guest_.PutObject(GuestRange{guest_.Reserve(16), 16});
    header.vector_count = 1;
    const std::uint64_t address = guest_.PutObject(header);
    const std::int64_t n = guest_.Call(SYS_recvmsg, from, address, 0);
    if (n < 0) return n;
    const auto after = guest_.Object<MessageHeader>(address);
    if (flags != nullptr) *flags = after.flags;
    if (after.control_bytes < CMSG_LEN(4)) return -1;
    return guest_.Object<std::int32_t>(header.control + sizeof(cmsghdr));
  }
};

TEST_F(SocketCallsTest, StreamPair) {
  Start();
  const auto [a, b] = Pair(SOCK_STREAM);
  EXPECT_EQ(Write(a, "hello"), 5);
  EXPECT_EQ(Write(a, " world"), 6);
  EXPECT_EQ(Receive(b, 100, MSG_PEEK), "hello world");
  EXPECT_EQ(Read(b, 3), "hel");
  EXPECT_EQ(Read(b, 100), "lo world");
  EXPECT_EQ(Receive(b, 1, MSG_DONTWAIT), "error " + std::to_string(EAGAIN));
  EXPECT_EQ(Read(b, 1), kAsleepText) << "it sleeps";
  EXPECT_EQ(guest_.Call(SYS_shutdown, a, SHUT_WR), 0);
  EXPECT_EQ(Read(b, 1), "");
  EXPECT_EQ(Write(b, "back"), 4);
  EXPECT_EQ(Read(a, 10), "back");
  guest_.Call(SYS_close, b);
  EXPECT_EQ(Send(a, "x", MSG_NOSIGNAL), -EPIPE);
}

TEST_F(SocketCallsTest, MessagesStayApart) {
  Start();
  for (const int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    const auto [a, b] = Pair(type);
    EXPECT_EQ(Send(a, "first"), 5);
    EXPECT_EQ(Send(a, "second"), 6);
    EXPECT_EQ(Receive(b, 3), "fir") << "the rest is cut off";
    const std::uint64_t buffer = guest_.Reserve(4);
    EXPECT_EQ(guest_.Call(SYS_recvfrom, b, buffer, 2, MSG_TRUNC, 0, 0), 6);
  }
}

TEST_F(SocketCallsTest, ConnectingByNames) {
  Start();
  for (const std::string_view name : {std::string_view("/tmp/s"), std::string_view("\0abc", 4)}) {
    const std::int64_t server = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    const std::int64_t client = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    EXPECT_EQ(WithAddress(SYS_connect, client, name), name[0] == '/' ? -ENOENT : -ECONNREFUSED);
    EXPECT_EQ(WithAddress(SYS_bind, server, name), 0);
    EXPECT_EQ(WithAddress(SYS_connect, client, name), -ECONNREFUSED) << "nobody listens";
    const std::int64_t other = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(WithAddress(SYS_bind, other, name), -EADDRINUSE);
    EXPECT_EQ(guest_.Call(SYS_accept, server, 0, 0), -EINVAL);
    EXPECT_EQ(guest_.Call(SYS_listen, server, 0), 0);
    EXPECT_EQ(guest_.Call(SYS_accept, server, 0, 0), FakeProcess::kEnded) << "it sleeps";
    EXPECT_EQ(WithAddress(SYS_connect, client, name), 0);
    EXPECT_EQ(WithAddress(SYS_connect, client, name), -EISCONN);
    const std::int64_t late = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    EXPECT_EQ(WithAddress(SYS_connect, late, name), -EAGAIN) << "the backlog is full";
    EXPECT_EQ(Write(client, "early"), 5);
    const std::uint64_t room = guest_.PutObject(std::int32_t{110});
    const std::int64_t accepted =
        guest_.Call(SYS_accept4, server, guest_.Reserve(110), room, SOCK_CLOEXEC);
    ASSERT_GE(accepted, 0);
    EXPECT_EQ(Read(accepted, 10), "early");
    const std::uint64_t address = guest_.Reserve(110);
    const std::uint64_t bytes = guest_.PutObject(std::int32_t{110});
    EXPECT_EQ(guest_.Call(SYS_getpeername, client, address, bytes), 0);
    EXPECT_EQ(guest_.Text(address + 2, static_cast<std::int64_t>(name.size())), name);
    for (const std::int64_t fd : {server, client, other, late, accepted}) {
      EXPECT_EQ(guest_.Call(SYS_close, fd), 0);
    }
  }
}

TEST_F(SocketCallsTest, PassingFiles) {
  Start();
  const auto [a, b] = Pair(SOCK_STREAM);
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(SendFile(a, reader), 1);
  guest_.Call(SYS_close, reader);
  Write(writer, "through");
  const std::int64_t received = ReceiveFile(b);
  ASSERT_GE(received, 0);
  EXPECT_EQ(Read(received, 10), "through");
  EXPECT_EQ(SendFile(a, writer), 1);
  std::uint32_t flags = 0;
  EXPECT_EQ(ReceiveFile(b, &flags, /*room=*/8), -1);
  EXPECT_NE(flags & MSG_CTRUNC, 0u);
  EXPECT_EQ(SendFile(a, 99), -EBADF);
}

TEST_F(SocketCallsTest, SocketsThatCarryEachOtherAreBoundedAndFreed) {
  guest_.spec.limits.open_files = 64;
  Start();
  const std::uint64_t used = guest_.account.used_bytes();
  std::int64_t result = 1;
  int rounds = 0;
  // Each pair is sent into itself and closed: only the bound on files in flight stops this.
  for (; result == 1 && rounds < 1000; ++rounds) {
    const auto [a, b] = Pair(SOCK_DGRAM);
    result = SendFile(a, b);
    if (result == 1) result = SendFile(b, a);
    guest_.Call(SYS_close, a);
    guest_.Call(SYS_close, b);
  }
  EXPECT_EQ(result, -ETOOMANYREFS);
  EXPECT_LE(rounds, 40);
  EXPECT_GT(guest_.account.used_bytes(), used);
  guest_.process.reset();
  EXPECT_EQ(guest_.account.used_bytes(), guest_.pages.page_count() * kPageBytes);
}

TEST_F(SocketCallsTest, FullQueuesMakeTheSenderWait) {
  Start();
  const auto [a, b] = Pair(SOCK_STREAM | SOCK_NONBLOCK);
  const std::string block(65536, 'x');
  std::int64_t sent = 0;
  std::int64_t n = 0;
  while ((n = Write(a, block)) > 0) sent += n;
  EXPECT_EQ(n, -EAGAIN);
  EXPECT_EQ(sent, std::int64_t{UnixSocket::kBufferBytes});
  std::int64_t got = 0;
  while (true) {
    const std::string piece = Read(b, 65536);
    if (piece.starts_with("error")) break;
    got += static_cast<std::int64_t>(piece.size());
  }
  EXPECT_EQ(got, sent);
  EXPECT_EQ(Write(a, "y"), 1);
}

TEST_F(SocketCallsTest, PeerThatLeftBytesUnreadResets) {
  Start();
  const std::string reset = "error " + std::to_string(ECONNRESET);
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    for (const bool writes_first : {false, true}) {
      const auto [a, b] = Pair(type);
      EXPECT_EQ(Write(b, "queued"), 6);
      EXPECT_EQ(Write(a, "unread"), 6);
      EXPECT_EQ(guest_.Call(SYS_close, b), 0);
      if (type == SOCK_STREAM) {
        if (writes_first) {
          EXPECT_EQ(Send(a, "x", MSG_NOSIGNAL), -EPIPE);
        }
        EXPECT_EQ(Receive(a, 10), "queued") << "the error is behind what came";
        EXPECT_EQ(Receive(a, 10), reset);
      } else if (writes_first) {
        EXPECT_EQ(Send(a, "x"), -ECONNRESET);
        EXPECT_EQ(Receive(a, 10), "queued") << "told already";
      } else {
        EXPECT_EQ(Receive(a, 10, MSG_PEEK), reset) << "before what came";
        EXPECT_EQ(Receive(a, 10), "queued");
      }
      EXPECT_EQ(Receive(a, 10), "");
      EXPECT_EQ(Send(a, "x", MSG_NOSIGNAL), -EPIPE);
    }
  }
}

TEST_F(SocketCallsTest, EmptyMessageInFrontIsNotMissed) {
  Start();
  for (const bool more : {false, true}) {
    const auto [a, b] = Pair(SOCK_SEQPACKET);
    EXPECT_EQ(Write(a, ""), 0);
    if (more) {
      EXPECT_EQ(Write(a, ""), 0);
    }
    EXPECT_EQ(guest_.Call(SYS_close, b), 0);
    EXPECT_EQ(Send(a, "x", MSG_NOSIGNAL), more ? -ECONNRESET : -EPIPE);
  }
}

TEST_F(SocketCallsTest, ConnectionsNobodyAcceptedAreReset) {
  Start();
  const std::int64_t server = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  const std::int64_t client = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  const std::string_view name("\0left", 5);
  EXPECT_EQ(WithAddress(SYS_bind, server, name), 0);
  EXPECT_EQ(guest_.Call(SYS_listen, server, 1), 0);
  EXPECT_EQ(WithAddress(SYS_connect, client, name), 0);
  EXPECT_EQ(guest_.Call(SYS_close, server), 0);
  EXPECT_EQ(Receive(client, 1), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(Receive(client, 1), "");
  const std::uint64_t address = guest_.Reserve(110);
  const std::uint64_t bytes = guest_.PutObject(std::int32_t{110});
  EXPECT_EQ(guest_.Call(SYS_getpeername, client, address, bytes), 0) << "it had a peer";
  EXPECT_EQ(guest_.Text(address + 2, 5), name);
}

TEST_F(SocketCallsTest, DatagramSocketsForgetWhatCameFromAPeerThatIsGone) {
  Start();
  const std::string nothing = "error " + std::to_string(EAGAIN);
  const auto [a, b] = Pair(SOCK_DGRAM);
  EXPECT_EQ(Write(b, "queued"), 6);
  EXPECT_EQ(guest_.Call(SYS_close, b), 0);
  EXPECT_EQ(Receive(a, 10, MSG_PEEK), "queued");
  EXPECT_EQ(Write(a, "x"), -ECONNREFUSED);
  EXPECT_EQ(Receive(a, 10, MSG_DONTWAIT), nothing);
  EXPECT_EQ(Write(a, "x"), -ENOTCONN);
}

TEST_F(SocketCallsTest, ConnectingADatagramSocketElsewhereResetsItsPeer) {
  Start();
  const std::string nothing = "error " + std::to_string(EAGAIN);
  const auto [a, b] = Pair(SOCK_DGRAM);
  const std::int64_t other = guest_.Call(SYS_socket, AF_UNIX, SOCK_DGRAM, 0);
  const std::string_view name("\0else", 5);
  EXPECT_EQ(WithAddress(SYS_bind, other, name), 0);
  EXPECT_EQ(Write(b, "queued"), 6);
  EXPECT_EQ(Write(a, "back"), 4);
  EXPECT_EQ(WithAddress(SYS_connect, a, name), 0);
  EXPECT_EQ(Receive(a, 10, MSG_DONTWAIT), nothing);
  EXPECT_EQ(Receive(b, 10), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(Receive(b, 10), "back");
  EXPECT_EQ(Write(b, "x"), -EPERM) << "its peer has another";
  EXPECT_EQ(Write(a, "to other"), 8);
  EXPECT_EQ(Receive(other, 10), "to other");
  EXPECT_EQ(guest_.Call(SYS_close, other), 0);
  EXPECT_EQ(Write(b, "x"), -EPERM) << "even one that is closed";
}

TEST_F(SocketCallsTest, ShuttingDownWithoutAPeer) {
  Start();
  const std::int64_t stream = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(guest_.Call(SYS_shutdown, stream, SHUT_RDWR), 0);
  EXPECT_EQ(Write(stream, "x"), -ENOTCONN);
  const std::int64_t datagram = guest_.Call(SYS_socket, AF_UNIX, SOCK_DGRAM, 0);
  EXPECT_EQ(guest_.Call(SYS_shutdown, datagram, SHUT_RDWR), 0);
  EXPECT_EQ(Write(datagram, "x"), -EPIPE);
}

TEST_F(SocketCallsTest, OtherFamiliesAreRefusedAndNamed) {
  Start();
  for (const int family : {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 99}) {
    EXPECT_EQ(guest_.Call(SYS_socket, family, SOCK_DGRAM, 0), -EAFNOSUPPORT);
  }
  EXPECT_EQ(guest_.Call(SYS_socketpair, AF_INET, SOCK_STREAM, 0, guest_.Reserve(8)), -EOPNOTSUPP);
  EXPECT_EQ(guest_.Call(SYS_socketpair, 99, SOCK_STREAM, 0, guest_.Reserve(8)), -EAFNOSUPPORT);
  EXPECT_EQ(guest_.Call(SYS_socket, AF_UNIX, 11, 0), -EINVAL) << "no type has that number";
  EXPECT_TRUE(guest_.gate.HasDenied(Resource::kSystemCall, "socket(AF_INET)"));
  EXPECT_EQ(guest_.Call(SYS_bind, 0, 0, 0), -ENOTSOCK);
}

TEST_F(SocketCallsTest, Options) {
  Start();
  const auto [a, b] = Pair(SOCK_SEQPACKET);
  const std::uint64_t value = guest_.Reserve(16);
  const std::uint64_t room = guest_.PutObject(std::int32_t{16});
  EXPECT_EQ(guest_.Call(SYS_getsockopt, a, SOL_SOCKET, SO_TYPE, value, room), 0);
  EXPECT_EQ(guest_.Object<std::int32_t>(value), SOCK_SEQPACKET);
  ASSERT_EQ(guest_.Reserve(16), value);
  const std::uint64_t credentials = guest_.PutObject(std::int32_t{12});
  EXPECT_EQ(guest_.Call(SYS_getsockopt, a, SOL_SOCKET, SO_PEERCRED, value, credentials), 0);
  EXPECT_EQ(guest_.Object<std::int32_t>(value), Process::kPid);
  EXPECT_EQ(guest_.Call(SYS_setsockopt, a, SOL_SOCKET, 9999, value, 4), -ENOPROTOOPT);
}

}  // namespace
}  // namespace waxvm::linux_abi
