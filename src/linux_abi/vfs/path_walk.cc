// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/path_walk.h"

#include <limits.h>
#include <linux/openat2.h>

#include <cerrno>
#include <utility>

#include "src/linux_abi/vfs/node_source.h"

namespace waxvm::linux_abi {
namespace {

constexpr int kMaxLinks = 40;

// Finds what a node of the instance's own tree shows of the host, if anything.
std::int64_t ResolveBacking(Spot& spot) {
  const HostBacking& backing = spot.place.anchor()->backing;
  if (!backing) return 0;
  ErrnoOr<HostObject> object = backing.folder->Resolve(backing.path);
  if (object.ok() && ((object->status.st_mode ^ spot.place.anchor()->mode) & S_IFMT) == 0) {
    spot.host = *std::move(object);
    return 0;
  }
  // A directory that only leads to a mount point need not be on the host.
  if (!backing.path.empty()) return 0;
  return object.ok() ? -ESTALE : object.result();
}

}  // namespace

ErrnoOr<Spot> LookUp(const Spot& parent) {
  Spot found;
  if (parent.place.rest().empty()) {
    if (std::shared_ptr<MemoryNode> node = parent.place.anchor()->Find(parent.name)) {
      found.place = Place(std::move(node));
      const std::int64_t resolved = ResolveBacking(found);
      if (resolved < 0) return ToErrno(resolved);
      return found;
    }
  }
  if (parent.name.size() > NAME_MAX) return Errno{ENAMETOOLONG};
  if (!parent.on_host()) return Errno{ENOENT};
  found.place = parent.place.Child(parent.name);
  ErrnoOr<HostObject> object = found.place.folder()->Resolve(found.place.HostPath());
  if (!object.ok()) return object.error();
  if (object->link) return Errno{ESTALE};
  found.host = *std::move(object);
  return found;
}

PathWalk::PathWalk(const Place& root, const Place& base, Last last, std::uint64_t resolve)
    : root_((resolve & RESOLVE_IN_ROOT) != 0 ? base : root),
      base_(base),
      last_(last),
      resolve_(resolve) {
  at_.place = base;
}

bool PathWalk::scoped() const { return (resolve_ & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0; }

bool PathWalk::AtBase() const {
  return at_.place.anchor() == base_.anchor() && at_.place.rest() == base_.rest();
}

ErrnoOr<Spot> PathWalk::Walk(std::string_view path) {
  if (path.empty()) return Errno{ENOENT};
  if (path.size() >= PATH_MAX) return Errno{ENAMETOOLONG};
  if (path.front() == '/') {
    if ((resolve_ & RESOLVE_BENEATH) != 0) return Errno{EXDEV};
    at_.place = root_;
  }
  Push(path);
  const std::int64_t result = Run();
  if (result < 0) return ToErrno(result);
  if ((resolve_ & RESOLVE_NO_XDEV) != 0 && at_.place.folder() != base_.folder()) {
    return Errno{EXDEV};
  }
  return std::move(at_);
}

// A trailing slash asks for a directory, as a trailing "." does; where the last component stays
// behind it is only noted.
void PathWalk::Push(std::string_view path) {
  const bool is_last = pending_.empty();
  std::size_t end = path.size();
  while (end > 0 && path[end - 1] == '/') --end;
  if (is_last && end < path.size()) {
    if (parent_wanted()) {
      at_.trailing_slash = true;
    } else {
      pending_.emplace_back(".");
    }
  }
  while (end > 0) {
    const std::size_t slash = path.rfind('/', end - 1);
    const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
    if (begin < end) pending_.emplace_back(path.substr(begin, end - begin));
    end = begin == 0 ? 0 : begin - 1;
  }
}

std::int64_t PathWalk::Run() {
  const std::size_t kept = parent_wanted() ? 1 : 0;
  while (true) {
    while (pending_.size() > kept) {
      const std::int64_t result = Step();
      if (result < 0) return result;
    }
    if (at_.file != nullptr) {
      at_.name = "/";
      return 0;
    }
    if (!at_.on_host()) {
      const std::int64_t result = at_.place.rest().empty() ? ResolveBacking(at_) : GoToHost();
      if (result < 0) return result;
      if (pending_.size() > kept) continue;
    }
    if (!parent_wanted()) return 0;
    at_.name = pending_.empty() ? "/" : pending_.back();
    if (last_ == Last::kParent || !at_.has_plain_name()) return 0;
    if (last_ == Last::kCreate && at_.trailing_slash) return 0;
    const ErrnoOr<bool> followed = FollowLast();
    if (!followed.ok()) return followed.result();
    if (!*followed) return 0;
  }
}

std::int64_t PathWalk::Step() {
  const std::string component = std::move(pending_.back());
  pending_.pop_back();
  if (component == ".") return 0;
  if (component == "..") {
    if (scoped() && AtBase()) return (resolve_ & RESOLVE_BENEATH) != 0 ? -EXDEV : 0;
    Place parent = at_.place.Parent();
    if (parent.anchor() == nullptr) return -ENOENT;
    at_.place = std::move(parent);
    at_.host = {};
    return 0;
  }
  if (component.size() > NAME_MAX) return -ENAMETOOLONG;
  if (at_.place.rest().empty()) {
    if (std::shared_ptr<MemoryNode> node = at_.place.anchor()->Find(component)) {
      const bool is_last = pending_.empty();
      if (node->is_link() && (!is_last || last_ == Last::kFollow)) {
        return FollowNode(*node);
      }
      if (!is_last && !node->is_directory()) return -ENOTDIR;
      at_.place = Place(std::move(node));
      at_.host = {};
      return 0;
    }
    if (!at_.place.anchor()->backing) return -ENOENT;
  }
  // No mount point lies below a place on the host, so that the kernel can go on alone.
  Place target = at_.place.Child(component);
  const std::size_t kept = parent_wanted() ? 1 : 0;
  while (pending_.size() > kept && pending_.back() != "." && pending_.back() != "..") {
    target = target.Child(pending_.back());
    pending_.pop_back();
  }
  at_.place = std::move(target);
  return GoToHost();
}

// A link of the instance's own tree, found in the directory where the walk is.
std::int64_t PathWalk::FollowNode(const MemoryNode& node) {
  if (node.source == nullptr) return Expand(node.target, at_.place);
  if (std::shared_ptr<OpenFile> file = node.source->LinkedFile()) {
    if (++links_ > kMaxLinks || resolve_ != 0) return -ELOOP;
    at_.host = {};
    if (file->directory() != nullptr) {
      at_.place = *file->directory();
      return 0;
    }
    if (!pending_.empty()) return -ENOTDIR;
    at_.file = std::move(file);
    return 0;
  }
  const ErrnoOr<std::string> text = node.source->Text();
  return text.ok() ? Expand(*text, at_.place) : text.result();
}

std::int64_t PathWalk::GoToHost() {
  const std::string host_path = at_.place.HostPath();
  ErrnoOr<HostObject> object = at_.place.folder()->Resolve(host_path);
  if (!object.ok()) return object.result();
  if (object->link) return FollowLinkOnTheWay(*object->link, host_path);
  const bool is_last = pending_.empty();
  if (S_ISLNK(object->status.st_mode) && (!is_last || last_ == Last::kFollow)) {
    const ErrnoOr<std::string> text = ReadHostLink(object->fd.get());
    if (!text.ok()) return text.result();
    return Expand(*text, at_.place.Parent());
  }
  if (!is_last && !S_ISDIR(object->status.st_mode)) return -ENOTDIR;
  at_.host = *std::move(object);
  return 0;
}

std::int64_t PathWalk::FollowLinkOnTheWay(const HostLink& link, const std::string& host_path) {
  Push(std::string_view(host_path).substr(link.end));
  const std::string above = host_path.substr(0, link.begin == 0 ? 0 : link.begin - 1);
  const std::string& prefix = at_.place.anchor()->backing.path;
  if (link.begin < prefix.size()) {
    // The link is on the way to the anchor itself: start again from the root.
    if (scoped()) return -EXDEV;
    const std::string directory = at_.place.folder()->GuestPath(above);
    const std::int64_t expanded = Expand(link.text, root_);
    if (expanded == 0 && link.text.front() != '/') Push(directory);
    return expanded;
  }
  const std::size_t skip = prefix.empty() ? 0 : prefix.size() + 1;
  return Expand(link.text,
                Place(at_.place.anchor(), above.size() > skip ? above.substr(skip) : ""));
}

std::int64_t PathWalk::Expand(std::string_view text, Place directory) {
  if (++links_ > kMaxLinks || (resolve_ & RESOLVE_NO_SYMLINKS) != 0) return -ELOOP;
  if (text.empty()) return -ENOENT;
  if (text.front() == '/' && (resolve_ & RESOLVE_BENEATH) != 0) return -EXDEV;
  at_.place = text.front() == '/' ? root_ : std::move(directory);
  at_.host = {};
  Push(text);
  return 0;
}

ErrnoOr<bool> PathWalk::FollowLast() {
  const ErrnoOr<Spot> found = LookUp(at_);
  if (!found.ok()) return found.error().number == ENOENT ? ErrnoOr<bool>(false) : found.error();
  if (!S_ISLNK(found->mode())) return false;
  pending_.pop_back();
  if (!found->on_host()) {
    const std::int64_t followed = FollowNode(*found->place.anchor());
    if (followed < 0) return ToErrno(followed);
    return true;
  }
  const ErrnoOr<std::string> text = ReadHostLink(found->host.fd.get());
  if (!text.ok()) return text.error();
  const std::int64_t expanded = Expand(*text, at_.place);
  if (expanded < 0) return ToErrno(expanded);
  return true;
}

}  // namespace waxvm::linux_abi
