// SPDX-License-Identifier: Apache-2.0
// What do addresses, adverts and names cost above the operations of libsodium, SQLite and a hash
// map that they cannot do without?
#include <benchmark/benchmark.h>
#include <sodium.h>
#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/identity/temp_folder_for_test.h"
#include "src/naming/advert_codec.h"
#include "src/naming/advert_for_test.h"
#include "waxvm/advert.h"
#include "waxvm/cga.h"
#include "waxvm/directory.h"
#include "waxvm/resolver.h"

namespace waxvm {
namespace {

using identity::TempFolder;
using naming::KeyOf;
using naming::kTestTime;
using SteadyClock = std::chrono::steady_clock;

constexpr int kAdverts = 100'000;
constexpr int kBatch = 100;

const unsigned char* Raw(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

// ---- Addresses
// ------------------------------------------------------------------------------------

/// The hashes of one verification: prefix, Hash1 and Hash2.
void SodiumCgaVerify(benchmark::State& state) {
  unsigned char prefix[19 + 44] = {};
  unsigned char parameters[16 + 8 + 1 + 44] = {};
  unsigned char digest[crypto_hash_sha256_BYTES];
  for (auto _ : state) {
    crypto_hash_sha256(digest, prefix, sizeof prefix);
    benchmark::DoNotOptimize(digest);
    crypto_hash_sha256(digest, parameters, sizeof parameters);
    benchmark::DoNotOptimize(digest);
    crypto_hash_sha256(digest, parameters, sizeof parameters);
    benchmark::DoNotOptimize(digest);
  }
}
BENCHMARK(SodiumCgaVerify)->Name("Sodium/cga_verify");

void CgaVerify(benchmark::State& state) {
  const PublicKey key = KeyOf(1).public_key();
  const auto made = cga::Generate(key, {.sec_code = cga::kSha256Bits16});
  for (auto _ : state)
    if (!cga::Verify(made->address, key, made->parameters.modifier, 0).ok())
      state.SkipWithError("it does not verify");
}
BENCHMARK(CgaVerify)->Name("Cga/verify");

/// Searches of about as many tries: what chance makes of one is evened out.
void CgaSearch(benchmark::State& state, unsigned threads) {
  const PublicKey key = KeyOf(1).public_key();
  std::uint64_t tries = 0;
  for (auto _ : state)
    for (std::uint8_t start = 0; start < 8; ++start) {
      cga::Modifier modifier{};
      modifier[0] = start;
      const auto made = cga::Generate(key, {.modifier = modifier, .threads = threads});
      tries += made->tries;
    }
  state.counters["tries_per_s"] =
      benchmark::Counter(static_cast<double>(tries), benchmark::Counter::kIsRate);
}
void CgaSearch1(benchmark::State& state) { CgaSearch(state, 1); }
void CgaSearch2(benchmark::State& state) { CgaSearch(state, 2); }
BENCHMARK(CgaSearch1)->Name("Cga/search_16_bits_1_thread");
BENCHMARK(CgaSearch2)->Name("Cga/search_16_bits_2_threads");

// ---- Adverts
// --------------------------------------------------------------------------------------

Advert VmAdvert() {
  const SigningKey vm = KeyOf(1);
  const SigningKey host = KeyOf(2);
  return *Advert::Make({.sequence = 1,
                        .created = kTestTime,
                        .expires = kTestTime + 86400,
                        .ttl = 600,
                        .body = VmBody{.claim = naming::NewClaim(vm.public_key()),
                                       .services = {{"coap", 17, 5683}},
                                       .mailboxes = {host.public_key()}}},
                       vm, &host);
}

/// Both signatures over bytes of the same size, and the hashes of the address (code 3: two).
void SodiumAdvertVerify(benchmark::State& state) {
  const Advert advert = VmAdvert();
  const VmBody& body = *advert.As<VmBody>();
  const std::string_view all = advert.bytes();
  const std::string_view signed_bytes = all.substr(0, all.size() - kSignatureBytes);
  const std::string hosted = naming::HostedBytes(signed_bytes);
  unsigned char parameters[16 + 8 + 1 + 44] = {};
  unsigned char digest[crypto_hash_sha256_BYTES];
  for (auto _ : state) {
    if (crypto_sign_verify_detached(Raw(all) + signed_bytes.size(), Raw(signed_bytes),
                                    signed_bytes.size(),
                                    advert.fields().author.bytes.data()) != 0 ||
        crypto_sign_verify_detached(body.host_signature.bytes.data(), Raw(hosted), hosted.size(),
                                    body.host.bytes.data()) != 0)
      state.SkipWithError("it does not verify");
    crypto_hash_sha256(digest, parameters, 63);
    benchmark::DoNotOptimize(digest);
    crypto_hash_sha256(digest, parameters, sizeof parameters);
    benchmark::DoNotOptimize(digest);
  }
}
BENCHMARK(SodiumAdvertVerify)->Name("Sodium/advert_verify");

void AdvertVerify(benchmark::State& state) {
  const std::string bytes = VmAdvert().bytes();
  for (auto _ : state)
    if (!Advert::Check(bytes, kTestTime).ok()) state.SkipWithError("it does not verify");
}
BENCHMARK(AdvertVerify)->Name("Advert/verify");

void AdvertBatch(benchmark::State& state, unsigned threads) {
  const std::string bytes = VmAdvert().bytes();
  const std::vector<std::string_view> adverts(256, bytes);
  for (auto _ : state)
    for (const auto& result : CheckAdverts(adverts, kTestTime, threads))
      if (!result.ok()) state.SkipWithError("it does not verify");
}
void AdvertBatch1(benchmark::State& state) { AdvertBatch(state, 1); }
void AdvertBatch2(benchmark::State& state) { AdvertBatch(state, 2); }
BENCHMARK(AdvertBatch1)->Name("Advert/verify_256_1_thread");
BENCHMARK(AdvertBatch2)->Name("Advert/verify_256_2_threads");

// ---- Directory
// ------------------------------------------------------------------------------------

PublicKey AuthorOf(int i) {
  // Keys are spread as real ones are; nobody signs with these.
  PublicKey key;
  std::uint64_t state = static_cast<std::uint64_t>(i) + 1;
  for (std::uint8_t& byte : key.bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::uint8_t>(state >> 56);
  }
  return key;
}

/// Instances of many authors. Stores take adverts that were checked; these look like such.
const std::vector<Advert>& ManyAdverts() {
  static const std::vector<Advert> adverts = [] {
    std::vector<Advert> all;
    const std::string bytes = VmAdvert().bytes();
    for (int i = 0; i < kAdverts; ++i) {
      std::string other = bytes;
      other.replace(naming::kAuthorAt, kKeyBytes, AuthorOf(i).view());
      // Addresses are as spread as keys.
      other.replace(naming::kBodyAt, kAddressBytes,
                    AuthorOf(kAdverts + i).view().substr(0, kAddressBytes));
      all.push_back(*Advert::FromTrusted(other));
    }
    return all;
  }();
  return adverts;
}

/// SQLite with the same bytes under the same keys, and nothing around it.
class Bare {
 public:
  explicit Bare(const std::string& path) {
    sqlite3_open(path.c_str(), &db_);
    Execute("PRAGMA journal_mode=WAL");
    Execute("PRAGMA synchronous=FULL");
    Execute("PRAGMA cache_size=-16384");
    Execute(
        "CREATE TABLE IF NOT EXISTS adverts(slot BLOB PRIMARY KEY NOT NULL, bytes BLOB NOT NULL, "
        "stored INTEGER NOT NULL, quarantined INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID");
    Prepare("INSERT INTO adverts(slot, bytes, stored) VALUES(?1, ?2, ?3)", &insert_);
    Prepare("SELECT bytes FROM adverts WHERE slot = ?1", &find_);
    Prepare("BEGIN IMMEDIATE", &begin_);
    Prepare("COMMIT", &commit_);
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  ~Bare() {
    for (sqlite3_stmt* statement : {insert_, find_, begin_, commit_}) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  bool Insert(const std::vector<std::pair<std::string, std::string>>& rows, std::size_t from) {
    Run(begin_);
    for (std::size_t i = from; i < from + kBatch; ++i) {
      BindBlob(insert_, 1, rows[i].first);
      BindBlob(insert_, 2, rows[i].second);
      sqlite3_bind_int64(insert_, 3, static_cast<std::int64_t>(i));
      if (!Run(insert_)) return false;
    }
    return Run(commit_);
  }
  std::size_t Find(const std::string& slot) {
    BindBlob(find_, 1, slot);
    std::size_t bytes = 0;
    if (sqlite3_step(find_) == SQLITE_ROW) {
      const std::string copy(static_cast<const char*>(sqlite3_column_blob(find_, 0)),
                             static_cast<std::size_t>(sqlite3_column_bytes(find_, 0)));
      bytes = copy.size();
    }
    sqlite3_reset(find_);
    return bytes;
  }

 private:
  void Execute(const char* sql) { sqlite3_exec(db_, sql, nullptr, nullptr, nullptr); }
  void Prepare(const char* sql, sqlite3_stmt** to) {
    sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, to, nullptr);
  }
  static void BindBlob(sqlite3_stmt* statement, int at, const std::string& bytes) {
    sqlite3_bind_blob64(statement, at, bytes.data(), bytes.size(), SQLITE_STATIC);
  }
  static bool Run(sqlite3_stmt* statement) {
    const bool done = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return done;
  }
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* find_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
};

std::string SlotBytes(const Advert& advert) {
  std::string slot(advert.fields().author.view());
  slot.push_back(static_cast<char>(advert.fields().type()));
  return slot;
}

std::vector<std::pair<std::string, std::string>> Rows() {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Advert& advert : ManyAdverts()) rows.emplace_back(SlotBytes(advert), advert.bytes());
  return rows;
}

/// One iteration is one durable batch; a new file after every 100,000 adverts.
void BareInsert(benchmark::State& state) {
  static const auto rows = Rows();
  TempFolder temp;
  int files = 0;
  std::size_t at = rows.size();
  std::unique_ptr<Bare> bare;
  for (auto _ : state) {
    if (at + kBatch > rows.size()) {
      state.PauseTiming();
      bare = std::make_unique<Bare>(temp / std::to_string(++files));
      at = 0;
      state.ResumeTiming();
    }
    if (!bare->Insert(rows, at)) state.SkipWithError("not inserted");
    at += kBatch;
  }
}
BENCHMARK(BareInsert)->Name("Sqlite/insert_batch_of_100");

void DirectoryInsert(benchmark::State& state) {
  const auto& adverts = ManyAdverts();
  TempFolder temp;
  int files = 0;
  std::size_t at = adverts.size();
  std::unique_ptr<Directory> directory;
  for (auto _ : state) {
    if (at + kBatch > adverts.size()) {
      state.PauseTiming();
      directory = *OpenDirectory(temp / std::to_string(++files), {.survive_power_loss = true});
      at = 0;
      state.ResumeTiming();
    }
    for (const absl::Status& status : directory->Put(std::span(adverts).subspan(at, kBatch)))
      if (!status.ok()) state.SkipWithError("not inserted");
    at += kBatch;
  }
}
BENCHMARK(DirectoryInsert)->Name("Directory/insert_batch_of_100");

/// The 99th percentile of single look-ups is what counts as the time of all of them.
/// An iteration takes thousands of times as long, so their number is fixed.
template <typename Lookup>
void MeasureP99(benchmark::State& state, Lookup lookup) {
  constexpr int kLookups = 20'000;
  std::vector<std::int64_t> times(kLookups);
  std::uint64_t random = 1;
  for (auto _ : state) {
    for (std::int64_t& time : times) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      const auto which = static_cast<std::size_t>((random >> 33) % kAdverts);
      const auto start = SteadyClock::now();
      lookup(which);
      time = (SteadyClock::now() - start).count();
    }
    std::nth_element(times.begin(), times.begin() + kLookups / 100 * 99, times.end());
    state.SetIterationTime(static_cast<double>(times[kLookups / 100 * 99]) * 1e-9);
  }
}

/// 100,000 adverts in one file, which both ask.
const std::string& FullDirectory() {
  static const TempFolder temp;
  static const std::string path = [] {
    const std::string file = temp / "full";
    auto directory = *OpenDirectory(file);
    const auto& adverts = ManyAdverts();
    for (std::size_t at = 0; at < adverts.size(); at += 1000)
      directory->Put(std::span(adverts).subspan(at, 1000));
    return file;
  }();
  return path;
}

void BareLookup(benchmark::State& state) {
  Bare bare(FullDirectory());
  const auto rows = Rows();
  for (const auto& row : rows) bare.Find(row.first);  // warm
  MeasureP99(state, [&](std::size_t i) { benchmark::DoNotOptimize(bare.Find(rows[i].first)); });
}
BENCHMARK(BareLookup)->Name("Sqlite/lookup_p99")->UseManualTime()->Iterations(3);

void DirectoryLookup(benchmark::State& state) {
  auto directory = *OpenDirectory(FullDirectory());
  std::vector<AdvertSlot> slots;
  for (const Advert& advert : ManyAdverts()) slots.push_back(advert.slot());
  for (const AdvertSlot& slot : slots)
    if (!directory->Get(slot, kTestTime).ok()) state.SkipWithError("not found");
  MeasureP99(state, [&](std::size_t i) {
    benchmark::DoNotOptimize(directory->Get(slots[i], kTestTime).ok());
  });
}
BENCHMARK(DirectoryLookup)->Name("Directory/lookup_p99")->UseManualTime()->Iterations(3);

// ---- Resolver
// -------------------------------------------------------------------------------------

constexpr int kNames = 5'000;

std::string NameOf(int i) { return "sensor-" + std::to_string(i); }

void HashMapHit(benchmark::State& state) {
  std::unordered_map<std::string, std::shared_ptr<const Resolution>> map;
  std::vector<std::string> names;
  for (int i = 0; i < kNames; ++i) {
    names.push_back(NameOf(i));
    map[names.back()] = std::make_shared<Resolution>();
  }
  std::size_t at = 0;
  for (auto _ : state) {
    at = (at + 2'749) % kNames;
    benchmark::DoNotOptimize(map.find(names[at])->second.get());
  }
}
BENCHMARK(HashMapHit)->Name("HashMap/hit");

void ResolverHit(benchmark::State& state) {
  auto directory = NewMemoryDirectory();
  Petnames petnames = Petnames::InMemory();
  std::vector<std::string> names;
  const auto& adverts = ManyAdverts();
  directory->Put(std::span(adverts).subspan(0, kNames));
  for (int i = 0; i < kNames; ++i) {
    names.push_back(NameOf(i));
    if (!petnames.Set(names.back(), AuthorOf(i)).ok()) state.SkipWithError("no name");
  }
  // Time stands still, so that nothing of it is looked up anew.
  const auto resolver = Resolver::Create(
      directory.get(), &petnames, {.clock = [] { return kTestTime; }, .max_cached = 2 * kNames});
  for (const std::string& name : names)
    if (!resolver->Resolve(name).ok()) state.SkipWithError("not found");
  std::size_t at = 0;
  for (auto _ : state) {
    at = (at + 2'749) % kNames;
    benchmark::DoNotOptimize(resolver->Resolve(names[at]).ok());
  }
}
BENCHMARK(ResolverHit)->Name("Resolver/hit");

}  // namespace
}  // namespace waxvm

BENCHMARK_MAIN();
