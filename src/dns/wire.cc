// SPDX-License-Identifier: Apache-2.0
#include "src/dns/wire.h"

namespace waxvm::dns {
namespace {

constexpr std::uint8_t kPointer = 0xc0;
// A pointer has 14 bits.
constexpr std::size_t kMaxPointer = 0x3fff;

std::uint16_t HashOf(Bytes bytes) {
  std::uint32_t hash = 2166136261;
  for (const std::uint8_t c : bytes) hash = (hash ^ c) * 16777619;
  return static_cast<std::uint16_t>(hash ^ hash >> 16);
}

}  // namespace

Name Reader::ReadName(Compression compression) {
  Name name;
  std::size_t at = at_;
  std::size_t first = at_;  // where what was read of the name begins, at the lowest
  std::size_t after = 0;    // where reading goes on: behind the first pointer
  while (ok_) {
    if (at >= message_.size()) break;
    const std::uint8_t length = message_[at];
    if (length == 0) {
      at_ = after != 0 ? after : at + 1;
      return name;
    }
    if ((length & kPointer) == kPointer) {
      if (compression == Compression::kRefused || message_.size() - at < 2) break;
      const std::size_t target = Load16(&message_[at]) & kMaxPointer;
      if (after == 0) after = at + 2;
      // Attack: pointers that lead in a circle, or a long way around, for each of many names.
      if (target >= first) break;
      first = at = target;
      continue;
    }
    if (length > kMaxLabelBytes || message_.size() - at - 1 < length) break;
    if (!name.Append(message_.subspan(at + 1, length))) break;
    at += 1u + length;
  }
  ok_ = false;
  return {};
}

bool Writer::SameName(std::size_t offset, Bytes name) const {
  // Every pointer that was written here leads backwards, so this ends.
  while (true) {
    while ((out_[offset] & kPointer) == kPointer) offset = Load16(&out_[offset]) & kMaxPointer;
    const std::size_t length = out_[offset];
    if (length != name[0]) return false;
    if (length == 0) return true;
    if (std::memcmp(&out_[offset + 1], &name[1], length) != 0) return false;
    offset += 1 + length;
    name = name.subspan(1 + length);
  }
}

std::size_t Writer::Find(Bytes name, std::uint16_t hash) const {
  for (std::size_t i = 0; i < targets_count_; ++i)
    if (targets_[i].hash == hash && SameName(targets_[i].offset, name)) return targets_[i].offset;
  return 0;
}

void Writer::Add(std::size_t offset, std::uint16_t hash) {
  if (offset > kMaxPointer || targets_count_ == kMaxTargets) return;
  targets_[targets_count_++] = {static_cast<std::uint16_t>(offset), hash};
}

void Writer::PutCompressed(const Name& name) {
  const std::size_t begin = at_;
  Bytes rest = name.bytes();
  while (rest[0] != 0) {
    if (const std::size_t target = Find(rest, HashOf(rest)); target != 0) {
      U16(std::size_t{kPointer} << 8 | target);
      break;
    }
    Put(rest.first(1u + rest[0]));
    rest = rest.subspan(1u + rest[0]);
  }
  if (rest[0] == 0) U8(0);
  if (!ok_) return;
  // Only now: what can be pointed to must be there as a whole.
  std::size_t offset = begin;
  for (Bytes label = name.bytes(); label.size() > rest.size();
       label = label.subspan(1u + label[0])) {
    Add(offset, HashOf(label));
    offset += 1u + label[0];
  }
}

void Writer::PutName(const Name& name) {
  const std::size_t offset = at_;
  Put(name.bytes());
  if (ok_) Remember(offset);
}

void Writer::Remember(std::size_t offset) {
  Bytes rest = written().subspan(offset);
  std::size_t size = 0;
  while (rest[size] != 0) size += 1u + rest[size];
  rest = rest.first(size + 1);
  for (; rest[0] != 0; rest = rest.subspan(1u + rest[0])) {
    Add(offset, HashOf(rest));
    offset += 1u + rest[0];
  }
}

void Writer::Rewind(std::size_t position) {
  at_ = position;
  ok_ = true;
  while (targets_count_ > 0 && targets_[targets_count_ - 1].offset >= position) --targets_count_;
}

}  // namespace waxvm::dns
