// SPDX-License-Identifier: Apache-2.0
#include "src/naming/author_book.h"

#include <utility>

namespace waxvm::naming {

AuthorBook::Line& AuthorBook::LineOf(const Author& author) {
  return author.revoked ? revoked_ : lines_[author.slots];
}

void AuthorBook::Change(const PublicKey& key, int by) {
  auto [at, is_new] = authors_.try_emplace(key);
  Author& author = at->second;
  Line moving;
  if (is_new) {
    moving.push_back(key);
    author.place = moving.begin();
  } else {
    Line& from = LineOf(author);
    moving.splice(moving.begin(), from, author.place);
    if (from.empty() && &from != &revoked_) lines_.erase(author.slots);
  }
  author.slots += static_cast<std::size_t>(by);
  slots_ += static_cast<std::size_t>(by);
  if (author.slots == 0) {
    authors_.erase(at);
    return;
  }
  Line& to = LineOf(author);
  to.splice(to.end(), moving, author.place);
}

void AuthorBook::SetRevoked(const PublicKey& key) {
  const auto at = authors_.find(key);
  if (at == authors_.end() || at->second.revoked) return;
  Line& from = LineOf(at->second);
  revoked_.splice(revoked_.end(), from, at->second.place);
  if (from.empty()) lines_.erase(at->second.slots);
  at->second.revoked = true;
}

void AuthorBook::SetUsed(const PublicKey& key) {
  const auto at = authors_.find(key);
  if (at != authors_.end()) at->second.used = true;
}

bool AuthorBook::IsRevoked(const PublicKey& key) const {
  const auto at = authors_.find(key);
  return at != authors_.end() && at->second.revoked;
}

std::size_t AuthorBook::CountOf(const PublicKey& key) const {
  const auto at = authors_.find(key);
  return at == authors_.end() ? 0 : at->second.slots;
}

std::optional<PublicKey> AuthorBook::Largest(bool revoked_too) {
  if (!revoked_.empty() && (revoked_too || lines_.empty())) return revoked_.front();
  if (lines_.empty()) return std::nullopt;
  Line& line = lines_.rbegin()->second;
  // Everybody gets one more chance, once: after a whole round the first one has none any more.
  for (std::size_t left = line.size(); left > 0; --left) {
    Author& author = authors_.at(line.front());
    if (!std::exchange(author.used, false)) break;
    line.splice(line.end(), line, line.begin());
  }
  return line.front();
}

}  // namespace waxvm::naming
