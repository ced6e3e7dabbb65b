// SPDX-License-Identifier: Apache-2.0
// The order of the fields here is the format: a change of it, or of a structure that is written as
// its bytes, is a new version (kSnapshotFileVersion).
#include "src/linux_abi/image_codec.h"

#include <map>
#include <utility>

#include "src/base/byte_archive.h"
#include "src/base/status.h"
#include "src/linux_abi/mapped_source.h"
#include "src/linux_abi/scheduler.h"

namespace waxvm {
namespace {

template <typename Archive>
void TransferTime(Archive& a, timespec& time) {
  std::int64_t seconds = time.tv_sec;
  std::int64_t nanoseconds = time.tv_nsec;
  a(seconds, nanoseconds);
  time.tv_sec = seconds;
  time.tv_nsec = nanoseconds;
}

}  // namespace

template <typename Archive>
void Transfer(Archive& a, timespec& time) {
  TransferTime(a, time);
}

// Tripwires: these are written as their bytes.
static_assert(sizeof(siginfo_t) == 128);
static_assert(sizeof(linux_abi::CpuRegisters) == 20 * 8);
static_assert(sizeof(linux_abi::ExtendedState) == 4096);

template <typename Archive>
void Transfer(Archive& a, siginfo_t& info) {
  a(AsBytes{info});
}

}  // namespace waxvm

namespace waxvm::linux_abi {

template <typename Archive>
void Transfer(Archive& a, CpuRegisters& registers) {
  a(AsBytes{registers});
}
template <typename Archive>
void Transfer(Archive& a, ExtendedState& state) {
  a(state.bytes);
}
template <typename Archive>
void Transfer(Archive& a, SignalAction& action) {
  a(action.handler, action.flags, action.restorer, action.mask);
}
template <typename Archive>
void Transfer(Archive& a, ThreadSettings& s) {
  a(s.name, s.blocked, s.signal_stack.address, s.signal_stack.bytes, s.signal_stack.flags,
    s.trap.number, s.trap.error_code, s.trap.address, s.clear_tid_address, s.robust_list,
    s.rseq_address, s.rseq_signature);
}
template <typename Archive>
void Transfer(Archive& a, CallImage::Used& used) {
  a(used.number, used.file);
}
template <typename Archive>
void Transfer(Archive& a, CallImage& call) {
  a(call.number, call.arguments, call.progress, call.left, call.woken, call.used);
}
template <typename Archive>
void Transfer(Archive& a, ThreadImage& thread) {
  a(thread.settings, thread.id, thread.registers, thread.extended, thread.call, thread.unsettled,
    thread.saved_mask, thread.pending);
}
template <typename Archive>
void Transfer(Archive& a, FutexWaiter& waiter) {
  a(waiter.address, waiter.thread, waiter.bitset, waiter.inherits);
}
template <typename Archive>
void Transfer(Archive& a, ThreadsImage& threads) {
  a(threads.threads, threads.live, threads.runnable, threads.sleepers, threads.next_id,
    threads.waiters);
}
template <typename Archive>
void Transfer(Archive& a, TimerImage& timer) {
  a(timer.id, timer.cpu_clock, timer.guest_clock, timer.signal, timer.thread, timer.value,
    timer.code, timer.left, timer.interval, timer.set_to, timer.overrun, timer.last_overrun);
}
template <typename Archive>
void Transfer(Archive& a, EntryState& entry) {
  a(entry.instruction_pointer, entry.stack_pointer, entry.auxiliary_vector);
}
template <typename Archive>
void Transfer(Archive& a, ContentsImage& contents) {
  a(contents.size, contents.lower_bytes, contents.pages);
}

namespace files_image {

template <typename Archive>
void Transfer(Archive& a, Node& node) {
  a(node.inode, node.image_number, node.mode, node.owner, node.group, node.links, node.times,
    node.parent, node.name, node.target, node.seals, node.fixed, node.internal, node.nameable,
    node.contents, node.children, node.removed);
}
template <typename Archive>
void Transfer(Archive& a, Edges& edges) {
  a(edges.in, edges.out);
}
template <typename Archive>
void Transfer(Archive& a, Pipe& pipe) {
  a(pipe.inode, pipe.mode, pipe.capacity, pipe.readers_ever, pipe.writers_ever, pipe.edges,
    pipe.bytes);
}
template <typename Archive>
void Transfer(Archive& a, Stream& stream) {
  a(stream.number, stream.original);
}
template <typename Archive>
void Transfer(Archive& a, Plain& plain) {
  a(plain.node);
}
template <typename Archive>
void Transfer(Archive& a, Generated& generated) {
  a(generated.path, generated.text);
}
template <typename Archive>
void Transfer(Archive& a, Directory::Entry& entry) {
  a(entry.inode, entry.type, entry.name);
}
template <typename Archive>
void Transfer(Archive& a, Directory& directory) {
  a(directory.node, directory.entries);
}
template <typename Archive>
void Transfer(Archive& a, ProgramBytes& program) {
  a(program.path, program.inode);
}
template <typename Archive>
void Transfer(Archive& a, PipeEnd& end) {
  a(end.pipe, end.node, end.writers_before);
}
template <typename Archive>
void Transfer(Archive& a, EventCounter& counter) {
  a(counter.value, counter.semaphore, counter.edges);
}
template <typename Archive>
void Transfer(Archive& a, Timer& timer) {
  a(timer.clock, timer.left, timer.set_to, timer.interval, timer.expired_before);
}
template <typename Archive>
void Transfer(Archive& a, Signals& signals) {
  a(signals.set);
}
template <typename Archive>
void Transfer(Archive& a, Epoll::Interest& interest) {
  a(interest.fd, interest.file, interest.events, interest.data, interest.disabled,
    interest.reported, interest.reported_edges);
}
template <typename Archive>
void Transfer(Archive& a, Epoll& epoll) {
  a(epoll.interests, epoll.next_fd, epoll.next_file);
}
template <typename Archive>
void Transfer(Archive& a, Socket::Message& message) {
  a(message.bytes, message.files, message.credentials, message.from);
}
template <typename Archive>
void Transfer(Archive& a, Socket& socket) {
  a(socket.type, socket.inode, socket.mode, socket.name, socket.accepted_name, socket.bound_node,
    socket.queue, socket.peer, socket.had_peer, socket.peer_name, socket.accepted, socket.read_shut,
    socket.write_shut, socket.listening, socket.backlog, socket.pending, socket.error, socket.edges,
    socket.pass_credentials, socket.receive_timeout, socket.send_timeout);
}
template <typename Archive>
void Transfer(Archive& a, File& file) {
  a(file.flags, file.offset, file.uses, file.what);
}
template <typename Archive>
void Transfer(Archive& a, Descriptor& descriptor) {
  a(descriptor.number, descriptor.file, descriptor.close_on_exec);
}
template <typename Archive>
void Transfer(Archive& a, Lock& lock) {
  a(lock.device, lock.inode, lock.whole_file, lock.exclusive, lock.owner, lock.start, lock.end);
}

}  // namespace files_image

template <typename Archive>
void Transfer(Archive& a, FilesImage& files) {
  a(files.nodes, files.pipes, files.files, files.descriptors, files.locks, files.last_inode,
    files.working_node, files.working_directory, files.umask);
}

namespace {

/// A mapped file as it is written.
struct SourceRecord {
  enum class Kind : std::uint8_t { kProgram, kFile, kBytes };
  Kind kind = Kind::kProgram;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::string path = {};
  std::uint32_t file = kNoIndex;
  std::vector<std::byte> bytes = {};
};
template <typename Archive>
void Transfer(Archive& a, SourceRecord& source) {
  a(source.kind, source.device, source.inode, source.path, source.file, source.bytes);
}

struct AreaRecord {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint8_t rights = 0;  ///< 1: read, 2: write, 4: execute
  std::uint8_t kind = 0;
  bool may_write = true;
  std::uint32_t source = kNoIndex;
  std::uint64_t offset = 0;
  std::uint32_t shared = kNoIndex;
};
template <typename Archive>
void Transfer(Archive& a, AreaRecord& area) {
  a(area.start, area.end, area.rights, area.kind, area.may_write, area.source, area.offset,
    area.shared);
}

struct SharedPageRecord {
  std::uint64_t index = 0;
  std::uint64_t frame = 0;
  bool dirty = false;
};
template <typename Archive>
void Transfer(Archive& a, SharedPageRecord& page) {
  a(page.index, page.frame, page.dirty);
}

struct SharedFileRecord {
  std::uint32_t source = kNoIndex;
  std::vector<SharedPageRecord> pages = {};
};
template <typename Archive>
void Transfer(Archive& a, SharedFileRecord& file) {
  a(file.source, file.pages);
}

struct SystemRangeRecord {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint8_t rights = 0;
  std::string name = {};
};
template <typename Archive>
void Transfer(Archive& a, SystemRangeRecord& range) {
  a(range.start, range.end, range.rights, range.name);
}

struct MemoryRecord {
  std::vector<SourceRecord> sources = {};
  std::vector<SharedFileRecord> shared_files = {};
  std::vector<AreaRecord> areas = {};
  std::uint64_t heap_start = 0;
  std::uint64_t heap_end = 0;
  std::vector<SystemRangeRecord> system_ranges = {};
};
template <typename Archive>
void Transfer(Archive& a, MemoryRecord& memory) {
  a(memory.sources, memory.shared_files, memory.areas, memory.heap_start, memory.heap_end,
    memory.system_ranges);
}

template <typename Archive>
void TransferState(Archive& a, MemoryRecord& memory, ProcessImage& image) {
  a(memory, image.entry, image.threads, image.actions, image.pending, image.signals_sent,
    image.timers.created, image.timers.intervals, image.files, image.host_call_address);
}

std::uint8_t Bits(PageRights rights) {
  return static_cast<std::uint8_t>((rights.read ? 1 : 0) | (rights.write ? 2 : 0) |
                                   (rights.execute ? 4 : 0));
}
PageRights RightsOf(std::uint8_t bits) {
  return {.read = (bits & 1) != 0, .write = (bits & 2) != 0, .execute = (bits & 4) != 0};
}

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(
      absl::StrFormat("the state in the snapshot file is not valid: %s", what));
}

/// Gives every source an index.
class SourceWriter {
 public:
  explicit SourceWriter(std::vector<SourceRecord>& records) : records_(records) {}

  absl::StatusOr<std::uint32_t> IndexOf(const std::shared_ptr<MappedSource>& source) {
    if (source == nullptr) return kNoIndex;
    const auto [known, is_new] =
        known_.try_emplace(source.get(), static_cast<std::uint32_t>(records_.size()));
    if (!is_new) return known->second;
    SourceRecord& record = records_.emplace_back();
    record.device = source->identity().device;
    record.inode = source->identity().inode;
    record.path = source->path();
    if (dynamic_cast<const ProgramSource*>(source.get()) != nullptr) return known->second;
    if (const auto* kept = dynamic_cast<const KeptSource*>(source.get())) {
      record.kind = SourceRecord::Kind::kFile;
      record.file = kept->file();
      return known->second;
    }
    record.kind = SourceRecord::Kind::kBytes;
    const std::int64_t size = source->Size();
    if (size < 0 || static_cast<std::uint64_t>(size) > kMaxMappedFileBytes - read_)
      return FailedPrecondition(
          "a snapshot file cannot keep the mapping of %s: at most %d bytes of mapped files",
          source->path(), kMaxMappedFileBytes);
    record.bytes.resize(static_cast<std::size_t>(size));
    std::size_t done = 0;
    while (done < record.bytes.size()) {
      const std::int64_t got = source->PRead(std::span(record.bytes).subspan(done), done);
      if (got <= 0)
        return FailedPrecondition(
            "a snapshot file cannot keep the mapping of %s: it is shorter now", source->path());
      done += static_cast<std::size_t>(got);
    }
    read_ += done;
    return known->second;
  }

 private:
  std::vector<SourceRecord>& records_;
  std::map<const MappedSource*, std::uint32_t> known_;
  std::uint64_t read_ = 0;
};

absl::StatusOr<MemoryRecord> RecordOf(const AddressSpace::Image& image) {
  MemoryRecord memory{.heap_start = image.heap_start, .heap_end = image.heap_end};
  SourceWriter sources(memory.sources);
  for (const AddressSpace::SharedFileImage& file : image.shared_files) {
    SharedFileRecord& record = memory.shared_files.emplace_back();
    WAXVM_ASSIGN_OR_RETURN(record.source, sources.IndexOf(file.source));
    for (const auto& [index, page] : file.pages)
      record.pages.push_back({.index = index, .frame = page.frame, .dirty = page.dirty});
  }
  auto shared = image.shared_areas.begin();
  for (const auto& [start, area] : image.areas) {
    AreaRecord record{.start = start,
                      .end = area.end,
                      .rights = Bits(area.rights),
                      .kind = static_cast<std::uint8_t>(area.kind),
                      .may_write = area.may_write,
                      .offset = area.offset};
    WAXVM_ASSIGN_OR_RETURN(record.source, sources.IndexOf(area.source));
    if (shared != image.shared_areas.end() && shared->first == start)
      record.shared = (shared++)->second;
    memory.areas.push_back(record);
  }
  for (const auto& [start, range] : image.system_ranges)
    memory.system_ranges.push_back(
        {.start = start, .end = range.end, .rights = Bits(range.rights), .name = range.name});
  return memory;
}

absl::Status LoadRecord(MemoryRecord& memory, const InstanceSpec& spec,
                        AddressSpace::Image& image) {
  std::vector<std::shared_ptr<MappedSource>> sources;
  for (SourceRecord& record : memory.sources) {
    const FileIdentity identity{.device = record.device, .inode = record.inode};
    switch (record.kind) {
      case SourceRecord::Kind::kProgram:
        sources.push_back(std::make_shared<ProgramSource>(spec.program, record.path));
        break;
      case SourceRecord::Kind::kFile:
        sources.push_back(std::make_shared<KeptSource>(record.file, identity, record.path));
        break;
      case SourceRecord::Kind::kBytes:
        sources.push_back(std::make_shared<BytesSource>(
            std::make_shared<const std::vector<std::byte>>(std::move(record.bytes)), identity,
            record.path));
        break;
      default:
        return Damaged("a mapped file of an unknown kind");
    }
  }
  for (const SharedFileRecord& record : memory.shared_files) {
    AddressSpace::SharedFileImage& file = image.shared_files.emplace_back();
    if (record.source >= sources.size()) return Damaged("the number of a mapped file");
    file.source = sources[record.source];
    for (const SharedPageRecord& page : record.pages)
      if (!file.pages
               .emplace(page.index, SharedFile::Page{.frame = page.frame, .dirty = page.dirty})
               .second)
        return Damaged("a page of a shared mapping twice");
  }
  std::uint64_t end = 0;
  for (const AreaRecord& record : memory.areas) {
    if (record.start < end || record.end <= record.start) return Damaged("the order of mappings");
    end = record.end;
    if (record.rights > 7 || record.kind > static_cast<std::uint8_t>(AddressSpace::Kind::kFile))
      return Damaged("the kind of a mapping");
    AddressSpace::Area area{.end = record.end,
                            .rights = RightsOf(record.rights),
                            .kind = static_cast<AddressSpace::Kind>(record.kind),
                            .may_write = record.may_write,
                            .offset = record.offset};
    if (record.source != kNoIndex) {
      if (record.source >= sources.size()) return Damaged("the number of a mapped file");
      area.source = sources[record.source];
    }
    if (record.shared != kNoIndex) {
      if (record.shared >= image.shared_files.size() || area.source == nullptr)
        return Damaged("the number of a shared file");
      image.shared_areas.emplace_back(record.start, record.shared);
    }
    image.areas.emplace_hint(image.areas.end(), record.start, std::move(area));
  }
  for (SystemRangeRecord& range : memory.system_ranges)
    image.system_ranges.insert_or_assign(
        range.start,
        AddressSpace::SystemRange{
            .end = range.end, .rights = RightsOf(range.rights), .name = std::move(range.name)});
  image.heap_start = memory.heap_start;
  image.heap_end = memory.heap_end;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> EncodeImage(const ProcessImage& image) {
  WAXVM_ASSIGN_OR_RETURN(MemoryRecord memory, RecordOf(image.memory));
  ByteWriter writer;
  TransferState(writer, memory, const_cast<ProcessImage&>(image));
  return writer.Take();
}

absl::StatusOr<ProcessImage> DecodeImage(std::span<const std::byte> bytes, const InstanceSpec& spec,
                                         std::uint64_t features) {
  ByteReader reader(bytes);
  MemoryRecord memory;
  ProcessImage image;
  TransferState(reader, memory, image);
  if (!reader.ok()) return Damaged("it ends too early, or a length is wrong");
  if (!reader.at_end()) return Damaged("there are bytes behind its end");
  WAXVM_RETURN_IF_ERROR(LoadRecord(memory, spec, image.memory));
  WAXVM_RETURN_IF_ERROR(CheckImage(image, features));
  // More than the program itself could have started.
  const std::uint64_t limit = MaxThreads(spec.limits);
  if (image.threads.threads.size() > limit)
    return absl::ResourceExhaustedError(
        absl::StrFormat("the snapshot file has %d threads; limits.processes is %d",
                        image.threads.threads.size(), limit));
  image.keeps_time = image.KeepsTime();
  return image;
}

}  // namespace waxvm::linux_abi
