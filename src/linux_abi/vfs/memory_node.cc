// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/memory_node.h"

#include <limits.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/vfs/node_source.h"

namespace waxvm::linux_abi {
namespace {

// An inode or a name, with what the containers around it take.
constexpr std::uint64_t kChargePerNode = sizeof(MemoryNode) + 64;
constexpr std::uint64_t kChargePerLink = sizeof(MemoryNode::Link) + 96;

constexpr dev_t kMemoryDevice = 0x17;
constexpr dev_t kInternalDevice = 0x1;

dev_t DeviceNumber(Device device) {
  switch (device) {
    case Device::kNone:
      return 0;
    case Device::kNull:
      return makedev(1, 3);
    case Device::kZero:
      return makedev(1, 5);
    case Device::kFull:
      return makedev(1, 7);
    case Device::kRandom:
      return makedev(1, 8);
    case Device::kUrandom:
      return makedev(1, 9);
    case Device::kTty:
      return makedev(5, 0);
  }
  return 0;
}

}  // namespace

timespec VfsContext::Now() const {
  const std::chrono::nanoseconds now = spec.clock ? spec.clock->RealTime() : kFixedTime;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  return {.tv_sec = seconds.count(), .tv_nsec = (now - seconds).count()};
}

ErrnoOr<std::shared_ptr<MemoryNode>> MemoryNode::Create(VfsContext& context, mode_t mode) {
  if (context.live_nodes >= kMaxNodes) return Errno{ENOSPC};
  MemoryCharge charge;
  if (!charge.Resize(context.account, kChargePerNode)) return Errno{ENOSPC};
  std::shared_ptr<MemoryNode> node(new MemoryNode(context, mode, ++context.last_inode, nullptr));
  node->charge_ = std::move(charge);
  node->accessed = node->modified = node->changed = context.Now();
  return node;
}

ErrnoOr<std::shared_ptr<MemoryNode>> MemoryNode::CreateAs(VfsContext& context, mode_t mode,
                                                          std::uint64_t inode) {
  if (context.live_nodes >= kMaxNodes) return Errno{ENOSPC};
  MemoryCharge charge;
  if (!charge.Resize(context.account, kChargePerNode)) return Errno{ENOSPC};
  std::shared_ptr<MemoryNode> node(new MemoryNode(context, mode, inode, nullptr));
  node->charge_ = std::move(charge);
  return node;
}

bool MemoryNode::Attach(std::string_view child_name, std::shared_ptr<MemoryNode> node) {
  Link link;
  if (!link.charge.Resize(context_.account, kChargePerLink + 2 * child_name.size())) return false;
  link.node = std::move(node);
  children_.insert_or_assign(std::string(child_name), std::move(link));
  return true;
}

bool MemoryNode::MarkRemoved(std::string_view child_name) {
  if (removed_.contains(child_name)) return true;
  MemoryCharge charge;
  if (!charge.Resize(context_.account, kChargePerLink + child_name.size())) return false;
  removed_.emplace(child_name, std::move(charge));
  return true;
}

ErrnoOr<std::shared_ptr<MemoryNode>> MemoryNode::CreateFrom(VfsContext& context,
                                                            const root_image::Node& image) {
  if (context.live_nodes >= kMaxNodes) return Errno{ENOSPC};
  MemoryCharge charge;
  if (!charge.Resize(context.account, kChargePerNode + image.target.size())) return Errno{ENOSPC};
  std::shared_ptr<MemoryNode> node(new MemoryNode(context, image.mode(), InodeOf(image), &image));
  node->charge_ = std::move(charge);
  node->owner = image.owner;
  node->group = image.group;
  node->links_to_this = image.links;
  node->accessed = node->modified = node->changed = image.modified;
  node->target = image.target;
  if (node->is_regular()) node->contents.SetLower(image.contents);
  return node;
}

MemoryNode::MemoryNode(VfsContext& context, mode_t node_mode, std::uint64_t number,
                       const root_image::Node* image)
    : inode(number),
      mode(node_mode),
      contents(context.account),
      context_(context),
      origin_(image),
      image_(image != nullptr && image->is_directory() ? image : nullptr) {
  ++context.live_nodes;
}

MemoryNode::~MemoryNode() {
  --context_.live_nodes;
  // A tree as deep as a guest could make it must not be freed by recursion: the host's stack would
  // overflow. Each round frees nodes whose children have been moved out.
  std::vector<std::shared_ptr<MemoryNode>> doomed;
  const auto take_children = [&doomed](MemoryNode& node) {
    for (auto& [child_name, link] : node.children_) doomed.push_back(std::move(link.node));
    node.children_.clear();
  };
  take_children(*this);
  while (!doomed.empty()) {
    const std::shared_ptr<MemoryNode> node = std::move(doomed.back());
    doomed.pop_back();
    if (node.use_count() == 1) take_children(*node);
  }
}

void MemoryNode::Stat(struct stat& status) const {
  status = {};
  status.st_dev = internal ? kInternalDevice : kMemoryDevice;
  status.st_ino = inode;
  status.st_mode = mode;
  status.st_nlink = links_to_this;
  status.st_uid = owner;
  status.st_gid = group;
  status.st_rdev = DeviceNumber(device);
  status.st_size = static_cast<off_t>(is_link() ? target.size() : contents.size());
  status.st_blksize = kPageBytes;
  status.st_blocks = static_cast<blkcnt_t>(contents.allocated_bytes() / 512);
  status.st_atim = accessed;
  status.st_mtim = modified;
  status.st_ctim = changed;
}

std::int64_t MemoryNode::SetTimes(const std::array<timespec, 2>& times) {
  const timespec now = context_.Now();
  const auto set = [&now](timespec& to, const timespec& from) {
    if (from.tv_nsec != UTIME_OMIT) to = from.tv_nsec == UTIME_NOW ? now : from;
  };
  set(accessed, times[0]);
  set(modified, times[1]);
  changed = now;
  context_.changed = true;
  return 0;
}

std::int64_t MemoryNode::SetTarget(std::string text) {
  if (!charge_.Resize(context_.account, kChargePerNode + text.size())) return -ENOSPC;
  target = std::move(text);
  return 0;
}

void MemoryNode::TouchContents() {
  modified = changed = context_.Now();
  context_.changed = true;
}

void MemoryNode::TouchStatus() {
  changed = context_.Now();
  context_.changed = true;
}

std::shared_ptr<MemoryNode> MemoryNode::Find(std::string_view child_name) {
  if (source != nullptr) source->Refresh(*this);
  const auto found = children_.find(child_name);
  if (found != children_.end()) return found->second.node;
  return image_ == nullptr ? nullptr : TakeFromImage(child_name);
}

std::shared_ptr<MemoryNode> MemoryNode::TakeFromImage(std::string_view child_name) {
  const root_image::Node* image = image_->Find(child_name);
  if (image == nullptr || removed_.contains(child_name)) return nullptr;
  Link link;
  if (!link.charge.Resize(context_.account, kChargePerLink + child_name.size())) return nullptr;
  const bool is_linked = !image->is_directory() && image->links > 1;
  if (is_linked) {
    const auto known = context_.linked_files.find(image);
    if (known != context_.linked_files.end()) link.node = known->second;
  }
  if (link.node == nullptr) {
    ErrnoOr<std::shared_ptr<MemoryNode>> node = CreateFrom(context_, *image);
    if (!node.ok()) return nullptr;
    link.node = *std::move(node);
    if (is_linked) context_.linked_files.emplace(image, link.node);
  }
  link.node->parent = weak_from_this();
  link.node->name = child_name;
  return children_.emplace(child_name, std::move(link)).first->second.node;
}

bool MemoryNode::is_empty() const {
  bool empty = children_.empty();
  if (empty) ForEachImageChild([&empty](auto&&...) { empty = false; });
  return empty;
}

std::uint64_t MemoryNode::CountLinks() const {
  std::uint64_t links = 2;
  for (const auto& [child_name, child] : children_) links += child.node->is_directory() ? 1 : 0;
  ForEachImageChild([&links](std::uint64_t, mode_t child_mode, const std::string&) {
    links += S_ISDIR(child_mode) ? 1 : 0;
  });
  return links;
}

std::int64_t MemoryNode::Add(std::string_view child_name, std::shared_ptr<MemoryNode> node) {
  if (is_removed()) return -ENOENT;
  Link link;
  const bool already_changed = context_.changed;
  if (!link.charge.Resize(context_.account, kChargePerLink + 2 * child_name.size())) return -ENOSPC;
  node->parent = weak_from_this();
  node->name = child_name;
  if (node->is_directory()) {
    node->links_to_this = node->CountLinks();
    ++links_to_this;
  } else {
    ++node->links_to_this;
  }
  node->TouchStatus();
  link.node = std::move(node);
  children_.emplace(child_name, std::move(link));
  TouchContents();
  if (closed) context_.changed = already_changed;  // nothing of the guest's doing
  return 0;
}

void MemoryNode::Remove(std::string_view child_name) {
  const auto found = children_.find(child_name);
  MemoryNode& node = *found->second.node;
  const bool already_changed = context_.changed;
  node.TouchStatus();
  if (node.is_directory()) {
    node.links_to_this = 0;
    --links_to_this;
  } else {
    --node.links_to_this;
  }
  // The name goes on being charged where it has to be remembered.
  if (image_ != nullptr && image_->Find(child_name) != nullptr)
    removed_.try_emplace(std::string(child_name), std::move(found->second.charge));
  children_.erase(found);
  TouchContents();
  if (closed) context_.changed = already_changed;
}

ErrnoOr<std::string> MemoryNode::Path() const {
  std::string path;
  std::shared_ptr<const MemoryNode> node = shared_from_this();
  while (true) {
    if (node->is_removed()) return Errno{ENOENT};
    const std::shared_ptr<const MemoryNode> above = node->parent.lock();
    if (above == node) break;
    if (above == nullptr) return Errno{ENOENT};
    path.insert(0, "/" + node->name);
    if (path.size() >= PATH_MAX) return Errno{ENAMETOOLONG};
    node = above;
  }
  return path.empty() ? "/" : path;
}

}  // namespace waxvm::linux_abi
