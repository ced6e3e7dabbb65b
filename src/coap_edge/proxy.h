// SPDX-License-Identifier: Apache-2.0
// What the gateway does with requests: sans-I/O, on one thread.
#ifndef WAXVM_SRC_COAP_EDGE_PROXY_H_
#define WAXVM_SRC_COAP_EDGE_PROXY_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "src/coap/block_assembler.h"
#include "src/coap_edge/echo.h"
#include "src/coap_edge/exchange_memory.h"
#include "src/coap_edge/outside.h"
#include "src/coap_edge/policy.h"
#include "waxvm/coap_edge.h"

namespace waxvm::coap::edge {

/// Where answers from inside go, from any thread; whoever runs the proxy hands them to OnAnswer.
using AnswerPost =
    std::function<void(std::uint64_t exchange, absl::StatusOr<Message> answer, bool more)>;

/// Thread safety: none.
class Proxy {
 public:
  Proxy(const EdgeOptions& options, Policy policy,
        const std::array<std::uint8_t, EchoIssuer::kKeyBytes>& echo_key, Outside& outside,
        InsideClient& inside, AnswerPost post);
  /// Cancels what is under way inside.
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  void OnRequest(Session& session, OutsideRequest request, TimePoint now);
  void OnAnswer(std::uint64_t exchange, absl::StatusOr<Message> answer, bool more, TimePoint now);
  /// A message with this token was reset, or not acknowledged.
  void OnRejected(SessionId session, const std::string& token);
  void OnClosed(SessionId session);
  void OnTime(TimePoint now);
  TimePoint NextDeadline() const;

  /// Its share of them.
  const EdgeStats& stats();

 private:
  /// What a response has to match.
  struct Asked {
    SessionId session = 0;
    std::string token;
    std::uint16_t mid = 0;
    bool confirmable = false;
    bool acknowledged = false;
    std::size_t wire_bytes = 0;
    std::optional<std::uint32_t> no_response;
    std::optional<Block> block1;
    std::optional<Block> block2;
    std::string body_key;
  };
  struct Exchange {
    Asked asked;
    std::string source;
    bool datagram = false;
    bool wants_notifications = false;
    bool observing = false;
    Decision decision;
    std::uint64_t inside = 0;
    TimePoint deadline;
    std::optional<TimePoint> acknowledge_at;
    TimePoint timer = TimePoint::max();
    // While observing:
    std::uint32_t number = 0;
    std::shared_ptr<const Message> latest;
  };
  using Exchanges = std::map<std::uint64_t, Exchange>;
  struct Source {
    std::size_t requests = 0;
    std::size_t observations = 0;
  };

  // A request, step by step; the first that answers it ends it.
  void Handle(Session& session, OutsideRequest& request, Asked asked, TimePoint now);
  bool RefuseOptions(const MessageView& view, const Asked& asked);
  bool Challenge(Session& session, const Message& message, const Asked& asked, TimePoint now);
  bool AnswerDiscovery(const Session& session, const Message& message, const Asked& asked);
  bool TakeBlock(const MessageView& view, OutsideRequest& request, Asked& asked, TimePoint now);
  bool AnswerFromBody(const Message& message, const Asked& asked, TimePoint now);
  bool RefuseForLimits(const Session& session, const Asked& asked);
  void Forward(Session& session, const Message& message, Asked asked, Decision decision,
               std::uint8_t hop_limit, TimePoint now);

  void Repeat(const Session& session, const OutsideRequest& request,
              const Duplicates::Reply& reply);
  void Answer(const Asked& asked, std::shared_ptr<const Message> whole, TimePoint now,
              std::optional<std::uint32_t> observe = std::nullopt);
  void AnswerCode(const Asked& asked, Code code);
  /// The part of a response that goes into one message.
  Message PartOf(const Asked& asked, const std::shared_ptr<const Message>& whole,
                 std::optional<std::uint32_t> observe, TimePoint now);
  Message ChallengeFor(const Session& session, TimePoint now);
  /// An answer as it may be sent outside.
  std::shared_ptr<const Message> Outward(const Exchange& exchange,
                                         const absl::StatusOr<Message>& answer);
  void Begin(Exchanges::iterator at, std::shared_ptr<const Message> whole, TimePoint now);
  void Notify(Exchanges::iterator at, std::shared_ptr<const Message> whole, bool last,
              TimePoint now);
  void SetTimer(Exchanges::iterator at, TimePoint when);
  void Erase(Exchanges::iterator at, bool cancel);
  void EndObservation(SessionId session, const std::string& token);

  const EdgeLimits limits_;
  const bool verify_before_change_;
  const Policy policy_;
  const EchoIssuer echo_;
  Outside& outside_;
  InsideClient& inside_;
  const AnswerPost post_;

  Duplicates duplicates_;
  Bodies bodies_;
  BlockAssembler assembler_;
  std::uint64_t next_exchange_ = 1;
  Exchanges exchanges_;
  std::set<std::pair<SessionId, std::uint64_t>> by_session_;
  std::set<std::pair<TimePoint, std::uint64_t>> timers_;
  std::map<std::pair<SessionId, std::string>, std::uint64_t> observations_;
  std::map<std::string, Source> sources_;
  /// When a session is sent the next confirmable notification, at the earliest.
  std::map<SessionId, TimePoint> confirmable_at_;
  TimePoint now_;
  EdgeStats stats_;
};

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_PROXY_H_
