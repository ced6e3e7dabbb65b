// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/fd_table.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "src/linux_abi/vfs/stream_file.h"
#include "waxvm/access.h"

namespace waxvm::linux_abi {
namespace {

// An open file description with its buffers, and the descriptor the host may hold for it.
constexpr std::uint64_t kChargePerFile = 512;

std::uint64_t EffectiveLimit(const InstanceSpec& spec) {
  const std::uint64_t asked = spec.limits.open_files.value_or(FdTable::kDefaultLimit);
  return std::min<std::uint64_t>(asked, std::numeric_limits<int>::max());
}

}  // namespace

FdTable::FdTable(const InstanceSpec& spec, MemoryAccount& account, Host& host,
                 std::function<void()> on_output_limit)
    : account_(account), gate_(*spec.gate), limit_(EffectiveLimit(spec)), slots_(3) {
  slots_[0].file = std::make_shared<InputFile>(spec.input_fd);
  slots_[1].file = std::make_shared<OutputFile>(host, Stream::kOutput, on_output_limit);
  slots_[2].file = std::make_shared<OutputFile>(host, Stream::kError, std::move(on_output_limit));
  for (std::size_t i = 0; i < streams_.size(); ++i) streams_[i] = slots_[i].file;
}

std::optional<int> FdTable::StreamOf(const OpenFile* file) const {
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (streams_[i].get() == file) return static_cast<int>(i);
  return std::nullopt;
}

OpenFile* FdTable::Get(std::uint64_t fd) const {
  // The kernel takes descriptors as 32-bit numbers and ignores the rest of the register.
  const auto index = static_cast<std::uint32_t>(fd);
  return index < slots_.size() ? slots_[index].file.get() : nullptr;
}

std::shared_ptr<OpenFile> FdTable::Share(std::uint64_t fd) const {
  const auto index = static_cast<std::uint32_t>(fd);
  return index < slots_.size() ? slots_[index].file : nullptr;
}

std::int64_t FdTable::Put(std::uint64_t fd, std::shared_ptr<OpenFile> file, bool close_on_exec) {
  if (fd >= slots_.size()) {
    // A dup2 to the highest descriptor makes the table as long: that is the guest's memory too.
    const std::uint64_t grown = std::max<std::uint64_t>(fd + 1, slots_.size() * 2);
    const std::uint64_t slots = std::min(grown, std::max(limit_, fd + 1));
    if (!slots_charge_.Resize(account_, slots * sizeof(Slot))) return -ENOMEM;
    slots_.resize(slots);
  }
  Slot& slot = slots_[fd];
  if (!slot.charge.Resize(account_, kChargePerFile)) return -ENOMEM;
  // The replaced file is destroyed last, when the table is whole again.
  const std::shared_ptr<OpenFile> replaced = std::exchange(slot.file, std::move(file));
  slot.close_on_exec = close_on_exec;
  return static_cast<std::int64_t>(fd);
}

std::int64_t FdTable::Add(std::shared_ptr<OpenFile> file, bool close_on_exec,
                          std::uint64_t minimum) {
  if (minimum > 0 && minimum >= limit_) return -EINVAL;
  const std::int64_t fd = FindFree(minimum);
  return fd < 0 ? fd : Put(static_cast<std::uint64_t>(fd), std::move(file), close_on_exec);
}

std::int64_t FdTable::CheckRoom() const { return std::min<std::int64_t>(FindFree(0), 0); }

std::int64_t FdTable::FindFree(std::uint64_t minimum) const {
  std::uint64_t fd = minimum;
  while (fd < slots_.size() && slots_[fd].file != nullptr) ++fd;
  if (fd < limit_) return static_cast<std::int64_t>(fd);
  gate_.RecordDenial({.resource = Resource::kLimit, .name = LimitName(LimitKind::kOpenFiles)});
  return -EMFILE;
}

std::int64_t FdTable::Replace(std::uint64_t fd, std::shared_ptr<OpenFile> file,
                              bool close_on_exec) {
  if (fd >= limit_) {
    gate_.RecordDenial({.resource = Resource::kLimit, .name = LimitName(LimitKind::kOpenFiles)});
    return -EBADF;
  }
  return Put(fd, std::move(file), close_on_exec);
}

std::int64_t FdTable::Close(std::uint64_t fd) {
  if (Get(fd) == nullptr) return -EBADF;
  Slot& slot = slots_[static_cast<std::uint32_t>(fd)];
  const std::shared_ptr<OpenFile> closed = std::move(slot.file);
  slot = Slot{};
  return 0;
}

void FdTable::CloseRange(std::uint64_t first, std::uint64_t last, bool only_mark) {
  const std::uint64_t end = std::min<std::uint64_t>(last + 1, slots_.size());
  for (std::uint64_t fd = first; fd < end; ++fd) {
    if (slots_[fd].file == nullptr) continue;
    if (only_mark) {
      slots_[fd].close_on_exec = true;
    } else {
      static_cast<void>(Close(fd));
    }
  }
}

}  // namespace waxvm::linux_abi
