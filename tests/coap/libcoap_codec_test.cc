// SPDX-License-Identifier: Apache-2.0
// The codec against libcoap's, on messages made and spoilt at random: what one accepts the other
// accepts with the same fields, except for the differences below, each of which must be seen.
#include <coap3/coap.h>

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gtest/gtest.h"
#include "tests/coap/messages.h"
#include "waxvm/coap_message.h"

namespace waxvm::coap {
namespace {

constexpr int kMessages = 300000;

struct Pdu {
  Pdu() : pdu(coap_pdu_init(COAP_MESSAGE_CON, COAP_EMPTY_CODE, 0, 70000)) {}
  ~Pdu() { coap_delete_pdu(pdu); }
  Pdu(const Pdu&) = delete;
  Pdu& operator=(const Pdu&) = delete;
  coap_pdu_t* pdu;
};

std::optional<Fields> ReadWithLibcoap(std::string_view datagram) {
  Pdu pdu;
  if (coap_pdu_parse(COAP_PROTO_UDP, reinterpret_cast<const std::uint8_t*>(datagram.data()),
                     datagram.size(), pdu.pdu) == 0)
    return std::nullopt;
  const auto text = [](const std::uint8_t* data, std::size_t size) {
    return std::string(reinterpret_cast<const char*>(data), size);
  };
  Fields fields;
  fields.type = coap_pdu_get_type(pdu.pdu);
  fields.code = coap_pdu_get_code(pdu.pdu);
  fields.id = coap_pdu_get_mid(pdu.pdu);
  const coap_bin_const_t token = coap_pdu_get_token(pdu.pdu);
  fields.token = text(token.s, token.length);
  coap_opt_iterator_t iterator;
  coap_option_iterator_init(pdu.pdu, &iterator, COAP_OPT_ALL);
  while (const coap_opt_t* option = coap_option_next(&iterator))
    fields.options.emplace_back(iterator.number,
                                text(coap_opt_value(option), coap_opt_length(option)));
  std::size_t size = 0;
  const std::uint8_t* data = nullptr;
  if (coap_get_data(pdu.pdu, &size, &data) != 0) fields.payload = text(data, size);
  return fields;
}

Fields FieldsOf(const MessageView& view) {
  Fields fields;
  fields.type = static_cast<int>(view.type());
  fields.code = static_cast<int>(view.code());
  fields.id = view.id();
  fields.token = ToText(view.token());
  for (const OptionView& option : view.options())
    fields.options.emplace_back(static_cast<int>(option.number), option.text());
  fields.payload = ToText(view.payload());
  return fields;
}

/// What libcoap 4.3.1 and RFC 7252 see differently.
enum class Difference {
  /// libcoap takes codes of the classes 1, 3, 6 and 7; section 4.2: a confirmable message with a
  /// reserved class is rejected with a Reset.
  kReservedCode,
  /// libcoap takes a request in an acknowledgement, anything in a Reset, and an empty NON; table 1
  /// and sections 4.2 and 4.3 have them rejected.
  kTypeMismatch,
  /// libcoap takes no message with an option of a wrong length; section 5.4.3: such an option
  /// counts
  /// as one that is not recognized, so that only critical ones matter, and these get 4.02.
  kOptionLength,
  /// libcoap wants at least one byte in a Uri-Query; table 4: 0 to 255.
  kEmptyQuery,
};

/// The lengths that libcoap allows: those of the definitions, but for Uri-Query above, for Echo,
/// which RFC 9175 has begin at one byte, and for the Q-Blocks, which it does not know.
bool LibcoapTakes(const OptionView& option) {
  switch (static_cast<int>(option.number)) {
    case 15:
      return !option.value.empty() && option.HasLegalLength();
    case 19:
    case 31:
      return true;
    case 252:
      return option.value.empty() || option.HasLegalLength();
    default:
      return option.HasLegalLength();
  }
}

std::optional<Difference> DifferenceOf(const MessageView& ours, const Reading& truth) {
  if (truth.reason != Reason::kNone) return std::nullopt;
  if (ours.fault() == WireFault::kReservedCode) return Difference::kReservedCode;
  if (ours.fault() == WireFault::kTypeMismatch) return Difference::kTypeMismatch;
  bool length = false;
  bool query = false;
  for (const OptionView& option : ours.options()) {
    if (LibcoapTakes(option)) continue;
    (option.HasLegalLength() ? query : length) = true;
  }
  if (length) return Difference::kOptionLength;
  if (query) return Difference::kEmptyQuery;
  return std::nullopt;
}

TEST(LibcoapCodec, AgreesButForWhatIsNamed) {
  coap_set_log_level(LOG_EMERG);
  Generator generator(1);
  std::map<Difference, int> seen;
  int accepted = 0;
  for (int i = 0; i < kMessages; ++i) {
    std::string datagram = WriteSlowly(generator.Make());
    if (generator.Below(3) != 0) datagram = generator.Spoil(std::move(datagram));
    const MessageView ours = MessageView::Parse(ToBytes(datagram), {.max_options = 65536});
    const std::optional<Fields> theirs = ReadWithLibcoap(datagram);
    const Reading truth = ReadSlowly(datagram, false);
    const std::string shown = ToHex(datagram);
    if (ours.ok()) {
      ASSERT_EQ(truth.reason, Reason::kNone) << shown;
      ASSERT_EQ(FieldsOf(ours), truth.fields) << shown;
    }
    if (const auto difference = DifferenceOf(ours, truth)) {
      // What is refused here for its code or type may be refused there for an option's length.
      if (ours.ok()) {
        ASSERT_FALSE(theirs) << shown;
      }
      if (ours.ok() != theirs.has_value()) ++seen[*difference];
      continue;
    }
    ASSERT_EQ(ours.ok(), theirs.has_value()) << shown;
    if (!theirs) continue;
    ++accepted;
    ASSERT_EQ(FieldsOf(ours), *theirs) << shown;
  }
  EXPECT_GT(accepted, kMessages / 5);
  for (const Difference difference : {Difference::kReservedCode, Difference::kTypeMismatch,
                                      Difference::kOptionLength, Difference::kEmptyQuery})
    EXPECT_GT(seen[difference], 0)
        << "libcoap now agrees about difference " << static_cast<int>(difference);
}

// Every length of every option that either side knows.
TEST(LibcoapCodec, AllowsTheSameLengths) {
  coap_set_log_level(LOG_EMERG);
  for (int number = 0; number < 2100; ++number) {
    for (const std::size_t size :
         {0u, 1u, 2u, 3u, 4u, 5u, 8u, 9u, 40u, 41u, 255u, 256u, 1034u, 1035u}) {
      Fields fields;
      fields.code = 1;
      fields.options = {{number, std::string(size, 'x')}};
      const OptionView option{static_cast<OptionNumber>(number), ToBytes(fields.options[0].second)};
      ASSERT_EQ(ReadWithLibcoap(WriteSlowly(fields)).has_value(), LibcoapTakes(option))
          << number << " of " << size << " bytes";
    }
  }
}

// What is written here is read there.
TEST(LibcoapCodec, ReadsWhatIsWritten) {
  coap_set_log_level(LOG_EMERG);
  Generator generator(2);
  std::array<std::byte, 8192> buffer;
  int read = 0;
  for (int i = 0; i < kMessages / 10; ++i) {
    const Fields fields = generator.Make();
    MessageWriter writer(buffer, static_cast<Type>(fields.type), static_cast<Code>(fields.code),
                         static_cast<std::uint16_t>(fields.id), ToBytes(fields.token));
    for (const auto& [number, value] : fields.options)
      writer.Option(static_cast<OptionNumber>(number), value);
    writer.Payload(ToBytes(fields.payload));
    ASSERT_EQ(ToText(writer.message()), WriteSlowly(fields));
    const std::optional<Fields> theirs = ReadWithLibcoap(ToText(writer.message()));
    if (!theirs) continue;
    ++read;
    ASSERT_EQ(*theirs, fields);
  }
  EXPECT_GT(read, kMessages / 50);
}

}  // namespace
}  // namespace waxvm::coap
