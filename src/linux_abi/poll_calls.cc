// SPDX-License-Identifier: Apache-2.0
// Waiting for files. A call that finds nothing ready sleeps and is made again.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/syscall_table.h"
#include "src/linux_abi/vfs/epoll_file.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/wait.h"

namespace waxvm::linux_abi {
namespace {

/// How long to wait; empty: for ever.
using Timeout = std::optional<std::chrono::nanoseconds>;

// Longer than any run, and far from overflowing.
constexpr std::int64_t kMaxSeconds = std::int64_t{1} << 31;

Timeout Milliseconds(std::uint64_t argument) {
  const auto count = static_cast<std::int32_t>(argument);
  return count < 0 ? Timeout() : Timeout(std::chrono::milliseconds(count));
}

ErrnoOr<Timeout> TimespecArgument(Process& process, std::uint64_t address) {
  if (address == 0) return Timeout();
  timespec time{};
  if (!process.memory().ReadObject(address, time)) return Errno{EFAULT};
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec > 999'999'999) return Errno{EINVAL};
  return Timeout(std::chrono::seconds(std::min<std::int64_t>(time.tv_sec, kMaxSeconds)) +
                 std::chrono::nanoseconds(time.tv_nsec));
}

ErrnoOr<Timeout> TimevalArgument(Process& process, std::uint64_t address) {
  if (address == 0) return Timeout();
  timeval time{};
  if (!process.memory().ReadObject(address, time)) return Errno{EFAULT};
  if (time.tv_sec < 0 || time.tv_usec < 0) return Errno{EINVAL};
  return Timeout(std::chrono::seconds(std::min<std::int64_t>(time.tv_sec, kMaxSeconds)) +
                 std::chrono::microseconds(std::min<std::int64_t>(time.tv_usec, kMaxSeconds)));
}

/// The time a call still had when it was over. It tells how long the call took, so without the
/// granted clock it is only told apart whether the time is over.
class TimeLeft {
 public:
  TimeLeft(Process& process, Timeout timeout) : process_(process), timeout_(timeout) {
    ClockSource* clock = process.spec().clock.get();
    std::uint64_t& started = process.call_progress();
    if (clock != nullptr && started == 0) {
      started = static_cast<std::uint64_t>(clock->MonotonicTime().count());
    }
  }
  /// `result` is what the call returns.
  std::chrono::nanoseconds Get(std::int64_t result) const {
    if (!timeout_ || result == 0) return std::chrono::nanoseconds(0);
    ClockSource* clock = process_.spec().clock.get();
    if (clock == nullptr) return *timeout_;
    const std::chrono::nanoseconds started(process_.call_progress());
    const std::chrono::nanoseconds left = *timeout_ - (clock->MonotonicTime() - started);
    return std::clamp(left, std::chrono::nanoseconds(0), *timeout_);
  }
  // Failing to write it changes nothing, as on Linux.
  std::int64_t WriteTimespec(std::uint64_t address, std::int64_t result) const {
    if (address == 0 || result == kAsleep) return result;
    const auto seconds = std::chrono::floor<std::chrono::seconds>(Get(result));
    const timespec time{.tv_sec = seconds.count(), .tv_nsec = (Get(result) - seconds).count()};
    static_cast<void>(process_.memory().WriteObject(address, time));
    return result;
  }
  std::int64_t WriteTimeval(std::uint64_t address, std::int64_t result) const {
    if (address == 0 || result == kAsleep) return result;
    const auto left = std::chrono::floor<std::chrono::microseconds>(Get(result));
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    const timeval time{.tv_sec = seconds.count(), .tv_usec = (left - seconds).count()};
    static_cast<void>(process_.memory().WriteObject(address, time));
    return result;
  }

 private:
  Process& process_;
  Timeout timeout_;
};

// The mask that holds during the call. Returns 0, -EINVAL or -EFAULT.
std::int64_t ApplyMask(Process& process, std::uint64_t address, std::uint64_t bytes) {
  if (address == 0) return 0;
  std::uint64_t mask = 0;
  if (bytes != sizeof mask) return -EINVAL;
  if (!process.memory().ReadObject(address, mask)) return -EFAULT;
  process.SetTemporarySignalMask(mask);
  return 0;
}

/// One file that is waited for.
struct Waited {
  OpenFile* file = nullptr;
  short wanted = 0;
  short ready = 0;

  void Take(short state) { ready = static_cast<short>(state & (wanted | POLLERR | POLLHUP)); }
};

// Every look at what poll and select wait for finds the descriptors anew, as on Linux.
OpenFile* FindNow(Process& process, std::uint64_t fd) {
  OpenFile* file = process.files().Get(fd);
  return file != nullptr && !file->path_only() ? file : nullptr;
}

// A file asked for more than once is watched once, so that what a sleeping thread holds is bounded
// by the files that are open.
std::vector<WatchedFile> Watch(std::span<const Waited> files) {
  std::map<OpenFile*, short> events;
  for (const Waited& waited : files) {
    short& wanted = events[waited.file];
    wanted = static_cast<short>(wanted | waited.wanted);
    if ((waited.wanted & POLLRDNORM) != 0) wanted |= POLLIN;
    if ((waited.wanted & (POLLWRNORM | POLLWRBAND)) != 0) wanted |= POLLOUT;
  }
  std::vector<WatchedFile> watched;
  for (const auto& [file, wanted] : events) watched.push_back({file->shared_from_this(), wanted});
  return watched;
}

// Fills in what is ready, and sleeps where nothing is. Returns 0, kAsleep or -EINTR.
std::int64_t WaitFor(Process& process, std::span<Waited> files, Timeout timeout) {
  bool ready = false;
  {
    const EpollFile::Round round(process.file_system().context());
    for (Waited& waited : files) {
      waited.Take(waited.file->PollWithBands());
      ready = ready || waited.ready != 0;
    }
  }
  if (ready || timeout == std::chrono::nanoseconds(0)) return 0;
  return process.Sleep({.files = Watch(files), .timeout = timeout, .interrupted = -EINTR});
}

std::int64_t PollDescriptors(Process& process, std::uint64_t address, std::uint64_t count,
                             Timeout timeout) {
  count = static_cast<std::uint32_t>(count);
  if (count > std::max<std::uint64_t>(process.files().limit(), process.files().size())) {
    return -EINVAL;
  }
  // The limit on descriptors may be none; what the host holds for the wait is charged.
  MemoryCharge charge;
  if (!charge.Resize(process.account(), count * (sizeof(pollfd) + sizeof(Waited)))) return -ENOMEM;
  std::vector<pollfd> asked(count);
  if (!process.memory().Read(address, std::as_writable_bytes(std::span(asked)))) return -EFAULT;
  std::vector<Waited> files;
  std::int64_t answered = 0;
  for (pollfd& entry : asked) {
    entry.revents = 0;
    if (entry.fd < 0) continue;
    OpenFile* file = FindNow(process, static_cast<std::uint64_t>(entry.fd));
    if (file != nullptr) {
      files.push_back({.file = file, .wanted = entry.events});
    } else {
      entry.revents = POLLNVAL;
      ++answered;
    }
  }
  const Timeout wait = answered > 0 ? Timeout(std::chrono::nanoseconds(0)) : timeout;
  const std::int64_t result = WaitFor(process, files, wait);
  if (result < 0) return result;
  auto waited = files.begin();
  for (pollfd& entry : asked) {
    if (entry.fd < 0 || entry.revents == POLLNVAL) continue;
    entry.revents = (waited++)->ready;
    if (entry.revents != 0) ++answered;
  }
  if (!process.memory().Write(address, std::as_bytes(std::span(asked)))) return -EFAULT;
  return answered;
}

std::int64_t Poll(Process& process, const SyscallArguments& arguments) {
  return PollDescriptors(process, arguments[0], arguments[1], Milliseconds(arguments[2]));
}
std::int64_t PPoll(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<Timeout> timeout = TimespecArgument(process, arguments[2]);
  if (!timeout.ok()) return timeout.result();
  const std::int64_t masked = ApplyMask(process, arguments[3], arguments[4]);
  if (masked < 0) return masked;
  const TimeLeft left(process, *timeout);
  return left.WriteTimespec(arguments[2],
                            PollDescriptors(process, arguments[0], arguments[1], *timeout));
}

/// The three sets of select: readable, writable, exceptional.
class DescriptorSets {
 public:
  explicit DescriptorSets(std::uint64_t descriptors) : words_((descriptors + 63) / 64) {}

  std::int64_t ReadFrom(Process& process, const std::array<std::uint64_t, 3>& addresses) {
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      sets_[i].assign(words_, 0);
      if (addresses[i] == 0) continue;
      const std::span<std::uint64_t> words(sets_[i]);
      if (!process.memory().Read(addresses[i], std::as_writable_bytes(words))) return -EFAULT;
    }
    return 0;
  }
  std::int64_t WriteTo(Process& process, const std::array<std::uint64_t, 3>& addresses) const {
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      const std::span<const std::uint64_t> words(sets_[i]);
      if (addresses[i] == 0) continue;
      if (!process.memory().Write(addresses[i], std::as_bytes(words))) return -EFAULT;
    }
    return 0;
  }
  short Wanted(std::uint64_t fd) const {
    short wanted = 0;
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      if ((sets_[i][fd / 64] >> (fd % 64) & 1) != 0) wanted |= kEvents[i];
    }
    return wanted;
  }
  /// Keeps of `fd` what is ready; returns the number of sets it stays in.
  std::int64_t Keep(std::uint64_t fd, short wanted, short ready) {
    if ((ready & (POLLHUP | POLLERR)) != 0) ready |= POLLIN;
    if ((ready & POLLERR) != 0) ready |= POLLOUT;
    std::int64_t kept = 0;
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      if ((wanted & ready & kEvents[i]) != 0) {
        ++kept;
      } else {
        sets_[i][fd / 64] &= ~(std::uint64_t{1} << (fd % 64));
      }
    }
    return kept;
  }

 private:
  static constexpr std::array<short, 3> kEvents = {POLLIN, POLLOUT, POLLPRI};

  std::size_t words_;
  std::array<std::vector<std::uint64_t>, 3> sets_;
};

std::int64_t SelectDescriptors(Process& process, const SyscallArguments& arguments,
                               Timeout timeout) {
  const auto asked = static_cast<std::int32_t>(arguments[0]);
  if (asked < 0) return -EINVAL;
  // Linux looks at no more descriptors than its table has room for, which are 64 at first.
  constexpr std::uint64_t kFirstTable = 64;
  const std::uint64_t count =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(asked),
                              std::max<std::uint64_t>(process.files().size(), kFirstTable));
  const std::array<std::uint64_t, 3> addresses = {arguments[1], arguments[2], arguments[3]};
  DescriptorSets sets(count);
  const std::int64_t read = sets.ReadFrom(process, addresses);
  if (read < 0) return read;
  std::vector<Waited> files;
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t fd = 0; fd < count; ++fd) {
    const short wanted = sets.Wanted(fd);
    if (wanted == 0) continue;
    OpenFile* file = FindNow(process, fd);
    // What another thread has closed meanwhile is never ready.
    if (file == nullptr && process.thread().call.wake == Wake::kNone) return -EBADF;
    if (file == nullptr) {
      sets.Keep(fd, wanted, 0);
      continue;
    }
    files.push_back({.file = file, .wanted = wanted});
    numbers.push_back(fd);
  }
  const std::int64_t result = WaitFor(process, files, timeout);
  if (result < 0) return result;
  std::int64_t kept = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    kept += sets.Keep(numbers[i], files[i].wanted, files[i].ready);
  }
  const std::int64_t written = sets.WriteTo(process, addresses);
  return written < 0 ? written : kept;
}

std::int64_t Select(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<Timeout> timeout = TimevalArgument(process, arguments[4]);
  if (!timeout.ok()) return timeout.result();
  const TimeLeft left(process, *timeout);
  return left.WriteTimeval(arguments[4], SelectDescriptors(process, arguments, *timeout));
}
std::int64_t PSelect6(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<Timeout> timeout = TimespecArgument(process, arguments[4]);
  if (!timeout.ok()) return timeout.result();
  std::array<std::uint64_t, 2> mask{};  // its address and size
  if (arguments[5] != 0 && !process.memory().ReadObject(arguments[5], mask)) return -EFAULT;
  const std::int64_t masked = ApplyMask(process, mask[0], mask[1]);
  if (masked < 0) return masked;
  const TimeLeft left(process, *timeout);
  return left.WriteTimespec(arguments[4], SelectDescriptors(process, arguments, *timeout));
}

std::int64_t CreateEpoll(Process& process, std::uint64_t flags) {
  if ((flags & ~std::uint64_t{EPOLL_CLOEXEC}) != 0) return -EINVAL;
  return process.files().Add(std::make_shared<EpollFile>(process.file_system().context()),
                             flags != 0);
}
std::int64_t EpollCreate(Process& process, const SyscallArguments& arguments) {
  return static_cast<std::int32_t>(arguments[0]) <= 0 ? -EINVAL : CreateEpoll(process, 0);
}
std::int64_t EpollCreate1(Process& process, const SyscallArguments& arguments) {
  return CreateEpoll(process, static_cast<std::uint32_t>(arguments[0]));
}

ErrnoOr<std::shared_ptr<EpollFile>> EpollArgument(Process& process, std::uint64_t fd) {
  OpenFile* file = FindForCall(process, fd);
  if (file == nullptr || file->path_only()) return Errno{EBADF};
  std::shared_ptr<EpollFile> epoll = std::dynamic_pointer_cast<EpollFile>(file->shared_from_this());
  if (epoll == nullptr) return Errno{EINVAL};
  return epoll;
}

std::int64_t EpollCtl(Process& process, const SyscallArguments& arguments) {
  const auto operation = static_cast<int>(arguments[1]);
  epoll_event event{};
  if (operation != EPOLL_CTL_DEL && !process.memory().ReadObject(arguments[3], event)) {
    return -EFAULT;
  }
  const std::shared_ptr<OpenFile> file = process.files().Share(arguments[2]);
  if (file == nullptr || file->path_only()) return -EBADF;
  if (const ErrnoOr<OpenFile*> own = FileArgument(process, arguments[0]); !own.ok())
    return own.result();
  struct stat status {};
  const bool pollable =
      file->Stat(status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
  if (!pollable) return -EPERM;
  ErrnoOr<std::shared_ptr<EpollFile>> epoll = EpollArgument(process, arguments[0]);
  if (!epoll.ok()) return epoll.result();
  if (*epoll == file) return -EINVAL;
  const auto fd = static_cast<int>(arguments[2]);
  switch (operation) {
    case EPOLL_CTL_ADD:
      return (*epoll)->Add(fd, file, event);
    case EPOLL_CTL_MOD:
      return (*epoll)->Modify(fd, file, event);
    case EPOLL_CTL_DEL:
      return (*epoll)->Delete(fd, file);
    default:
      return -EINVAL;
  }
}

std::int64_t WaitForEvents(Process& process, const SyscallArguments& arguments, Timeout timeout) {
  const auto max_events = static_cast<std::int32_t>(arguments[2]);
  if (max_events <= 0 || static_cast<std::size_t>(max_events) > INT_MAX / sizeof(epoll_event)) {
    return -EINVAL;
  }
  ErrnoOr<std::shared_ptr<EpollFile>> epoll = EpollArgument(process, arguments[0]);
  if (!epoll.ok()) return epoll.result();
  const std::vector<epoll_event> events = (*epoll)->Collect(static_cast<std::size_t>(max_events));
  if (events.empty() && timeout != std::chrono::nanoseconds(0)) {
    return process.Sleep({.files = {{*epoll, POLLIN}}, .timeout = timeout, .interrupted = -EINTR});
  }
  if (!process.memory().Write(arguments[1], std::as_bytes(std::span(events)))) return -EFAULT;
  return static_cast<std::int64_t>(events.size());
}

std::int64_t EpollWait(Process& process, const SyscallArguments& arguments) {
  return WaitForEvents(process, arguments, Milliseconds(arguments[3]));
}
std::int64_t EpollPWait(Process& process, const SyscallArguments& arguments) {
  const std::int64_t masked = ApplyMask(process, arguments[4], arguments[5]);
  return masked < 0 ? masked : EpollWait(process, arguments);
}
std::int64_t EpollPWait2(Process& process, const SyscallArguments& arguments) {
  const ErrnoOr<Timeout> timeout = TimespecArgument(process, arguments[3]);
  if (!timeout.ok()) return timeout.result();
  const std::int64_t masked = ApplyMask(process, arguments[4], arguments[5]);
  return masked < 0 ? masked : WaitForEvents(process, arguments, *timeout);
}

constexpr SyscallEntry kEntries[] = {
    {SYS_poll, "poll", Poll},
    {SYS_ppoll, "ppoll", PPoll},
    {SYS_select, "select", Select},
    {SYS_pselect6, "pselect6", PSelect6},
    {SYS_epoll_create, "epoll_create", EpollCreate},
    {SYS_epoll_create1, "epoll_create1", EpollCreate1},
    {SYS_epoll_ctl, "epoll_ctl", EpollCtl},
    {SYS_epoll_wait, "epoll_wait", EpollWait},
    {SYS_epoll_pwait, "epoll_pwait", EpollPWait},
    {SYS_epoll_pwait2, "epoll_pwait2", EpollPWait2},
};

}  // namespace

std::span<const SyscallEntry> PollCalls() { return kEntries; }

}  // namespace waxvm::linux_abi
