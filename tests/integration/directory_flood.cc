// SPDX-License-Identifier: Apache-2.0
// directory_flood [COUNT [FOLDER]]: one author floods a directory on disk with COUNT adverts (ten
// million by default); without FOLDER, in one that is removed. Fails where it displaces anybody
// else's, where the directory grows past its bound, or memory past 256 MiB.
#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "src/identity/temp_folder_for_test.h"
#include "src/naming/advert_codec.h"
#include "src/naming/advert_for_test.h"
#include "waxvm/directory.h"

namespace waxvm {
namespace {

using naming::KeyOf;
using naming::kTestTime;
using naming::NameAdvert;

constexpr std::size_t kMaxAdverts = 100'000;
constexpr unsigned kHonest = 2'000;
constexpr std::size_t kBatch = 1'000;
constexpr std::int64_t kMaxMemoryKib = 256 * 1024;

/// The flooder's advert with another label; its signature was never looked at here.
Advert Relabelled(const std::string& bytes, std::uint64_t number) {
  std::string other = bytes;
  other.replace(naming::kBodyAt + 1, 10, absl::StrFormat("%010d", number));
  return *Advert::FromTrusted(other);
}

std::int64_t MemoryKib() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "directory_flood: %s\n", what.c_str());
  return 1;
}

int Flood(std::uint64_t count, const std::string& path) {
  auto directory = OpenDirectory(path, {.max_adverts = kMaxAdverts});
  if (!directory.ok()) return Fail(std::string(directory.status().message()));
  std::vector<Advert> honest;
  for (unsigned i = 0; i < kHonest; ++i)
    honest.push_back(NameAdvert(KeyOf(i), "a", KeyOf(1).public_key(), 1));
  for (const absl::Status& status : (*directory)->Put(honest))
    if (!status.ok()) return Fail(std::string(status.message()));
  const SigningKey flooder = KeyOf(kHonest);
  const std::string bytes = NameAdvert(flooder, "0000000000", flooder.public_key(), 1).bytes();
  const auto start = std::chrono::steady_clock::now();
  std::vector<Advert> batch;
  for (std::uint64_t i = 0; i < count; ++i) {
    batch.push_back(Relabelled(bytes, i));
    if (batch.size() < kBatch && i + 1 < count) continue;
    for (const absl::Status& status : (*directory)->Put(batch))
      if (!status.ok()) return Fail(std::string(status.message()));
    batch.clear();
    if ((*directory)->Stats().adverts > kMaxAdverts)
      return Fail("the directory is above its bound");
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  for (const Advert& advert : honest)
    if (!(*directory)->Get(advert.slot(), kTestTime).ok()) return Fail("somebody was displaced");
  struct stat file = {};
  (void)stat(path.c_str(), &file);
  std::printf("%llu adverts in %.1f s, %.0f a second; file %lld KiB, memory at most %lld KiB\n",
              static_cast<unsigned long long>(count), took.count(),
              static_cast<double>(count) / took.count(),
              static_cast<long long>(file.st_size / 1024), static_cast<long long>(MemoryKib()));
  return MemoryKib() > kMaxMemoryKib ? Fail("it took more than 256 MiB of memory") : 0;
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000'000;
  if (count == 0 || count > 9'999'999'999) return waxvm::Fail("give a number of adverts");
  if (argc > 2) return waxvm::Flood(count, std::string(argv[2]) + "/directory");
  const waxvm::identity::TempFolder temp;
  return waxvm::Flood(count, temp / "directory");
}
