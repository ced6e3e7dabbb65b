// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_endpoint.h"

#include <sys/random.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "src/base/status.h"
#include "src/coap_endpoint/core.h"

namespace waxvm::coap {
namespace {

// How long whoever asks waits for the thread that runs the endpoint, before looking whether it
// still does.
constexpr std::chrono::milliseconds kLookAgain{50};

absl::Status Check(const EndpointOptions& options) {
  if (options.block_exponent > Block::kMaxExponent)
    return InvalidArgument("block_exponent is %d, and must be from 0 to 6", options.block_exponent);
  if (options.batch < 1 || options.batch > 1024)
    return InvalidArgument("batch is %d, and must be from 1 to 1024", options.batch);
  if (!(options.max_requests_per_second >= 0))
    return InvalidArgument("max_requests_per_second is %f, and must not be negative",
                           options.max_requests_per_second);
  if (options.confirm_every == 0) return InvalidArgument("confirm_every is 0");
  return absl::OkStatus();
}

/// What Ask waits for.
struct Asked {
  std::mutex mutex;
  std::condition_variable condition;
  std::optional<absl::StatusOr<Reply>> result;
};

Reply Kept(const Response& response) {
  Reply reply = {.peer = response.peer, .message = Message(response.code)};
  for (const OptionView& option : response.options) reply.message.Add(option.number, option.text());
  reply.message.SetPayload(std::string(ToText(response.payload)));
  return reply;
}

}  // namespace

Endpoint::Endpoint(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Endpoint::~Endpoint() { core_->Close(); }

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Create(std::unique_ptr<DatagramSocket> socket,
                                                           const EndpointOptions& options) {
  if (socket == nullptr) return InvalidArgument("no socket");
  WAXVM_RETURN_IF_ERROR(Check(options));
  std::array<std::uint8_t, 32> seed = {};
  if (options.seed) {
    seed = *options.seed;
  } else if (getrandom(seed.data(), seed.size(), 0) != static_cast<ssize_t>(seed.size())) {
    return ErrnoStatus(errno, "cannot get random bytes");
  }
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<MessageLayer> layer,
                         MessageLayer::Create(options.transmission, options.limits, seed));
  return std::unique_ptr<Endpoint>(
      new Endpoint(std::make_unique<Core>(std::move(socket), std::move(layer), options)));
}

absl::Status Endpoint::Poll(TimePoint deadline) {
  if (core_->InHandler()) return FailedPrecondition("a handler cannot run the endpoint");
  return core_->Poll(deadline);
}
absl::Status Endpoint::Start() { return core_->Start(); }
int Endpoint::descriptor() const { return core_->WatchedDescriptor(); }
Endpoint::TimePoint Endpoint::next_deadline() const { return core_->NextDeadline(); }
SocketAddress Endpoint::local_address() const { return core_->socket().local_address(); }

absl::Status Endpoint::Serve(Resource resource) {
  return core_->TakeFor<absl::Status>(
      [&](const Turn&) { return core_->server().Serve(std::move(resource)); });
}

absl::Status Endpoint::Remove(std::string_view path) {
  return core_->TakeFor<absl::Status>(
      [&](const Turn& turn) { return core_->server().Remove(turn, path); });
}

void Endpoint::ServeProxied(ResourceHandler handler) {
  core_->TakeFor<bool>([&](const Turn&) {
    core_->server().ServeProxied(std::move(handler));
    return true;
  });
}

std::size_t Endpoint::Notify(std::string_view path) {
  return core_->TakeFor<std::size_t>(
      [&](const Turn& turn) { return core_->server().Notify(turn, path, nullptr); });
}

std::size_t Endpoint::Notify(std::string_view path, const Message& message) {
  return core_->TakeFor<std::size_t>(
      [&](const Turn& turn) { return core_->server().Notify(turn, path, &message); });
}

absl::Status Endpoint::Join(const Address& group, std::uint32_t interface) {
  return core_->TakeFor<absl::Status>(
      [&](const Turn&) { return core_->socket().Join(group, interface); });
}

absl::Status Endpoint::Leave(const Address& group, std::uint32_t interface) {
  return core_->TakeFor<absl::Status>(
      [&](const Turn&) { return core_->socket().Leave(group, interface); });
}

absl::StatusOr<RequestId> Endpoint::Request(const SocketAddress& peer, const Message& message,
                                            ResponseHandler handler,
                                            const RequestOptions& options) {
  return core_->TakeFor<absl::StatusOr<RequestId>>([&](const Turn& turn) {
    return core_->client().Request(turn, peer, message, std::move(handler), options);
  });
}

bool Endpoint::Cancel(RequestId id) {
  return core_->TakeFor<bool>([&](const Turn& turn) { return core_->client().Cancel(turn, id); });
}

absl::StatusOr<Reply> Endpoint::Ask(const SocketAddress& peer, const Message& message,
                                    const RequestOptions& options) {
  if (core_->InHandler()) return FailedPrecondition("a handler cannot wait for a response");
  if (options.observe) return InvalidArgument("an observation has more than one response");
  if (Client::WantsNoResponse(message))
    return InvalidArgument("the request wants no response, and so none would ever come");
  // Outlives this call where it ends early.
  const auto asked = std::make_shared<Asked>();
  const auto handler = [asked](const absl::StatusOr<Response>& response) {
    const std::lock_guard<std::mutex> lock(asked->mutex);
    if (asked->result) return;
    asked->result.emplace(response.ok() ? absl::StatusOr<Reply>(Kept(*response))
                                        : absl::StatusOr<Reply>(response.status()));
    asked->condition.notify_all();
  };
  WAXVM_ASSIGN_OR_RETURN(const RequestId id, Request(peer, message, handler, options));
  for (;;) {
    {
      const std::lock_guard<std::mutex> lock(asked->mutex);
      if (asked->result) break;
    }
    const absl::Status status = core_->Poll(TimePoint::max());
    std::unique_lock<std::mutex> lock(asked->mutex);
    if (asked->result) break;
    if (absl::IsFailedPrecondition(status)) {
      asked->condition.wait_for(lock, kLookAgain);
    } else if (!status.ok()) {
      lock.unlock();
      Cancel(id);
      return status;
    }
  }
  // A group goes on answering; the first of them was asked for.
  Cancel(id);
  const std::lock_guard<std::mutex> lock(asked->mutex);
  return *std::move(asked->result);
}

EndpointStats Endpoint::stats() const { return core_->stats(); }

}  // namespace waxvm::coap
