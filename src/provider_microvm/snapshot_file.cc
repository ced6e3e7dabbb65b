// SPDX-License-Identifier: Apache-2.0
// Snapshots in files. Spec: docs/formats/snapshot.md.
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "src/base/byte_archive.h"
#include "src/base/crc32c.h"
#include "src/base/file_io.h"
#include "src/base/status.h"
#include "src/linux_abi/fixed_answers.h"
#include "src/linux_abi/image_codec.h"
#include "src/provider_microvm/instance.h"
#include "src/provider_microvm/snapshot.h"
#include "src/vmm/saved_image.h"

namespace waxvm::microvm {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::string_view kWriting = "writing a snapshot file";
constexpr char kMagic[8] = {'w', 'a', 'x', 'v', 'm', 's', 'n', 'p'};

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t file_bytes;
  std::uint64_t origin_bytes;
  std::uint64_t machine_bytes;
  std::uint64_t state_bytes;
  std::uint64_t page_bytes;
  std::uint32_t sections_crc;  ///< origin, machine, state, and the zeroes behind them
  std::uint32_t pages_crc;
  std::uint32_t reserved;
  std::uint32_t header_crc;  ///< of all before it
};
// Tripwires of the format.
static_assert(sizeof(Header) == 72 && offsetof(Header, file_bytes) == 16 &&
              offsetof(Header, sections_crc) == 56 && offsetof(Header, header_crc) == 68);

// As much as a program's lists of pages, descriptors and files can make up under its limit, and
// the mapped files that go into it: a header cannot make the host read more than that.
std::uint64_t MostSectionBytes(std::uint64_t limit) {
  return 2 * limit + linux_abi::kMaxMappedFileBytes + (std::uint64_t{64} << 20);
}

template <typename T>
std::span<const std::byte> BytesOf(const T& object) {
  return std::as_bytes(std::span<const T, 1>(&object, 1));
}
std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

absl::Status ReadFile(int file, std::uint64_t offset, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t got = ::pread(file, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "reading a snapshot file");
    if (got == 0) return absl::DataLossError("the snapshot file became shorter while it was read");
    offset += static_cast<std::uint64_t>(got);
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return absl::OkStatus();
}

std::uint32_t HeaderCrc(const Header& header) {
  return Crc32c(BytesOf(header).first(offsetof(Header, header_crc)));
}

vmm::MachineOptions OptionsFor(const InstanceSpec& spec, const vmm::HostTraits& traits) {
  return {.trap_rdtsc = spec.clock == nullptr && traits.traps_rdtsc,
          .hide_rdrand = spec.random == nullptr,
          .vdso = spec.clock != nullptr && spec.host_clock};
}

absl::StatusOr<Header> ReadHeader(int file, std::uint64_t limit) {
  struct stat status {};
  if (::fstat(file, &status) != 0) return ErrnoStatus(errno, "looking at a snapshot file");
  if (!S_ISREG(status.st_mode)) return InvalidArgument("not a regular file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  Header header{};
  if (size < sizeof header) {
    std::array<char, sizeof kMagic> magic{};
    const std::size_t there = std::min<std::size_t>(size, magic.size());
    WAXVM_RETURN_IF_ERROR(ReadFile(file, 0, std::as_writable_bytes(std::span(magic)).first(there)));
    if (size < sizeof kMagic || std::memcmp(magic.data(), kMagic, there) != 0)
      return InvalidArgument("not a snapshot file");
    return absl::DataLossError("the snapshot file is truncated within its header");
  }
  WAXVM_RETURN_IF_ERROR(
      ReadFile(file, 0, std::as_writable_bytes(std::span<Header, 1>(&header, 1))));
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    return InvalidArgument("not a snapshot file");
  if (header.version != kVersion)
    return FailedPrecondition("the snapshot file has version %d; this library reads version %d",
                              header.version, kVersion);
  if (header.header_crc != HeaderCrc(header) || header.header_bytes != sizeof header ||
      header.reserved != 0)
    return absl::DataLossError("the header of the snapshot file is damaged");
  if (size < header.file_bytes)
    return absl::DataLossError(
        absl::StrFormat("the snapshot file is truncated: %d of %d bytes", size, header.file_bytes));
  if (size > header.file_bytes)
    return absl::DataLossError(
        absl::StrFormat("the snapshot file has %d bytes behind its end", size - header.file_bytes));
  const std::uint64_t most = MostSectionBytes(limit);
  std::uint64_t left = most;
  for (const std::uint64_t bytes :
       {header.origin_bytes, header.machine_bytes, header.state_bytes}) {
    if (bytes > left)
      return absl::DataLossError(absl::StrFormat(
          "a section of the snapshot file has %d bytes, at most %d under this memory limit", bytes,
          left));
    left -= bytes;
  }
  const std::uint64_t sections =
      *PageCeil(sizeof header + header.origin_bytes + header.machine_bytes + header.state_bytes);
  if (header.file_bytes - std::min(header.file_bytes, sections) != header.page_bytes ||
      header.file_bytes < sections)
    return absl::DataLossError("the sections of the snapshot file do not fill it");
  return header;
}

// The first line in which the two differ, for people.
absl::Status CheckOrigin(const std::string& there, const std::string& here) {
  if (there == here) return absl::OkStatus();
  // The difference begins there at the latest; what follows could be lines without end.
  constexpr std::size_t kLine = 4096;
  const std::vector<std::string> of_file =
      absl::StrSplit(absl::string_view(there).substr(0, here.size() + kLine), '\n');
  const std::vector<std::string> own = absl::StrSplit(here, '\n');
  const auto [a, b] = std::ranges::mismatch(of_file, own);
  const auto line = [](auto at, const std::vector<std::string>& lines) {
    return at == lines.end() || at->empty() ? std::string("nothing") : absl::CHexEscape(*at);
  };
  return FailedPrecondition(
      "the snapshot file was made from something else: there it is \"%s\", here \"%s\"",
      line(a, of_file), line(b, own));
}

/// Says whether a page of the machine belongs to a mapping of the process.
class LeafCheck {
 public:
  explicit LeafCheck(const linux_abi::AddressSpace::Image& memory) : memory_(memory) {
    for (const auto& [start, file] : memory.shared_areas) shared_.emplace(start, file);
  }

  bool operator()(const vmm::MachineLoader::Leaf& leaf) const {
    std::uint64_t at = leaf.address;
    while (at < leaf.address + leaf.bytes) {
      auto area = memory_.areas.upper_bound(at);
      if (area == memory_.areas.begin()) return false;
      --area;
      if (at >= area->second.end) return false;
      if (leaf.shared && !IsPageOf(area->first, area->second, leaf)) return false;
      at = area->second.end;
    }
    return true;
  }

  std::vector<vmm::GuestPhysical> SharedFrames() const {
    std::vector<vmm::GuestPhysical> frames;
    for (const auto& file : memory_.shared_files)
      for (const auto& [index, page] : file.pages) frames.push_back(page.frame);
    return frames;
  }

 private:
  // A frame that is mapped where its file is not would stay mapped when it is given back.
  bool IsPageOf(std::uint64_t start, const linux_abi::AddressSpace::Area& area,
                const vmm::MachineLoader::Leaf& leaf) const {
    const auto file = shared_.find(start);
    if (file == shared_.end()) return false;
    const auto& pages = memory_.shared_files[file->second].pages;
    const auto page = pages.find((area.offset + (leaf.address - start)) / kPageBytes);
    return page != pages.end() && page->second.frame == leaf.frame;
  }

  const linux_abi::AddressSpace::Image& memory_;
  std::map<std::uint64_t, std::uint32_t> shared_;
};

}  // namespace

absl::Status MicroVmSnapshot::WriteTo(int file) const {
  const std::string origin = SubjectOf(program_, host_->traits) + terms_;
  const vmm::SavedMachine saved = vmm::SaveMachine(*machine_);
  ByteWriter writer;
  writer(saved);
  const std::vector<std::byte> machine = writer.Take();
  WAXVM_ASSIGN_OR_RETURN(const std::vector<std::byte> state, linux_abi::EncodeImage(process_));

  Header header{};
  header.version = kVersion;
  header.header_bytes = sizeof header;
  header.origin_bytes = origin.size();
  header.machine_bytes = machine.size();
  header.state_bytes = state.size();
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  const std::uint64_t end = sizeof header + origin.size() + machine.size() + state.size();
  const std::vector<std::byte> padding(*PageCeil(end) - end);
  for (const vmm::PageRun& run : saved.runs) header.page_bytes += run.pages * kPageBytes;
  header.file_bytes = *PageCeil(end) + header.page_bytes;
  const std::array<std::span<const std::byte>, 4> sections = {BytesOf(origin), std::span(machine),
                                                              std::span(state), std::span(padding)};
  for (const std::span<const std::byte> section : sections)
    header.sections_crc = Crc32c(section, header.sections_crc);
  const auto pages_of = [this](const vmm::PageRun& run) {
    return std::span<const std::byte>(machine_->memory->mapping.data() + run.first,
                                      run.pages * kPageBytes);
  };
  for (const vmm::PageRun& run : saved.runs)
    header.pages_crc = Crc32c(pages_of(run), header.pages_crc);
  header.header_crc = HeaderCrc(header);

  WAXVM_RETURN_IF_ERROR(WriteAll(file, BytesOf(header), kWriting));
  for (const std::span<const std::byte> section : sections)
    WAXVM_RETURN_IF_ERROR(WriteAll(file, section, kWriting));
  for (const vmm::PageRun& run : saved.runs)
    WAXVM_RETURN_IF_ERROR(WriteAll(file, pages_of(run), kWriting));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const MicroVmSnapshot>> MicroVmSnapshot::Read(
    std::shared_ptr<const HostSystem> host, int file, const InstanceSpec& spec) {
  const vmm::HostTraits& traits = host->traits;
  const std::uint64_t limit = spec.limits.memory_bytes.value_or(kDefaultMemoryBytes);
  WAXVM_ASSIGN_OR_RETURN(const Header header, ReadHeader(file, limit));
  // Read once: the file may change at any time.
  std::vector<std::byte> sections(header.file_bytes - header.page_bytes - sizeof header);
  WAXVM_RETURN_IF_ERROR(ReadFile(file, sizeof header, sections));
  if (Crc32c(sections) != header.sections_crc)
    return absl::DataLossError("the snapshot file is damaged: wrong checksum of its sections");
  std::span<const std::byte> left(sections);
  const auto take = [&left](std::uint64_t bytes) {
    return std::exchange(left, left.subspan(bytes)).first(bytes);
  };
  const std::span<const std::byte> origin = take(header.origin_bytes);
  const std::span<const std::byte> machine = take(header.machine_bytes);
  const std::span<const std::byte> state = take(header.state_bytes);
  if (!std::ranges::all_of(left, [](std::byte byte) { return byte == std::byte{0}; }))
    return absl::DataLossError("the snapshot file is damaged: padding that is not zero");
  WAXVM_RETURN_IF_ERROR(
      CheckOrigin(std::string(reinterpret_cast<const char*>(origin.data()), origin.size()),
                  SubjectOf(spec.program, traits) + TermsOf(spec)));

  WAXVM_ASSIGN_OR_RETURN(linux_abi::ProcessImage process,
                         linux_abi::DecodeImage(state, spec, traits.xcr0));
  vmm::SavedMachine saved;
  ByteReader reader(machine);
  reader(saved);
  if (!reader.ok() || !reader.at_end())
    return absl::DataLossError("the machine in the snapshot file is not valid: its length");
  std::uint64_t pages = 0;
  for (const vmm::PageRun& run : saved.runs) pages += run.pages;
  if (pages != header.page_bytes / kPageBytes)
    return absl::DataLossError("the machine in the snapshot file is not valid: its pages");
  WAXVM_ASSIGN_OR_RETURN(vmm::MachineLoader loader,
                         vmm::MachineLoader::Create(std::move(saved), limit));
  std::uint64_t at = header.file_bytes - header.page_bytes;
  std::uint32_t crc = 0;
  // In pieces that stay in the processor's cache from one step to the next.
  constexpr std::uint64_t kPieceBytes = std::uint64_t{128} << 10;
  const auto piece = std::make_unique_for_overwrite<std::byte[]>(kPieceBytes);
  for (const vmm::PageRun& run : loader.saved().runs) {
    for (std::uint64_t done = 0; done < run.pages * kPageBytes;) {
      const std::span<std::byte> bytes(piece.get(),
                                       std::min(kPieceBytes, run.pages * kPageBytes - done));
      WAXVM_RETURN_IF_ERROR(ReadFile(file, at, bytes));
      crc = Crc32c(bytes, crc);
      WAXVM_RETURN_IF_ERROR(loader.Put(run.first + done, bytes));
      at += bytes.size();
      done += bytes.size();
    }
  }
  if (crc != header.pages_crc)
    return absl::DataLossError("the snapshot file is damaged: wrong checksum of its pages");

  std::vector<vmm::FixedAnswer> answers;
  for (const linux_abi::FixedAnswer& answer : linux_abi::FixedAnswers())
    answers.push_back({answer.number, answer.number == linux_abi::kGettidNumber
                                          ? process.threads.live
                                          : answer.value});
  vmm::MachineOptions options = OptionsFor(spec, traits);
  options.fixed_answers = answers;
  const LeafCheck check(process.memory);
  WAXVM_ASSIGN_OR_RETURN(
      std::shared_ptr<const vmm::MachineImage> image,
      std::move(loader).Finish(traits, options, check.SharedFrames(), std::cref(check)));
  return std::make_shared<const MicroVmSnapshot>(std::move(host), std::move(image),
                                                 std::move(process), spec, limit);
}

}  // namespace waxvm::microvm
