// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_MAPPED_SOURCE_H_
#define WAXVM_SRC_LINUX_ABI_MAPPED_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/linux_abi/vfs/open_file.h"
#include "waxvm/program.h"

namespace waxvm::linux_abi {

/// What tells one mapped file from another, and /proc/self/maps about it.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
  auto operator<=>(const FileIdentity&) const = default;
};

/// Where the pages of a mapping come from when they are first touched.
/// Thread safety: none; used by the instance's thread.
class MappedSource {
 public:
  MappedSource(FileIdentity identity, std::string path)
      : identity_(identity), path_(std::move(path)) {}
  virtual ~MappedSource() = default;
  MappedSource(const MappedSource&) = delete;
  MappedSource& operator=(const MappedSource&) = delete;

  /// Bytes read, 0 at the end, or a negated errno. May be fewer than asked for.
  virtual std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) = 0;
  virtual std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) = 0;
  /// Bytes there are now, or a negated errno; pages that begin behind them cannot be had (SIGBUS).
  virtual std::int64_t Size() const = 0;

  /// The same bytes, by an object that any number of instances may read at once; null where that
  /// cannot be had.
  virtual std::shared_ptr<MappedSource> Freeze() { return nullptr; }

  const FileIdentity& identity() const { return identity_; }
  /// As the guest knows it; may be empty.
  const std::string& path() const { return path_; }

 private:
  FileIdentity identity_;
  std::string path_;
};

/// The bytes of the sealed program, which no run can change.
class ProgramSource final : public MappedSource {
 public:
  ProgramSource(Program program, std::string path)
      : MappedSource({}, std::move(path)), program_(std::move(program)) {}
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte>, std::uint64_t) override;
  std::int64_t Size() const override;
  std::shared_ptr<MappedSource> Freeze() override {
    return std::make_shared<ProgramSource>(program_, path());
  }

 private:
  Program program_;
};

/// An open file, kept open for as long as something of it is mapped.
class FileSource final : public MappedSource {
 public:
  FileSource(std::shared_ptr<OpenFile> file, FileIdentity identity, std::string path)
      : MappedSource(identity, std::move(path)), file_(std::move(file)) {}
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override;
  std::int64_t Size() const override;
  std::shared_ptr<MappedSource> Freeze() override;
  OpenFile& file() { return *file_; }

 private:
  std::shared_ptr<OpenFile> file_;
};

/// A file of the host by a descriptor of its own, read-only and without state: what a snapshot
/// keeps of a mapped file. Thread safety: may be shared between threads.
class DescriptorSource final : public MappedSource {
 public:
  DescriptorSource(UniqueFd file, FileIdentity identity, std::string path)
      : MappedSource(identity, std::move(path)), file_(std::move(file)) {}
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte>, std::uint64_t) override;
  std::int64_t Size() const override;
  std::shared_ptr<MappedSource> Freeze() override { return Duplicate(file_.get(), *this); }
  /// Null when there is no descriptor left for it.
  static std::shared_ptr<MappedSource> Duplicate(int file, const MappedSource& of);

 private:
  const UniqueFd file_;
};

/// What a snapshot keeps of a mapping of one of the instance's own files: which open file it is.
/// Has no bytes; a clone reads its own file. Thread safety: may be shared between threads.
class KeptSource final : public MappedSource {
 public:
  KeptSource(std::uint32_t file, FileIdentity identity, std::string path)
      : MappedSource(identity, std::move(path)), file_(file) {}
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte>, std::uint64_t) override;
  std::int64_t Size() const override;
  std::uint32_t file() const { return file_; }

 private:
  const std::uint32_t file_;
};

/// Bytes that were read once: what a snapshot that was loaded from a file has of a mapped file of
/// the host. Thread safety: may be shared between threads.
class BytesSource final : public MappedSource {
 public:
  BytesSource(std::shared_ptr<const std::vector<std::byte>> bytes, FileIdentity identity,
              std::string path)
      : MappedSource(identity, std::move(path)), bytes_(std::move(bytes)) {}
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override;
  std::int64_t PWrite(std::span<const std::byte>, std::uint64_t) override;
  std::int64_t Size() const override;
  std::shared_ptr<MappedSource> Freeze() override {
    return std::make_shared<BytesSource>(bytes_, identity(), path());
  }

 private:
  const std::shared_ptr<const std::vector<std::byte>> bytes_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_MAPPED_SOURCE_H_
