// SPDX-License-Identifier: Apache-2.0
// Makes what a snapshot keeps of files and of what is open. The image may come from a file: it was
// checked (image_check.cc), and nothing here relies on more than that.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/base/status.h"
#include "src/linux_abi/files_keeper.h"
#include "src/linux_abi/signal_file.h"
#include "src/linux_abi/vfs/directory_file.h"
#include "src/linux_abi/vfs/epoll_file.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/generated_file.h"
#include "src/linux_abi/vfs/memory_file.h"
#include "src/linux_abi/vfs/program_file.h"
#include "src/linux_abi/vfs/stream_file.h"
#include "src/linux_abi/vfs/timer_file.h"
#include "src/linux_abi/vfs/unix_socket.h"
#include "src/root_image/root_image_rep.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;
using Made = absl::StatusOr<std::shared_ptr<OpenFile>>;

// Far enough away for anybody, and clear of what overflows.
constexpr nanoseconds kFar = std::chrono::hours(24 * 365 * 100);

Edges ToEdges(const files_image::Edges& edges) { return {.in = edges.in, .out = edges.out}; }

std::optional<nanoseconds> ToTime(std::optional<std::int64_t> count) {
  return count ? std::optional(nanoseconds(*count)) : std::nullopt;
}

absl::Status NoMemory() {
  return absl::ResourceExhaustedError(
      "the memory limit does not hold what the program of the snapshot has open");
}

}  // namespace

absl::Status FilesRestorer::Restore() {
  WAXVM_RETURN_IF_ERROR(MakeNodes());
  WAXVM_RETURN_IF_ERROR(MakePipes());
  WAXVM_RETURN_IF_ERROR(MakeFiles());
  WAXVM_RETURN_IF_ERROR(OpenDescriptors());
  WAXVM_RETURN_IF_ERROR(TakeLocks());
  FileSystem& file_system = process_.file_system();
  file_system.set_umask(image_.umask);
  if (image_.working_node != kNoIndex) {
    file_system.set_working_directory(Place(nodes_[image_.working_node]));
  } else if (file_system.ChangeDirectory(file_system.root(), image_.working_directory) < 0) {
    return FailedPrecondition("the working directory of the snapshot, %s, is not there",
                              image_.working_directory);
  }
  file_system.context().last_inode = image_.last_inode;
  file_system.context().changed = false;
  return absl::OkStatus();
}

const root_image::Node* FilesRestorer::ImageNode(std::uint64_t number) {
  if (number == files_image::Node::kNone) return nullptr;
  const std::optional<RootImage>& root_image = process_.spec().root_image;
  if (!root_image) return nullptr;
  return root_image->rep().tree().FindByNumber(number);
}

// From the root down, so that a directory is there before what is in it; then what has no name.
absl::Status FilesRestorer::MakeNodes() {
  nodes_.resize(image_.nodes.size());
  nodes_[0] = process_.file_system().root().anchor();
  std::vector<std::size_t> order = {0};
  for (std::size_t i = 0; i < order.size(); ++i) {
    MemoryNode& directory = *nodes_[order[i]];
    // What lies in /proc and /sys is made when it is looked at.
    if (directory.closed || directory.source != nullptr)
      return absl::DataLossError("the snapshot has files in /proc or /sys");
    for (const auto& [name, child] : image_.nodes[order[i]].children) {
      const bool is_new = nodes_[child] == nullptr;
      if (is_new) {
        WAXVM_RETURN_IF_ERROR(MakeNode(child, &directory, name));
        if (!image_.nodes[child].children.empty()) order.push_back(child);
      }
      if (directory.children_.contains(name)) continue;
      if (!directory.Attach(name, nodes_[child])) return NoMemory();
    }
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    if (nodes_[i] == nullptr) WAXVM_RETURN_IF_ERROR(MakeNode(i, nullptr, ""));
  for (std::size_t i = 0; i < nodes_.size(); ++i) WAXVM_RETURN_IF_ERROR(FillNode(i));
  return absl::OkStatus();
}

absl::Status FilesRestorer::MakeNode(std::size_t index, MemoryNode* parent, std::string_view name) {
  const files_image::Node& kept = image_.nodes[index];
  VfsContext& context = process_.file_system().context();
  if (kept.fixed) {
    // What every instance of these grants has from the start.
    if (parent != nullptr && parent->fixed) nodes_[index] = parent->Find(name);
    if (nodes_[index] == nullptr || !nodes_[index]->fixed ||
        (nodes_[index]->mode & S_IFMT) != (kept.mode & S_IFMT))
      return FailedPrecondition("\"%s\" of the snapshot is not there with these grants", name);
    return absl::OkStatus();
  }
  const root_image::Node* origin = ImageNode(kept.image_number);
  if (kept.image_number != files_image::Node::kNone &&
      (origin == nullptr || ((origin->mode() ^ kept.mode) & S_IFMT) != 0))
    return FailedPrecondition("file %d of the snapshot's root image is not there",
                              kept.image_number);
  ErrnoOr<std::shared_ptr<MemoryNode>> node =
      origin != nullptr ? MemoryNode::CreateFrom(context, *origin)
                        : MemoryNode::CreateAs(context, kept.mode, kept.inode);
  if (!node.ok()) return NoMemory();
  nodes_[index] = *std::move(node);
  if (origin != nullptr && !origin->is_directory() && origin->links > 1)
    context.linked_files.try_emplace(origin, nodes_[index]);
  return absl::OkStatus();
}

absl::Status FilesRestorer::FillNode(std::size_t index) {
  const files_image::Node& kept = image_.nodes[index];
  MemoryNode& node = *nodes_[index];
  node.mode = kept.mode;
  node.owner = kept.owner;
  node.group = kept.group;
  node.links_to_this = kept.links;
  node.accessed = kept.times[0];
  node.modified = kept.times[1];
  node.changed = kept.times[2];
  if (!kept.fixed) {
    if (kept.parent != kNoIndex) node.parent = nodes_[kept.parent];
    node.name = kept.name;
    if (node.target != kept.target && node.SetTarget(kept.target) < 0) return NoMemory();
    node.seals = kept.seals;
    node.internal = kept.internal;
    node.nameable = kept.nameable;
  }
  for (const std::string& name : kept.removed)
    if (!node.MarkRemoved(name)) return NoMemory();
  return node.contents.Load(kept.contents) ? absl::OkStatus() : NoMemory();
}

absl::Status FilesRestorer::MakePipes() {
  VfsContext& context = process_.file_system().context();
  for (const files_image::Pipe& kept : image_.pipes) {
    const ErrnoOr<std::shared_ptr<Pipe>> pipe = Pipe::Create(context);
    if (!pipe.ok() || (*pipe)->SetCapacity(kept.capacity) < 0) return NoMemory();
    (*pipe)->Put(kept.bytes);
    (*pipe)->inode = kept.inode;
    (*pipe)->mode = kept.mode;
    pipes_.push_back(*pipe);
  }
  return absl::OkStatus();
}

absl::Status FilesRestorer::MakeFiles() {
  files_.resize(image_.files.size());
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const files_image::File& kept = image_.files[i];
    WAXVM_ASSIGN_OR_RETURN(
        files_[i], std::visit([&](const auto& what) { return Make(kept, what); }, kept.what));
    OpenFile& file = *files_[i];
    file.flags_ = kept.flags;
    file.offset_ = kept.offset;
    file.uses_ = kept.uses;
  }
  // Opening the ends has counted them.
  for (std::size_t i = 0; i < pipes_.size(); ++i) {
    pipes_[i]->readers_ever = image_.pipes[i].readers_ever;
    pipes_[i]->writers_ever = image_.pipes[i].writers_ever;
    pipes_[i]->edges = ToEdges(image_.pipes[i].edges);
  }
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto& what = image_.files[i].what;
    if (const auto* epoll = std::get_if<files_image::Epoll>(&what))
      WAXVM_RETURN_IF_ERROR(Connect(static_cast<EpollFile&>(*files_[i]), *epoll));
    if (const auto* socket = std::get_if<files_image::Socket>(&what))
      WAXVM_RETURN_IF_ERROR(Connect(static_cast<UnixSocket&>(*files_[i]), *socket));
  }
  return absl::OkStatus();
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Stream& stream) {
  const std::shared_ptr<OpenFile> original = process_.files().Share(stream.number);
  if (stream.original) return original;
  const ErrnoOr<std::shared_ptr<OpenFile>> again = original->Reopen(kept.flags);
  return again.ok() ? *again : original;
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Plain& plain) {
  VfsContext& context = process_.file_system().context();
  const std::shared_ptr<MemoryNode>& node = nodes_[plain.node];
  if (node->device == Device::kNone || (kept.flags & O_PATH) != 0)
    return std::make_shared<MemoryFile>(context, node, kept.flags);
  return std::make_shared<DeviceFile>(context, node, kept.flags);
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Generated& generated) {
  FileSystem& file_system = process_.file_system();
  const ErrnoOr<std::shared_ptr<OpenFile>> file =
      file_system.Open(file_system.root(), generated.path, kept.flags, 0);
  if (!file.ok())
    return FailedPrecondition("%s, which the snapshot has open, is not there", generated.path);
  if (auto* made = dynamic_cast<GeneratedFile*>(file->get())) {
    if (!made->charge_.Resize(file_system.context().account, generated.text.size()))
      return NoMemory();
    made->text_ = generated.text;
  }
  return *file;
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Directory& directory) {
  VfsContext& context = process_.file_system().context();
  const std::shared_ptr<MemoryNode>& node = nodes_[directory.node];
  auto file = std::make_shared<DirectoryFile>(
      context, Place(node), std::make_shared<MemoryFile>(context, node, O_PATH), kept.flags);
  for (const files_image::Directory::Entry& entry : directory.entries)
    file->entries_.push_back({entry.inode, entry.type, entry.name});
  if (!file->ChargeEntries()) return NoMemory();
  return file;
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::ProgramBytes& program) {
  return std::make_shared<ProgramFile>(process_.file_system().context(), program.path,
                                       program.inode, kept.flags);
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::PipeEnd& end) {
  const std::shared_ptr<MemoryNode> node = end.node != kNoIndex ? nodes_[end.node] : nullptr;
  if (node != nullptr) node->endpoint = pipes_[end.pipe];
  auto file = std::make_shared<PipeEnd>(pipes_[end.pipe], kept.flags, node);
  file->writers_before_ = end.writers_before;
  return file;
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::EventCounter& counter) {
  auto file = std::make_shared<EventCounter>(counter.value, kept.flags);
  file->semaphore_ = counter.semaphore;
  file->edges_ = ToEdges(counter.edges);
  return file;
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Timer& timer) {
  auto file =
      std::make_shared<TimerFile>(process_.file_system().context(), timer.clock, kept.flags);
  file->value_ = {.left = nanoseconds(timer.set_to), .interval = nanoseconds(timer.interval)};
  file->expired_before_ = timer.expired_before;
  if (timer.left)
    file->next_ = process_.host().Now() + std::clamp(nanoseconds(*timer.left), -kFar, kFar);
  return file;
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Signals& signals) {
  return std::make_shared<SignalFile>(process_, signals.set, kept.flags);
}

Made FilesRestorer::Make(const files_image::File&, const files_image::Epoll&) {
  return std::make_shared<EpollFile>(process_.file_system().context());
}

Made FilesRestorer::Make(const files_image::File& kept, const files_image::Socket& socket) {
  return UnixSocket::CreateAs(process_.file_system().context(), socket.type, kept.flags,
                              socket.inode);
}

// Interests are put in their order, not added: what Add refuses now was there before.
absl::Status FilesRestorer::Connect(EpollFile& epoll, const files_image::Epoll& image) {
  for (const files_image::Epoll::Interest& kept : image.interests) {
    const std::shared_ptr<OpenFile>& file = files_[kept.file];
    epoll_event event{};
    event.events = kept.events;
    event.data.u64 = kept.data;
    if (!epoll.AddKept(kept.fd, file, event, kept.disabled, kept.reported,
                       ToEdges(kept.reported_edges)))
      return NoMemory();
  }
  if (image.next_file != kNoIndex) epoll.next_ = {image.next_fd, files_[image.next_file].get()};
  return absl::OkStatus();
}

absl::Status FilesRestorer::Connect(UnixSocket& socket, const files_image::Socket& image) {
  const auto at = [this](ImageIndex index) {
    return std::static_pointer_cast<UnixSocket>(files_[index]);
  };
  socket.mode_ = image.mode;
  socket.name_ = image.name;
  socket.accepted_name_ = image.accepted_name;
  if (image.name.starts_with('\0'))
    socket.context_.abstract_sockets.try_emplace(
        image.name, std::static_pointer_cast<UnixSocket>(socket.shared_from_this()));
  if (image.bound_node != kNoIndex) nodes_[image.bound_node]->endpoint = socket.shared_from_this();
  for (const files_image::Socket::Message& message : image.queue) {
    Ancillary ancillary{.files = {}, .credentials = message.credentials};
    for (const ImageIndex file : message.files) ancillary.files.push_back(files_[file]);
    if (!socket.Requeue(message.bytes, std::move(ancillary), message.from)) return NoMemory();
  }
  if (image.peer != kNoIndex) socket.peer_ = at(image.peer);
  socket.had_peer_ = image.had_peer;
  socket.peer_name_ = image.peer_name;
  socket.accepted_ = image.accepted;
  if (!image.accepted && !socket.ChargeAsPending()) return NoMemory();
  socket.read_shut_ = image.read_shut;
  socket.write_shut_ = image.write_shut;
  socket.listening_ = image.listening;
  socket.backlog_ = image.backlog;
  for (const ImageIndex waiting : image.pending) socket.pending_.push_back(at(waiting));
  socket.error_ = image.error;
  socket.edges_ = ToEdges(image.edges);
  socket.pass_credentials = image.pass_credentials;
  socket.receive_timeout = ToTime(image.receive_timeout);
  socket.send_timeout = ToTime(image.send_timeout);
  return absl::OkStatus();
}

absl::Status FilesRestorer::OpenDescriptors() {
  FdTable& table = process_.files();
  table.CloseRange(0, 2, /*only_mark=*/false);
  for (const files_image::Descriptor& kept : image_.descriptors)
    if (table.Replace(kept.number, files_[kept.file], kept.close_on_exec) < 0)
      return FailedPrecondition("descriptor %d of the snapshot cannot be opened", kept.number);
  return absl::OkStatus();
}

absl::Status FilesRestorer::TakeLocks() {
  for (const files_image::Lock& kept : image_.locks) {
    OpenFile* const owner = kept.owner != kNoIndex ? files_[kept.owner].get() : nullptr;
    const FileLocks::File file(kept.device, kept.inode);
    FileLocks& locks = process_.file_system().context().locks;
    const FileLock lock{
        .owner = owner, .exclusive = kept.exclusive, .start = kept.start, .end = kept.end};
    if (locks.Set(file, kept.whole_file, lock, /*unlock=*/false) < 0) return NoMemory();
    if (owner != nullptr) ReleaseWithFile(locks, file, *owner);
  }
  return absl::OkStatus();
}

}  // namespace waxvm::linux_abi
