// SPDX-License-Identifier: Apache-2.0
#include "src/root_image/blob.h"

#include <sodium.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "src/base/file_io.h"
#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm::root_image {
namespace {

constexpr std::string_view kAlgorithm = "sha256:";
constexpr std::size_t kDigits = 2 * crypto_hash_sha256_BYTES;
constexpr std::size_t kChunk = std::size_t{1} << 18;
// 128 MiB, what every zstd decoder must take: a frame may not ask for more memory than that.
constexpr int kMaxZstdWindowLog = 27;

std::string Hex(const std::array<unsigned char, crypto_hash_sha256_BYTES>& hash) {
  std::array<char, kDigits + 1> digits;
  sodium_bin2hex(digits.data(), digits.size(), hash.data(), hash.size());
  return std::string(kAlgorithm) + digits.data();
}

bool StartsWith(std::span<const std::byte> bytes, std::initializer_list<unsigned char> magic) {
  return bytes.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin(),
                    [](unsigned char a, std::byte b) { return std::byte{a} == b; });
}

const unsigned char* Raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

absl::Status Damaged(std::string_view format, std::string_view why) {
  return absl::DataLossError(absl::StrFormat("damaged %s data: %s", format, why));
}

}  // namespace

std::string DigestOf(std::span<const std::byte> bytes) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash;
  crypto_hash_sha256(hash.data(), Raw(bytes.data()), bytes.size());
  return Hex(hash);
}

absl::Status CheckDigest(std::string_view digest) {
  const std::size_t colon = digest.find(':');
  if (colon != std::string_view::npos && digest.substr(0, colon + 1) != kAlgorithm)
    return absl::UnimplementedError(
        absl::StrFormat("a digest by \"%s\"; only sha256 is known",
                        digest.substr(0, std::min<std::size_t>(colon, 64))));
  if (!digest.starts_with(kAlgorithm) || digest.size() != kAlgorithm.size() + kDigits ||
      digest.find_first_not_of("0123456789abcdef", kAlgorithm.size()) != std::string_view::npos)
    return InvalidArgument("a digest must be sha256: and %d hexadecimal digits, not %d bytes",
                           kDigits, digest.size());
  return absl::OkStatus();
}

/// Collects a blob piece by piece, hashing what it writes.
class BlobWriter {
 public:
  static absl::StatusOr<BlobWriter> Create(std::uint64_t max_bytes) {
    WAXVM_ASSIGN_OR_RETURN(UniqueFd file, NewMemoryFile("waxvm-image", Executable::kNo));
    return BlobWriter(std::move(file), max_bytes);
  }

  absl::Status Append(std::span<const std::byte> bytes) {
    if (bytes.size() > max_bytes_ - size_)
      return absl::ResourceExhaustedError(
          absl::StrFormat("the image takes more than %d bytes", max_bytes_));
    size_ += bytes.size();
    crypto_hash_sha256_update(&hash_, Raw(bytes.data()), bytes.size());
    return WriteAll(file_.get(), bytes, "cannot write to a file in memory");
  }

  absl::StatusOr<std::shared_ptr<const Blob>> Finish() && {
    WAXVM_RETURN_IF_ERROR(SealFile(file_.get()));
    auto blob = std::make_shared<Blob>();
    if (size_ != 0) {
      WAXVM_ASSIGN_OR_RETURN(blob->mapping_,
                             Mapping::Map(size_, PROT_READ, MAP_SHARED, file_.get()));
    }
    blob->size_ = size_;
    std::array<unsigned char, crypto_hash_sha256_BYTES> hash;
    crypto_hash_sha256_final(&hash_, hash.data());
    blob->digest_ = Hex(hash);
    return std::shared_ptr<const Blob>(std::move(blob));
  }

 private:
  BlobWriter(UniqueFd file, std::uint64_t max_bytes)
      : file_(std::move(file)), max_bytes_(max_bytes) {
    crypto_hash_sha256_init(&hash_);
  }

  UniqueFd file_;
  std::uint64_t max_bytes_;
  std::uint64_t size_ = 0;
  crypto_hash_sha256_state hash_;
};

namespace {

absl::Status UnpackGzip(std::span<const std::byte> from, BlobWriter& to) {
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
    return absl::ResourceExhaustedError("no memory to unpack gzip data");
  const absl::Cleanup end = [&stream] { inflateEnd(&stream); };
  std::vector<std::byte> buffer(kChunk);
  while (true) {
    if (stream.avail_in == 0) {
      const std::size_t n = std::min<std::size_t>(from.size(), std::size_t{1} << 30);
      if (n == 0) return Damaged("gzip", "it is truncated");
      stream.next_in = const_cast<unsigned char*>(Raw(from.data()));
      stream.avail_in = static_cast<unsigned>(n);
      from = from.subspan(n);
    }
    stream.next_out = reinterpret_cast<unsigned char*>(buffer.data());
    stream.avail_out = static_cast<unsigned>(buffer.size());
    const int result = inflate(&stream, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
      return Damaged("gzip", stream.msg != nullptr ? stream.msg : "it is not gzip");
    WAXVM_RETURN_IF_ERROR(to.Append(std::span(buffer).first(buffer.size() - stream.avail_out)));
    if (result != Z_STREAM_END) continue;
    // Several members in a row are one file; zeroes may follow the last one.
    while (stream.avail_in > 0 && *stream.next_in == 0) ++stream.next_in, --stream.avail_in;
    if (stream.avail_in == 0 && from.empty()) return absl::OkStatus();
    if (inflateReset(&stream) != Z_OK) return Damaged("gzip", "it cannot be read on");
  }
}

absl::Status UnpackZstd(std::span<const std::byte> from, BlobWriter& to) {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  if (context == nullptr) return absl::ResourceExhaustedError("no memory to unpack zstd data");
  const absl::Cleanup end = [context] { ZSTD_freeDCtx(context); };
  ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  std::vector<std::byte> buffer(kChunk);
  ZSTD_inBuffer in{.src = from.data(), .size = from.size(), .pos = 0};
  while (true) {
    ZSTD_outBuffer out{.dst = buffer.data(), .size = buffer.size(), .pos = 0};
    const std::size_t left = ZSTD_decompressStream(context, &out, &in);
    if (ZSTD_isError(left) != 0) return Damaged("zstd", ZSTD_getErrorName(left));
    WAXVM_RETURN_IF_ERROR(to.Append(std::span(buffer).first(out.pos)));
    if (left == 0 && in.pos == in.size) return absl::OkStatus();
    if (in.pos == in.size && out.pos < out.size) return Damaged("zstd", "it is truncated");
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Blob>> Blob::Read(int fd, std::uint64_t max_bytes) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, "cannot stat");
  if (!S_ISREG(info.st_mode)) return InvalidArgument("not a regular file");
  WAXVM_ASSIGN_OR_RETURN(BlobWriter writer, BlobWriter::Create(max_bytes));
  std::vector<std::byte> buffer(kChunk);
  // The bound holds while reading, too: a file may grow for as long as somebody appends to it.
  for (std::uint64_t at = 0;;) {
    const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "cannot read");
    if (got == 0) return std::move(writer).Finish();
    at += static_cast<std::uint64_t>(got);
    WAXVM_RETURN_IF_ERROR(writer.Append(std::span(buffer).first(static_cast<std::size_t>(got))));
  }
}

absl::StatusOr<std::shared_ptr<const Blob>> Blob::Unpack(const Blob& packed,
                                                         std::uint64_t max_bytes) {
  const std::span<const std::byte> bytes = packed.bytes();
  const bool gzip = StartsWith(bytes, {0x1f, 0x8b});
  const bool zstd = StartsWith(bytes, {0x28, 0xb5, 0x2f, 0xfd});
  if (!gzip && !zstd) return nullptr;
  WAXVM_ASSIGN_OR_RETURN(BlobWriter writer, BlobWriter::Create(max_bytes));
  WAXVM_RETURN_IF_ERROR(gzip ? UnpackGzip(bytes, writer) : UnpackZstd(bytes, writer));
  return std::move(writer).Finish();
}

absl::Status Blob::Verify(std::string_view expected) const {
  if (expected.empty() || digest_ == expected) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("the digest is %s, but %s is expected", digest_, expected));
}

}  // namespace waxvm::root_image
