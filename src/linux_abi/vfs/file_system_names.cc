// SPDX-License-Identifier: Apache-2.0
// The half of FileSystem that makes, removes and renames names.
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/host_file.h"
#include "src/linux_abi/vfs/memory_file.h"

namespace waxvm::linux_abi {
namespace {

std::string NamePath(const Spot& parent) { return parent.place.Child(parent.name).HostPath(); }

std::int64_t Permit(const Spot& parent) {
  return parent.on_host() ? parent.place.folder()->Permit(NamePath(parent), /*write=*/true) : 0;
}

bool IsWithin(const MemoryNode* inner, const MemoryNode* outer) {
  while (true) {
    if (inner == outer) return true;
    const std::shared_ptr<MemoryNode> above = inner->parent.lock();
    if (above == nullptr || above.get() == inner) return false;
    inner = above.get();
  }
}

std::int64_t HostResult(int result) { return result == 0 ? 0 : -errno; }

}  // namespace

std::int64_t FileSystem::CheckCreatable(const Spot& parent, bool directory) {
  if (!parent.has_plain_name()) return -EEXIST;
  const ErrnoOr<Spot> found = LookUp(parent);
  if (found.ok()) return -EEXIST;
  if (found.error().number != ENOENT) return found.result();
  if (parent.trailing_slash && !directory) return -ENOENT;
  if (parent.place.rest().empty() && parent.place.anchor()->closed) {
    // In /proc a name that is not there cannot be there.
    const ErrnoOr<std::string> path = parent.place.anchor()->Path();
    return path.ok() && path->starts_with("/sys") ? -EPERM : -ENOENT;
  }
  return Permit(parent);
}

std::int64_t FileSystem::MakeDirectory(const Place& base, std::string_view path, mode_t mode) {
  const ErrnoOr<Spot> parent = Walk(base, path, Last::kParent);
  if (!parent.ok()) return parent.result();
  const std::int64_t creatable = CheckCreatable(*parent, /*directory=*/true);
  if (creatable < 0) return creatable;
  mode &= ~umask_;
  if (parent->on_host()) {
    return MakeHostDirectory(parent->host.fd.get(), parent->name, mode);
  }
  ErrnoOr<std::shared_ptr<MemoryNode>> node =
      MemoryNode::Create(context_, S_IFDIR | (mode & 01777));
  if (!node.ok()) return node.result();
  return parent->place.anchor()->Add(parent->name, *std::move(node));
}

std::int64_t FileSystem::MakeSpecial(const Place& base, std::string_view path, mode_t mode,
                                     std::shared_ptr<MemoryNode>* made) {
  const ErrnoOr<Spot> parent = Walk(base, path, Last::kParent);
  if (!parent.ok()) return parent.result();
  const std::int64_t creatable = CheckCreatable(*parent, /*directory=*/false);
  if (creatable < 0) return creatable;
  // On the host it would reach other processes past every grant.
  if (parent->on_host()) return -EPERM;
  const mode_t bits = (mode & S_IFMT) | (mode & 07777 & ~umask_);
  ErrnoOr<std::shared_ptr<MemoryNode>> node = MemoryNode::Create(context_, bits);
  if (!node.ok()) return node.result();
  const std::int64_t added = parent->place.anchor()->Add(parent->name, *node);
  if (added == 0 && made != nullptr) *made = *std::move(node);
  return added;
}

ErrnoOr<std::shared_ptr<MemoryNode>> FileSystem::FindSocket(const Place& base,
                                                            std::string_view path) {
  const ErrnoOr<Spot> spot = Walk(base, path, Last::kFollow);
  if (!spot.ok()) return spot.error();
  if (spot->on_host() || !S_ISSOCK(spot->mode())) return Errno{ECONNREFUSED};
  return spot->place.anchor();
}

std::int64_t FileSystem::MakeSymbolicLink(std::string_view target, const Place& base,
                                          std::string_view path) {
  if (target.empty()) return -ENOENT;
  const ErrnoOr<Spot> parent = Walk(base, path, Last::kParent);
  if (!parent.ok()) return parent.result();
  const std::int64_t creatable = CheckCreatable(*parent, /*directory=*/false);
  if (creatable < 0) return creatable;
  const std::string text(target);
  if (parent->on_host()) {
    return HostResult(::symlinkat(text.c_str(), parent->host.fd.get(), parent->name.c_str()));
  }
  ErrnoOr<std::shared_ptr<MemoryNode>> node = MemoryNode::Create(context_, S_IFLNK | 0777);
  if (!node.ok()) return node.result();
  const std::int64_t set = (*node)->SetTarget(text);
  return set < 0 ? set : parent->place.anchor()->Add(parent->name, *std::move(node));
}

std::int64_t FileSystem::Link(const Place& from_base, std::string_view from, const Place& to_base,
                              std::string_view to, bool follow) {
  // A slash behind the name of a symbolic link asks for what it leads to.
  follow = follow || from.ends_with('/');
  const ErrnoOr<Spot> source = Walk(from_base, from, follow ? Last::kParentFollow : Last::kParent);
  if (!source.ok()) return source.result();
  if (source->file != nullptr) return LinkOpenFile(*source->file, to_base, to);
  // "." and ".." are directories, which get no second name; but first the new one must be free.
  const bool plain = source->has_plain_name();
  const ErrnoOr<Spot> found = plain ? LookUp(*source) : ErrnoOr<Spot>(Errno{EPERM});
  if (plain && !found.ok()) return found.result();
  const bool directory = !plain || S_ISDIR(found->mode());
  if (source->trailing_slash && !directory) return -ENOTDIR;
  const ErrnoOr<Spot> target = Walk(to_base, to, Last::kParent);
  if (!target.ok()) return target.result();
  const std::int64_t creatable = CheckCreatable(*target, /*directory=*/false);
  if (creatable < 0) return creatable;
  if (directory) return -EPERM;
  if (source->on_host() && target->on_host()) {
    if (source->place.folder() != target->place.folder()) return -EXDEV;
    // The new name gives the access that the old one would.
    const std::int64_t permitted = Permit(*source);
    if (permitted < 0) return permitted;
    return HostResult(::linkat(source->host.fd.get(), source->name.c_str(), target->host.fd.get(),
                               target->name.c_str(), 0));
  }
  if (found->on_host() || target->on_host() || source->on_host()) return -EXDEV;
  if (found->place.anchor()->fixed) return -EPERM;
  return target->place.anchor()->Add(target->name, found->place.anchor());
}

std::int64_t FileSystem::LinkOpenFile(const OpenFile& file, const Place& to_base,
                                      std::string_view to) {
  const ErrnoOr<Spot> target = Walk(to_base, to, Last::kParent);
  if (!target.ok()) return target.result();
  const std::int64_t creatable = CheckCreatable(*target, /*directory=*/false);
  if (creatable < 0) return creatable;
  if (target->on_host()) {
    const auto* host_file = dynamic_cast<const HostFile*>(&file);
    if (host_file == nullptr) return file.directory() != nullptr ? -EPERM : -EXDEV;
    return host_file->LinkInto(*target->place.folder(), target->host.fd.get(), target->name);
  }
  const auto* memory_file = dynamic_cast<const MemoryFile*>(&file);
  if (memory_file == nullptr) return file.directory() != nullptr ? -EPERM : -EXDEV;
  const std::shared_ptr<MemoryNode>& node = memory_file->node();
  if (node->is_directory() || node->fixed) return -EPERM;
  // What lost its last name stays without; memory of memfd_create is in no file system at all.
  if (node->links_to_this == 0 && !node->nameable) {
    return node->name.starts_with("memfd:") ? -EXDEV : -ENOENT;
  }
  const std::int64_t added = target->place.anchor()->Add(target->name, node);
  if (added == 0) node->nameable = false;
  return added;
}

std::int64_t FileSystem::Remove(const Place& base, std::string_view path, bool directory) {
  const ErrnoOr<Spot> parent = Walk(base, path, Last::kParent);
  if (!parent.ok()) return parent.result();
  if (!parent->has_plain_name()) {
    if (!directory) return -EISDIR;
    return parent->name == "/" ? -EBUSY : parent->name == "." ? -EINVAL : -ENOTEMPTY;
  }
  const ErrnoOr<Spot> found = LookUp(*parent);
  if (!found.ok()) return found.result();
  const bool is_directory = S_ISDIR(found->mode());
  if (directory && !is_directory) return -ENOTDIR;
  if (!directory && is_directory) return -EISDIR;
  if (!directory && parent->trailing_slash) return -ENOTDIR;
  if (found->place.rest().empty()) return RemoveNode(*parent, directory);
  const std::int64_t permitted = Permit(*parent);
  if (permitted < 0) return permitted;
  return HostResult(
      ::unlinkat(parent->host.fd.get(), parent->name.c_str(), directory ? AT_REMOVEDIR : 0));
}

std::int64_t FileSystem::RemoveNode(const Spot& parent, bool directory) {
  MemoryNode& holder = *parent.place.anchor();
  const std::shared_ptr<MemoryNode> node = holder.Find(parent.name);
  if (holder.closed) return -EPERM;
  if (node->fixed) return -EBUSY;
  if (directory && !node->is_empty()) return -ENOTEMPTY;
  holder.Remove(parent.name);
  return 0;
}

std::int64_t FileSystem::Rename(const Place& from_base, std::string_view from, const Place& to_base,
                                std::string_view to, unsigned flags) {
  const bool no_replace = (flags & RENAME_NOREPLACE) != 0;
  const ErrnoOr<Spot> source = Walk(from_base, from, Last::kParent);
  if (!source.ok()) return source.result();
  const ErrnoOr<Spot> target = Walk(to_base, to, Last::kParent);
  if (!target.ok()) return target.result();
  if (!source->has_plain_name()) return -EBUSY;
  if (!target->has_plain_name()) return no_replace ? -EEXIST : -EBUSY;
  const ErrnoOr<Spot> moved = LookUp(*source);
  if (!moved.ok()) return moved.result();
  const bool slash = source->trailing_slash || target->trailing_slash;
  if (slash && !S_ISDIR(moved->mode())) return -ENOTDIR;
  const ErrnoOr<Spot> replaced = LookUp(*target);
  if (!replaced.ok() && replaced.error().number != ENOENT) return replaced.result();
  if (replaced.ok() && no_replace) return -EEXIST;
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (!replaced.ok() && exchange) return -ENOENT;
  const auto is_fixed = [](const ErrnoOr<Spot>& spot) {
    return spot.ok() && spot->place.rest().empty() && spot->place.anchor()->fixed;
  };
  if (is_fixed(moved) || is_fixed(replaced)) return -EBUSY;
  if (target->place.rest().empty() && target->place.anchor()->closed) return -EACCES;
  if (source->on_host() != target->on_host()) return -EXDEV;
  if (source->on_host()) return RenameOnHost(*source, *target, flags);
  return exchange ? ExchangeNodes(*source, *target) : RenameNode(*source, *target);
}

std::int64_t FileSystem::RenameOnHost(const Spot& from, const Spot& to, unsigned flags) {
  if (from.place.folder() != to.place.folder()) return -EXDEV;
  for (const Spot* spot : {&from, &to}) {
    const std::int64_t permitted = Permit(*spot);
    if (permitted < 0) return permitted;
  }
  return HostResult(
      ::renameat2(from.host.fd.get(), from.name.c_str(), to.host.fd.get(), to.name.c_str(), flags));
}

std::int64_t FileSystem::ExchangeNodes(const Spot& from, const Spot& to) {
  MemoryNode& first_holder = *from.place.anchor();
  MemoryNode& second_holder = *to.place.anchor();
  const std::shared_ptr<MemoryNode> first = first_holder.Find(from.name);
  const std::shared_ptr<MemoryNode> second = second_holder.Find(to.name);
  if (first == second) return 0;
  if (first_holder.is_removed() || second_holder.is_removed()) return -ENOENT;
  if (IsWithin(&second_holder, first.get()) || IsWithin(&first_holder, second.get())) {
    return -EINVAL;
  }
  first_holder.Remove(from.name);
  second_holder.Remove(to.name);
  // What was just released can be charged again.
  const std::int64_t one = first_holder.Add(from.name, second);
  const std::int64_t other = second_holder.Add(to.name, first);
  return std::min(one, other);
}

std::int64_t FileSystem::RenameNode(const Spot& from, const Spot& to) {
  MemoryNode& old_holder = *from.place.anchor();
  MemoryNode& new_holder = *to.place.anchor();
  const std::shared_ptr<MemoryNode> node = old_holder.Find(from.name);
  const std::shared_ptr<MemoryNode> replaced = new_holder.Find(to.name);
  if (node == replaced) return 0;
  if (new_holder.is_removed()) return -ENOENT;
  if (node->is_directory() && IsWithin(&new_holder, node.get())) return -EINVAL;
  if (replaced != nullptr) {
    if (node->is_directory() && !replaced->is_directory()) return -ENOTDIR;
    if (!node->is_directory() && replaced->is_directory()) return -EISDIR;
    if (replaced->is_directory() && !replaced->is_empty()) return -ENOTEMPTY;
    new_holder.Remove(to.name);
  }
  old_holder.Remove(from.name);
  const std::int64_t added = new_holder.Add(to.name, node);
  // What was just released can be charged again, so that a refused rename changes nothing.
  if (added < 0) static_cast<void>(old_holder.Add(from.name, node));
  return added;
}

}  // namespace waxvm::linux_abi
