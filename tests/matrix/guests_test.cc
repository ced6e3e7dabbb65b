// SPDX-License-Identifier: Apache-2.0
// Guests of several languages that answer calls, by the C face of the guests' library: bytes, typed
// values, host functions inside of calls that call another instance, snapshots and pools.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "waxvm/pool.h"
#include "waxvm/providers.h"
#include "waxvm/session.h"
#include "waxvm/value.h"

namespace waxvm::matrix {
namespace {

using Reply = absl::StatusOr<std::string>;

struct Guest {
  std::string name;
  std::string path;
  std::string package;
  std::string panics;  ///< what to call with what, so that a function panics
  std::string panic;   ///< what it says then
};
void PrintTo(const Guest& guest, std::ostream* out) { *out << guest.name; }

std::vector<Guest> Guests() {
  const std::string ours = std::string(WAXVM_GUEST_DIR) + "/";
  return {{"cpp", ours + "call_functions_cpp_glibc", "g++", "throw it", "thrown: it"},
          {"rust", ours + "call_functions_rust", "rustc", "sort \xff", "the function panicked"},
          {"go", std::string(WAXVM_MATRIX_PROGRAMS) + "/call_functions_go", "golang-go", "panic ",
           "the function panicked: on purpose"}};
}

class LanguageGuests : public testing::TestWithParam<std::tuple<Guest, bool>> {
 protected:
  void SetUp() override {
    if (access(guest().path.c_str(), X_OK) != 0)
      GTEST_SKIP() << guest().package
                   << " is not installed, or its program is not built: " << guest().path;
    provider_ = std::get<bool>(GetParam()) ? NewMicroVmProvider() : NewProcessProvider();
    if (const absl::Status status = provider_->Available(); !status.ok())
      GTEST_SKIP() << std::string(status.message());
  }
  Guest guest() const { return std::get<Guest>(GetParam()); }

  std::unique_ptr<Session> Start() {
    RunOptions options;
    options.limits.memory_bytes = std::uint64_t{512} << 20;
    options.grants = {
        Clock(), Random(), Function("greet", [this](const HostCallContext&, auto name) {
          return inside_ ? inside_(std::string(name)) : Reply("hello " + std::string(name));
        })};
    auto session = Session::Start(provider_, Program::FromFile(guest().path), options);
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }
  /// A pool, or null where snapshots of this guest are refused, which `why` names.
  std::unique_ptr<Pool> MakePool(std::string& why) {
    const auto session = Start();
    if (session == nullptr) return nullptr;
    auto snapshot = session->TakeSnapshot();
    if (!snapshot.ok()) {
      why = std::string(snapshot.status().message());
      // A provider without snapshots, or a guest of several threads; anything else is a failure.
      EXPECT_TRUE(absl::IsUnimplemented(snapshot.status()) ||
                  (absl::IsFailedPrecondition(snapshot.status()) && why.find("thread") != why.npos))
          << snapshot.status();
      return nullptr;
    }
    auto pool = Pool::Create(*std::move(snapshot), {.max_instances = 8});
    EXPECT_TRUE(pool.ok()) << pool.status();
    return pool.ok() ? *std::move(pool) : nullptr;
  }

  std::shared_ptr<Provider> provider_;
  std::function<Reply(std::string)> inside_;
};

TEST_P(LanguageGuests, AnswerCalls) {
  const auto session = Start();
  ASSERT_TRUE(session);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(*session->Call("sort", "pear fig apple"), "apple fig pear");
    EXPECT_EQ(*session->Call("greet", "you"), "hello you");
  }
  const std::size_t blank = guest().panics.find(' ');
  const absl::Status panicked =
      session->Call(guest().panics.substr(0, blank), guest().panics.substr(blank + 1)).status();
  EXPECT_EQ(panicked, absl::InternalError(guest().panic));
  EXPECT_TRUE(absl::IsNotFound(session->Call("no_such_function", "").status()));
  const auto sum = session->Call("sum", *EncodeValue(ValueList{1, -5, std::uint64_t{46}}));
  ASSERT_TRUE(sum.ok()) << sum.status();
  const auto value = DecodeValue(*sum);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_TRUE(*value == Value(ValueMap{{"sum", 42}, {"count", std::uint64_t{3}}}));
  inside_ = [](const std::string&) { return Reply(absl::NotFoundError("nobody")); };
  EXPECT_EQ(session->Call("greet", "you").status(), absl::NotFoundError("nobody"));
  EXPECT_TRUE(session->health().ok());
}

TEST_P(LanguageGuests, AHostFunctionCallsAnotherInstance) {
  const auto outer = Start(), inner = Start();
  ASSERT_TRUE(outer && inner);
  inside_ = [&](const std::string& words) { return inner->Call("sort", words); };
  EXPECT_EQ(*outer->Call("greet", "to be or"), "be or to");
}

TEST_P(LanguageGuests, APoolOfThem) {
  std::string why;
  const auto pool = MakePool(why);
  if (!why.empty()) GTEST_SKIP() << guest().name << " cannot be in a pool: " << why;
  ASSERT_TRUE(pool);
  inside_ = [&](const std::string& words) { return pool->Call("sort", words); };
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 2; ++t)
      callers.emplace_back([&] {
        for (int i = 0; i < 50; ++i) {
          good += pool->Call("sort", "b a").value_or("") == "a b";
          good += pool->Call("greet", "d c").value_or("") == "c d";
        }
      });
  }
  EXPECT_EQ(good, 200);
  EXPECT_EQ(pool->stats().replaced, 0u);
}

TEST_P(LanguageGuests, ThreadsOfACloneGoOn) {
  if (guest().name != "go") GTEST_SKIP() << "its functions start no threads";
  std::string why;
  const auto session = Start();
  ASSERT_TRUE(session);
  for (int i = 1; i <= 20; ++i)
    ASSERT_EQ(*session->Call("work", ""), std::to_string(i) + " 2359296");
  const auto pool = MakePool(why);
  if (!why.empty()) GTEST_SKIP() << guest().name << " cannot be in a pool: " << why;
  ASSERT_TRUE(pool);
  for (int i = 0; i < 20; ++i) {
    const auto worked = pool->Call("work", "");
    ASSERT_TRUE(worked.ok()) << worked.status();
    EXPECT_EQ(*worked, "1 2359296") << "each call in a fresh state";
  }
}

INSTANTIATE_TEST_SUITE_P(Every, LanguageGuests,
                         testing::Combine(testing::ValuesIn(Guests()), testing::Bool()),
                         [](const auto& test) {
                           return std::get<Guest>(test.param).name +
                                  (std::get<bool>(test.param) ? "_microvm" : "_process");
                         });

}  // namespace
}  // namespace waxvm::matrix
