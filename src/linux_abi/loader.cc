// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/loader.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/status.h"
#include "src/image/program_rep.h"

namespace waxvm::linux_abi {
namespace {

// As Linux for a stack of 8 MiB it could be a quarter; nobody needs that, and it is touched at
// once.
constexpr std::size_t kMaxArgumentBytes = 128 * 1024;
constexpr std::uint64_t kClockTicks = 100;
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

absl::Status MapSegments(const InstanceSpec& spec, std::uint64_t base, AddressSpace& memory) {
  const internal::ProgramRep& program = spec.program.rep();
  std::uint64_t mapped_end = 0;
  for (const image::Segment& segment : program.elf().segments) {
    // A segment may begin in the page where the one before it ends, with the same rights.
    const std::uint64_t start = std::max(PageFloor(segment.address), mapped_end);
    const std::uint64_t end = *PageCeil(segment.address + segment.memory_bytes);
    const PageRights rights{segment.readable, segment.writable, segment.executable};
    if (end > start && memory.Map(base + start, end - start, rights, AddressSpace::Kind::kImage,
                                  /*fixed=*/true) < 0)
      return DoesNotFit(spec);
    mapped_end = end;
    if (!memory.WriteForced(base + segment.address,
                            program.bytes().subspan(segment.file_offset, segment.file_bytes)))
      return DoesNotFit(spec);
  }
  return absl::OkStatus();
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

absl::StatusOr<std::uint64_t> BuildStack(const InstanceSpec& spec, const CpuFeatures& features,
                                         std::uint64_t base, AddressSpace& memory) {
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
  const std::uint64_t name_at =
      stack.PushString(spec.arguments.empty() ? spec.program.name() : spec.arguments[0]);
  std::vector<std::uint64_t> words = {spec.arguments.size()};
  for (const auto* list : {&spec.arguments, &spec.environment}) {
    for (const std::string& text : *list) words.push_back(stack.PushString(text));
    words.push_back(0);
  }
  const std::pair<std::uint64_t, std::uint64_t> auxiliary[] = {
      {AT_PHDR, elf.program_header_address == 0 ? 0 : base + elf.program_header_address},
      {AT_PHENT, sizeof(Elf64_Phdr)},
      {AT_PHNUM, elf.program_header_count},
      {AT_PAGESZ, kPageBytes},
      {AT_BASE, 0},
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
      {AT_NULL, 0},
  };
  if (features.vdso_address != 0)
    words.insert(words.end(), {AT_SYSINFO_EHDR, features.vdso_address});
  for (const auto& [type, value] : auxiliary) {
    words.push_back(type);
    words.push_back(value);
  }
  const std::uint64_t stack_pointer = stack.PushWords(words);

  const PageRights rights{.read = true, .write = true, .execute = elf.executable_stack};
  if (memory.Map(kStackTop - kStackBytes, kStackBytes, rights, AddressSpace::Kind::kStack,
                 /*fixed=*/true) < 0 ||
      !memory.Prefault(stack_pointer - kFirstStackBytes, kStackTop) ||
      !memory.WriteForced(stack_pointer, stack.image()))
    return DoesNotFit(spec);
  return stack_pointer;
}

}  // namespace

absl::StatusOr<EntryState> LoadProgram(const InstanceSpec& spec, const CpuFeatures& features,
                                       AddressSpace& memory) {
  const internal::ProgramRep& program = spec.program.rep();
  const image::ElfImage& elf = program.elf();
  if (elf.interpreter)
    return InvalidArgument(
        "%s is dynamically linked (it asks for %s); the microVM runs statically linked programs",
        program.name(), *elf.interpreter);
  const std::uint64_t base = elf.relocatable ? kRelocatedBase : 0;
  if (base + elf.highest_address > kMapTop || base + elf.lowest_address < kUserStart)
    return InvalidArgument("%s occupies addresses %#x to %#x; %#x to %#x can be used",
                           program.name(), base + elf.lowest_address, base + elf.highest_address,
                           kUserStart, kMapTop);
  WAXVM_RETURN_IF_ERROR(MapSegments(spec, base, memory));
  memory.SetHeapStart(base + elf.highest_address);
  WAXVM_ASSIGN_OR_RETURN(const std::uint64_t stack_pointer,
                         BuildStack(spec, features, base, memory));
  return EntryState{.instruction_pointer = base + elf.entry, .stack_pointer = stack_pointer};
}

}  // namespace waxvm::linux_abi
