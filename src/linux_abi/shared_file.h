// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_SHARED_FILE_H_
#define WAXVM_SRC_LINUX_ABI_SHARED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "src/base/memory_account.h"
#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/mapped_source.h"

namespace waxvm::linux_abi {

/// The pages of one file that shared mappings have touched: one frame for each, however often it
/// is mapped, so that all mappings agree. A page is mapped read-only until the guest first writes
/// to it; it is dirty from then until WriteBack, before which whoever maps it takes that right
/// back. A page that was never written is therefore never written back over what somebody else
/// put into the file. Thread safety: none; used by the instance's thread.
class SharedFile {
 public:
  struct Page {
    PageMapper::SharedFrame frame = 0;
    bool dirty = false;
  };
  using Pages = std::map<std::uint64_t, Page>;

  /// `mapper` and `account` outlive this object.
  SharedFile(PageMapper& mapper, MemoryAccount& account, std::shared_ptr<MappedSource> source)
      : mapper_(mapper), account_(account), source_(std::move(source)) {}
  /// Frees the frames, which nothing may map any more. Does not write back.
  ~SharedFile();
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  MappedSource& source() { return *source_; }
  /// Takes a source that can be written where the one so far may not be.
  void set_source(std::shared_ptr<MappedSource> source) { source_ = std::move(source); }

  /// The page with that index, read from the file when it is first wanted. Errors: ENOMEM, or what
  /// reading the file gave.
  ErrnoOr<Page*> Get(std::uint64_t index);
  void MarkDirty(Page& page) {
    has_dirty_ = true;
    page.dirty = true;
  }
  bool has_dirty() const { return has_dirty_; }
  const Pages& pages() const { return pages_; }
  /// Takes over frames that are there already. False when memory is refused; they stay then.
  bool Load(const Pages& pages);

  /// Writes the dirty pages into the file, as far as it reaches. Returns 0 or the first errno; what
  /// could not be written stays dirty.
  std::int64_t WriteBack();
  /// The bytes [start, end) of the file, which now has `size`, were changed: reads what is not
  /// dirty of them again. Pages behind the end must be mapped nowhere and are dropped.
  void Reload(std::uint64_t size, std::uint64_t start, std::uint64_t end);

 private:
  std::int64_t Load(std::uint64_t index, PageMapper::SharedFrame frame);

  PageMapper& mapper_;
  MemoryAccount& account_;
  MemoryCharge charge_;  ///< the bookkeeping; frames are charged by the mapper
  std::shared_ptr<MappedSource> source_;
  Pages pages_;
  bool has_dirty_ = false;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SHARED_FILE_H_
