// SPDX-License-Identifier: Apache-2.0
// waxvm: runs one untrusted program from the command line. An example of an embedder: it uses
// nothing but the public headers.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "commands.h"
#include "flags.h"

namespace waxvm::cli {
namespace {

int Help() {
  absl::PrintF(
      "waxvm runs an untrusted Linux program isolated, with nothing but what it is granted.\n\n"
      "  waxvm run [flags] -- PROGRAM [arguments]   run PROGRAM, a path here or in the image\n"
      "  waxvm call [flags] -- PROGRAM FUNCTION [ARGUMENT]   call a function of PROGRAM\n"
      "  waxvm dns [flags]                          answer DNS questions about names\n"
      "  waxvm providers [--json]                   what can isolate here, and what it is worth\n"
      "  waxvm coap VERB                            ask, serve and observe CoAP resources\n"
      "  waxvm mailbox VERB                         durable queues\n"
      "  waxvm key | cga | advert | name VERB       keys, addresses, signed records, names\n"
      "                                             (each VERB's command has --help)\n"
      "  waxvm help | --help | --version\n\n"
      "flags of run:\n%s\n"
      "exit codes of run:\n"
      "  the program's own, or\n"
      "  124 it met a limit            125 waxvm itself failed; nothing ran\n"
      "  126 it cannot be run          127 it was not found\n"
      "  128+n it died of the equivalent of signal n\n\n%s\n%s",
      RunFlagsHelp(), CallHelp(), DnsHelp());
  return kExitOk;
}

int Dispatch(std::span<const std::string_view> arguments) {
  static constexpr std::array<std::string_view, 11> kCommands = {
      "run", "call", "dns", "providers", "key", "cga", "advert", "name", "coap", "mailbox", "help"};
  if (arguments.empty()) {
    absl::FPrintF(stderr,
                  "waxvm: no command is given; write waxvm run -- PROGRAM, or see waxvm help\n");
    return kExitFailed;
  }
  const std::string_view command = arguments[0];
  if (command == "run") return RunCommand(arguments.subspan(1));
  if (command == "call") return CallCommand(arguments.subspan(1));
  if (command == "dns") return DnsCommand(arguments.subspan(1));
  if (command == "providers") return ProvidersCommand(arguments.subspan(1));
  if (command == "key") return KeyCommand(arguments.subspan(1));
  if (command == "cga") return CgaCommand(arguments.subspan(1));
  if (command == "advert") return AdvertCommand(arguments.subspan(1));
  if (command == "name") return NameCommand(arguments.subspan(1));
  if (command == "mailbox") return MailboxCommand(arguments.subspan(1));
  if (command == "coap") return CoapCommand(arguments.subspan(1));
  if (command == "help" || command == "--help" || command == "-h") return Help();
  if (command == "--version" || command == "version") {
    absl::PrintF("waxvm %s\n", WAXVM_VERSION);
    return kExitOk;
  }
  const std::string_view nearest = Nearest(command, kCommands);
  absl::FPrintF(stderr, "waxvm: unknown command '%s'%s; see waxvm help\n", command,
                nearest.empty() ? "" : absl::StrFormat(", did you mean %s?", nearest));
  return kExitFailed;
}

/// Fills closed standard streams, so that no file opened later becomes the program's input.
void EnsureStandardStreams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
}

}  // namespace
}  // namespace waxvm::cli

int main(int argc, char** argv) {
  waxvm::cli::EnsureStandardStreams();
  const std::vector<std::string_view> arguments(argv + (argc > 0), argv + argc);
  return waxvm::cli::Dispatch(arguments);
}
