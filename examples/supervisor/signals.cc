// SPDX-License-Identifier: Apache-2.0
#include "signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace waxvm::cli {
namespace {

// What a signal handler can reach: this is a command, not the library.
std::atomic<int> received_signal = 0;
std::atomic<int> wake_fd = -1;
static_assert(std::atomic<int>::is_always_lock_free);

void OnStopSignal(int number) {
  const int saved_errno = errno;
  int none = 0;
  if (!received_signal.compare_exchange_strong(none, number)) _exit(128 + number);
  const char byte = 0;
  while (write(wake_fd, &byte, 1) < 0 && errno == EINTR) {
  }
  errno = saved_errno;
}

void IgnorePipe(int) {}

void Handle(int number, void (*handler)(int)) {
  struct sigaction current = {};
  sigaction(number, nullptr, &current);
  if (current.sa_handler == SIG_IGN && number != SIGPIPE) return;  // as under nohup
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, nullptr);
}

}  // namespace

StopOnSignal::StopOnSignal() {
  if (pipe2(pipe_, O_CLOEXEC) != 0) return;  // then signals keep their default: the command dies
  wake_fd = pipe_[1];
  watcher_ = std::thread([this] {
    char byte = 0;
    ssize_t bytes = 0;
    while ((bytes = read(pipe_[0], &byte, 1)) < 0 && errno == EINTR) {
    }
    if (bytes == 1) source_.request_stop();
  });
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) Handle(number, OnStopSignal);
  // A handler, where SIG_IGN would be inherited by a program under the process provider.
  Handle(SIGPIPE, IgnorePipe);
}

StopOnSignal::~StopOnSignal() {
  int none = 0;
  received_signal.compare_exchange_strong(none, SIGTERM);  // from now on a signal ends the command
  if (pipe_[1] >= 0) close(pipe_[1]);
  if (watcher_.joinable()) watcher_.join();
  if (pipe_[0] >= 0) close(pipe_[0]);
}

int StopOnSignal::signal() const { return received_signal; }

}  // namespace waxvm::cli
