// SPDX-License-Identifier: Apache-2.0
#include "src/coap/block_assembler.h"

#include <random>
#include <string>

#include "gtest/gtest.h"
#include "src/coap/block.h"
#include "src/coap/bytes_for_test.h"

namespace waxvm::coap {
namespace {

using std::chrono::seconds;

SocketAddress Peer(int number) {
  SocketAddress peer = SocketAddress::Parse("[fd00::1]:1").value();
  peer.address.bytes[14] = static_cast<std::uint8_t>(number >> 8);
  peer.address.bytes[15] = static_cast<std::uint8_t>(number);
  return peer;
}

class Assembler : public ::testing::Test {
 protected:
  AssemblyAnswer Give(int peer, Block block, std::string payload, std::string_view path = "/a") {
    Message request(Code::kPut, std::move(payload));
    request.SetPath(path).SetBlock1(block);
    return assembler_.Add(Peer(peer), Datagram(request).view(), now_);
  }
  /// A full block, or a shorter one where it is the last.
  AssemblyAnswer Give(int peer, Block block) {
    return Give(
        peer, block,
        std::string(block.more ? block.bytes() : 5, static_cast<char>('0' + block.number % 10)));
  }

  BlockAssembler::TimePoint now_{std::chrono::hours(1)};
  BlockAssembler assembler_{{.max_body_bytes = 1000,
                             .max_total_bytes = 20000,
                             .max_assemblies = 6,
                             .max_assemblies_per_peer = 2,
                             .timeout = seconds(90),
                             .protected_time = seconds(5),
                             .exponent = 2}};
};

TEST_F(Assembler, PutsBlocksTogether) {
  AssemblyAnswer answer = Give(1, {0, true, 1});
  EXPECT_EQ(answer.code, Code::kContinue);
  EXPECT_EQ(answer.block1, (Block{0, true, 1}));
  EXPECT_EQ(Give(1, {1, true, 1}).code, Code::kContinue);
  answer = Give(1, {2, false, 1});
  EXPECT_EQ(answer.code, Code::kEmpty);
  EXPECT_EQ(answer.block1, (Block{2, false, 1}));
  EXPECT_EQ(answer.body, std::string(32, '0') + std::string(32, '1') + "22222");
  EXPECT_EQ(assembler_.assemblies(), 0u);
  EXPECT_EQ(assembler_.bytes(), 0u);
  EXPECT_EQ(Give(1, {2, false, 1}).code, Code::kRequestEntityIncomplete);
}

TEST_F(Assembler, TakesASingleBlock) {
  const AssemblyAnswer answer = Give(1, {0, false, 6});
  EXPECT_EQ(answer.code, Code::kEmpty);
  EXPECT_EQ(answer.body, "00000");
  EXPECT_EQ(Give(1, {0, false, 6}, "").code, Code::kEmpty);
}

// RFC 7959 section 3.2, figure 8.
TEST_F(Assembler, AsksForSmallerBlocks) {
  const AssemblyAnswer answer = Give(1, {0, true, 3});
  EXPECT_EQ(answer.code, Code::kContinue);
  EXPECT_EQ(answer.block1, (Block{0, true, 2}));
  EXPECT_EQ(Give(1, {2, true, 2}).code, Code::kContinue);
  EXPECT_EQ(Give(1, {12, false, 0}).body.size(), 128u + 64u + 5u);
}

TEST_F(Assembler, TakesABlockThatCameTwice) {
  Give(1, {0, true, 1});
  Give(1, {1, true, 1});
  EXPECT_EQ(Give(1, {1, true, 1}).code, Code::kContinue);
  EXPECT_EQ(Give(1, {2, false, 1}).body.size(), 69u);
}

TEST_F(Assembler, RefusesGapsAndOverlaps) {
  EXPECT_EQ(Give(1, {1, true, 1}).code, Code::kRequestEntityIncomplete);
  Give(1, {0, true, 1});
  EXPECT_EQ(Give(1, {2, true, 1}).code, Code::kRequestEntityIncomplete);
  EXPECT_EQ(Give(1, {1, true, 1}).code, Code::kContinue);
  EXPECT_EQ(Give(1, {1, true, 1}, std::string(32, 'x')).code, Code::kRequestEntityIncomplete);
  EXPECT_EQ(assembler_.assemblies(), 0u);
  Give(1, {0, true, 1});
  EXPECT_EQ(Give(1, {1, true, 0}, std::string(16, '0')).code, Code::kContinue);
  EXPECT_EQ(Give(1, {1, false, 0}).code, Code::kRequestEntityIncomplete);
  EXPECT_EQ(assembler_.bytes(), 0u);
}

TEST_F(Assembler, RefusesWhatIsNoBlock) {
  EXPECT_EQ(Give(1, {0, true, 7}, std::string(2048, 'x')).code, Code::kBadRequest);
  EXPECT_EQ(Give(1, {0, true, 1}, std::string(31, 'x')).code, Code::kBadRequest);
  EXPECT_EQ(Give(1, {0, true, 1}, std::string(33, 'x')).code, Code::kBadRequest);
  EXPECT_EQ(Give(1, {0, true, 1}, "").code, Code::kBadRequest);
  EXPECT_EQ(Give(1, {0, false, 1}, std::string(33, 'x')).code, Code::kBadRequest);
  EXPECT_EQ(assembler_.Add(Peer(1), Datagram(Message(Code::kPut)).view(), now_).code,
            Code::kBadRequest);
  EXPECT_EQ(assembler_.assemblies(), 0u);
}

TEST_F(Assembler, RefusesBodiesThatAreTooLong) {
  EXPECT_EQ(Give(1, {0, true, 6}).code, Code::kRequestEntityTooLarge);
  for (std::uint32_t number = 0; number < 31; ++number)
    ASSERT_EQ(Give(1, {number, true, 1}).code, Code::kContinue);
  const AssemblyAnswer answer = Give(1, {31, true, 1});
  EXPECT_EQ(answer.code, Code::kRequestEntityTooLarge);
  EXPECT_EQ(answer.size1, 1000u);
  EXPECT_EQ(assembler_.assemblies(), 0u);
  Give(1, {0, true, 1});
  EXPECT_EQ(Give(1, {Block::kMaxNumber, true, 1}).code, Code::kRequestEntityTooLarge);
  EXPECT_EQ(assembler_.bytes(), 0u);
  const Message request =
      Message(Code::kPut, std::string(32, 'x')).SetBlock1({0, true, 1}).SetSize1(1001);
  EXPECT_EQ(assembler_.Add(Peer(1), Datagram(request).view(), now_).code,
            Code::kRequestEntityTooLarge);
}

// RFC 9175 section 3: what is alike but for its Request-Tag is another body, and so is what comes
// from another peer.
TEST_F(Assembler, KeepsBodiesApart) {
  const auto give = [&](int peer, std::string_view tag, std::uint32_t number, char fill) {
    Message request(Code::kPut, std::string(16, fill));
    request.SetBlock1({number, number == 0, 0}).SetRequestTag(tag);
    return assembler_.Add(Peer(peer), Datagram(request).view(), now_);
  };
  give(1, "t", 0, 'a');
  give(1, "u", 0, 'b');
  give(2, "t", 0, 'c');
  EXPECT_EQ(give(1, "v", 1, 'x').code, Code::kRequestEntityIncomplete);
  EXPECT_EQ(give(1, "t", 1, 'x').body, std::string(16, 'a') + std::string(16, 'x'));
  EXPECT_EQ(give(1, "u", 1, 'x').body, std::string(16, 'b') + std::string(16, 'x'));
  EXPECT_EQ(give(2, "t", 1, 'x').body, std::string(16, 'c') + std::string(16, 'x'));
}

TEST_F(Assembler, BeginsAnewWithAFirstBlock) {
  Give(1, {0, true, 1});
  Give(1, {1, true, 1});
  Give(1, {0, true, 1}, std::string(32, 'n'));
  EXPECT_EQ(assembler_.assemblies(), 1u);
  EXPECT_EQ(Give(1, {1, false, 1}).body, std::string(32, 'n') + "11111");
}

TEST_F(Assembler, ForgetsWhatIsNeverFinished) {
  EXPECT_EQ(assembler_.NextDeadline(), BlockAssembler::TimePoint::max());
  Give(1, {0, true, 1});
  EXPECT_EQ(assembler_.NextDeadline(), now_ + seconds(90));
  now_ += seconds(89);
  Give(1, {1, true, 1});
  EXPECT_EQ(assembler_.NextDeadline(), now_ + seconds(90));
  now_ += seconds(90);
  assembler_.Expire(now_);
  EXPECT_EQ(assembler_.assemblies(), 0u);
  EXPECT_EQ(assembler_.bytes(), 0u);
  EXPECT_EQ(Give(1, {2, false, 1}).code, Code::kRequestEntityIncomplete);
}

TEST_F(Assembler, TakesAPeersOwnOldestWhereItHasTooMany) {
  for (const char* path : {"/a", "/b", "/c"}) {
    now_ += seconds(1);
    EXPECT_EQ(Give(1, {0, true, 0}, std::string(16, 'x'), path).code, Code::kContinue);
  }
  Give(2, {0, true, 0});
  EXPECT_EQ(assembler_.assemblies(), 3u);
  EXPECT_EQ(assembler_.evicted(), 1u);
  EXPECT_EQ(Give(1, {1, false, 0}, "y", "/a").code, Code::kRequestEntityIncomplete);
  EXPECT_EQ(Give(1, {1, false, 0}, "y", "/b").code, Code::kEmpty);
  EXPECT_EQ(Give(1, {1, false, 0}, "y", "/c").code, Code::kEmpty);
  EXPECT_EQ(Give(2, {1, false, 0}).code, Code::kEmpty);
}

// A flood from many addresses: those that are under way go on, those that stand still give way.
TEST_F(Assembler, LetsNoFloodStopWhatIsUnderWay) {
  for (int peer = 0; peer < 6; ++peer) EXPECT_EQ(Give(peer, {0, true, 0}).code, Code::kContinue);
  for (int peer = 10; peer < 500; ++peer)
    EXPECT_EQ(Give(peer, {0, true, 0}).code, Code::kServiceUnavailable);
  EXPECT_EQ(assembler_.assemblies(), 6u);
  now_ += seconds(4);
  EXPECT_EQ(Give(3, {1, true, 0}).code, Code::kContinue);
  now_ += seconds(1);
  for (int peer = 500; peer < 505; ++peer)
    EXPECT_EQ(Give(peer, {0, true, 0}).code, Code::kContinue);
  EXPECT_EQ(Give(505, {0, true, 0}).code, Code::kServiceUnavailable);
  EXPECT_EQ(Give(3, {2, false, 0}).code, Code::kEmpty);
  EXPECT_EQ(Give(0, {1, false, 0}).code, Code::kRequestEntityIncomplete);
  EXPECT_EQ(assembler_.evicted(), 5u);
}

// Random requests of a few peers: never above the limits, and every body that comes out is what its
// peer put in.
TEST(BlockAssembler, StaysWithinItsLimits) {
  const AssemblyLimits limits{.max_body_bytes = 3000,
                              .max_total_bytes = 9000,
                              .max_assemblies = 8,
                              .max_assemblies_per_peer = 3,
                              .protected_time = seconds(0)};
  BlockAssembler assembler(limits);
  std::mt19937 random(3);
  BlockAssembler::TimePoint now{};
  std::size_t whole = 0;
  for (int round = 0; round < 20000; ++round) {
    now += std::chrono::milliseconds(random() % 100);
    const int peer = static_cast<int>(random() % 6);
    Block block{static_cast<std::uint32_t>(random() % 4), random() % 3 != 0,
                static_cast<std::uint8_t>(random() % 7)};
    if (random() % 50 == 0) block.number = random() & Block::kMaxNumber;
    const char fill = static_cast<char>('A' + peer);
    Message request(Code::kPut,
                    std::string(block.more ? block.bytes() : random() % block.bytes(), fill));
    request.SetBlock1(block).SetPath(std::string(random() % 3, 'p'));
    const AssemblyAnswer answer = assembler.Add(Peer(peer), Datagram(request).view(), now);
    ASSERT_LE(assembler.assemblies(), limits.max_assemblies);
    ASSERT_LE(assembler.bytes(), limits.max_total_bytes);
    if (answer.code != Code::kEmpty) continue;
    ++whole;
    ASSERT_LE(answer.body.size(), limits.max_body_bytes);
    ASSERT_EQ(answer.body, std::string(answer.body.size(), fill));
  }
  EXPECT_GT(whole, 1000u);
  EXPECT_GT(assembler.evicted(), 0u);
  assembler.Expire(now + seconds(100));
  EXPECT_EQ(assembler.assemblies(), 0u);
  EXPECT_EQ(assembler.bytes(), 0u);
}

// A client's and a server's side against each other.
TEST(BlockAssembler, GetsWhatIsUploaded) {
  for (const std::size_t bytes : {0u, 16u, 17u, 1024u, 5000u}) {
    for (std::uint8_t theirs = 0; theirs <= 6; ++theirs) {
      for (std::uint8_t ours = 0; ours <= 6; ++ours) {
        BlockAssembler assembler({.exponent = ours});
        std::string body(bytes, '\0');
        for (std::size_t i = 0; i < bytes; ++i) body[i] = static_cast<char>(i * 31);
        BlockUpload upload(body, theirs);
        while (true) {
          const UploadPart part = upload.Next();
          Message request(Code::kPut, std::string(part.part));
          request.SetBlock1(part.block1);
          const AssemblyAnswer answer =
              assembler.Add(Peer(1), Datagram(request).view(), BlockAssembler::TimePoint());
          const bool whole = answer.code == Code::kEmpty;
          const auto step = upload.OnResponse(whole ? Code::kChanged : answer.code, answer.block1);
          ASSERT_NE(step, BlockUpload::Step::kFailed);
          ASSERT_EQ(step == BlockUpload::Step::kDone, whole);
          if (!whole) continue;
          ASSERT_EQ(answer.body, body);
          break;
        }
      }
    }
  }
}

}  // namespace
}  // namespace waxvm::coap
