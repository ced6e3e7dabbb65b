// SPDX-License-Identifier: Apache-2.0
// give_identity PROGRAM: gives a guest a key and an address of its own, and has the host sign what
// it says without letting it have the key. The guest's side is tests/guests/host_call.c.
#include <iostream>
#include <memory>

#include "waxvm/providers.h"
#include "waxvm/resolver.h"
#include "waxvm/supervisor.h"

int main(int argc, char** argv) {
  auto key = waxvm::SigningKey::Generate();  // of the host: kept in a KeyStore, or an ssh-agent
  if (argc < 2 || !key.ok()) return std::cerr << "give_identity PROGRAM\n", 2;
  const auto host = std::make_shared<waxvm::SigningKey>(*std::move(key));
  const std::shared_ptr<waxvm::Directory> directory = waxvm::NewMemoryDirectory();
  const auto petnames = waxvm::Petnames::InMemory();
  const auto resolver = waxvm::Resolver::Create(directory.get(), &petnames);
  waxvm::RunOptions options;
  options.arguments = {"I am here", "waxvm.identity.sign"};
  options.identity =
      waxvm::IdentityOptions{.host = host,
                             .directory = directory,
                             .services = {{"coap", 17, 5683}},
                             .at_end = waxvm::AdvertEnd::kLeave,  // to look at it below
                             .grant_signing = true};
  const auto done =
      waxvm::RunOnce(waxvm::NewMicroVmProvider(), waxvm::Program::FromFile(argv[1]), options);
  if (!done.ok()) return std::cerr << done.status() << '\n', 1;
  const waxvm::IdentityReport& self = *done->report.identity;
  const auto found = resolver->Resolve(self.public_key.ToBase32());
  const bool same = found.ok() && (*found)->address == self.address;
  std::cout << "the address is " << (self.address.bytes[0] == 0xfd ? "of fd00::/8" : "another")
            << ", found by the key: " << (same ? "yes" : "no") << '\n'
            << "statements that the host signed: " << self.statements << '\n';
  return done->exit_code;
}
