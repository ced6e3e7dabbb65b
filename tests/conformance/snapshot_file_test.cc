// SPDX-License-Identifier: Apache-2.0
// Snapshots in files: what is loaded is what was saved, and what is not is refused by name.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "snapshots.h"
#include "waxvm/snapshot_files.h"

namespace waxvm::conformance {
namespace {

/// A file of the host without a name.
class HostBytes {
 public:
  HostBytes() : file_(::memfd_create("snapshot", MFD_CLOEXEC)) {}
  explicit HostBytes(const std::vector<char>& bytes) : HostBytes() {
    EXPECT_EQ(::pwrite(file_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  ~HostBytes() { ::close(file_); }
  HostBytes(const HostBytes&) = delete;
  HostBytes& operator=(const HostBytes&) = delete;

  int file() const { return file_; }
  std::vector<char> Read() const {
    std::vector<char> bytes(static_cast<std::size_t>(::lseek(file_, 0, SEEK_END)));
    EXPECT_EQ(::pread(file_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
  void Put(std::size_t at, char byte) const {
    EXPECT_EQ(::pwrite(file_, &byte, 1, static_cast<off_t>(at)), 1);
  }

 private:
  int file_;
};

class StandingClock final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override { return std::chrono::hours(1); }
  std::chrono::nanoseconds MonotonicTime() override { return std::chrono::hours(1); }
};

class FilesOfSnapshots : public SnapshotBench {
 protected:
  void SetUp() override { SetUpGuest("keep_open"); }

  void Save(const HostBytes& to) {
    ASSERT_NO_FATAL_FAILURE(Take());
    const auto* files = dynamic_cast<const SnapshotFiles*>(provider_.get());
    ASSERT_TRUE(files != nullptr);
    const absl::Status saved = files->WriteSnapshot(*snapshot_, to.file());
    ASSERT_TRUE(saved.ok()) << saved;
  }
  absl::Status Load(const HostBytes& from) {
    if (other_ == nullptr) other_ = GetParam().make();
    auto loaded =
        dynamic_cast<const SnapshotFiles&>(*other_).ReadSnapshot(from.file(), bench_->spec);
    if (!loaded.ok()) return loaded.status();
    snapshot_ = *std::move(loaded);
    return absl::OkStatus();
  }
  void Expect(const HostBytes& from, absl::StatusCode code, const std::string& text) {
    const absl::Status status = Load(from);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(std::string(status.message()).find(text), std::string::npos) << status;
  }

  std::shared_ptr<Provider> other_;  ///< loads what the first one saved
};

TEST_P(FilesOfSnapshots, EverythingThatIsKeptInMemoryIsKeptInAFile) {
  const std::vector<std::pair<std::string, std::string>> makes = {
      {"T0", "0"},     {"t5", "5"},   {"R0", "0"},     {"Z0", "0"},  {"H0", "0"},
      {"P100", "100"}, {"E5", "8"},   {"F100", "100"}, {"O0", "0"},  {"B5", "5"},
      {"M42", "0"},    {"S10", "10"}, {"X0", "1"},     {"I20", "0"}, {"N2", "0"},
      {"L0", "0"},     {"D0", "0"},   {"G0", "0"},     {"K10", "0"}};
  for (const auto& [command, answer] : makes) ASSERT_EQ(Tell(*source_, command), answer) << command;
  HostBytes file;
  ASSERT_NO_FATAL_FAILURE(Save(file));
  source_.reset();
  snapshot_.reset();
  const absl::Status loaded = Load(file);
  ASSERT_TRUE(loaded.ok()) << loaded;
  ASSERT_EQ(::ftruncate(file.file(), 0), 0) << "the snapshot has copies of everything";
  const auto one = Clone(), two = Clone();
  ASSERT_TRUE(one && two);
  for (int round = 0; round < 2; ++round) {
    for (Instance* clone : {one.get(), two.get()}) {
      const std::vector<std::pair<std::string, std::string>> looks = {
          {"l0", "2"},      {"t1", "6"},  {"r9", "9"},      {"z3", "1"},   {"h0", "1"},
          {"p4000", "100"}, {"e0", "5"},  {"f0", "100100"}, {"o0", "100"}, {"b5", "15"},
          {"m0", "42"},     {"s0", "17"}, {"x0", "107"},    {"i0", "1"},   {"n2", "1"},
          {"d0", "12"},     {"g0", "1"},  {"k15", "1"}};
      for (const auto& [command, answer] : looks)
        EXPECT_EQ(Tell(*clone, command), answer) << command;
      ASSERT_TRUE(clone->Reset().ok());
    }
  }
}

TEST_P(FilesOfSnapshots, ASnapshotOfALoadedOneIsTheSame) {
  ASSERT_EQ(Tell(*source_, "E5"), "8");
  HostBytes first, second;
  ASSERT_NO_FATAL_FAILURE(Save(first));
  ASSERT_TRUE(Load(first).ok());
  source_ = Clone();
  ASSERT_NO_FATAL_FAILURE(Save(second));
  ASSERT_TRUE(Load(second).ok());
  EXPECT_EQ(Tell(*Clone(), "e0"), "5");
}

TEST_P(FilesOfSnapshots, ClonesGetRandomnessOfTheirOwn) {
  bench_.emplace(*Find("keeper"));
  source_ = MakeReady();
  HostBytes file;
  ASSERT_NO_FATAL_FAILURE(Save(file));
  ASSERT_TRUE(Load(file).ok());
  const auto one = Clone(), two = Clone();
  ASSERT_TRUE(one && two);
  EXPECT_NE(Tell(*one, "r0"), Tell(*two, "r0"));
}

// One bit in every byte of the header and the sections, and of as many pages as there is time for:
// their checksum does not know one byte from another.
TEST_P(FilesOfSnapshots, AFlippedBitIsFound) {
  HostBytes file;
  ASSERT_NO_FATAL_FAILURE(Save(file));
  const std::vector<char> bytes = file.Read();
  std::uint64_t page_bytes = 0;
  ASSERT_GT(bytes.size(), 72u);
  std::memcpy(&page_bytes, bytes.data() + 48, sizeof page_bytes);
  const std::size_t pages = bytes.size() - page_bytes;
  ASSERT_LT(page_bytes, bytes.size());
  for (std::size_t at = 0; at < bytes.size(); at += at < pages ? 1 : 509) {
    file.Put(at, static_cast<char>(bytes[at] ^ (1 << at % 8)));
    const absl::Status status = Load(file);
    ASSERT_FALSE(status.ok()) << "byte " << at;
    ASSERT_TRUE(at < 16 || absl::IsDataLoss(status)) << "byte " << at << ": " << status;
    file.Put(at, bytes[at]);
  }
  EXPECT_TRUE(Load(file).ok());
}

TEST_P(FilesOfSnapshots, FilesThatAreNoSnapshotAreRefused) {
  HostBytes file;
  ASSERT_NO_FATAL_FAILURE(Save(file));
  const std::vector<char> bytes = file.Read();
  for (std::size_t length = bytes.size(); length-- > 8; length -= length / 9)
    Expect(HostBytes({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)}),
           absl::StatusCode::kDataLoss, "truncated");
  Expect(HostBytes(), absl::StatusCode::kInvalidArgument, "not a snapshot");
  Expect(HostBytes(std::vector<char>(100'000)), absl::StatusCode::kInvalidArgument,
         "not a snapshot");
  std::vector<char> longer = bytes;
  longer.resize(bytes.size() + 3);
  Expect(HostBytes(longer), absl::StatusCode::kDataLoss, "3 bytes behind its end");
  std::vector<char> later = bytes;
  ++later[8];
  Expect(HostBytes(later), absl::StatusCode::kFailedPrecondition, "version 2");
  const int folder = ::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  EXPECT_TRUE(absl::IsInvalidArgument(
      dynamic_cast<const SnapshotFiles&>(*provider_).ReadSnapshot(folder, bench_->spec).status()));
  ::close(folder);
}

TEST_P(FilesOfSnapshots, OtherProgramsGrantsAndLimitsAreRefused) {
  HostBytes file;
  ASSERT_NO_FATAL_FAILURE(Save(file));
  const InstanceSpec spec = bench_->spec;
  const auto expect = [&](const std::string& text) {
    Expect(file, absl::StatusCode::kFailedPrecondition, text);
    bench_->spec = spec;
  };
  bench_->spec.program = *Find("keeper");
  expect("program");
  bench_->spec.random = nullptr;
  expect("random");
  bench_->spec.clock = std::make_shared<StandingClock>();
  expect("clock");
  bench_->spec.limits.memory_bytes = std::uint64_t{65} << 20;
  expect("limit memory");
  bench_->spec.limits.processes = 9;
  expect("limit processes 9");
  bench_->spec.host_functions_granted = false;
  expect("host functions");
  bench_->spec.arguments.push_back("more");
  expect("arguments");
  EXPECT_TRUE(Load(file).ok());
}

INSTANTIATE_TEST_SUITE_P(EveryProvider, FilesOfSnapshots, testing::ValuesIn(Subjects()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace waxvm::conformance
