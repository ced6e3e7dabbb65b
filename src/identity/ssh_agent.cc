// SPDX-License-Identifier: Apache-2.0
#include "waxvm/ssh_agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm {
namespace {

using Clock = std::chrono::steady_clock;

// Message numbers. Spec: draft-miller-ssh-agent section 5.1.
constexpr char kFailure = 5;
constexpr char kRequestIdentities = 11;
constexpr char kIdentitiesAnswer = 12;
constexpr char kSignRequest = 13;
constexpr char kSignResponse = 14;

// What OpenSSH's own programs take at most: an agent that announces more wants our memory.
constexpr std::uint32_t kMaxMessageBytes = 256 * 1024;
// What OpenSSH's programs list at most.
constexpr std::uint32_t kMaxKeys = 2048;
constexpr std::string_view kAlgorithm = "ssh-ed25519";

void PutNumber(std::string& to, std::size_t number) {
  for (const int shift : {24, 16, 8, 0}) to.push_back(static_cast<char>(number >> shift & 0xff));
}

void PutString(std::string& to, std::string_view text) {
  PutNumber(to, text.size());
  to.append(text);
}

/// Takes numbers and strings off a message; empty where it is too short.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  std::optional<std::uint32_t> Number() {
    if (rest_.size() < 4) return std::nullopt;
    std::uint32_t number = 0;
    for (const char c : rest_.substr(0, 4)) number = number << 8 | static_cast<unsigned char>(c);
    rest_.remove_prefix(4);
    return number;
  }
  std::optional<std::string_view> String() {
    const auto size = Number();
    if (!size || *size > rest_.size()) return std::nullopt;
    const std::string_view text = rest_.substr(0, *size);
    rest_.remove_prefix(*size);
    return text;
  }

 private:
  std::string_view rest_;
};

absl::Status Broken(std::string_view what) {
  return absl::DataLossError(absl::StrFormat("the ssh-agent broke its protocol: %s", what));
}

/// Waits until the socket is ready for `events`.
absl::Status Await(int fd, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return absl::DeadlineExceededError("the ssh-agent did not answer");
    pollfd waiting = {.fd = fd, .events = events, .revents = 0};
    const int ready =
        poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return ErrnoStatus(errno, "waiting for the ssh-agent");
  }
}

absl::StatusOr<UniqueFd> Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return InvalidArgument("'%s' is no path of a socket", path.substr(0, 200));
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return ErrnoStatus(errno, "a socket for the ssh-agent");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Unavailable("no ssh-agent at %s: %s", path,
                       std::string(ErrnoStatus(errno, "connect").message()));
  return fd;
}

absl::Status SendAll(int fd, std::string_view bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    WAXVM_RETURN_IF_ERROR(Await(fd, POLLOUT, deadline));
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) return Unavailable("the ssh-agent went away");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReceiveExactly(int fd, std::size_t size, Clock::time_point deadline) {
  std::string bytes(size, '\0');
  std::size_t got = 0;
  while (got < size) {
    WAXVM_RETURN_IF_ERROR(Await(fd, POLLIN, deadline));
    const ssize_t part = recv(fd, bytes.data() + got, size - got, 0);
    if (part < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (part <= 0) return Unavailable("the ssh-agent went away");
    got += static_cast<std::size_t>(part);
  }
  return bytes;
}

/// One request and its answer, number included.
absl::StatusOr<std::string> Ask(const std::string& path, std::string_view request,
                                const SshAgentOptions& options) {
  const auto deadline = Clock::now() + options.timeout;
  WAXVM_ASSIGN_OR_RETURN(const UniqueFd fd, Connect(path));
  std::string message;
  PutString(message, request);
  WAXVM_RETURN_IF_ERROR(SendAll(fd.get(), message, deadline));
  WAXVM_ASSIGN_OR_RETURN(const std::string head, ReceiveExactly(fd.get(), 4, deadline));
  const std::uint32_t size = *Reader(head).Number();
  if (size == 0 || size > kMaxMessageBytes)
    return Broken(absl::StrFormat("a message of %d bytes", size));
  return ReceiveExactly(fd.get(), size, deadline);
}

std::string KeyBlob(const PublicKey& key) {
  std::string blob;
  PutString(blob, kAlgorithm);
  PutString(blob, key.view());
  return blob;
}

/// Empty for a key of another kind.
std::optional<PublicKey> ParseKeyBlob(std::string_view blob) {
  Reader reader(blob);
  const auto algorithm = reader.String();
  const auto bytes = reader.String();
  if (!algorithm || *algorithm != kAlgorithm || !bytes || !reader.empty()) return std::nullopt;
  const auto key = PublicKey::FromBytes(*bytes);
  if (!key.ok()) return std::nullopt;
  return *key;
}

class SshAgentSigner final : public Signer {
 public:
  SshAgentSigner(const std::string& path, const PublicKey& key, const SshAgentOptions& options)
      : path_(path), key_(key), options_(options) {}

  const PublicKey& public_key() const override { return key_; }

  absl::StatusOr<Signature> Sign(std::string_view message) const override {
    std::string request(1, kSignRequest);
    PutString(request, KeyBlob(key_));
    PutString(request, message);
    PutNumber(request, 0);  // flags
    if (request.size() > kMaxMessageBytes)
      return InvalidArgument("an ssh-agent does not sign %d bytes", message.size());
    WAXVM_ASSIGN_OR_RETURN(const std::string answer, Ask(path_, request, options_));
    if (answer[0] == kFailure)
      return absl::PermissionDeniedError("the ssh-agent does not sign with this key");
    if (answer[0] != kSignResponse) return Broken("not the answer to a request to sign");
    Reader outer(std::string_view(answer).substr(1));
    const auto blob = outer.String();
    if (!blob || !outer.empty()) return Broken("no signature");
    Reader inner(*blob);
    const auto algorithm = inner.String();
    const auto bytes = inner.String();
    if (!algorithm || *algorithm != kAlgorithm || !bytes || bytes->size() != kSignatureBytes ||
        !inner.empty())
      return Broken("not a signature of Ed25519");
    Signature signature;
    std::memcpy(signature.bytes.data(), bytes->data(), kSignatureBytes);
    if (!Verify(key_, message, signature)) return Broken("a signature that does not hold");
    return signature;
  }

 private:
  const std::string path_;
  const PublicKey key_;
  const SshAgentOptions options_;
};

}  // namespace

absl::StatusOr<std::vector<SshAgentKey>> ListSshAgent(const std::string& path,
                                                      const SshAgentOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(const std::string answer,
                         Ask(path, std::string_view(&kRequestIdentities, 1), options));
  if (answer[0] == kFailure) return absl::PermissionDeniedError("the ssh-agent lists no keys");
  if (answer[0] != kIdentitiesAnswer) return Broken("not the answer to a request for keys");
  Reader reader(std::string_view(answer).substr(1));
  const auto count = reader.Number();
  if (!count || *count > kMaxKeys) return Broken("too many keys");
  std::vector<SshAgentKey> keys;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto blob = reader.String();
    const auto comment = reader.String();
    if (!blob || !comment) return Broken("fewer keys than announced");
    if (const auto key = ParseKeyBlob(*blob))
      keys.push_back({.public_key = *key, .comment = std::string(*comment)});
  }
  if (!reader.empty()) return Broken("more than the keys");
  return keys;
}

std::unique_ptr<Signer> NewSshAgentSigner(const std::string& path, const PublicKey& key,
                                          const SshAgentOptions& options) {
  return std::make_unique<SshAgentSigner>(path, key, options);
}

}  // namespace waxvm
