// SPDX-License-Identifier: Apache-2.0
#include "src/coap/block.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "src/coap/bytes_for_test.h"

namespace waxvm::coap {
namespace {

std::string BodyOf(std::size_t bytes) {
  std::string body(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) body[i] = static_cast<char>('a' + i * 7 % 26 + i / 1000);
  return body;
}

BlockSender SenderOf(std::size_t bytes, std::uint8_t exponent) {
  return BlockSender(std::make_shared<const std::string>(BodyOf(bytes)), exponent);
}

TEST(BlockSender, NeedsNoBlockForWhatFits) {
  const BlockSender sender = SenderOf(64, 2);
  const BlockAnswer answer = sender.Serve(std::nullopt);
  EXPECT_EQ(answer.code, Code::kContent);
  EXPECT_EQ(answer.block2, std::nullopt);
  EXPECT_EQ(answer.part, BodyOf(64));
  const BlockSender longer = SenderOf(65, 2);
  EXPECT_EQ(longer.Serve(std::nullopt).block2, (Block{0, true, 2}));
}

// RFC 7959 section 3.1, figures 2 to 4: a body of 2 * 128 + 1 bytes in blocks of 128, of 64 where
// the client wants that at once, and of 64 where it wants that after the first.
TEST(BlockSender, ServesTheExamplesOfTheRfc) {
  const BlockSender sender = SenderOf(257, 3);
  EXPECT_EQ(sender.Serve(std::nullopt).block2, (Block{0, true, 3}));
  EXPECT_EQ(sender.Serve(std::nullopt).size2, 257u);
  EXPECT_EQ(sender.Serve(Block{1, false, 3}).block2, (Block{1, true, 3}));
  EXPECT_EQ(sender.Serve(Block{2, false, 3}).block2, (Block{2, false, 3}));
  EXPECT_EQ(sender.Serve(Block{2, false, 3}).part, BodyOf(257).substr(256));
  EXPECT_EQ(sender.Serve(Block{0, false, 2}).block2, (Block{0, true, 2}));
  EXPECT_EQ(sender.Serve(Block{2, false, 2}).block2, (Block{2, true, 2}));
  EXPECT_EQ(sender.Serve(Block{2, false, 2}).part, BodyOf(257).substr(128, 64));
}

TEST(BlockSender, PrefersSmallerBlocksAtTheSamePlace) {
  const BlockSender sender = SenderOf(5000, 2);
  const BlockAnswer answer = sender.Serve(Block{2, false, 6});
  EXPECT_EQ(answer.block2, (Block{32, true, 2}));
  EXPECT_EQ(answer.part, BodyOf(5000).substr(2048, 64));
}

TEST(BlockSender, RefusesWhatIsNotThere) {
  const BlockSender sender = SenderOf(1024, 6);
  EXPECT_EQ(sender.Serve(Block{0, false, 6}).code, Code::kContent);
  EXPECT_EQ(sender.Serve(Block{0, false, 6}).block2, (Block{0, false, 6}));
  EXPECT_EQ(sender.Serve(Block{1, false, 6}).code, Code::kBadRequest);
  EXPECT_EQ(sender.Serve(Block{Block::kMaxNumber, false, 6}).code, Code::kBadRequest);
  EXPECT_EQ(sender.Serve(Block{0, false, 7}).code, Code::kBadRequest);
  const BlockSender nothing = SenderOf(0, 6);
  const BlockAnswer empty = nothing.Serve(Block{0, false, 6});
  EXPECT_EQ(empty.code, Code::kContent);
  EXPECT_EQ(empty.block2, (Block{0, false, 6}));
  EXPECT_TRUE(empty.part.empty());
}

TEST(ETagOf, DiffersWithTheBody) {
  EXPECT_EQ(ETagOf("a"), ETagOf("a"));
  EXPECT_NE(ETagOf("a"), ETagOf("b"));
  EXPECT_NE(ETagOf(""), ETagOf(std::string(1, '\0')));
  EXPECT_EQ(ETagOf("").size(), 8u);
}

// Both sides against each other, with every pair of sizes.
TEST(BlockDownload, GetsWhatIsServed) {
  for (const std::size_t bytes : {0u, 1u, 15u, 16u, 17u, 1023u, 1024u, 1025u, 4096u, 10000u}) {
    for (std::uint8_t ours = 0; ours <= 6; ++ours) {
      const BlockSender sender = SenderOf(bytes, ours);
      BlockDownload download;
      std::optional<Block> asked;
      for (std::size_t round = 0;; ++round) {
        ASSERT_LE(round, bytes / 16 + 1);
        const BlockAnswer answer = sender.Serve(asked);
        Message response(answer.code, std::string(answer.part));
        if (answer.block2) response.SetBlock2(*answer.block2);
        response.AddETag(ETagOf(BodyOf(bytes)));
        const auto step = download.OnResponse(response.options(), ToBytes(response.payload()));
        ASSERT_TRUE(step.ok()) << step.status();
        if (*step == BlockDownload::Step::kDone) break;
        asked = download.next();
      }
      EXPECT_EQ(download.body(), BodyOf(bytes));
    }
  }
}

class Download : public ::testing::Test {
 protected:
  absl::StatusOr<BlockDownload::Step> Give(Block block, std::size_t bytes, std::string etag = "e") {
    Message response(Code::kContent, std::string(bytes, static_cast<char>('0' + block.number)));
    response.SetBlock2(block).AddETag(etag);
    return download_.OnResponse(response.options(), ToBytes(response.payload()));
  }
  BlockDownload download_{{.max_bytes = 100, .max_restarts = 1}};
};

TEST_F(Download, BeginsAnewWhenTheResourceChanges) {
  ASSERT_TRUE(Give({0, true, 0}, 16).ok());
  EXPECT_EQ(download_.next(), (Block{1, false, 0}));
  ASSERT_EQ(Give({1, true, 0}, 16, "f").value(), BlockDownload::Step::kNext);
  EXPECT_EQ(download_.next(), (Block{0, false, 0}));
  EXPECT_EQ(download_.restarts(), 1u);
  ASSERT_TRUE(Give({0, true, 0}, 16, "f").ok());
  EXPECT_EQ(Give({1, false, 0}, 3, "f").value(), BlockDownload::Step::kDone);
  EXPECT_EQ(download_.body(), std::string(16, '0') + "111");
}

TEST_F(Download, GivesUpOnAResourceThatNeverStands) {
  ASSERT_TRUE(Give({0, true, 0}, 16, "a").ok());
  ASSERT_TRUE(Give({1, true, 0}, 16, "b").ok());
  ASSERT_TRUE(Give({0, true, 0}, 16, "c").ok());
  EXPECT_TRUE(absl::IsAborted(Give({1, true, 0}, 16, "d").status()));
}

TEST_F(Download, RefusesWhatDoesNotFollow) {
  EXPECT_FALSE(Give({1, true, 0}, 16).ok());
  ASSERT_TRUE(Give({0, true, 0}, 16).ok());
  EXPECT_FALSE(Give({2, true, 0}, 16).ok());
  EXPECT_FALSE(Give({0, true, 0}, 16).ok());
  EXPECT_FALSE(Give({1, true, 0}, 15).ok());
  EXPECT_FALSE(Give({1, true, 0}, 0).ok());
  EXPECT_FALSE(Give({1, false, 0}, 17).ok());
  EXPECT_FALSE(Give({1, false, 7}, 1).ok());
  EXPECT_EQ(Give({1, false, 0}, 0).value(), BlockDownload::Step::kDone);
}

TEST_F(Download, IsBounded) {
  for (std::uint32_t number = 0; number < 6; ++number)
    ASSERT_TRUE(Give({number, true, 0}, 16).ok()) << number;
  EXPECT_TRUE(absl::IsResourceExhausted(Give({6, true, 0}, 16).status()));
  BlockDownload other({.max_bytes = 100});
  Message response(Code::kContent, std::string(16, 'x'));
  response.SetBlock2({0, true, 0}).SetSize2(101);
  EXPECT_TRUE(absl::IsResourceExhausted(
      other.OnResponse(response.options(), ToBytes(response.payload())).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(
      other.OnResponse(OptionsView(), ToBytes(std::string(101, 'x'))).status()));
}

// RFC 7959 section 3.2, figure 8: the server asks for 32 bytes after a first block of 128.
TEST(BlockUpload, TakesSmallerBlocks) {
  const std::string body = BodyOf(257);
  BlockUpload upload(body, 3);
  EXPECT_FALSE(upload.fits());
  EXPECT_EQ(upload.Next().block1, (Block{0, true, 3}));
  EXPECT_EQ(upload.Next().size1, 257u);
  ASSERT_EQ(upload.OnResponse(Code::kContinue, Block{0, true, 1}), BlockUpload::Step::kNext);
  EXPECT_EQ(upload.Next().block1, (Block{4, true, 1}));
  EXPECT_EQ(upload.Next().size1, std::nullopt);
  EXPECT_EQ(upload.Next().part, body.substr(128, 32));
  std::uint32_t number = 4;
  while (upload.Next().block1.more) {
    ASSERT_EQ(upload.OnResponse(Code::kContinue, Block{number, true, 1}), BlockUpload::Step::kNext);
    ASSERT_EQ(upload.Next().block1.number, ++number);
  }
  EXPECT_EQ(upload.Next().block1, (Block{8, false, 1}));
  EXPECT_EQ(upload.Next().part, body.substr(256));
  EXPECT_EQ(upload.OnResponse(Code::kChanged, Block{8, false, 1}), BlockUpload::Step::kDone);
}

TEST(BlockUpload, BeginsAnewWhereTheBlockWasTooLarge) {
  const std::string body = BodyOf(2000);
  BlockUpload upload(body, 6);
  ASSERT_EQ(upload.OnResponse(Code::kRequestEntityTooLarge, Block{0, true, 2}),
            BlockUpload::Step::kNext);
  EXPECT_EQ(upload.Next().block1, (Block{0, true, 2}));
  EXPECT_EQ(upload.OnResponse(Code::kRequestEntityTooLarge, Block{0, true, 1}),
            BlockUpload::Step::kDone);
}

TEST(BlockUpload, EndsWithAnErrorOrNonsense) {
  const std::string body = BodyOf(2000);
  const auto step = [&](Code code, std::optional<Block> block) {
    return BlockUpload(body, 6).OnResponse(code, block);
  };
  EXPECT_EQ(step(Code::kRequestEntityIncomplete, std::nullopt), BlockUpload::Step::kDone);
  EXPECT_EQ(step(Code::kRequestEntityTooLarge, std::nullopt), BlockUpload::Step::kDone);
  EXPECT_EQ(step(Code::kChanged, std::nullopt), BlockUpload::Step::kDone);
  EXPECT_EQ(step(Code::kContinue, std::nullopt), BlockUpload::Step::kFailed);
  EXPECT_EQ(step(Code::kContinue, Block{1, true, 6}), BlockUpload::Step::kFailed);
  EXPECT_EQ(step(Code::kContinue, Block{0, true, 7}), BlockUpload::Step::kFailed);
  const std::string small = BodyOf(10);
  EXPECT_EQ(BlockUpload(small, 6).OnResponse(Code::kContinue, Block{0, false, 6}),
            BlockUpload::Step::kFailed);
  // 2^20 blocks of 16 bytes are all that can be numbered.
  const std::string huge(std::size_t{16} << 20, 'x');
  EXPECT_EQ(BlockUpload(huge, 6).OnResponse(Code::kContinue, Block{0, true, 0}),
            BlockUpload::Step::kFailed);
}

TEST(RequestTagOf, DiffersWithTheNumber) {
  EXPECT_EQ(RequestTagOf(0), "");
  EXPECT_EQ(RequestTagOf(255), "\xff");
  EXPECT_EQ(RequestTagOf(258), "\x01\x02");
  EXPECT_EQ(RequestTagOf(~std::uint64_t{0}).size(), 8u);
}

}  // namespace
}  // namespace waxvm::coap
