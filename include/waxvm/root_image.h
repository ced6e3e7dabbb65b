// SPDX-License-Identifier: Apache-2.0
// Root file systems that come as one file or folder: a tar archive, an OCI image layout, EROFS.
#ifndef WAXVM_ROOT_IMAGE_H_
#define WAXVM_ROOT_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/program.h"

namespace waxvm {

namespace internal {
class RootImageRep;
}

/// What an image must be, and how much of the host it may take: an image is untrusted input.
/// Errors: kResourceExhausted names the bound that was met, and its value.
struct RootImageOptions {
  /// "sha256:" and 64 hexadecimal digits that the file must have; empty: any. Not for an OCI
  /// layout, whose index and manifest bring the digests along.
  std::string digest = {};
  /// Of one file, as it is on disk. A copy of it is kept in memory.
  std::uint64_t max_file_bytes = std::uint64_t{4} << 30;
  /// Of all layers after decompression: what is kept in memory.
  std::uint64_t max_unpacked_bytes = std::uint64_t{8} << 30;
  /// Files, directories and links, those included that a later layer replaces or removes. Each
  /// takes about 300 bytes.
  std::uint64_t max_entries = 1'000'000;
};

/// How an OCI image wants to be run; empty for the other kinds. Nothing of it is applied by itself.
struct ImageConfig {
  std::vector<std::string> environment = {};  ///< "NAME=value"
  std::vector<std::string> entrypoint = {};
  std::vector<std::string> command = {};
  std::string working_directory = {};
};

/// What was read.
struct ImageInfo {
  std::vector<std::string> layers = {};  ///< "sha256:…" of each layer's file, bottom first
  std::uint64_t entries = 0;             ///< files, directories and links that a program can see
  std::uint64_t held_bytes = 0;          ///< memory that all instances share
  std::uint64_t left_out = 0;            ///< devices, FIFOs and sockets: never part of an image
};

/// A read-only tree of files to grant as an instance's root (waxvm::Image). Immutable and cheap to
/// copy; all instances share one copy of the data, and what an instance writes stays its own.
/// Everything is copied and verified when the image is made: later changes of the files on disk do
/// not matter. Owners and modes, set-user-ID bits included, are what `stat` shows; inside, every
/// program is root of nothing but its own tree, so that none of them gives or withholds anything.
/// Extended attributes are not read.
/// Thread safety: a RootImage may be used from any number of threads at once.
class RootImage {
 public:
  /// A tar archive (v7, ustar, pax, GNU; plain, gzip or zstd). Names are taken from the root, and
  /// symbolic links on the way to a name are followed inside the image. OCI's whiteouts are
  /// understood, and take effect where the archive is stacked on others.
  /// Blocks: on file reads and on unpacking.
  /// Errors: kNotFound, kPermissionDenied; kDataLoss for a wrong digest or a damaged or truncated
  /// file, kInvalidArgument for what no image may hold (a name with "..", a hard link to nothing),
  /// kUnimplemented for what is not read (sparse entries), kResourceExhausted for a bound.
  static absl::StatusOr<RootImage> FromTar(const std::string& path,
                                           const RootImageOptions& options = {});

  /// An EROFS image without compressed files, as mkfs.erofs makes it by default. Character devices
  /// of number 0/0 are whiteouts, as in overlayfs. Blocks and errors: as FromTar.
  static absl::StatusOr<RootImage> FromErofs(const std::string& path,
                                             const RootImageOptions& options = {});

  /// An OCI image layout folder: the image for linux/amd64 that `reference` names, by its
  /// annotation org.opencontainers.image.ref.name or by its digest; empty: the only one. Every
  /// blob is verified by size and digest before it is used, and every layer by its diff ID too.
  /// Blocks and errors: as FromTar; kNotFound lists the references that there are.
  static absl::StatusOr<RootImage> FromOciLayout(const std::string& folder,
                                                 const std::string& reference = {},
                                                 const RootImageOptions& options = {});

  /// Layers on top of each other, the lowest first; the top one's config. They go on being shared.
  /// Errors: kInvalidArgument without a layer, or where a layer puts something below a file.
  static absl::StatusOr<RootImage> Stack(std::span<const RootImage> layers);

  const ImageConfig& config() const;
  const ImageInfo& info() const;

  /// The whole of a regular file; symbolic links are followed inside the image.
  /// Errors: kNotFound; kInvalidArgument for what is no regular file; kResourceExhausted over 1
  /// GiB.
  absl::StatusOr<std::string> ReadFile(std::string_view path) const;

  /// The executable at `path` as a Program of that name. A name without a slash is looked for in
  /// the PATH of config(). Errors: as ReadFile and Program::FromBytes.
  absl::StatusOr<Program> OpenProgram(const std::string& path) const;

  /// For providers: the tree. See src/root_image/root_image_rep.h.
  const internal::RootImageRep& rep() const { return *rep_; }

 private:
  friend class internal::RootImageRep;
  explicit RootImage(std::shared_ptr<const internal::RootImageRep> rep) : rep_(std::move(rep)) {}

  std::shared_ptr<const internal::RootImageRep> rep_;
};

}  // namespace waxvm

#endif  // WAXVM_ROOT_IMAGE_H_
