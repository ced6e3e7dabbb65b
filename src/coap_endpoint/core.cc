// SPDX-License-Identifier: Apache-2.0
#include "src/coap_endpoint/core.h"

#include <algorithm>
#include <array>
#include <utility>

#include "src/base/status.h"

namespace waxvm::coap {
namespace {

// Of datagrams that were not delivered, in one turn: each is looked for among all requests.
constexpr std::size_t kErrorsInTurn = 4;
// Datagrams whose memory is fetched at a time: few enough that it is still there when they are
// handled.
constexpr std::size_t kPrefetched = 16;
// As often as others get the chance to go first.
constexpr int kYields = 100;

}  // namespace

Endpoint::Core::Core(std::unique_ptr<DatagramSocket> socket, std::unique_ptr<MessageLayer> layer,
                     const EndpointOptions& options)
    : options_(options),
      socket_(std::move(socket)),
      layer_(std::move(layer)),
      gate_(std::make_shared<Gate>()),
      out_(*socket_, options.batch, client_),
      server_(*layer_, out_, options_, gate_),
      client_(*layer_, out_, options_) {
  gate_->owner = this;
  gate_->OpenPost(this);
}

Endpoint::Core::~Core() { Close(); }

void Endpoint::Core::Close() {
  stop_ = true;
  socket_->Wake();
  if (thread_.joinable()) thread_.join();
  const auto lock = gate_->Lock();
  if (gate_->owner == nullptr) return;
  gate_->owner = nullptr;
  gate_->OpenPost(nullptr);
  // A turn, so that handlers which ask once more are refused, and do not wait for an answer.
  Take([&](const Turn&) { client_.Close(absl::CancelledError("the endpoint is gone")); });
}

absl::Status Endpoint::Core::Poll(TimePoint deadline) {
  const std::unique_lock<std::mutex> running(running_, std::try_to_lock);
  if (!running) return FailedPrecondition("another thread runs the endpoint");
  return PollLocked(deadline);
}

absl::Status Endpoint::Core::PollLocked(TimePoint deadline) {
  // After a batch that was not full, or a wait, there is likely nothing to receive.
  for (int round = 0; round < 2; ++round) {
    TimePoint until = deadline;
    bool waits = false;
    if (!more_ || round == 1) {
      const auto lock = gate_->Lock();
      until = std::min(deadline, NextDeadlineLocked());
      waits = out_.empty() && !gate_->has_posted && !stop_;
      waiting_ = waits;
    }
    if (waits) {
      const absl::Status status = socket_->Wait(until, false);
      waiting_ = false;
      if (!status.ok()) return status;
    }
    WAXVM_ASSIGN_OR_RETURN(const bool some, TakeTurn());
    if (some || waits) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Endpoint::Core::TakeTurn() {
  // Whoever runs it takes the mutex again and again, and others might never get it.
  for (int i = 0; i < kYields && gate_->waiting.load(std::memory_order_relaxed) != 0; ++i)
    std::this_thread::yield();
  const std::lock_guard lock(gate_->mutex);
  WAXVM_ASSIGN_OR_RETURN(const std::span<const Datagram> came, socket_->Receive(options_.batch));
  more_ = came.size() >= options_.batch;
  const Turn turn = {Now(), out_, *this};
  out_.AllowSending(true);
  turn_ = &turn;
  for (const auto& [answer, response] : gate_->TakePosted())
    server_.SendDeferred(turn, answer, response);
  Receive(turn, came);
  if (NextDeadlineLocked() <= turn.now) {
    layer_->Expire(turn);
    server_.Expire(turn);
    client_.Expire(turn);
  }
  TakeErrors(turn);
  turn_ = nullptr;
  out_.AllowSending(false);
  const bool some = !came.empty() || !out_.empty();
  if (!out_.empty()) WAXVM_RETURN_IF_ERROR(out_.Flush());
  return some;
}

void Endpoint::Core::Receive(const Turn& turn, std::span<const Datagram> datagrams) {
  const auto at = [&](std::size_t i) {
    return MessageLayer::Datagram{.bytes = datagrams[i].bytes, .from = datagrams[i].peer};
  };
  for (std::size_t i = 0; i < datagrams.size(); ++i) {
    if (i % kPrefetched == 0 && datagrams.size() > 1) {
      const std::size_t begin = i;
      layer_->Prefetch(std::min(kPrefetched, datagrams.size() - begin),
                       [&](std::size_t j) { return at(begin + j); });
    }
    const Datagram& datagram = datagrams[i];
    if (datagram.truncated) {
      ++truncated_;
      continue;
    }
    local_ = &datagram.local;
    out_.SetRoute(datagram.peer, datagram.local);
    layer_->Receive(turn, {.bytes = datagram.bytes,
                           .from = datagram.peer,
                           .to_multicast = datagram.local.is_multicast()});
  }
  out_.ForgetRoute();
  local_ = nullptr;
}

void Endpoint::Core::TakeErrors(const Turn& turn) {
  std::array<DatagramError, kErrorsInTurn> errors;
  const std::size_t count = socket_->TakeErrors(errors);
  for (std::size_t i = 0; i < count; ++i)
    client_.OnUndelivered(turn, errors[i].peer, errors[i].status);
}

void Endpoint::Core::Take(absl::FunctionRef<void(const Turn&)> what) {
  if (turn_ != nullptr) return what(*turn_);
  const Turn turn = {Now(), out_, *this};
  turn_ = &turn;
  what(turn);
  turn_ = nullptr;
  // A timer may be due earlier than before, too.
  // An event loop waits whenever it likes, so it is always woken.
  if (waiting_.exchange(false) || watched_) socket_->Wake();
}

Endpoint::TimePoint Endpoint::Core::NextDeadlineLocked() const {
  return std::min({layer_->NextTimer(), server_.NextDeadline(), client_.NextDeadline()});
}

Endpoint::TimePoint Endpoint::Core::NextDeadline() {
  const auto lock = gate_->Lock();
  return out_.empty() && !gate_->has_posted ? NextDeadlineLocked() : TimePoint::min();
}

bool Endpoint::Core::InHandler() {
  const std::unique_lock<std::recursive_mutex> lock(gate_->mutex, std::try_to_lock);
  return lock && turn_ != nullptr;
}

absl::Status Endpoint::Core::Start() {
  {
    const std::unique_lock<std::mutex> running(running_, std::try_to_lock);
    if (!running || thread_.joinable())
      return FailedPrecondition("the endpoint is running already");
    thread_ = std::thread([this] { Run(); });
  }
  // Whoever polls from now on is told so.
  started_.wait(false);
  return absl::OkStatus();
}

void Endpoint::Core::Run() {
  const std::lock_guard<std::mutex> running(running_);
  started_ = true;
  started_.notify_all();
  absl::Status status;
  while (!stop_ && status.ok()) status = PollLocked(TimePoint::max());
  if (stop_) return;
  // Nothing will come any more.
  const auto lock = gate_->Lock();
  Take([&](const Turn&) { client_.CancelAll(status); });
}

EndpointStats Endpoint::Core::stats() {
  const auto lock = gate_->Lock();
  EndpointStats result;
  result.messages = layer_->statistics();
  result.datagrams = socket_->stats();
  result.truncated = truncated_;
  result.unsent = out_.unsent();
  result.requests = client_.size();
  server_.AddStats(result);
  return result;
}

void Endpoint::Core::OnRequest(const Turn& turn, const IncomingRequest& request) {
  server_.OnRequest(turn, request, *local_);
}

void Endpoint::Core::OnResponse(const Turn& turn, const IncomingResponse& response) {
  client_.OnResponse(turn, response);
}

void Endpoint::Core::OnRequestFailed(const Turn& turn, OutgoingId request, std::uint64_t cookie,
                                     Failure failure) {
  client_.OnRequestFailed(turn, request, cookie, failure);
}

void Endpoint::Core::OnMessageEnded(const Turn& turn, OutgoingId, std::uint64_t cookie,
                                    std::optional<Failure> failure) {
  if ((cookie & Client::kCookieBit) != 0) {
    client_.OnMessageEnded(turn, cookie, failure);
  } else {
    server_.OnMessageEnded(turn, cookie, failure);
  }
}

}  // namespace waxvm::coap
