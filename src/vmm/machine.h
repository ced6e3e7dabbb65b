// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_MACHINE_H_
#define WAXVM_SRC_VMM_MACHINE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "src/base/memory_account.h"
#include "src/kvm/kvm.h"
#include "src/vmm/guest_memory.h"
#include "src/vmm/page_table.h"
#include "waxvm/grant.h"

namespace waxvm::vmm {

/// How `syscall` behaves in ring 3, which decides what the stubs look like.
enum class VmKind { kHardware, kParavirtual };

/// What this host's KVM does, found out once by running a tiny guest (ProbeHost).
struct HostTraits {
  VmKind kind = VmKind::kParavirtual;
  bool traps_rdtsc = false;          ///< CR4.TSD is honoured
  bool has_rdrand = false;           ///< executes in ring 3, whatever CPUID says
  bool has_fsgsbase = false;         ///< wrfsbase executes in ring 3
  std::uint64_t optional_cr4 = 0;    ///< those of kOptionalCr4 that KVM accepts
  std::uint64_t xcr0 = 3;            ///< x87 and SSE; AVX and AVX-512 where the host has them
  std::size_t extended_bytes = 576;  ///< of the XSAVE state that xcr0 names
  kvm::CpuidTable cpuid;             ///< as offered, without what waxvm keeps away from guests
  kvm_sregs reset_sregs{};           ///< of a vCPU that was just made

  /// A guest that writes to a page which the host has yet to make (or to copy) is counted as a page
  /// fault of the thread that runs it.
  bool faults_tell = false;
  /// Ring 3 can load the whole vector state by itself: `xrstor` leaves nothing of what was there.
  bool loads_extended_inside = false;
  /// A vCPU that has run on one thread runs on another at once. Before Linux 6.13 that takes a
  /// grace period of the whole kernel, some milliseconds.
  bool vcpus_move_freely = false;

  std::uint64_t tsc_khz = 0;      ///< of the guest's timestamp counter; 0: unknown
  bool invariant_tsc = false;     ///< counts at one speed, whatever the CPU does
  bool tsc_is_hosts = false;      ///< `rdtsc` inside reads what it reads outside …
  bool needs_tsc_offset = false;  ///< … once the vCPU's offset has been set to 0

  /// Whether what guests execute can be counted (fuel.h), or exactly why not.
  absl::Status fuel = absl::UnimplementedError("it was not tried");

  /// A guest can turn timestamps into the host's time.
  bool CanTellTime() const { return tsc_khz != 0 && invariant_tsc && tsc_is_hosts; }
};

inline constexpr std::uint64_t kCr4Umip = 1 << 11;
inline constexpr std::uint64_t kCr4FsGsBase = 1 << 16;
inline constexpr std::uint64_t kCr4OsXsave = 1 << 18;
inline constexpr std::uint64_t kCr4Smep = 1 << 20;
inline constexpr std::uint64_t kOptionalCr4[] = {kCr4Umip, kCr4FsGsBase, kCr4OsXsave, kCr4Smep};

/// The CR4 that guests of a host with these traits run with.
std::uint64_t ControlRegister4(const HostTraits& traits, bool trap_rdtsc);

/// Opens /dev/kvm's possibilities and tries them. Blocks: for a few milliseconds.
/// Errors: kUnavailable with what is missing.
absl::StatusOr<HostTraits> ProbeHost(const kvm::System& system);

/// A system call that is answered inside the guest: its number and its constant answer.
struct FixedAnswer {
  std::uint32_t number;
  std::int32_t value;  ///< above -4096
};

struct MachineOptions {
  bool trap_rdtsc = false;
  bool hide_rdrand = false;  ///< from CPUID; the instruction itself cannot be withheld
  std::span<const FixedAnswer> fixed_answers = {};
  bool vdso = false;  ///< maps the vDSO; needs a clock that the guest may read
};

/// Ring-3 registers, wherever the vCPU stopped.
struct UserRegisters {
  kvm_regs general{};  ///< rip, rsp and rflags are ring 3's
  std::uint64_t fs_base = 0;
  std::uint64_t gs_base = 0;
};

/// Where those of a machine's own pages lie that it changes as it runs.
struct SystemFrames {
  GuestPhysical stub = 0;
  GuestPhysical stack = 0;
  std::optional<GuestPhysical> vdso_data = {};

  /// Of the pages of SystemPages (system_pages.h), in their order.
  static SystemFrames Of(std::span<const GuestPhysical> frames, const MachineOptions& options);
};

/// A machine at one moment, while it is at user mode. Immutable; may be shared between threads.
struct MachineImage {
  std::shared_ptr<const MemoryImage> memory;
  GuestPhysical root = 0;
  std::vector<GuestPhysical> tables;
  SystemFrames frames;
  MachineOptions options;  ///< without the fixed answers, which the memory has
  kvm_regs general{};      ///< ring 3's
  kvm_sregs special{};     ///< in ring 3
  std::array<std::byte, kvm::Vcpu::kExtendedBytes> extended;
};

/// Why the guest stopped.
struct Exit {
  enum class Kind {
    kSystemCall,
    kException,    ///< vector, error_code, and for a page fault the address
    kInterrupted,  ///< a kick or another signal
    kShutdown,     ///< triple fault
    kFailed,       ///< KVM could not execute it; `detail` says what it reported
  };
  Kind kind = Kind::kFailed;
  int vector = 0;
  std::uint64_t error_code = 0;
  std::uint64_t address = 0;
  std::string detail = {};
};

/// One virtual machine with one vCPU, set up so that a program runs in ring 3 and ring 0 holds
/// nothing but the stubs. Thread safety: none; used by the instance's thread.
/// Spec: AMD64 Architecture Programmer's Manual volume 2, chapters 4 to 8; shared by both kinds
/// of KVM as docs/design.md explains.
class Machine {
 public:
  ~Machine();

  /// `system`, `traits` and `account` outlive the machine.
  static absl::StatusOr<std::unique_ptr<Machine>> Create(const kvm::System& system,
                                                         const HostTraits& traits,
                                                         MemoryAccount& account,
                                                         const MachineOptions& options);
  /// A machine that stands where `image` was taken; ready to run.
  static absl::StatusOr<std::unique_ptr<Machine>> CreateFrom(const kvm::System& system,
                                                             const HostTraits& traits,
                                                             MemoryAccount& account,
                                                             const MachineImage& image);

  /// Puts `frames`, of the pages of SystemPages in their order, and the special registers of
  /// ring 3 into an image.
  static void PutSystem(const HostTraits& traits, std::span<const GuestPhysical> frames,
                        MachineImage& image);

  PageTable& pages() { return pages_; }
  GuestMemory& memory() { return *memory_; }

  /// The first instruction and the stack pointer of ring 3.
  void Start(std::uint64_t instruction_pointer, std::uint64_t stack_pointer);

  /// Runs the guest until it stops. Blocks.
  Exit Run();

  /// Registers of the last exit. After a system call rax holds its number.
  UserRegisters registers() const;
  /// The general ones of these, which cost nothing.
  const kvm_regs& general() const { return user_; }

  /// The result of the system call that stopped the guest; the next Run returns with it.
  void SetSystemCallResult(std::int64_t value);
  /// After an exception: the guest goes on behind the `bytes` of the instruction that raised it,
  /// with these results in rax and rdx.
  void SkipInstruction(std::uint64_t bytes, std::uint64_t rax, std::uint64_t rdx);

  /// The machine as it is; AtUserMode() must hold. The vDSO has no clock in it.
  /// Errors: kFailedPrecondition, kResourceExhausted, kInternal.
  absl::StatusOr<std::shared_ptr<const MachineImage>> TakeImage();
  /// For a machine of CreateFrom(`image`): what its first run would have to make is made now, and
  /// takes the kernel's memory until the machine is destroyed. Errors: the machine can only be
  /// destroyed.
  absl::Status Prepare(const MachineImage& image);
  /// Undoes everything since CreateFrom(`image`), which outlives the machine. Errors: the machine
  /// can only be destroyed.
  absl::Status Restore(const MachineImage& image);

  /// True when registers() are a program's and may be replaced: after every exit but one by an
  /// interruption that found the vCPU in a ring-0 stub.
  bool AtUserMode() const;
  /// The guest goes on in ring 3 with exactly these.
  void SetRegisters(const UserRegisters& registers);
  /// x87 and vector registers, in the standard format of XSAVE.
  void SaveExtended(std::span<std::byte, kvm::Vcpu::kExtendedBytes> state);
  /// False when KVM refuses the state; nothing has changed then.
  bool LoadExtended(std::span<const std::byte, kvm::Vcpu::kExtendedBytes> state);

  /// Changes what the stub answers to system call `number` from now on (for gettid, when another
  /// thread runs). Costs one store. A number or a value that the table cannot hold is ignored.
  void SetFixedAnswer(std::uint32_t number, std::int32_t value);

  /// What ring 3 may jump to instead of `syscall`, with the way back in rcx: where `syscall` stays
  /// in ring 3 anyway, after a detour through the hypervisor. Empty elsewhere.
  std::optional<std::uint64_t> system_call_entry() const;

  /// Where the vDSO's ELF header lies, for AT_SYSINFO_EHDR; 0: there is none.
  std::uint64_t vdso_address() const;
  /// The clock that this machine's vDSO shows, to be read by system calls as well; `host` itself
  /// where the guest cannot tell the time. `may_show` is asked now and then whether the guest may
  /// see it. It must not be read once the machine is gone.
  std::shared_ptr<ClockSource> MakeGuestClock(std::shared_ptr<ClockSource> host,
                                              std::function<bool()> may_show);

  absl::Status SetSignalMask(std::uint64_t mask) { return vcpu_.SetSignalMask(mask); }
  std::uint64_t exits() const { return exits_; }

 private:
  friend absl::StatusOr<HostTraits> ProbeHost(const kvm::System& system);
  friend bool MovesFreely(Machine& machine);
  friend absl::Status ProbeTimestamps(Machine& machine, HostTraits& traits);

  enum class Stop { kNowhere, kSystemCall, kException, kExceptionWithCode, kReplaced };

  Machine(const HostTraits& traits, std::unique_ptr<GuestMemory> memory, PageTable pages,
          std::unique_ptr<kvm::Vm> vm, kvm::Vcpu vcpu)
      : traits_(traits),
        memory_(std::move(memory)),
        pages_(std::move(pages)),
        vm_(std::move(vm)),
        vcpu_(std::move(vcpu)) {}
  /// All but the vector registers, which are owed then.
  void LoadImageState(const MachineImage& image);
  void WarmUp(const MachineImage& image);
  /// The machine's own pages hold what this build puts there.
  bool HasOwnSystemPages() const;
  bool HasExtendedPage(const MachineImage& image) const;
  /// The guest begins in the stub that loads what is owed. False where it cannot.
  bool ReturnThroughLoad();
  /// After an exit of a guest that began there. False when KVM refuses what was not loaded.
  bool LeaveLoad();
  /// Puts what is owed into the vCPU now. False when KVM refuses it.
  bool PayExtended();
  absl::Status BuildSystemPages(const MachineOptions& options);
  absl::Status SetUpVcpu(const MachineOptions& options);
  Exit DecodeDoorbell();
  Exit DecodeException(std::uint64_t stub_offset);
  bool ReturnThroughFlush();
  void ReturnThroughFrame();
  void CompletePendingIo();
  /// The special registers at the last exit.
  kvm_sregs& special() const;
  bool InRing3() const { return (special().cs.selector & 3) == 3; }
  kvm_sync_regs& synced() const { return vcpu_.run().s.regs; }

  // Destroyed in reverse: the vCPU and the VM go before the memory they use.
  const HostTraits& traits_;
  std::unique_ptr<GuestMemory> memory_;
  PageTable pages_;
  std::unique_ptr<kvm::Vm> vm_;
  kvm::Vcpu vcpu_;
  SystemFrames frames_;
  MachineOptions options_;
  mutable bool special_is_current_ = false;  ///< the run area has them
  std::uint64_t cr4_ = 0;
  std::uint64_t exits_ = 0;
  Stop stop_ = Stop::kNowhere;
  kvm_regs user_{};  ///< ring 3's view at the last exit
  /// Whose vector registers are to be in the vCPU before an instruction of the program runs.
  const MachineImage* owed_extended_ = nullptr;
  bool can_load_inside_ = false;   ///< the guest has a page with those of its image
  std::uint64_t return_slot_ = 0;  ///< where on the stack page the last exception keeps its rip
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_MACHINE_H_
