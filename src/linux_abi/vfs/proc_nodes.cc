// SPDX-License-Identifier: Apache-2.0
// /proc and /sys but for what is the process's own. They tell of the instance: one processor, its
// memory limit, the granted clock. Nothing here is the host's.
#include "src/linux_abi/vfs/proc_nodes.h"

#include <array>
#include <utility>

#include "src/base/strings.h"
#include "src/linux_abi/fixed_time.h"
#include "src/linux_abi/vfs/pipe.h"
#include "waxvm/access.h"

namespace waxvm::linux_abi {
namespace {

class TextSource final : public NodeSource {
 public:
  TextSource(MakeText make, TakeText take) : make_(std::move(make)), take_(std::move(take)) {}
  ErrnoOr<std::string> Text() override { return make_(); }
  std::int64_t SetText(std::string_view text) override { return take_ ? take_(text) : -EACCES; }

 private:
  MakeText make_;
  TakeText take_;
};

std::int64_t Monotonic(const VfsContext& context) {
  const std::chrono::nanoseconds now =
      context.spec.clock ? context.spec.clock->MonotonicTime() : kFixedTime;
  return now.count();
}

std::string MemInfo(const MemoryAccount& account) {
  const std::uint64_t total = account.limit_bytes() / 1024;
  const std::uint64_t free = account.free_bytes() / 1024;
  std::string text;
  const auto line = [&text](std::string_view name, std::uint64_t kilobytes) {
    text += absl::StrFormat("%-16s%8d kB\n", std::string(name) + ":", kilobytes);
  };
  line("MemTotal", total);
  line("MemFree", free);
  line("MemAvailable", free);
  for (const std::string_view name : {"Buffers", "Cached", "SwapCached", "Active", "Inactive",
                                      "SwapTotal", "SwapFree", "Dirty", "Writeback"}) {
    line(name, 0);
  }
  line("AnonPages", total - free);
  for (const std::string_view name : {"Mapped", "Shmem", "Slab", "SReclaimable", "SUnreclaim"}) {
    line(name, 0);
  }
  line("CommitLimit", total);
  line("Committed_AS", total - free);
  line("VmallocTotal", total);
  text += "HugePages_Total:       0\nHugePages_Free:        0\n";
  line("Hugepagesize", 2048);
  return text;
}

constexpr std::string_view kCpuInfo =
    "processor\t: 0\n"
    "vendor_id\t: waxvm\n"
    "cpu family\t: 6\n"
    "model\t\t: 0\n"
    "model name\t: virtual x86-64 processor\n"
    "stepping\t: 0\n"
    "physical id\t: 0\n"
    "siblings\t: 1\n"
    "core id\t\t: 0\n"
    "cpu cores\t: 1\n"
    "apicid\t\t: 0\n"
    "fpu\t\t: yes\n"
    "fpu_exception\t: yes\n"
    "cpuid level\t: 13\n"
    "wp\t\t: yes\n"
    "flags\t\t: fpu tsc msr pae cx8 cmov pat clflush mmx fxsr sse sse2 syscall nx lm "
    "constant_tsc rep_good nopl cpuid\n"
    "clflush size\t: 64\n"
    "cache_alignment\t: 64\n"
    "address sizes\t: 46 bits physical, 48 bits virtual\n\n";

std::string Stat(const VfsContext& context) {
  const timespec now = context.Now();
  const std::int64_t booted = now.tv_sec - Monotonic(context) / 1'000'000'000;
  return absl::StrFormat(
      "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime %d\n"
      "processes 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
      booted < 0 ? 0 : booted);
}

std::string UpTime(const VfsContext& context) {
  const std::int64_t hundredths = Monotonic(context) / 10'000'000;
  return absl::StrFormat("%d.%02d 0.00\n", hundredths / 100, hundredths % 100);
}

ErrnoOr<std::string> RandomUuid(const VfsContext& context) {
  const Access access{.resource = Resource::kRandom, .name = "/proc/sys/kernel/random/uuid"};
  if (!context.spec.gate->Check(access).ok() || context.spec.random == nullptr) {
    return Errno{EACCES};
  }
  std::array<std::byte, 16> bytes{};
  context.spec.random->Fill(bytes);
  bytes[6] = (bytes[6] & std::byte{0x0f}) | std::byte{0x40};
  bytes[8] = (bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += absl::StrFormat("%02x", static_cast<unsigned>(bytes[i]));
  }
  return text + "\n";
}

void FillSysKernel(VfsContext& context, DirectoryBuilder kernel) {
  kernel.File("ostype", "Linux\n");
  kernel.File("osrelease", "6.1.0-waxvm\n");
  kernel.File("version", "#1 waxvm\n");
  kernel.File("hostname", "waxvm\n");
  kernel.File("domainname", "(none)\n");
  kernel.File("pid_max", "4194304\n");
  kernel.File("threads-max", "4194304\n");
  kernel.File("cap_last_cap", "40\n");
  kernel.File("ngroups_max", "65536\n");
  kernel.File("overflowuid", "65534\n");
  kernel.File("overflowgid", "65534\n");
  kernel.File("core_pattern", "core\n");
  kernel.File("randomize_va_space", "0\n");
  kernel.File("shmmax", "18446744073692774399\n");
  kernel.File("shmall", "18446744073692774399\n");
  kernel.File("shmmni", "4096\n");
  DirectoryBuilder random = kernel.Directory("random");
  random.File("uuid", [&context] { return RandomUuid(context); });
  random.File("boot_id", "00000000-0000-4000-8000-000000000000\n");
  random.File("entropy_avail", "256\n");
  random.File("poolsize", "256\n");
}

// What PathWalk and DirectoryFile do not reach through a builder.
DirectoryBuilder Builder(VfsContext& context, MemoryNode& directory) {
  return DirectoryBuilder(context, directory.shared_from_this());
}

}  // namespace

std::shared_ptr<MemoryNode> DirectoryBuilder::Node(std::string_view name, mode_t mode,
                                                   std::shared_ptr<NodeSource> source) {
  if (directory_ == nullptr) return nullptr;
  ErrnoOr<std::shared_ptr<MemoryNode>> node = MemoryNode::Create(context_, mode);
  if (!node.ok() || directory_->Add(name, *node) < 0) return nullptr;
  (*node)->fixed = true;
  (*node)->closed = S_ISDIR(mode);
  (*node)->source = std::move(source);
  return *std::move(node);
}

DirectoryBuilder DirectoryBuilder::Directory(std::string_view name,
                                             std::shared_ptr<NodeSource> source) {
  std::shared_ptr<MemoryNode> node = directory_ == nullptr ? nullptr : directory_->Find(name);
  if (node == nullptr) node = Node(name, S_IFDIR | 0555, std::move(source));
  return DirectoryBuilder(context_, std::move(node));
}

void DirectoryBuilder::File(std::string_view name, MakeText text, TakeText take) {
  const mode_t mode = S_IFREG | (take ? 0644 : 0444);
  Node(name, mode, std::make_shared<TextSource>(std::move(text), std::move(take)));
}
void DirectoryBuilder::File(std::string_view name, std::string text) {
  File(name, [text = std::move(text)] { return ErrnoOr<std::string>(text); });
}
void DirectoryBuilder::Link(std::string_view name, MakeText text) {
  Node(name, S_IFLNK | 0777, std::make_shared<TextSource>(std::move(text), nullptr));
}
void DirectoryBuilder::Link(std::string_view name, std::string text) {
  Link(name, [text = std::move(text)] { return ErrnoOr<std::string>(text); });
}

void FillProc(VfsContext& context, ProcessView& view, MemoryNode& directory) {
  DirectoryBuilder proc = Builder(context, directory);
  const std::string pid = absl::StrFormat("%d", view.pid());
  proc.Directory(pid, std::make_shared<FilledLater>([&context, &view](MemoryNode& node) {
                   FillProcSelf(context, view, node);
                 }));
  proc.Link("self", pid);
  proc.Link("thread-self", [&view]() -> ErrnoOr<std::string> {
    return absl::StrFormat("%d/task/%d", view.pid(), view.thread_id());
  });
  proc.Link("mounts", "self/mounts");
  proc.Link("net", "self/net");
  proc.File("meminfo", [&context]() -> ErrnoOr<std::string> { return MemInfo(context.account); });
  proc.File("cpuinfo", std::string(kCpuInfo));
  proc.File("stat", [&context]() -> ErrnoOr<std::string> { return Stat(context); });
  proc.File("uptime", [&context]() -> ErrnoOr<std::string> { return UpTime(context); });
  proc.File("loadavg", [&view]() -> ErrnoOr<std::string> {
    return absl::StrFormat("0.00 0.00 0.00 1/%d %d\n", view.thread_ids().size(), view.pid());
  });
  proc.File("version", "Linux version 6.1.0-waxvm (waxvm) #1 waxvm\n");
  proc.File("filesystems", "nodev\ttmpfs\nnodev\tproc\nnodev\tsysfs\n");
  proc.File("cmdline", "\n");
  proc.File("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
  proc.File("devices", "Character devices:\n  1 mem\n  5 /dev/tty\n\nBlock devices:\n");
  proc.File("vmstat", [&context]() -> ErrnoOr<std::string> {
    return absl::StrFormat("nr_free_pages %d\npgfault 0\npgmajfault 0\n",
                           context.account.free_bytes() / kPageBytes);
  });
  DirectoryBuilder sys = proc.Directory("sys");
  FillSysKernel(context, sys.Directory("kernel"));
  DirectoryBuilder vm = sys.Directory("vm");
  vm.File("overcommit_memory", "0\n");
  vm.File("overcommit_ratio", "50\n");
  vm.File("max_map_count", "65530\n");
  vm.File("mmap_min_addr", "65536\n");
  vm.File("swappiness", "60\n");
  vm.File("nr_hugepages", "0\n");
  DirectoryBuilder fs = sys.Directory("fs");
  fs.File("file-max", "9223372036854775807\n");
  fs.File("nr_open", "1048576\n");
  fs.File("pipe-max-size", absl::StrFormat("%d\n", Pipe::kMaxBytes));
  DirectoryBuilder core = sys.Directory("net").Directory("core");
  core.File("somaxconn", "4096\n");
  core.File("rmem_default", "212992\n");
  core.File("wmem_default", "212992\n");
}

void FillSys(VfsContext& context, MemoryNode& directory) {
  DirectoryBuilder sys = Builder(context, directory);
  DirectoryBuilder system = sys.Directory("devices").Directory("system");
  DirectoryBuilder cpu = system.Directory("cpu");
  for (const std::string_view name : {"online", "possible", "present"}) cpu.File(name, "0\n");
  cpu.File("offline", "\n");
  cpu.File("kernel_max", "0\n");
  DirectoryBuilder topology = cpu.Directory("cpu0").Directory("topology");
  topology.File("core_id", "0\n");
  topology.File("physical_package_id", "0\n");
  for (const std::string_view name : {"thread_siblings", "core_siblings", "core_cpus"}) {
    topology.File(name, "1\n");
    topology.File(std::string(name) + "_list", "0\n");
  }
  DirectoryBuilder node = system.Directory("node");
  node.File("online", "0\n");
  node.File("possible", "0\n");
  node.Directory("node0").File("cpulist", "0\n");
  DirectoryBuilder pages =
      sys.Directory("kernel").Directory("mm").Directory("transparent_hugepage");
  pages.File("enabled", "always madvise [never]\n");
  pages.File("defrag", "always defer defer+madvise madvise [never]\n");
  pages.File("hpage_pmd_size", "2097152\n");
  sys.Directory("fs");
}

}  // namespace waxvm::linux_abi
