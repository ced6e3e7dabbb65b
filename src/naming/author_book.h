// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_NAMING_AUTHOR_BOOK_H_
#define WAXVM_SRC_NAMING_AUTHOR_BOOK_H_

#include <cstddef>
#include <list>
#include <map>
#include <optional>

#include "waxvm/key.h"

namespace waxvm::naming {

/// Who has how many slots, and who loses one where there are too many.
/// Thread safety: none.
class AuthorBook {
 public:
  /// Counts a slot that came or went.
  void Add(const PublicKey& author) { Change(author, 1); }
  void Remove(const PublicKey& author) { Change(author, -1); }
  void SetRevoked(const PublicKey& author);
  /// Somebody asked for an advert of this author.
  void SetUsed(const PublicKey& author);

  bool IsRevoked(const PublicKey& author) const;
  std::size_t CountOf(const PublicKey& author) const;
  std::size_t slots() const { return slots_; }
  std::size_t authors() const { return authors_.size(); }
  std::size_t revoked() const { return revoked_.size(); }
  void Clear() { *this = AuthorBook(); }

  /// The author with the most slots; among several, one that nobody asked for since it was last in
  /// question. Revoked ones only where `revoked_too`, or where there is nobody else.
  std::optional<PublicKey> Largest(bool revoked_too);

 private:
  using Line = std::list<PublicKey>;
  struct Author {
    std::size_t slots = 0;
    bool revoked = false;
    bool used = false;
    Line::iterator place = {};
  };

  void Change(const PublicKey& author, int by);
  Line& LineOf(const Author& author);

  // Ordered, not hashed: keys are chosen by strangers, who could choose some that collide.
  std::map<PublicKey, Author> authors_;
  std::map<std::size_t, Line> lines_;  ///< by number of slots; those who are revoked stand apart
  Line revoked_;
  std::size_t slots_ = 0;
};

}  // namespace waxvm::naming

#endif  // WAXVM_SRC_NAMING_AUTHOR_BOOK_H_
