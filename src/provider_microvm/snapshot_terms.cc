// SPDX-License-Identifier: Apache-2.0
// What a snapshot is of, as text: whoever loads one must have the same, line by line.
#include <sodium.h>

#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "src/base/strings.h"
#include "src/image/program_rep.h"
#include "src/linux_abi/fixed_answers.h"
#include "src/provider_microvm/snapshot.h"
#include "src/vmm/system_pages.h"

namespace waxvm::microvm {
namespace {

class Digest {
 public:
  Digest() { crypto_generichash_init(&state_, nullptr, 0, kBytes); }

  Digest& Add(const void* bytes, std::size_t size) {
    crypto_generichash_update(&state_, static_cast<const unsigned char*>(bytes), size);
    return *this;
  }
  /// With its length, so that two lists of texts are not the same where one ends elsewhere.
  Digest& Add(std::string_view text) {
    const std::uint64_t size = text.size();
    return Add(&size, sizeof size).Add(text.data(), text.size());
  }
  std::string Hex() {
    std::array<unsigned char, kBytes> bytes{};
    crypto_generichash_final(&state_, bytes.data(), bytes.size());
    return HexOf(std::as_bytes(std::span(bytes)));
  }
  static std::string HexOf(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte byte : bytes)
      absl::StrAppendFormat(&text, "%02x", static_cast<unsigned>(byte));
    return text;
  }

 private:
  static constexpr std::size_t kBytes = 32;
  crypto_generichash_state state_;
};

std::string DigestOf(const std::vector<std::string>& texts) {
  Digest digest;
  for (const std::string& text : texts) digest.Add(text);
  return digest.Hex();
}

void AddLimit(std::string& text, const char* name, std::optional<std::uint64_t> limit) {
  if (limit) absl::StrAppend(&text, "limit ", name, " ", *limit, "\n");
}

std::string_view SourceName(bool granted, bool of_host) {
  if (!granted) return "none";
  return of_host ? "host" : "injected";
}

// The table as programs see it, but for what differs between the cores of one machine and from one
// moment to the next: the initial APIC id, topology ids, the size of the state that is enabled now.
std::string DigestOf(const kvm::CpuidTable& table) {
  Digest digest;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    kvm_cpuid_entry2 entry = table.entries[i];
    if (entry.function == 1) entry.ebx &= 0x00ffffff;
    if (entry.function == 0xb || entry.function == 0x1f) entry.edx = 0;
    if (entry.function == 0xd) entry.ebx = 0;
    if (entry.function == 0x8000001e) entry.eax = entry.ebx = entry.ecx = 0;
    digest.Add(&entry.function, sizeof entry.function)
        .Add(&entry.index, sizeof entry.index)
        .Add(&entry.flags, sizeof entry.flags)
        .Add(&entry.eax, sizeof entry.eax)
        .Add(&entry.ebx, sizeof entry.ebx)
        .Add(&entry.ecx, sizeof entry.ecx)
        .Add(&entry.edx, sizeof entry.edx);
  }
  return digest.Hex();
}

// Programs hold addresses within the stubs and the vDSO, so the bytes must be these.
std::string DigestOfSystemPages(const vmm::HostTraits& traits) {
  Digest digest;
  const vmm::MachineOptions options{.vdso = true};
  std::array<std::byte, kPageBytes> page;
  for (const vmm::SystemPage& one : vmm::SystemPages(traits, options)) {
    vmm::FillSystemPage(one.address, traits, options, page);
    digest.Add(&one.address, sizeof one.address).Add(page.data(), page.size());
  }
  return digest.Hex();
}

}  // namespace

std::string TermsOf(const InstanceSpec& spec) {
  std::string text;
  absl::StrAppend(&text, "arguments ", DigestOf(spec.arguments), "\nenvironment ",
                  DigestOf(spec.environment), "\n");
  AddLimit(text, "memory", spec.limits.memory_bytes);
  AddLimit(text, "output", spec.limits.output_bytes);
  AddLimit(text, "open files", spec.limits.open_files);
  AddLimit(text, "processes", spec.limits.processes);
  AddLimit(text, "host calls", spec.limits.host_calls);
  absl::StrAppend(&text, "clock ", ToAbsl(SourceName(spec.clock != nullptr, spec.host_clock)),
                  "\nrandom ", ToAbsl(SourceName(spec.random != nullptr, spec.host_random)), "\n");
  if (spec.host_functions_granted) text += "host functions\n";
  if (spec.root_image) {
    std::string layers = "root image";
    for (const std::string& layer : spec.root_image->info().layers) layers += " " + layer;
    text += layers + "\n";
  }
  for (const FileMount& mount : spec.mounts)
    absl::StrAppend(&text, mount.is_directory ? "folder " : "file ",
                    mount.rights == Rights::kReadOnly ? "read-only " : "read-write ",
                    absl::CHexEscape(mount.guest_path), "\n");
  return text;
}

std::string SubjectOf(const Program& program, const vmm::HostTraits& traits) {
  return absl::StrCat(
      "program ", Digest().Add(program.rep().bytes().data(), program.rep().bytes().size()).Hex(),
      "\nkvm ", traits.kind == vmm::VmKind::kHardware ? "hardware" : "paravirtual", "\nprocessor ",
      DigestOf(traits.cpuid),
      absl::StrFormat("\nregisters xcr0 %#x, %d bytes, cr4 %#x, fsgsbase %d, rdrand %d\n",
                      traits.xcr0, traits.extended_bytes, traits.optional_cr4, traits.has_fsgsbase,
                      traits.has_rdrand),
      "machine ", DigestOfSystemPages(traits), "\n");
}

}  // namespace waxvm::microvm
