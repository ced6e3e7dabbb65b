// SPDX-License-Identifier: Apache-2.0
// Keys that an ssh-agent holds, so that this process never has them.
#ifndef WAXVM_SSH_AGENT_H_
#define WAXVM_SSH_AGENT_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/key.h"

namespace waxvm {

struct SshAgentOptions {
  /// Of one request, in all. An agent may ask a person first.
  std::chrono::milliseconds timeout = std::chrono::seconds(30);
};

struct SshAgentKey {
  PublicKey public_key = {};
  std::string comment = {};
};

/// The Ed25519 keys of the agent that listens on the socket at `path` (the value of SSH_AUTH_SOCK).
/// Other kinds of keys are left out.
/// Errors: kUnavailable where nobody listens; kDeadlineExceeded; kDataLoss for answers that break
/// the protocol. Spec: draft-miller-ssh-agent.
absl::StatusOr<std::vector<SshAgentKey>> ListSshAgent(const std::string& path,
                                                      const SshAgentOptions& options = {});

/// A signer for one key of that agent. Each signature is a connection of its own, and is verified
/// before it is returned. Errors of Sign: as ListSshAgent; kPermissionDenied where the agent
/// refuses, as it does for a key that it does not have.
std::unique_ptr<Signer> NewSshAgentSigner(const std::string& path, const PublicKey& key,
                                          const SshAgentOptions& options = {});

}  // namespace waxvm

#endif  // WAXVM_SSH_AGENT_H_
