// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_EXAMPLES_SUPERVISOR_COMMANDS_H_
#define WAXVM_EXAMPLES_SUPERVISOR_COMMANDS_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "waxvm/provider.h"

namespace waxvm::cli {

/// Exit codes of the command itself; the program's own are passed through.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;      ///< of call: the function failed
inline constexpr int kExitLost = 2;         ///< of call: the program did not survive it
inline constexpr int kExitFailed = 125;     ///< of waxvm itself, nothing ran
inline constexpr int kExitCannotRun = 126;  ///< the program cannot be run
inline constexpr int kExitNotFound = 127;   ///< the program does not exist
inline constexpr int kExitSignal = 128;     ///< plus the number of the signal

/// Every provider of the library, weakest first.
std::vector<std::shared_ptr<Provider>> AllProviders();

/// `waxvm run …`, `waxvm call …`, `waxvm dns …`, `waxvm providers …`, without those two words.
/// Return the exit code.
int RunCommand(std::span<const std::string_view> arguments);
int CallCommand(std::span<const std::string_view> arguments);
int DnsCommand(std::span<const std::string_view> arguments);
int ProvidersCommand(std::span<const std::string_view> arguments);

/// `waxvm key …`, `waxvm cga …`, `waxvm advert …`, `waxvm name …`, `waxvm mailbox …`: each has
/// verbs, and help of its own. Exit code kExitRefused: what was to be verified does not hold, or
/// the store refused it.
int KeyCommand(std::span<const std::string_view> arguments);
int CgaCommand(std::span<const std::string_view> arguments);
int AdvertCommand(std::span<const std::string_view> arguments);
int NameCommand(std::span<const std::string_view> arguments);
int MailboxCommand(std::span<const std::string_view> arguments);

/// `waxvm coap …`. Its exit codes are in its help.
int CoapCommand(std::span<const std::string_view> arguments);

/// What `waxvm call --help` prints, also a part of `waxvm help`.
std::string CallHelp();
/// The same of `waxvm dns --help`.
std::string DnsHelp();

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_COMMANDS_H_
