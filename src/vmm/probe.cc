// SPDX-License-Identifier: Apache-2.0
// Finds out what this host's KVM does by running a guest of a few instructions, never by a name.
#include <cpuid.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "src/base/status.h"
#include "src/vmm/fuel.h"
#include "src/vmm/machine.h"
#include "src/vmm/stubs.h"
#include "src/vmm/thread_faults.h"
#include "src/vmm/vdso/guest_clock.h"

namespace waxvm::vmm {
namespace {

constexpr GuestVirtual kCodeAddress = 0x10000;
constexpr std::uint64_t kProbeMemoryBytes = 1 << 20;
constexpr std::uint32_t kCall = 600;  // no stub answers it

// Instructions to try, each ending in `mov $600, %eax; syscall`, 16 bytes apart.
enum Fragment {
  kSystemCall,
  kRdtsc,
  kWrfsbase,
  kRdrand,
  kRdtscToRbx,
  kStore,
  kShortLoop,
  kLongLoop,
  kFragments
};
constexpr std::uint64_t kShortRounds = 100'000;
constexpr std::uint64_t kLongRounds = 3 * kShortRounds;
constexpr std::uint64_t kRoundInstructions = 2;
constexpr std::size_t kFragmentBytes = 16;
constexpr std::array<std::array<unsigned char, kFragmentBytes>, kFragments> kCode = {{
    {0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f, 0x05},
    {0x0f, 0x31, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f, 0x05},
    {0xf3, 0x48, 0x0f, 0xae, 0xd7, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f, 0x05},
    {0x0f, 0xc7, 0xf0, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f, 0x05},
    {0x0f, 0x31, 0x89, 0xc3, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f, 0x05},  // rdtsc; mov %eax, %ebx
    {0xa2, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f,
     0x05},
    // mov $rounds, %ecx; dec %ecx; jnz .-2
    {0xb9, 0xa0, 0x86, 0x01, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f,
     0x05},
    {0xb9, 0xe0, 0x93, 0x04, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xb8, 0x58, 0x02, 0x00, 0x00, 0x0f,
     0x05},
}};

// True when the fragment reached its system call; false when it raised an exception.
absl::StatusOr<bool> Try(Machine& machine, Fragment fragment) {
  machine.Start(kCodeAddress + fragment * kFragmentBytes, kCodeAddress + kPageBytes);
  const Exit exit = machine.Run();
  if (exit.kind == Exit::Kind::kSystemCall && machine.registers().general.rax == kCall) return true;
  if (exit.kind == Exit::Kind::kException && fragment != kSystemCall) return false;
  return Unavailable(
      "this KVM cannot run a ring-3 guest: fragment %d of the probe ended in exit "
      "kind %d, vector %d%s%s",
      static_cast<int>(fragment), static_cast<int>(exit.kind), exit.vector,
      exit.detail.empty() ? "" : ": ", exit.detail);
}

// True when every timestamp that the guest reads lies between two of the host's. An offset of less
// than the way in and out would pass; there is none: a counter is shifted by the age of the machine
// or of the host, or not at all.
absl::StatusOr<bool> ReadsHostsTimestamps(Machine& machine) {
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t before = ReadTsc();
    WAXVM_ASSIGN_OR_RETURN(const bool read, Try(machine, kRdtscToRbx));
    const std::uint64_t after = ReadTsc();
    const kvm_regs registers = machine.registers().general;
    const std::uint64_t inside = registers.rdx << 32 | (registers.rbx & 0xffffffff);
    if (!read || inside < before || inside > after) return false;
  }
  return true;
}

// What the counter says of one fragment.
absl::StatusOr<std::uint64_t> CountOf(Machine& machine, Fragment fragment) {
  WAXVM_ASSIGN_OR_RETURN(const std::unique_ptr<FuelCounter> counter,
                         NewPerfCounter(kGuestInstructions, {}));
  WAXVM_RETURN_IF_ERROR(Try(machine, fragment).status());
  return counter->Read();
}

// Counts two loops whose lengths are known: the counter has to tell them, and their difference, but
// for what an interruption may add. A counter that also counts the host, or nothing, does not.
absl::Status ProbeFuel(Machine& machine) {
  constexpr std::uint64_t kMargin = 64;  // the call behind the loop, the stub, interruptions
  constexpr int kTries = 3;
  std::uint64_t short_count = 0, long_count = 0;
  for (int i = 0; i < kTries; ++i) {
    WAXVM_ASSIGN_OR_RETURN(short_count, CountOf(machine, kShortLoop));
    WAXVM_ASSIGN_OR_RETURN(long_count, CountOf(machine, kLongLoop));
    const std::uint64_t least = kShortRounds * kRoundInstructions;
    const std::uint64_t difference = (kLongRounds - kShortRounds) * kRoundInstructions;
    if (short_count >= least && short_count <= least + kMargin &&
        long_count - short_count + kMargin / 2 <= difference + kMargin &&
        long_count - short_count + kMargin / 2 >= difference)
      return absl::OkStatus();
  }
  return Unavailable(
      "the processor's counter says that loops of %d and %d instructions in a guest have %d and %d",
      kShortRounds * kRoundInstructions, kLongRounds * kRoundInstructions, short_count, long_count);
}

bool HasInvariantTsc() {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && ((d >> 8) & 1) != 0;
}

// Processors of AMD before Zen 2 leave the addresses of the last x87 instruction as they are when
// they load a state that has none: something of another call would be left.
bool LoadsErrorPointers() {
  constexpr std::uint32_t kAmd = 0x68747541, kHygon = 0x6f677948;  // the first letters of a name
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return false;
  if (b != kAmd && b != kHygon) return true;
  return __get_cpuid(0x80000008, &a, &b, &c, &d) != 0 && ((b >> 2) & 1) != 0;  // XSAVEERPTR
}

// True when a guest's first write to a page of its memory counts as a fault of this thread.
absl::StatusOr<bool> CountsGuestFaults(Machine& machine) {
  constexpr GuestVirtual kFresh = 0x20000;  // where kStore stores
  if (!machine.pages().Populate(kFresh, kPageBytes, {.read = true, .write = true}))
    return Unavailable("cannot give the probe its memory");
  WAXVM_RETURN_IF_ERROR(Try(machine, kSystemCall).status());
  const std::optional<ThreadFaults> before = ThreadFaults::OfThisThread();
  const std::optional<ThreadFaults> after_none = ThreadFaults::OfThisThread();
  WAXVM_ASSIGN_OR_RETURN(const bool stored, Try(machine, kStore));
  const std::optional<ThreadFaults> after = ThreadFaults::OfThisThread();
  return stored && before && before == after_none && after && after != before;
}

// Keeps away from guests what would be state that waxvm does not manage (AMX, protection keys,
// control-flow enforcement, five-level paging), and picks the vector state to offer.
void RestrictCpuid(HostTraits& traits) {
  std::uint64_t offered = 3;
  for (std::uint32_t i = 0; i < traits.cpuid.count; ++i) {
    kvm_cpuid_entry2& entry = traits.cpuid.entries[i];
    if (entry.function == 7 && entry.index == 0) {
      entry.ecx &= ~((1u << 3) | (1u << 4) | (1u << 7) | (1u << 16));
      entry.edx &= ~((1u << 20) | (1u << 22) | (1u << 24) | (1u << 25));
    }
    if (entry.function == 0xd && entry.index == 0) {
      offered = entry.eax & 0xe7;
      if ((offered & 0xe0) != 0xe0) offered &= 7;
      if ((offered & 4) == 0) offered = 3;
      entry.eax = static_cast<std::uint32_t>(offered);
      entry.edx = 0;
    }
  }
  traits.xcr0 = offered;
  // Legacy area and header, then each component where leaf 13 says it is.
  for (std::uint32_t i = 0; i < traits.cpuid.count; ++i) {
    const kvm_cpuid_entry2& entry = traits.cpuid.entries[i];
    if (entry.function != 0xd || entry.index < 2 || entry.index > 62) continue;
    if ((offered >> entry.index & 1) != 0)
      traits.extended_bytes =
          std::max<std::size_t>(traits.extended_bytes, std::size_t{entry.ebx} + entry.eax);
  }
}

}  // namespace

absl::Status ProbeTimestamps(Machine& machine, HostTraits& traits) {
  traits.tsc_khz = machine.vcpu_.TscKhz().value_or(0);
  traits.invariant_tsc = HasInvariantTsc();
  machine.cr4_ = ControlRegister4(traits, /*trap_rdtsc=*/false);
  WAXVM_ASSIGN_OR_RETURN(traits.tsc_is_hosts, ReadsHostsTimestamps(machine));
  if (traits.tsc_is_hosts || !machine.vcpu_.SetTscOffset(0).ok()) return absl::OkStatus();
  WAXVM_ASSIGN_OR_RETURN(traits.tsc_is_hosts, ReadsHostsTimestamps(machine));
  traits.needs_tsc_offset = traits.tsc_is_hosts;
  return absl::OkStatus();
}

bool MovesFreely(Machine& machine) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kNoWait{30};  // a short trip; any grace period takes longer
  struct Trip {
    Machine& machine;
    Clock::duration time{};
    static void* Take(void* self) {
      Trip& trip = *static_cast<Trip*>(self);
      const auto start = Clock::now();
      trip.machine.CompletePendingIo();
      trip.time = Clock::now() - start;
      return nullptr;
    }
  };
  machine.CompletePendingIo();
  Trip trip{machine};
  // Signals of the embedder are for threads of the embedder.
  sigset_t all, before;
  sigfillset(&all);
  pthread_t thread;
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = ::pthread_create(&thread, nullptr, &Trip::Take, &trip);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return false;
  ::pthread_join(thread, nullptr);
  return trip.time < kNoWait;
}

absl::StatusOr<HostTraits> ProbeHost(const kvm::System& system) {
  constexpr int kNeededSync = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  if ((system.CheckExtension(KVM_CAP_SYNC_REGS) & kNeededSync) != kNeededSync)
    return Unavailable("this KVM lacks KVM_CAP_SYNC_REGS (Linux 4.17 and later have it)");
  HostTraits traits;
  WAXVM_ASSIGN_OR_RETURN(traits.cpuid, system.SupportedCpuid());
  RestrictCpuid(traits);

  // The paravirtual layout works on both kinds for as long as it takes to find out.
  MemoryAccount account(kProbeMemoryBytes);
  auto made = Machine::Create(system, traits, account, {});
  if (!made.ok())
    return Unavailable("cannot make a virtual machine: %s", std::string(made.status().message()));
  Machine& machine = **made;
  WAXVM_ASSIGN_OR_RETURN(traits.reset_sregs, machine.vcpu_.GetSregs());
  // Paravirtual KVM accepts bits that its CPUID does not announce, so trying is the only way.
  for (const std::uint64_t bit : kOptionalCr4) {
    kvm_sregs trial = traits.reset_sregs;
    trial.cr4 |= bit;
    if (machine.vcpu_.SetSregs(trial).ok()) traits.optional_cr4 |= bit;
  }
  WAXVM_RETURN_IF_ERROR(machine.vcpu_.SetSregs(traits.reset_sregs));
  machine.cr4_ = ControlRegister4(traits, /*trap_rdtsc=*/true);
  if (!machine.pages().Populate(kCodeAddress, kPageBytes,
                                {.read = true, .write = true, .execute = true}))
    return Unavailable("cannot give the probe its memory");
  machine.pages().CopyTo(kCodeAddress, std::as_bytes(std::span(kCode)));

  WAXVM_RETURN_IF_ERROR(Try(machine, kSystemCall).status());
  const bool ring3 = (machine.special().cs.selector & 3) == 3;
  WAXVM_ASSIGN_OR_RETURN(const bool reads_clock, Try(machine, kRdtsc));
  traits.traps_rdtsc = !reads_clock;
  WAXVM_ASSIGN_OR_RETURN(traits.has_fsgsbase, Try(machine, kWrfsbase));
  WAXVM_ASSIGN_OR_RETURN(traits.has_rdrand, Try(machine, kRdrand));
  WAXVM_ASSIGN_OR_RETURN(traits.faults_tell, CountsGuestFaults(machine));
  WAXVM_RETURN_IF_ERROR(ProbeTimestamps(machine, traits));
  traits.vcpus_move_freely = MovesFreely(machine);
  traits.fuel = ProbeFuel(machine);
  traits.kind = ring3 ? VmKind::kParavirtual : VmKind::kHardware;  // not while the probe runs on
  traits.loads_extended_inside = ring3 && (traits.optional_cr4 & kCr4OsXsave) != 0 &&
                                 traits.extended_bytes <= WAXVM_EXTENDED_RDX &&
                                 LoadsErrorPointers();
  return traits;
}

}  // namespace waxvm::vmm
