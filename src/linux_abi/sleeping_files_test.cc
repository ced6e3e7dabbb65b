// SPDX-License-Identifier: Apache-2.0
// Two threads at the two ends of a file: one sleeps in a call until the other makes it ready.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/socket_message.h"
#include "src/linux_abi/testing/file_fixture.h"

namespace waxvm::linux_abi {
namespace {

// Behind what the fixture uses for arguments, so that the other thread's calls leave it alone.
constexpr std::uint64_t kBuffer = FakeProcess::kScratch + 0x100000;
constexpr std::size_t kBufferBytes = 0x200000;

class SleepingFilesTest : public FileFixture {
 protected:
  void SetUp() override {
    Start();
    guest_.host.registers.rip = 0x401002;
  }
  std::int32_t Live() { return guest_.process->thread().id; }
  /// A second thread; the first goes on.
  void StartThread() {
    constexpr std::uint64_t kFlags =
        CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_FS | CLONE_FILES;
    ASSERT_GT(guest_.Call(SYS_clone, kFlags, 0x5000, 0, 0, 0), 0);
  }
  /// The call puts the first thread to sleep, and the second one runs.
  template <typename... Arguments>
  void Sleeps(long number, Arguments... arguments) {
    EXPECT_EQ(guest_.Call(number, arguments...), FakeProcess::kEnded);
    ASSERT_NE(Live(), Process::kPid);
  }
  /// Lets the second thread's slice pass: what wakes the first one then makes it run at once.
  bool StillAsleep() {
    if (Live() == Process::kPid) return false;
    guest_.host.now += Scheduler::kSlice;
    guest_.process->Tick();
    return Live() != Process::kPid;
  }
  /// What the call of the first thread came to.
  std::int64_t Woken() {
    EXPECT_FALSE(StillAsleep());
    return static_cast<std::int64_t>(guest_.host.registers.rax);
  }
};

TEST_F(SleepingFilesTest, APipeIsReadWhenItIsWritten) {
  const auto [reader, writer] = Pipe();
  StartThread();
  Sleeps(SYS_read, reader, kBuffer, 100);
  EXPECT_EQ(Write(writer, "abc"), 3);
  EXPECT_EQ(Woken(), 3);
  EXPECT_EQ(guest_.Text(kBuffer, 3), "abc");
}

TEST_F(SleepingFilesTest, ALargeWriteGoesOnUntilAllIsWritten) {
  const auto [reader, writer] = Pipe();
  StartThread();
  std::string text(200'000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  ASSERT_TRUE(guest_.process->memory().Write(kBuffer, std::as_bytes(std::span<const char>(text))));
  Sleeps(SYS_write, writer, kBuffer, std::uint64_t{text.size()});
  std::string got;
  while (got.size() < text.size()) {
    const std::string piece = Read(reader, 30'000);
    ASSERT_FALSE(piece.starts_with("error"));
    got += piece;
  }
  EXPECT_EQ(got, text);
  EXPECT_EQ(Woken(), static_cast<std::int64_t>(text.size()));
}

TEST_F(SleepingFilesTest, TheEndOfAPipeWakesItsReader) {
  const auto [reader, writer] = Pipe();
  StartThread();
  Sleeps(SYS_read, reader, kBuffer, 100);
  EXPECT_EQ(guest_.Call(SYS_close, writer), 0);
  EXPECT_EQ(Woken(), 0);
}

TEST_F(SleepingFilesTest, ACallEndsOnTheFileItBeganWith) {
  const auto [reader, writer] = Pipe();
  StartThread();
  Sleeps(SYS_read, reader, kBuffer, 100);
  EXPECT_EQ(guest_.Call(SYS_close, reader), 0);
  EXPECT_EQ(Write(writer, "abc"), 3) << "somebody still reads";
  EXPECT_EQ(Woken(), 3);
  EXPECT_EQ(guest_.Text(kBuffer, 3), "abc");
  const std::array<std::uint64_t, 4> ignore = {1, 0, 0, 0};
  ASSERT_EQ(guest_.Call(SYS_rt_sigaction, SIGPIPE, guest_.PutObject(ignore), 0, 8), 0);
  EXPECT_EQ(Write(writer, "x"), -EPIPE) << "the call was the last that knew the end";
}

TEST_F(SleepingFilesTest, ACallIgnoresWhatTookItsDescriptorsPlace) {
  const auto [reader, writer] = Pipe();
  const std::int64_t other = Open("/tmp/other", O_RDWR | O_CREAT);
  Write(other, "other");
  guest_.Call(SYS_lseek, other, 0, SEEK_SET);
  std::int64_t epoll = guest_.Call(SYS_epoll_create1, 0);
  const std::int64_t counter = guest_.Call(SYS_eventfd2, 0, 0);
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(guest_.Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, counter, guest_.PutObject(event)), 0);
  StartThread();
  Sleeps(SYS_read, reader, kBuffer, 100);
  EXPECT_EQ(guest_.Call(SYS_dup2, other, reader), reader);
  EXPECT_EQ(Write(writer, "abc"), 3);
  EXPECT_EQ(Woken(), 3);
  EXPECT_EQ(guest_.Text(kBuffer, 3), "abc");
  EXPECT_EQ(Read(reader, 100), "other") << "the next call finds what is there now";
  Sleeps(SYS_epoll_wait, epoll, kBuffer, 1, -1);
  EXPECT_EQ(guest_.Call(SYS_dup2, other, epoll), epoll);
  EXPECT_EQ(guest_.Call(SYS_write, counter, guest_.PutObject(std::uint64_t{1}), 8), 8);
  EXPECT_EQ(Woken(), 1);
  EXPECT_EQ(guest_.Call(SYS_epoll_wait, epoll, kBuffer, 1, 0), -EINVAL);
}

TEST_F(SleepingFilesTest, ASocketIsReceivedFromAfterItsDescriptorWasClosed) {
  const std::uint64_t fds = guest_.Reserve(8);
  ASSERT_EQ(guest_.Call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, fds), 0);
  const auto [one, other] = guest_.Object<std::array<std::int32_t, 2>>(fds);
  StartThread();
  Sleeps(SYS_recvfrom, one, kBuffer, 6, MSG_WAITALL, 0, 0);
  Write(other, "abc");
  EXPECT_EQ(guest_.Call(SYS_close, one), 0);
  EXPECT_TRUE(StillAsleep());
  Write(other, "def");
  EXPECT_EQ(Woken(), 6);
}

TEST_F(SleepingFilesTest, ABufferThatGotSmallerIsNotFilledAnyFurther) {
  const std::uint64_t fds = guest_.Reserve(8);
  ASSERT_EQ(guest_.Call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, fds), 0);
  const auto [one, other] = guest_.Object<std::array<std::int32_t, 2>>(fds);
  constexpr std::uint64_t kVector = kBuffer + 0x1000;
  constexpr std::uint64_t kMessage = kBuffer + 0x1100;
  MessageHeader header;
  header.vectors = kVector;
  header.vector_count = 1;
  AddressSpace& memory = guest_.process->memory();
  ASSERT_TRUE(memory.WriteObject(kVector, GuestRange{kBuffer, 1000}));
  ASSERT_TRUE(memory.WriteObject(kMessage, header));
  StartThread();
  Sleeps(SYS_recvmsg, one, kMessage, MSG_WAITALL);
  Write(other, "abc");
  EXPECT_TRUE(StillAsleep());
  // Less than what has come already.
  ASSERT_TRUE(memory.WriteObject(kVector, GuestRange{kBuffer, 1}));
  const std::string more(50'000, 'x');
  Write(other, more);
  EXPECT_EQ(Woken(), 3);
  EXPECT_EQ(Read(one, more.size()), more);
}

TEST_F(SleepingFilesTest, PollAndEpollSeeWhatTheOtherThreadDoes) {
  const auto [reader, writer] = Pipe();
  const std::int64_t counter = guest_.Call(SYS_eventfd2, 0, 0);
  const std::int64_t epoll = guest_.Call(SYS_epoll_create1, 0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = 7;
  ASSERT_EQ(guest_.Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, counter, guest_.PutObject(event)), 0);
  StartThread();
  const pollfd asked{.fd = static_cast<int>(reader), .events = POLLIN, .revents = 0};
  ASSERT_TRUE(guest_.process->memory().WriteObject(kBuffer, asked));
  Sleeps(SYS_poll, kBuffer, 1, -1);
  EXPECT_EQ(Write(writer, "x"), 1);
  EXPECT_EQ(Woken(), 1);
  EXPECT_EQ(guest_.Object<pollfd>(kBuffer).revents, POLLIN);
  for (int i = 0; i < 2; ++i) {
    Sleeps(SYS_epoll_wait, epoll, kBuffer, 4, -1);
    const std::uint64_t one = guest_.PutObject(std::uint64_t{1});
    EXPECT_EQ(guest_.Call(SYS_write, counter, one, 8), 8);
    EXPECT_EQ(Woken(), 1) << "every addition is an edge, though nothing was read";
    EXPECT_EQ(guest_.Object<epoll_event>(kBuffer).data.u64, 7u);
  }
}

TEST_F(SleepingFilesTest, ATimerWakesAReader) {
  const std::int64_t timer = guest_.Call(SYS_timerfd_create, CLOCK_MONOTONIC, 0);
  const itimerspec spec{.it_interval = {0, 0}, .it_value = {3, 0}};
  ASSERT_EQ(guest_.Call(SYS_timerfd_settime, timer, 0, guest_.PutObject(spec), 0), 0);
  const auto before = guest_.host.now;
  EXPECT_EQ(guest_.Call(SYS_read, timer, kBuffer, 8), 8) << "alone, it waits on the host";
  EXPECT_EQ(guest_.host.now - before, std::chrono::seconds(3));
}

TEST_F(SleepingFilesTest, AcceptingAndReceiving) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, "\0name", 5);
  const std::int64_t server = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(guest_.Call(SYS_bind, server, guest_.PutObject(address), 7), 0);
  ASSERT_EQ(guest_.Call(SYS_listen, server, 5), 0);
  StartThread();
  Sleeps(SYS_accept, server, 0, 0);
  const std::int64_t client = guest_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(guest_.Call(SYS_connect, client, guest_.PutObject(address), 7), 0);
  const std::int64_t accepted = Woken();
  ASSERT_GT(accepted, client);
  Sleeps(SYS_recvfrom, accepted, kBuffer, 6, MSG_WAITALL, 0, 0);
  EXPECT_EQ(Write(client, "abc"), 3);
  EXPECT_TRUE(StillAsleep()) << "not all is there";
  Write(client, "def");
  EXPECT_EQ(Woken(), 6);
  EXPECT_EQ(guest_.Text(kBuffer, 6), "abcdef");
}

TEST_F(SleepingFilesTest, AFifoIsOpenWhenBothEndsAre) {
  ASSERT_EQ(guest_.Call(SYS_mknod, guest_.Put("/tmp/p"), S_IFIFO | 0600, 0), 0);
  StartThread();
  const std::string_view name("/tmp/p\0", 7);
  ASSERT_TRUE(guest_.process->memory().Write(kBuffer, std::as_bytes(std::span(name))));
  Sleeps(SYS_open, kBuffer, O_RDONLY, 0);
  const std::int64_t writer = Open("/tmp/p", O_WRONLY);
  ASSERT_GE(writer, 0);
  const std::int64_t reader = Woken();
  ASSERT_GE(reader, 0);
  EXPECT_EQ(Write(writer, "x"), 1);
  EXPECT_EQ(Read(reader, 1), "x");
}

TEST_F(SleepingFilesTest, ALockIsGivenWhenItIsLetGo) {
  const std::int64_t one = Open("/tmp/l", O_RDWR | O_CREAT);
  const std::int64_t other = Open("/tmp/l", O_RDWR);
  ASSERT_EQ(guest_.Call(SYS_flock, other, LOCK_EX), 0);
  StartThread();
  Sleeps(SYS_flock, one, LOCK_EX);
  EXPECT_TRUE(StillAsleep());
  guest_.Call(SYS_close, other);
  EXPECT_EQ(Woken(), 0);
}

}  // namespace
}  // namespace waxvm::linux_abi
