// SPDX-License-Identifier: Apache-2.0
// waxvm key: keys in a store.
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "commands.h"
#include "keys.h"
#include "prepare.h"
#include "waxvm/cga.h"
#include "waxvm/ssh_agent.h"

namespace waxvm::cli {
namespace {

constexpr std::string_view kDefaultName = "node";

constexpr WordFlag kNewFlags[] = {
    kStoreFlag,
    {.name = "type", .value = "ed25519|x25519", .help = "what it is for: names, or tunnels"}};
constexpr WordFlag kShowFlags[] = {
    kStoreFlag, {.name = "pem", .value = "", .help = "print the public key as openssl reads it"}};

absl::StatusOr<std::string_view> NameOf(const Words& words) {
  if (words.positional().size() > 1)
    return absl::InvalidArgumentError("give one name of a key, or none for 'node'");
  return words.positional().empty() ? kDefaultName : words.positional()[0];
}

Json Describe(std::string_view name, KeyType type, const PublicKey& key, const std::string& path) {
  const bool signs = type == KeyType::kEd25519;
  Json fields = {{"name", name},
                 {"type", signs ? "ed25519" : "x25519"},
                 {"public_key", key.ToHex()},
                 {"base32", key.ToBase32()}};
  if (signs) {
    Address network;
    const cga::Prefix prefix = cga::PrefixOf(key);
    std::copy(prefix.begin(), prefix.end(), network.bytes.begin());
    fields["prefix"] = network.ToText() + "/64";
  }
  fields["path"] = path;
  return fields;
}

absl::StatusOr<int> NewKey(const Words& words) {
  const auto name = NameOf(words);
  if (!name.ok()) return name.status();
  const std::string_view type = words.Get("type", "ed25519");
  if (type != "ed25519" && type != "x25519")
    return absl::InvalidArgumentError(
        absl::StrFormat("--type: '%s' is neither ed25519 nor x25519", type));
  auto store = OpenStore(words);
  if (!store.ok()) return store.status();
  Json fields;
  absl::Status saved;
  if (type == "ed25519") {
    const auto key = SigningKey::Generate();
    if (!key.ok()) return key.status();
    saved = store->Save(*name, *key);
    fields = Describe(*name, KeyType::kEd25519, key->public_key(), store->PathOf(*name));
  } else {
    const auto key = ExchangeKey::Generate();
    if (!key.ok()) return key.status();
    saved = store->Save(*name, *key);
    fields = Describe(*name, KeyType::kX25519, key->public_key(), store->PathOf(*name));
  }
  if (!saved.ok()) return saved;
  const absl::Status printed = PrintFields(fields, words.json());
  if (!printed.ok()) return printed;
  return kExitOk;
}

absl::StatusOr<int> ShowKey(const Words& words) {
  const auto name = NameOf(words);
  if (!name.ok()) return name.status();
  const auto store = OpenStore(words);
  if (!store.ok()) return store.status();
  KeyType type = KeyType::kEd25519;
  PublicKey key;
  if (const auto signing = store->Load(*name); signing.ok()) {
    key = signing->public_key();
  } else if (!absl::IsInvalidArgument(signing.status())) {
    return signing.status();
  } else if (const auto exchange = store->LoadExchange(*name); exchange.ok()) {
    type = KeyType::kX25519;
    key = exchange->public_key();
  } else {
    return signing.status();
  }
  if (words.Has("pem")) {
    absl::PrintF("%s", key.ToPem(type));
    return kExitOk;
  }
  const absl::Status printed =
      PrintFields(Describe(*name, type, key, store->PathOf(*name)), words.json());
  if (!printed.ok()) return printed;
  return kExitOk;
}

constexpr Verb kVerbs[] = {{.name = "new",
                            .words = "[NAME]",
                            .help = "make a key; NAME is 'node' where none is given",
                            .flags = kNewFlags,
                            .run = NewKey},
                           {.name = "show",
                            .words = "[NAME]",
                            .help = "print the public part of a key",
                            .flags = kShowFlags,
                            .run = ShowKey}};

/// Key files of other places are read under the rules of a store.
class FileSigner final : public Signer {
 public:
  explicit FileSigner(SigningKey key) : key_(std::move(key)) {}
  const PublicKey& public_key() const override { return key_.public_key(); }
  absl::StatusOr<Signature> Sign(std::string_view message) const override {
    return key_.Sign(message);
  }

 private:
  SigningKey key_;
};

}  // namespace

absl::StatusOr<std::string> HomeFolder() {
  const char* const home = std::getenv("HOME");
  if (home == nullptr || *home == '\0')
    return absl::NotFoundError("HOME is not set; name the folder with --store=FOLDER");
  const std::string folder = std::string(home) + "/.waxvm";
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return absl::ErrnoToStatus(errno, folder);
  return folder;
}

absl::StatusOr<KeyStore> OpenStore(const Words& words) {
  if (words.Has("store")) return KeyStore::Open(std::string(words.Get("store")));
  const auto home = HomeFolder();
  if (!home.ok()) return home.status();
  return KeyStore::Open(*home + "/keys");
}

absl::StatusOr<std::unique_ptr<Signer>> OpenSigner(const Words& words, std::string_view key) {
  static constexpr std::string_view kAgent = "agent:";
  if (key.starts_with(kAgent)) {
    const auto public_key = PublicKey::Parse(key.substr(kAgent.size()));
    if (!public_key.ok()) return public_key.status();
    const char* const socket = std::getenv("SSH_AUTH_SOCK");
    if (socket == nullptr) return absl::NotFoundError("SSH_AUTH_SOCK is not set");
    return NewSshAgentSigner(socket, *public_key);
  }
  absl::StatusOr<SigningKey> found = absl::NotFoundError("");
  if (key.find('/') != key.npos) {
    found = LoadKeyFile(std::string(key));
  } else {
    const auto store = OpenStore(words);
    if (!store.ok()) return store.status();
    found = store->Load(key);
  }
  if (!found.ok()) return found.status();
  return std::make_unique<FileSigner>(*std::move(found));
}

int KeyCommand(std::span<const std::string_view> arguments) {
  return RunVerb("key", kVerbs, arguments);
}

}  // namespace waxvm::cli
