// SPDX-License-Identifier: Apache-2.0
#include "waxvm/mailbox_nats.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/mailbox/checks.h"
#include "src/nats/jetstream.h"
#include "src/nats/stream_text.h"

namespace waxvm {
namespace {

using nats::Decode;
using nats::Describe;
using nats::Encode;
using nats::Hex;
using nats::JetStream;
using nats::Message;
using nats::Understand;
using nats::Unhex;
using std::chrono::milliseconds;

constexpr std::size_t kMaxPayloadBytes = 512 << 10;  // a server takes 1 MiB, headers included
constexpr std::size_t kMaxStreamNameBytes = 255;
constexpr std::size_t kMaxPrefixBytes = 32;
constexpr std::size_t kMacBytes = 16;
constexpr int kMaxAckPending = 10'000;
constexpr milliseconds kSlice{500};  ///< after which a stop is noticed
constexpr char kOnlyGroup[] = "all";

constexpr char kSender[] = "Waxvm-Sender";
constexpr char kOrdering[] = "Waxvm-Ordering";
constexpr char kFormat[] = "Waxvm-Format";
constexpr char kGroup[] = "Waxvm-Group";
constexpr char kReason[] = "Waxvm-Reason";
constexpr char kSequence[] = "Waxvm-Sequence";
constexpr char kDeliveries[] = "Waxvm-Deliveries";
constexpr char kAppended[] = "Waxvm-Appended";

std::int64_t Nanoseconds(milliseconds time) { return std::chrono::nanoseconds(time).count(); }

std::string Header(natsMsg* message, const char* name) {
  const char* value = nullptr;
  return natsMsgHeader_Get(message, name, &value) == NATS_OK && value != nullptr ? value : "";
}

std::uint64_t Number(const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); }

std::string Payload(natsMsg* message) {
  return {natsMsg_GetData(message), static_cast<std::size_t>(natsMsg_GetDataLength(message))};
}

/// What the message itself says; what a delivery says is added.
Delivery ToDelivery(natsMsg* message) {
  Delivery delivery = {.sequence = natsMsg_GetSequence(message),
                       .sender = Unhex(Header(message, kSender)),
                       .payload = Payload(message),
                       .ordering_key = Unhex(Header(message, kOrdering)),
                       .appended_us = natsMsg_GetTime(message) / 1'000};
  if (const std::string format = Header(message, kFormat); !format.empty())
    delivery.format = static_cast<std::uint16_t>(Number(format));
  return delivery;
}

absl::StatusOr<Message> NewMessage(const std::string& subject, const std::string& payload,
                                   const std::map<std::string, std::string>& headers) {
  natsMsg* made = nullptr;
  natsStatus status = natsMsg_Create(&made, subject.c_str(), nullptr, payload.data(),
                                     static_cast<int>(payload.size()));
  Message message(made);
  for (const auto& [name, value] : headers)
    if (status == NATS_OK && !value.empty())
      status = natsMsgHeader_Set(made, name.c_str(), value.c_str());
  if (status != NATS_OK) return nats::ToStatus(status, static_cast<jsErrCode>(0), "a message");
  return message;
}

/// What a receipt says, under a keyed hash.
struct Receipt {
  std::string mailbox, group;
  std::uint64_t sequence = 0;
  std::uint32_t deliveries = 0;
  std::string reply_to;
};

class NatsMailboxes final : public MailboxStore {
 public:
  NatsMailboxes(std::unique_ptr<JetStream> stream, const NatsMailboxOptions& options)
      : options_(options), stream_(std::move(stream)) {
    const std::string& secret = options.receipt_secret;
    if (secret.empty()) {
      randombytes_buf(secret_.data(), secret_.size());
    } else {
      crypto_generichash(secret_.data(), secret_.size(),
                         reinterpret_cast<const unsigned char*>(secret.data()), secret.size(),
                         nullptr, 0);
    }
  }

  absl::Status Create(const std::string& name, const MailboxOptions& options) override {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckName("mailbox", name));
    WAXVM_RETURN_IF_ERROR(mailbox::CheckOptions(options));
    if (Box(name).size() > kMaxStreamNameBytes)
      return InvalidArgument("the name %s is too long for a stream: %d bytes of %d", name,
                             Box(name).size(), kMaxStreamNameBytes);
    const auto there = Options(name);
    if (there.ok() && *there != options)
      return absl::AlreadyExistsError(
          absl::StrFormat("the mailbox %s exists with other options", name));
    if (!there.ok() && !absl::IsNotFound(there.status())) return there.status();
    if (options.max_dead_letters != 0)
      WAXVM_RETURN_IF_ERROR(AddStream(Dead(name), Subject("dead", name), {}, js_LimitsPolicy,
                                      js_DiscardOld,
                                      static_cast<std::int64_t>(options.max_dead_letters)));
    WAXVM_RETURN_IF_ERROR(AddStream(Box(name), Subject("box", name), options,
                                    options.topic ? js_InterestPolicy : js_WorkQueuePolicy,
                                    js_DiscardNew, Limit(options.max_messages)));
    if (options.topic) return absl::OkStatus();
    return AddConsumer(name, kOnlyGroup, options, js_DeliverAll);
  }

  absl::Status Remove(const std::string& name) override {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckName("mailbox", name));
    Forget(name);
    WAXVM_RETURN_IF_ERROR(stream_->DeleteStream(Box(name)));
    const absl::Status dead = stream_->DeleteStream(Dead(name));
    return absl::IsNotFound(dead) ? absl::OkStatus() : dead;
  }

  absl::Status Subscribe(const std::string& topic, const std::string& group,
                         bool from_start) override {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckName("group", group));
    WAXVM_ASSIGN_OR_RETURN(const MailboxOptions options, Options(topic));
    if (!options.topic) return InvalidArgument("%s is a mailbox, which has no groups", topic);
    if (stream_->Consumer(Box(topic), Encode(group)).ok()) return absl::OkStatus();
    return AddConsumer(topic, Encode(group), options, from_start ? js_DeliverAll : js_DeliverNew);
  }
  absl::Status Unsubscribe(const std::string& topic, const std::string& group) override {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckName("group", group));
    return stream_->DeleteConsumer(Box(topic), Encode(group));
  }

  using MailboxStore::Append;
  using MailboxStore::Receive;
  using MailboxStore::Settle;

  void Append(std::vector<MailboxMessage> messages, AppendDone done) override {
    std::vector<absl::StatusOr<Appended>> results;
    const absl::Status count = mailbox::CheckCount(messages.size());
    for (const MailboxMessage& message : messages) {
      if (count.ok()) {
        results.push_back(Put(message));
      } else {
        results.emplace_back(count);
      }
    }
    done(std::move(results));
  }

  void Receive(ReceiveOptions options, ReceiveDone done) override { done(Take(options)); }

  void Settle(std::vector<Settlement> settlements, SettleDone done) override {
    std::vector<absl::Status> results;
    const absl::Status count = mailbox::CheckCount(settlements.size());
    for (const Settlement& settlement : settlements)
      results.push_back(count.ok() ? SettleOne(settlement) : count);
    done(std::move(results));
  }

  absl::StatusOr<std::vector<Appended>> Exchange(std::vector<std::string>,
                                                 std::vector<MailboxMessage>) override {
    return absl::UnimplementedError("JetStream has no transactions over streams");
  }

  absl::StatusOr<std::vector<DeadLetter>> DeadLetters(const std::string& mailbox,
                                                      std::size_t max) override {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckCount(max));
    std::vector<DeadLetter> letters;
    const auto info = stream_->Stream(Dead(mailbox));
    if (absl::IsNotFound(info.status())) {
      WAXVM_RETURN_IF_ERROR(Options(mailbox).status());
      return letters;
    }
    if (!info.ok()) return info.status();
    const jsStreamState& state = (*info)->State;
    for (std::uint64_t id = state.FirstSeq; id <= state.LastSeq && letters.size() < max; ++id) {
      if (state.Msgs == 0) break;
      auto letter = ReadDead(mailbox, id);
      if (absl::IsNotFound(letter.status())) continue;  // was removed
      if (!letter.ok()) return letter.status();
      letters.push_back(*std::move(letter));
    }
    return letters;
  }
  absl::StatusOr<Appended> Requeue(const std::string& mailbox, std::uint64_t id) override {
    WAXVM_ASSIGN_OR_RETURN(DeadLetter letter, ReadDead(mailbox, id));
    // A second attempt after a failure between the two steps appends nothing.
    WAXVM_ASSIGN_OR_RETURN(const Appended appended,
                           Put({.mailbox = mailbox,
                                .sender = letter.message.sender,
                                .payload = letter.message.payload,
                                .idempotency_key = absl::StrFormat("requeue %d", id),
                                .ordering_key = letter.message.ordering_key,
                                .format = letter.message.format}));
    WAXVM_RETURN_IF_ERROR(RemoveDead(mailbox, id));
    return appended;
  }
  absl::Status RemoveDead(const std::string& mailbox, std::uint64_t id) override {
    WAXVM_RETURN_IF_ERROR(ReadDead(mailbox, id).status());
    return stream_->DeleteMessage(Dead(mailbox), id);
  }

  absl::StatusOr<MailboxInfo> Info(const std::string& mailbox) override {
    WAXVM_ASSIGN_OR_RETURN(const MailboxOptions options, Options(mailbox));
    WAXVM_ASSIGN_OR_RETURN(const nats::StreamInfo stream, stream_->Stream(Box(mailbox)));
    MailboxInfo info = {.name = mailbox,
                        .options = options,
                        .next_sequence = stream->State.LastSeq + 1,
                        .messages = stream->State.Msgs,
                        .bytes = stream->State.Bytes};
    if (const auto dead = stream_->Stream(Dead(mailbox)); dead.ok())
      info.dead_letters = (*dead)->State.Msgs;
    WAXVM_ASSIGN_OR_RETURN(const std::vector<std::string> groups,
                           stream_->ConsumerNames(Box(mailbox)));
    for (const std::string& group : groups) {
      WAXVM_ASSIGN_OR_RETURN(const nats::ConsumerInfo consumer,
                             stream_->Consumer(Box(mailbox), group));
      info.groups.push_back({.name = options.topic ? Decode(group) : "",
                             .done_up_to = consumer->AckFloor.Stream,
                             .open = static_cast<std::uint64_t>(consumer->NumAckPending)});
    }
    return info;
  }

  absl::StatusOr<std::vector<std::string>> List() override {
    WAXVM_ASSIGN_OR_RETURN(const std::vector<std::string> streams, stream_->StreamNames());
    std::vector<std::string> names;
    const std::string start = Box("");
    for (const std::string& stream : streams)
      if (stream.starts_with(start)) names.push_back(Decode(stream.substr(start.size())));
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::string Box(const std::string& name) const {
    return options_.prefix + "-box-" + Encode(name);
  }
  std::string Dead(const std::string& name) const {
    return options_.prefix + "-dead-" + Encode(name);
  }
  std::string Subject(const char* kind, const std::string& name) const {
    return absl::StrFormat("%s.%s.%s", options_.prefix, kind, Encode(name));
  }
  static std::int64_t Limit(std::uint64_t limit) {
    return limit == 0 ? -1 : static_cast<std::int64_t>(limit);
  }

  absl::Status AddStream(const std::string& name, const std::string& subject,
                         const MailboxOptions& options, jsRetentionPolicy retention,
                         jsDiscardPolicy discard, std::int64_t max_messages) {
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    const std::string description = Describe(options);
    const char* subjects[] = {subject.c_str()};
    config.Name = name.c_str();
    config.Description = description.c_str();
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Retention = retention;
    config.Discard = discard;
    config.Storage = js_FileStorage;
    config.Replicas = options_.replicas;
    config.MaxMsgs = max_messages;
    config.MaxBytes = Limit(options.max_bytes);
    config.MaxAge = Nanoseconds(options.time_to_live);
    config.Duplicates = Nanoseconds(options.time_to_live.count() == 0
                                        ? options_.key_window
                                        : std::min(options_.key_window, options.time_to_live));
    return stream_->AddStream(config);
  }

  absl::Status AddConsumer(const std::string& mailbox, const std::string& name,
                           const MailboxOptions& options, jsDeliverPolicy from) {
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = name.c_str();
    config.DeliverPolicy = from;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = Nanoseconds(options_.lease);
    config.MaxDeliver = -1;  // whoever receives it once too often makes it a dead letter
    config.MaxAckPending = options.strict ? 1 : kMaxAckPending;
    return stream_->AddConsumer(Box(mailbox), config);
  }

  absl::StatusOr<MailboxOptions> Options(const std::string& name) {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckName("mailbox", name));
    {
      const MutexLock lock(mutex_);
      const auto found = known_.find(name);
      if (found != known_.end()) return found->second;
    }
    const auto stream = stream_->Stream(Box(name));
    if (absl::IsNotFound(stream.status()))
      return absl::NotFoundError(absl::StrFormat("there is no mailbox %s", name));
    if (!stream.ok()) return stream.status();
    const auto options = Understand((*stream)->Config->Description);
    if (!options) return FailedPrecondition("the stream %s is no mailbox", Box(name));
    const MutexLock lock(mutex_);
    if (known_.size() >= kMaxKnown) known_.clear();
    known_[name] = *options;
    return *options;
  }
  void Forget(const std::string& name) {
    const MutexLock lock(mutex_);
    known_.erase(name);
  }

  absl::StatusOr<Appended> Put(const MailboxMessage& message) {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckMessage(message, kMaxPayloadBytes));
    if (message.time_to_live.count() != 0)
      return absl::UnimplementedError(
          "JetStream has a time to live of a mailbox, not of a message");
    WAXVM_RETURN_IF_ERROR(Options(message.mailbox).status());
    WAXVM_ASSIGN_OR_RETURN(
        const Message made,
        NewMessage(Subject("box", message.mailbox), message.payload,
                   {{kSender, Hex(message.sender)},
                    {kOrdering, Hex(message.ordering_key)},
                    {kFormat, message.format ? std::to_string(*message.format) : ""}}));
    const std::string id = message.idempotency_key.empty()
                               ? ""
                               : Hex(message.sender) + "." + Hex(message.idempotency_key);
    const auto published = stream_->Publish(made.get(), Box(message.mailbox), id);
    if (absl::IsNotFound(published.status())) Forget(message.mailbox);
    if (!published.ok()) return published.status();
    return Appended{.sequence = published->sequence, .duplicate = published->duplicate};
  }

  absl::StatusOr<std::vector<Delivery>> Take(const ReceiveOptions& options) {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckReceive(options));
    if (options.lease != options_.lease)
      return absl::UnimplementedError(absl::StrFormat(
          "every lease is of %d ms, not of %d ms", options_.lease.count(), options.lease.count()));
    WAXVM_ASSIGN_OR_RETURN(const MailboxOptions box, Options(options.mailbox));
    if (!box.topic && !options.group.empty())
      return InvalidArgument("%s is a mailbox, which has no groups", options.mailbox);
    if (box.topic && options.group.empty())
      return absl::NotFoundError(absl::StrFormat("there is no group '' of %s", options.mailbox));
    const std::string consumer = box.topic ? Encode(options.group) : kOnlyGroup;
    const auto start = std::chrono::steady_clock::now();
    for (;;) {
      if (options.stop.stop_requested()) return absl::CancelledError("the wait was stopped");
      const auto passed =
          std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
      const milliseconds left = std::max(options.wait - passed, milliseconds(0));
      WAXVM_ASSIGN_OR_RETURN(
          const std::vector<Message> messages,
          stream_->Fetch(Box(options.mailbox), consumer, Subject("box", options.mailbox),
                         static_cast<int>(options.max_messages),
                         static_cast<std::int64_t>(options.max_bytes + kMaxPayloadBytes),
                         std::min(left, kSlice)));
      WAXVM_ASSIGN_OR_RETURN(std::vector<Delivery> out, Hand(options, box, consumer, messages));
      if (!out.empty() || (messages.empty() && left.count() == 0)) return out;
    }
  }

  /// Those that were delivered too often are dead letters, the others are handed out.
  absl::StatusOr<std::vector<Delivery>> Hand(const ReceiveOptions& options,
                                             const MailboxOptions& box, const std::string& consumer,
                                             const std::vector<Message>& messages) {
    std::vector<Delivery> out;
    const std::int64_t until =
        std::chrono::duration_cast<std::chrono::microseconds>(
            (std::chrono::system_clock::now() + options_.lease).time_since_epoch())
            .count();
    for (const Message& message : messages) {
      jsMsgMetaData* data = nullptr;
      if (natsMsg_GetMetaData(&data, message.get()) != NATS_OK)
        return Internal("a delivery does not say what it is");
      const Receipt receipt = {.mailbox = options.mailbox,
                               .group = options.group,
                               .sequence = data->Sequence.Stream,
                               .deliveries = static_cast<std::uint32_t>(data->NumDelivered),
                               .reply_to = natsMsg_GetReply(message.get())};
      const std::int64_t appended_us = data->Timestamp / 1'000;
      jsMsgMetaData_Destroy(data);
      Delivery delivery = ToDelivery(message.get());
      delivery.sequence = receipt.sequence;
      delivery.deliveries = receipt.deliveries;
      delivery.appended_us = appended_us;
      delivery.leased_until_us = until;
      delivery.receipt = Write(receipt);
      if (receipt.deliveries > box.max_deliveries) {
        delivery.deliveries = box.max_deliveries;
        WAXVM_RETURN_IF_ERROR(
            Bury(receipt, delivery,
                 absl::StrFormat("delivered %d times and never acknowledged", box.max_deliveries)));
        continue;
      }
      out.push_back(std::move(delivery));
    }
    if (out.empty()) return out;
    WAXVM_ASSIGN_OR_RETURN(const nats::ConsumerInfo info,
                           stream_->Consumer(Box(options.mailbox), consumer));
    for (Delivery& delivery : out)
      delivery.oldest_open = std::min(info->AckFloor.Stream + 1, delivery.sequence);
    return out;
  }

  std::string Mac(std::string_view text) const {
    std::string mac(kMacBytes, '\0');
    crypto_generichash(reinterpret_cast<unsigned char*>(mac.data()), mac.size(),
                       reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                       secret_.data(), secret_.size());
    return Hex(mac);
  }
  std::string Write(const Receipt& receipt) const {
    const std::string text =
        absl::StrFormat("%s|%s|%d|%d|%s", receipt.mailbox, receipt.group, receipt.sequence,
                        receipt.deliveries, receipt.reply_to);
    return Mac(text) + "|" + text;
  }
  absl::StatusOr<Receipt> Read(std::string_view text) const {
    std::vector<std::string> parts(1);
    for (const char c : text) {
      if (c == '|') {
        parts.emplace_back();
      } else {
        parts.back().push_back(c);
      }
    }
    if (parts.size() != 6 || parts[0].size() != 2 * kMacBytes)
      return absl::PermissionDeniedError("this is no receipt of this store");
    const std::string good = Mac(text.substr(2 * kMacBytes + 1));
    if (sodium_memcmp(good.data(), parts[0].data(), good.size()) != 0)
      return absl::PermissionDeniedError("this is no receipt of this store");
    Receipt receipt;
    receipt.mailbox = parts[1];
    receipt.group = parts[2];
    receipt.sequence = Number(parts[3]);
    receipt.deliveries = static_cast<std::uint32_t>(Number(parts[4]));
    receipt.reply_to = parts[5];
    return receipt;
  }

  absl::Status SettleOne(const Settlement& settlement) {
    WAXVM_RETURN_IF_ERROR(mailbox::CheckSettlement(settlement));
    WAXVM_ASSIGN_OR_RETURN(const Receipt receipt, Read(settlement.receipt));
    if (!settlement.mailbox.empty() && settlement.mailbox != receipt.mailbox)
      return absl::PermissionDeniedError("this is no receipt of this mailbox");
    switch (settlement.kind) {
      case Settlement::Kind::kAcknowledge:
        return stream_->Settle(receipt.reply_to, "+ACK");
      case Settlement::Kind::kExtend:
        if (settlement.time != options_.lease)
          return absl::UnimplementedError(
              absl::StrFormat("a lease is extended by %d ms, not by %d ms", options_.lease.count(),
                              settlement.time.count()));
        return stream_->Settle(receipt.reply_to, "+WPI");
      case Settlement::Kind::kDead:
        return BuryById(receipt, settlement.reason.empty() ? "rejected" : settlement.reason);
      case Settlement::Kind::kReject:
        break;
    }
    WAXVM_ASSIGN_OR_RETURN(const MailboxOptions box, Options(receipt.mailbox));
    if (receipt.deliveries >= box.max_deliveries)
      return BuryById(receipt, absl::StrFormat("rejected in its last delivery, the %d.: %s",
                                               receipt.deliveries, settlement.reason));
    milliseconds delay = settlement.time;
    if (delay.count() == 0) {
      delay = std::min(box.first_back_off, box.max_back_off);
      for (std::uint32_t i = 1; i < receipt.deliveries && delay < box.max_back_off; ++i)
        delay = std::min(2 * delay, box.max_back_off);
    }
    return stream_->Settle(receipt.reply_to,
                           absl::StrFormat("-NAK {\"delay\": %d}", Nanoseconds(delay)));
  }

  absl::Status BuryById(const Receipt& receipt, const std::string& reason) {
    WAXVM_ASSIGN_OR_RETURN(const Message message,
                           stream_->Get(Box(receipt.mailbox), receipt.sequence));
    Delivery delivery = ToDelivery(message.get());
    delivery.sequence = receipt.sequence;
    delivery.deliveries = receipt.deliveries;
    return Bury(receipt, delivery, reason);
  }

  absl::Status Bury(const Receipt& receipt, const Delivery& delivery, const std::string& reason) {
    WAXVM_ASSIGN_OR_RETURN(const MailboxOptions box, Options(receipt.mailbox));
    if (box.max_dead_letters != 0) {
      WAXVM_ASSIGN_OR_RETURN(
          const Message dead,
          NewMessage(Subject("dead", receipt.mailbox), delivery.payload,
                     {{kSender, Hex(delivery.sender)},
                      {kOrdering, Hex(delivery.ordering_key)},
                      {kFormat, delivery.format ? std::to_string(*delivery.format) : ""},
                      {kGroup, receipt.group},
                      {kReason, Hex(reason)},
                      {kSequence, std::to_string(delivery.sequence)},
                      {kDeliveries, std::to_string(delivery.deliveries)},
                      {kAppended, std::to_string(delivery.appended_us)}}));
      // A second attempt within the window adds nothing.
      WAXVM_RETURN_IF_ERROR(
          stream_
              ->Publish(dead.get(), Dead(receipt.mailbox),
                        absl::StrFormat("%s.%d", receipt.group, delivery.sequence))
              .status());
    }
    return stream_->Settle(receipt.reply_to, "+TERM");
  }

  absl::StatusOr<DeadLetter> ReadDead(const std::string& mailbox, std::uint64_t id) {
    WAXVM_RETURN_IF_ERROR(Options(mailbox).status());
    WAXVM_ASSIGN_OR_RETURN(const Message message, stream_->Get(Dead(mailbox), id));
    DeadLetter letter = {.id = id,
                         .group = Header(message.get(), kGroup),
                         .reason = Unhex(Header(message.get(), kReason)),
                         .died_us = natsMsg_GetTime(message.get()) / 1'000,
                         .message = ToDelivery(message.get())};
    letter.message.sequence = Number(Header(message.get(), kSequence));
    letter.message.deliveries =
        static_cast<std::uint32_t>(Number(Header(message.get(), kDeliveries)));
    letter.message.appended_us =
        static_cast<std::int64_t>(Number(Header(message.get(), kAppended)));
    return letter;
  }

  static constexpr std::size_t kMaxKnown = 10'000;
  const NatsMailboxOptions options_;
  std::array<unsigned char, crypto_generichash_KEYBYTES> secret_;
  const std::unique_ptr<JetStream> stream_;
  Mutex mutex_;
  std::map<std::string, MailboxOptions> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<MailboxStore>> OpenNatsMailboxes(const NatsMailboxOptions& options) {
  if (sodium_init() < 0) return absl::UnavailableError("libsodium cannot be used");
  if (options.servers.empty()) return InvalidArgument("there is no server to connect to");
  if (options.replicas != 1 && options.replicas != 3 && options.replicas != 5)
    return InvalidArgument("%d replicas are not 1, 3 or 5", options.replicas);
  if (options.prefix.empty() || options.prefix.size() > kMaxPrefixBytes ||
      Encode(options.prefix) != options.prefix)
    return InvalidArgument("the prefix '%s' is not of 1 to %d letters, digits, - and _",
                           options.prefix, kMaxPrefixBytes);
  if (options.lease < milliseconds(100) || options.lease > mailbox::kMaxLease ||
      options.key_window < milliseconds(100) || options.timeout < milliseconds(1))
    return InvalidArgument("a lease and a window of keys are at least 100 ms");
  auto stream = JetStream::Connect(options.servers, options.timeout);
  if (!stream.ok()) return stream.status();
  return std::make_unique<NatsMailboxes>(*std::move(stream), options);
}

}  // namespace waxvm
