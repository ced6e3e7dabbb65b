// SPDX-License-Identifier: Apache-2.0
// What comes in: from the inbox, from elsewhere, and what has waited long enough.
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "src/base/status.h"
#include "src/messaging/engine_impl.h"

namespace waxvm::messaging {
namespace {

// Local messages for each one from elsewhere, which costs as much as some hundred of them.
constexpr std::size_t kLocalInARow = 32;

}  // namespace

std::size_t EngineImpl::Poll(std::size_t most) {
  if (port_->wake) {
    std::uint64_t ignored = 0;
    (void)!read(port_->wake.get(), &ignored, sizeof ignored);
    port_->inbox.Disarm();
  }
  std::size_t handled = 0;
  bool more = true;
  while (more && handled < most) {
    more = false;
    for (std::size_t i = 0; i < kLocalInARow && handled < most && PollInbox(); ++i) {
      ++handled;
      more = true;
    }
    if (PollRemote()) {
      ++handled;
      more = true;
    }
  }
  if (reader_.next_due())
    handled += reader_.Expire(hub_.steady(),
                              [this](const TopicReader::Handed& handed) { HandleTopic(handed); });
  reader_.Tidy();
  replaced_.clear();
  port_->TellRoom();
  if (port_->wake) Sleep(more);
  return handled;
}

/// From now on the descriptor is readable as soon as there is something; or is it already.
void EngineImpl::Sleep(bool more) {
  if (more || !port_->inbox.Arm() || port_->remote.size() > 0) port_->Wake();
}

bool EngineImpl::PollInbox() {
  Letter letter;
  void* const storage = port_->inbox.Front(letter);
  if (storage == nullptr) return false;
  if (letter.operations == nullptr) {
    // Its reference is ours, and the cell somebody else's.
    port_->inbox.PopFront();
    reader_.Take(
        letter.sequence, TopicMessageRef(letter.topic_message), [this] { return hub_.steady(); },
        [this](const TopicReader::Handed& handed) { HandleTopic(handed); });
    return true;
  }
  HandleLetter(letter, storage);
  Inbox::Discard(letter, storage);
  port_->inbox.PopFront();
  return true;
}

EngineImpl::Handler* EngineImpl::FindHandler(const MessageInfo& info) {
  const auto at = handlers_.find(info.type);
  if (at != handlers_.end()) return at->second.get();
  counts_.unknown_types.Add();
  if (info.wants_errors)
    TellError(info, absl::StatusCode::kUnimplemented, "nobody here knows this type of message");
  return nullptr;
}

void EngineImpl::HandleLetter(const Letter& letter, void* storage) {
  MessageInfo info = {.sender = letter.sender,
                      .type = letter.operations->type,
                      .sequence = letter.sequence,
                      .local = true};
  if (letter.extras != nullptr) {
    info.in_reply_to = letter.extras->in_reply_to;
    info.wants_errors = letter.extras->wants_errors;
  }
  Handler* const handler = FindHandler(info);
  if (handler == nullptr) return;
  if (handler->operations == letter.operations) {
    counts_.handled.Add();
    handler->call(storage, /*owned=*/true, info);
    return;
  }
  // Both have a type of their own for this message.
  const auto bytes = letter.operations->encode(storage);
  if (bytes.ok()) return DecodeFor(*handler, *bytes, info);
  counts_.malformed.Add();
  if (info.wants_errors)
    TellError(info, bytes.status().code(),
              {bytes.status().message().data(), bytes.status().message().size()});
}

void EngineImpl::DecodeFor(Handler& handler, std::string_view bytes, const MessageInfo& info) {
  auto message = handler.decode(bytes);
  if (message.ok()) {
    counts_.handled.Add();
    handler.call(message->storage(), /*owned=*/true, info);
    return;
  }
  counts_.malformed.Add();
  if (info.wants_errors)
    TellError(info, absl::StatusCode::kInvalidArgument,
              {message.status().message().data(), message.status().message().size()});
}

void EngineImpl::Dispatch(const EnvelopeFields& fields) {
  const MessageInfo info = {.sender = fields.sender,
                            .type = fields.type,
                            .sequence = fields.sequence,
                            .in_reply_to = fields.in_reply_to,
                            .expires = fields.expires,
                            .encrypted = fields.encrypted,
                            .wants_errors = fields.wants_errors,
                            .dependencies = fields.dependencies};
  if (Handler* const handler = FindHandler(info)) DecodeFor(*handler, fields.payload, info);
}

bool EngineImpl::PollRemote() {
  auto item = port_->remote.Pop();
  if (!item) return false;
  const std::uint64_t now = hub_.now();
  const auto opened =
      OpenEnvelope(std::move(item->envelope), {.now = now,
                                               .kind = DestinationKind::kEngine,
                                               .destination = key(),
                                               .exchange_key = options_.exchange_key});
  if (absl::IsDeadlineExceeded(opened.status())) {
    counts_.expired.Add();
  } else if (!opened.ok() || !hub_.Allows(opened->fields().sender)) {
    counts_.refused.Add();
  } else if (!guard_->Accept(opened->fields(), item->source, now).ok()) {
    counts_.replays.Add();
  } else {
    Dispatch(opened->fields());
  }
  return true;
}

void EngineImpl::HandleTopic(const TopicReader::Handed& handed) {
  const EnvelopeFields& fields = handed.message.fields();
  const bool local = handed.message.local();
  if (!local && fields.expires <= hub_.now()) return counts_.expired.Add();
  const MessageInfo info = {.sender = fields.sender,
                            .topic = &fields.destination,
                            .type = fields.type,
                            .sequence = fields.sequence,
                            .expires = local ? 0 : fields.expires,
                            .local = local,
                            .retained = handed.retained,
                            .dependencies = fields.dependencies,
                            .missing = handed.missing};
  Handler* const handler = FindHandler(info);
  if (handler == nullptr) return;
  const auto object = handed.message.ObjectAs(handler->operations, handler->decode);
  if (!object.ok()) return counts_.malformed.Add();
  counts_.handled.Add();
  handler->call(*object, /*owned=*/false, info);
}

bool EngineImpl::MayTellError() {
  const std::uint64_t second = hub_.steady() / 1'000;
  if (second != std::exchange(error_second_, second)) errors_told_ = 0;
  return ++errors_told_ <= options_.errors_per_second;
}

void EngineImpl::TellError(const MessageInfo& info, absl::StatusCode code, std::string_view text) {
  // Two engines would tell each other for ever.
  if (info.type == MessageError::kMessageType) return;
  // Who sends from elsewhere could have us sign, and send, as much as it likes.
  if (!info.local && !MayTellError()) return counts_.withheld.Add();
  Message message =
      Message::Of(MessageError{.code = code, .text = std::string(text.substr(0, 200))});
  // As secretly as it was asked: an error says who wrote to whom, and may quote what it is about.
  const auto sent =
      SendMessage(info.sender, message, {.encrypt = info.encrypted, .in_reply_to = info.sequence});
  (sent.ok() ? counts_.told : counts_.withheld).Add();
}

}  // namespace waxvm::messaging
