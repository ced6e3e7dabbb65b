// SPDX-License-Identifier: Apache-2.0
// Keys: an Ed25519 key says who somebody is, an X25519 key is where tunnels to a host begin.
#ifndef WAXVM_KEY_H_
#define WAXVM_KEY_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace waxvm {

inline constexpr std::size_t kKeyBytes = 32;
inline constexpr std::size_t kSignatureBytes = 64;
/// Digits of a key in base32.
inline constexpr std::size_t kKeyBase32Digits = 52;

enum class KeyType { kEd25519, kX25519 };

/// A public key, as its 32 bytes. Nothing of it is checked: a key that is no good verifies nothing.
struct PublicKey {
  std::array<std::uint8_t, kKeyBytes> bytes{};

  /// 64 lower-case hexadecimal digits.
  std::string ToHex() const;
  /// 52 digits of a–z and 2–7, as a label of a domain name. Spec: RFC 4648 section 6, in lower
  /// case, without padding.
  std::string ToBase32() const;
  /// SubjectPublicKeyInfo, as `openssl pkey -pubin` reads it. Spec: RFC 8410 section 4.
  std::string ToDer(KeyType type = KeyType::kEd25519) const;
  std::string ToPem(KeyType type = KeyType::kEd25519) const;

  /// Either of ToHex and ToBase32; letters of any case. Errors: kInvalidArgument.
  static absl::StatusOr<PublicKey> Parse(std::string_view text);
  /// The 32 bytes themselves. Errors: kInvalidArgument.
  static absl::StatusOr<PublicKey> FromBytes(std::string_view bytes);
  /// What ToDer and ToPem write. Errors: kInvalidArgument.
  static absl::StatusOr<PublicKey> FromDer(std::string_view der, KeyType type = KeyType::kEd25519);
  static absl::StatusOr<PublicKey> FromPem(std::string_view pem, KeyType type = KeyType::kEd25519);

  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  auto operator<=>(const PublicKey&) const = default;
};

struct Signature {
  std::array<std::uint8_t, kSignatureBytes> bytes{};
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  bool operator==(const Signature&) const = default;
};

/// Whether `key` signed exactly `message`. Small-order keys, keys and signatures that are not in
/// their canonical form: false. Spec: RFC 8032 section 5.1.7, without the cofactor.
/// Thread safety: any number of threads.
bool Verify(const PublicKey& key, std::string_view message, const Signature& signature);

/// Bytes that nobody else may see: on pages of their own that are never swapped out or dumped, lie
/// between guard pages, and are wiped before they are freed. Move-only.
class Secret {
 public:
  /// `size` bytes, all zero. Errors: kResourceExhausted where the memory cannot be locked: the
  /// limit is RLIMIT_MEMLOCK (`ulimit -l`).
  static absl::StatusOr<Secret> Create(std::size_t size);

  Secret(Secret&&) noexcept;
  Secret& operator=(Secret&&) noexcept;
  ~Secret();

  std::string_view view() const { return {data_, size_}; }
  char* data() { return data_; }
  std::size_t size() const { return size_; }
  /// Keeps the first `size` bytes and wipes the others.
  void Truncate(std::size_t size);

 private:
  Secret(char* data, std::size_t size) : data_(data), size_(size) {}
  char* data_;
  std::size_t size_;
};

/// Whatever can sign for one key: this process, an agent, a device.
/// Thread safety: implementations may be used from any number of threads.
class Signer {
 public:
  virtual ~Signer() = default;
  virtual const PublicKey& public_key() const = 0;
  /// Signs exactly `message`, with Ed25519.
  /// Blocks: in memory never; an agent may ask somebody first.
  /// Errors: those of the implementation; kUnavailable where whoever holds the key cannot be asked.
  virtual absl::StatusOr<Signature> Sign(std::string_view message) const = 0;
};

/// An Ed25519 key in the memory of this process. Move-only; moved from, only good to destroy.
class SigningKey final : public Signer {
 public:
  /// A new key from the kernel's random numbers. Errors of all of these: those of Secret::Create.
  static absl::StatusOr<SigningKey> Generate();
  /// The key of a 32-byte seed. Spec: RFC 8032 section 5.1.5. Errors: kInvalidArgument.
  static absl::StatusOr<SigningKey> FromSeed(std::string_view seed);
  /// PKCS#8, as `openssl pkey` writes it. Spec: RFC 8410 section 7, with or without attributes and
  /// public key. Errors: kInvalidArgument for all else, and for a public key of another one.
  static absl::StatusOr<SigningKey> FromDer(std::string_view der);
  static absl::StatusOr<SigningKey> FromPem(std::string_view pem);

  const PublicKey& public_key() const override { return public_key_; }
  absl::StatusOr<Signature> Sign(std::string_view message) const override;

  /// What FromSeed, FromDer and FromPem read. This is the key itself: whoever has it is who you
  /// are.
  absl::StatusOr<Secret> ToSeed() const;
  absl::StatusOr<Secret> ToDer() const;
  absl::StatusOr<Secret> ToPem() const;

 private:
  SigningKey(Secret secret, const PublicKey& key) : secret_(std::move(secret)), public_key_(key) {}
  Secret secret_;  ///< the seed, then the public key
  PublicKey public_key_;
};

/// An X25519 key in the memory of this process. Move-only. The functions as those of SigningKey.
class ExchangeKey {
 public:
  static absl::StatusOr<ExchangeKey> Generate();
  /// The 32 bytes of the scalar. Spec: RFC 7748 section 5.
  static absl::StatusOr<ExchangeKey> FromBytes(std::string_view scalar);
  static absl::StatusOr<ExchangeKey> FromDer(std::string_view der);
  static absl::StatusOr<ExchangeKey> FromPem(std::string_view pem);
  /// The one that belongs to a signing key: whoever knows its public key knows where to encrypt to.
  static absl::StatusOr<ExchangeKey> Of(const SigningKey& key);

  const PublicKey& public_key() const { return public_key_; }
  /// What only the holders of either secret key know. Errors: kInvalidArgument for a peer's key of
  /// small order, with which everybody would know it.
  absl::StatusOr<Secret> Agree(const PublicKey& peer) const;

  absl::StatusOr<Secret> ToDer() const;
  absl::StatusOr<Secret> ToPem() const;

 private:
  ExchangeKey(Secret secret, const PublicKey& key) : secret_(std::move(secret)), public_key_(key) {}
  Secret secret_;
  PublicKey public_key_;
};

/// The public key of ExchangeKey::Of, from that of the signing key: the same point in the other
/// form of its curve. Errors: kInvalidArgument for a key of small order, or that is no point.
absl::StatusOr<PublicKey> ExchangeKeyOf(const PublicKey& signing_key);

}  // namespace waxvm

#endif  // WAXVM_KEY_H_
