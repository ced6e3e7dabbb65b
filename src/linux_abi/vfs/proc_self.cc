// SPDX-License-Identifier: Apache-2.0
// /proc/<pid>.
#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "src/base/strings.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/proc_nodes.h"
#include "src/linux_abi/vfs/program_file.h"

namespace waxvm::linux_abi {
namespace {

std::string Joined(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) joined.append(text.c_str(), text.size() + 1);
  return joined;
}

std::string CommandName(const ProcessView& view, std::int32_t thread) {
  std::string name = view.ThreadName(thread);
  return name.substr(0, std::min<std::size_t>(name.find('\0'), 15));
}

/// The sizes of what is mapped, from the lines of maps.
struct Sizes {
  std::uint64_t all = 0;
  std::uint64_t code = 0;
  std::uint64_t stack = 0;
};

Sizes SizesOf(const std::string& maps) {
  Sizes sizes;
  for (std::size_t at = 0; at < maps.size();) {
    const std::size_t end = std::min(maps.find('\n', at), maps.size());
    const std::string_view line(maps.data() + at, end - at);
    at = end + 1;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    const auto dash = std::from_chars(line.data(), line.data() + line.size(), first, 16);
    if (dash.ptr == line.data() + line.size()) continue;
    std::from_chars(dash.ptr + 1, line.data() + line.size(), last, 16);
    if (last <= first) continue;
    sizes.all += last - first;
    const std::size_t rights = line.find(' ');
    if (rights != std::string_view::npos && line.substr(rights, 4).find('x') != line.npos) {
      sizes.code += last - first;
    }
    if (line.find("[stack]") != line.npos) sizes.stack += last - first;
  }
  return sizes;
}

std::string SignalLines(const ProcessView& view, std::int32_t thread) {
  const SignalsView signals = view.Signals(thread);
  std::string text = absl::StrFormat("SigQ:\t%d/%d\n", signals.queued, view.max_queued_signals());
  const auto line = [&text](std::string_view name, std::uint64_t set) {
    text += absl::StrFormat("%s:\t%016x\n", name, set);
  };
  line("SigPnd", signals.pending);
  line("ShdPnd", signals.process_pending);
  line("SigBlk", signals.blocked);
  line("SigIgn", signals.ignored);
  line("SigCgt", signals.caught);
  return text;
}

std::string Status(const VfsContext& context, const ProcessView& view, std::int32_t thread) {
  const Sizes sizes = SizesOf(view.Maps());
  const std::uint64_t used = context.account.used_bytes() / 1024;
  std::string text = absl::StrFormat(
      "Name:\t%s\nUmask:\t0022\nState:\tR (running)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t1\n"
      "TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \n",
      CommandName(view, thread), view.pid(), thread);
  const auto line = [&text](std::string_view name, std::uint64_t kilobytes) {
    text += absl::StrFormat("%s:\t%8d kB\n", name, kilobytes);
  };
  line("VmPeak", sizes.all / 1024);
  line("VmSize", sizes.all / 1024);
  line("VmLck", 0);
  line("VmPin", 0);
  line("VmHWM", context.account.peak_bytes() / 1024);
  line("VmRSS", used);
  line("RssAnon", used);
  line("RssFile", 0);
  line("RssShmem", 0);
  line("VmData", (sizes.all - sizes.code - sizes.stack) / 1024);
  line("VmStk", sizes.stack / 1024);
  line("VmExe", sizes.code / 1024);
  line("VmLib", 0);
  line("VmPTE", 0);
  line("VmSwap", 0);
  text += absl::StrFormat("Threads:\t%d\n", view.thread_ids().size());
  return text + SignalLines(view, thread) +
         "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"
         "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n"
         "NoNewPrivs:\t1\nSeccomp:\t0\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n"
         "Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\n"
         "nonvoluntary_ctxt_switches:\t0\n";
}

// Field by field as proc(5) numbers them; what the instance does not count is 0.
std::string StatLine(const VfsContext& context, const ProcessView& view, std::int32_t thread,
                     std::chrono::nanoseconds cpu_time) {
  constexpr std::chrono::milliseconds kTick(10);
  constexpr std::size_t kFields = 52;
  std::array<std::uint64_t, kFields + 1> field{};
  field[4] = 1;  // parent
  field[5] = field[6] = static_cast<std::uint64_t>(view.pid());
  field[14] = static_cast<std::uint64_t>(cpu_time / kTick);  // all of it in user mode
  field[18] = 20;                                            // priority
  field[20] = view.thread_ids().size();
  field[23] = SizesOf(view.Maps()).all;
  field[24] = context.account.used_bytes() / kPageBytes;
  field[25] = ~std::uint64_t{0};  // no limit on resident memory
  field[38] = 17;                 // SIGCHLD
  std::string text = absl::StrFormat("%d (%s) R", thread, CommandName(view, thread));
  for (std::size_t i = 4; i <= kFields; ++i) {
    // No terminal is -1 where the group in its foreground is told.
    text += i == 8 ? std::string(" -1") : absl::StrFormat(" %d", field[i]);
  }
  return text + "\n";
}

std::string StatM(const VfsContext& context, const ProcessView& view) {
  const Sizes sizes = SizesOf(view.Maps());
  return absl::StrFormat("%d %d 0 %d 0 %d 0\n", sizes.all / kPageBytes,
                         context.account.used_bytes() / kPageBytes, sizes.code / kPageBytes,
                         (sizes.all - sizes.code) / kPageBytes);
}

std::string LimitLines(const VfsContext& context) {
  struct Line {
    std::string_view name;
    std::string value;
    std::string_view unit;
  };
  const std::string none = "unlimited";
  const auto files =
      absl::StrFormat("%d", context.spec.limits.open_files.value_or(FdTable::kDefaultLimit));
  const Line lines[] = {
      {"Max cpu time", none, "seconds"},    {"Max file size", none, "bytes"},
      {"Max data size", none, "bytes"},     {"Max stack size", "8388608", "bytes"},
      {"Max core file size", "0", "bytes"}, {"Max resident set", none, "bytes"},
      {"Max processes", none, "processes"}, {"Max open files", files, "files"},
      {"Max locked memory", none, "bytes"}, {"Max address space", none, "bytes"},
      {"Max file locks", none, "locks"},    {"Max pending signals", none, "signals"},
      {"Max msgqueue size", none, "bytes"}, {"Max nice priority", "0", ""},
      {"Max realtime priority", "0", ""},   {"Max realtime timeout", none, "us"},
  };
  std::string text =
      absl::StrFormat("%-26s%-21s%-21s%-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  for (const Line& line : lines) {
    text += absl::StrFormat("%-26s%-21s%-21s%-10s\n", line.name, line.value, line.value, line.unit);
  }
  return text;
}

// A path with what would end a field written as three octal digits.
std::string Escaped(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\') {
      text += absl::StrFormat("\\%03o", static_cast<unsigned char>(c));
    } else {
      text += c;
    }
  }
  return text;
}

// Calls `line` with the path, the file system and "ro" or "rw" of everything mounted.
template <typename Line>
std::string MountLines(const VfsContext& context, Line line) {
  std::string text = line("/", "tmpfs", "rw") + line("/proc", "proc", "rw") +
                     line("/sys", "sysfs", "ro") + line("/dev", "tmpfs", "rw") +
                     line("/tmp", "tmpfs", "rw");
  for (const FileMount& mount : context.spec.mounts) {
    text +=
        line(Escaped(mount.guest_path), "waxvm", mount.rights == Rights::kReadOnly ? "ro" : "rw");
  }
  return text;
}

std::string Mounts(const VfsContext& context) {
  return MountLines(context,
                    [](std::string_view path, std::string_view type, std::string_view rights) {
                      return absl::StrFormat("%s %s %s %s 0 0\n", type, path, type, rights);
                    });
}

std::string MountInfo(const VfsContext& context) {
  return MountLines(context, [id = 20](std::string_view path, std::string_view type,
                                       std::string_view rights) mutable {
    const int parent = id == 20 ? 1 : 20;
    std::string text = absl::StrFormat("%d %d 0:%d / %s %s - %s %s %s\n", id, parent, id, path,
                                       rights, type, type, rights);
    ++id;
    return text;
  });
}

std::string KindOf(mode_t mode) {
  return S_ISFIFO(mode) ? "pipe" : S_ISSOCK(mode) ? "socket" : "anon_inode";
}

/// A link of /proc/self/fd.
class DescriptorLink final : public NodeSource {
 public:
  DescriptorLink(ProcessView& view, std::uint64_t fd) : view_(view), fd_(fd) {}
  ErrnoOr<std::string> Text() override {
    const OpenFile* file = view_.files().Get(fd_);
    if (file == nullptr) return Errno{ENOENT};
    const ErrnoOr<std::string> path = file->Path();
    if (path.ok() || path.error().number != ENOENT) return path;
    struct stat status {};
    if (file->Stat(status) < 0) return Errno{ENOENT};
    return absl::StrFormat("%s:[%d]", KindOf(status.st_mode), status.st_ino);
  }
  std::shared_ptr<OpenFile> LinkedFile() override { return view_.files().Share(fd_); }

 private:
  ProcessView& view_;
  std::uint64_t fd_;
};

std::string DescriptorInfo(ProcessView& view, std::uint64_t fd) {
  OpenFile* file = view.files().Get(fd);
  if (file == nullptr) return "";
  const int flags = file->flags() | (view.files().close_on_exec(fd) ? O_CLOEXEC : 0);
  struct stat status {};
  static_cast<void>(file->Stat(status));
  const std::int64_t position = std::max<std::int64_t>(file->Seek(0, SEEK_CUR), 0);
  return absl::StrFormat("pos:\t%d\nflags:\t0%o\nmnt_id:\t20\nino:\t%d\n", position, flags,
                         status.st_ino);
}

/// /proc/self/exe: the program itself, wherever its name leads.
class ProgramLink final : public NodeSource {
 public:
  ProgramLink(VfsContext& context, ProcessView& view)
      : context_(context), view_(view), inode_(++context.last_inode) {}
  ErrnoOr<std::string> Text() override { return view_.Executable(); }
  std::shared_ptr<OpenFile> LinkedFile() override {
    return std::make_shared<ProgramFile>(context_, view_.Executable(), inode_, O_PATH);
  }

 private:
  VfsContext& context_;
  ProcessView& view_;
  std::uint64_t inode_;
};

/// A directory whose names are numbers that come and go.
class NumberedDirectory : public NodeSource {
 public:
  explicit NumberedDirectory(VfsContext& context) : context_(context) {}
  void Refresh(MemoryNode& directory) override {
    const std::vector<std::uint64_t> numbers = Numbers();
    std::vector<std::string> gone;
    for (const auto& [name, link] : directory.children()) {
      std::uint64_t number = 0;
      std::from_chars(name.data(), name.data() + name.size(), number);
      if (!std::ranges::binary_search(numbers, number)) gone.push_back(name);
    }
    for (const std::string& name : gone) directory.Remove(name);
    DirectoryBuilder builder(context_, directory.shared_from_this());
    for (const std::uint64_t number : numbers) {
      const std::string name = absl::StrFormat("%d", number);
      if (!directory.children().contains(name)) Add(builder, name, number);
    }
  }

 protected:
  /// In ascending order.
  virtual std::vector<std::uint64_t> Numbers() = 0;
  virtual void Add(DirectoryBuilder& builder, const std::string& name, std::uint64_t number) = 0;
  VfsContext& context() { return context_; }

 private:
  VfsContext& context_;
};

class DescriptorDirectory final : public NumberedDirectory {
 public:
  DescriptorDirectory(VfsContext& context, ProcessView& view, bool info)
      : NumberedDirectory(context), view_(view), info_(info) {}

 protected:
  std::vector<std::uint64_t> Numbers() override {
    std::vector<std::uint64_t> numbers;
    for (std::uint64_t fd = 0; fd < view_.files().size(); ++fd) {
      if (view_.files().Get(fd) != nullptr) numbers.push_back(fd);
    }
    return numbers;
  }
  void Add(DirectoryBuilder& builder, const std::string& name, std::uint64_t number) override {
    if (info_) {
      builder.File(
          name, [this, number]() -> ErrnoOr<std::string> { return DescriptorInfo(view_, number); });
    } else {
      builder.Node(name, S_IFLNK | 0700, std::make_shared<DescriptorLink>(view_, number));
    }
  }

 private:
  ProcessView& view_;
  bool info_;
};

void FillCommon(VfsContext& context, ProcessView& view, DirectoryBuilder& self,
                std::int32_t thread);

class ThreadDirectory final : public NumberedDirectory {
 public:
  ThreadDirectory(VfsContext& context, ProcessView& view)
      : NumberedDirectory(context), view_(view) {}

 protected:
  std::vector<std::uint64_t> Numbers() override {
    std::vector<std::uint64_t> numbers;
    for (const std::int32_t id : view_.thread_ids()) {
      numbers.push_back(static_cast<std::uint64_t>(id));
    }
    std::ranges::sort(numbers);
    return numbers;
  }
  void Add(DirectoryBuilder& builder, const std::string& name, std::uint64_t number) override {
    const auto thread = static_cast<std::int32_t>(number);
    auto fill = [&context = context(), &view = view_, thread](MemoryNode& node) {
      DirectoryBuilder directory(context, node.shared_from_this());
      FillCommon(context, view, directory, thread);
      directory.File("stat", [&context, &view, thread]() -> ErrnoOr<std::string> {
        return StatLine(context, view, thread, view.ThreadTime(thread));
      });
    };
    builder.Node(name, S_IFDIR | 0555, std::make_shared<FilledLater>(std::move(fill)));
  }

 private:
  ProcessView& view_;
};

// What a process and each of its threads have.
void FillCommon(VfsContext& context, ProcessView& view, DirectoryBuilder& self,
                std::int32_t thread) {
  using Text = ErrnoOr<std::string>;
  self.File(
      "comm", [&view, thread]() -> Text { return CommandName(view, thread) + "\n"; },
      [&view, thread](std::string_view name) -> std::int64_t {
        view.SetThreadName(thread, name.substr(0, name.find_first_of(std::string_view("\n\0", 2))));
        return 0;
      });
  self.File("status", [&, thread]() -> Text { return Status(context, view, thread); });
  self.File("statm", [&]() -> Text { return StatM(context, view); });
  self.File("maps", [&view]() -> Text { return view.Maps(); });
  self.File("cmdline", [&context]() -> Text { return Joined(context.spec.arguments); });
  self.File("environ", [&context]() -> Text { return Joined(context.spec.environment); });
  self.File("auxv", [&view]() -> Text { return view.AuxiliaryVector(); });
  self.File("limits", [&context]() -> Text { return LimitLines(context); });
  self.File("mounts", [&context]() -> Text { return Mounts(context); });
  self.File("mountinfo", [&context]() -> Text { return MountInfo(context); });
  self.File("cgroup", "0::/\n");
  self.File("wchan", "0");
  self.File("io",
            "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n"
            "cancelled_write_bytes: 0\n");
  self.File("personality", "00000000\n");
  self.File("oom_score", "0\n");
  // Nobody would choose this process over others, so the wish is kept by nobody.
  self.File(
      "oom_score_adj", []() -> Text { return std::string("0\n"); },
      [](std::string_view) -> std::int64_t { return 0; });
  self.Node("exe", S_IFLNK | 0777, std::make_shared<ProgramLink>(context, view));
  self.Link("root", "/");
  self.Link("cwd", [&view]() -> Text { return view.WorkingDirectory(); });
  self.Directory("fd", std::make_shared<DescriptorDirectory>(context, view, /*info=*/false));
  self.Directory("fdinfo", std::make_shared<DescriptorDirectory>(context, view, /*info=*/true));
}

}  // namespace

void FillProcSelf(VfsContext& context, ProcessView& view, MemoryNode& directory) {
  DirectoryBuilder self(context, directory.shared_from_this());
  FillCommon(context, view, self, view.pid());
  self.File("stat", [&context, &view]() -> ErrnoOr<std::string> {
    return StatLine(context, view, view.pid(), view.ProcessTime());
  });
  self.Directory("task", std::make_shared<ThreadDirectory>(context, view));
  DirectoryBuilder net = self.Directory("net");
  net.File("unix", "Num       RefCount Protocol Flags    Type St Inode Path\n");
}

}  // namespace waxvm::linux_abi
