// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <memory>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/file_fixture.h"
#include "src/linux_abi/vfs/fd_table.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::seconds;

class TimerFileTest : public FileFixture {
 protected:
  std::int64_t Set(std::int64_t fd, std::int64_t first, std::int64_t interval, int flags = 0) {
    const itimerspec spec{.it_interval = {interval, 0}, .it_value = {first, 0}};
    return guest_.Call(SYS_timerfd_settime, fd, flags, guest_.PutObject(spec), 0);
  }
  std::int64_t Expirations(std::int64_t fd) {
    const std::uint64_t buffer = guest_.Reserve(8);
    const std::int64_t n = guest_.Call(SYS_read, fd, buffer, 8);
    return n < 0 ? n : guest_.Object<std::int64_t>(buffer);
  }
};

TEST_F(TimerFileTest, CountsExpirations) {
  guest_.spec.clock = std::make_shared<FakeClock>();
  Start();
  const std::int64_t fd = guest_.Call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK);
  EXPECT_EQ(Expirations(fd), -EAGAIN);
  EXPECT_EQ(Set(fd, 5, 2), 0);
  EXPECT_EQ(Expirations(fd), -EAGAIN);
  const OpenFile& file = *guest_.process->files().Get(static_cast<std::uint64_t>(fd));
  EXPECT_EQ(file.ReadyAt(), guest_.host.now + seconds(5));
  guest_.host.now += seconds(10);
  EXPECT_EQ(file.Poll(), POLLIN);
  EXPECT_EQ(Expirations(fd), 3) << "after 5, 7 and 9 seconds";
  EXPECT_EQ(file.Poll(), 0);
  const std::uint64_t left = guest_.Reserve(sizeof(itimerspec));
  EXPECT_EQ(guest_.Call(SYS_timerfd_gettime, fd, left), 0);
  EXPECT_EQ(guest_.Object<itimerspec>(left).it_value.tv_sec, 1);
  EXPECT_EQ(Set(fd, 0, 0), 0);
  guest_.host.now += seconds(10);
  EXPECT_EQ(Expirations(fd), -EAGAIN);
}

TEST_F(TimerFileTest, AbsoluteTimesAreOfTheGrantedClock) {
  const auto clock = std::make_shared<FakeClock>();
  guest_.spec.clock = clock;
  Start();
  const std::int64_t fd = guest_.Call(SYS_timerfd_create, CLOCK_REALTIME, TFD_NONBLOCK);
  EXPECT_EQ(Set(fd, 1'700'000'003, 0, TFD_TIMER_ABSTIME), 0);
  guest_.host.now += seconds(2);
  EXPECT_EQ(Expirations(fd), -EAGAIN);
  guest_.host.now += seconds(2);
  EXPECT_EQ(Expirations(fd), 1);
  EXPECT_EQ(Expirations(fd), -EAGAIN) << "once";
}

TEST_F(TimerFileTest, WithoutTheGrantNoTimeIsTold) {
  Start();
  const std::int64_t fd = guest_.Call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK);
  EXPECT_EQ(Set(fd, 1, 1), 0);
  guest_.host.now += seconds(100);
  EXPECT_EQ(Expirations(fd), 1);
  EXPECT_EQ(guest_.Call(SYS_timerfd_create, CLOCK_PROCESS_CPUTIME_ID, 0), -EINVAL);
  EXPECT_EQ(guest_.Call(SYS_timerfd_create, CLOCK_BOOTTIME_ALARM, 0), -EPERM);
  EXPECT_EQ(Set(0, 1, 1), -EINVAL);
}

}  // namespace
}  // namespace waxvm::linux_abi
