// SPDX-License-Identifier: Apache-2.0
// The half of FileSystem that lays out the namespace before the program starts.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/status.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/proc_nodes.h"
#include "src/root_image/root_image_rep.h"

namespace waxvm::linux_abi {
namespace {

struct NamedDevice {
  std::string_view name;
  Device device;
};
constexpr std::array kDevices = {
    NamedDevice{"null", Device::kNull},       NamedDevice{"zero", Device::kZero},
    NamedDevice{"full", Device::kFull},       NamedDevice{"random", Device::kRandom},
    NamedDevice{"urandom", Device::kUrandom}, NamedDevice{"tty", Device::kTty},
};

struct NamedLink {
  std::string_view name;
  std::string_view target;
};
constexpr std::array kDeviceLinks = {
    NamedLink{"fd", "/proc/self/fd"},
    NamedLink{"stdin", "/proc/self/fd/0"},
    NamedLink{"stdout", "/proc/self/fd/1"},
    NamedLink{"stderr", "/proc/self/fd/2"},
};

absl::Status NoMemory() {
  return absl::ResourceExhaustedError(
      "the memory limit is too small for the instance's empty file system");
}

struct SplitPath {
  std::string_view directory;
  std::string_view name;
};

SplitPath Split(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileSystem>> FileSystem::Create(const InstanceSpec& spec,
                                                               MemoryAccount& account, Host& host) {
  std::unique_ptr<FileSystem> file_system(new FileSystem(spec, account, host));
  WAXVM_RETURN_IF_ERROR(file_system->Build());
  return file_system;
}

absl::Status FileSystem::Build() {
  const std::optional<RootImage>& image = context_.spec.root_image;
  ErrnoOr<std::shared_ptr<MemoryNode>> root =
      image ? MemoryNode::CreateFrom(context_, image->rep().tree().root())
            : MemoryNode::Create(context_, S_IFDIR | 0755);
  if (!root.ok()) return NoMemory();
  (*root)->parent = *root;
  if (!image) (*root)->links_to_this = 2;
  (*root)->fixed = true;
  root_ = Place(*root);
  working_directory_ = root_;
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> temporary,
                         AddNode(**root, "tmp", S_IFDIR | 01777));
  temporary->fixed = true;
  WAXVM_RETURN_IF_ERROR(BuildDevices());
  // A mount within another one is laid over it, so the outer ones come first.
  std::vector<const FileMount*> mounts;
  for (const FileMount& mount : context_.spec.mounts) mounts.push_back(&mount);
  std::ranges::stable_sort(mounts, {}, [](const FileMount* m) { return m->guest_path.size(); });
  for (const FileMount* mount : mounts) WAXVM_RETURN_IF_ERROR(AddMount(*mount));
  return absl::OkStatus();
}

absl::Status FileSystem::BuildDevices() {
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> devices,
                         AddNode(*root_.anchor(), "dev", S_IFDIR | 0755));
  devices->fixed = true;
  for (const NamedDevice& named : kDevices) {
    WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                           AddNode(*devices, named.name, S_IFCHR | 0666));
    node->device = named.device;
    node->fixed = true;
  }
  for (const NamedLink& named : kDeviceLinks) {
    WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                           AddNode(*devices, named.name, S_IFLNK | 0777));
    if (node->SetTarget(std::string(named.target)) < 0) return NoMemory();
    node->fixed = true;
  }
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> shared,
                         AddNode(*devices, "shm", S_IFDIR | 01777));
  shared->fixed = true;
  for (const std::string_view name : {"proc", "sys"}) {
    WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                           AddNode(*root_.anchor(), name, S_IFDIR | 0555));
    node->fixed = node->closed = true;
  }
  root_.anchor()->Find("sys")->source = std::make_shared<FilledLater>(
      [&context = context_](MemoryNode& node) { FillSys(context, node); });
  return absl::OkStatus();
}

void FileSystem::ShowProcess(std::unique_ptr<ProcessView> view) {
  view_ = std::move(view);
  root_.anchor()->Find("proc")->source = std::make_shared<FilledLater>(
      [&context = context_, &seen = *view_](MemoryNode& node) { FillProc(context, seen, node); });
}

absl::StatusOr<std::shared_ptr<MemoryNode>> FileSystem::AddNode(MemoryNode& directory,
                                                                std::string_view name,
                                                                mode_t mode) {
  // What the image has under this name is covered for good.
  if (directory.Find(name) != nullptr) directory.Remove(name);
  ErrnoOr<std::shared_ptr<MemoryNode>> node = MemoryNode::Create(context_, mode);
  if (!node.ok() || directory.Add(name, *node) < 0) return NoMemory();
  return *std::move(node);
}

absl::StatusOr<std::shared_ptr<MemoryNode>> FileSystem::AddDirectories(std::string_view path,
                                                                       bool show_host) {
  std::shared_ptr<MemoryNode> at = root_.anchor();
  for (std::size_t begin = 1; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view name = path.substr(begin, end - begin);
    std::shared_ptr<MemoryNode> next = at->Find(name);
    if (next == nullptr) {
      WAXVM_ASSIGN_OR_RETURN(next, AddNode(*at, name, S_IFDIR | 0755));
      if (show_host && at->backing) {
        next->backing = {at->backing.folder, JoinPath(at->backing.path, name)};
      }
    }
    if (!next->is_directory()) {
      return InvalidArgument("\"%s\" cannot be placed: \"%s\" is a %s", path, path.substr(0, end),
                             next->is_link() ? "symbolic link of the image" : "file");
    }
    next->fixed = true;
    at = std::move(next);
    begin = end + 1;
  }
  return at;
}

absl::Status FileSystem::AddMount(const FileMount& mount) {
  const auto folder = std::make_shared<HostFolder>(mount, *context_.spec.gate);
  if (mount.is_directory) {
    WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                           AddDirectories(mount.guest_path, /*show_host=*/true));
    node->backing = {folder, ""};
    return absl::OkStatus();
  }
  const SplitPath split = Split(mount.guest_path);
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> directory,
                         AddDirectories(split.directory, /*show_host=*/true));
  const std::shared_ptr<MemoryNode> covered =
      split.name.empty() ? directory : directory->Find(split.name);
  // A file or link of the image may be covered; one that a grant put there may not.
  if (covered != nullptr && (covered->is_directory() || covered->fixed)) {
    return InvalidArgument("the file grant \"%s\" is in the place of a directory or device",
                           mount.guest_path);
  }
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                         AddNode(*directory, split.name, S_IFREG | 0644));
  node->backing = {folder, ""};
  node->fixed = true;
  return absl::OkStatus();
}

absl::Status FileSystem::AddFile(std::string_view path, std::span<const std::byte> contents,
                                 mode_t mode) {
  const SplitPath split = Split(path);
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> directory,
                         AddDirectories(split.directory, /*show_host=*/false));
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                         AddNode(*directory, split.name, S_IFREG | (mode & 0777)));
  const std::int64_t written = node->contents.Write(0, contents);
  if (written != static_cast<std::int64_t>(contents.size())) return NoMemory();
  return absl::OkStatus();
}

absl::Status FileSystem::AddSymbolicLink(std::string_view path, std::string_view target) {
  const SplitPath split = Split(path);
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> directory,
                         AddDirectories(split.directory, /*show_host=*/false));
  WAXVM_ASSIGN_OR_RETURN(const std::shared_ptr<MemoryNode> node,
                         AddNode(*directory, split.name, S_IFLNK | 0777));
  return node->SetTarget(std::string(target)) < 0 ? NoMemory() : absl::OkStatus();
}

}  // namespace waxvm::linux_abi
