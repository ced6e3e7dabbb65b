// SPDX-License-Identifier: Apache-2.0
// The frame on which a signal handler runs, and the way back from it.
// Spec: Linux arch/x86/include/uapi/asm/sigcontext.h and arch/x86/include/asm/sigframe.h; System V
// ABI, AMD64 supplement, section 3.2.2 (the red zone).
#include <algorithm>
#include <cstring>
#include <vector>

#include "src/linux_abi/process.h"
#include "src/linux_abi/registers.h"
#include "src/linux_abi/signals.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kRedZoneBytes = 128;
constexpr std::uint64_t kStateAlignment = 64;
constexpr std::uint16_t kUserCode = 0x33;
constexpr std::uint16_t kUserStack = 0x2b;

// uc_flags.
constexpr std::uint64_t kHasExtendedState = 1;
constexpr std::uint64_t kHasStackSegment = 2;
constexpr std::uint64_t kStrictStackSegment = 4;

// In the bytes that FXSAVE leaves to software, and behind the whole.
constexpr std::size_t kSoftwareOffset = 464;
constexpr std::size_t kLegacyBytes = 512;
constexpr std::size_t kHeaderBytes = 64;
constexpr std::uint32_t kMagic1 = 0x46505853;
constexpr std::uint32_t kMagic2 = 0x46505845;

struct SoftwareBytes {
  std::uint32_t magic;
  std::uint32_t bytes_with_magic2;
  std::uint64_t features;
  std::uint32_t bytes;
  std::uint32_t padding[7];
};
static_assert(sizeof(SoftwareBytes) == 48);

struct MachineContext {
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  std::uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
  std::uint16_t cs, gs, fs, ss;
  std::uint64_t error, trap, old_mask, cr2;
  std::uint64_t extended;
  std::uint64_t reserved[8];
};
static_assert(sizeof(MachineContext) == 256);

struct UserContext {
  std::uint64_t flags;
  std::uint64_t link;
  std::uint64_t stack_address;
  std::uint32_t stack_flags;
  std::uint32_t padding;
  std::uint64_t stack_bytes;
  MachineContext machine;
  SignalSet mask;
};

struct Frame {
  std::uint64_t return_address;
  UserContext context;
  siginfo_t info;
};
static_assert(sizeof(UserContext) == 304 && sizeof(siginfo_t) == 128 && sizeof(Frame) == 440);

// Trap, direction and resume are cleared for a handler; the guest may set these in its own flags.
constexpr std::uint64_t kClearedFlags = 0x100 | 0x400 | 0x10000;
constexpr std::uint64_t kUserFlags =
    0xcd5 | 0x100 | 0x10000 | 0x40000;  // arithmetic, DF; TF, RF, AC
constexpr std::uint64_t kFixedFlags = 0x202;

MachineContext ContextOf(const CpuRegisters& r, const TrapState& trap, SignalSet mask,
                         std::uint64_t extended) {
  MachineContext context{};
  CopyGeneralRegisters(r, context);
  context.cs = kUserCode;
  context.ss = kUserStack;
  context.error = trap.error_code;
  context.trap = trap.number;
  context.old_mask = mask;
  context.cr2 = trap.address;
  context.extended = extended;
  return context;
}

// The extended state with what tells a reader how much of it there is.
std::vector<std::byte> ExtendedBytes(Host& host) {
  ExtendedState state;
  host.SaveExtended(state);
  const auto bytes = static_cast<std::uint32_t>(host.ExtendedBytes());
  const SoftwareBytes software{.magic = kMagic1,
                               .bytes_with_magic2 = bytes + std::uint32_t{sizeof kMagic2},
                               .features = host.ExtendedFeatures(),
                               .bytes = bytes,
                               .padding = {}};
  std::memcpy(state.bytes.data() + kSoftwareOffset, &software, sizeof software);
  std::vector<std::byte> image(state.bytes.begin(), state.bytes.begin() + bytes);
  const auto* magic = reinterpret_cast<const std::byte*>(&kMagic2);
  image.insert(image.end(), magic, magic + sizeof kMagic2);
  return image;
}

std::uint64_t StackFor(const Thread& thread, const SignalAction& action, std::uint64_t rsp) {
  const SignalStack& stack = thread.signal_stack;
  const bool wanted = (action.flags & SA_ONSTACK) != 0 && (stack.flags & SS_DISABLE) == 0;
  if (wanted && !stack.Holds(rsp)) return stack.address + stack.bytes;
  return rsp - kRedZoneBytes;
}

// Takes what the guest left in the frame. What is not there becomes the initial state, as Linux has
// it; what the processor would refuse, the machine refuses.
bool RestoreExtended(Process& process, std::uint64_t address) {
  Host& host = process.host();
  const std::size_t bytes = host.ExtendedBytes();
  ExtendedState state;
  if (address == 0) {
    // Control words as after FNINIT, and nothing in use.
    constexpr std::uint16_t kControl = 0x37f;
    constexpr std::uint32_t kMxcsr = 0x1f80;
    std::memcpy(state.bytes.data(), &kControl, sizeof kControl);
    std::memcpy(state.bytes.data() + 24, &kMxcsr, sizeof kMxcsr);
    return host.LoadExtended(state);
  }
  if (address % kStateAlignment != 0) return false;
  if (!process.memory().Read(address, std::span(state.bytes).first(kLegacyBytes))) return false;
  SoftwareBytes software;
  std::memcpy(&software, state.bytes.data() + kSoftwareOffset, sizeof software);
  std::uint32_t magic = 0;
  const bool whole = software.magic == kMagic1 && software.bytes == bytes &&
                     process.memory().ReadObject(address + bytes, magic) && magic == kMagic2;
  std::uint64_t features = 3;  // x87 and SSE, where only the old part is there
  if (whole) {
    if (!process.memory().Read(address, std::span(state.bytes).first(bytes))) return false;
    std::memcpy(&features, state.bytes.data() + kLegacyBytes, sizeof features);
    features &= host.ExtendedFeatures();
  }
  std::memset(state.bytes.data() + kSoftwareOffset, 0, sizeof software);
  // Only the first word of the header may be set, or the processor would fault on it.
  std::memset(state.bytes.data() + kLegacyBytes, 0, kHeaderBytes);
  std::memcpy(state.bytes.data() + kLegacyBytes, &features, sizeof features);
  return host.LoadExtended(state);
}

CpuRegisters RegistersOf(const MachineContext& m, const CpuRegisters& before) {
  // The bases of FS and GS are in no frame.
  CpuRegisters registers = before;
  CopyGeneralRegisters(m, registers);
  registers.rflags = (m.rflags & kUserFlags) | kFixedFlags;
  return registers;
}

}  // namespace

std::uint64_t SignalFrameBytes(std::size_t extended_bytes) {
  return kRedZoneBytes + extended_bytes + sizeof kMagic2 + kStateAlignment + sizeof(Frame) + 32;
}

bool EnterHandler(Process& process, Thread& thread, const siginfo_t& info,
                  const SignalAction& action, CpuRegisters& registers) {
  constexpr std::uint64_t kHasRestorer = 0x04000000;  // SA_RESTORER
  if ((action.flags & kHasRestorer) == 0) return false;
  const std::vector<std::byte> extended = ExtendedBytes(process.host());
  const std::uint64_t top = StackFor(thread, action, registers.rsp);
  const std::uint64_t room = SignalFrameBytes(extended.size());
  const SignalStack& stack = thread.signal_stack;
  // A handler whose stack is full must not run into what lies below it.
  const bool on_stack = stack.Holds(top);
  if (top < room || (on_stack && top - room < stack.address)) return false;
  const std::uint64_t extended_at = (top - extended.size()) & ~(kStateAlignment - 1);
  // The ABI's alignment at a function's entry: 8 above a multiple of 16.
  const std::uint64_t frame_at = ((extended_at - sizeof(Frame)) & ~std::uint64_t{15}) - 8;
  const SignalSet mask = thread.saved_mask.value_or(thread.blocked);
  Frame frame{};
  frame.return_address = action.restorer;
  frame.context = {.flags = kHasExtendedState | kHasStackSegment | kStrictStackSegment,
                   .link = 0,
                   .stack_address = stack.address,
                   .stack_flags = stack.flags & ~std::uint32_t{SS_ONSTACK},
                   .padding = 0,
                   .stack_bytes = stack.bytes,
                   .machine = ContextOf(registers, thread.trap, mask, extended_at),
                   .mask = mask};
  frame.info = info;
  if (!process.memory().Write(extended_at, extended) ||
      !process.memory().WriteObject(frame_at, frame))
    return false;
  thread.saved_mask.reset();
  thread.trap = {};
  thread.blocked |= action.mask & ~kUnblockable;
  if ((action.flags & SA_NODEFER) == 0) thread.blocked |= SignalBit(info.si_signo);
  constexpr std::uint32_t kAutoDisarm = 1u << 31;  // SS_AUTODISARM
  if ((stack.flags & kAutoDisarm) != 0) thread.signal_stack = {};
  registers.rip = action.handler;
  registers.rsp = frame_at;
  registers.rdi = static_cast<std::uint64_t>(info.si_signo);
  registers.rsi = frame_at + offsetof(Frame, info);
  registers.rdx = frame_at + offsetof(Frame, context);
  registers.rax = 0;
  registers.rflags = (registers.rflags & ~kClearedFlags) | kFixedFlags;
  // The CPU could not load it, and would stop the machine rather than the program.
  return registers.rip < kUserEnd;
}

bool LeaveHandler(Process& process, Thread& thread) {
  const CpuRegisters before = process.host().Registers();
  UserContext context;
  // The handler's `ret` has taken the return address.
  if (!process.memory().ReadObject(before.rsp, context)) return false;
  const CpuRegisters registers = RegistersOf(context.machine, before);
  if (registers.rip >= kUserEnd) return false;
  if (!RestoreExtended(process, context.machine.extended)) return false;
  thread.blocked = context.mask & ~kUnblockable;
  thread.signal_stack = {
      .address = context.stack_address, .bytes = context.stack_bytes, .flags = context.stack_flags};
  process.host().SetRegisters(registers);
  process.scheduler().NoteChange();
  return true;
}

}  // namespace waxvm::linux_abi
