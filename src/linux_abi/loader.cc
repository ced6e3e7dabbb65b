// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/loader.h"

#include <elf.h>
#include <fcntl.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/status.h"
#include "src/image/program_rep.h"
#include "src/linux_abi/segments.h"
#include "src/linux_abi/vfs/file_system.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {
namespace {

// As Linux for a stack of 8 MiB it could be a quarter; nobody needs that, and it is touched at
// once.
constexpr std::size_t kMaxArgumentBytes = 128 * 1024;
constexpr std::uint64_t kClockTicks = 100;
constexpr std::uint64_t kMinimumSignalStack = 51;  // AT_MINSIGSTKSZ
// Frames for the first calls below the arguments, made present with them.
constexpr std::uint64_t kFirstStackBytes = 16 * 1024;

absl::Status DoesNotFit(const InstanceSpec& spec) {
  std::uint64_t bytes = 0;
  for (const image::Segment& segment : spec.program.rep().elf().segments)
    bytes += segment.memory_bytes;
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s takes %d bytes and its stack and page tables some more, which does not fit into its "
      "memory limit of %d bytes",
      spec.program.name(), bytes, spec.limits.memory_bytes.value_or(0)));
}

// Headers lie at the start of every file that a linker made.
constexpr std::size_t kHeadBytes = 4096;
// A dynamic linker has a few hundred kilobytes; one of many gigabytes is made to fill the address
// space.
constexpr std::uint64_t kMaxInterpreterSpan = std::uint64_t{64} << 20;

struct Interpreter {
  std::uint64_t base = 0;
  std::uint64_t entry = 0;
};

absl::Status NotVisible(const InstanceSpec& spec, const std::string& path, Errno error) {
  return InvalidArgument(
      "%s is dynamically linked and asks for the interpreter %s, which cannot be opened inside "
      "(%s); grant the folders or the root image that hold it and the libraries, for example "
      "--grant=files:/:/:ro",
      spec.program.name(), path, std::strerror(error.number));
}

absl::StatusOr<image::ElfImage> ParseInterpreter(MappedSource& source) {
  const std::int64_t size = source.Size();
  std::array<std::byte, kHeadBytes> head;
  const std::int64_t got = source.PRead(head, 0);
  if (size < 0 || got < 0) return InvalidArgument("it cannot be read");
  WAXVM_ASSIGN_OR_RETURN(image::ElfImage elf,
                         image::ParseElfStart(std::span(head).first(static_cast<std::size_t>(got)),
                                              static_cast<std::uint64_t>(size)));
  if (!elf.relocatable) return InvalidArgument("it is not a shared object (ET_DYN)");
  if (elf.interpreter) return InvalidArgument("it asks for an interpreter itself");
  if (elf.highest_address > kMaxInterpreterSpan)
    return InvalidArgument("it reaches up to %#x, at most %#x is allowed", elf.highest_address,
                           kMaxInterpreterSpan);
  return elf;
}

absl::StatusOr<Interpreter> LoadInterpreter(const InstanceSpec& spec, const std::string& path,
                                            AddressSpace& memory, FileSystem& files) {
  ErrnoOr<std::shared_ptr<OpenFile>> file = files.Open(files.root(), path, O_RDONLY, 0);
  if (!file.ok()) return NotVisible(spec, path, file.error());
  ErrnoOr<std::shared_ptr<MappedSource>> source = memory.SourceOf(*std::move(file));
  if (!source.ok()) return NotVisible(spec, path, source.error());
  const absl::StatusOr<image::ElfImage> elf = ParseInterpreter(**source);
  if (!elf.ok())
    return InvalidArgument("%s asks for the interpreter %s, which is none: %s", spec.program.name(),
                           path, std::string(elf.status().message()));
  const std::int64_t room = memory.Map(0, elf->highest_address, PageRights{},
                                       AddressSpace::Kind::kImage, /*fixed=*/false);
  if (room < 0) return DoesNotFit(spec);
  const auto base = static_cast<std::uint64_t>(room);
  memory.Unmap(base, elf->highest_address);
  if (!MapSegments(*elf, *source, base, memory)) return DoesNotFit(spec);
  return Interpreter{.base = base, .entry = base + elf->entry};
}

// The initial stack, built from its top downwards in host memory and copied in once.
class StackBuilder {
 public:
  explicit StackBuilder(std::uint64_t top) : top_(top) {}

  std::uint64_t PushBytes(std::string_view bytes) {
    image_.insert(image_.begin(), bytes.begin(), bytes.end());
    return top_ - image_.size();
  }
  std::uint64_t PushString(const std::string& text) {
    return PushBytes({text.c_str(), text.size() + 1});
  }
  // The words, the last of them highest, ending on a 16-byte boundary at their start.
  std::uint64_t PushWords(const std::vector<std::uint64_t>& words) {
    const std::size_t bytes = words.size() * sizeof words[0];
    while ((top_ - image_.size() - bytes) % 16 != 0) image_.insert(image_.begin(), '\0');
    return PushBytes({reinterpret_cast<const char*>(words.data()), bytes});
  }
  std::span<const std::byte> image() const { return std::as_bytes(std::span(image_)); }

 private:
  std::uint64_t top_;
  std::vector<char> image_;
};

std::array<std::byte, 16> StartRandom(const InstanceSpec& spec) {
  std::array<std::byte, 16> bytes;
  // Without the grant even AT_RANDOM (stack protector and pointer guard) is a constant.
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i + 1);
  if (spec.random != nullptr &&
      spec.gate->Check({.resource = Resource::kRandom, .name = "AT_RANDOM"}).ok())
    spec.random->Fill(bytes);
  return bytes;
}

bool MapStack(const image::ElfImage& elf, AddressSpace& memory) {
  const PageRights rights{.read = true, .write = true, .execute = elf.executable_stack};
  return memory.Map(kStackTop - kStackBytes, kStackBytes, rights, AddressSpace::Kind::kStack,
                    /*fixed=*/true) >= 0 &&
         memory.Prefault(kStackTop - kFirstStackBytes, kStackTop);
}

}  // namespace

absl::Status BuildStack(const InstanceSpec& spec, const CpuFeatures& features, AddressSpace& memory,
                        EntryState& entry) {
  const std::uint64_t base = entry.program_base;
  const image::ElfImage& elf = spec.program.rep().elf();
  std::size_t argument_bytes = 0;
  for (const auto* list : {&spec.arguments, &spec.environment})
    for (const std::string& text : *list) {
      if (text.find('\0') != std::string::npos)
        return InvalidArgument("an argument or environment string contains a zero byte");
      argument_bytes += text.size() + 1 + sizeof(std::uint64_t);
    }
  if (argument_bytes > kMaxArgumentBytes)
    return InvalidArgument("arguments and environment take %d bytes; at most %d fit",
                           argument_bytes, kMaxArgumentBytes);

  StackBuilder stack(kStackTop);
  const auto random = StartRandom(spec);
  const std::uint64_t random_at =
      stack.PushBytes({reinterpret_cast<const char*>(random.data()), random.size()});
  const std::uint64_t platform_at = stack.PushString("x86_64");
  const std::uint64_t name_at = stack.PushString(spec.program.name());
  std::vector<std::uint64_t> words = {spec.arguments.size()};
  for (const auto* list : {&spec.arguments, &spec.environment}) {
    for (const std::string& text : *list) words.push_back(stack.PushString(text));
    words.push_back(0);
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> auxiliary = {
      {AT_PHDR, elf.program_header_address == 0 ? 0 : base + elf.program_header_address},
      {AT_PHENT, sizeof(Elf64_Phdr)},
      {AT_PHNUM, elf.program_header_count},
      {AT_PAGESZ, kPageBytes},
      {AT_BASE, entry.interpreter_base},
      {AT_FLAGS, 0},
      {AT_ENTRY, base + elf.entry},
      {AT_UID, 0},
      {AT_EUID, 0},
      {AT_GID, 0},
      {AT_EGID, 0},
      {AT_SECURE, 0},
      {AT_RANDOM, random_at},
      {AT_HWCAP, features.hwcap},
      {AT_HWCAP2, features.hwcap2},
      {AT_CLKTCK, kClockTicks},
      {AT_PLATFORM, platform_at},
      {AT_EXECFN, name_at},
      {kMinimumSignalStack, features.minimum_signal_stack_bytes},
  };
  if (features.vdso_address) auxiliary.emplace_back(AT_SYSINFO_EHDR, *features.vdso_address);
  if (features.host_call_entry)
    auxiliary.emplace_back(WAXVM_HOST_CALL_AUXV_ENTRY, *features.host_call_entry);
  auxiliary.emplace_back(AT_NULL, 0);
  const std::size_t first_auxiliary = words.size();
  for (const auto& [type, value] : auxiliary) {
    words.push_back(type);
    words.push_back(value);
  }
  entry.auxiliary_vector.assign(reinterpret_cast<const char*>(words.data() + first_auxiliary),
                                (words.size() - first_auxiliary) * sizeof words[0]);
  const std::uint64_t stack_pointer = stack.PushWords(words);
  entry.stack_pointer = stack_pointer;
  if (!memory.Prefault(stack_pointer - kFirstStackBytes, kStackTop) ||
      !memory.WriteForced(stack_pointer, stack.image()))
    return DoesNotFit(spec);
  return absl::OkStatus();
}

absl::StatusOr<EntryState> LoadProgram(const InstanceSpec& spec, const CpuFeatures& features,
                                       AddressSpace& memory, FileSystem& files) {
  const image::ElfImage& elf = spec.program.rep().elf();
  const std::uint64_t base = elf.relocatable ? kRelocatedBase : 0;
  if (base + elf.highest_address > kMapTop || base + elf.lowest_address < kUserStart)
    return InvalidArgument("%s occupies addresses %#x to %#x; %#x to %#x can be used",
                           spec.program.name(), base + elf.lowest_address,
                           base + elf.highest_address, kUserStart, kMapTop);
  if (!MapSegments(elf, std::make_shared<ProgramSource>(spec.program, spec.program.name()), base,
                   memory))
    return DoesNotFit(spec);
  memory.SetHeapStart(base + elf.highest_address);
  Interpreter interpreter{.entry = base + elf.entry};
  if (elf.interpreter) {
    WAXVM_ASSIGN_OR_RETURN(interpreter, LoadInterpreter(spec, *elf.interpreter, memory, files));
  }
  EntryState entry{.program_base = base,
                   .interpreter_base = interpreter.base,
                   .instruction_pointer = interpreter.entry};
  if (!MapStack(elf, memory)) return DoesNotFit(spec);
  if (!spec.for_runs) WAXVM_RETURN_IF_ERROR(BuildStack(spec, features, memory, entry));
  if (features.vdso_address) {
    // Two pages that the machine has mapped: what the clocks are computed from, and the code.
    const std::uint64_t code = *features.vdso_address;
    memory.AddSystemRange(code - kPageBytes, code, {.read = true}, "[vvar]");
    memory.AddSystemRange(code, code + kPageBytes, {.read = true, .execute = true}, "[vdso]");
  }
  return entry;
}

}  // namespace waxvm::linux_abi
