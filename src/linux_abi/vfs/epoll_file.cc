// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/epoll_file.h"

#include <cerrno>
#include <iterator>

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kChargePerInterest = 160;
constexpr std::uint32_t kModes = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;

// The EPOLL* and POLL* bits have the same values.
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
              EPOLLHUP == POLLHUP && EPOLLPRI == POLLPRI);

}  // namespace

EpollFile::Interest* EpollFile::Find(int fd, const std::shared_ptr<OpenFile>& file) {
  const auto found = interests_.find(fd);
  // Another file may have got the number of one that was closed.
  return found != interests_.end() && found->second.file.lock() == file ? &found->second : nullptr;
}

std::int64_t EpollFile::Add(int fd, const std::shared_ptr<OpenFile>& file,
                            const epoll_event& event) {
  if (Find(fd, file) != nullptr) return -EEXIST;
  // Instances within instances could wait for each other in a circle.
  if (dynamic_cast<const EpollFile*>(file.get()) != nullptr) return -EINVAL;
  if (!charge_.Resize(context_.account, (interests_.size() + 1) * kChargePerInterest)) {
    return -ENOMEM;
  }
  interests_.insert_or_assign(fd, Interest{.file = file, .event = event});
  return 0;
}

std::int64_t EpollFile::Modify(int fd, const std::shared_ptr<OpenFile>& file,
                               const epoll_event& event) {
  Interest* interest = Find(fd, file);
  if (interest == nullptr) return -ENOENT;
  *interest = Interest{.file = file, .event = event};
  return 0;
}

std::int64_t EpollFile::Delete(int fd, const std::shared_ptr<OpenFile>& file) {
  if (Find(fd, file) == nullptr) return -ENOENT;
  interests_.erase(fd);
  static_cast<void>(charge_.Resize(context_.account, interests_.size() * kChargePerInterest));
  return 0;
}

std::uint32_t EpollFile::Ready(const Interest& interest, const OpenFile& file) {
  if (interest.disabled) return 0;
  std::uint32_t ready = static_cast<std::uint16_t>(file.Poll());
  if ((ready & EPOLLIN) != 0) ready |= EPOLLRDNORM;
  if ((ready & EPOLLOUT) != 0) ready |= EPOLLWRNORM;
  const std::uint32_t wanted = (interest.event.events & ~kModes) | EPOLLERR | EPOLLHUP;
  ready &= wanted;
  if ((interest.event.events & EPOLLET) != 0 && interest.reported_uses == file.Uses() &&
      (ready & ~interest.reported) == 0) {
    return 0;
  }
  return ready;
}

std::vector<epoll_event> EpollFile::Collect(std::size_t max_events) {
  std::vector<epoll_event> events;
  auto at = interests_.lower_bound(next_);
  for (std::size_t left = interests_.size(); left > 0 && events.size() < max_events; --left) {
    if (at == interests_.end()) at = interests_.begin();
    Interest& interest = at->second;
    const std::shared_ptr<OpenFile> file = interest.file.lock();
    if (file == nullptr) {
      at = interests_.erase(at);
      continue;
    }
    if (const std::uint32_t ready = Ready(interest, *file); ready != 0) {
      epoll_event event = interest.event;
      event.events = ready;
      events.push_back(event);
      interest.disabled = (interest.event.events & EPOLLONESHOT) != 0;
      interest.reported = ready;
      interest.reported_uses = file->Uses();
    }
    next_ = at->first + 1;
    ++at;
  }
  return events;
}

std::vector<pollfd> EpollFile::HostDescriptors() const {
  std::vector<pollfd> descriptors;
  for (const auto& [fd, interest] : interests_) {
    const std::shared_ptr<OpenFile> file = interest.file.lock();
    if (file == nullptr || file->HostDescriptor() < 0 || interest.disabled) continue;
    if ((interest.event.events & EPOLLIN) == 0) continue;
    descriptors.push_back({.fd = file->HostDescriptor(), .events = POLLIN, .revents = 0});
  }
  return descriptors;
}

std::int64_t EpollFile::Stat(struct stat& status) const {
  status = {};
  status.st_mode = 0600;
  status.st_nlink = 1;
  return 0;
}

short EpollFile::Poll() const {
  for (const auto& [fd, interest] : interests_) {
    const std::shared_ptr<OpenFile> file = interest.file.lock();
    if (file != nullptr && Ready(interest, *file) != 0) return POLLIN;
  }
  return 0;
}

}  // namespace waxvm::linux_abi
