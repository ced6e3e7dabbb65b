// SPDX-License-Identifier: Apache-2.0
// The codec against the npm package coap-packet, which is installed into the build folder first. It
// takes more than RFC 7252 allows; each such case is named below and must be seen.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/coap/messages.h"
#include "tests/coap/npm.h"
#include "tests/support/process.h"
#include "waxvm/coap_message.h"

namespace waxvm::coap {
namespace {

constexpr int kMessages = 60000;
constexpr char kPackage[] = "coap-packet@1.1.1";

/// What the reader of coap-packet writes of a message.
std::string LineOf(const Fields& fields) {
  const auto shown = [](std::string_view bytes) { return bytes.empty() ? "-" : ToHex(bytes); };
  std::string options;
  for (const auto& [number, value] : fields.options)
    options += absl::StrFormat("%s%d=%s", options.empty() ? "" : ",", number, ToHex(value));
  return absl::StrFormat("%d %d.%02d %d %s %s %s", fields.type, fields.code >> 5, fields.code & 31,
                         fields.id, shown(fields.token), options.empty() ? "-" : options,
                         shown(fields.payload));
}

/// What coap-packet 1.1.1 takes and RFC 7252 does not.
bool IsTakenByCoapPacket(Reason reason) {
  switch (reason) {
    case Reason::kEmptyWithMore:         // only with a token length that nothing follows
    case Reason::kTokenCutOff:           // section 3: a message format error
    case Reason::kOptionValueCutOff:     // section 3.1
    case Reason::kNumberOverflow:        // section 3.1 with 12.2: there is no such number
    case Reason::kMarkerWithoutPayload:  // section 3: a message format error
      return true;
    default:
      return false;
  }
}

TEST(CoapPacket, AgreesButForWhatIsNamed) {
  const std::string why = InstallPackage(WAXVM_NPM_FOLDER, kPackage);
  if (!why.empty()) GTEST_SKIP() << why;
  Generator generator(3);
  std::vector<std::string> datagrams;
  support::RunOptions options;
  options.limit = std::chrono::seconds(100);
  for (int i = 0; i < kMessages; ++i) {
    std::string datagram = WriteSlowly(generator.Make());
    if (generator.Below(3) != 0) datagram = generator.Spoil(std::move(datagram));
    if (i == 0) datagram = std::string("\x41\0\0\1", 4);  // hardly found by chance
    options.input += ToHex(datagram) + '\n';
    datagrams.push_back(std::move(datagram));
  }
  const support::Completed done =
      support::Run({FindProgram("node"), WAXVM_COAP_PACKET_READER, WAXVM_NPM_FOLDER}, options);
  ASSERT_EQ(done.exit_code, 0) << done.error;
  std::istringstream lines(done.output);
  std::map<Reason, int> taken;
  int accepted = 0;
  for (const std::string& datagram : datagrams) {
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    const MessageView ours = MessageView::Parse(
        ToBytes(datagram), {.max_token_bytes = kMaxTokenBytes, .max_options = 65536});
    const Reading truth = ReadSlowly(datagram, true);
    const std::string shown = ToHex(datagram);
    if (truth.reason == Reason::kNone) {
      // Classes and types of codes are not for its codec.
      ASSERT_EQ(line, LineOf(truth.fields)) << shown;
      ASSERT_TRUE(ours.ok() || ours.fault() == WireFault::kReservedCode ||
                  ours.fault() == WireFault::kTypeMismatch)
          << shown;
      accepted += ours.ok();
      continue;
    }
    ASSERT_FALSE(ours.ok()) << shown;
    if (line == "error") continue;
    ASSERT_TRUE(IsTakenByCoapPacket(truth.reason)) << shown << ": " << line;
    ++taken[truth.reason];
  }
  EXPECT_GT(accepted, kMessages / 5);
  for (const Reason reason :
       {Reason::kEmptyWithMore, Reason::kTokenCutOff, Reason::kOptionValueCutOff,
        Reason::kNumberOverflow, Reason::kMarkerWithoutPayload})
    EXPECT_GT(taken[reason], 0) << "coap-packet now agrees about " << static_cast<int>(reason);
}

}  // namespace
}  // namespace waxvm::coap
