// SPDX-License-Identifier: Apache-2.0
// Typed values into real programs and back, and programs whose answers only look like values.
#include "waxvm/value.h"

#include <chrono>
#include <cmath>
#include <limits>

#include "conformance.h"
#include "waxvm/session.h"

namespace waxvm::conformance {
namespace {

std::unique_ptr<Session> Open(const std::shared_ptr<Provider>& provider,
                              const std::optional<Program>& program,
                              const RunOptions& options = {}) {
  auto session = Session::Start(provider, *program, options);
  EXPECT_TRUE(session.ok()) << session.status();
  return session.ok() ? *std::move(session) : nullptr;
}

absl::StatusOr<Value> CallWith(Session& session, std::string_view function, const Value& value) {
  const auto message = EncodeValue(value);
  if (!message.ok()) return message.status();
  const auto answer = session.Call(function, *message);
  if (!answer.ok()) return answer.status();
  return DecodeValue(*answer);
}

Value Nested(int levels) {
  Value value = ValueList{};
  for (int i = 1; i < levels; ++i) value = ValueList{std::move(value)};
  return value;
}

TEST_P(Conformance, ValuesGoThroughProgramsUnchanged) {
  for (const char* guest : {"call_values", "call_values_cpp"}) {
    SCOPED_TRACE(guest);
    WAXVM_NEEDS_PROGRAM(guest);
    const auto session = Open(provider_, Find(guest));
    ASSERT_TRUE(session);
    const char* const function = guest == std::string("call_values") ? "copy" : "same";
    const Value all = ValueMap{{"null", Value()},
                               {"bools", ValueList{true, false}},
                               {"least", std::numeric_limits<std::int64_t>::min()},
                               {"most", std::numeric_limits<std::uint64_t>::max()},
                               {"infinite", std::numeric_limits<double>::infinity()},
                               {"", "\xe2\x82\xac"},
                               {"data", Data{std::string("\0\xff\x80", 3)}},
                               {"maps", ValueList{ValueMap{}, ValueMap{{"in", ValueList{1}}}}}};
    for (const Value& value : {Value(), all, Nested(kMaxValueDepth), Value(ValueList(5'000, all)),
                               Value(Data{std::string(5 << 20, '\xee')})}) {
      const auto back = CallWith(*session, function, value);
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_TRUE(*back == value);
    }
    const auto nan = CallWith(*session, function, std::nan(""));
    ASSERT_TRUE(nan.ok() && nan->As<double>() != nullptr);
    EXPECT_TRUE(std::isnan(*nan->As<double>()));
  }
}

TEST_P(Conformance, ValuesThatProgramsMake) {
  WAXVM_NEEDS_PROGRAM("call_values");
  const auto session = Open(provider_, Find("call_values"));
  ASSERT_TRUE(session);
  const auto kinds = CallWith(*session, "kinds", Value());
  ASSERT_TRUE(kinds.ok()) << kinds.status();
  const ValueList& list = *kinds->Find("list")->As<ValueList>();
  ASSERT_EQ(list.size(), 8u);
  EXPECT_TRUE(list[2] == Value(std::numeric_limits<std::int64_t>::min()));
  EXPECT_TRUE(list[3] == Value(std::numeric_limits<std::uint64_t>::max()));
  EXPECT_TRUE(std::isnan(*list[4].As<double>()));
  EXPECT_TRUE(list[5] == Value(-std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(list[6] == Value(Data{std::string("\0\xff", 2)}));
  EXPECT_TRUE(*kinds->Find("") == Value("\xe2\x82\xac"));

  EXPECT_TRUE(*CallWith(*session, "total", ValueMap{{"count", 2}, {"price", 250}}) ==
              Value(ValueMap{{"total", 500}}));
  EXPECT_TRUE(*CallWith(*session, "nest", kMaxValueDepth) == Nested(kMaxValueDepth));
  const absl::Status deep = CallWith(*session, "nest", kMaxValueDepth + 1).status();
  EXPECT_TRUE(absl::IsResourceExhausted(deep)) << deep;
  const absl::Status none = session->Call("copy", "no value at all").status();
  EXPECT_EQ(none, absl::InvalidArgumentError("the arguments are no value"));
  EXPECT_TRUE(session->health().ok());

  WAXVM_NEEDS_PROGRAM("call_values_cpp");
  const auto cpp = Open(provider_, Find("call_values_cpp"));
  ASSERT_TRUE(cpp);
  const Value counts = ValueMap{{"be", 2}, {"not", 1}, {"or", 1}, {"to", 2}};
  EXPECT_TRUE(*CallWith(*cpp, "count_words", "to be or not to be") == counts);
}

TEST_P(Conformance, ValuesOfHostCallsInsideOfCalls) {
  RunOptions options;
  options.grants = {Function("price", [](const HostCallContext&, std::string_view request) {
    const auto item = DecodeValue(request);
    if (!item.ok()) return absl::StatusOr<std::string>(item.status());
    if (*item == Value("tea")) return EncodeValue(250);
    return absl::StatusOr<std::string>(absl::NotFoundError("none is sold"));
  })};
  WAXVM_NEEDS_PROGRAM("call_values");
  const auto session = Open(provider_, Find("call_values"), options);
  ASSERT_TRUE(session);
  const Value bill = ValueMap{{"item", "tea"}, {"total", 500}};
  EXPECT_TRUE(*CallWith(*session, "order", ValueMap{{"item", "tea"}, {"count", 2}}) == bill);
  const absl::Status sold =
      CallWith(*session, "order", ValueMap{{"item", "x"}, {"count", 2}}).status();
  EXPECT_EQ(sold, absl::NotFoundError("no price"));
  EXPECT_TRUE(absl::IsInvalidArgument(CallWith(*session, "order", ValueList{}).status()));
}

TEST_P(Conformance, AnswersThatOnlyLookLikeValues) {
  WAXVM_NEEDS_PROGRAM("call_values");
  const auto session = Open(provider_, Find("call_values"));
  ASSERT_TRUE(session);
  const auto answer = [&](const char* what) {
    const auto bytes = session->Call("hostile", what);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.ok() ? DecodeValue(*bytes) : bytes.status();
  };
  EXPECT_TRUE(*answer("fine") == Nested(kMaxValueDepth)) << "or those below show nothing";
  for (const char* what : {"bomb", "depth", "very_deep", "loop", "outside", "before", "long_list",
                           "empty_elements", "long_text", "open_text", "no_text", "far", "kind",
                           "capability", "segments", "many", "truncated", "odd", "nothing"}) {
    SCOPED_TRACE(what);
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = answer(what).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_LE(std::chrono::steady_clock::now() - start, std::chrono::seconds(2) * Slowness());
  }
  EXPECT_TRUE(session->health().ok()) << "what it says is its own affair";
}

}  // namespace
}  // namespace waxvm::conformance
