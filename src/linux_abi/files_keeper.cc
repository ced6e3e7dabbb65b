// SPDX-License-Identifier: Apache-2.0
// What a process has open and has changed in its own tree, as plain data.
#include "src/linux_abi/files_keeper.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/base/status.h"
#include "src/linux_abi/signal_file.h"
#include "src/linux_abi/vfs/directory_file.h"
#include "src/linux_abi/vfs/epoll_file.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/generated_file.h"
#include "src/linux_abi/vfs/host_file.h"
#include "src/linux_abi/vfs/memory_file.h"
#include "src/linux_abi/vfs/node_source.h"
#include "src/linux_abi/vfs/program_file.h"
#include "src/linux_abi/vfs/stream_file.h"
#include "src/linux_abi/vfs/timer_file.h"
#include "src/linux_abi/vfs/unix_socket.h"
#include "src/root_image/root_image_rep.h"

namespace waxvm::linux_abi {
namespace {

files_image::Edges KeptEdges(const Edges& edges) { return {.in = edges.in, .out = edges.out}; }

std::optional<std::int64_t> Count(std::optional<std::chrono::nanoseconds> time) {
  return time ? std::optional(time->count()) : std::nullopt;
}

// In /proc or /sys, whose files are made when they are looked at.
bool IsGenerated(const MemoryNode& node) {
  if (node.source != nullptr || node.closed) return true;
  for (std::shared_ptr<MemoryNode> above = node.parent.lock(); above != nullptr;) {
    if (above->closed || above->source != nullptr) return true;
    std::shared_ptr<MemoryNode> next = above->parent.lock();
    if (next == above) return false;
    above = std::move(next);
  }
  return false;
}

bool IsSame(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

absl::Status CannotKeep(std::string_view what) {
  return FailedPrecondition("a snapshot cannot keep %s", what);
}

absl::StatusOr<ImageIndex> FilesKeeper::IndexOf(const std::shared_ptr<OpenFile>& file,
                                                std::string_view holder) {
  const auto [found, is_new] =
      file_indices_.try_emplace(file.get(), static_cast<ImageIndex>(files_.size()));
  if (is_new) {
    files_.push_back(file);
    holders_.emplace_back(holder);
  }
  return found->second;
}

ImageIndex FilesKeeper::IndexOf(const std::shared_ptr<Pipe>& pipe) {
  const auto [found, is_new] =
      pipe_indices_.try_emplace(pipe.get(), static_cast<ImageIndex>(pipes_.size()));
  if (is_new) pipes_.push_back(pipe);
  return found->second;
}

ImageIndex FilesKeeper::IndexOf(const std::shared_ptr<MemoryNode>& node) {
  const auto [found, is_new] =
      node_indices_.try_emplace(node.get(), static_cast<ImageIndex>(nodes_.size()));
  if (is_new) nodes_.push_back(node);
  return found->second;
}

absl::StatusOr<FilesImage> FilesKeeper::Finish() {
  FileSystem& file_system = process_.file_system();
  VfsContext& context = file_system.context();
  if (!context.process_locks.empty()) return CannotKeep("locks on files of granted folders");
  if (!file_system.openings_.empty())
    return CannotKeep("a thread that waits for the other end of a FIFO");
  IndexOf(file_system.root().anchor());  // the first one
  WAXVM_RETURN_IF_ERROR(KeepDescriptors());
  WAXVM_RETURN_IF_ERROR(KeepWorkingDirectory());
  // Looking at one finds others: what an epoll instance watches, what a socket carries.
  for (std::size_t i = 0; i < files_.size(); ++i) WAXVM_RETURN_IF_ERROR(KeepFile(i));
  WAXVM_RETURN_IF_ERROR(KeepTree());
  for (const std::shared_ptr<Pipe>& pipe : pipes_) {
    files_image::Pipe& kept = image_.pipes.emplace_back();
    kept = {.inode = pipe->inode,
            .mode = pipe->mode,
            .capacity = pipe->capacity(),
            .readers_ever = pipe->readers_ever,
            .writers_ever = pipe->writers_ever,
            .edges = KeptEdges(pipe->edges)};
    kept.bytes.resize(pipe->used());
    pipe->Peek(kept.bytes);
  }
  KeepLocks();
  image_.last_inode = context.last_inode;
  image_.umask = file_system.umask();
  return std::move(image_);
}

absl::Status FilesKeeper::KeepDescriptors() {
  const FdTable& table = process_.files();
  for (std::uint64_t fd = 0; fd < table.size(); ++fd) {
    const std::shared_ptr<OpenFile> file = table.Share(fd);
    if (file == nullptr) continue;
    files_image::Descriptor descriptor{.number = fd, .close_on_exec = table.close_on_exec(fd)};
    WAXVM_ASSIGN_OR_RETURN(descriptor.file, IndexOf(file, absl::StrFormat("descriptor %d", fd)));
    image_.descriptors.push_back(descriptor);
  }
  return absl::OkStatus();
}

absl::Status FilesKeeper::KeepWorkingDirectory() {
  const FileSystem& file_system = process_.file_system();
  const Place& place = file_system.working_directory();
  if (place.folder() == nullptr && !IsGenerated(*place.anchor()))
    image_.working_node = IndexOf(place.anchor());
  else
    image_.working_directory = file_system.WorkingDirectoryText();
  return absl::OkStatus();
}

absl::StatusOr<files_image::Plain> FilesKeeper::KeepPlain(const std::shared_ptr<MemoryNode>& node) {
  return files_image::Plain{.node = IndexOf(node)};
}

absl::Status FilesKeeper::KeepFile(std::size_t index) {
  OpenFile& file = *files_[index];
  const std::string holder = holders_[index];
  const auto refuse = [&] {
    const ErrnoOr<std::string> path = file.Path();
    return CannotKeep(absl::StrFormat("%s, which is open for %s", holder,
                                      path.ok() ? *path : "something of the host"));
  };
  files_image::File kept{.flags = file.flags_, .offset = file.offset_, .uses = file.uses_};
  if (const std::optional<int> stream = process_.files().StreamOf(&file)) {
    kept.what = files_image::Stream{.number = static_cast<std::uint32_t>(*stream)};
  } else if (dynamic_cast<const InputFile*>(&file) != nullptr) {
    kept.what = files_image::Stream{.number = 0, .original = false};
  } else if (const auto* output = dynamic_cast<const OutputFile*>(&file)) {
    kept.what = files_image::Stream{.number = output->stream() == Stream::kOutput ? 1u : 2u,
                                    .original = false};
  } else if (const auto* memory = dynamic_cast<const MemoryFile*>(&file)) {
    if (IsGenerated(*memory->node())) {
      const ErrnoOr<std::string> path = file.Path();
      if (!path.ok()) return refuse();
      files_image::Generated generated{.path = *path};
      if (const auto* made = dynamic_cast<const GeneratedFile*>(&file))
        generated.text = made->text_;
      kept.what = std::move(generated);
    } else if (memory->node()->backing) {
      return refuse();
    } else {
      WAXVM_ASSIGN_OR_RETURN(kept.what, KeepPlain(memory->node()));
    }
  } else if (const auto* directory = dynamic_cast<const DirectoryFile*>(&file)) {
    if (directory->place_.folder() != nullptr) return refuse();
    const std::shared_ptr<MemoryNode>& node = directory->place_.anchor();
    if (IsGenerated(*node)) {
      const ErrnoOr<std::string> path = file.Path();
      if (!path.ok()) return refuse();
      kept.what = files_image::Generated{.path = *path};
    } else {
      files_image::Directory listed{.node = IndexOf(node)};
      for (const DirectoryEntry& entry : directory->entries_)
        listed.entries.push_back({.inode = entry.inode, .type = entry.type, .name = entry.name});
      kept.what = std::move(listed);
    }
  } else if (const auto* program = dynamic_cast<const ProgramFile*>(&file)) {
    kept.what = files_image::ProgramBytes{.path = program->path_, .inode = program->inode_};
  } else if (const auto* end = dynamic_cast<const PipeEnd*>(&file)) {
    kept.what = Keep(*end);
  } else if (const auto* counter = dynamic_cast<const EventCounter*>(&file)) {
    kept.what = files_image::EventCounter{.value = counter->value_,
                                          .semaphore = counter->semaphore_,
                                          .edges = KeptEdges(counter->edges_)};
  } else if (const auto* timer = dynamic_cast<const TimerFile*>(&file)) {
    files_image::Timer set{.clock = timer->clock_,
                           .set_to = timer->value_.left.count(),
                           .interval = timer->value_.interval.count(),
                           .expired_before = timer->expired_before_};
    if (timer->next_) set.left = (*timer->next_ - process_.host().Now()).count();
    kept.what = set;
  } else if (const auto* signals = dynamic_cast<const SignalFile*>(&file)) {
    kept.what = files_image::Signals{.set = signals->set_};
  } else if (const auto* epoll = dynamic_cast<const EpollFile*>(&file)) {
    WAXVM_ASSIGN_OR_RETURN(kept.what, Keep(*epoll));
  } else if (auto* socket = dynamic_cast<UnixSocket*>(&file)) {
    WAXVM_ASSIGN_OR_RETURN(kept.what, Keep(*socket, holder));
  } else {
    return refuse();
  }
  image_.files.push_back(std::move(kept));
  return absl::OkStatus();
}

files_image::PipeEnd FilesKeeper::Keep(const PipeEnd& end) {
  return {.pipe = IndexOf(end.pipe_),
          .node = end.node_ != nullptr ? IndexOf(end.node_) : kNoIndex,
          .writers_before = end.writers_before_};
}

absl::StatusOr<files_image::Epoll> FilesKeeper::Keep(const EpollFile& epoll) {
  files_image::Epoll kept;
  for (const auto& [key, interest] : epoll.interests_) {
    const std::shared_ptr<OpenFile> file = interest.file.lock();
    if (file == nullptr) continue;  // drops out by itself
    files_image::Epoll::Interest one{.fd = key.first,
                                     .events = interest.event.events,
                                     .data = interest.event.data.u64,
                                     .disabled = interest.disabled,
                                     .reported = interest.reported,
                                     .reported_edges = KeptEdges(interest.reported_edges)};
    WAXVM_ASSIGN_OR_RETURN(one.file, IndexOf(file, "an epoll instance"));
    if (key == epoll.next_) {
      kept.next_fd = one.fd;
      kept.next_file = one.file;
    }
    kept.interests.push_back(one);
  }
  return kept;
}

absl::StatusOr<files_image::Socket> FilesKeeper::Keep(UnixSocket& socket,
                                                      const std::string& holder) {
  files_image::Socket kept{.type = socket.type_,
                           .inode = socket.inode_,
                           .mode = socket.mode_,
                           .name = socket.name_,
                           .accepted_name = socket.accepted_name_,
                           .had_peer = socket.had_peer_,
                           .peer_name = socket.peer_name_,
                           .accepted = socket.accepted_,
                           .read_shut = socket.read_shut_,
                           .write_shut = socket.write_shut_,
                           .listening = socket.listening_,
                           .backlog = socket.backlog_,
                           .error = socket.error_,
                           .edges = KeptEdges(socket.edges_),
                           .pass_credentials = socket.pass_credentials,
                           .receive_timeout = Count(socket.receive_timeout),
                           .send_timeout = Count(socket.send_timeout)};
  for (const UnixSocket::Message& message : socket.queue_) {
    files_image::Socket::Message& one = kept.queue.emplace_back();
    one.bytes.assign(message.bytes.begin() + static_cast<std::ptrdiff_t>(message.taken),
                     message.bytes.end());
    one.credentials = message.ancillary.credentials;
    one.from = message.from;
    for (const std::shared_ptr<OpenFile>& file : message.ancillary.files) {
      WAXVM_ASSIGN_OR_RETURN(const ImageIndex index,
                             IndexOf(file, absl::StrFormat("a message in %s", holder)));
      one.files.push_back(index);
    }
  }
  if (const std::shared_ptr<UnixSocket> peer = socket.peer_.lock()) {
    WAXVM_ASSIGN_OR_RETURN(kept.peer, IndexOf(peer, holder));
  }
  for (const std::shared_ptr<UnixSocket>& waiting : socket.pending_) {
    WAXVM_ASSIGN_OR_RETURN(const ImageIndex index, IndexOf(waiting, holder));
    kept.pending.push_back(index);
  }
  return kept;
}

std::vector<FilesKeeper::Visited> FilesKeeper::VisitTree() const {
  std::vector<Visited> visited;
  visited.push_back({process_.file_system().root().anchor(), 0, "", true});
  for (std::size_t i = 0; i < visited.size(); ++i) {
    const std::shared_ptr<MemoryNode> node = visited[i].node;
    if (node->closed || node->source != nullptr) continue;
    for (const auto& [name, link] : node->children()) {
      const MemoryNode& child = *link.node;
      const root_image::Node* origin = child.origin_;
      const bool as_in_image =
          !child.fixed && origin != nullptr && child.mode == origin->mode() &&
          child.owner == origin->owner && child.group == origin->group &&
          child.links_to_this == origin->links && child.target == origin->target &&
          IsSame(child.accessed, origin->modified) && IsSame(child.modified, origin->modified) &&
          IsSame(child.changed, origin->modified) && child.removed_.empty() &&
          child.contents.IsUntouched() && child.endpoint.expired() && child.name == name &&
          node->origin_ != nullptr && node->origin_->Find(name) == origin;
      // Whatever was there from the start is in the clone's tree as well, but may have been
      // changed.
      visited.push_back({link.node, i, name, !as_in_image || node_indices_.contains(&child)});
    }
  }
  for (std::size_t i = visited.size(); i-- > 1;)
    if (visited[i].needed) visited[visited[i].parent].needed = true;
  return visited;
}

absl::Status FilesKeeper::KeepTree() {
  const std::vector<Visited> visited = VisitTree();
  for (const Visited& one : visited)
    if (one.needed) IndexOf(one.node);
  for (std::size_t i = 0; i < nodes_.size(); ++i) KeepNode(i);
  for (const Visited& one : visited) {
    if (one.needed && one.parent != static_cast<std::size_t>(&one - visited.data()))
      image_.nodes[node_indices_.at(visited[one.parent].node.get())].children.emplace_back(
          one.name, node_indices_.at(one.node.get()));
  }
  // Sockets are bound to nodes by name.
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (!S_ISSOCK(nodes_[i]->mode)) continue;
    const auto bound = std::static_pointer_cast<OpenFile>(nodes_[i]->endpoint.lock());
    const auto known = file_indices_.find(bound.get());
    if (bound == nullptr || known == file_indices_.end()) continue;
    if (auto* socket = std::get_if<files_image::Socket>(&image_.files[known->second].what))
      socket->bound_node = static_cast<ImageIndex>(i);
  }
  return absl::OkStatus();
}

void FilesKeeper::KeepNode(std::size_t index) {
  const MemoryNode& node = *nodes_[index];
  files_image::Node kept{.inode = node.inode,
                         .mode = node.mode,
                         .owner = node.owner,
                         .group = node.group,
                         .links = node.links_to_this,
                         .times = {node.accessed, node.modified, node.changed},
                         .name = node.name,
                         .target = node.target,
                         .seals = node.seals,
                         .fixed = node.fixed,
                         .internal = node.internal,
                         .nameable = node.nameable};
  if (node.origin_ != nullptr) kept.image_number = node.origin_->number;
  if (const auto parent = node_indices_.find(node.parent.lock().get());
      parent != node_indices_.end())
    kept.parent = parent->second;
  for (const auto& [name, charge] : node.removed_) kept.removed.push_back(name);
  kept.contents.size = node.contents.size_;
  kept.contents.lower_bytes = node.contents.lower_bytes_;
  for (const auto& [page, bytes] : node.contents.pages_)
    kept.contents.pages.emplace_back(
        page, bytes != nullptr ? std::make_shared<const PageBytes>(*bytes) : nullptr);
  image_.nodes.push_back(std::move(kept));
}

void FilesKeeper::KeepLocks() {
  const auto keep = [this](const FileLocks::File& file, bool whole, const FileLock& lock) {
    files_image::Lock kept{.device = file.first,
                           .inode = file.second,
                           .whole_file = whole,
                           .exclusive = lock.exclusive,
                           .start = lock.start,
                           .end = lock.end};
    if (lock.owner != nullptr) {
      const auto owner = file_indices_.find(lock.owner);
      if (owner == file_indices_.end()) return;
      kept.owner = owner->second;
    }
    image_.locks.push_back(kept);
  };
  for (const auto& [file, locks] : process_.file_system().context().locks.files_) {
    for (const FileLock& lock : locks.ranges) keep(file, false, lock);
    for (const FileLock& lock : locks.whole) keep(file, true, lock);
  }
}

}  // namespace waxvm::linux_abi
