// SPDX-License-Identifier: Apache-2.0
// ETSI CoAP plugtest, TD_COAP_BLOCK_01 to 06, in both roles. docs/coap.md has the table.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tests/coap/plugtest.h"

namespace waxvm::coap {
namespace {

using std::chrono::seconds;
using testing::Values;

/// Bytes that are not the same anywhere.
std::string LongText(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + " ";
  text.resize(bytes);
  return text;
}

class PlugtestBlock : public Plugtest {
 protected:
  void ServeLarge(std::size_t bytes) {
    Serve("/large", {Code::kGet}, [this, bytes](const ServedRequest&, Responder& responder) {
      ++handled;
      responder.Send(Code::kContent, ToBytes(LongText(bytes)), ContentFormat::kTextPlain);
    });
  }

  /// Checks the GETs and their answers from datagram `at` on, in blocks of `size`; the first GET
  /// names the size only where `early`. Returns the body.
  std::string ExpectBlock2(std::size_t at, std::size_t size, std::size_t body, bool early,
                           Code method = Code::kGet) {
    std::string text, etag;
    const std::size_t blocks = (body + size - 1) / size;
    for (std::size_t i = 0; i < blocks; ++i) {
      SCOPED_TRACE(i);
      const Captured request = Expect(at + 2 * i, client, Type::kCon, method);
      const auto asked = request.options().block2();
      if (i == 0 && !early) {
        EXPECT_FALSE(asked);
      } else {
        EXPECT_TRUE(asked && asked->number == i && !asked->more && asked->bytes() == size);
      }
      const Captured response = Expect(at + 2 * i + 1, server, Type::kAck, Code::kContent);
      EXPECT_EQ(response.id(), request.id());
      EXPECT_EQ(response.token(), request.token());
      EXPECT_EQ(response.options().content_format(), ContentFormat::kTextPlain);
      const auto block = response.options().block2();
      EXPECT_TRUE(block && block->number == i && block->bytes() == size);
      EXPECT_EQ(block && block->more, i + 1 != blocks);
      EXPECT_TRUE(i + 1 == blocks || response.payload().size() == size);
      // All blocks are of one version.
      if (i == 0) etag = response.options().etag().value_or("none");
      EXPECT_EQ(response.options().etag().value_or("none"), etag);
      text += response.payload();
    }
    return text;
  }

  /// The same of a body that is sent in blocks, whose last answer has `code`.
  std::string ExpectBlock1(std::size_t size, std::size_t body, Code method, Code code) {
    std::string text;
    const std::size_t blocks = (body + size - 1) / size;
    for (std::size_t i = 0; i < blocks; ++i) {
      SCOPED_TRACE(i);
      const bool last = i + 1 == blocks;
      const Captured request = Expect(2 * i, client, Type::kCon, method);
      const auto sent = request.options().block1();
      EXPECT_TRUE(sent && sent->number == i && sent->bytes() == size);
      EXPECT_EQ(sent && sent->more, !last);
      EXPECT_EQ(request.options().content_format(), ContentFormat::kTextPlain);
      EXPECT_TRUE(last || request.payload().size() == size);
      const Captured response =
          Expect(2 * i + 1, server, Type::kAck, last ? code : Code::kContinue);
      EXPECT_EQ(response.id(), request.id());
      EXPECT_EQ(response.token(), request.token());
      const auto block = response.options().block1();
      EXPECT_TRUE(block && block->number == i && block->bytes() <= size);
      EXPECT_EQ(block && block->more, !last);
      text += request.payload();
    }
    return text;
  }

  Message Long(Code method, std::string_view path, std::size_t bytes) {
    Message message(method);
    message.SetPath(path).SetPayload(ContentFormat::kTextPlain, LongText(bytes));
    return message;
  }
};

INSTANTIATE_TEST_SUITE_P(Over, PlugtestBlock, Values(Carrier::kSimulated, Carrier::kLoopback),
                         CarrierName);

TEST_P(PlugtestBlock, Block01EarlyNegotiation) {
  ServeLarge(1280);
  const Heard heard = Ask(Get("/large").SetBlock2({.number = 0, .more = false, .exponent = 2}));
  EXPECT_EQ(heard.code(), Code::kContent);
  EXPECT_EQ(heard.payload(), LongText(1280));
  ExpectSent(40);
  EXPECT_EQ(ExpectBlock2(0, 64, 1280, /*early=*/true), LongText(1280));
}

TEST_P(PlugtestBlock, Block02LateNegotiation) {
  ServeLarge(2500);
  const Heard heard = Ask(Get("/large"));
  EXPECT_EQ(heard.payload(), LongText(2500));
  ExpectSent(6);
  EXPECT_EQ(ExpectBlock2(0, 1024, 2500, /*early=*/false), LongText(2500));
  EXPECT_EQ(handled, 1);
}

TEST_P(PlugtestBlock, Block03Put) {
  std::string stored;
  Serve("/large-update", {Code::kPut}, [&](const ServedRequest& request, Responder& responder) {
    ++handled;
    stored = ToText(request.payload);
    responder.Send(Code::kChanged);
  });
  EXPECT_EQ(Ask(Long(Code::kPut, "/large-update", 3000)).code(), Code::kChanged);
  ExpectSent(6);
  EXPECT_EQ(ExpectBlock1(1024, 3000, Code::kPut, Code::kChanged), LongText(3000));
  EXPECT_EQ(stored, LongText(3000));
  EXPECT_EQ(handled, 1);
}

TEST_P(PlugtestBlock, Block04Post) {
  std::string stored;
  Serve("/large-create", {Code::kPost}, [&](const ServedRequest& request, Responder& responder) {
    stored = ToText(request.payload);
    responder.Send(Message(Code::kCreated).SetLocation("/large-create/1"));
  });
  EXPECT_EQ(Ask(Long(Code::kPost, "/large-create", 3000)).code(), Code::kCreated);
  ExpectSent(6);
  EXPECT_EQ(ExpectBlock1(1024, 3000, Code::kPost, Code::kCreated), LongText(3000));
  EXPECT_EQ(All(Expect(5, server, Type::kAck, Code::kCreated), OptionNumber::kLocationPath),
            (std::vector<std::string>{"large-create", "1"}));
  EXPECT_EQ(stored, LongText(3000));
}

TEST_P(PlugtestBlock, Block05PostInBothDirections) {
  Serve("/large-post", {Code::kPost}, [](const ServedRequest& request, Responder& responder) {
    std::string text(ToText(request.payload));
    std::reverse(text.begin(), text.end());
    responder.Send(Code::kContent, ToBytes(text), ContentFormat::kTextPlain);
  });
  const Heard heard = Ask(Long(Code::kPost, "/large-post", 2100));
  std::string expected = LongText(2100);
  std::reverse(expected.begin(), expected.end());
  EXPECT_EQ(heard.code(), Code::kContent);
  EXPECT_EQ(heard.payload(), expected);
  // Three blocks up; the answer to the last is the first of three blocks down.
  ExpectSent(10);
  EXPECT_EQ(ExpectBlock1(1024, 2100, Code::kPost, Code::kContent), LongText(2100));
  std::string text;
  for (std::size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const Captured request = Expect(4 + 2 * i, client, Type::kCon, Code::kPost);
    const Captured response = Expect(5 + 2 * i, server, Type::kAck, Code::kContent);
    const auto asked = request.options().block2();
    const auto block = response.options().block2();
    if (i != 0) {
      EXPECT_TRUE(asked && asked->number == i && !asked->more && asked->exponent == 6);
      EXPECT_EQ(request.payload(), "");
      EXPECT_FALSE(request.options().block1());
    }
    EXPECT_TRUE(block && block->number == i && block->more == (i != 2) && block->exponent == 6);
    text += response.payload();
  }
  EXPECT_EQ(text, expected);
}

TEST_P(PlugtestBlock, Block06EarlyNegotiationOf16Bytes) {
  ServeLarge(250);
  const Heard heard = Ask(Get("/large").SetBlock2({.number = 0, .more = false, .exponent = 0}));
  EXPECT_EQ(heard.payload(), LongText(250));
  ExpectSent(32);
  EXPECT_EQ(ExpectBlock2(0, 16, 250, /*early=*/true), LongText(250));
}

// All directions at once, losing, repeating and reordering.
TEST(PlugtestBlockLossy, BodiesArriveWholeOrNotAtAll) {
  int whole = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    Wire wire(Carrier::kSimulated, {.loss = 0.2, .duplication = 0.1, .reordering = 0.1}, seed);
    Endpoint& server = wire.Add(PlugtestOptions());
    Endpoint& client = wire.Add();
    int handled = 0;
    Resource resource;
    resource.path = "/mirror";
    resource.methods = {Code::kPost};
    resource.handler = [&](const ServedRequest& request, Responder& responder) {
      ++handled;
      responder.Send(Code::kContent, request.payload, ContentFormat::kTextPlain);
    };
    ASSERT_TRUE(server.Serve(std::move(resource)).ok());
    Message message(Code::kPost);
    message.SetPath("/mirror").SetPayload(ContentFormat::kTextPlain, LongText(10'000));
    const Heard heard = wire.AskOnce(client, server.local_address(), message);
    EXPECT_LE(handled, 1);
    if (heard.status.ok()) {
      EXPECT_EQ(heard.payload(), LongText(10'000));
      ++whole;
      continue;
    }
    // It gives up where one block was sent for the fifth time, and not before.
    EXPECT_EQ(heard.status.code(), absl::StatusCode::kDeadlineExceeded);
    const std::string& last = wire.captured().back().bytes;
    EXPECT_EQ(std::count_if(wire.captured().begin(), wire.captured().end(),
                            [&](const Captured& sent) { return sent.bytes == last; }),
              5)
        << wire.ToText();
  }
  EXPECT_GE(whole, 7);
}

}  // namespace
}  // namespace waxvm::coap
