// SPDX-License-Identifier: Apache-2.0
#include "src/root_image/erofs_reader.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/status.h"

namespace waxvm::root_image {
namespace {

static_assert(std::endian::native == std::endian::little, "EROFS is little-endian");

constexpr std::uint64_t kSuperOffset = 1024;
constexpr std::uint64_t kSuperBytes = 128;
constexpr std::uint32_t kMagic = 0xe0f5e1e2;
constexpr std::uint32_t kCompatChecksum = 0x1;
// Zero padding says something of compressed files only, name prefixes of extended attributes only.
constexpr std::uint32_t kKnownIncompat = 0x1 | 0x4 | 0x40;
constexpr std::uint64_t kSlotBytes = 32;
constexpr std::uint64_t kDirentBytes = 12;
constexpr std::uint32_t kHole = 0xffffffff;
// One file in more pieces than this is there to take memory.
constexpr std::size_t kMaxExtents = std::size_t{1} << 20;

enum Layout : unsigned { kFlatPlain = 0, kFlatInline = 2, kChunkBased = 4 };

absl::Status Damaged(std::uint64_t nid, std::string_view what) {
  return absl::DataLossError(absl::StrFormat("the EROFS image is damaged: inode %d %s", nid, what));
}

/// CRC-32C, as the superblock's checksum has it: without the last inversion.
std::uint32_t Crc32c(std::uint32_t crc, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return crc;
}

struct Inode {
  std::uint64_t nid = 0;
  unsigned layout = 0;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  std::uint32_t data = 0;  ///< the start block, the chunk format or the device number
  Node node;               ///< what of it goes into the tree, but for its contents
  std::uint64_t end = 0;   ///< of its metadata in the image
};

class Reader {
 public:
  Reader(std::span<const std::byte> image, TreeBuilder& tree) : image_(image), tree_(tree) {}

  absl::Status Run() {
    WAXVM_RETURN_IF_ERROR(ReadSuperblock());
    WAXVM_ASSIGN_OR_RETURN(Inode root, ReadInode(root_nid_));
    if (!S_ISDIR(root.mode)) return Damaged(root_nid_, "is the root, but no directory");
    WAXVM_RETURN_IF_ERROR(tree_.Add("/", std::move(root.node)));
    directories_.insert(root_nid_);
    pending_.push_back({root_nid_, tree_.root()});
    while (!pending_.empty()) {
      const Pending next = pending_.back();
      pending_.pop_back();
      WAXVM_RETURN_IF_ERROR(ReadDirectory(next));
    }
    return absl::OkStatus();
  }

 private:
  struct Pending {
    std::uint64_t nid;
    Node* directory;
  };

  /// The range, or nothing where the image does not hold all of it.
  std::optional<std::span<const std::byte>> Bytes(std::uint64_t offset, std::uint64_t count) const {
    if (offset > image_.size() || count > image_.size() - offset) return std::nullopt;
    return image_.subspan(offset, count);
  }
  template <typename T>
  static T Get(std::span<const std::byte> bytes, std::size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }

  absl::Status ReadSuperblock() {
    const auto super = Bytes(kSuperOffset, kSuperBytes);
    if (!super || Get<std::uint32_t>(*super, 0) != kMagic)
      return InvalidArgument("this is no EROFS image");
    const unsigned bits = Get<std::uint8_t>(*super, 12);
    if (bits < 9 || bits > 16)
      return absl::UnimplementedError(
          absl::StrFormat("an EROFS image with blocks of 2^%d bytes; 2^9 to 2^16 are read", bits));
    block_bits_ = bits;
    const std::uint32_t unknown = Get<std::uint32_t>(*super, 0x50) & ~kKnownIncompat;
    if (unknown != 0)
      return absl::UnimplementedError(
          absl::StrFormat("the EROFS image needs the features %#x (compression, or more than one "
                          "device), which are "
                          "not read; make it without -z and without --blobdev",
                          unknown));
    WAXVM_RETURN_IF_ERROR(CheckSuperblock(*super));
    root_nid_ = Get<std::uint16_t>(*super, 14);
    build_time_ = {
        .tv_sec = static_cast<time_t>(Get<std::uint64_t>(*super, 0x18)),
        .tv_nsec = std::min<std::uint32_t>(Get<std::uint32_t>(*super, 0x20), 999'999'999)};
    meta_offset_ = std::uint64_t{Get<std::uint32_t>(*super, 0x28)} << block_bits_;
    return absl::OkStatus();
  }

  absl::Status CheckSuperblock(std::span<const std::byte> super) const {
    if ((Get<std::uint32_t>(super, 8) & kCompatChecksum) == 0) return absl::OkStatus();
    const std::uint64_t block = std::uint64_t{1} << block_bits_;
    const std::uint64_t covered = block > kSuperOffset ? block - kSuperOffset : block;
    const auto all = Bytes(kSuperOffset, covered);
    if (!all) return absl::DataLossError("the EROFS image ends within its superblock");
    constexpr std::byte kNoChecksum[4] = {};
    std::uint32_t crc = Crc32c(~0u, all->first(4));
    crc = Crc32c(crc, kNoChecksum);
    crc = Crc32c(crc, all->subspan(8));
    const std::uint32_t expected = Get<std::uint32_t>(super, 4);
    if (crc == expected) return absl::OkStatus();
    return absl::DataLossError(absl::StrFormat(
        "the EROFS superblock's checksum is %#x, but %#x is expected", crc, expected));
  }

  absl::StatusOr<Inode> ReadInode(std::uint64_t nid) const {
    const auto slot = CheckedMultiply<std::uint64_t>(nid, kSlotBytes);
    const auto offset = slot ? CheckedAdd(*slot, meta_offset_) : std::nullopt;
    const auto compact = offset ? Bytes(*offset, 32) : std::nullopt;
    if (!compact) return Damaged(nid, "lies outside of it");
    Inode inode;
    inode.nid = nid;
    const unsigned format = Get<std::uint16_t>(*compact, 0);
    inode.layout = (format >> 1) & 7;
    inode.mode = Get<std::uint16_t>(*compact, 4);
    inode.data = Get<std::uint32_t>(*compact, 0x10);
    inode.node.permissions = inode.mode & 07777;
    std::uint64_t bytes = 32;
    if ((format & 1) == 0) {
      inode.size = Get<std::uint32_t>(*compact, 8);
      inode.node.owner = Get<std::uint16_t>(*compact, 0x18);
      inode.node.group = Get<std::uint16_t>(*compact, 0x1a);
      inode.node.modified = build_time_;
    } else {
      bytes = 64;
      const auto extended = Bytes(*offset, bytes);
      if (!extended) return Damaged(nid, "lies outside of it");
      inode.size = Get<std::uint64_t>(*extended, 8);
      inode.node.owner = Get<std::uint32_t>(*extended, 0x18);
      inode.node.group = Get<std::uint32_t>(*extended, 0x1c);
      inode.node.modified = {
          .tv_sec = static_cast<time_t>(Get<std::uint64_t>(*extended, 0x20)),
          .tv_nsec = std::min<std::uint32_t>(Get<std::uint32_t>(*extended, 0x28), 999'999'999)};
    }
    const std::uint64_t attributes = Get<std::uint16_t>(*compact, 2);
    inode.end = *offset + bytes + (attributes == 0 ? 0 : 12 + 4 * (attributes - 1));
    if (inode.size > kMaxContentBytes)
      return Damaged(nid, absl::StrFormat("has a size of %d bytes", inode.size));
    return inode;
  }

  absl::StatusOr<Contents> ReadContents(const Inode& inode) {
    switch (inode.layout) {
      case kFlatPlain:
        return ReadFlat(inode, inode.size);
      case kFlatInline: {
        const std::uint64_t block = std::uint64_t{1} << block_bits_;
        const std::uint64_t tail =
            inode.size == 0 ? 0
                            : (inode.size - 1) / block * block;  // what the last block starts at
        return ReadFlat(inode, tail);
      }
      case kChunkBased:
        return ReadChunks(inode);
      default:
        return absl::UnimplementedError(absl::StrFormat(
            "inode %d of the EROFS image is stored in layout %d (compressed), which is not read; "
            "make the image without -z",
            inode.nid, inode.layout));
    }
  }

  /// `flat` bytes lie in consecutive blocks, the rest behind the inode.
  absl::StatusOr<Contents> ReadFlat(const Inode& inode, std::uint64_t flat) const {
    Contents contents;
    contents.set_size(inode.size);
    if (flat != 0) {
      const auto bytes = Bytes(std::uint64_t{inode.data} << block_bits_, flat);
      if (!bytes) return Damaged(inode.nid, "has data outside of it");
      contents.Append(0, *bytes);
    }
    if (flat < inode.size) {
      const std::uint64_t rest = inode.size - flat;
      const auto bytes = Bytes(inode.end, rest);
      if (!bytes || inode.end >> block_bits_ != (inode.end + rest - 1) >> block_bits_)
        return Damaged(inode.nid, "has inline data that leave their block");
      contents.Append(flat, *bytes);
    }
    return contents;
  }

  absl::StatusOr<Contents> ReadChunks(const Inode& inode) {
    constexpr unsigned kBitsMask = 0x1f;
    constexpr unsigned kIndexes = 0x20;
    const unsigned format = inode.data & 0xffff;
    if ((format & ~(kBitsMask | kIndexes)) != 0)
      return absl::UnimplementedError(
          absl::StrFormat("inode %d of the EROFS image has the chunk format %#x, which is not read",
                          inode.nid, format));
    const unsigned bits = block_bits_ + (format & kBitsMask);
    const std::uint64_t unit = (format & kIndexes) != 0 ? 8 : 4;
    const std::uint64_t chunk = std::uint64_t{1} << bits;
    const std::uint64_t count = (inode.size + chunk - 1) >> bits;
    const auto map = Bytes((inode.end + unit - 1) / unit * unit,
                           count > image_.size() ? image_.size() + 1 : count * unit);
    if (!map) return Damaged(inode.nid, "has a chunk map that leaves it");
    // Many small inodes can share one long map.
    WAXVM_RETURN_IF_ERROR(tree_.Spend(count));
    Contents contents;
    contents.set_size(inode.size);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::size_t at = i * unit;
      const std::uint32_t block = Get<std::uint32_t>(*map, at + unit - 4);
      if (unit == 8 && Get<std::uint16_t>(*map, at + 2) != 0)
        return absl::UnimplementedError("an EROFS image with more than one device");
      if (block == kHole) continue;
      const std::uint64_t offset = i << bits;
      const auto bytes =
          Bytes(std::uint64_t{block} << block_bits_, std::min(chunk, inode.size - offset));
      if (!bytes) return Damaged(inode.nid, "has data outside of it");
      contents.Append(offset, *bytes);
      if (contents.extent_count() > kMaxExtents)
        return absl::ResourceExhaustedError(absl::StrFormat(
            "inode %d of the EROFS image has more than %d extents", inode.nid, kMaxExtents));
    }
    WAXVM_RETURN_IF_ERROR(CountExtents(contents.extent_count()));
    return contents;
  }

  /// An extent takes memory like a small part of a node.
  absl::Status CountExtents(std::size_t count) { return tree_.Spend(8 * count); }

  absl::Status ReadDirectory(const Pending& directory) {
    WAXVM_ASSIGN_OR_RETURN(const Inode inode, ReadInode(directory.nid));
    WAXVM_ASSIGN_OR_RETURN(const Contents contents, ReadContents(inode));
    std::vector<std::byte> block(std::size_t{1} << block_bits_);
    for (std::uint64_t offset = 0; offset < inode.size; offset += block.size()) {
      const std::size_t n = contents.Read(offset, block);
      WAXVM_RETURN_IF_ERROR(tree_.Spend(1 + n / kDirentBytes));
      WAXVM_RETURN_IF_ERROR(ReadDirectoryBlock(directory, std::span(block).first(n)));
    }
    return absl::OkStatus();
  }

  absl::Status ReadDirectoryBlock(const Pending& directory, std::span<const std::byte> block) {
    if (block.size() < kDirentBytes) return Damaged(directory.nid, "has a directory cut short");
    const std::size_t names = Get<std::uint16_t>(block, 8);
    if (names < kDirentBytes || names % kDirentBytes != 0 || names > block.size())
      return Damaged(directory.nid, "has a directory whose names start at a wrong offset");
    std::size_t begin = names;
    for (std::size_t at = 0; at < names; at += kDirentBytes) {
      const bool last = at + kDirentBytes == names;
      const std::size_t end =
          last ? block.size() : std::size_t{Get<std::uint16_t>(block, at + kDirentBytes + 8)};
      if (end < begin || end > block.size())
        return Damaged(directory.nid, "has a directory whose names are out of order");
      std::string_view name(reinterpret_cast<const char*>(block.data()) + begin, end - begin);
      if (last) name = name.substr(0, name.find('\0'));
      begin = end;
      if (name == "." || name == "..") continue;
      WAXVM_RETURN_IF_ERROR(CheckName(name));
      WAXVM_RETURN_IF_ERROR(AddEntry(directory, name, Get<std::uint64_t>(block, at)));
    }
    return absl::OkStatus();
  }

  absl::Status AddEntry(const Pending& directory, std::string_view name, std::uint64_t nid) {
    if (const auto found = files_.find(nid); found != files_.end())
      return tree_.AddChildLink(*directory.directory, name, found->second);
    WAXVM_ASSIGN_OR_RETURN(Inode inode, ReadInode(nid));
    switch (inode.mode & S_IFMT) {
      case S_IFDIR: {
        // A directory that is in two places could lie within itself: a tree without end.
        if (!directories_.insert(nid).second) return Damaged(nid, "is a directory with two places");
        WAXVM_ASSIGN_OR_RETURN(Node * node,
                               tree_.AddChild(*directory.directory, name, std::move(inode.node)));
        pending_.push_back({nid, node});
        return absl::OkStatus();
      }
      case S_IFREG: {
        inode.node.kind = Node::Kind::kFile;
        WAXVM_ASSIGN_OR_RETURN(inode.node.contents, ReadContents(inode));
        break;
      }
      case S_IFLNK: {
        WAXVM_RETURN_IF_ERROR(ReadTarget(inode));
        break;
      }
      case S_IFCHR:
        if (inode.data == 0) {  // overlayfs's whiteout
          inode.node.kind = Node::Kind::kWhiteout;
          return tree_.AddChild(*directory.directory, name, std::move(inode.node)).status();
        }
        [[fallthrough]];
      case S_IFBLK:
      case S_IFIFO:
      case S_IFSOCK:
        tree_.LeaveOut();
        return absl::OkStatus();
      default:
        return Damaged(nid, absl::StrFormat("has the mode 0%o", inode.mode));
    }
    WAXVM_ASSIGN_OR_RETURN(Node * node,
                           tree_.AddChild(*directory.directory, name, std::move(inode.node)));
    files_.emplace(nid, node);
    return absl::OkStatus();
  }

  absl::Status ReadTarget(Inode& inode) {
    if (inode.size == 0 || inode.size > kMaxPathBytes)
      return Damaged(inode.nid, absl::StrFormat("is a symbolic link of %d bytes", inode.size));
    WAXVM_ASSIGN_OR_RETURN(const Contents contents, ReadContents(inode));
    inode.node.kind = Node::Kind::kLink;
    inode.node.target.resize(inode.size);
    contents.Read(0, std::as_writable_bytes(std::span(inode.node.target)));
    if (inode.node.target.find('\0') != std::string::npos)
      return Damaged(inode.nid, "is a symbolic link with a zero byte");
    return absl::OkStatus();
  }

  std::span<const std::byte> image_;
  TreeBuilder& tree_;
  unsigned block_bits_ = 12;
  std::uint64_t root_nid_ = 0;
  std::uint64_t meta_offset_ = 0;
  timespec build_time_{};
  std::vector<Pending> pending_;
  std::unordered_set<std::uint64_t> directories_;
  std::unordered_map<std::uint64_t, Node*> files_;
};

}  // namespace

absl::Status ReadErofs(std::span<const std::byte> image, TreeBuilder& tree) {
  return Reader(image, tree).Run();
}

}  // namespace waxvm::root_image
