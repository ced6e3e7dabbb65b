// SPDX-License-Identifier: Apache-2.0
// Any bytes at all as layers of an image: the first byte says whether as tar archives, several on
// top of each other, or as an EROFS image. What is accepted must be a tree: finite, bounded, and
// with every file readable from its first byte to its last. The tar checksum is put right first, so
// that mutations get past it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "src/root_image/erofs_reader.h"
#include "src/root_image/tar_reader.h"

namespace waxvm::root_image {
namespace {

constexpr std::uint64_t kMaxEntries = 2000;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void CheckContents(const Node& node, std::span<const std::byte> input) {
  Require(node.contents.size() <= kMaxContentBytes);
  std::vector<std::byte> buffer(8192);
  std::uint64_t at = 0;
  // The start, and the end, of what may be a sparse file of an exabyte.
  for (int step = 0; step < 8 && at < node.contents.size(); ++step)
    at += node.contents.Read(at, buffer);
  if (node.contents.size() > buffer.size()) {
    const std::size_t n = node.contents.Read(node.contents.size() - buffer.size(), buffer);
    Require(n == buffer.size());
  }
  Require(node.contents.Read(node.contents.size(), buffer) == 0);
  Require(node.contents.extent_count() <= input.size() + 1);
}

void CheckTree(const Tree& tree, std::span<const std::byte> input) {
  std::set<const Node*> seen;
  std::vector<const Node*> pending = {&tree.root()};
  std::uint64_t entries = 0;
  while (!pending.empty()) {
    const Node& directory = *pending.back();
    pending.pop_back();
    Require(seen.insert(&directory).second);
    Require(directory.parent != nullptr && directory.parent->is_directory());
    for (const auto& [name, child] : directory.children) {
      Require(CheckName(name).ok());
      if (!child->visible()) continue;
      Require(++entries <= kMaxEntries);
      Require(child->number != 0 && child->links != 0);
      if (child->is_directory()) {
        Require(child->parent == &directory);
        pending.push_back(child);
      } else if (child->kind == Node::Kind::kFile) {
        CheckContents(*child, input);
      } else {
        Require(!child->target.empty() && child->target.size() <= kMaxPathBytes);
        const auto followed = tree.Resolve(child->target);
        Require(!followed.ok() || *followed != nullptr);
      }
    }
  }
  Require(entries == tree.entries());
}

/// Gives every header-sized block the checksum it would need.
std::string WithChecksums(std::span<const std::byte> layer) {
  std::string bytes(reinterpret_cast<const char*>(layer.data()), layer.size());
  for (std::size_t at = 0; at + 512 <= bytes.size(); at += 512) {
    if (bytes.compare(at, 512, std::string(512, '\0')) == 0) continue;
    if (bytes[at + 155] != ' ') continue;  // not meant as a header
    bytes.replace(at + 148, 8, "        ");
    unsigned sum = 0;
    for (std::size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(bytes[at + i]);
    for (int digit = 5; digit >= 0; --digit, sum /= 8)
      bytes[at + 148 + static_cast<std::size_t>(digit)] = static_cast<char>('0' + sum % 8);
    bytes[at + 154] = '\0';
  }
  return bytes;
}

/// Layers read one after the other, and the same as trees that are stacked.
void PlayTar(std::span<const std::byte> input) {
  TreeBuilder together(kMaxEntries);
  TreeBuilder stack(kMaxEntries);
  std::vector<std::string> layers;  // the trees point into them
  layers.reserve(input.size());
  while (!input.empty()) {
    const std::size_t blocks = 1 + static_cast<std::size_t>(input.front());
    const std::size_t n = std::min(input.size() - 1, blocks * 512);
    layers.push_back(WithChecksums(input.subspan(1, n)));
    const auto layer = std::as_bytes(std::span<const char>(layers.back()));
    together.BeginLayer();
    const bool good = ReadTar(layer, together).ok();
    TreeBuilder one(kMaxEntries);
    one.BeginLayer();
    if (ReadTar(layer, one).ok()) {
      const Tree tree = std::move(one).Finish();
      CheckTree(tree, layer);
      if (!stack.AddTree(tree).ok()) return;
      if (!good) break;
    } else if (!good) {
      break;
    }
    input = input.subspan(1 + n);
  }
  CheckTree(std::move(together).Finish(), input);
  CheckTree(std::move(stack).Finish(), input);
}

void PlayErofs(std::span<const std::byte> input) {
  TreeBuilder builder(kMaxEntries);
  builder.BeginLayer();
  if (ReadErofs(input, builder).ok()) CheckTree(std::move(builder).Finish(), input);
}

}  // namespace
}  // namespace waxvm::root_image

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  if (data[0] % 2 == 0) {
    waxvm::root_image::PlayTar(input);
  } else {
    waxvm::root_image::PlayErofs(input);
  }
  return 0;
}
