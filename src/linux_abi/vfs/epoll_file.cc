// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/epoll_file.h"

#include <algorithm>
#include <cerrno>

#include "src/linux_abi/vfs/pipe.h"

namespace waxvm::linux_abi {
namespace {

// With what a watched instance remembers of who watches it.
constexpr std::uint64_t kChargePerInterest = 192;
constexpr std::uint32_t kModes = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;
constexpr std::uint32_t kWithExclusive =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
constexpr std::uint32_t kEnds = EPOLLERR | EPOLLHUP;

// The EPOLL* and POLL* bits have the same values.
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
              EPOLLHUP == POLLHUP && EPOLLPRI == POLLPRI && EPOLLRDHUP == POLLRDHUP);

}  // namespace

EpollFile::Interest* EpollFile::Find(int fd, const std::shared_ptr<OpenFile>& file) {
  const auto found = interests_.find({fd, file.get()});
  // Another file may have got the place of one that is gone.
  return found != interests_.end() && found->second.file.lock() == file ? &found->second : nullptr;
}

template <typename T>
bool EpollFile::Begin(Memo<T>& memo) const {
  if (memo.round == context_.epoll_round) return false;
  memo = {.round = context_.epoll_round, .value = {}};
  return true;
}

template <typename Visit>
void EpollFile::ForEachFile(Visit visit) const {
  for (const auto& [key, interest] : interests_) {
    if (const std::shared_ptr<OpenFile> file = interest.file.lock()) visit(interest, *file);
  }
}

int EpollFile::ChainBelow(Chains& known) const {
  const auto found = known.find(this);
  if (found != known.end()) return found->second;
  int longest = 0;
  ForEachFile([&](const Interest&, const OpenFile& file) {
    if (const auto* watched = dynamic_cast<const EpollFile*>(&file)) {
      longest = std::max(longest, watched->ChainBelow(known));
    }
  });
  return known[this] = longest + 1;
}

int EpollFile::ChainAbove(Chains& known) const {
  const auto found = known.find(this);
  if (found != known.end()) return found->second;
  int longest = 0;
  for (const std::weak_ptr<const EpollFile>& watcher : watchers_) {
    const std::shared_ptr<const EpollFile> above = watcher.lock();
    if (above != nullptr) longest = std::max(longest, above->ChainAbove(known));
  }
  return known[this] = longest + 1;
}

// No circle, and no chain so long that looking along it would exhaust the host's stack.
std::int64_t EpollFile::CheckChains(const std::shared_ptr<EpollFile>& watched) {
  Chains below;
  Chains above;
  const int length = watched->ChainBelow(below) + ChainAbove(above);
  return below.contains(this) || length > kMaxChain ? -ELOOP : 0;
}

std::int64_t EpollFile::Add(int fd, const std::shared_ptr<OpenFile>& file,
                            const epoll_event& event) {
  const bool exclusive = (event.events & EPOLLEXCLUSIVE) != 0;
  const auto watched = std::dynamic_pointer_cast<EpollFile>(file);
  if (exclusive && ((event.events & ~kWithExclusive) != 0 || watched != nullptr)) return -EINVAL;
  if (Find(fd, file) != nullptr) return -EEXIST;
  if (watched != nullptr) {
    const std::int64_t checked = CheckChains(watched);
    if (checked < 0) return checked;
  }
  if (!charge_.Resize(context_.account, (interests_.size() + 1) * kChargePerInterest)) {
    return -ENOMEM;
  }
  interests_.insert_or_assign({fd, file.get()}, Interest{.file = file, .event = event});
  if (watched != nullptr) {
    std::erase_if(watched->watchers_, [](const auto& watcher) { return watcher.expired(); });
    watched->watchers_.push_back(std::static_pointer_cast<const EpollFile>(shared_from_this()));
  }
  return 0;
}

bool EpollFile::AddKept(int fd, const std::shared_ptr<OpenFile>& file, const epoll_event& event,
                        bool disabled, std::uint32_t reported, const Edges& reported_edges) {
  if (Add(fd, file, event) < 0) return false;
  Interest& interest = interests_.at({fd, file.get()});
  interest.disabled = disabled;
  interest.reported = reported;
  interest.reported_edges = reported_edges;
  return true;
}

std::int64_t EpollFile::Modify(int fd, const std::shared_ptr<OpenFile>& file,
                               const epoll_event& event) {
  Interest* interest = Find(fd, file);
  if (interest == nullptr) return -ENOENT;
  if (((event.events | interest->event.events) & EPOLLEXCLUSIVE) != 0) return -EINVAL;
  *interest = Interest{.file = file, .event = event};
  return 0;
}

std::int64_t EpollFile::Delete(int fd, const std::shared_ptr<OpenFile>& file) {
  if (Find(fd, file) == nullptr) return -ENOENT;
  interests_.erase({fd, file.get()});
  static_cast<void>(charge_.Resize(context_.account, interests_.size() * kChargePerInterest));
  if (const auto watched = std::dynamic_pointer_cast<EpollFile>(file)) {
    const auto self = std::ranges::find_if(
        watched->watchers_, [this](const auto& watcher) { return watcher.lock().get() == this; });
    if (self != watched->watchers_.end()) watched->watchers_.erase(self);
  }
  return 0;
}

std::uint32_t EpollFile::Ready(const Interest& interest, const OpenFile& file) {
  if (interest.disabled) return 0;
  std::uint32_t ready = static_cast<std::uint16_t>(file.PollWithBands());
  ready &= (interest.event.events & ~kModes) | kEnds;
  if (ready == 0 || (interest.event.events & EPOLLET) == 0) return ready;
  std::uint32_t fresh = ready & ~interest.reported;
  if (fresh != 0) return ready;
  const Edges edges = file.edges();
  constexpr std::uint32_t kOut = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  if (edges.in != interest.reported_edges.in) fresh |= ready & ~kOut;
  if (edges.out != interest.reported_edges.out) fresh |= ready & (kOut | kEnds);
  return fresh != 0 ? ready : 0;
}

std::vector<epoll_event> EpollFile::Collect(std::size_t max_events) {
  const Round round(context_);
  std::vector<epoll_event> events;
  auto at = interests_.upper_bound(next_);
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
      interest.reported_edges = file->edges();
    }
    next_ = at->first;
    ++at;
  }
  return events;
}

std::int64_t EpollFile::Stat(struct stat& status) const {
  StatUnnamed(1, 0600, status);
  return 0;
}

short EpollFile::Poll() const {
  const Round round(context_);
  if (!Begin(poll_)) return poll_.value;
  for (const auto& [key, interest] : interests_) {
    const std::shared_ptr<OpenFile> file = interest.file.lock();
    if (file == nullptr || Ready(interest, *file) == 0) continue;
    poll_.value = POLLIN;
    break;
  }
  return poll_.value;
}

Edges EpollFile::edges() const {
  const Round round(context_);
  if (!Begin(edges_)) return edges_.value;
  Edges sum;
  ForEachFile([&sum](const Interest&, const OpenFile& file) {
    const Edges edges = file.edges();
    sum.in += edges.in + edges.out;
  });
  return edges_.value = sum;
}

void EpollFile::AddHostDescriptors(std::vector<pollfd>& to) const {
  const Round round(context_);
  if (!Begin(listed_)) return;
  ForEachFile([&to](const Interest& interest, const OpenFile& file) {
    if (interest.disabled) return;
    // What is ready and has been reported would end every wait at once, for nothing.
    if (file.Poll() == 0 || Ready(interest, file) != 0) file.AddHostDescriptors(to);
  });
}

std::optional<std::chrono::nanoseconds> EpollFile::ReadyAt() const {
  const Round round(context_);
  if (!Begin(ready_at_)) return ready_at_.value;
  std::optional<std::chrono::nanoseconds> first;
  ForEachFile([&first](const Interest& interest, const OpenFile& file) {
    if (interest.disabled || (interest.event.events & EPOLLIN) == 0) return;
    const std::optional<std::chrono::nanoseconds> at = file.ReadyAt();
    if (at && (!first || *at < *first)) first = at;
  });
  return ready_at_.value = first;
}

}  // namespace waxvm::linux_abi
