// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/machine.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/vmm/system_pages.h"
#include "src/vmm/vdso/guest_clock.h"
#include "src/vmm/vdso/page.h"

namespace waxvm::vmm {
namespace {

constexpr std::uint32_t kVectorsWithErrorCode = 0x60227d00;
constexpr int kGeneralProtection = 13;

constexpr std::uint32_t kMsrStar = 0xc0000081;
constexpr std::uint32_t kMsrLstar = 0xc0000082;
constexpr std::uint32_t kMsrSyscallMask = 0xc0000084;
// Cleared on entry to ring 0: trap, interrupt, direction, nested task, alignment check.
constexpr std::uint64_t kSyscallFlagMask = 0x100 | 0x200 | 0x400 | 0x4000 | 0x40000;
constexpr std::uint64_t kFlagInterrupt = 0x202;
constexpr std::uint64_t kFlagsReserved = 0x2;
constexpr std::uint64_t kFlagTrap = 0x100;

constexpr std::uint64_t kCr4Tsd = 1 << 2;
constexpr std::uint64_t kCr4Base = (1 << 5) | (1 << 9) | (1 << 10);  // PAE, OSFXSR, OSXMMEXCPT
constexpr std::uint64_t kCr0 = 0x80050033;                           // PG, AM, WP, NE, ET, MP, PE
constexpr std::uint64_t kEfer = 0xd01;                               // NXE, LMA, LME, SCE

constexpr int kUserAddressBits = 47;

bool InLoadStub(std::uint64_t address) {
  return address >= kStubAddress + StubOffset(waxvm_stub_load_extended) &&
         address < kStubAddress + StubOffset(waxvm_stub_load_extended_end);
}

kvm_segment Segment(std::uint16_t selector, std::uint8_t type, std::uint8_t ring, bool code) {
  kvm_segment segment{};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.dpl = ring;
  segment.s = 1;
  segment.g = 1;
  segment.l = code;
  segment.db = !code;
  return segment;
}

kvm_sregs RingThree(const HostTraits& traits, GuestPhysical root, std::uint64_t cr4) {
  kvm_sregs special = traits.reset_sregs;
  special.cr0 = kCr0;
  special.cr3 = root;
  special.cr4 = cr4;
  special.efer = kEfer;
  special.cs = Segment(kUserCode, 11, 3, /*code=*/true);
  special.ds = special.es = special.fs = special.gs = special.ss =
      Segment(kUserData, 3, 3, /*code=*/false);
  special.gdt.base = kDescriptorAddress;
  special.gdt.limit = 63;
  special.idt.base = kDescriptorAddress + kIdtOffset;
  special.idt.limit = 16 * kVectors - 1;
  special.tr = kvm_segment{};
  special.tr.base = kDescriptorAddress + kTssOffset;
  special.tr.limit = kBitmapOffset + kBitmapBytes;
  special.tr.selector = kTss;
  special.tr.type = 11;
  special.tr.present = 1;
  return special;
}

void HideRandomInstructions(kvm::CpuidTable& table) {
  for (std::uint32_t i = 0; i < table.count; ++i) {
    kvm_cpuid_entry2& entry = table.entries[i];
    if (entry.function == 1) entry.ecx &= ~(1u << 30);                      // RDRAND
    if (entry.function == 7 && entry.index == 0) entry.ebx &= ~(1u << 18);  // RDSEED
  }
}

}  // namespace

std::uint64_t ControlRegister4(const HostTraits& traits, bool trap_rdtsc) {
  std::uint64_t cr4 = kCr4Base | (traits.optional_cr4 & (kCr4FsGsBase | kCr4OsXsave));
  // The paravirtual system-call stub is a user page that ring 0 may have to read.
  if (traits.kind == VmKind::kHardware) cr4 |= traits.optional_cr4 & (kCr4Umip | kCr4Smep);
  return trap_rdtsc ? cr4 | kCr4Tsd : cr4;
}

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(const kvm::System& system,
                                                         const HostTraits& traits,
                                                         MemoryAccount& account,
                                                         const MachineOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(kvm::Vm made, system.CreateVm());
  auto vm = std::make_unique<kvm::Vm>(std::move(made));
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> memory, GuestMemory::Create(*vm, account));
  WAXVM_ASSIGN_OR_RETURN(PageTable pages, PageTable::Create(*memory));
  WAXVM_ASSIGN_OR_RETURN(kvm::Vcpu vcpu, vm->CreateVcpu(system, 0));
  std::unique_ptr<Machine> machine(
      new Machine(traits, std::move(memory), std::move(pages), std::move(vm), std::move(vcpu)));
  machine->options_ = options;
  machine->options_.fixed_answers = {};
  WAXVM_RETURN_IF_ERROR(machine->BuildSystemPages(options));
  WAXVM_RETURN_IF_ERROR(machine->SetUpVcpu(options));
  return machine;
}

Machine::~Machine() {
  if (exits_ != 0) memory_->Teach();
}

absl::StatusOr<std::unique_ptr<Machine>> Machine::CreateFrom(const kvm::System& system,
                                                             const HostTraits& traits,
                                                             MemoryAccount& account,
                                                             const MachineImage& image) {
  WAXVM_ASSIGN_OR_RETURN(kvm::Vm made, system.CreateVm());
  auto vm = std::make_unique<kvm::Vm>(std::move(made));
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> memory,
                         GuestMemory::CreateFrom(*vm, account, image.memory));
  PageTable pages(*memory, image.root, image.tables);
  WAXVM_ASSIGN_OR_RETURN(kvm::Vcpu vcpu, vm->CreateVcpu(system, 0));
  std::unique_ptr<Machine> machine(
      new Machine(traits, std::move(memory), std::move(pages), std::move(vm), std::move(vcpu)));
  machine->options_ = image.options;
  machine->frames_ = image.frames;
  WAXVM_RETURN_IF_ERROR(machine->SetUpVcpu(image.options));
  machine->LoadImageState(image);
  if (!machine->PayExtended()) return Internal("KVM refuses the vector registers of the snapshot");
  machine->can_load_inside_ = machine->HasExtendedPage(image);
  return machine;
}

absl::Status Machine::Prepare(const MachineImage& image) {
  if (exits_ != 0) return absl::OkStatus();
  memory_->CopyLearned();
  WarmUp(image);
  LoadImageState(image);
  return PayExtended() ? absl::OkStatus()
                       : Internal("KVM refuses the vector registers of the snapshot");
}

absl::StatusOr<std::shared_ptr<const MachineImage>> Machine::TakeImage() {
  if (!AtUserMode()) return FailedPrecondition("the machine is inside a stub of its own");
  if (!PayExtended()) return Internal("KVM refuses the vector registers");
  auto image = std::make_shared<MachineImage>();
  image->general = general();
  WAXVM_RETURN_IF_ERROR(vcpu_.GetExtended(image->extended));
  // Where the next machine's ring 3 finds what to load.
  if (std::byte* const page = pages_.SystemPage(kExtendedAddress); page != nullptr)
    FillExtendedPage(traits_, *image, std::span(page, kPageBytes));
  WAXVM_ASSIGN_OR_RETURN(image->memory,
                         memory_->TakeImage(frames_.vdso_data ? std::span(&*frames_.vdso_data, 1)
                                                              : std::span<const GuestPhysical>()));
  image->root = pages_.root();
  image->tables.assign(pages_.tables().begin(), pages_.tables().end());
  image->frames = frames_;
  image->options = options_;
  image->special = special();
  image->special.cs = Segment(kUserCode, 11, 3, /*code=*/true);
  image->special.ss = Segment(kUserData, 3, 3, /*code=*/false);
  return image;
}

// An image may come from anywhere: nothing of it runs before somebody has set its limits. Without
// the answers of the stubs, which depend on the program.
bool Machine::HasOwnSystemPages() const {
  std::array<std::byte, kPageBytes> own;
  for (const SystemPage& page : SystemPages(traits_, {})) {
    const std::byte* const there = pages_.SystemPage(page.address);
    if (there == nullptr) return false;
    if (page.address != kDescriptorAddress && page.address != kStubAddress) continue;
    FillSystemPage(page.address, traits_, {}, own);
    const std::size_t bytes =
        page.address == kStubAddress ? StubOffset(waxvm_stub_answers) : own.size();
    if (std::memcmp(there, own.data(), bytes) != 0) return false;
  }
  return true;
}

// What KVM makes when a vCPU first runs takes as long as the rest of a first call. So it runs once,
// from the doorbell of the stub to the host and no instruction of the program's. Where that fails,
// the first call takes longer.
void Machine::WarmUp(const MachineImage& image) {
  if (traits_.kind != VmKind::kParavirtual || !traits_.vcpus_move_freely || !HasOwnSystemPages())
    return;
  synced().regs = image.general;
  synced().regs.rip = kStubAddress + StubOffset(waxvm_stub_syscall_paravirtual);
  synced().regs.rax = kAnswers;  // a call that no stub answers
  synced().sregs = image.special;
  vcpu_.run().kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  vcpu_.Run();
  vcpu_.run().kvm_dirty_regs = 0;
}

// KVM has taken the same state already, so the processor will; and it is the host's alone, in a
// page that no program can write to.
bool Machine::HasExtendedPage(const MachineImage& image) const {
  if (!traits_.loads_extended_inside) return false;
  const std::byte* const page = pages_.SystemPage(kExtendedAddress);
  return page != nullptr && std::memcmp(page, image.extended.data(), traits_.extended_bytes) == 0 &&
         std::memcmp(page + WAXVM_EXTENDED_RDX, &image.general.rdx, sizeof image.general.rdx) == 0;
}

void Machine::LoadImageState(const MachineImage& image) {
  // Without a look at what they are: reading them costs more than a call may.
  synced().regs = user_ = image.general;
  synced().sregs = image.special;
  special_is_current_ = true;
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  stop_ = Stop::kReplaced;
  owed_extended_ = &image;
}

absl::Status Machine::Restore(const MachineImage& image) {
  WAXVM_ASSIGN_OR_RETURN(const bool tables_changed,
                         memory_->Restore(image.tables, traits_.faults_tell));
  if (exits_ != 0) memory_->Teach();
  // A frame that was a table and is none any more will be one again, for other addresses: a
  // hypervisor that shadows tables finds what it made of it then, still linked where it was.
  const bool links_changed = pages_.tables().size() != image.tables.size();
  pages_.Restored(image.tables, tables_changed);
  if (links_changed) memory_->ForgetShadows();
  LoadImageState(image);
  return absl::OkStatus();
}

absl::Status Machine::BuildSystemPages(const MachineOptions& options) {
  std::vector<GuestPhysical> frames;
  for (const SystemPage& page : SystemPages(traits_, options)) {
    const auto frame = memory_->AllocateFrame();
    if (!frame || !pages_.MapSystemPage(page.address, *frame, page.user, page.writable))
      return absl::ResourceExhaustedError(
          "the memory limit does not leave room for the machine itself (about 64 KiB)");
    FillSystemPage(page.address, traits_, options, std::span(memory_->At(*frame), kPageBytes));
    frames.push_back(*frame);
  }
  frames_ = SystemFrames::Of(frames, options);
  return absl::OkStatus();
}

std::optional<std::uint64_t> Machine::system_call_entry() const {
  if (traits_.kind != VmKind::kParavirtual) return std::nullopt;
  return kStubAddress + StubOffset(waxvm_stub_syscall_paravirtual);
}

std::uint64_t Machine::vdso_address() const {
  return frames_.vdso_data ? WAXVM_VDSO_IMAGE_ADDRESS : 0;
}

std::shared_ptr<ClockSource> Machine::MakeGuestClock(std::shared_ptr<ClockSource> host,
                                                     std::function<bool()> may_show) {
  if (!frames_.vdso_data || !traits_.CanTellTime()) return host;
  return std::make_shared<GuestClock>(
      std::move(host), traits_.tsc_khz,
      reinterpret_cast<waxvm_vdso_page*>(memory_->At(*frames_.vdso_data)), ReadTsc,
      std::move(may_show));
}

void Machine::SetFixedAnswer(std::uint32_t number, std::int32_t value) {
  if (number >= kAnswers || number == kArchPrctl || value <= kLeave) return;
  PutAnswer(memory_->At(frames_.stub), number, value);
}

absl::Status Machine::SetUpVcpu(const MachineOptions& options) {
  if (options.hide_rdrand && traits_.has_rdrand) {
    kvm::CpuidTable table = traits_.cpuid;
    HideRandomInstructions(table);
    WAXVM_RETURN_IF_ERROR(vcpu_.SetCpuid(table));
  } else {
    WAXVM_RETURN_IF_ERROR(vcpu_.SetCpuid(traits_.cpuid));
  }
  cr4_ = ControlRegister4(traits_, options.trap_rdtsc);
  if ((cr4_ & kCr4OsXsave) != 0) WAXVM_RETURN_IF_ERROR(vcpu_.SetXcr0(traits_.xcr0));
  const bool hardware = traits_.kind == VmKind::kHardware;
  const std::byte* entry = hardware ? waxvm_stub_syscall_hardware : waxvm_stub_syscall_paravirtual;
  // STAR: syscall loads 0x08 and 0x10, sysret 0x2b and 0x23.
  WAXVM_RETURN_IF_ERROR(vcpu_.SetMsrs({{kMsrStar, std::uint64_t{0x00180008} << 32},
                                       {kMsrLstar, kStubAddress + StubOffset(entry)},
                                       {kMsrSyscallMask, hardware ? kSyscallFlagMask : 0}}));
  if (traits_.needs_tsc_offset) WAXVM_RETURN_IF_ERROR(vcpu_.SetTscOffset(0));
  // On paravirtual KVM reading the special registers is slow (docs/performance.md), and system
  // calls do not need them there: they are fetched where they are needed.
  vcpu_.run().kvm_valid_regs =
      hardware ? KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS : KVM_SYNC_X86_REGS;
  return absl::OkStatus();
}

// What KVM has still to do for the last `in` or `out` would otherwise be done to the new registers.
void Machine::CompletePendingIo() {
  vcpu_.run().immediate_exit = 1;
  vcpu_.Run();
  vcpu_.run().immediate_exit = 0;
}

void Machine::Start(std::uint64_t instruction_pointer, std::uint64_t stack_pointer) {
  PayExtended();
  if (exits_ != 0) CompletePendingIo();
  special_is_current_ = true;
  vcpu_.run().s.regs.sregs = RingThree(traits_, pages_.root(), cr4_);
  kvm_regs& general = synced().regs;
  general = kvm_regs{};
  general.rip = instruction_pointer;
  general.rsp = stack_pointer;
  general.rflags = kFlagInterrupt;
  vcpu_.run().kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  stop_ = Stop::kNowhere;
}

Exit Machine::Run() {
  // A guest that could still reach what was taken from it does not run: never a weaker boundary.
  if (!memory_->usable())
    return {.kind = Exit::Kind::kFailed,
            .detail = "KVM does not forget how it mapped memory that was taken away"};
  // A hypervisor that shadows page tables was told by Revoke; real hardware has a TLB as well.
  if (pages_.TakeFlushPending() && traits_.kind == VmKind::kHardware && !ReturnThroughFlush())
    pages_.RequestFlush();
  memory_->UsedByThisThread();
  if (owed_extended_ != nullptr && !ReturnThroughLoad() && !PayExtended())
    return {.kind = Exit::Kind::kFailed, .detail = "KVM refuses the vector registers"};
  stop_ = Stop::kNowhere;
  const int error = vcpu_.Run();
  kvm_run& run = vcpu_.run();
  run.kvm_dirty_regs = 0;
  user_ = synced().regs;
  special_is_current_ = traits_.kind == VmKind::kHardware;
  if (owed_extended_ != nullptr && !LeaveLoad())
    return {.kind = Exit::Kind::kFailed, .detail = "the guest did not load its vector registers"};
  if (error == EINTR || error == EAGAIN) return {.kind = Exit::Kind::kInterrupted};
  ++exits_;
  if (error != 0)
    return {.kind = Exit::Kind::kFailed,
            .detail = absl::StrFormat("KVM_RUN: %s", ErrnoStatus(error, "error").message())};
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      return DecodeDoorbell();
    case KVM_EXIT_SHUTDOWN:
      return {.kind = Exit::Kind::kShutdown};
    case KVM_EXIT_INTR:
      return {.kind = Exit::Kind::kInterrupted};
    case KVM_EXIT_INTERNAL_ERROR:
      return {.kind = Exit::Kind::kFailed,
              .detail = absl::StrFormat("KVM internal error, suberror %d", run.internal.suberror)};
    default:
      return {.kind = Exit::Kind::kFailed,
              .detail = absl::StrFormat("KVM exit reason %d", run.exit_reason)};
  }
}

kvm_sregs& Machine::special() const {
  kvm_sregs& registers = vcpu_.run().s.regs.sregs;
  if (special_is_current_) return registers;
  if (absl::StatusOr<kvm_sregs> fetched = vcpu_.GetSregs(); fetched.ok()) registers = *fetched;
  special_is_current_ = true;
  return registers;
}

// A doorbell is believed only where the stubs ring it: a program on paravirtual KVM can execute
// `out` to the open port itself, and gets the fault that it would get elsewhere. It can also jump
// into the stub, with anything in rcx: what is no address of ring 3 never becomes its instruction
// pointer, which KVM would be asked to load when another thread has run meanwhile.
Exit Machine::DecodeDoorbell() {
  const kvm_run& run = vcpu_.run();
  const bool hardware = traits_.kind == VmKind::kHardware;
  const std::uint64_t offset = user_.rip - kStubAddress;
  const std::uint64_t entry =
      StubOffset(hardware ? waxvm_stub_syscall_hardware : waxvm_stub_syscall_paravirtual);
  const std::uint64_t entry_end =
      StubOffset(hardware ? waxvm_stub_flush_syscall : waxvm_stub_syscall_hardware);
  const bool doorbell = run.io.direction == KVM_EXIT_IO_OUT && run.io.size == 1;
  if (doorbell && run.io.port == kPortSystemCall && offset >= entry && offset < entry_end &&
      !(hardware && InRing3()) && (user_.rcx >> kUserAddressBits) == 0) {
    stop_ = Stop::kSystemCall;
    user_.rip = user_.rcx;
    if (hardware)
      user_.rflags = user_.r11;
    else
      user_.rax = user_.r11;
    return {.kind = Exit::Kind::kSystemCall};
  }
  const std::uint64_t first = StubOffset(waxvm_stub_exceptions);
  if (doorbell && run.io.port == kPortException && !InRing3() && offset >= first &&
      offset < first + kVectors * kStubBytes)
    return DecodeException(offset - first);
  return {.kind = Exit::Kind::kException, .vector = kGeneralProtection};
}

Exit Machine::DecodeException(std::uint64_t stub_offset) {
  Exit exit{.kind = Exit::Kind::kException, .vector = static_cast<int>(stub_offset / kStubBytes)};
  const bool with_code = ((kVectorsWithErrorCode >> exit.vector) & 1) != 0;
  const std::uint64_t words = with_code ? 6 : 5;
  const std::uint64_t offset = user_.rsp - kStackAddress;
  if (offset > kPageBytes - words * 8)
    return {
        .kind = Exit::Kind::kFailed,
        .detail = absl::StrFormat("exception %d with the stack at %#x", exit.vector, user_.rsp)};
  std::uint64_t frame[6];  // [error code], rip, cs, rflags, rsp, ss
  std::memcpy(frame, memory_->At(frames_.stack) + offset, words * 8);
  const std::uint64_t* interrupted = with_code ? frame + 1 : frame;
  exit.error_code = with_code ? frame[0] : 0;
  exit.address = special().cr2;
  user_.rip = interrupted[0];
  user_.rflags = interrupted[2];
  user_.rsp = interrupted[3];
  if ((interrupted[1] & 3) != 3)
    return {.kind = Exit::Kind::kFailed,
            .detail = absl::StrFormat("exception %d in ring 0 at %#x", exit.vector, user_.rip)};
  // Whose vector registers are there now nobody knows: no handler is to see them.
  if (InLoadStub(user_.rip))
    return {.kind = Exit::Kind::kFailed,
            .detail = absl::StrFormat("exception %d as vector registers were loaded", exit.vector)};
  stop_ = with_code ? Stop::kExceptionWithCode : Stop::kException;
  return_slot_ = offset + (with_code ? 8 : 0);
  return exit;
}

// False inside a stub, whose way back is not to be changed: the flush waits for the next exit.
bool Machine::ReturnThroughFlush() {
  const std::byte* way = nullptr;
  switch (stop_) {
    case Stop::kNowhere:
    case Stop::kReplaced:
      if (!AtUserMode()) return false;
      ReturnThroughFrame();
      return true;
    case Stop::kSystemCall:
      way = waxvm_stub_flush_syscall;
      break;
    case Stop::kException:
      way = waxvm_stub_flush_exception;
      break;
    case Stop::kExceptionWithCode:
      way = waxvm_stub_flush_exception_code;
      break;
  }
  Put<std::uint64_t>(memory_->At(frames_.stub) + StubOffset(waxvm_stub_saved_rax),
                     synced().regs.rax);
  synced().regs.rip = kStubAddress + StubOffset(way);
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  return true;
}

// Enters ring 3 by `iretq` from a frame made here, where no exception has left one.
void Machine::ReturnThroughFrame() {
  kvm_regs& regs = synced().regs;
  const std::uint64_t frame[5] = {regs.rip, kUserCode, regs.rflags, regs.rsp, kUserData};
  const std::uint64_t at = kInterruptStackTop - sizeof frame;
  std::memcpy(memory_->At(frames_.stack) + (at - kStackAddress), frame, sizeof frame);
  Put<std::uint64_t>(memory_->At(frames_.stub) + StubOffset(waxvm_stub_saved_rax), regs.rax);
  regs.rip = kStubAddress + StubOffset(waxvm_stub_flush_exception);
  regs.rsp = at;
  regs.rflags = kFlagsReserved;
  kvm_sregs& changed = special();
  changed.cs = Segment(kKernelCode, 11, 0, /*code=*/true);
  changed.ss = Segment(kKernelData, 3, 0, /*code=*/false);
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
}

// Ring 3 loads its vector registers itself, which takes KVM some microseconds. At the return from a
// system call the registers are free that this needs. A program that traps every instruction would
// be told of the first one here, by a signal with the registers of what ran before in its frame.
bool Machine::ReturnThroughLoad() {
  kvm_regs& regs = synced().regs;
  if (!can_load_inside_ || regs.rip != regs.rcx || regs.rip != owed_extended_->general.rip ||
      regs.rdx != owed_extended_->general.rdx || (regs.rflags & kFlagTrap) != 0)
    return false;
  regs.r11 = regs.rax;
  regs.rip = kStubAddress + StubOffset(waxvm_stub_load_extended);
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  return true;
}

// Nobody is to see the registers of what ran here before, a signal handler that an interruption in
// the stub brings least of all: then the host loads them after all.
bool Machine::LeaveLoad() {
  if (!InLoadStub(user_.rip)) {
    owed_extended_ = nullptr;
    return true;
  }
  kvm_regs& regs = synced().regs;
  regs.rip = regs.rcx;
  regs.rax = regs.r11;
  regs.rdx = owed_extended_->general.rdx;
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  user_ = regs;
  return PayExtended();
}

bool Machine::PayExtended() {
  if (owed_extended_ == nullptr) return true;
  return vcpu_.SetExtended(std::exchange(owed_extended_, nullptr)->extended).ok();
}

bool Machine::AtUserMode() const { return stop_ != Stop::kNowhere || InRing3(); }

void Machine::SetRegisters(const UserRegisters& registers) {
  synced().regs = registers.general;
  kvm_sregs& changed = special();
  changed.fs.base = registers.fs_base;
  changed.gs.base = registers.gs_base;
  changed.cs = Segment(kUserCode, 11, 3, /*code=*/true);
  changed.ss = Segment(kUserData, 3, 3, /*code=*/false);
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  user_ = registers.general;
  stop_ = Stop::kReplaced;
}

void Machine::SaveExtended(std::span<std::byte, kvm::Vcpu::kExtendedBytes> state) {
  if (!PayExtended() || !vcpu_.GetExtended(state).ok()) std::ranges::fill(state, std::byte{0});
}

bool Machine::LoadExtended(std::span<const std::byte, kvm::Vcpu::kExtendedBytes> state) {
  return PayExtended() && vcpu_.SetExtended(state).ok();
}

UserRegisters Machine::registers() const {
  UserRegisters result;
  result.general = user_;
  result.fs_base = special().fs.base;
  result.gs_base = special().gs.base;
  return result;
}

void Machine::SetSystemCallResult(std::int64_t value) {
  if (synced().regs.rax == static_cast<std::uint64_t>(value)) return;
  synced().regs.rax = static_cast<std::uint64_t>(value);
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

void Machine::SkipInstruction(std::uint64_t bytes, std::uint64_t rax, std::uint64_t rdx) {
  if (stop_ != Stop::kException && stop_ != Stop::kExceptionWithCode) return;
  user_.rip += bytes;
  Put<std::uint64_t>(memory_->At(frames_.stack) + return_slot_, user_.rip);
  synced().regs.rax = rax;
  synced().regs.rdx = rdx;
  vcpu_.run().kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

void Machine::PutSystem(const HostTraits& traits, std::span<const GuestPhysical> frames,
                        MachineImage& image) {
  image.frames = SystemFrames::Of(frames, image.options);
  image.special = RingThree(traits, image.root, ControlRegister4(traits, image.options.trap_rdtsc));
}

}  // namespace waxvm::vmm
