// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/sparse_bytes.h"

#include <cerrno>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kTebibyte = std::uint64_t{1} << 40;

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text));
}

std::string ReadText(const SparseBytes& bytes, std::uint64_t offset, std::size_t count) {
  std::string text(count, '?');
  text.resize(bytes.Read(offset, std::as_writable_bytes(std::span<char>(text))));
  return text;
}

TEST(SparseBytes, GrowingByATebibyteIsFree) {
  MemoryAccount account(1 << 20);
  SparseBytes bytes(account);
  EXPECT_EQ(bytes.Resize(kTebibyte), 0);
  EXPECT_EQ(bytes.size(), kTebibyte);
  EXPECT_EQ(account.used_bytes(), 0u);
  EXPECT_EQ(ReadText(bytes, kTebibyte - 3, 10), std::string(3, '\0'));
  EXPECT_EQ(ReadText(bytes, kTebibyte, 10), "");
}

TEST(SparseBytes, WritesAcrossPagesAndReadsHolesAsZeroes) {
  MemoryAccount account(1 << 20);
  SparseBytes bytes(account);
  EXPECT_EQ(bytes.Write(kPageBytes * 3 - 2, Bytes("abcd")), 4);
  EXPECT_EQ(bytes.size(), kPageBytes * 3 + 2);
  EXPECT_EQ(bytes.allocated_bytes(), kPageBytes * 2);
  EXPECT_EQ(ReadText(bytes, kPageBytes * 3 - 4, 100), std::string("\0\0abcd", 6));
}

TEST(SparseBytes, FindsDataAndHoles) {
  MemoryAccount account(1 << 20);
  SparseBytes bytes(account);
  EXPECT_EQ(bytes.FindData(0), 0u) << "nothing is there";
  ASSERT_EQ(bytes.Write(kPageBytes * 3, Bytes("abc")), 3);
  ASSERT_EQ(bytes.Write(kPageBytes * 4 + 5, Bytes("abc")), 3);
  ASSERT_EQ(bytes.Resize(kPageBytes * 9), 0);
  EXPECT_EQ(bytes.FindData(0), kPageBytes * 3);
  EXPECT_EQ(bytes.FindData(kPageBytes * 3 + 7), kPageBytes * 3 + 7);
  EXPECT_EQ(bytes.FindData(kPageBytes * 5), bytes.size());
  EXPECT_EQ(bytes.FindHole(7), 7u);
  EXPECT_EQ(bytes.FindHole(kPageBytes * 3 + 7), kPageBytes * 5);
  ASSERT_EQ(bytes.Resize(kPageBytes * 4 + 6), 0);
  EXPECT_EQ(bytes.FindHole(kPageBytes * 3), bytes.size());
}

TEST(SparseBytes, NothingCutOffComesBack) {
  MemoryAccount account(1 << 20);
  SparseBytes bytes(account);
  ASSERT_EQ(bytes.Write(0, Bytes(std::string(kPageBytes * 2, 'x'))), kPageBytes * 2);
  EXPECT_EQ(bytes.Resize(10), 0);
  EXPECT_EQ(bytes.Resize(kPageBytes * 2), 0);
  EXPECT_EQ(ReadText(bytes, 8, 4), std::string("xx\0\0", 4));
  EXPECT_EQ(ReadText(bytes, kPageBytes, 1), std::string(1, '\0'));
  EXPECT_EQ(bytes.allocated_bytes(), kPageBytes);
}

TEST(SparseBytes, MemoryRunsOutAndIsGivenBack) {
  MemoryAccount account(10 * kPageBytes);
  {
    SparseBytes bytes(account);
    const std::string big(20 * kPageBytes, 'x');
    const std::int64_t written = bytes.Write(0, Bytes(big));
    EXPECT_GT(written, 8 * static_cast<std::int64_t>(kPageBytes));
    EXPECT_LE(account.used_bytes(), account.limit_bytes());
    EXPECT_EQ(bytes.Write(kTebibyte, Bytes("x")), -ENOSPC);
    EXPECT_EQ(bytes.size(), static_cast<std::uint64_t>(written));
  }
  EXPECT_EQ(account.used_bytes(), 0u);
}

TEST(SparseBytes, RefusesOffsetsPastTheBound) {
  MemoryAccount account(1 << 20);
  SparseBytes bytes(account);
  EXPECT_EQ(bytes.Write(SparseBytes::kMaxBytes, Bytes("x")), -EFBIG);
  EXPECT_EQ(bytes.Write(SparseBytes::kMaxBytes - 1, Bytes("xy")), 1);
  EXPECT_EQ(bytes.Resize(SparseBytes::kMaxBytes + 1), -EFBIG);
  bytes.Punch(1, ~std::uint64_t{0});
  EXPECT_EQ(bytes.allocated_bytes(), 0u);
}

void CompareWithAPlainBuffer(SparseBytes& bytes, std::string model) {
  std::minstd_rand random(7);
  for (int step = 0; step < 3000; ++step) {
    const std::uint64_t offset = random() % 40000;
    const std::size_t count = random() % 9000;
    switch (random() % 4) {
      case 0:
      case 1: {
        const std::string text(count, static_cast<char>('a' + step % 26));
        ASSERT_EQ(bytes.Write(offset, Bytes(text)), static_cast<std::int64_t>(count));
        if (count > 0 && model.size() < offset + count) model.resize(offset + count);
        model.replace(count > 0 ? offset : 0, count, text);
        break;
      }
      case 2:
        ASSERT_EQ(bytes.Resize(offset), 0);
        model.resize(offset);
        break;
      default:
        bytes.Punch(offset, count);
        for (std::size_t i = offset; i < std::min(model.size(), offset + count); ++i) model[i] = 0;
        break;
    }
    ASSERT_EQ(bytes.size(), model.size());
    ASSERT_EQ(ReadText(bytes, 0, model.size()), model) << "after step " << step;
    if (offset >= model.size()) continue;
    const auto is_zero = [&model](std::uint64_t start, std::uint64_t end) {
      return model.substr(start, end - start).find_first_not_of('\0') == std::string::npos;
    };
    ASSERT_TRUE(is_zero(offset, bytes.FindData(offset))) << "after step " << step;
    const std::uint64_t hole = bytes.FindHole(offset);
    ASSERT_TRUE(is_zero(hole, (hole / kPageBytes + 1) * kPageBytes)) << "after step " << step;
  }
}

TEST(SparseBytes, AgreesWithAPlainBuffer) {
  MemoryAccount account(1 << 22);
  SparseBytes bytes(account);
  CompareWithAPlainBuffer(bytes, "");
}

TEST(SparseBytes, AgreesWithAPlainBufferAboveAnImage) {
  const std::string text(30'001, 'i');
  root_image::Contents lower;
  lower.set_size(50'000);  // with holes before and behind
  lower.Append(7'000, Bytes(text));
  std::string model(50'000, '\0');
  model.replace(7'000, text.size(), text);
  MemoryAccount account(1 << 22);
  {
    SparseBytes bytes(account);
    bytes.SetLower(lower);
    EXPECT_EQ(account.used_bytes(), 0u);
    CompareWithAPlainBuffer(bytes, model);
  }
  EXPECT_EQ(account.used_bytes(), 0u);
  EXPECT_EQ(text, std::string(30'001, 'i'));
}

TEST(SparseBytes, WhatLiesBelowIsCopiedOnWriteAndNeverComesBack) {
  const std::string text(3 * kPageBytes, 'i');
  root_image::Contents lower;
  lower.set_size(text.size());
  lower.Append(0, Bytes(text));
  MemoryAccount account(1 << 20);
  SparseBytes bytes(account);
  bytes.SetLower(lower);
  EXPECT_EQ(bytes.size(), text.size());
  EXPECT_EQ(bytes.allocated_bytes(), text.size());
  EXPECT_EQ(bytes.Write(kPageBytes + 1, Bytes("w")), 1);
  EXPECT_EQ(ReadText(bytes, kPageBytes, 3), "iwi");
  EXPECT_EQ(bytes.allocated_bytes(), text.size());
  EXPECT_LT(account.used_bytes(), 2 * kPageBytes);
  EXPECT_EQ(bytes.Punch(0, kPageBytes), 0);
  EXPECT_EQ(ReadText(bytes, kPageBytes - 1, 2), std::string("\0i", 2));
  EXPECT_EQ(bytes.allocated_bytes(), 2 * kPageBytes);
  EXPECT_EQ(bytes.Resize(2 * kPageBytes + 5), 0);
  EXPECT_EQ(bytes.Resize(text.size()), 0);
  EXPECT_EQ(ReadText(bytes, 2 * kPageBytes + 4, 2), std::string("i\0", 2));
  EXPECT_EQ(bytes.Resize(0), 0);
  EXPECT_EQ(bytes.Resize(text.size()), 0);
  EXPECT_EQ(ReadText(bytes, 0, text.size()), std::string(text.size(), '\0'));
  EXPECT_EQ(bytes.allocated_bytes(), 0u);
  EXPECT_EQ(account.used_bytes(), 0u);
}

TEST(SparseBytes, AHoleInAnImageTakesMemoryThatCanRunOut) {
  root_image::Contents lower;
  lower.set_size(std::uint64_t{1} << 40);
  MemoryAccount account(10 * kPageBytes);
  SparseBytes bytes(account);
  bytes.SetLower(lower);
  EXPECT_EQ(bytes.Punch(0, std::uint64_t{1} << 39), -ENOSPC);
  EXPECT_LE(account.used_bytes(), account.limit_bytes());
  EXPECT_EQ(bytes.Resize(0), 0);
  EXPECT_EQ(account.used_bytes(), 0u);
}

}  // namespace
}  // namespace waxvm::linux_abi
