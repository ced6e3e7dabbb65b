// SPDX-License-Identifier: Apache-2.0
#include "src/root_image/oci_layout.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "nlohmann/json.hpp"
#include "src/base/status.h"

namespace waxvm::root_image {
namespace {

using Json = nlohmann::json;

// Index, manifest and config are a few kilobytes. The parser takes some ten bytes for each of
// these.
constexpr std::uint64_t kMaxJsonBytes = std::uint64_t{4} << 20;
// An index may lead to an index, but not without end.
constexpr int kMaxIndexDepth = 4;
// Linux's overlayfs takes up to 500, container engines 127.
constexpr std::size_t kMaxLayers = 127;

constexpr std::array<std::string_view, 2> kIndexTypes = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json"};
constexpr std::array<std::string_view, 2> kManifestTypes = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json"};
constexpr std::array<std::string_view, 2> kConfigTypes = {
    "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"};
constexpr std::array<std::string_view, 8> kLayerTypes = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip"};

bool IsOneOf(std::string_view type, std::span<const std::string_view> types) {
  return std::ranges::find(types, type) != types.end();
}

std::string Show(std::string_view text) {
  return absl::CHexEscape(ToAbsl(text.substr(0, std::size_t{200})));
}

/// What `json` has under `key`; null where it is no object or has no such member.
const Json* Find(const Json* json, const char* key) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto found = json->find(key);
  return found == json->end() || found->is_null() ? nullptr : &*found;
}

std::string Text(const Json* json, const char* key) {
  const Json* found = Find(json, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

absl::StatusOr<std::vector<std::string>> Texts(const Json* json, const char* key) {
  std::vector<std::string> texts;
  const Json* found = Find(json, key);
  if (found == nullptr) return texts;
  if (!found->is_array()) return InvalidArgument("\"%s\" is no list", key);
  for (const Json& text : *found) {
    if (!text.is_string()) return InvalidArgument("\"%s\" holds something that is no text", key);
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

absl::StatusOr<Json> Parse(const Blob& blob, std::string_view what) {
  const auto* text = reinterpret_cast<const char*>(blob.bytes().data());
  // Without exceptions: what cannot be parsed is "discarded".
  Json json = Json::parse(text, text + blob.bytes().size(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object())
    return InvalidArgument("%s is no JSON object", what);
  return json;
}

absl::StatusOr<Descriptor> ToDescriptor(const Json* json, std::string_view what) {
  Descriptor descriptor{.media_type = Text(json, "mediaType"), .digest = Text(json, "digest")};
  if (const absl::Status status = CheckDigest(descriptor.digest); !status.ok())
    return Annotate(status, what);
  const Json* size = Find(json, "size");
  if (size == nullptr || !size->is_number_unsigned())
    return InvalidArgument("%s %s has no size", what, descriptor.digest);
  descriptor.size = size->get<std::uint64_t>();
  return descriptor;
}

bool IsForThisPlatform(const Json* manifest) {
  const Json* platform = Find(manifest, "platform");
  if (platform == nullptr) return true;
  return Text(platform, "os") == "linux" && Text(platform, "architecture") == "amd64";
}

std::string ReferenceOf(const Json& manifest) {
  return Text(Find(&manifest, "annotations"), "org.opencontainers.image.ref.name");
}

/// The one entry of an index that `reference` names, for this platform.
absl::StatusOr<Descriptor> Choose(const Json& index, std::string_view reference) {
  const Json* manifests = Find(&index, "manifests");
  if (manifests == nullptr || !manifests->is_array())
    return InvalidArgument("the index has no list of manifests");
  std::vector<const Json*> chosen;
  std::string known;
  for (const Json& manifest : *manifests) {
    const std::string name = ReferenceOf(manifest);
    const bool named =
        reference.empty() || name == reference || Text(&manifest, "digest") == reference;
    if (named && IsForThisPlatform(&manifest)) chosen.push_back(&manifest);
    if (known.size() < 1000)
      absl::StrAppendFormat(&known, "%s%s", known.empty() ? "" : ", ",
                            Show(name.empty() ? Text(&manifest, "digest") : name));
  }
  if (chosen.empty())
    return absl::NotFoundError(
        absl::StrFormat("no image \"%s\" for linux/amd64; there are: %s", Show(reference), known));
  if (chosen.size() > 1)
    return InvalidArgument("%d images fit; name one of: %s", chosen.size(), known);
  return ToDescriptor(chosen.front(), "the manifest");
}

absl::StatusOr<OciImage> ReadConfig(const Json& json) {
  const std::string os = Text(&json, "os");
  const std::string architecture = Text(&json, "architecture");
  if ((!os.empty() && os != "linux") || (!architecture.empty() && architecture != "amd64"))
    return InvalidArgument("the image is for %s/%s, not for linux/amd64", Show(os),
                           Show(architecture));
  OciImage image;
  const Json* config = Find(&json, "config");
  WAXVM_ASSIGN_OR_RETURN(image.config.environment, Texts(config, "Env"));
  WAXVM_ASSIGN_OR_RETURN(image.config.entrypoint, Texts(config, "Entrypoint"));
  WAXVM_ASSIGN_OR_RETURN(image.config.command, Texts(config, "Cmd"));
  image.config.working_directory = Text(config, "WorkingDir");
  WAXVM_ASSIGN_OR_RETURN(image.diff_ids, Texts(Find(&json, "rootfs"), "diff_ids"));
  return image;
}

absl::Status ReadLayers(const Json& manifest, OciImage& image) {
  const Json* layers = Find(&manifest, "layers");
  if (layers == nullptr || !layers->is_array() || layers->empty())
    return InvalidArgument("the manifest has no layers");
  if (layers->size() > kMaxLayers)
    return absl::ResourceExhaustedError(absl::StrFormat(
        "the image has %d layers; at most %d are read", layers->size(), kMaxLayers));
  for (const Json& layer : *layers) {
    WAXVM_ASSIGN_OR_RETURN(Descriptor descriptor, ToDescriptor(&layer, "the layer"));
    if (!IsLayerType(descriptor.media_type))
      return absl::UnimplementedError(
          absl::StrFormat("a layer of the media type \"%s\"", Show(descriptor.media_type)));
    image.layers.push_back(std::move(descriptor));
  }
  if (image.diff_ids.size() != image.layers.size())
    return InvalidArgument("the manifest has %d layers, but the config %d diff IDs",
                           image.layers.size(), image.diff_ids.size());
  for (const std::string& diff_id : image.diff_ids) WAXVM_RETURN_IF_ERROR(CheckDigest(diff_id));
  return absl::OkStatus();
}

}  // namespace

bool IsLayerType(std::string_view media_type) { return IsOneOf(media_type, kLayerTypes); }

absl::StatusOr<OciLayout> OciLayout::Open(const std::string& folder) {
  if (folder.find('\0') != std::string::npos)
    return InvalidArgument("the path of an image contains a zero byte");
  UniqueFd fd(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return ErrnoStatus(errno, folder);
  OciLayout layout(std::move(fd));
  auto marker = layout.ReadFile("oci-layout", kMaxJsonBytes);
  if (absl::IsNotFound(marker.status()))
    return InvalidArgument("the folder is no OCI image layout: it has no file oci-layout");
  if (!marker.ok()) return marker.status();
  WAXVM_ASSIGN_OR_RETURN(const Json json, Parse(**marker, "oci-layout"));
  const std::string version = Text(&json, "imageLayoutVersion");
  if (!version.starts_with("1."))
    return absl::UnimplementedError(
        absl::StrFormat("an OCI image layout of version \"%s\"", Show(version)));
  return layout;
}

absl::StatusOr<std::shared_ptr<const Blob>> OciLayout::ReadFile(const std::string& path,
                                                                std::uint64_t max_bytes) const {
  // O_NONBLOCK: opening a FIFO must not wait for a writer; what is not a file is refused next.
  const UniqueFd fd(
      ::openat(folder_.get(), path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return ErrnoStatus(errno, path);
  absl::StatusOr<std::shared_ptr<const Blob>> blob = Blob::Read(fd.get(), max_bytes);
  if (!blob.ok()) return Annotate(blob.status(), path);
  return blob;
}

absl::StatusOr<std::shared_ptr<const Blob>> OciLayout::ReadBlob(const Descriptor& descriptor,
                                                                std::uint64_t max_bytes) const {
  WAXVM_RETURN_IF_ERROR(CheckDigest(descriptor.digest));
  const std::string path =
      "blobs/sha256/" + descriptor.digest.substr(descriptor.digest.find(':') + 1);
  if (descriptor.size > max_bytes)
    return absl::ResourceExhaustedError(
        absl::StrFormat("the blob %s has %d bytes; at most %d are read", descriptor.digest,
                        descriptor.size, max_bytes));
  WAXVM_ASSIGN_OR_RETURN(std::shared_ptr<const Blob> blob, ReadFile(path, max_bytes));
  if (blob->bytes().size() != descriptor.size)
    return absl::DataLossError(absl::StrFormat("%s: %d bytes, but %d are expected", path,
                                               blob->bytes().size(), descriptor.size));
  if (const absl::Status status = blob->Verify(descriptor.digest); !status.ok())
    return Annotate(status, path);
  return blob;
}

absl::StatusOr<OciImage> OciLayout::FindImage(std::string_view reference) const {
  WAXVM_ASSIGN_OR_RETURN(std::shared_ptr<const Blob> blob, ReadFile("index.json", kMaxJsonBytes));
  WAXVM_ASSIGN_OR_RETURN(Json json, Parse(*blob, "index.json"));
  WAXVM_ASSIGN_OR_RETURN(Descriptor chosen, Choose(json, reference));
  for (int depth = 0;; ++depth) {
    WAXVM_ASSIGN_OR_RETURN(blob, ReadBlob(chosen, kMaxJsonBytes));
    WAXVM_ASSIGN_OR_RETURN(json, Parse(*blob, chosen.digest));
    if (!IsOneOf(chosen.media_type, kIndexTypes)) break;
    if (depth == kMaxIndexDepth)
      return InvalidArgument("more than %d indexes lead to the manifest", kMaxIndexDepth);
    WAXVM_ASSIGN_OR_RETURN(chosen, Choose(json, ""));
  }
  if (!IsOneOf(chosen.media_type, kManifestTypes))
    return absl::UnimplementedError(
        absl::StrFormat("a manifest of the media type \"%s\"", Show(chosen.media_type)));
  WAXVM_ASSIGN_OR_RETURN(const Descriptor config,
                         ToDescriptor(Find(&json, "config"), "the config"));
  if (!IsOneOf(config.media_type, kConfigTypes))
    return absl::UnimplementedError(
        absl::StrFormat("a config of the media type \"%s\"", Show(config.media_type)));
  WAXVM_ASSIGN_OR_RETURN(blob, ReadBlob(config, kMaxJsonBytes));
  WAXVM_ASSIGN_OR_RETURN(const Json config_json, Parse(*blob, config.digest));
  WAXVM_ASSIGN_OR_RETURN(OciImage image, ReadConfig(config_json));
  WAXVM_RETURN_IF_ERROR(ReadLayers(json, image));
  return image;
}

}  // namespace waxvm::root_image
