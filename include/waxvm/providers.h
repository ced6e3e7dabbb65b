// SPDX-License-Identifier: Apache-2.0
// The providers that come with the library.
#ifndef WAXVM_PROVIDERS_H_
#define WAXVM_PROVIDERS_H_

#include <memory>
#include <string>
#include <vector>

#include "waxvm/provider.h"

namespace waxvm {

/// One step of a scripted instance; see MockOptions.
struct MockStep {
  enum class Kind { kOutput, kError, kHostCall, kExit, kFault, kLimit } kind = Kind::kExit;
  std::string text = {};  ///< output, or the host call's request
  std::string name = {};  ///< the host call's name
  int exit_code = 0;
  Fault fault = {};
  LimitKind limit = LimitKind::kMemory;
};

struct MockOptions {
  /// Played instead of the program, whatever it is. Empty: native functions run as they are.
  std::vector<MockStep> script = {};
};

/// Runs native functions in the embedder's own process, or plays a script. Deterministic; needs
/// no kernel feature; isolates nothing. Time is what the granted clock says.
std::shared_ptr<Provider> NewMockProvider(MockOptions options = {});

struct ProcessOptions {};

/// Runs ELF programs and native functions in a child process with its own user, mount, pid, net,
/// ipc, uts and cgroup namespaces, a seccomp filter, landlock where the kernel has it, resource
/// limits and no_new_privs. Works as root and as an ordinary user. The gate is asked in Create,
/// once for each granted folder and for randomness, and a refused grant is left out (one refused
/// for writing only becomes read-only): the host's kernel serves the accesses themselves.
std::shared_ptr<Provider> NewProcessProvider(ProcessOptions options = {});

struct MicroVmOptions {
  /// The real-time signal that interrupts a vCPU thread, as an offset from SIGRTMIN. It is blocked
  /// in the thread that calls Resume for the length of that call; no handler is installed.
  int kick_signal_offset = 7;
};

/// Runs ELF programs in a virtual machine of their own, made with KVM in this process. No host
/// system call is reachable from the program: its calls are served by waxvm. A dynamic program's
/// interpreter and libraries come from granted files or a root image. There is one vCPU: threads
/// take turns. Other processes (fork, execve) are not offered.
std::shared_ptr<Provider> NewMicroVmProvider(MicroVmOptions options = {});

}  // namespace waxvm

#endif  // WAXVM_PROVIDERS_H_
