// SPDX-License-Identifier: Apache-2.0
// The half of an endpoint that is asked.
#ifndef WAXVM_SRC_COAP_ENDPOINT_SERVER_H_
#define WAXVM_SRC_COAP_ENDPOINT_SERVER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "src/coap/block_assembler.h"
#include "src/coap/message_layer.h"
#include "src/coap_endpoint/body_store.h"
#include "src/coap_endpoint/observers.h"
#include "src/coap_endpoint/rate_limiter.h"
#include "src/coap_endpoint/resource_table.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/coap_resource.h"

namespace waxvm::coap {

class Server;

/// What of a request is kept while a handler takes its time.
struct DeferredAnswer {
  std::string request;  ///< as a message
  SocketAddress peer;
  SocketAddress local;
  ExchangeId exchange{};
  std::optional<Block> block1;
  std::uint64_t observer = 0;
  bool notification = false;
  bool multicast = false;
};

/// What lets others than the endpoint's own calls in: one at a time, and nobody once it is gone.
struct Gate {
  class Owner {
   public:
    virtual ~Owner() = default;
    /// Called with the mutex held.
    virtual void Take(absl::FunctionRef<void(const Turn&)> what) = 0;
    /// Has what was posted looked at soon. Any thread.
    virtual void Wake() = 0;
  };
  std::recursive_mutex mutex;
  Owner* owner = nullptr;
  /// Threads that want the mutex: who runs the endpoint lets them go first.
  std::atomic<int> waiting = 0;

  std::unique_lock<std::recursive_mutex> Lock() {
    std::unique_lock<std::recursive_mutex> lock(mutex, std::try_to_lock);
    if (lock) return lock;
    waiting.fetch_add(1, std::memory_order_relaxed);
    lock.lock();
    waiting.fetch_sub(1, std::memory_order_relaxed);
    return lock;
  }

  /// Answers that found the mutex taken: whoever runs the endpoint sends them. Nobody who has an
  /// answer waits for a handler, which may itself be waiting for him, or for the lock of another
  /// endpoint that he holds.
  using Posted = std::pair<DeferredAnswer, Message>;
  void Post(Posted answer) {
    const std::lock_guard lock(posted_mutex_);
    if (posted_to_ == nullptr) return;
    posted_.push_back(std::move(answer));
    has_posted.store(true, std::memory_order_release);
    posted_to_->Wake();
  }
  std::vector<Posted> TakePosted() {
    if (!has_posted.load(std::memory_order_acquire)) return {};
    const std::lock_guard lock(posted_mutex_);
    has_posted.store(false, std::memory_order_relaxed);
    return std::exchange(posted_, {});
  }
  void OpenPost(Owner* to) {
    const std::lock_guard lock(posted_mutex_);
    posted_to_ = to;
  }
  std::atomic<bool> has_posted = false;

 private:
  std::mutex posted_mutex_;  ///< nothing is called under it but Wake
  Owner* posted_to_ = nullptr;
  std::vector<Posted> posted_;
};

/// One request that is being answered, or one observer that is being told.
class AnswerContext {
 public:
  AnswerContext(Server& by, const Turn& when, const MessageView& request)
      : server(by), turn(when), message(&request) {}

  Server& server;
  const Turn& turn;
  const MessageView* message;
  SocketAddress peer;
  SocketAddress local;
  ExchangeId exchange{};
  std::optional<Block> block1 = std::nullopt;  ///< what the response says of the request's body
  std::uint64_t observer = 0;                  ///< its cookie; 0: none
  bool notification = false;
  bool multicast = false;
  bool answered = false;
};

/// An answer that somebody owes.
class DeferredState {
 public:
  DeferredState(std::shared_ptr<Gate> to, const AnswerContext& context);
  ~DeferredState();
  DeferredState(const DeferredState&) = delete;
  DeferredState& operator=(const DeferredState&) = delete;

  void Send(const Message& response);

 private:
  std::shared_ptr<Gate> gate_;
  Server* server_;
  DeferredAnswer answer_;
  bool sent_ = false;
};

/// Thread safety: none; used under the endpoint's lock.
class Server {
 public:
  Server(MessageLayer& layer, OutgoingBatch& out, const EndpointOptions& options,
         std::shared_ptr<Gate> gate);

  void OnRequest(const Turn& turn, const IncomingRequest& incoming, const SocketAddress& local);
  void OnMessageEnded(const Turn& turn, std::uint64_t cookie, std::optional<Failure> failure);
  std::chrono::steady_clock::time_point NextDeadline() const;
  void Expire(const Turn& turn);

  absl::Status Serve(Resource resource);
  absl::Status Remove(const Turn& turn, std::string_view path);
  void ServeProxied(ResourceHandler handler) {
    proxy_ = handler ? std::make_shared<ResourceHandler>(std::move(handler)) : nullptr;
  }
  std::size_t Notify(const Turn& turn, std::string_view path, const Message* message);

  void Send(AnswerContext& context, Code code, Bytes payload, std::optional<ContentFormat> format);
  void Send(AnswerContext& context, const Message& response);
  void Ignore(AnswerContext& context);
  DeferredResponder Defer(AnswerContext& context);
  void SendDeferred(const Turn& turn, const DeferredAnswer& answer, const Message& response);

  void AddStats(EndpointStats& stats) const;

 private:
  /// What stands in the way of a request before anybody is asked. True: it was answered.
  bool Refuse(AnswerContext& context, const IncomingRequest& incoming);
  bool RefuseStranger(AnswerContext& context, const IncomingRequest& incoming, bool always);
  /// The same for a block of a body, before that is kept, and the challenge would lose it.
  bool RefuseStrangersBlock(AnswerContext& context, const IncomingRequest& incoming);
  /// Answers from a body that is kept, where the request is for a later block of one.
  bool Continue(AnswerContext& context);
  void Dispatch(AnswerContext& context, const IncomingRequest& incoming, Bytes payload);
  void DispatchProxied(AnswerContext& context, const IncomingRequest& incoming, Bytes payload);
  void Discover(AnswerContext& context);
  bool Fits(AnswerContext& context, const Resource& resource, Bytes payload);
  void Call(AnswerContext& context, ResourceHandler& handler, const ServedRequest& request);

  void NotifyOne(const Turn& turn, std::uint32_t observer, const Message* message);
  /// Tells it what changed as soon as it can be told again.
  void NotifyLater(std::uint32_t observer, const Message* message);
  void Register(AnswerContext& context, const std::shared_ptr<Served>& served);
  void RemoveObserver(const Turn& turn, std::uint32_t observer);
  void Retry(const Turn& turn);

  /// The ways of an answer: plainly, with options that the endpoint adds, in blocks.
  void SendComposed(AnswerContext& context, Message response);
  void SendWhole(AnswerContext& context, const Message& response);
  void SendBlock(AnswerContext& context, Message head, std::shared_ptr<const std::string> body,
                 bool kept);
  void Submit(AnswerContext& context, Code code, Bytes body);
  void SubmitNotification(AnswerContext& context, Code code, Bytes body);
  /// Whether the endpoint has options to add, or a body to cut.
  bool IsPlain(const AnswerContext& context, Bytes payload) const;
  std::string KeyOf(const AnswerContext& context) const;

  MessageLayer& layer_;
  OutgoingBatch& out_;
  const EndpointOptions& options_;
  const std::shared_ptr<Gate> gate_;
  ResourceTable resources_;
  std::shared_ptr<ResourceHandler> proxy_;  ///< kept while it runs, which may put another there
  ObserverRegistry observers_;
  BlockAssembler assembler_;
  BodyStore bodies_;
  RateLimiter limiter_;
  std::vector<std::byte> scratch_;
  std::vector<std::uint64_t> retries_;  ///< observers whose notification found no room
  std::chrono::steady_clock::time_point retry_at_{};
  int notifying_ = 0;
  std::uint64_t handled_ = 0;
  std::uint64_t rate_limited_ = 0;
  std::uint64_t challenged_ = 0;
  std::uint64_t notifications_ = 0;
  std::uint64_t observers_refused_ = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_SERVER_H_
