// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_EPOLL_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_EPOLL_FILE_H_

#include <sys/epoll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// An epoll instance: descriptors with the events that are waited for. A file that was closed
/// everywhere drops out by itself. Instances may watch each other, in chains of kMaxChain.
class EpollFile final : public AnonymousFile {
 public:
  static constexpr int kMaxChain = 5;

  explicit EpollFile(VfsContext& context) : AnonymousFile(O_RDWR), context_(context) {}

  // EPOLL_CTL_ADD, MOD and DEL. Each returns 0 or a negated errno.
  std::int64_t Add(int fd, const std::shared_ptr<OpenFile>& file, const epoll_event& event);
  std::int64_t Modify(int fd, const std::shared_ptr<OpenFile>& file, const epoll_event& event);
  std::int64_t Delete(int fd, const std::shared_ptr<OpenFile>& file);

  /// Takes up to `max_events` that are ready, and starts behind them next time.
  std::vector<epoll_event> Collect(std::size_t max_events);

  std::int64_t Stat(struct stat& status) const override;
  /// POLLIN when Collect would return something; takes nothing.
  short Poll() const override;
  short bands() const override { return POLLRDNORM; }
  bool can_read() const override { return false; }
  bool can_write() const override { return false; }
  std::int64_t Available() const override { return -EINVAL; }
  Edges edges() const override;
  void AddHostDescriptors(std::vector<pollfd>& to) const override;
  std::optional<std::chrono::nanoseconds> ReadyAt() const override;

  /// While one lives, an instance is looked at only once, however many ways lead to it: a guest
  /// could otherwise make a lattice of instances with more ways through it than the host has time
  /// for.
  class Round {
   public:
    explicit Round(VfsContext& context) : context_(context) {
      if (context_.epoll_depth++ == 0) ++context_.epoll_round;
    }
    ~Round() { --context_.epoll_depth; }
    Round(const Round&) = delete;
    Round& operator=(const Round&) = delete;

   private:
    VfsContext& context_;
  };

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  using Key = std::pair<int, const OpenFile*>;
  struct Interest {
    std::weak_ptr<OpenFile> file;
    epoll_event event{};
    bool disabled = false;       ///< EPOLLONESHOT has fired
    std::uint32_t reported = 0;  ///< EPOLLET: what was ready last
    Edges reported_edges = {};   ///< EPOLLET: OpenFile::edges() then
  };
  /// The answer of this round.
  template <typename T>
  struct Memo {
    std::uint64_t round = 0;
    T value{};
  };
  using Chains = std::map<const EpollFile*, int>;

  static std::uint32_t Ready(const Interest& interest, const OpenFile& file);
  Interest* Find(int fd, const std::shared_ptr<OpenFile>& file);
  /// False when `memo` has the answer of this round already.
  template <typename T>
  bool Begin(Memo<T>& memo) const;
  template <typename Visit>
  void ForEachFile(Visit visit) const;
  std::int64_t CheckChains(const std::shared_ptr<EpollFile>& watched);
  int ChainBelow(Chains& known) const;
  int ChainAbove(Chains& known) const;
  /// Add for what a snapshot had. False when memory is refused.
  bool AddKept(int fd, const std::shared_ptr<OpenFile>& file, const epoll_event& event,
               bool disabled, std::uint32_t reported, const Edges& reported_edges);

  VfsContext& context_;
  std::map<Key, Interest> interests_;
  std::vector<std::weak_ptr<const EpollFile>> watchers_;  ///< instances that watch this one
  MemoryCharge charge_;
  Key next_{};
  mutable Memo<short> poll_;
  mutable Memo<Edges> edges_;
  mutable Memo<std::optional<std::chrono::nanoseconds>> ready_at_;
  mutable Memo<bool> listed_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_EPOLL_FILE_H_
