// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_ROOT_IMAGE_TREE_H_
#define WAXVM_SRC_ROOT_IMAGE_TREE_H_

#include <sys/stat.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm::root_image {

/// A file may be sparse, but its size stays clear of the sign bit of off_t.
inline constexpr std::uint64_t kMaxContentBytes = std::uint64_t{1} << 62;
inline constexpr std::size_t kMaxNameBytes = 255;
inline constexpr std::size_t kMaxPathBytes = 4095;
/// Symbolic links followed on the way to one name: longer chains are loops.
inline constexpr int kMaxLinks = 40;

/// The bytes of a regular file, where they lie in the layers; what is in no extent is zero.
/// Immutable once made. Thread safety: const methods from any number of threads.
class Contents {
 public:
  std::uint64_t size() const { return size_; }
  void set_size(std::uint64_t bytes) { size_ = bytes; }
  /// Extents come in the order of their offsets, and do not overlap.
  void Append(std::uint64_t offset, std::span<const std::byte> bytes);
  std::size_t extent_count() const { return extents_.size(); }

  /// Copies what lies in [offset, size()); returns the bytes copied.
  std::size_t Read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  struct Extent {
    std::uint64_t offset;
    std::span<const std::byte> bytes;
  };
  std::vector<Extent> extents_;
  std::uint64_t size_ = 0;
};

/// A file, directory or symbolic link of an image. Several names of one directory tree may lead to
/// one file or link.
struct Node {
  enum class Kind { kDirectory, kFile, kLink, kWhiteout };
  using Children = std::map<std::string, Node*, std::less<>>;

  Kind kind = Kind::kDirectory;
  mode_t permissions = 0755;  ///< the low twelve bits
  uid_t owner = 0;
  gid_t group = 0;
  timespec modified{};
  Contents contents;       ///< of a file
  std::string target;      ///< of a link
  Children children;       ///< of a directory, whiteouts included
  Node* parent = nullptr;  ///< of a directory; the root's is itself

  std::uint64_t number = 0;  ///< different for each node of a tree
  std::uint64_t links = 0;   ///< st_nlink

  std::uint32_t layer = 0;    ///< that put it there
  std::uint32_t touched = 0;  ///< the last layer that put something below it
  std::uint32_t pruned = 0;   ///< the last layer that removed what lower ones had put here
  bool implicit = false;      ///< a directory that only leads to something
  bool opaque = false;        ///< a directory that hides what is below it in a stack

  mode_t mode() const;
  bool visible() const { return kind != Kind::kWhiteout; }
  bool is_directory() const { return kind == Kind::kDirectory; }
  /// A child that a program can see, or null.
  const Node* Find(std::string_view name) const;
};

/// An immutable tree; node() pointers live as long as it does. Thread safety: const methods from
/// any number of threads.
class Tree {
 public:
  const Node& root() const { return *root_; }
  std::uint64_t entries() const { return entries_; }
  std::uint64_t left_out() const { return left_out_; }

  /// Follows symbolic links, the last one too; ".." stays within the root.
  /// Errors: kNotFound, kInvalidArgument for a loop or a path through a file.
  absl::StatusOr<const Node*> Resolve(std::string_view path) const;

  /// The node with that number, or null.
  const Node* FindByNumber(std::uint64_t number) const;

 private:
  friend class TreeBuilder;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<const Node*> numbered_;  ///< by number, the root is 1
  Node* root_ = nullptr;
  std::uint64_t entries_ = 0;
  std::uint64_t left_out_ = 0;
};

/// Makes a tree from layers of untrusted names, entry by entry, the lowest layer first.
/// Errors of all methods: kInvalidArgument for what no image may hold, kResourceExhausted for a
/// bound that was met. Thread safety: none.
class TreeBuilder {
 public:
  explicit TreeBuilder(std::uint64_t max_entries);

  /// What follows lies over what came before.
  void BeginLayer() { ++layer_; }

  /// Puts a copy of `entry` at `path`, replacing what is there; a directory keeps its children.
  absl::Status Add(std::string_view path, Node entry);
  /// A further name of a file or link that is there already.
  absl::Status AddHardLink(std::string_view path, std::string_view target);
  /// Hides what lower layers have at `path`; of a directory, everything in it.
  absl::Status AddWhiteout(std::string_view path);
  absl::Status MakeOpaque(std::string_view directory);
  /// A device, FIFO or socket, which no image has.
  void LeaveOut() { ++tree_.left_out_; }
  /// All of another tree, as the next layer.
  absl::Status AddTree(const Tree& layer);

  // By node, for formats that have no paths. `name` has been checked with CheckName.
  Node* root() { return tree_.root_; }
  absl::StatusOr<Node*> AddChild(Node& directory, std::string_view name, Node entry);
  absl::Status AddChildLink(Node& directory, std::string_view name, Node* node);

  /// Counts a step that costs the host time without making a node: a small archive must not keep
  /// it busy for hours with long ways through symbolic links.
  absl::Status Spend(std::uint64_t steps);

  Tree Finish() &&;

 private:
  struct Spot {
    Node* directory = nullptr;
    std::string name;  ///< empty: the root itself
  };

  Node* NewNode(Node entry);
  /// The directory that holds the last component of `path`; made where it is missing and `create`.
  absl::StatusOr<Spot> Locate(std::string_view path, bool create);
  /// Where a directory of `layer` that has no entry of its own goes: through a link below it.
  absl::StatusOr<Node*> MergeImplicit(Node& to, const std::string& name);
  absl::Status MergeChild(Node& to, const std::string& name, const Node& from);
  bool FromThisLayer(const Node& node) const {
    return node.layer == layer_ || node.touched == layer_;
  }
  /// Takes away what lower layers have put below `directory`.
  absl::Status Prune(Node& directory);

  const std::uint64_t max_entries_;
  std::uint64_t names_ = 0;
  std::uint64_t steps_ = 0;
  std::uint32_t layer_ = 0;
  Tree tree_;
  // While a tree is being added: directories still to go through, and files with several names.
  std::vector<std::pair<Node*, const Node*>> merging_;
  std::unordered_map<const Node*, Node*> copies_;
};

/// OK for a file name: 1 to 255 bytes without '/' and zero bytes, not "." or "..".
absl::Status CheckName(std::string_view name);

}  // namespace waxvm::root_image

#endif  // WAXVM_SRC_ROOT_IMAGE_TREE_H_
