// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/host_call_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::process {
namespace {

class HostCallChannelTest : public ::testing::Test {
 protected:
  HostCallChannelTest() {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
    guest_ = UniqueFd(fds[0]);
    channel_.emplace(UniqueFd(fds[1]), WAXVM_HOST_CALL_MAX_REQUEST);
  }

  void Send(const std::string& bytes) {
    ASSERT_EQ(send(guest_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  static std::string Header(std::uint32_t version, std::uint32_t name, std::uint32_t request,
                            std::uint32_t reserved = 0) {
    const waxvm_host_call_request_frame frame{version, name, request, reserved};
    return {reinterpret_cast<const char*>(&frame), sizeof frame};
  }
  std::string Receive() {
    std::string all;
    std::array<char, 65536> part;
    for (;;) {
      const ssize_t n = recv(guest_.get(), part.data(), part.size(), 0);
      if (n <= 0) return all;
      all.append(part.data(), static_cast<std::size_t>(n));
    }
  }

  UniqueFd guest_;
  std::optional<HostCallChannel> channel_;
};

TEST_F(HostCallChannelTest, ARequestMayArriveByteByByte) {
  const std::string bytes = Header(1, 3, 5) + "addhello";
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    Send(bytes.substr(i, 1));
    EXPECT_FALSE(channel_->Advance().has_value()) << i;
  }
  Send(bytes.substr(bytes.size() - 1));
  const auto request = channel_->Advance();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->name, "add");
  EXPECT_EQ(request->request, "hello");
  EXPECT_TRUE(channel_->pending());
}

TEST_F(HostCallChannelTest, WrongHeadersCloseTheChannel) {
  for (const std::string& header :
       {Header(2, 1, 0), Header(1, 0, 0), Header(1, 256, 0), Header(1, 1, 0, 7),
        Header(1, 1, WAXVM_HOST_CALL_MAX_REQUEST + 1), Header(1, 1, 0xffffffff),
        Header(1, 0xffffffff, 0)}) {
    std::array<int, 2> fds{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    const UniqueFd guest(fds[0]);
    HostCallChannel channel(UniqueFd(fds[1]), WAXVM_HOST_CALL_MAX_REQUEST);
    ASSERT_EQ(send(guest.get(), header.data(), header.size(), 0),
              static_cast<ssize_t>(header.size()));
    EXPECT_FALSE(channel.Advance().has_value());
    EXPECT_EQ(channel.fd(), -1);
  }
}

TEST_F(HostCallChannelTest, TheNextRequestWaitsForTheReply) {
  Send(Header(1, 1, 0) + "a" + Header(1, 1, 0) + "b");
  ASSERT_TRUE(channel_->Advance().has_value());
  EXPECT_EQ(channel_->events(), 0);
  EXPECT_FALSE(channel_->Advance().has_value());
  channel_->Reply(std::string("one"));
  const auto next = channel_->Advance();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->name, "b");
  EXPECT_EQ(Receive().substr(sizeof(waxvm_host_call_reply_frame)), "one");
}

TEST_F(HostCallChannelTest, AGuestThatDoesNotReadBlocksNobody) {
  Send(Header(1, 1, 0) + "a");
  ASSERT_TRUE(channel_->Advance().has_value());
  const std::string reply(8 << 20, 'r');
  channel_->Reply(reply);
  EXPECT_EQ(channel_->events(), POLLOUT);
  std::string got;
  while (got.size() < reply.size() + sizeof(waxvm_host_call_reply_frame)) {
    const std::string part = Receive();
    ASSERT_FALSE(part.empty());
    got += part;
    channel_->Advance();
  }
  EXPECT_EQ(got.substr(sizeof(waxvm_host_call_reply_frame)), reply);
  EXPECT_EQ(channel_->events(), POLLIN);
}

TEST_F(HostCallChannelTest, ErrorsCarryCodeAndMessage) {
  Send(Header(1, 1, 0) + "a");
  ASSERT_TRUE(channel_->Advance().has_value());
  channel_->Reply(absl::PermissionDeniedError("not yours"));
  const std::string bytes = Receive();
  waxvm_host_call_reply_frame frame;
  ASSERT_GE(bytes.size(), sizeof frame);
  std::memcpy(&frame, bytes.data(), sizeof frame);
  EXPECT_EQ(frame.status, WAXVM_HOST_CALL_PERMISSION_DENIED);
  EXPECT_EQ(bytes.substr(sizeof frame), "not yours");
}

TEST_F(HostCallChannelTest, AnEndInTheMiddleOfARequestClosesTheChannel) {
  Send(Header(1, 3, 100) + "add");
  EXPECT_FALSE(channel_->Advance().has_value());
  guest_.reset();
  EXPECT_FALSE(channel_->Advance().has_value());
  EXPECT_EQ(channel_->fd(), -1);
  channel_->Reply(std::string("too late"));
}

}  // namespace
}  // namespace waxvm::process
