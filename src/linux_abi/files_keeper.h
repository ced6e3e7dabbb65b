// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_FILES_KEEPER_H_
#define WAXVM_SRC_LINUX_ABI_FILES_KEEPER_H_

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "src/linux_abi/files_image.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/root_image/tree.h"

namespace waxvm::linux_abi {

class UnixSocket;

/// The status that names what a snapshot cannot keep.
absl::Status CannotKeep(std::string_view what);

/// Makes the image of what a process has open and has changed in its own tree. What is open for a
/// file of the host has no image, and is refused by name.
/// Thread safety: none; used by the instance's thread.
class FilesKeeper {
 public:
  /// The process stays as it is while this lives.
  explicit FilesKeeper(Process& process) : process_(process) {}

  /// The index that `file` has in the image. `holder`: who has it open, for messages.
  absl::StatusOr<ImageIndex> IndexOf(const std::shared_ptr<OpenFile>& file,
                                     std::string_view holder);

  /// The image of the descriptors, of all files with an index, and of the tree below them. Once.
  absl::StatusOr<FilesImage> Finish();

 private:
  struct Visited {
    std::shared_ptr<MemoryNode> node;
    std::size_t parent;
    std::string name;
    bool needed;
  };

  absl::Status KeepDescriptors();
  absl::Status KeepWorkingDirectory();
  absl::Status KeepFile(std::size_t index);
  absl::StatusOr<files_image::Plain> KeepPlain(const std::shared_ptr<MemoryNode>& node);
  files_image::PipeEnd Keep(const PipeEnd& end);
  absl::StatusOr<files_image::Epoll> Keep(const class EpollFile& epoll);
  absl::StatusOr<files_image::Socket> Keep(UnixSocket& socket, const std::string& holder);
  ImageIndex IndexOf(const std::shared_ptr<Pipe>& pipe);
  ImageIndex IndexOf(const std::shared_ptr<MemoryNode>& node);
  absl::Status KeepTree();
  std::vector<Visited> VisitTree() const;
  void KeepNode(std::size_t index);
  void KeepLocks();

  Process& process_;
  FilesImage image_;
  std::vector<std::shared_ptr<OpenFile>> files_;
  std::vector<std::string> holders_;  ///< of files_
  std::vector<std::shared_ptr<MemoryNode>> nodes_;
  std::vector<std::shared_ptr<Pipe>> pipes_;
  std::map<const OpenFile*, ImageIndex> file_indices_;
  std::map<const MemoryNode*, ImageIndex> node_indices_;
  std::map<const Pipe*, ImageIndex> pipe_indices_;
};

/// Makes again what an image that was checked holds. Afterwards the image is not needed.
/// Thread safety: none; used by the instance's thread.
class FilesRestorer {
 public:
  /// `process` is empty: its tree is the one it starts with, its descriptors the standard streams.
  FilesRestorer(const FilesImage& image, Process& process) : image_(image), process_(process) {}

  /// Errors: kResourceExhausted; kFailedPrecondition for what is not there any more.
  absl::Status Restore();

  /// The open files by their index.
  std::span<const std::shared_ptr<OpenFile>> files() const { return files_; }

 private:
  absl::Status MakeNodes();
  absl::Status MakeNode(std::size_t index, MemoryNode* parent, std::string_view name);
  absl::Status FillNode(std::size_t index);
  const root_image::Node* ImageNode(std::uint64_t number);
  absl::Status MakePipes();
  absl::Status MakeFiles();
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File&,
                                                 const files_image::Stream& stream);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Plain& plain);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Generated& generated);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Directory& directory);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::ProgramBytes& program);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::PipeEnd& end);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::EventCounter& counter);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Timer& timer);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Signals& signals);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Epoll&);
  absl::StatusOr<std::shared_ptr<OpenFile>> Make(const files_image::File& file,
                                                 const files_image::Socket& socket);
  absl::Status Connect(EpollFile& epoll, const files_image::Epoll& image);
  absl::Status Connect(UnixSocket& socket, const files_image::Socket& image);
  absl::Status OpenDescriptors();
  absl::Status TakeLocks();

  const FilesImage& image_;
  Process& process_;
  std::vector<std::shared_ptr<MemoryNode>> nodes_;
  std::vector<std::shared_ptr<Pipe>> pipes_;
  std::vector<std::shared_ptr<OpenFile>> files_;
  std::map<std::uint64_t, const root_image::Node*> image_nodes_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_FILES_KEEPER_H_
