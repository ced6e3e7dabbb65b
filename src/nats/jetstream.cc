// SPDX-License-Identifier: Apache-2.0
#include "src/nats/jetstream.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace waxvm::nats {
namespace {

constexpr std::int64_t kReconnectMilliseconds = 100;
constexpr int kMessagesExceeded = 10077;  // JSStreamStoreFailedErr, also for a full stream

}  // namespace

absl::Status ToStatus(natsStatus status, jsErrCode error, std::string_view what) {
  if (status == NATS_OK) return absl::OkStatus();
  const char* const last = nats_GetLastError(nullptr);
  const std::string text =
      absl::StrFormat("%s: %s%s%s", what, natsStatus_GetText(status), last != nullptr ? ": " : "",
                      last != nullptr ? last : "");
  switch (static_cast<int>(error)) {
    case JSStreamNotFoundErr:
    case JSConsumerNotFoundErr:
    case JSNoMessageFoundErr:
      return absl::NotFoundError(text);
    case JSStreamNameExistErr:
      return absl::AlreadyExistsError(text);
    case kMessagesExceeded:
      return absl::ResourceExhaustedError(text);
    default:
      break;
  }
  if (status == NATS_NOT_FOUND) return absl::NotFoundError(text);
  if (status == NATS_INVALID_ARG) return absl::InvalidArgumentError(text);
  return absl::UnavailableError(text);
}

absl::StatusOr<std::unique_ptr<JetStream>> JetStream::Connect(
    const std::vector<std::string>& servers, std::chrono::milliseconds timeout) {
  natsOptions* made = nullptr;
  if (natsOptions_Create(&made) != NATS_OK) return absl::ResourceExhaustedError("libnats");
  const std::unique_ptr<natsOptions, Destroy<natsOptions_Destroy>> options(made);
  std::vector<const char*> names;
  for (const std::string& server : servers) names.push_back(server.c_str());
  natsStatus status = natsOptions_SetServers(made, names.data(), static_cast<int>(names.size()));
  if (status == NATS_OK) status = natsOptions_SetTimeout(made, timeout.count());
  if (status == NATS_OK) status = natsOptions_SetMaxReconnect(made, -1);
  if (status == NATS_OK) status = natsOptions_SetReconnectWait(made, kReconnectMilliseconds);
  natsConnection* connection = nullptr;
  if (status == NATS_OK) status = natsConnection_Connect(&connection, made);
  if (status != NATS_OK) return ToStatus(status, static_cast<jsErrCode>(0), "NATS");
  std::unique_ptr<JetStream> stream(new JetStream(timeout));
  stream->connection_.reset(connection);
  jsOptions js_options;
  jsOptions_Init(&js_options);
  js_options.Wait = timeout.count();
  jsCtx* context = nullptr;
  status = natsConnection_JetStream(&context, connection, &js_options);
  if (status != NATS_OK) return ToStatus(status, static_cast<jsErrCode>(0), "JetStream");
  stream->context_.reset(context);
  return stream;
}

absl::Status JetStream::AddStream(jsStreamConfig& config) {
  jsErrCode error = {};
  const natsStatus status = js_AddStream(nullptr, context_.get(), &config, nullptr, &error);
  return ToStatus(status, error, config.Name);
}

absl::StatusOr<StreamInfo> JetStream::Stream(const std::string& name) {
  jsErrCode error = {};
  jsStreamInfo* info = nullptr;
  const natsStatus status = js_GetStreamInfo(&info, context_.get(), name.c_str(), nullptr, &error);
  if (status != NATS_OK) return ToStatus(status, error, name);
  return StreamInfo(info);
}

absl::Status JetStream::DeleteStream(const std::string& name) {
  jsErrCode error = {};
  const natsStatus status = js_DeleteStream(context_.get(), name.c_str(), nullptr, &error);
  return ToStatus(status, error, name);
}

absl::StatusOr<std::vector<std::string>> JetStream::StreamNames() {
  jsErrCode error = {};
  jsStreamNamesList* list = nullptr;
  const natsStatus status = js_StreamNames(&list, context_.get(), nullptr, &error);
  if (status == NATS_NOT_FOUND) return std::vector<std::string>();
  if (status != NATS_OK) return ToStatus(status, error, "streams");
  std::vector<std::string> names(list->List, list->List + list->Count);
  jsStreamNamesList_Destroy(list);
  return names;
}

absl::Status JetStream::AddConsumer(const std::string& stream, jsConsumerConfig& config) {
  jsErrCode error = {};
  const natsStatus status =
      js_AddConsumer(nullptr, context_.get(), stream.c_str(), &config, nullptr, &error);
  return ToStatus(status, error, stream);
}

absl::StatusOr<ConsumerInfo> JetStream::Consumer(const std::string& stream,
                                                 const std::string& name) {
  jsErrCode error = {};
  jsConsumerInfo* info = nullptr;
  const natsStatus status =
      js_GetConsumerInfo(&info, context_.get(), stream.c_str(), name.c_str(), nullptr, &error);
  if (status != NATS_OK) return ToStatus(status, error, stream);
  return ConsumerInfo(info);
}

absl::StatusOr<std::vector<std::string>> JetStream::ConsumerNames(const std::string& stream) {
  jsErrCode error = {};
  jsConsumerNamesList* list = nullptr;
  const natsStatus status =
      js_ConsumerNames(&list, context_.get(), stream.c_str(), nullptr, &error);
  if (status == NATS_NOT_FOUND && error == 0) return std::vector<std::string>();
  if (status != NATS_OK) return ToStatus(status, error, stream);
  std::vector<std::string> names(list->List, list->List + list->Count);
  jsConsumerNamesList_Destroy(list);
  return names;
}

absl::Status JetStream::DeleteConsumer(const std::string& stream, const std::string& name) {
  jsErrCode error = {};
  const natsStatus status =
      js_DeleteConsumer(context_.get(), stream.c_str(), name.c_str(), nullptr, &error);
  return ToStatus(status, error, stream);
}

absl::StatusOr<JetStream::Published> JetStream::Publish(natsMsg* message, const std::string& stream,
                                                        const std::string& id) {
  jsPubOptions options;
  jsPubOptions_Init(&options);
  options.MaxWait = timeout_.count();
  options.ExpectStream = stream.c_str();
  if (!id.empty()) options.MsgId = id.c_str();
  jsErrCode error = {};
  jsPubAck* acknowledged = nullptr;
  const natsStatus status = js_PublishMsg(&acknowledged, context_.get(), message, &options, &error);
  if (status != NATS_OK) return ToStatus(status, error, stream);
  const Published published = {.sequence = acknowledged->Sequence,
                               .duplicate = acknowledged->Duplicate};
  jsPubAck_Destroy(acknowledged);
  return published;
}

absl::StatusOr<Message> JetStream::Get(const std::string& stream, std::uint64_t sequence) {
  jsErrCode error = {};
  natsMsg* message = nullptr;
  const natsStatus status =
      js_GetMsg(&message, context_.get(), stream.c_str(), sequence, nullptr, &error);
  if (status != NATS_OK) return ToStatus(status, error, stream);
  return Message(message);
}

absl::Status JetStream::DeleteMessage(const std::string& stream, std::uint64_t sequence) {
  jsErrCode error = {};
  const natsStatus status = js_DeleteMsg(context_.get(), stream.c_str(), sequence, nullptr, &error);
  return ToStatus(status, error, stream);
}

absl::StatusOr<std::vector<Message>> JetStream::Fetch(const std::string& stream,
                                                      const std::string& consumer,
                                                      const std::string& subject, int max,
                                                      std::int64_t max_bytes,
                                                      std::chrono::milliseconds wait) {
  jsSubOptions sub_options;
  jsSubOptions_Init(&sub_options);
  sub_options.Stream = stream.c_str();
  sub_options.Consumer = consumer.c_str();
  sub_options.ManualAck = true;
  jsErrCode error = {};
  natsSubscription* made = nullptr;
  natsStatus status = js_PullSubscribe(&made, context_.get(), subject.c_str(), nullptr, nullptr,
                                       &sub_options, &error);
  if (status != NATS_OK) return ToStatus(status, error, stream);
  const Subscription subscription(made);
  jsFetchRequest request;
  jsFetchRequest_Init(&request);
  request.Batch = max;
  request.MaxBytes = max_bytes;
  request.NoWait = wait.count() == 0;
  // Without waiting, the time for the answer alone.
  request.Expires = std::chrono::nanoseconds(request.NoWait ? timeout_ : wait).count();
  natsMsgList list = {nullptr, 0};
  status = natsSubscription_FetchRequest(&list, made, &request);
  std::vector<Message> messages;
  for (int i = 0; i < list.Count; ++i) messages.emplace_back(std::exchange(list.Msgs[i], nullptr));
  natsMsgList_Destroy(&list);
  if (!messages.empty() || status == NATS_OK || status == NATS_TIMEOUT || status == NATS_NOT_FOUND)
    return messages;
  return ToStatus(status, static_cast<jsErrCode>(0), stream);
}

absl::Status JetStream::Settle(const std::string& reply_to, const std::string& what) {
  natsMsg* answer = nullptr;
  const natsStatus status = natsConnection_RequestString(
      &answer, connection_.get(), reply_to.c_str(), what.c_str(), timeout_.count());
  natsMsg_Destroy(answer);
  return ToStatus(status, static_cast<jsErrCode>(0), "settling");
}

}  // namespace waxvm::nats
