// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/signal_file.h"

#include <sys/signalfd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/pipe.h"

namespace waxvm::linux_abi {
namespace {

signalfd_siginfo RecordOf(const siginfo_t& info) {
  signalfd_siginfo record{};
  record.ssi_signo = static_cast<std::uint32_t>(info.si_signo);
  record.ssi_errno = info.si_errno;
  record.ssi_code = info.si_code;
  const auto put_value = [&] {
    record.ssi_int = info.si_value.sival_int;
    std::memcpy(&record.ssi_ptr, &info.si_value, sizeof record.ssi_ptr);
  };
  if (info.si_code == SI_TIMER) {
    record.ssi_tid = static_cast<std::uint32_t>(info.si_timerid);
    record.ssi_overrun = static_cast<std::uint32_t>(info.si_overrun);
    put_value();
  } else if ((SignalBit(info.si_signo) & kSynchronous) != 0 && info.si_code > 0) {
    record.ssi_addr = reinterpret_cast<std::uintptr_t>(info.si_addr);
  } else {
    record.ssi_pid = static_cast<std::uint32_t>(info.si_pid);
    record.ssi_uid = info.si_uid;
    if (info.si_code == SI_QUEUE || info.si_code < SI_TKILL) put_value();
  }
  return record;
}

}  // namespace

SignalFile::SignalFile(Process& process, SignalSet set, int flags)
    : AnonymousFile(O_RDWR | flags), process_(process) {
  set_signals(set);
}

std::int64_t SignalFile::Read(std::span<std::byte> to) {
  if (to.size() < sizeof(signalfd_siginfo)) return -EINVAL;
  std::size_t done = 0;
  while (to.size() - done >= sizeof(signalfd_siginfo)) {
    const std::optional<siginfo_t> info = TakeSignal(process_, process_.thread(), set_);
    if (!info) break;
    const signalfd_siginfo record = RecordOf(*info);
    std::memcpy(to.data() + done, &record, sizeof record);
    done += sizeof record;
  }
  return done != 0 ? static_cast<std::int64_t>(done) : -EAGAIN;
}

std::int64_t SignalFile::Stat(struct stat& status) const {
  StatUnnamed(1, 0600, status);
  return 0;
}

short SignalFile::Poll() const {
  const SignalSet pending = process_.thread().pending.set() | process_.signals().pending.set();
  return (pending & set_) != 0 ? POLLIN : 0;
}

Edges SignalFile::edges() const { return {.in = process_.signals().sent, .out = 0}; }

}  // namespace waxvm::linux_abi
