// SPDX-License-Identifier: Apache-2.0
// Waiting for files, through system calls.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/file_fixture.h"

namespace waxvm::linux_abi {
namespace {

using PollCallsTest = FileFixture;

TEST_F(PollCallsTest, Polling) {
  Start();
  const auto [reader, writer] = Pipe();
  const std::array<pollfd, 4> asked = {pollfd{static_cast<int>(reader), POLLIN, 0},
                                       pollfd{static_cast<int>(writer), POLLOUT, 0},
                                       pollfd{-1, POLLIN, 0}, pollfd{99, POLLIN, 0}};
  std::uint64_t address = guest_.PutObject(asked);
  EXPECT_EQ(guest_.Call(SYS_poll, address, 3, -1), 1);
  auto answer = guest_.Object<std::array<pollfd, 4>>(address);
  EXPECT_EQ(answer[0].revents, 0);
  EXPECT_EQ(answer[1].revents, POLLOUT);
  address = guest_.PutObject(asked);
  EXPECT_EQ(guest_.Call(SYS_poll, address, 4, -1), 2);
  answer = guest_.Object<std::array<pollfd, 4>>(address);
  EXPECT_EQ(answer[3].revents, POLLNVAL);
  EXPECT_EQ(guest_.Call(SYS_poll, guest_.PutObject(asked), 1, 50), 0);
  EXPECT_EQ(guest_.host.waited, std::chrono::milliseconds(50));
  EXPECT_EQ(guest_.Call(SYS_poll, guest_.PutObject(asked), 1, -1), FakeProcess::kEnded);
  EXPECT_EQ(guest_.Call(SYS_poll, guest_.PutObject(asked), 1 << 20, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_poll, kUnmapped, 1, 0), -EFAULT);
  const std::uint64_t bad_time = guest_.PutObject(timespec{0, 1'000'000'000});
  EXPECT_EQ(guest_.Call(SYS_ppoll, guest_.PutObject(asked), 1, bad_time), -EINVAL);
  guest_.Call(SYS_close, writer);
  address = guest_.PutObject(asked);
  EXPECT_EQ(guest_.Call(SYS_poll, address, 1, -1), 1);
  EXPECT_EQ(guest_.Object<pollfd>(address).revents, POLLHUP);
}

TEST_F(PollCallsTest, Selecting) {
  Start();
  const auto [reader, writer] = Pipe();
  Write(writer, "x");
  const std::uint64_t bits = (1u << reader) | (1u << writer);
  const std::uint64_t readable = guest_.PutObject(bits);
  const std::uint64_t writable = guest_.PutObject(bits);
  EXPECT_EQ(guest_.Call(SYS_select, 64, readable, writable, 0, 0), 2);
  EXPECT_EQ(guest_.Object<std::uint64_t>(readable), std::uint64_t{1} << reader);
  EXPECT_EQ(guest_.Object<std::uint64_t>(writable), std::uint64_t{1} << writer);
  EXPECT_EQ(guest_.Call(SYS_select, -1, 0, 0, 0, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_select, 1 << 30, 0, 0, 0, guest_.PutObject(timeval{0, 0})), 0);
  const std::uint64_t closed = guest_.PutObject(std::uint64_t{1} << 5);
  guest_.Call(SYS_dup2, 0, 6);
  EXPECT_EQ(guest_.Call(SYS_select, 64, closed, 0, 0, 0), -EBADF);
}

class EpollTest : public FileFixture {
 protected:
  std::int64_t Control(int operation, std::int64_t fd, std::uint32_t events, std::uint64_t data) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    return guest_.Call(SYS_epoll_ctl, epoll_, operation, fd, guest_.PutObject(event));
  }
  std::vector<epoll_event> Wait(int max_events = 8) {
    const std::uint64_t address = guest_.Reserve(8 * sizeof(epoll_event));
    const std::int64_t n = guest_.Call(SYS_epoll_wait, epoll_, address, max_events, 0);
    std::vector<epoll_event> events;
    for (std::int64_t i = 0; i < n; ++i) {
      events.push_back(guest_.Object<epoll_event>(address + i * sizeof(epoll_event)));
    }
    return events;
  }
  void StartWithEpoll() {
    Start();
    epoll_ = guest_.Call(SYS_epoll_create1, 0);
    ASSERT_EQ(epoll_, 3);
  }

  std::int64_t epoll_ = -1;
};

TEST_F(EpollTest, LevelTriggered) {
  StartWithEpoll();
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(Control(EPOLL_CTL_ADD, reader, EPOLLIN, 42), 0);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, reader, EPOLLIN, 42), -EEXIST);
  EXPECT_EQ(Control(EPOLL_CTL_MOD, writer, EPOLLOUT, 1), -ENOENT);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, epoll_, EPOLLIN, 1), -EINVAL);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, 99, EPOLLIN, 1), -EBADF);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, Open("/tmp/f", O_RDWR | O_CREAT), EPOLLIN, 1), -EPERM);
  EXPECT_TRUE(Wait().empty());
  Write(writer, "x");
  for (int i = 0; i < 2; ++i) {
    const auto events = Wait();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].events, std::uint32_t{EPOLLIN});
    EXPECT_EQ(events[0].data.u64, 42u);
  }
  EXPECT_EQ(Control(EPOLL_CTL_DEL, reader, 0, 0), 0);
  EXPECT_TRUE(Wait().empty());
  EXPECT_EQ(guest_.Call(SYS_epoll_wait, epoll_, guest_.Reserve(64), 0, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_epoll_wait, reader, guest_.Reserve(64), 1, 0), -EINVAL);
}

TEST_F(EpollTest, EdgeTriggeredAndOneShot) {
  StartWithEpoll();
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(Control(EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET, 1), 0);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, writer, EPOLLOUT | EPOLLONESHOT, 2), 0);
  Write(writer, "x");
  EXPECT_EQ(Wait().size(), 2u);
  EXPECT_TRUE(Wait().empty()) << "the same readiness again";
  Write(writer, "y");
  EXPECT_EQ(Wait().size(), 1u) << "new bytes are a new edge";
  EXPECT_EQ(Read(reader, 10), "xy");
  Write(writer, "z");
  EXPECT_EQ(Wait().size(), 1u) << "an edge that was drained in between";
  EXPECT_EQ(Control(EPOLL_CTL_MOD, writer, EPOLLOUT | EPOLLONESHOT, 2), 0);
  EXPECT_EQ(Wait().size(), 1u);
}

TEST_F(EpollTest, ClosedFilesDropOutAndNobodyStarves) {
  StartWithEpoll();
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(Control(EPOLL_CTL_ADD, writer, EPOLLOUT, 1), 0);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, 1, EPOLLOUT, 2), 0);
  const auto first = Wait(1);
  const auto second = Wait(1);
  ASSERT_EQ(first.size() + second.size(), 2u);
  EXPECT_NE(first[0].data.u64, second[0].data.u64);
  guest_.Call(SYS_close, writer);
  EXPECT_EQ(Wait().size(), 1u);
}

TEST_F(EpollTest, OneWithinAnother) {
  StartWithEpoll();
  const auto [reader, writer] = Pipe();
  const std::int64_t outer = guest_.Call(SYS_epoll_create1, 0);
  epoll_event event{};
  event.events = EPOLLIN;
  const auto add = [&](std::int64_t to, std::int64_t fd) {
    return guest_.Call(SYS_epoll_ctl, to, EPOLL_CTL_ADD, fd, guest_.PutObject(event));
  };
  EXPECT_EQ(add(outer, epoll_), 0);
  EXPECT_EQ(add(epoll_, outer), -ELOOP);
  EXPECT_EQ(add(epoll_, reader), 0);
  const std::uint64_t events = guest_.Reserve(64);
  EXPECT_EQ(guest_.Call(SYS_epoll_wait, outer, events, 1, 0), 0);
  Write(writer, "x");
  EXPECT_EQ(guest_.Call(SYS_epoll_wait, outer, guest_.Reserve(64), 1, 0), 1);
  EXPECT_EQ(Wait().size(), 1u) << "looking from outside takes nothing";
  EXPECT_EQ(Read(reader, 1), "x");
  EXPECT_EQ(guest_.Call(SYS_epoll_wait, outer, guest_.Reserve(64), 1, 0), 0);
}

TEST_F(EpollTest, ChainsAreShortInWhateverOrderTheyAreMade) {
  StartWithEpoll();
  std::vector<std::int64_t> chain;
  for (int i = 0; i < 6; ++i) chain.push_back(guest_.Call(SYS_epoll_create1, 0));
  epoll_event event{};
  event.events = EPOLLIN;
  const auto add = [&](std::size_t to, std::size_t fd) {
    return guest_.Call(SYS_epoll_ctl, chain[to], EPOLL_CTL_ADD, chain[fd], guest_.PutObject(event));
  };
  EXPECT_EQ(add(0, 1), 0);
  EXPECT_EQ(add(1, 2), 0);
  EXPECT_EQ(add(3, 4), 0);
  EXPECT_EQ(add(4, 5), 0);
  EXPECT_EQ(add(2, 3), -ELOOP) << "six in a row";
  EXPECT_EQ(add(2, 4), 0);
}

// Without looking at each instance once, this would take 40^4 steps.
TEST_F(EpollTest, ALatticeOfInstancesIsLookedAtInNoTime) {
  StartWithEpoll();
  constexpr int kWidth = 40;
  std::vector<std::int64_t> row = {epoll_};
  for (int level = 0; level < 4; ++level) {
    std::vector<std::int64_t> next;
    for (int i = 0; i < kWidth; ++i) next.push_back(guest_.Call(SYS_epoll_create1, 0));
    for (const std::int64_t to : row) {
      for (const std::int64_t fd : next) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET;
        ASSERT_EQ(guest_.Call(SYS_epoll_ctl, to, EPOLL_CTL_ADD, fd, guest_.PutObject(event)), 0);
      }
    }
    row = next;
  }
  EXPECT_TRUE(Wait().empty());
}

TEST_F(EpollTest, ExclusiveIsTakenWhenAdding) {
  StartWithEpoll();
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(Control(EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE, 1), -EINVAL);
  EXPECT_EQ(Control(EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLEXCLUSIVE, 1), 0);
  EXPECT_EQ(Control(EPOLL_CTL_MOD, reader, EPOLLIN, 1), -EINVAL);
  Write(writer, "x");
  EXPECT_EQ(Wait().size(), 1u);
}

TEST_F(PollCallsTest, TimeLeftNeedsTheGrantedClock) {
  Start();
  const auto [reader, writer] = Pipe();
  const auto set = std::uint64_t{1} << writer;
  const std::uint64_t time = guest_.PutObject(timeval{5, 0});
  EXPECT_EQ(guest_.Call(SYS_select, 64, 0, guest_.PutObject(set), 0, time), 1);
  EXPECT_EQ(guest_.Object<timeval>(time).tv_sec, 5);
  const std::uint64_t over = guest_.PutObject(timespec{5, 0});
  EXPECT_EQ(guest_.Call(SYS_pselect6, 0, 0, 0, 0, over, 0), 0);
  EXPECT_EQ(guest_.Object<timespec>(over).tv_sec, 0);
  EXPECT_EQ(guest_.Call(SYS_ppoll, 0, 0, over, guest_.Reserve(8), 4), -EINVAL) << "size of mask";
}

}  // namespace
}  // namespace waxvm::linux_abi
