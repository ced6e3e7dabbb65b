// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_EPOLL_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_EPOLL_FILE_H_

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// An epoll instance: descriptors with the events that are waited for. A file that was closed
/// everywhere drops out by itself.
class EpollFile final : public OpenFile {
 public:
  explicit EpollFile(VfsContext& context) : OpenFile(O_RDWR), context_(context) {}

  // EPOLL_CTL_ADD, MOD and DEL. Each returns 0 or a negated errno.
  std::int64_t Add(int fd, const std::shared_ptr<OpenFile>& file, const epoll_event& event);
  std::int64_t Modify(int fd, const std::shared_ptr<OpenFile>& file, const epoll_event& event);
  std::int64_t Delete(int fd, const std::shared_ptr<OpenFile>& file);

  /// Takes up to `max_events` that are ready, and starts behind them next time.
  std::vector<epoll_event> Collect(std::size_t max_events);
  /// The host descriptors that a wait has to watch.
  std::vector<pollfd> HostDescriptors() const;

  std::int64_t Stat(struct stat& status) const override;
  short Poll() const override;

 private:
  struct Interest {
    std::weak_ptr<OpenFile> file;
    epoll_event event{};
    bool disabled = false;            ///< EPOLLONESHOT has fired
    std::uint32_t reported = 0;       ///< EPOLLET: what was ready last
    std::uint64_t reported_uses = 0;  ///< EPOLLET: OpenFile::Uses() then
  };

  static std::uint32_t Ready(const Interest& interest, const OpenFile& file);
  Interest* Find(int fd, const std::shared_ptr<OpenFile>& file);

  VfsContext& context_;
  std::map<int, Interest> interests_;
  MemoryCharge charge_;
  int next_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_EPOLL_FILE_H_
