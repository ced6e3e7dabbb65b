// SPDX-License-Identifier: Apache-2.0
#include "src/coap/message.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace waxvm::coap {
namespace {

/// Types that a code may come with, as bits. Spec: RFC 7252 table 1, sections 4.2 and 4.3.
constexpr unsigned TypesOf(Code code) {
  constexpr unsigned kCon = 1, kNon = 2, kAck = 4, kRst = 8;
  if (code == Code::kEmpty) return kCon | kAck | kRst;
  return IsRequest(code) ? kCon | kNon : kCon | kNon | kAck;
}

}  // namespace

MessageView MessageView::Parse(Bytes datagram, const ParseLimits& limits) {
  MessageView view;
  if (datagram.size() < kHeaderBytes) return view;
  const std::byte* at = datagram.data();
  const std::byte* const end = at + datagram.size();
  const auto head = static_cast<std::uint32_t>(at[0]);
  if (head >> 6 != 1) return view;
  view.type_ = static_cast<Type>(head >> 4 & 3);
  view.code_ = static_cast<Code>(at[1]);
  view.id_ =
      static_cast<std::uint16_t>(static_cast<unsigned>(at[2]) << 8 | static_cast<unsigned>(at[3]));
  at += kHeaderBytes;
  if (IsReserved(view.code_)) {
    view.fault_ = WireFault::kReservedCode;
    return view;
  }
  if ((TypesOf(view.code_) >> static_cast<unsigned>(view.type_) & 1) == 0) {
    view.fault_ = WireFault::kTypeMismatch;
    return view;
  }
  view.fault_ = WireFault::kFormat;
  std::uint32_t token_bytes = head & 15;
  if (view.is_empty()) {
    if (token_bytes == 0 && at == end) view.fault_ = WireFault::kNone;
    return view;
  }
  // Without RFC 8974 the lengths above 8 are reserved.
  if (token_bytes > 8 && limits.max_token_bytes <= 8) return view;
  if (!TakeExtended(at, end, token_bytes)) return view;
  if (static_cast<std::size_t>(end - at) < token_bytes) return view;
  view.token_ = Bytes(at, token_bytes);
  at += token_bytes;

  const std::byte* const options = at;
  std::uint32_t number = 0;
  std::size_t left = limits.max_options;
  for (; at != end && *at != kPayloadMarker; --left) {
    const std::byte* value = nullptr;
    std::uint32_t length = 0;
    if (left == 0) {
      view.fault_ = WireFault::kTooManyOptions;
      return view;
    }
    if (!TakeOption(at, end, number, value, length)) return view;
    if (number < 64)
      view.present_ |= std::uint64_t{1} << number;
    else
      view.high_critical_ |= (number & 1) != 0;
  }
  const std::byte* const marker = at;
  if (marker != end) {
    // A marker that nothing follows. Spec: RFC 7252 section 3.
    if (marker + 1 == end) return view;
    view.payload_ = Bytes(marker + 1, end);
  }
  view.options_ = Bytes(options, marker);
  view.fault_ = token_bytes > std::max<std::size_t>(limits.max_token_bytes, 8)
                    ? WireFault::kTokenTooLong
                    : WireFault::kNone;
  return view;
}

std::optional<OptionView> MessageView::Find(OptionNumber number) const {
  if (static_cast<unsigned>(number) < 64 && (present_ >> static_cast<unsigned>(number) & 1) == 0)
    return std::nullopt;
  return options().Find(number);
}

std::uint32_t PutExtended(std::size_t value, std::byte*& out) {
  if (value < 13) return static_cast<std::uint32_t>(value);
  if (value < 269) {
    *out++ = static_cast<std::byte>(value - 13);
    return 13;
  }
  *out++ = static_cast<std::byte>((value - 269) >> 8);
  *out++ = static_cast<std::byte>(value - 269);
  return 14;
}

MessageWriter::MessageWriter(std::span<std::byte> out, Type type, Code code, std::uint16_t id,
                             Bytes token)
    : out_(out) {
  if (token.size() > kMaxTokenBytes ||
      !Have(kHeaderBytes + ExtendedBytes(token.size()) + token.size())) {
    ok_ = false;
    return;
  }
  std::byte* at = out_.data() + kHeaderBytes;
  const std::uint32_t field = PutExtended(token.size(), at);
  out_[0] = static_cast<std::byte>(0x40 | static_cast<unsigned>(type) << 4 | field);
  out_[1] = static_cast<std::byte>(code);
  out_[2] = static_cast<std::byte>(id >> 8);
  out_[3] = static_cast<std::byte>(id);
  if (!token.empty()) std::memcpy(at, token.data(), token.size());
  at_ = static_cast<std::size_t>(at - out_.data()) + token.size();
}

bool MessageWriter::Have(std::size_t bytes) {
  if (ok_ && out_.size() - at_ < bytes) ok_ = false;
  return ok_;
}

void MessageWriter::Option(OptionNumber number, Bytes value) {
  const auto wanted = static_cast<std::uint16_t>(number);
  if (payload_ || wanted < last_ || value.size() > kMaxOptionBytes) {
    ok_ = false;
    return;
  }
  const std::size_t delta = wanted - std::size_t{last_};
  if (!Have(1 + ExtendedBytes(delta) + ExtendedBytes(value.size()) + value.size())) return;
  std::byte* const head = out_.data() + at_;
  std::byte* at = head + 1;
  const std::uint32_t delta_field = PutExtended(delta, at);
  const std::uint32_t length_field = PutExtended(value.size(), at);
  *head = static_cast<std::byte>(delta_field << 4 | length_field);
  if (!value.empty()) std::memcpy(at, value.data(), value.size());
  at_ = static_cast<std::size_t>(at - out_.data()) + value.size();
  last_ = wanted;
}

void MessageWriter::UintOption(OptionNumber number, std::uint64_t value) {
  std::byte bytes[8];
  std::size_t begin = 8;
  for (; value != 0; value >>= 8) bytes[--begin] = static_cast<std::byte>(value);
  Option(number, Bytes(bytes).subspan(begin));
}

void MessageWriter::Options(OptionsView options) {
  for (const OptionView& option : options) Option(option.number, option.value);
}

void MessageWriter::Payload(Bytes payload) {
  if (payload.empty()) return;
  if (payload_) ok_ = false;
  if (!Have(1 + payload.size())) return;
  out_[at_] = kPayloadMarker;
  std::memcpy(&out_[at_ + 1], payload.data(), payload.size());
  at_ += 1 + payload.size();
  payload_ = true;
}

std::span<std::byte> MessageWriter::PayloadRoom() {
  if (!ok_ || payload_ || out_.size() - at_ < 2) return {};
  return out_.subspan(at_ + 1);
}

void MessageWriter::CommitPayload(std::size_t bytes) {
  if (bytes == 0) return;
  if (payload_) ok_ = false;
  if (!Have(1) || !(bytes <= out_.size() - at_ - 1)) {
    ok_ = false;
    return;
  }
  out_[at_] = kPayloadMarker;
  at_ += 1 + bytes;
  payload_ = true;
}

}  // namespace waxvm::coap
