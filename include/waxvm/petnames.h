// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_PETNAMES_H_
#define WAXVM_PETNAMES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/key.h"

namespace waxvm {

/// What the people here call whom: local names for keys, which nobody else sees or agrees to.
/// A name is one label: 1 to 63 of a–z, 0–9 and '-', no '-' at either end; upper case is the same
/// as lower. One that could be read as a key is refused. At most 10,000. Thread safety: any number
/// of threads, and of processes where it is kept in a file.
class Petnames {
 public:
  /// In memory alone.
  static Petnames InMemory();
  /// In a text file, a name and a key a line, made with mode 0600 where it is missing. A file that
  /// others may write is refused. Errors: kPermissionDenied, kDataLoss with the line, kNotFound for
  /// its folder.
  static absl::StatusOr<Petnames> Open(const std::string& path);

  Petnames(Petnames&&) noexcept;
  Petnames& operator=(Petnames&&) noexcept;
  ~Petnames();

  /// Names a key; another one of that name is replaced. Durable when it returns.
  /// Errors: kInvalidArgument for the name; kResourceExhausted; those of the disk.
  absl::Status Set(std::string_view name, const PublicKey& key);
  /// Errors: kNotFound.
  absl::Status Remove(std::string_view name);
  /// What others wrote is seen at the latest a second later.
  std::optional<PublicKey> Find(std::string_view name) const;
  /// What a key is called; the first by name where it is called several things.
  std::optional<std::string> NameOf(const PublicKey& key) const;
  /// By name.
  std::vector<std::pair<std::string, PublicKey>> List() const;
  /// A number that is another one after every change.
  std::uint64_t Version() const;

 private:
  class Rep;
  explicit Petnames(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace waxvm

#endif  // WAXVM_PETNAMES_H_
