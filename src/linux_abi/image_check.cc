// SPDX-License-Identifier: Apache-2.0
// What the code that makes a process from an image relies on. The image comes from a file that
// anybody may have written: nothing here may be left to the checksum.
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "src/base/status.h"
#include "src/linux_abi/image_codec.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/linux_abi/vfs/sparse_bytes.h"
#include "src/linux_abi/vfs/unix_socket.h"

namespace waxvm::linux_abi {
namespace {

namespace kept = files_image;

// As when threads and timers are made by the program itself.
constexpr std::size_t kMaxThreads = 1 << 16;
constexpr std::uint64_t kUserFlags =
    0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000;
constexpr std::uint64_t kFixedFlags = 0x202;
constexpr std::size_t kMaxName = 255;
constexpr std::size_t kMaxPath = 4096;
constexpr std::size_t kMaxShownPath = kMaxPath + 16;  // " (deleted)"

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(
      absl::StrFormat("the state in the snapshot file is not valid: %s", what));
}

bool IsUserAddress(std::uint64_t address) { return address < std::uint64_t{1} << 47; }
// What wrfsbase takes.
bool IsCanonical(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}
// As timers are bounded when a program sets one.
constexpr std::int64_t kMinInterval = 50'000;

// What KVM is asked to load must be what a program could load itself.
bool CutRegisters(CpuRegisters& registers) {
  registers.rflags = (registers.rflags & kUserFlags) | kFixedFlags;
  return IsUserAddress(registers.rip) && IsCanonical(registers.fs_base) &&
         IsCanonical(registers.gs_base);
}

// Spec: Intel SDM volume 1, section 13.4.2; as for a frame that sigreturn takes.
void CutExtended(ExtendedState& state, std::uint64_t features) {
  constexpr std::size_t kHeader = 512;
  constexpr std::size_t kHeaderBytes = 64;
  std::uint64_t present = 0;
  std::memcpy(&present, state.bytes.data() + kHeader, sizeof present);
  present &= features;
  std::memset(state.bytes.data() + kHeader, 0, kHeaderBytes);
  std::memcpy(state.bytes.data() + kHeader, &present, sizeof present);
}

bool AreSignals(const std::vector<siginfo_t>& queue) {
  return queue.size() <= SignalQueue::kMaxQueued &&
         std::ranges::all_of(queue, [](const siginfo_t& info) {
           return info.si_signo >= 1 && info.si_signo <= kSignals;
         });
}

// The calls that a thread can sleep in. Their handlers leave the vCPU alone, which holds another
// thread's registers when they are called again: one that ended its thread, began a host call or
// returned from a signal would do so for that one.
bool CanSleep(std::uint64_t number) {
  constexpr std::uint64_t kCalls[] = {SYS_read,
                                      SYS_write,
                                      SYS_pread64,
                                      SYS_pwrite64,
                                      SYS_readv,
                                      SYS_writev,
                                      SYS_preadv,
                                      SYS_pwritev,
                                      SYS_preadv2,
                                      SYS_pwritev2,
                                      SYS_splice,
                                      SYS_tee,
                                      SYS_vmsplice,
                                      SYS_sendfile,
                                      SYS_copy_file_range,
                                      SYS_poll,
                                      SYS_ppoll,
                                      SYS_select,
                                      SYS_pselect6,
                                      SYS_epoll_wait,
                                      SYS_epoll_pwait,
                                      SYS_epoll_pwait2,
                                      SYS_connect,
                                      SYS_accept,
                                      SYS_accept4,
                                      SYS_sendto,
                                      SYS_sendmsg,
                                      SYS_sendmmsg,
                                      SYS_recvfrom,
                                      SYS_recvmsg,
                                      SYS_recvmmsg,
                                      SYS_nanosleep,
                                      SYS_pause,
                                      SYS_flock,
                                      SYS_clock_nanosleep,
                                      SYS_rt_sigsuspend,
                                      SYS_rt_sigtimedwait,
                                      SYS_fcntl,
                                      SYS_futex};
  return std::ranges::find(kCalls, number) != std::end(kCalls);
}

// Only such a call takes its thread off the table of waiters before it is over; a thread that is
// still there when it ends would be woken after it is gone.
bool WaitsForWord(const CallImage& call) {
  const std::uint64_t operation = call.arguments[1] & FUTEX_CMD_MASK & 0xffffffff;
  return call.number == SYS_futex && !call.woken &&
         (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET || operation == FUTEX_LOCK_PI ||
          operation == FUTEX_LOCK_PI2);
}

class Checker {
 public:
  Checker(ProcessImage& image, std::uint64_t features)
      : image_(image), files_(image.files), features_(features) {}

  absl::Status Check() {
    WAXVM_RETURN_IF_ERROR(CheckThreads());
    WAXVM_RETURN_IF_ERROR(CheckTimers());
    WAXVM_RETURN_IF_ERROR(CheckNodes());
    WAXVM_RETURN_IF_ERROR(CheckFiles());
    WAXVM_RETURN_IF_ERROR(CheckDescriptors());
    return CheckMemory();
  }

 private:
  bool IsThread(std::int32_t id) const { return ids_.contains(id); }
  bool IsNode(ImageIndex index) const { return index < files_.nodes.size(); }
  bool IsNoNode(ImageIndex index) const { return index == kNoIndex || IsNode(index); }
  bool IsFile(ImageIndex index) const { return index < files_.files.size(); }
  template <typename T>
  bool Is(ImageIndex index) const {
    return IsFile(index) && std::holds_alternative<T>(files_.files[index].what);
  }

  absl::Status CheckThreads() {
    ThreadsImage& threads = image_.threads;
    if (threads.threads.empty() || threads.threads.size() > kMaxThreads)
      return Damaged("the number of threads");
    for (ThreadImage& thread : threads.threads) {
      if (thread.id < 1 || !ids_.insert(thread.id).second) return Damaged("the id of a thread");
      if (!AreSignals(thread.pending)) return Damaged("a signal that waits");
      thread.settings.blocked &= ~kUnblockable;
      if (thread.saved_mask) *thread.saved_mask &= ~kUnblockable;
      if (thread.id == threads.live) {
        if (thread.call || thread.unsettled) return Damaged("the thread in the host call");
        continue;
      }
      if (!thread.call || thread.extended == nullptr || thread.call->used.size() > 2)
        return Damaged("a thread without its call");
      if (!CutRegisters(thread.registers)) return Damaged("the registers of a thread");
      ExtendedState state = *thread.extended;
      CutExtended(state, features_);
      thread.extended = std::make_shared<const ExtendedState>(state);
      if (thread.unsettled && *thread.unsettled <= Process::kThreadGone)
        return Damaged("the result of a call");
      // It becomes a result, where a negative number has another meaning.
      if (thread.call->progress > std::numeric_limits<std::int64_t>::max())
        return Damaged("how far a call has come");
      for (const CallImage::Used& used : thread.call->used)
        if (used.file != kNoIndex && !IsFile(used.file)) return Damaged("the file of a call");
    }
    if (!IsThread(threads.live)) return Damaged("the thread in the host call");
    std::set<std::int32_t> placed = {threads.live};
    for (const auto* list : {&threads.runnable, &threads.sleepers})
      for (const std::int32_t id : *list)
        if (!IsThread(id) || !placed.insert(id).second) return Damaged("the order of threads");
    if (placed != ids_) return Damaged("a thread that neither runs nor sleeps");
    const std::set<std::int32_t> sleepers(threads.sleepers.begin(), threads.sleepers.end());
    std::set<std::int32_t> may_wait;
    for (const ThreadImage& thread : threads.threads) {
      if (!sleepers.contains(thread.id)) continue;
      if (!CanSleep(thread.call->number)) return Damaged("the call that a thread sleeps in");
      if (WaitsForWord(*thread.call)) may_wait.insert(thread.id);
    }
    for (const FutexWaiter& waiter : threads.waiters)
      if (may_wait.erase(waiter.thread) == 0) return Damaged("who waits for a futex");
    if (!AreSignals(image_.pending)) return Damaged("a signal that waits");
    return absl::OkStatus();
  }

  absl::Status CheckTimers() {
    if (image_.timers.created.size() > Timers::kMaxTimers) return Damaged("the number of timers");
    std::set<std::int32_t> timers;
    const auto is_valid = [](const TimerImage& timer) {
      return timer.signal >= 0 && timer.signal <= kSignals && timer.interval >= 0 &&
             timer.set_to >= 0 && timer.overrun >= 0 && timer.last_overrun >= 0 &&
             timer.overrun < std::int64_t{1} << 61 &&
             (timer.interval == 0 || timer.interval >= kMinInterval) &&
             timer.interval < std::int64_t{1} << 61;
    };
    for (const TimerImage& timer : image_.timers.created)
      if (timer.id < 0 || !timers.insert(timer.id).second || !is_valid(timer))
        return Damaged("a timer");
    if (!std::ranges::all_of(image_.timers.intervals, is_valid)) return Damaged("a timer");
    return absl::OkStatus();
  }

  static bool IsName(const std::string& name) {
    return !name.empty() && name.size() <= kMaxName && name != "." && name != ".." &&
           name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
  }

  absl::Status CheckNodes() {
    if (files_.nodes.empty() || files_.nodes.size() > kMaxNodes)
      return Damaged("the number of files");
    if (!S_ISDIR(files_.nodes[0].mode) || !files_.nodes[0].fixed) return Damaged("the root");
    std::vector<bool> has_parent(files_.nodes.size());
    has_parent[0] = true;
    for (const kept::Node& node : files_.nodes) {
      const bool is_directory = S_ISDIR(node.mode);
      const bool is_known = is_directory || S_ISREG(node.mode) || S_ISLNK(node.mode) ||
                            S_ISFIFO(node.mode) || S_ISSOCK(node.mode) ||
                            (S_ISCHR(node.mode) && node.fixed);
      if (!is_known || (node.mode & ~(S_IFMT | 07777u)) != 0) return Damaged("the mode of a file");
      if (!IsNoNode(node.parent) || node.name.size() > kMaxName || node.target.size() > kMaxPath)
        return Damaged("the name of a file");
      if (node.parent != kNoIndex && !S_ISDIR(files_.nodes[node.parent].mode))
        return Damaged("the folder of a file");
      WAXVM_RETURN_IF_ERROR(CheckContents(node));
      if (!is_directory && (!node.children.empty() || !node.removed.empty()))
        return Damaged("a file that holds others");
      std::set<std::string_view> names;
      for (const auto& [name, child] : node.children) {
        if (!IsName(name) || !names.insert(name).second || !IsNode(child))
          return Damaged("a name in a folder");
        // A directory is in one place: circles would never be freed, nor walked to their end.
        if (S_ISDIR(files_.nodes[child].mode)) {
          if (has_parent[child]) return Damaged("a folder in two places");
          has_parent[child] = true;
        }
      }
      for (const std::string& name : node.removed)
        if (!IsName(name) || !names.insert(name).second) return Damaged("a name that was removed");
      for (const timespec& time : node.times)
        if (time.tv_nsec < 0 || time.tv_nsec > 999'999'999) return Damaged("the time of a file");
    }
    return CheckReach();
  }

  // Whatever holds others is below the root, and the way up ends there.
  absl::Status CheckReach() {
    std::vector<bool> reached(files_.nodes.size());
    std::vector<ImageIndex> pending = {0};
    while (!pending.empty()) {
      const ImageIndex at = pending.back();
      pending.pop_back();
      if (reached[at]) continue;
      reached[at] = true;
      for (const auto& [name, child] : files_.nodes[at].children) {
        pending.push_back(child);
        if (S_ISDIR(files_.nodes[child].mode) && files_.nodes[child].parent != at)
          return Damaged("the folder that a folder is in");
      }
    }
    for (std::size_t i = 0; i < reached.size(); ++i) {
      kept::Node& node = image_.files.nodes[i];
      if (!reached[i] && !node.children.empty()) return Damaged("a folder outside of the tree");
      if (node.parent != kNoIndex && !reached[node.parent]) node.parent = kNoIndex;
    }
    return absl::OkStatus();
  }

  static absl::Status CheckContents(const kept::Node& node) {
    const ContentsImage& contents = node.contents;
    const bool has_any = contents.size != 0 || !contents.pages.empty();
    if (contents.size > SparseBytes::kMaxBytes || contents.lower_bytes > contents.size ||
        (has_any && !S_ISREG(node.mode)))
      return Damaged("the size of a file");
    std::uint64_t next = 0;
    for (const auto& [index, bytes] : contents.pages) {
      if (index < next || index >= SparseBytes::kMaxBytes / kPageBytes ||
          index * kPageBytes >= contents.size)
        return Damaged("the pages of a file");
      next = index + 1;
    }
    return absl::OkStatus();
  }

  absl::Status CheckFiles() {
    for (const kept::Pipe& pipe : files_.pipes)
      if (pipe.capacity < kPageBytes || pipe.capacity > Pipe::kMaxBytes ||
          (pipe.capacity & (pipe.capacity - 1)) != 0 || pipe.bytes.size() > pipe.capacity)
        return Damaged("a pipe");
    for (const kept::File& file : files_.files) {
      // An offset is that of lseek, which keeps clear of the sign bit.
      if (file.offset >= std::uint64_t{1} << 63 || (file.flags & O_ACCMODE) == O_ACCMODE)
        return Damaged("the flags or offset of an open file");
      const bool valid =
          std::visit([&](const auto& what) { return IsValid(file, what); }, file.what);
      if (!valid) return Damaged("an open file");
    }
    return absl::OkStatus();  // circles of epoll instances are refused when they are made
  }

  bool IsValid(const kept::File&, const kept::Stream& stream) const { return stream.number <= 2; }
  bool IsValid(const kept::File& file, const kept::Plain& plain) const {
    if (!IsNode(plain.node)) return false;
    const mode_t mode = files_.nodes[plain.node].mode;
    const bool opens = S_ISREG(mode) || S_ISCHR(mode);
    return opens || (file.flags & O_PATH) != 0;
  }
  bool IsValid(const kept::File& file, const kept::Generated& generated) const {
    constexpr int kCreates = O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
    return generated.path.size() <= kMaxPath && (file.flags & kCreates) == 0 &&
           (generated.path.starts_with("/proc/") || generated.path.starts_with("/sys/") ||
            generated.path == "/proc" || generated.path == "/sys") &&
           generated.path.find("..") == std::string::npos;
  }
  bool IsValid(const kept::File&, const kept::Directory& directory) const {
    return IsNode(directory.node) && S_ISDIR(files_.nodes[directory.node].mode) &&
           std::ranges::all_of(directory.entries, [](const kept::Directory::Entry& entry) {
             return !entry.name.empty() && entry.name.size() <= kMaxName;
           });
  }
  bool IsValid(const kept::File& file, const kept::ProgramBytes& program) const {
    return program.path.size() <= kMaxPath && (file.flags & O_ACCMODE) == O_RDONLY;
  }
  bool IsValid(const kept::File&, const kept::PipeEnd& end) const {
    return end.pipe < files_.pipes.size() && IsNoNode(end.node) &&
           (end.node == kNoIndex || S_ISFIFO(files_.nodes[end.node].mode));
  }
  bool IsValid(const kept::File&, const kept::EventCounter& counter) const {
    return counter.value <= EventCounter::kMax;
  }
  bool IsValid(const kept::File&, const kept::Timer& timer) const {
    constexpr std::int64_t kMost = std::int64_t{1} << 61;
    return timer.interval >= 0 && timer.interval < kMost && timer.set_to >= 0;
  }
  bool IsValid(const kept::File&, const kept::Signals&) const { return true; }
  bool IsValid(const kept::File&, const kept::Epoll& epoll) const {
    std::set<std::pair<std::int32_t, ImageIndex>> seen;
    return std::ranges::all_of(epoll.interests,
                               [&](const kept::Epoll::Interest& interest) {
                                 return IsFile(interest.file) &&
                                        seen.emplace(interest.fd, interest.file).second;
                               }) &&
           (epoll.next_file == kNoIndex || IsFile(epoll.next_file));
  }
  bool IsValid(const kept::File& file, const kept::Socket& socket) const {
    const bool known_type =
        socket.type == SOCK_STREAM || socket.type == SOCK_DGRAM || socket.type == SOCK_SEQPACKET;
    if (!known_type || (file.flags & O_ACCMODE) != O_RDWR || socket.name.size() > kMaxName ||
        socket.accepted_name.size() > kMaxName || socket.peer_name.size() > kMaxName ||
        socket.queue.size() > 2 * UnixSocket::kMaxMessages || socket.error < 0 ||
        socket.backlog > 4096 || socket.pending.size() > socket.backlog + 1)
      return false;
    if (socket.bound_node != kNoIndex &&
        (!IsNode(socket.bound_node) || !S_ISSOCK(files_.nodes[socket.bound_node].mode)))
      return false;
    if (socket.peer != kNoIndex && !IsSameType(socket.peer, socket.type)) return false;
    for (const kept::Socket::Message& message : socket.queue) {
      if (message.files.size() > UnixSocket::kMaxFiles || message.from.size() > kMaxName ||
          message.bytes.size() > UnixSocket::kBufferBytes)
        return false;
      if (!std::ranges::all_of(message.files, [this](ImageIndex index) { return IsFile(index); }))
        return false;
    }
    return std::ranges::all_of(socket.pending, [&](ImageIndex index) {
      return IsSameType(index, socket.type) &&
             std::get<kept::Socket>(files_.files[index].what).pending.empty();
    });
  }
  bool IsSameType(ImageIndex index, std::int32_t type) const {
    return Is<kept::Socket>(index) && std::get<kept::Socket>(files_.files[index].what).type == type;
  }

  absl::Status CheckDescriptors() const {
    std::uint64_t next = 0;
    for (const kept::Descriptor& descriptor : files_.descriptors) {
      if (descriptor.number < next || descriptor.number > 0x7fffffff || !IsFile(descriptor.file))
        return Damaged("a descriptor");
      next = descriptor.number + 1;
    }
    for (const kept::Lock& lock : files_.locks)
      if (lock.start >= lock.end || (lock.owner != kNoIndex && !IsFile(lock.owner)))
        return Damaged("a lock");
    if (files_.working_node != kNoIndex &&
        (!IsNode(files_.working_node) || !S_ISDIR(files_.nodes[files_.working_node].mode)))
      return Damaged("the working directory");
    if (files_.working_directory.size() > kMaxPath || files_.umask > 0777)
      return Damaged("the working directory");
    return absl::OkStatus();
  }

  absl::Status CheckMemory() const {
    const AddressSpace::Image& memory = image_.memory;
    for (const auto& [start, area] : memory.areas) {
      if (!IsPage(start) || !IsPage(area.end) || start < kUserStart || area.end > kStackTop ||
          !IsPage(area.offset) || area.offset >= std::uint64_t{1} << 62)
        return Damaged("where a mapping lies");
      // What a program reads in /proc/self/maps has the path once for each mapping.
      const bool is_file = area.source != nullptr;
      if (is_file && (!IsKept(*area.source) || area.source->path().size() > kMaxShownPath))
        return Damaged("a mapped file");
    }
    std::set<FileIdentity> shared;
    for (const AddressSpace::SharedFileImage& file : memory.shared_files) {
      if (dynamic_cast<const KeptSource*>(file.source.get()) == nullptr || !IsKept(*file.source) ||
          !shared.insert(file.source->identity()).second)
        return Damaged("a file that is mapped shared");
      if (!file.pages.empty() && file.pages.rbegin()->first >= SparseBytes::kMaxBytes / kPageBytes)
        return Damaged("a page of a file that is mapped shared");
    }
    const bool heap = memory.heap_start <= memory.heap_end && memory.heap_end <= kStackTop;
    if (!heap || memory.system_ranges.size() > 16) return Damaged("the heap");
    for (const auto& [start, range] : memory.system_ranges)
      if (range.name.size() > kMaxName) return Damaged("the name of a mapping");
    if (image_.entry.auxiliary_vector.size() > kPageBytes) return Damaged("the auxiliary vector");
    return absl::OkStatus();
  }
  static bool IsPage(std::uint64_t address) { return address % kPageBytes == 0; }
  bool IsKept(const MappedSource& source) const {
    const auto* kept_source = dynamic_cast<const KeptSource*>(&source);
    if (kept_source == nullptr) return true;
    if (!Is<kept::Plain>(kept_source->file())) return Is<kept::ProgramBytes>(kept_source->file());
    const auto& plain = std::get<kept::Plain>(files_.files[kept_source->file()].what);
    return IsNode(plain.node) && S_ISREG(files_.nodes[plain.node].mode);
  }

  ProcessImage& image_;
  const FilesImage& files_;
  const std::uint64_t features_;
  std::set<std::int32_t> ids_;
};

}  // namespace

absl::Status CheckImage(ProcessImage& image, std::uint64_t features) {
  return Checker(image, features).Check();
}

}  // namespace waxvm::linux_abi
