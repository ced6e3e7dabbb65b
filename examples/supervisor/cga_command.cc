// SPDX-License-Identifier: Apache-2.0
// waxvm cga: addresses made from keys.
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "commands.h"
#include "prepare.h"
#include "signals.h"
#include "waxvm/cga.h"
#include "words.h"

namespace waxvm::cli {
namespace {

constexpr WordFlag kPublicKeyFlag = {
    .name = "public-key", .value = "HEX", .help = "32 bytes of Ed25519, or any key in DER"};
constexpr WordFlag kPrefixFlag = {
    .name = "prefix", .value = "ADDRESS", .help = "of a key in DER: the /64 to make it in"};

constexpr WordFlag kGenerateFlags[] = {
    kPublicKeyFlag,
    {.name = "modifier", .value = "HEX", .help = "where to start: 32 digits (default: random)"},
    {.name = "sec-code",
     .value = "N",
     .help = "0 to 2: SHA-1; 3 to 5: SHA-256; 0, 16, 32 bits (4)"},
    {.name = "collision-count", .value = "N", .help = "0 to 2 (default: 0)"},
    {.name = "threads", .value = "N", .help = "default: all cores"},
    kPrefixFlag};
constexpr WordFlag kVerifyFlags[] = {
    kPublicKeyFlag,
    {.name = "modifier", .value = "HEX", .help = "32 digits"},
    {.name = "collision-count", .value = "N", .help = "0 to 2"},
    {.name = "address", .value = "ADDRESS", .help = "what is claimed"}};

/// A key given on the command line.
struct Key {
  std::string der;
  std::optional<PublicKey> ed25519;  ///< has a prefix of its own
};

absl::StatusOr<Key> KeyOf(const Words& words) {
  const auto bytes = Unhex(words.Get("public-key"));
  if (!words.Has("public-key") || !bytes || bytes->empty())
    return absl::InvalidArgumentError(
        "--public-key=HEX needs the key's bytes as hexadecimal digits");
  auto key = bytes->size() == kKeyBytes ? PublicKey::FromBytes(*bytes) : PublicKey::FromDer(*bytes);
  if (key.ok()) return Key{.der = key->ToDer(), .ed25519 = *key};
  return Key{.der = *bytes, .ed25519 = std::nullopt};
}

absl::StatusOr<cga::Modifier> ModifierOf(const Words& words) {
  cga::Modifier modifier{};
  const auto bytes = Unhex(words.Get("modifier"));
  if (!bytes || bytes->size() != modifier.size())
    return absl::InvalidArgumentError("--modifier=HEX needs 32 hexadecimal digits");
  std::copy(bytes->begin(), bytes->end(), modifier.begin());
  return modifier;
}

absl::StatusOr<cga::Modifier> RandomModifier() {
  cga::Modifier modifier{};
  if (getentropy(modifier.data(), modifier.size()) != 0)
    return absl::ErrnoToStatus(errno, "random numbers");
  return modifier;
}

absl::StatusOr<cga::Prefix> PrefixOf(const Words& words, const Key& key) {
  if (key.ed25519) {
    if (words.Has("prefix"))
      return absl::InvalidArgumentError("--prefix: a key of Ed25519 has its own");
    return cga::PrefixOf(*key.ed25519);
  }
  const auto address = Address::Parse(words.Get("prefix"));
  if (!address.ok())
    return absl::InvalidArgumentError("--prefix=ADDRESS is needed for a key that is not Ed25519");
  cga::Prefix prefix;
  std::copy_n(address->bytes.begin(), prefix.size(), prefix.begin());
  return prefix;
}

std::string_view View(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

absl::StatusOr<cga::GenerateOptions> OptionsOf(const Words& words) {
  cga::GenerateOptions options;
  const auto sec = words.Number("sec-code", cga::kSha256Bits16, cga::kSha256Bits32);
  const auto count = words.Number("collision-count", 0, cga::kMaxCollisionCount);
  const auto threads = words.Number("threads", 0, 256);
  const auto modifier = words.Has("modifier") ? ModifierOf(words) : RandomModifier();
  for (const auto& status : {sec.status(), count.status(), threads.status(), modifier.status()})
    if (!status.ok()) return status;
  options.sec_code = static_cast<int>(*sec);
  options.collision_count = static_cast<int>(*count);
  options.threads = static_cast<unsigned>(*threads);
  options.modifier = *modifier;
  return options;
}

absl::StatusOr<int> Generate(const Words& words) {
  if (!words.positional().empty())
    return absl::InvalidArgumentError("cga generate takes flags only");
  const auto key = KeyOf(words);
  if (!key.ok()) return key.status();
  auto options = OptionsOf(words);
  if (!options.ok()) return options.status();
  const auto prefix = PrefixOf(words, *key);
  if (!prefix.ok()) return prefix.status();
  StopOnSignal signals;
  options->stop = signals.source().get_token();
  if (isatty(STDERR_FILENO) != 0)
    options->progress = [](std::uint64_t tries) {
      absl::FPrintF(stderr, "\rwaxvm: %d modifiers tried", tries);
    };
  const auto made = cga::Generate(key->der, *prefix, *options);
  if (absl::IsCancelled(made.status())) return kExitSignal + signals.signal();
  if (!made.ok()) return made.status();
  const absl::Status printed = PrintFields({{"address", made->address.ToText()},
                                            {"modifier", Hex(View(made->parameters.modifier))},
                                            {"hash2", Hex(View(made->hash2))},
                                            {"tries", made->tries},
                                            {"sec_code", options->sec_code},
                                            {"collision_count", options->collision_count}},
                                           /*json=*/true);
  if (!printed.ok()) return printed;
  return kExitOk;
}

absl::StatusOr<int> VerifyAddress(const Words& words) {
  if (!words.positional().empty()) return absl::InvalidArgumentError("cga verify takes flags only");
  for (const char* flag : {"public-key", "modifier", "collision-count", "address"})
    if (!words.Has(flag))
      return absl::InvalidArgumentError(absl::StrFormat("--%s is missing", flag));
  const auto key = KeyOf(words);
  if (!key.ok()) return key.status();
  const auto modifier = ModifierOf(words);
  if (!modifier.ok()) return modifier.status();
  const auto count = words.Number("collision-count", 0, 255);
  if (!count.ok()) return count.status();
  const auto address = Address::Parse(words.Get("address"));
  if (!address.ok()) return address.status();
  cga::Parameters parameters = {
      .modifier = *modifier, .collision_count = static_cast<int>(*count), .public_key = key->der};
  std::copy_n(address->bytes.begin(), parameters.prefix.size(), parameters.prefix.begin());
  if (key->ed25519) parameters.prefix = cga::PrefixOf(*key->ed25519);
  const absl::Status status = cga::Verify(*address, parameters);
  const absl::Status printed = PrintFields(
      {{"valid", status.ok()}, {"reason", std::string(status.message())}}, words.json());
  if (!printed.ok()) return printed;
  return status.ok() ? kExitOk : kExitRefused;
}

constexpr Verb kVerbs[] = {
    {.name = "generate",
     .words = "",
     .help = "make an address with the first modifier that fits; prints JSON",
     .flags = kGenerateFlags,
     .run = Generate},
    {.name = "verify",
     .words = "",
     .help = "exit code 0 where the holder of the key made the address, else 1",
     .flags = kVerifyFlags,
     .run = VerifyAddress}};

}  // namespace

int CgaCommand(std::span<const std::string_view> arguments) {
  return RunVerb("cga", kVerbs, arguments);
}

}  // namespace waxvm::cli
