// SPDX-License-Identifier: Apache-2.0
// The half of an endpoint that asks.
#ifndef WAXVM_SRC_COAP_ENDPOINT_CLIENT_H_
#define WAXVM_SRC_COAP_ENDPOINT_CLIENT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/coap/block.h"
#include "src/coap/message_layer.h"
#include "src/coap/observe_order.h"
#include "src/coap_endpoint/outgoing_batch.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm::coap {

/// Thread safety: none; used under the endpoint's lock.
class Client final : public LocalSource {
 public:
  /// Of cookies of requests, so that they are told from others.
  static constexpr std::uint64_t kCookieBit = std::uint64_t{1} << 63;

  Client(MessageLayer& layer, OutgoingBatch& out, const EndpointOptions& options);

  absl::StatusOr<RequestId> Request(const Turn& turn, const SocketAddress& peer,
                                    const Message& message, ResponseHandler handler,
                                    const RequestOptions& options);
  /// Whether its No-Response option wants nothing at all.
  static bool WantsNoResponse(const Message& message);
  bool Cancel(const Turn& turn, RequestId id);
  /// Tells all handlers that there will be nothing more.
  void CancelAll(const absl::Status& status);
  /// The same, and refuses whatever is asked from then on.
  void Close(const absl::Status& status);

  void OnResponse(const Turn& turn, const IncomingResponse& incoming);
  void OnRequestFailed(const Turn& turn, OutgoingId request, std::uint64_t cookie, Failure failure);
  void OnMessageEnded(const Turn& turn, std::uint64_t cookie, std::optional<Failure> failure);
  /// The network says so of what was sent to `peer`.
  void OnUndelivered(const Turn& turn, const SocketAddress& peer, const absl::Status& status);
  std::chrono::steady_clock::time_point NextDeadline() const;
  void Expire(const Turn& turn);

  void CollectLocals(Locals& locals) const override;
  std::size_t size() const { return used_; }

 private:
  /// What only some requests need.
  struct Transfer {
    std::string upload_body;
    std::optional<BlockUpload> upload;
    std::string request_tag;
    std::optional<BlockDownload> download;
    std::optional<Message> head;              ///< of the response whose blocks are being fetched
    std::optional<OutgoingId> block_request;  ///< beside an observation that goes on
    std::string echo;
    int echoes = 0;
    ObserveOrder order;
    std::chrono::steady_clock::time_point renew_at = std::chrono::steady_clock::time_point::max();
  };
  struct Pending {
    std::string request;  ///< a header, and what the message layer takes as body
    ResponseHandler handler;
    SocketAddress peer;
    RequestOptions options;
    std::uint32_t generation = 0;
    bool used = false;
    bool whole = false;   ///< the caller asks for blocks itself
    bool silent = false;  ///< no response is wanted
    OutgoingId sent{};
    std::unique_ptr<Transfer> transfer;
  };

  absl::Status Check(const SocketAddress& peer, const Message& message,
                     const RequestOptions& options) const;
  std::uint32_t Take();
  void Free(std::uint32_t index);
  std::uint32_t FromCookie(std::uint64_t cookie) const;
  std::uint64_t CookieOf(std::uint32_t index) const {
    return kCookieBit | std::uint64_t{pending_[index].generation} << 32 | index;
  }
  Transfer& TransferOf(Pending& pending);

  /// Sends what is to be sent next.
  absl::Status Step(const Turn& turn, std::uint32_t index);
  Message NextMessage(const Pending& pending) const;
  absl::Status Submit(const Turn& turn, std::uint32_t index, Code code, Bytes body, bool observe);
  bool AnswerEcho(const Turn& turn, std::uint32_t index, const IncomingResponse& incoming);
  void OnUploadResponse(const Turn& turn, std::uint32_t index, const IncomingResponse& incoming);
  void OnBlock(const Turn& turn, std::uint32_t index, const IncomingResponse& incoming);
  void Deliver(const Turn& turn, std::uint32_t index, const Response& response);
  void Fail(const Turn& turn, std::uint32_t index, const absl::Status& status);
  void ScheduleRenewal(const Turn& turn, std::uint32_t index, OptionsView options);
  void Renew(const Turn& turn, std::uint32_t index);

  MessageLayer& layer_;
  OutgoingBatch& out_;
  const EndpointOptions& options_;
  std::vector<Pending> pending_;
  std::vector<std::uint32_t> free_;
  std::size_t used_ = 0;
  std::uint64_t next_tag_ = 0;
  absl::Status closed_;  ///< why nothing can be asked any more
  std::set<std::pair<std::chrono::steady_clock::time_point, std::uint32_t>> renewals_;
  std::vector<std::byte> scratch_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_CLIENT_H_
