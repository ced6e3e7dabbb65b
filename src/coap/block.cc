// SPDX-License-Identifier: Apache-2.0
#include "src/coap/block.h"

#include <sodium.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "src/base/status.h"

namespace waxvm::coap {
namespace {

/// A length as a Size option holds it; empty where it cannot.
std::optional<std::uint32_t> SizeOption(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(bytes);
}

}  // namespace

BlockAnswer BlockSender::Serve(std::optional<Block> asked) const& {
  const std::string_view body = *body_;
  if (!asked && body.size() <= std::size_t{16} << exponent_) return {.part = body};
  Block block = asked.value_or(Block{.exponent = exponent_});
  if (!block.is_legal()) return {.code = Code::kBadRequest};
  const std::uint64_t offset = block.offset();
  // The first block is there even of an empty body.
  if (offset >= body.size() && offset != 0) return {.code = Code::kBadRequest};
  if (block.exponent > exponent_) block.exponent = exponent_;
  const std::uint64_t number = offset >> (block.exponent + 4);
  // What the numbers of such small blocks cannot reach.
  if (number > Block::kMaxNumber) return {.code = Code::kBadRequest};
  block.number = static_cast<std::uint32_t>(number);
  const std::string_view part = body.substr(static_cast<std::size_t>(offset), block.bytes());
  block.more = offset + part.size() < body.size();
  BlockAnswer answer{.block2 = block, .part = part};
  if (offset == 0 && block.more) answer.size2 = SizeOption(body.size());
  return answer;
}

std::string ETagOf(std::string_view body) {
  // SipHash with a key that everybody knows: a hash of 64 bits, and nothing more is wanted of it.
  static constexpr unsigned char kKey[crypto_shorthash_KEYBYTES] = {'w', 'a', 'x', 'v', 'm'};
  unsigned char hash[crypto_shorthash_BYTES];
  crypto_shorthash(hash, reinterpret_cast<const unsigned char*>(body.data()), body.size(), kKey);
  return std::string(reinterpret_cast<const char*>(hash), sizeof hash);
}

UploadPart BlockUpload::Next() const {
  UploadPart next;
  next.block1.exponent = exponent_;
  next.block1.number = static_cast<std::uint32_t>(offset_ >> (exponent_ + 4));
  next.part = body_.substr(offset_, next.block1.bytes());
  next.block1.more = offset_ + next.part.size() < body_.size();
  if (offset_ == 0 && next.block1.more) next.size1 = SizeOption(body_.size());
  return next;
}

BlockUpload::Step BlockUpload::OnResponse(Code code, std::optional<Block> block1) {
  const UploadPart sent = Next();
  if (block1 && !block1->is_legal()) return Step::kFailed;
  const bool smaller = block1 && block1->exponent < exponent_;
  // Too large, but smaller blocks are offered: from the beginning, once. Spec: section 2.9.3.
  if (code == Code::kRequestEntityTooLarge && smaller && offset_ == 0 && !restarted_) {
    restarted_ = true;
    exponent_ = block1->exponent;
    return Step::kNext;
  }
  if (code != Code::kContinue && !IsSuccess(code)) return Step::kDone;
  if (!sent.block1.more) return code == Code::kContinue ? Step::kFailed : Step::kDone;
  // Another success than 2.31 without Block1 is the answer of a server that knows none of this.
  if (!block1) return code == Code::kContinue ? Step::kFailed : Step::kDone;
  if (block1->number != sent.block1.number) return Step::kFailed;
  const std::size_t offset = offset_ + sent.part.size();
  const std::uint8_t exponent = smaller ? block1->exponent : exponent_;
  // Attack: a server that makes the blocks of a long body so small that their numbers run out.
  if (body_.size() >> (exponent + 4) > Block::kMaxNumber) return Step::kFailed;
  offset_ = offset;
  exponent_ = exponent;
  return Step::kNext;
}

Block BlockDownload::next() const {
  return {.number = static_cast<std::uint32_t>(body_.size() >> (exponent_ + 4)),
          .exponent = exponent_};
}

absl::Status BlockDownload::Restart() {
  // Attack: a server whose resource is another one with each block.
  if (restarts_ == limits_.max_restarts)
    return absl::AbortedError(
        absl::StrFormat("the resource changed %d times while it was read", restarts_ + 1));
  ++restarts_;
  body_.clear();
  started_ = false;
  return absl::OkStatus();
}

absl::StatusOr<BlockDownload::Step> BlockDownload::OnResponse(OptionsView options, Bytes payload) {
  const std::optional<Block> block = options.block2();
  const auto too_long = [&](std::size_t bytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the body has %d bytes, more than %d", bytes, limits_.max_bytes));
  };
  std::optional<std::string> etag;
  if (const auto given = options.etag()) etag.emplace(*given);
  if (!block) {
    // The whole body in one message, which is what a shrunken one comes as as well.
    if (payload.size() > limits_.max_bytes) return too_long(payload.size());
    body_ = ToText(payload);
    return Step::kDone;
  }
  if (!block->is_legal()) return InvalidArgument("Block2 has a reserved size or number");
  if (!started_ && block->number != 0)
    return InvalidArgument("the first block has number %d", block->number);
  if (started_ && (etag != etag_ || options.content_format() != format_)) {
    WAXVM_RETURN_IF_ERROR(Restart());
    // The block at hand is of the new body, and is its first one where it has number 0.
    if (block->number != 0) return Step::kNext;
  }
  if (block->offset() != body_.size())
    return InvalidArgument("a block at byte %d follows byte %d", block->offset(), body_.size());
  // A block that is not full would let a server go on for ever with nothing, and moves the offset.
  if (block->more ? payload.size() != block->bytes() : payload.size() > block->bytes())
    return InvalidArgument("a block of %d bytes has %d", block->bytes(), payload.size());
  if (const auto size = options.size2(); size && *size > limits_.max_bytes) return too_long(*size);
  if (body_.size() + payload.size() > limits_.max_bytes)
    return too_long(body_.size() + payload.size());
  started_ = true;
  etag_ = std::move(etag);
  format_ = options.content_format();
  exponent_ = block->exponent;
  body_ += ToText(payload);
  if (!block->more) return Step::kDone;
  if (next().number > Block::kMaxNumber)
    return InvalidArgument("the body has more blocks than can be numbered");
  return Step::kNext;
}

std::string RequestTagOf(std::uint64_t number) {
  std::string tag;
  for (; number != 0; number >>= 8) tag.insert(tag.begin(), static_cast<char>(number & 0xff));
  return tag;
}

}  // namespace waxvm::coap
