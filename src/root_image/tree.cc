// SPDX-License-Identifier: Apache-2.0
#include "src/root_image/tree.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "src/base/status.h"

namespace waxvm::root_image {
namespace {

// Ways to names are about ten steps long; no honest archive takes this many for each of its
// entries.
constexpr std::uint64_t kStepsPerEntry = 64;

std::string Show(std::string_view name) {
  return absl::CHexEscape(ToAbsl(name.substr(0, kMaxPathBytes)));
}

/// Puts the components of `path` onto `pending`, the first one at the back.
void PushComponents(std::string_view path, std::vector<std::string>& pending) {
  std::size_t end = path.size();
  while (end > 0) {
    const std::size_t slash = path.rfind('/', end - 1);
    const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
    const std::string_view component = path.substr(begin, end - begin);
    if (!component.empty() && component != ".") pending.emplace_back(component);
    end = begin == 0 ? 0 : begin - 1;
  }
}

absl::Status CheckPath(std::string_view path) {
  if (path.size() > kMaxPathBytes)
    return InvalidArgument("a name of %d bytes; at most %d are allowed", path.size(),
                           kMaxPathBytes);
  if (path.find('\0') != std::string_view::npos)
    return InvalidArgument("the name \"%s\" contains a zero byte", Show(path));
  return absl::OkStatus();
}

/// All of a node but its children and its place.
Node Copy(const Node& from) {
  Node copy;
  copy.kind = from.kind;
  copy.permissions = from.permissions;
  copy.owner = from.owner;
  copy.group = from.group;
  copy.modified = from.modified;
  copy.contents = from.contents;
  copy.target = from.target;
  copy.implicit = from.implicit;
  copy.opaque = from.opaque;
  return copy;
}

absl::Status TooManyLinks(std::string_view path) {
  return InvalidArgument("\"%s\" leads through more than %d symbolic links", Show(path), kMaxLinks);
}

}  // namespace

absl::Status CheckName(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes)
    return InvalidArgument("a file name has %d bytes, must be 1 to %d", name.size(), kMaxNameBytes);
  if (name == "." || name == "..") return InvalidArgument("a file is called \"%s\"", name);
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return InvalidArgument("the file name \"%s\" contains a slash or a zero byte", Show(name));
  return absl::OkStatus();
}

void Contents::Append(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (!extents_.empty()) {
    Extent& last = extents_.back();
    if (last.offset + last.bytes.size() == offset &&
        last.bytes.data() + last.bytes.size() == bytes.data()) {
      last.bytes = {last.bytes.data(), last.bytes.size() + bytes.size()};
      return;
    }
  }
  extents_.push_back({offset, bytes});
}

std::size_t Contents::Read(std::uint64_t offset, std::span<std::byte> to) const {
  if (offset >= size_) return 0;
  const std::size_t total = std::min<std::uint64_t>(to.size(), size_ - offset);
  auto extent = std::ranges::upper_bound(extents_, offset, {}, &Extent::offset);
  if (extent != extents_.begin()) --extent;
  std::size_t done = 0;
  while (done < total) {
    const std::uint64_t at = offset + done;
    while (extent != extents_.end() && extent->offset + extent->bytes.size() <= at) ++extent;
    std::size_t n = total - done;
    if (extent == extents_.end() || extent->offset > at) {
      if (extent != extents_.end()) n = std::min<std::uint64_t>(n, extent->offset - at);
      std::memset(to.data() + done, 0, n);
    } else {
      const std::size_t skip = at - extent->offset;
      n = std::min(n, extent->bytes.size() - skip);
      std::memcpy(to.data() + done, extent->bytes.data() + skip, n);
    }
    done += n;
  }
  return total;
}

mode_t Node::mode() const {
  switch (kind) {
    case Kind::kDirectory:
      return S_IFDIR | permissions;
    case Kind::kLink:
      return S_IFLNK | 0777;
    default:
      return S_IFREG | permissions;
  }
}

const Node* Node::Find(std::string_view name) const {
  const auto found = children.find(name);
  return found == children.end() || !found->second->visible() ? nullptr : found->second;
}

const Node* Tree::FindByNumber(std::uint64_t number) const {
  return number >= 1 && number <= numbered_.size() ? numbered_[number - 1] : nullptr;
}

absl::StatusOr<const Node*> Tree::Resolve(std::string_view path) const {
  WAXVM_RETURN_IF_ERROR(CheckPath(path));
  std::vector<std::string> pending;
  PushComponents(path, pending);
  const Node* at = root_;
  int links = 0;
  while (!pending.empty()) {
    const std::string name = std::move(pending.back());
    pending.pop_back();
    if (!at->is_directory())
      return InvalidArgument("\"%s\" leads through a file of the image", Show(path));
    const Node* next = name == ".." ? at->parent : at->Find(name);
    if (next == nullptr)
      return absl::NotFoundError(absl::StrFormat("\"%s\" is not in the image", Show(path)));
    if (next->kind == Node::Kind::kLink) {
      if (++links > kMaxLinks) return TooManyLinks(path);
      if (next->target.starts_with('/')) at = root_;
      PushComponents(next->target, pending);
    } else {
      at = next;
    }
  }
  return at;
}

TreeBuilder::TreeBuilder(std::uint64_t max_entries) : max_entries_(max_entries) {
  tree_.nodes_.push_back(std::make_unique<Node>());
  tree_.root_ = tree_.nodes_.front().get();
  tree_.root_->parent = tree_.root_;
  tree_.root_->implicit = true;
}

absl::Status TreeBuilder::Spend(std::uint64_t steps) {
  steps_ += steps;
  if (steps_ / kStepsPerEntry > max_entries_)
    return absl::ResourceExhaustedError(
        absl::StrFormat("reading the image takes more than %d steps for each of %d entries",
                        kStepsPerEntry, max_entries_));
  return absl::OkStatus();
}

Node* TreeBuilder::NewNode(Node entry) {
  tree_.nodes_.push_back(std::make_unique<Node>(std::move(entry)));
  Node* node = tree_.nodes_.back().get();
  node->layer = layer_;
  return node;
}

absl::StatusOr<Node*> TreeBuilder::AddChild(Node& directory, std::string_view name, Node entry) {
  const auto found = directory.children.find(name);
  if (found != directory.children.end()) {
    Node& existing = *found->second;
    if (existing.is_directory() && entry.kind == Node::Kind::kDirectory) {
      if (entry.implicit) return &existing;
      // A directory named again and again makes no nodes, but is work all the same.
      WAXVM_RETURN_IF_ERROR(Spend(1));
      existing.permissions = entry.permissions;
      existing.owner = entry.owner;
      existing.group = entry.group;
      existing.modified = entry.modified;
      existing.layer = layer_;
      existing.implicit = false;
      return &existing;
    }
    if (entry.kind == Node::Kind::kDirectory)
      entry.opaque = !existing.visible() || !FromThisLayer(existing);
  }
  Node* const node = NewNode(std::move(entry));
  WAXVM_RETURN_IF_ERROR(AddChildLink(directory, name, node));
  return node;
}

absl::Status TreeBuilder::AddChildLink(Node& directory, std::string_view name, Node* node) {
  // A second name of a file takes memory like the file itself.
  if (++names_ > max_entries_)
    return absl::ResourceExhaustedError(
        absl::StrFormat("the image has more than %d entries", max_entries_));
  const auto found = directory.children.find(name);
  if (found != directory.children.end()) {
    found->second = node;
  } else {
    directory.children.emplace(name, node);
  }
  if (node->is_directory()) node->parent = &directory;
  for (Node* above = &directory; above->touched != layer_; above = above->parent)
    above->touched = layer_;
  return absl::OkStatus();
}

absl::StatusOr<TreeBuilder::Spot> TreeBuilder::Locate(std::string_view path, bool create) {
  WAXVM_RETURN_IF_ERROR(CheckPath(path));
  std::vector<std::string> pending;
  PushComponents(path, pending);
  for (const std::string& component : pending)
    if (const absl::Status status = CheckName(component); !status.ok())
      return Annotate(status, absl::StrFormat("the name \"%s\"", Show(path)));
  Spot spot{.directory = tree_.root_, .name = {}};
  if (pending.empty()) return spot;
  spot.name = std::move(pending.front());
  pending.erase(pending.begin());
  int links = 0;
  while (!pending.empty()) {
    WAXVM_RETURN_IF_ERROR(Spend(1));
    const std::string name = std::move(pending.back());
    pending.pop_back();
    if (name == "..") {  // out of a link: the path itself has none
      spot.directory = spot.directory->parent;
      continue;
    }
    const auto found = spot.directory->children.find(name);
    if (found == spot.directory->children.end() || !found->second->visible()) {
      if (!create)
        return InvalidArgument("\"%s\" is not in the archive, but something links to it",
                               Show(path));
      WAXVM_RETURN_IF_ERROR(CheckName(name));
      Node implied;
      implied.implicit = true;
      WAXVM_ASSIGN_OR_RETURN(spot.directory, AddChild(*spot.directory, name, std::move(implied)));
    } else if (found->second->is_directory()) {
      spot.directory = found->second;
    } else if (found->second->kind == Node::Kind::kLink) {
      if (++links > kMaxLinks) return TooManyLinks(path);
      const std::string& target = found->second->target;
      WAXVM_RETURN_IF_ERROR(Spend(target.size() / 2));
      if (target.starts_with('/')) spot.directory = tree_.root_;
      PushComponents(target, pending);
    } else {
      return InvalidArgument("\"%s\" lies below a file", Show(path));
    }
  }
  return spot;
}

absl::Status TreeBuilder::Add(std::string_view path, Node entry) {
  WAXVM_ASSIGN_OR_RETURN(const Spot spot, Locate(path, /*create=*/true));
  if (!spot.name.empty()) return AddChild(*spot.directory, spot.name, std::move(entry)).status();
  if (entry.kind != Node::Kind::kDirectory)
    return InvalidArgument("the root \"%s\" is not a directory", Show(path));
  Node& root = *tree_.root_;
  root.permissions = entry.permissions;
  root.owner = entry.owner;
  root.group = entry.group;
  root.modified = entry.modified;
  root.implicit = false;
  return absl::OkStatus();
}

absl::Status TreeBuilder::AddHardLink(std::string_view path, std::string_view target) {
  WAXVM_ASSIGN_OR_RETURN(const Spot from, Locate(target, /*create=*/false));
  const auto found = from.directory->children.find(from.name);
  if (from.name.empty() || found == from.directory->children.end() || !found->second->visible() ||
      found->second->is_directory())
    return InvalidArgument("\"%s\" is a hard link to \"%s\", which is no file of the image",
                           Show(path), Show(target));
  Node* const node = found->second;
  WAXVM_ASSIGN_OR_RETURN(const Spot to, Locate(path, /*create=*/true));
  if (to.name.empty()) return InvalidArgument("the root \"%s\" is not a directory", Show(path));
  return AddChildLink(*to.directory, to.name, node);
}

absl::Status TreeBuilder::AddWhiteout(std::string_view path) {
  WAXVM_ASSIGN_OR_RETURN(const Spot spot, Locate(path, /*create=*/true));
  if (spot.name.empty()) return InvalidArgument("a whiteout of the root");
  const auto found = spot.directory->children.find(spot.name);
  if (found != spot.directory->children.end() && FromThisLayer(*found->second)) {
    // What the same layer brings stays, whichever comes first in the archive.
    if (!found->second->is_directory()) return absl::OkStatus();
    found->second->opaque = true;
    return Prune(*found->second);
  }
  Node whiteout;
  whiteout.kind = Node::Kind::kWhiteout;
  return AddChild(*spot.directory, spot.name, std::move(whiteout)).status();
}

absl::Status TreeBuilder::MakeOpaque(std::string_view directory) {
  WAXVM_ASSIGN_OR_RETURN(const Spot spot, Locate(std::string(directory) + "/-", /*create=*/true));
  spot.directory->opaque = true;
  return Prune(*spot.directory);
}

absl::Status TreeBuilder::Prune(Node& directory) {
  std::vector<Node*> pending = {&directory};
  while (!pending.empty()) {
    Node& at = *pending.back();
    pending.pop_back();
    // Once for each layer: many whiteouts of one big directory must not go through it every time.
    if (std::exchange(at.pruned, layer_) == layer_) continue;
    WAXVM_RETURN_IF_ERROR(Spend(at.children.size()));
    std::erase_if(at.children, [this](const auto& child) { return !FromThisLayer(*child.second); });
    for (const auto& [name, child] : at.children)
      if (child->is_directory()) pending.push_back(child);
  }
  return absl::OkStatus();
}

absl::Status TreeBuilder::AddTree(const Tree& layer) {
  BeginLayer();
  tree_.left_out_ += layer.left_out_;
  copies_.clear();
  merging_ = {{tree_.root_, layer.root_}};
  if (!layer.root_->implicit) WAXVM_RETURN_IF_ERROR(Add("/", Copy(*layer.root_)));
  while (!merging_.empty()) {
    const auto [to, from] = merging_.back();
    merging_.pop_back();
    if (from->opaque) {
      to->opaque = true;
      WAXVM_RETURN_IF_ERROR(Prune(*to));
    }
    for (const auto& [name, child] : from->children)
      WAXVM_RETURN_IF_ERROR(MergeChild(*to, name, *child));
  }
  return absl::OkStatus();
}

absl::Status TreeBuilder::MergeChild(Node& to, const std::string& name, const Node& from) {
  if (from.kind == Node::Kind::kWhiteout) {
    const auto found = to.children.find(name);
    if (found != to.children.end() && FromThisLayer(*found->second)) return absl::OkStatus();
    return AddChild(to, name, Copy(from)).status();
  }
  if (from.is_directory()) {
    absl::StatusOr<Node*> directory =
        from.implicit ? MergeImplicit(to, name) : AddChild(to, name, Copy(from));
    if (!directory.ok()) return directory.status();
    merging_.emplace_back(*directory, &from);
    return absl::OkStatus();
  }
  if (from.links > 1) {
    Node*& copy = copies_[&from];
    if (copy != nullptr) return AddChildLink(to, name, copy);
    WAXVM_ASSIGN_OR_RETURN(copy, AddChild(to, name, Copy(from)));
    return absl::OkStatus();
  }
  return AddChild(to, name, Copy(from)).status();
}

absl::StatusOr<Node*> TreeBuilder::MergeImplicit(Node& to, const std::string& name) {
  const auto found = to.children.find(name);
  if (found == to.children.end() || found->second->kind != Node::Kind::kLink) {
    if (found != to.children.end() && found->second->kind == Node::Kind::kFile)
      return InvalidArgument("a layer puts something below \"%s\", which is a file", Show(name));
    Node implied;
    implied.implicit = true;
    return AddChild(to, name, std::move(implied));
  }
  // The way from the root to here, for Locate to go on through the link.
  std::string path = name + "/-";
  for (const Node* at = &to; at != tree_.root_; at = at->parent) {
    for (const auto& [child_name, child] : at->parent->children) {
      if (child != at) continue;
      path.insert(0, child_name + "/");
      break;
    }
    WAXVM_RETURN_IF_ERROR(Spend(at->parent->children.size() / 2));
  }
  WAXVM_ASSIGN_OR_RETURN(const Spot spot, Locate(path, /*create=*/true));
  return spot.directory;
}

Tree TreeBuilder::Finish() && {
  std::uint64_t number = 0;
  tree_.numbered_.push_back(tree_.root_);
  std::vector<Node*> pending = {tree_.root_};
  tree_.root_->number = ++number;
  while (!pending.empty()) {
    Node& directory = *pending.back();
    pending.pop_back();
    directory.links = 2;
    for (const auto& [name, child] : directory.children) {
      if (!child->visible()) continue;
      ++tree_.entries_;
      if (child->number == 0) {
        child->number = ++number;
        tree_.numbered_.push_back(child);
      }
      if (child->is_directory()) {
        ++directory.links;
        pending.push_back(child);
      } else {
        ++child->links;
      }
    }
  }
  return std::move(tree_);
}

}  // namespace waxvm::root_image
