// SPDX-License-Identifier: Apache-2.0
// Structs of Cap'n Proto as messages: one codec for all that somebody has schemas of, as in
// docs/messaging.md. The object is the message as its words; it is never copied into another form.
#include <capnp/message.h>
#include <capnp/serialize.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "envelope.capnp.h"
#include "src/messaging/messaging_for_test.h"

namespace waxvm {

/// A message of the schema `S`, flat: its words, aligned as a reader needs them.
template <typename S>
struct CapnpMessage {
  std::vector<std::uint64_t> words;

  static CapnpMessage Of(capnp::MallocMessageBuilder& builder) {
    const auto flat = capnp::messageToFlatArray(builder);
    CapnpMessage message = {std::vector<std::uint64_t>(flat.size())};
    std::memcpy(message.words.data(), flat.begin(), flat.asBytes().size());
    return message;
  }
  /// Calls `function` with the root's reader. Errors: kInvalidArgument for what is malformed.
  template <typename F>
  absl::Status Read(F function) const try {
    const auto* const first = reinterpret_cast<const capnp::word*>(words.data());
    const capnp::ReaderOptions options = {.traversalLimitInWords = words.size(),
                                          .nestingLimit = 16};
    capnp::FlatArrayMessageReader reader(kj::arrayPtr(first, words.size()), options);
    function(reader.getRoot<S>());
    return absl::OkStatus();
  } catch (const kj::Exception& thrown) {
    return absl::InvalidArgumentError(thrown.getDescription().cStr());
  }
};

template <typename S>
struct MessageCodec<CapnpMessage<S>> {
  static constexpr MessageType kType = capnp::typeId<S>();
  static absl::StatusOr<std::string> Encode(const CapnpMessage<S>& message) {
    return std::string(reinterpret_cast<const char*>(message.words.data()),
                       message.words.size() * 8);
  }
  static absl::StatusOr<CapnpMessage<S>> Decode(std::string_view bytes) {
    if (bytes.empty() || bytes.size() % 8 != 0)
      return absl::InvalidArgumentError("this is no message of Cap'n Proto");
    CapnpMessage<S> message = {std::vector<std::uint64_t>(bytes.size() / 8)};
    std::memcpy(message.words.data(), bytes.data(), bytes.size());
    return message;
  }
};

namespace messaging {
namespace {

// Any schema would do.
using Struct = CapnpMessage<wire::Envelope>;

TEST(CapnpMessages, ArePassedOnAndSerialised) {
  TestClock clock;
  TestTransport out;
  const auto here = *MessageHub::Create(HubOptions(clock, &out));
  const auto there = *MessageHub::Create(HubOptions(clock));
  const SigningKey keys[] = {KeyOf(1), KeyOf(2), KeyOf(3)};
  const EngineOptions options = {.replay = {.first_start = true}};
  const auto a = *Engine::Create(here.get(), &keys[0], options);
  const auto b = *Engine::Create(here.get(), &keys[1], options);
  const auto c = *Engine::Create(there.get(), &keys[2], options);
  std::vector<std::uint64_t> seen;
  for (Engine* engine : {b.get(), c.get()})
    ASSERT_TRUE(engine
                    ->On<Struct>([&](const Struct& message, const MessageInfo&) {
                      EXPECT_TRUE(message
                                      .Read([&](wire::Envelope::Reader reader) {
                                        seen.push_back(reader.getSequence());
                                      })
                                      .ok());
                    })
                    .ok());
  capnp::MallocMessageBuilder builder;
  builder.initRoot<wire::Envelope>().setSequence(12);
  ASSERT_TRUE(a->Send(b->key(), Struct::Of(builder)).ok());
  ASSERT_TRUE(a->Send(c->key(), Struct::Of(builder)).ok());
  out.DeliverAll(*there);
  EXPECT_EQ(b->Poll(), 1u);
  EXPECT_EQ(c->Poll(), 1u);
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{12, 12}));
}

}  // namespace
}  // namespace messaging
}  // namespace waxvm
