// SPDX-License-Identifier: Apache-2.0
// What a snapshot keeps of an instance's file system and of what its program has open. Plain data:
// whatever is referred to is an index into a list of the same image.
#ifndef WAXVM_SRC_LINUX_ABI_FILES_IMAGE_H_
#define WAXVM_SRC_LINUX_ABI_FILES_IMAGE_H_

#include <time.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "src/base/checked.h"

namespace waxvm::linux_abi {

/// An index into one of the lists of a FilesImage.
using ImageIndex = std::uint32_t;
inline constexpr ImageIndex kNoIndex = ~ImageIndex{0};

using PageBytes = std::array<std::byte, kPageBytes>;

/// The bytes of a file in memory: those of the root image's file that still show, and over them
/// the pages that were written; a page without bytes is a hole.
struct ContentsImage {
  std::uint64_t size = 0;
  std::uint64_t lower_bytes = 0;
  std::vector<std::pair<std::uint64_t, std::shared_ptr<const PageBytes>>> pages = {};
};

/// What the lists of a FilesImage hold.
namespace files_image {

/// An inode of the instance's own tree. The first one is the root. Those of the root image that
/// are as they were there are left out, unless something is open for them or lies below.
struct Node {
  std::uint64_t inode = 0;
  std::uint64_t image_number = kNone;  ///< of the node of the root image that it began as
  std::uint32_t mode = 0;
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint64_t links = 0;
  std::array<timespec, 3> times{};  ///< accessed, modified, changed
  ImageIndex parent = kNoIndex;
  std::string name = {};
  std::string target = {};
  std::int32_t seals = 0;
  bool fixed = false;  ///< there from the start: a clone has its own
  bool internal = false;
  bool nameable = false;
  ContentsImage contents = {};
  std::vector<std::pair<std::string, ImageIndex>> children = {};
  std::vector<std::string> removed = {};  ///< names of the root image

  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
};

struct Edges {
  std::uint64_t in = 0;
  std::uint64_t out = 0;
};

struct Pipe {
  std::uint64_t inode = 0;
  std::uint32_t mode = 0;
  std::uint64_t capacity = 0;
  std::uint64_t readers_ever = 0;
  std::uint64_t writers_ever = 0;
  Edges edges = {};
  std::vector<std::byte> bytes = {};
};

// The kinds of open files.

/// A standard stream, which is the clone's own.
struct Stream {
  std::uint32_t number = 0;
  bool original = true;  ///< not opened again by name
};
/// A file, link, device or directory's handle of the instance's own tree.
struct Plain {
  ImageIndex node = kNoIndex;
};
/// A file that is made when it is read (/proc, /sys), by its path, with what was read of it.
struct Generated {
  std::string path = {};
  std::string text = {};
};
struct Directory {
  ImageIndex node = kNoIndex;
  struct Entry {
    std::uint64_t inode = 0;
    std::uint8_t type = 0;
    std::string name = {};
  };
  std::vector<Entry> entries = {};  ///< as they were when reading began
};
/// The running program's own bytes.
struct ProgramBytes {
  std::string path = {};
  std::uint64_t inode = 0;
};
struct PipeEnd {
  ImageIndex pipe = kNoIndex;
  ImageIndex node = kNoIndex;  ///< of a FIFO
  std::uint64_t writers_before = 0;
};
struct EventCounter {
  std::uint64_t value = 0;
  bool semaphore = false;
  Edges edges = {};
};
struct Timer {
  std::int32_t clock = 0;
  std::optional<std::int64_t> left = {};  ///< nanoseconds to the next expiration; may be past
  std::int64_t set_to = 0;
  std::int64_t interval = 0;
  std::uint64_t expired_before = 0;
};
struct Signals {
  std::uint64_t set = 0;
};
struct Epoll {
  struct Interest {
    std::int32_t fd = 0;
    ImageIndex file = kNoIndex;
    std::uint32_t events = 0;
    std::uint64_t data = 0;
    bool disabled = false;
    std::uint32_t reported = 0;
    Edges reported_edges = {};
  };
  std::vector<Interest> interests = {};
  std::int32_t next_fd = 0;
  ImageIndex next_file = kNoIndex;
};
struct Socket {
  struct Message {
    std::vector<std::byte> bytes = {};
    std::vector<ImageIndex> files = {};
    bool credentials = false;
    std::string from = {};
  };
  std::int32_t type = 0;
  std::uint64_t inode = 0;
  std::uint32_t mode = 0;
  std::string name = {};
  std::string accepted_name = {};
  ImageIndex bound_node = kNoIndex;
  std::vector<Message> queue = {};
  ImageIndex peer = kNoIndex;
  bool had_peer = false;
  std::string peer_name = {};
  bool accepted = true;
  bool read_shut = false;
  bool write_shut = false;
  bool listening = false;
  std::uint64_t backlog = 0;
  std::vector<ImageIndex> pending = {};
  std::int32_t error = 0;
  Edges edges = {};
  bool pass_credentials = false;
  std::optional<std::int64_t> receive_timeout = {};
  std::optional<std::int64_t> send_timeout = {};
};

/// An open file description.
struct File {
  std::int32_t flags = 0;
  std::uint64_t offset = 0;
  std::uint64_t uses = 0;
  std::variant<Stream, Plain, Generated, Directory, ProgramBytes, PipeEnd, EventCounter, Timer,
               Signals, Epoll, Socket>
      what = {};
};

struct Descriptor {
  std::uint64_t number = 0;
  ImageIndex file = kNoIndex;
  bool close_on_exec = false;
};

struct Lock {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool whole_file = false;
  bool exclusive = false;
  ImageIndex owner = kNoIndex;  ///< none: the process
  std::uint64_t start = 0;
  std::uint64_t end = 0;
};

}  // namespace files_image

struct FilesImage {
  std::vector<files_image::Node> nodes = {};
  std::vector<files_image::Pipe> pipes = {};
  std::vector<files_image::File> files = {};
  std::vector<files_image::Descriptor> descriptors = {};
  std::vector<files_image::Lock> locks = {};
  std::uint64_t last_inode = 0;
  ImageIndex working_node = kNoIndex;  ///< or, where it is in a granted folder, its path
  std::string working_directory = {};
  std::uint32_t umask = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_FILES_IMAGE_H_
