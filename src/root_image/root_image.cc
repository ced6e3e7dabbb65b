// SPDX-License-Identifier: Apache-2.0
#include "waxvm/root_image.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "src/root_image/erofs_reader.h"
#include "src/root_image/oci_layout.h"
#include "src/root_image/root_image_rep.h"
#include "src/root_image/tar_reader.h"

namespace waxvm {

using internal::RootImageRep;
using root_image::Blob;
using root_image::Node;
using root_image::TreeBuilder;

namespace internal {

RootImageRep::RootImageRep(root_image::Tree tree, Blobs blobs, ImageConfig config, ImageInfo info)
    : blobs_(std::move(blobs)),
      tree_(std::move(tree)),
      config_(std::move(config)),
      info_(std::move(info)) {
  info_.entries = tree_.entries();
  info_.left_out = tree_.left_out();
  info_.held_bytes = 0;
  for (const auto& blob : blobs_) info_.held_bytes += blob->bytes().size();
}

}  // namespace internal

namespace {

using BlobPointer = std::shared_ptr<const Blob>;

// A file that is handed out as one string; Program::FromBytes has the same bound.
constexpr std::uint64_t kMaxReadBytes = std::uint64_t{1} << 30;
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// For what has been bounded already, layer by layer.
constexpr std::uint64_t kUnbounded = std::uint64_t{1} << 48;

absl::StatusOr<BlobPointer> ReadVerified(const std::string& path, const RootImageOptions& options) {
  if (!options.digest.empty()) WAXVM_RETURN_IF_ERROR(root_image::CheckDigest(options.digest));
  if (path.find('\0') != std::string::npos)
    return InvalidArgument("the path of an image contains a zero byte");
  // O_NONBLOCK: opening a FIFO must not wait for a writer; what is not a file is refused next.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return ErrnoStatus(errno, "cannot open");
  WAXVM_ASSIGN_OR_RETURN(BlobPointer blob, Blob::Read(fd.get(), options.max_file_bytes));
  WAXVM_RETURN_IF_ERROR(blob->Verify(options.digest));
  return blob;
}

/// The archive itself, unpacked where it is packed.
absl::StatusOr<BlobPointer> Unpacked(BlobPointer blob, std::uint64_t max_bytes) {
  WAXVM_ASSIGN_OR_RETURN(BlobPointer unpacked, Blob::Unpack(*blob, max_bytes));
  if (unpacked != nullptr) return unpacked;
  if (blob->bytes().size() > max_bytes)
    return absl::ResourceExhaustedError(
        absl::StrFormat("the image takes more than %d bytes", max_bytes));
  return blob;
}

RootImage Make(TreeBuilder builder, RootImageRep::Blobs blobs, ImageConfig config, ImageInfo info) {
  return RootImageRep::Wrap(std::make_shared<const RootImageRep>(
      std::move(builder).Finish(), std::move(blobs), std::move(config), std::move(info)));
}

absl::StatusOr<RootImage> ReadTarImage(const std::string& path, const RootImageOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(BlobPointer blob, ReadVerified(path, options));
  ImageInfo info{.layers = {blob->digest()}};
  WAXVM_ASSIGN_OR_RETURN(blob, Unpacked(std::move(blob), options.max_unpacked_bytes));
  TreeBuilder builder(options.max_entries);
  builder.BeginLayer();
  WAXVM_RETURN_IF_ERROR(root_image::ReadTar(blob->bytes(), builder));
  return Make(std::move(builder), {std::move(blob)}, {}, std::move(info));
}

absl::StatusOr<RootImage> ReadErofsImage(const std::string& path, const RootImageOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(BlobPointer blob, ReadVerified(path, options));
  TreeBuilder builder(options.max_entries);
  builder.BeginLayer();
  WAXVM_RETURN_IF_ERROR(root_image::ReadErofs(blob->bytes(), builder));
  ImageInfo info{.layers = {blob->digest()}};
  return Make(std::move(builder), {std::move(blob)}, {}, std::move(info));
}

absl::StatusOr<RootImage> ReadOciImage(const std::string& folder, const std::string& reference,
                                       const RootImageOptions& options) {
  if (!options.digest.empty())
    return InvalidArgument(
        "an OCI layout has digests of its own: name the manifest's as reference");
  WAXVM_ASSIGN_OR_RETURN(const auto layout, root_image::OciLayout::Open(folder));
  WAXVM_ASSIGN_OR_RETURN(root_image::OciImage image, layout.FindImage(reference));
  TreeBuilder builder(options.max_entries);
  RootImageRep::Blobs blobs;
  ImageInfo info;
  std::uint64_t room = options.max_unpacked_bytes;
  for (std::size_t i = 0; i < image.layers.size(); ++i) {
    const root_image::Descriptor& layer = image.layers[i];
    WAXVM_ASSIGN_OR_RETURN(BlobPointer blob, layout.ReadBlob(layer, options.max_file_bytes));
    absl::StatusOr<BlobPointer> unpacked = Unpacked(std::move(blob), room);
    if (!unpacked.ok()) return Annotate(unpacked.status(), "layer " + layer.digest);
    if (const absl::Status status = (*unpacked)->Verify(image.diff_ids[i]); !status.ok())
      return Annotate(status, "layer " + layer.digest + ", unpacked");
    room -= (*unpacked)->bytes().size();
    builder.BeginLayer();
    if (const absl::Status status = root_image::ReadTar((*unpacked)->bytes(), builder);
        !status.ok())
      return Annotate(status, "layer " + layer.digest);
    blobs.push_back(*std::move(unpacked));
    info.layers.push_back(layer.digest);
  }
  return Make(std::move(builder), std::move(blobs), std::move(image.config), std::move(info));
}

absl::StatusOr<RootImage> Named(absl::StatusOr<RootImage> image, std::string_view name) {
  if (!image.ok()) return Annotate(image.status(), name);
  return image;
}

}  // namespace

absl::StatusOr<RootImage> RootImage::FromTar(const std::string& path,
                                             const RootImageOptions& options) {
  return Named(ReadTarImage(path, options), path);
}

absl::StatusOr<RootImage> RootImage::FromErofs(const std::string& path,
                                               const RootImageOptions& options) {
  return Named(ReadErofsImage(path, options), path);
}

absl::StatusOr<RootImage> RootImage::FromOciLayout(const std::string& folder,
                                                   const std::string& reference,
                                                   const RootImageOptions& options) {
  return Named(ReadOciImage(folder, reference, options), folder);
}

absl::StatusOr<RootImage> RootImage::Stack(std::span<const RootImage> layers) {
  if (layers.empty()) return InvalidArgument("a stack of no layers");
  if (layers.size() == 1) return layers.front();
  TreeBuilder builder(kUnbounded);
  RootImageRep::Blobs blobs;
  ImageInfo info;
  for (const RootImage& layer : layers) {
    WAXVM_RETURN_IF_ERROR(builder.AddTree(layer.rep().tree()));
    for (const BlobPointer& blob : layer.rep().blobs())
      if (std::ranges::find(blobs, blob) == blobs.end()) blobs.push_back(blob);
    info.layers.insert(info.layers.end(), layer.info().layers.begin(), layer.info().layers.end());
  }
  return Make(std::move(builder), std::move(blobs), layers.back().config(), std::move(info));
}

const ImageConfig& RootImage::config() const { return rep_->config(); }
const ImageInfo& RootImage::info() const { return rep_->info(); }

absl::StatusOr<std::string> RootImage::ReadFile(std::string_view path) const {
  WAXVM_ASSIGN_OR_RETURN(const Node* node, rep_->tree().Resolve(path));
  if (node->kind != Node::Kind::kFile)
    return InvalidArgument("\"%s\" of the image is no regular file", path);
  if (node->contents.size() > kMaxReadBytes)
    return absl::ResourceExhaustedError(absl::StrFormat(
        "\"%s\" has %d bytes; at most %d are read", path, node->contents.size(), kMaxReadBytes));
  std::string text(node->contents.size(), '\0');
  node->contents.Read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

absl::StatusOr<Program> RootImage::OpenProgram(const std::string& path) const {
  if (path.empty()) return InvalidArgument("the program's name is empty");
  if (path.find('/') == std::string::npos) {
    std::string_view folders = kDefaultPath;
    for (const std::string& variable : config().environment)
      if (variable.starts_with("PATH=")) folders = std::string_view(variable).substr(5);
    while (!folders.empty()) {
      const std::string_view folder = folders.substr(0, folders.find(':'));
      folders.remove_prefix(std::min(folder.size() + 1, folders.size()));
      const std::string candidate = std::string(folder) + "/" + path;
      const auto found = rep_->tree().Resolve(candidate);
      if (folder.starts_with('/') && found.ok() && (*found)->kind == Node::Kind::kFile)
        return OpenProgram(candidate);
    }
    return absl::NotFoundError(absl::StrFormat("\"%s\" is in no folder of the image's PATH", path));
  }
  absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return Annotate(bytes.status(), path);
  return Program::FromBytes(std::as_bytes(std::span(*bytes)), path);
}

}  // namespace waxvm
