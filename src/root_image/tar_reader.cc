// SPDX-License-Identifier: Apache-2.0
#include "src/root_image/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "src/base/status.h"

namespace waxvm::root_image {
namespace {

constexpr std::size_t kBlock = 512;
// An extended header holds names and numbers; a huge one would only be there to take memory.
constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{1} << 20;

absl::Status Damaged(std::size_t offset, std::string_view what) {
  return absl::DataLossError(
      absl::StrFormat("the tar archive is damaged at byte %d: %s", offset, what));
}

/// A header block; offsets and lengths as in POSIX ustar.
class Header {
 public:
  explicit Header(std::span<const std::byte> block)
      : text_(reinterpret_cast<const char*>(block.data()), kBlock) {}

  bool IsZero() const { return text_.find_first_not_of('\0') == std::string_view::npos; }
  char type() const { return text_[156]; }
  std::string_view link() const { return Text(157, 100); }
  std::string path() const {
    std::string name(Text(0, 100));
    // GNU's variant of the magic has other things where ustar has the prefix.
    if (text_.substr(257, 6) == std::string_view("ustar\0", 6) && text_[345] != '\0')
      return std::string(Text(345, 155)) + "/" + name;
    return name;
  }
  std::optional<std::int64_t> mode() const { return Number(100, 8); }
  std::optional<std::int64_t> owner() const { return Number(108, 8); }
  std::optional<std::int64_t> group() const { return Number(116, 8); }
  std::optional<std::int64_t> size() const { return Number(124, 12); }
  std::optional<std::int64_t> modified() const { return Number(136, 12); }

  bool ChecksumHolds() const {
    const std::optional<std::int64_t> expected = Number(148, 8);
    std::int64_t unsigned_sum = 0;
    std::int64_t signed_sum = 0;  // as some old programs wrote it
    for (std::size_t i = 0; i < kBlock; ++i) {
      const char c = i >= 148 && i < 156 ? ' ' : text_[i];
      unsigned_sum += static_cast<unsigned char>(c);
      signed_sum += static_cast<signed char>(c);
    }
    return expected && (*expected == unsigned_sum || *expected == signed_sum);
  }

 private:
  std::string_view Text(std::size_t offset, std::size_t bytes) const {
    const std::string_view field = text_.substr(offset, bytes);
    return field.substr(0, field.find('\0'));
  }

  /// Octal digits, or GNU's base 256 where the first bit is set; an empty field is 0.
  std::optional<std::int64_t> Number(std::size_t offset, std::size_t bytes) const {
    std::string_view field = text_.substr(offset, bytes);
    if ((static_cast<unsigned char>(field[0]) & 0x80) != 0) return Base256(field);
    while (!field.empty() && (field.front() == ' ' || field.front() == '\0'))
      field.remove_prefix(1);
    std::int64_t value = 0;
    for (const char c : field) {
      if (c == ' ' || c == '\0') break;
      if (c < '0' || c > '7') return std::nullopt;
      value = value * 8 + (c - '0');  // at most 12 digits
    }
    return value;
  }

  static std::optional<std::int64_t> Base256(std::string_view field) {
    // Two's complement; the marking first bit counts as a copy of the second one, the sign.
    const auto first = static_cast<unsigned char>(field[0]);
    std::int64_t value =
        (first & 0x40) != 0 ? static_cast<std::int64_t>(first) - 0x100 : first & 0x3f;
    for (const char c : field.substr(1)) {
      if (__builtin_mul_overflow(value, 256, &value)) return std::nullopt;
      value += static_cast<unsigned char>(c);  // the product has room below it
    }
    return value;
  }

  std::string_view text_;
};

/// What extended headers say about the entry that follows them.
struct Extension {
  std::optional<std::string> path;
  std::optional<std::string> link;
  std::optional<std::int64_t> size;
  std::optional<std::int64_t> owner;
  std::optional<std::int64_t> group;
  std::optional<timespec> modified;
};

std::optional<std::int64_t> Decimal(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "1234567890.123456789", with any number of digits.
std::optional<timespec> DecimalTime(std::string_view text) {
  const std::size_t point = text.find('.');
  const std::optional<std::int64_t> seconds = Decimal(text.substr(0, point));
  if (!seconds) return std::nullopt;
  timespec time{.tv_sec = *seconds, .tv_nsec = 0};
  if (point == std::string_view::npos) return time;
  long place = 100'000'000;
  for (const char c : text.substr(point + 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    time.tv_nsec += (c - '0') * place;
    place /= 10;
  }
  if (text.front() == '-' && time.tv_nsec != 0 && time.tv_sec > INT64_MIN) {
    --time.tv_sec;
    time.tv_nsec = 1'000'000'000 - time.tv_nsec;
  }
  return time;
}

class Reader {
 public:
  Reader(std::span<const std::byte> archive, TreeBuilder& tree) : archive_(archive), tree_(tree) {}

  absl::Status Run() {
    while (at_ < archive_.size()) {
      if (archive_.size() - at_ < kBlock) return Damaged(at_, "it ends within a header");
      const Header header(archive_.subspan(at_, kBlock));
      if (header.IsZero()) return absl::OkStatus();
      header_at_ = at_;
      if (!header.ChecksumHolds()) return Damaged(at_, "the header's checksum is wrong");
      at_ += kBlock;
      // The same name a million times makes few nodes, but is work all the same.
      WAXVM_RETURN_IF_ERROR(tree_.Spend(1));
      WAXVM_RETURN_IF_ERROR(Read(header));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Read(const Header& header) {
    std::optional<std::int64_t> size = header.size();
    const char type = header.type();
    const bool extends = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    if (!extends && extension_.size) size = extension_.size;
    if (!size || *size < 0) return Damaged(header_at_, "the size is no number");
    // Links, directories and devices have no data, whatever their size says.
    const bool has_data = extends || !(type >= '1' && type <= '6');
    const std::uint64_t bytes = has_data ? static_cast<std::uint64_t>(*size) : 0;
    if (bytes > archive_.size() - at_)
      return Damaged(header_at_, absl::StrFormat("an entry of %d bytes, of which %d are there",
                                                 bytes, archive_.size() - at_));
    const std::span<const std::byte> data = archive_.subspan(at_, bytes);
    at_ += std::min<std::uint64_t>((bytes + kBlock - 1) / kBlock * kBlock, archive_.size() - at_);
    if (extends) return Extend(type, data);
    const absl::Status added = AddEntry(header, data);
    extension_ = {};
    return added;
  }

  absl::Status Extend(char type, std::span<const std::byte> data) {
    if (data.size() > kMaxHeaderBytes)
      return absl::ResourceExhaustedError(absl::StrFormat(
          "an extended header of %d bytes; at most %d are read", data.size(), kMaxHeaderBytes));
    const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
    if (type == 'L' || type == 'K') {
      (type == 'L' ? extension_.path : extension_.link) = text.substr(0, text.find('\0'));
      return absl::OkStatus();
    }
    // A global header speaks of all entries; what it may say that counts is said by none.
    Extension ignored;
    return ReadRecords(text, type == 'x' ? extension_ : ignored, /*global=*/type == 'g');
  }

  /// "LENGTH KEY=VALUE\n", the length being that of the whole record.
  absl::Status ReadRecords(std::string_view text, Extension& extension, bool global) {
    while (!text.empty() && text.front() != '\0') {
      const std::size_t space = text.find(' ');
      const std::optional<std::int64_t> bytes = Decimal(text.substr(0, space));
      if (space == std::string_view::npos || !bytes ||
          *bytes <= static_cast<std::int64_t>(space) + 1 ||
          *bytes > static_cast<std::int64_t>(text.size()) ||
          text[static_cast<std::size_t>(*bytes) - 1] != '\n')
        return Damaged(header_at_, "an extended header has a bad record");
      const std::string_view record =
          text.substr(space + 1, static_cast<std::size_t>(*bytes) - space - 2);
      text.remove_prefix(static_cast<std::size_t>(*bytes));
      const std::size_t equals = record.find('=');
      if (equals == std::string_view::npos)
        return Damaged(header_at_, "an extended header has a record without a value");
      WAXVM_RETURN_IF_ERROR(
          SetField(record.substr(0, equals), record.substr(equals + 1), extension, global));
    }
    return absl::OkStatus();
  }

  absl::Status SetField(std::string_view key, std::string_view value, Extension& extension,
                        bool global) {
    if (key.starts_with("GNU.sparse."))
      return absl::UnimplementedError("sparse entries of tar archives are not read");
    if (global && (key == "path" || key == "linkpath" || key == "size"))
      return Damaged(header_at_,
                     absl::StrFormat("a global header gives every entry the same %s", key));
    bool valid = true;
    if (key == "path") extension.path = value;
    if (key == "linkpath") extension.link = value;
    if (key == "size") valid = (extension.size = Decimal(value)).has_value();
    if (key == "uid") valid = (extension.owner = Decimal(value)).has_value();
    if (key == "gid") valid = (extension.group = Decimal(value)).has_value();
    if (key == "mtime") valid = (extension.modified = DecimalTime(value)).has_value();
    if (!valid) return Damaged(header_at_, absl::StrFormat("the extended %s is no number", key));
    return absl::OkStatus();
  }

  absl::StatusOr<Node> Describe(const Header& header) const {
    const std::optional<std::int64_t> mode = header.mode();
    const std::optional<std::int64_t> modified = header.modified();
    const auto owner = extension_.owner ? extension_.owner : header.owner();
    const auto group = extension_.group ? extension_.group : header.group();
    if (!mode || !modified || !owner || !group)
      return Damaged(header_at_, "the mode, owner, group or time is no number");
    Node node;
    node.permissions = static_cast<mode_t>(*mode & 07777);
    node.owner = static_cast<uid_t>(std::clamp<std::int64_t>(*owner, 0, UINT32_MAX - 1));
    node.group = static_cast<gid_t>(std::clamp<std::int64_t>(*group, 0, UINT32_MAX - 1));
    node.modified = extension_.modified ? *extension_.modified : timespec{*modified, 0};
    return node;
  }

  absl::Status AddEntry(const Header& header, std::span<const std::byte> data) {
    const std::string path = extension_.path ? *extension_.path : header.path();
    const std::string link = extension_.link ? *extension_.link : std::string(header.link());
    std::string_view trimmed = path;
    while (trimmed.ends_with('/')) trimmed.remove_suffix(1);
    const std::size_t slash = trimmed.rfind('/');
    const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
    constexpr std::string_view kWhiteout = ".wh.";
    if (trimmed.substr(begin).starts_with(kWhiteout))
      return AddWhiteout(trimmed.substr(0, begin), trimmed.substr(begin + kWhiteout.size()));
    WAXVM_ASSIGN_OR_RETURN(Node node, Describe(header));
    switch (header.type()) {
      case '0':
      case '\0':
      case '7':
        if (path.ends_with('/')) return tree_.Add(path, std::move(node));  // as v7 has it
        node.kind = Node::Kind::kFile;
        node.contents.Append(0, data);
        node.contents.set_size(data.size());
        return tree_.Add(path, std::move(node));
      case '1':
        return tree_.AddHardLink(path, link);
      case '2':
        if (link.empty() || link.size() > kMaxPathBytes || link.find('\0') != std::string::npos)
          return Damaged(header_at_, "a symbolic link points to no valid path");
        node.kind = Node::Kind::kLink;
        node.target = link;
        return tree_.Add(path, std::move(node));
      case '3':
      case '4':
      case '6':
        tree_.LeaveOut();
        return absl::OkStatus();
      case '5':
        return tree_.Add(path, std::move(node));
      case 'S':
        return absl::UnimplementedError("sparse entries of tar archives are not read");
      case 'V':  // the name of the volume
        return absl::OkStatus();
      default:
        return absl::UnimplementedError(absl::StrFormat("an entry of type %d in a tar archive",
                                                        static_cast<unsigned char>(header.type())));
    }
  }

  absl::Status AddWhiteout(std::string_view directory, std::string_view name) {
    if (name == ".wh..opq") return tree_.MakeOpaque(directory);
    if (name.starts_with(".wh.")) return absl::OkStatus();  // bookkeeping of aufs
    WAXVM_RETURN_IF_ERROR(CheckName(name));
    return tree_.AddWhiteout(std::string(directory).append(name));
  }

  std::span<const std::byte> archive_;
  TreeBuilder& tree_;
  std::size_t at_ = 0;
  std::size_t header_at_ = 0;
  Extension extension_;
};

}  // namespace

absl::Status ReadTar(std::span<const std::byte> archive, TreeBuilder& tree) {
  return Reader(archive, tree).Run();
}

}  // namespace waxvm::root_image
