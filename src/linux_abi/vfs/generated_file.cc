// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/generated_file.h"

#include <linux/magic.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "src/linux_abi/vfs/node_source.h"

namespace waxvm::linux_abi {

std::int64_t GeneratedFile::PRead(std::span<std::byte> to, std::uint64_t offset) {
  if (offset == 0) {
    ErrnoOr<std::string> text = node()->source->Text();
    if (!text.ok()) return text.result();
    if (!charge_.Resize(context().account, text->size())) return -ENOMEM;
    text_ = *std::move(text);
  }
  if (offset >= text_.size()) return 0;
  const std::size_t n = std::min<std::size_t>(to.size(), text_.size() - offset);
  std::ranges::copy(std::as_bytes(std::span(text_)).subspan(offset, n), to.begin());
  return static_cast<std::int64_t>(n);
}

std::int64_t GeneratedFile::PWrite(std::span<const std::byte> from, std::uint64_t) {
  const std::string_view text(reinterpret_cast<const char*>(from.data()), from.size());
  const std::int64_t result = node()->source->SetText(text);
  return result < 0 ? result : static_cast<std::int64_t>(from.size());
}

std::int64_t GeneratedFile::StatFs(struct statfs& status) const {
  status = {};
  status.f_type = PROC_SUPER_MAGIC;
  status.f_bsize = status.f_frsize = kPageBytes;
  status.f_namelen = 255;
  return 0;
}

}  // namespace waxvm::linux_abi
