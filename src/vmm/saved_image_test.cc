// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/saved_image.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>

#include "src/base/byte_archive.h"
#include "src/base/crc32c.h"
#include "src/vmm/machine_for_test.h"
#include "src/vmm/page_bits.h"

namespace waxvm::vmm {

using namespace page_bits;

namespace {

/// A machine that was saved, and is loaded with one thing changed.
class SavedImage : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(pages().Populate(kData, 4 * kPageBytes, kReadWrite));
    ASSERT_TRUE(pages().Populate(kData + (64 << 20), kLargePageBytes, kReadOnly));
    pages().Unmap(kData + 3 * kPageBytes, kPageBytes);
    ASSERT_TRUE(IsDone(Run(Code().SetRdi(kData + 8).SetRsi(4242).Store().SetRsi(99).Done())));
    auto image = machine_->TakeImage();
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
    saved_ = SaveMachine(*image_);
  }

  using Change = std::function<void(SavedMachine& saved)>;
  using Forge = std::function<void(MachineLoader& loader)>;
  absl::StatusOr<std::shared_ptr<const MachineImage>> LoadSaved(const Change& change = {},
                                                                const Forge& forge = {}) {
    SavedMachine saved = saved_;
    if (change) change(saved);
    auto loader = MachineLoader::Create(std::move(saved), kMemoryBytes);
    if (!loader.ok()) return loader.status();
    for (const PageRun& run : saved_.runs)
      EXPECT_TRUE(loader
                      ->Put(run.first, std::span(image_->memory->mapping.data() + run.first,
                                                 run.pages * kPageBytes))
                      .ok());
    if (forge) forge(*loader);
    return std::move(*loader).Finish(traits_, {}, {}, [](const auto&) { return true; });
  }
  void ExpectRefused(const std::string& why, const Change& change, const Forge& forge = {}) {
    const absl::Status status = LoadSaved(change, forge).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << why << ": " << status;
  }
  /// The entry of `address` at `level`, in the tables that are being loaded.
  class Entry {
   public:
    Entry(const SavedImage& test, MachineLoader& loader, GuestVirtual address, int level)
        : loader_(loader) {
      std::uint64_t frame = loader.saved().root;
      for (int at = kLevels;; --at) {
        at_ = frame + 8 * IndexOf(address, at);
        std::memcpy(&value_, test.image_->memory->mapping.data() + at_, sizeof value_);
        if (at == level) return;
        frame = value_ & kFrameMask;
      }
    }
    std::uint64_t value() const { return value_; }
    void Put(std::uint64_t value) const {
      EXPECT_TRUE(loader_.Put(at_, std::as_bytes(std::span(&value, 1))).ok());
    }

   private:
    MachineLoader& loader_;
    std::uint64_t at_ = 0;
    std::uint64_t value_ = 0;
  };
  Entry At(MachineLoader& loader, GuestVirtual address, int level) const {
    return Entry(*this, loader, address, level);
  }

  std::shared_ptr<const MachineImage> image_;
  SavedMachine saved_;
};

TEST_F(SavedImage, GoesOnWhereItWas) {
  const auto loaded = LoadSaved();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->tables, image_->tables);
  EXPECT_EQ((*loaded)->frames.stub, image_->frames.stub);
  EXPECT_EQ((*loaded)->frames.stack, image_->frames.stack);
  MemoryAccount account(kMemoryBytes);
  auto machine = Machine::CreateFrom(*system_, traits_, account, **loaded);
  ASSERT_TRUE(machine.ok()) << machine.status();
  machine_ = *std::move(machine);
  EXPECT_EQ(machine_->general().rsi, 99u) << "registers";
  EXPECT_EQ(Load(kData + 8), 4242u) << "memory, and the stubs work";
  EXPECT_EQ(Load(kData + kPageBytes), 0u);
  EXPECT_FALSE(CanStore(kData + 3 * kPageBytes));
  EXPECT_FALSE(CanStore(kData + (64 << 20))) << "rights";
}

TEST_F(SavedImage, FramesHaveOneOwner) {
  const auto frame_of = [&](MachineLoader& loader, GuestVirtual address) {
    return At(loader, address, 1).value() & kFrameMask;
  };
  ExpectRefused("two pages with one frame", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, kData + kPageBytes, 1);
    entry.Put((entry.value() & ~kFrameMask) | frame_of(loader, kData));
  });
  ExpectRefused("a table as a page", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, kData + kPageBytes, 1);
    entry.Put((entry.value() & ~kFrameMask) | loader.saved().root);
  });
  ExpectRefused("a page as a table", {}, [&](MachineLoader& loader) {
    At(loader, kData + (std::uint64_t{1} << 30), 3).Put(kTableFlags | frame_of(loader, kData));
  });
  ExpectRefused("a table within itself", {}, [&](MachineLoader& loader) {
    At(loader, std::uint64_t{5} << 39, 4).Put(kTableFlags | loader.saved().root);
  });
  ExpectRefused("a free frame that is mapped",
                [&](SavedMachine& saved) { saved.free_small.push_back(image_->frames.stub); });
  ExpectRefused("a free frame twice", [](SavedMachine& saved) {
    ASSERT_FALSE(saved.free_small.empty());
    saved.free_small.push_back(saved.free_small.front());
  });
  ExpectRefused("a frame behind the end", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, kData, 1);
    entry.Put((entry.value() & ~kFrameMask) | loader.saved().bytes);
  });
}

TEST_F(SavedImage, EntriesAreThoseOfWaxvm) {
  ExpectRefused("a page for ring 0", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, kData, 1);
    entry.Put(entry.value() & ~kUser);
  });
  ExpectRefused("a global page", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, kData, 1);
    entry.Put(entry.value() | (1 << 8));
  });
  ExpectRefused("nobody's page", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, kData, 1);
    entry.Put(entry.value() & ~kOwned);
  });
  ExpectRefused("a stub that can be written", {}, [&](MachineLoader& loader) {
    const Entry entry = At(loader, 0x2000, 1);
    entry.Put(entry.value() | (kWritable));
  });
  ExpectRefused("no stub", {}, [&](MachineLoader& loader) { At(loader, 0x2000, 1).Put(0); });
  ExpectRefused("a page in the upper half", {}, [&](MachineLoader& loader) {
    const std::uint64_t first = At(loader, 0, 4).value();
    EXPECT_TRUE(
        loader.Put(loader.saved().root + 8 * 300, std::as_bytes(std::span(&first, 1))).ok());
  });
  ExpectRefused("a page of 1 GiB", {}, [&](MachineLoader& loader) {
    At(loader, kData + (std::uint64_t{1} << 30), 3).Put(kTableFlags | kLarge | kOwned);
  });
}

TEST_F(SavedImage, NumbersAreBounded) {
  ExpectRefused("no memory", [](SavedMachine& saved) { saved.bytes = 0; });
  ExpectRefused("more than the limit", [](SavedMachine& saved) { saved.bytes = kMemoryBytes * 2; });
  ExpectRefused("too little paid", [](SavedMachine& saved) { saved.charged_bytes = 4096; });
  ExpectRefused("too much paid", [](SavedMachine& saved) { saved.charged_bytes = kMemoryBytes; });
  ExpectRefused("no root", [](SavedMachine& saved) { saved.root = saved.bytes; });
  ExpectRefused("a run behind the end", [](SavedMachine& saved) {
    saved.runs.push_back({.first = saved.bytes - kPageBytes, .pages = 2});
  });
  ExpectRefused("runs that overlap",
                [](SavedMachine& saved) { saved.runs.push_back(saved.runs.back()); });
  ExpectRefused("an address of ring 0",
                [](SavedMachine& saved) { saved.general[16] = ~std::uint64_t{0}; });
  ExpectRefused("no canonical base",
                [](SavedMachine& saved) { saved.fs_base = std::uint64_t{1} << 50; });
}

TEST_F(SavedImage, RegistersAreRingThrees) {
  const auto loaded = LoadSaved([](SavedMachine& saved) {
    saved.general[17] = ~std::uint64_t{0};
    std::memset(saved.extended.data() + 512, 0xff, 64);
  });
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->general.rflags & 0x3000, 0u) << "IOPL";
  EXPECT_EQ((*loaded)->general.rflags & 0x20000, 0u) << "VM";
  EXPECT_NE((*loaded)->general.rflags & 0x200, 0u) << "IF";
  std::uint64_t present;
  std::memcpy(&present, (*loaded)->extended.data() + 512, sizeof present);
  EXPECT_EQ(present & ~traits_.xcr0, 0u);
  EXPECT_EQ((*loaded)->special.cs.dpl, 3);
  EXPECT_EQ((*loaded)->special.cr3, saved_.root);
}

// The order and width of the fields is the format: where this fails, the version must change.
TEST(SavedMachine, FormatOfVersion1) {
  SavedMachine saved{.bytes = 0x10000, .root = 0x1000, .charged_bytes = 0x3000};
  saved.free_small = {0x2000, 0x3000};
  saved.free_large = {0x200000};
  for (std::size_t i = 0; i < saved.general.size(); ++i) saved.general[i] = i;
  saved.fs_base = 7;
  saved.gs_base = 8;
  saved.runs = {{.first = 0x1000, .pages = 1}, {.first = 0x4000, .pages = 2}};
  ByteWriter writer;
  writer(saved);
  const std::vector<std::byte> bytes = writer.Take();
  EXPECT_EQ(bytes.size(), 4360u);
  EXPECT_EQ(Crc32c(bytes), 4007684249u);
}

TEST_F(SavedImage, WritesAnInputOfSnapshotFuzz) {
  const char* path = std::getenv("WAXVM_WRITE_GOLDEN");
  if (path == nullptr) GTEST_SKIP() << "WAXVM_WRITE_GOLDEN names no file";
  ByteWriter writer;
  writer(saved_);
  const std::vector<std::byte> machine = writer.Take();
  const std::uint64_t length = machine.size();
  std::ofstream file(path, std::ios::binary);
  const auto put = [&file](const void* bytes, std::size_t size) {
    file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size));
  };
  file.put('\1');
  put(&length, sizeof length);
  put(machine.data(), machine.size());
  for (const PageRun& run : saved_.runs)
    put(image_->memory->mapping.data() + run.first, run.pages * kPageBytes);
}

}  // namespace
}  // namespace waxvm::vmm
