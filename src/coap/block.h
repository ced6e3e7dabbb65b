// SPDX-License-Identifier: Apache-2.0
// Bodies that are longer than a message: sending and putting together, on either side.
#ifndef WAXVM_SRC_COAP_BLOCK_H_
#define WAXVM_SRC_COAP_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "waxvm/coap_message.h"

namespace waxvm::coap {

/// What a response carries of a body.
struct BlockAnswer {
  /// kContent: as the other fields say. kBadRequest: there is no such block.
  Code code = Code::kContent;
  /// Empty where the whole body is in one message and no block was asked for.
  std::optional<Block> block2 = std::nullopt;
  /// Tells the client how much comes; with the first of several blocks.
  std::optional<std::uint32_t> size2 = std::nullopt;
  std::string_view part = {};
};

/// A body that is served in blocks. Copies share it, so that all blocks of one transfer come from
/// the same body though the resource has changed meanwhile.
/// Thread safety: may be used from any number of threads at once.
/// Spec: RFC 7959 sections 2.2 to 2.4.
class BlockSender {
 public:
  /// `exponent`: the largest blocks that are sent (Block::exponent).
  BlockSender(std::shared_ptr<const std::string> body, std::uint8_t exponent)
      : body_(std::move(body)), exponent_(exponent) {}

  /// `asked`: the Block2 of the request. The part points into the body.
  BlockAnswer Serve(std::optional<Block> asked) const&;
  BlockAnswer Serve(std::optional<Block> asked) const&& = delete;
  std::size_t bytes() const { return body_->size(); }

 private:
  std::shared_ptr<const std::string> body_;
  std::uint8_t exponent_;
};

/// Eight bytes that differ for bodies that differ, except by chance of 2^-64. No defence against
/// somebody who chooses both bodies. Not the same in another version of this library.
std::string ETagOf(std::string_view body);

/// What a client sends of a request's body.
struct UploadPart {
  Block block1;
  /// The length of all of the body, with the first block.
  std::optional<std::uint32_t> size1 = std::nullopt;
  std::string_view part = {};
};

/// A client's side of a request with a long body.
/// Thread safety: none; distinct objects may be used from distinct threads.
/// Spec: RFC 7959 section 2.5.
class BlockUpload {
 public:
  /// The body must outlive it. `exponent`: how large the blocks are unless the server wants less.
  BlockUpload(std::string_view body, std::uint8_t exponent) : body_(body), exponent_(exponent) {}

  /// Whether one message without Block1 does.
  bool fits() const { return body_.size() <= std::size_t{16} << exponent_; }
  /// What is sent next, and again if nothing came back.
  UploadPart Next() const;

  enum class Step { kNext, kDone, kFailed };
  /// Takes the response to what Next() gave. kDone: it is the response to the whole request, also
  /// where the server ended the transfer with an error. kFailed: it makes no sense.
  Step OnResponse(Code code, std::optional<Block> block1);

 private:
  std::string_view body_;
  std::size_t offset_ = 0;
  std::uint8_t exponent_;
  bool restarted_ = false;
};

/// What a server may make a client hold.
struct DownloadLimits {
  std::size_t max_bytes = std::size_t{16} << 20;
  /// How often a transfer begins anew because the resource changed.
  unsigned max_restarts = 3;
};

/// A client's side of a response with a long body: asks for one block after the other, and notices
/// when they are of different bodies.
/// Thread safety: none; distinct objects may be used from distinct threads.
/// Spec: RFC 7959 sections 2.4 and 2.6.
class BlockDownload {
 public:
  explicit BlockDownload(const DownloadLimits& limits = {}) : limits_(limits) {}

  enum class Step { kNext, kDone };
  /// Takes a response. kNext: next() is asked for in a further request; body() is not all yet.
  /// kDone: body() is what the server said. Errors: kResourceExhausted above max_bytes; kAborted
  /// where the resource changed too often; kInvalidArgument for blocks that do not follow each
  /// other.
  absl::StatusOr<Step> OnResponse(OptionsView options, Bytes payload);

  /// The Block2 of the next request.
  Block next() const;
  const std::string& body() const { return body_; }
  std::string TakeBody() { return std::move(body_); }
  unsigned restarts() const { return restarts_; }

 private:
  absl::Status Restart();

  DownloadLimits limits_;
  std::string body_;
  std::optional<std::string> etag_;
  std::optional<ContentFormat> format_;
  std::uint8_t exponent_ = Block::kMaxExponent;
  unsigned restarts_ = 0;
  bool started_ = false;
};

/// A Request-Tag for the `number`th of a client's block-wise requests to one resource, whose blocks
/// a server must not mix with those of the ones before; 0: an empty one. Spec: RFC 9175
/// section 3.4.
std::string RequestTagOf(std::uint64_t number);

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_BLOCK_H_
