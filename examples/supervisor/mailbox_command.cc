// SPDX-License-Identifier: Apache-2.0
// waxvm mailbox: durable queues in a file.
#include <chrono>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "commands.h"
#include "flags.h"
#include "keys.h"
#include "prepare.h"
#include "waxvm/mailbox_file.h"
#include "words.h"

namespace waxvm::cli {
namespace {

using std::chrono::milliseconds;

constexpr WordFlag kFileFlag = {
    .name = "store", .value = "FILE", .help = "the store (default: ~/.waxvm/mailboxes)"};
constexpr WordFlag kGroupFlag = {.name = "group", .value = "GROUP", .help = "of a topic"};
constexpr WordFlag kReasonFlag = {
    .name = "reason", .value = "TEXT", .help = "kept with a dead letter"};

constexpr WordFlag kCreateFlags[] = {
    kFileFlag,
    {.name = "topic", .value = "", .help = "each group gets every message"},
    {.name = "strict",
     .value = "",
     .help = "no message before the one in front of it is done with"},
    {.name = "max-deliveries", .value = "N", .help = "then it is a dead letter (default: 16)"},
    {.name = "max-messages", .value = "N", .help = "that it holds"},
    {.name = "max-bytes", .value = "SIZE", .help = "that it holds, such as 64MiB"},
    {.name = "ttl", .value = "TIME", .help = "for which a message is kept"}};
constexpr WordFlag kSubscribeFlags[] = {
    kFileFlag,
    {.name = "from-start", .value = "", .help = "also what the topic still has"},
    {.name = "remove", .value = "", .help = "end it"}};
constexpr WordFlag kPutFlags[] = {
    kFileFlag,
    {.name = "sender", .value = "WORD", .help = "whose quota it takes"},
    {.name = "key", .value = "WORD", .help = "another one with it, within 2 minutes, is this one"},
    {.name = "ordering", .value = "WORD", .help = "what it is in order with"},
    {.name = "ttl", .value = "TIME", .help = "for which it is kept"}};
constexpr WordFlag kReceiveFlags[] = {
    kFileFlag,
    kGroupFlag,
    {.name = "max", .value = "N", .help = "messages (default: 1)"},
    {.name = "lease", .value = "TIME", .help = "until it is handed out again (default: 30s)"},
    {.name = "wait", .value = "TIME", .help = "for the first one"},
    {.name = "ack", .value = "", .help = "acknowledge at once what was printed"}};
constexpr WordFlag kAckFlags[] = {kFileFlag};
constexpr WordFlag kRejectFlags[] = {
    kFileFlag,
    kReasonFlag,
    {.name = "delay", .value = "TIME", .help = "until it is handed out again"},
    {.name = "dead", .value = "", .help = "never again: a dead letter"}};
constexpr WordFlag kDeadFlags[] = {
    kFileFlag,
    {.name = "max", .value = "N", .help = "dead letters (default: 100)"},
    {.name = "requeue", .value = "ID", .help = "append this one anew"},
    {.name = "remove", .value = "ID", .help = "forget this one"}};
constexpr WordFlag kStoreFlags[] = {kFileFlag};

absl::StatusOr<std::unique_ptr<MailboxFile>> OpenFile(const Words& words) {
  if (words.Has("store")) return MailboxFile::Open(std::string(words.Get("store")));
  const auto home = HomeFolder();
  if (!home.ok()) return home.status();
  return MailboxFile::Open(*home + "/mailboxes");
}

/// A time such as 250ms; `otherwise` where the flag is not given.
absl::StatusOr<milliseconds> Time(const Words& words, std::string_view flag,
                                  milliseconds otherwise) {
  if (!words.Has(flag)) return otherwise;
  const auto time = ParseDuration(words.Get(flag));
  if (!time.ok())
    return absl::InvalidArgumentError(
        absl::StrFormat("--%s: %s", flag, std::string(time.status().message())));
  return std::chrono::ceil<milliseconds>(*time);
}

absl::StatusOr<std::string> OneName(const Words& words, std::string_view usage) {
  if (words.positional().size() == 1) return std::string(words.positional()[0]);
  return absl::InvalidArgumentError(absl::StrFormat("write waxvm mailbox %s", usage));
}

/// A status of the store: what it refused has its own exit code.
absl::StatusOr<int> Ended(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) return status;
  return Fail(kExitRefused, status);
}

absl::StatusOr<int> Printed(const Json& fields, const Words& words) {
  const absl::Status printed = PrintFields(fields, words.json());
  if (!printed.ok()) return printed;
  return kExitOk;
}

/// What would move a terminal's cursor, or forge the next line.
bool HasControls(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte < 0x20 || byte == 0x7f || (byte == 0xc2 && next >= 0x80 && next < 0xa0)) return true;
  }
  return false;
}

/// Bytes from anybody: those that are no text are in hexadecimal, as NAME_hex.
void AddText(Json& fields, std::string_view name, const std::string& bytes, bool json) {
  try {
    const Json text = bytes;
    (void)text.dump();
    if (json || !HasControls(bytes)) {
      fields[std::string(name)] = text;
      return;
    }
  } catch (const Json::exception&) {
    // No UTF-8.
  }
  fields[std::string(name) + "_hex"] = Hex(bytes);
}

Json ToJson(const Delivery& delivery, bool json) {
  Json fields = {{"sequence", delivery.sequence}};
  if (!delivery.sender.empty()) AddText(fields, "sender", delivery.sender, json);
  if (!delivery.ordering_key.empty()) AddText(fields, "ordering", delivery.ordering_key, json);
  fields["deliveries"] = delivery.deliveries;
  if (!delivery.receipt.empty()) fields["receipt"] = delivery.receipt;
  AddText(fields, "payload", delivery.payload, json);
  return fields;
}

/// One object with a list, or the fields of each with an empty line between.
absl::StatusOr<int> PrintList(std::string_view name, const Json& list, const Words& words) {
  if (words.json()) return Printed({{name, list}}, words);
  bool first = true;
  for (const Json& fields : list) {
    if (!std::exchange(first, false)) absl::PrintF("\n");
    const absl::Status printed = PrintFields(fields, false);
    if (!printed.ok()) return printed;
  }
  return kExitOk;
}

absl::StatusOr<int> CreateMailbox(const Words& words) {
  const auto name = OneName(words, "create MAILBOX");
  if (!name.ok()) return name.status();
  MailboxOptions options = {.topic = words.Has("topic"), .strict = words.Has("strict")};
  const auto deliveries = words.Number("max-deliveries", options.max_deliveries, 1'000'000);
  if (!deliveries.ok()) return deliveries.status();
  options.max_deliveries = static_cast<std::uint32_t>(*deliveries);
  const auto messages = words.Number("max-messages", 0, 1ull << 62);
  if (!messages.ok()) return messages.status();
  options.max_messages = *messages;
  if (words.Has("max-bytes")) {
    const auto bytes = ParseBytes(words.Get("max-bytes"));
    if (!bytes.ok()) return bytes.status();
    options.max_bytes = *bytes;
  }
  const auto ttl = Time(words, "ttl", milliseconds(0));
  if (!ttl.ok()) return ttl.status();
  options.time_to_live = *ttl;
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const absl::Status created = (*file)->Create(*name, options);
  if (!created.ok()) return Ended(created);
  return Printed({{"created", *name}}, words);
}

absl::StatusOr<int> RemoveMailbox(const Words& words) {
  const auto name = OneName(words, "remove MAILBOX");
  if (!name.ok()) return name.status();
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const absl::Status removed = (*file)->Remove(*name);
  if (!removed.ok()) return Ended(removed);
  return Printed({{"removed", *name}}, words);
}

absl::StatusOr<int> SubscribeGroup(const Words& words) {
  if (words.positional().size() != 2)
    return absl::InvalidArgumentError("write waxvm mailbox subscribe TOPIC GROUP");
  const std::string topic(words.positional()[0]);
  const std::string group(words.positional()[1]);
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const bool removes = words.Has("remove");
  const absl::Status done = removes ? (*file)->Unsubscribe(topic, group)
                                    : (*file)->Subscribe(topic, group, words.Has("from-start"));
  if (!done.ok()) return Ended(done);
  return Printed({{removes ? "unsubscribed" : "subscribed", group}}, words);
}

absl::StatusOr<int> Put(const Words& words) {
  const auto& given = words.positional();
  if (given.empty() || given.size() > 2)
    return absl::InvalidArgumentError("write waxvm mailbox put MAILBOX [TEXT]");
  MailboxMessage message = {.mailbox = std::string(given[0]),
                            .sender = std::string(words.Get("sender")),
                            .idempotency_key = std::string(words.Get("key")),
                            .ordering_key = std::string(words.Get("ordering"))};
  const auto ttl = Time(words, "ttl", milliseconds(0));
  if (!ttl.ok()) return ttl.status();
  message.time_to_live = *ttl;
  if (given.size() == 2) {
    message.payload = given[1];
  } else {
    // One byte more than fits is enough to be refused.
    message.payload.resize((MailboxFileOptions().max_payload_bytes) + 1);
    std::cin.read(message.payload.data(), static_cast<std::streamsize>(message.payload.size()));
    message.payload.resize(static_cast<std::size_t>(std::cin.gcount()));
  }
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const auto info = (*file)->Info(message.mailbox);
  if (absl::IsNotFound(info.status())) {
    const absl::Status created = (*file)->Create(message.mailbox, {});
    if (!created.ok()) return Ended(created);
  }
  const auto appended = (*file)->AppendOne(std::move(message));
  if (!appended.ok()) return Ended(appended.status());
  return Printed({{"sequence", appended->sequence}, {"duplicate", appended->duplicate}}, words);
}

absl::StatusOr<int> ReceiveMessages(const Words& words) {
  const auto name = OneName(words, "receive MAILBOX");
  if (!name.ok()) return name.status();
  ReceiveOptions options = {.mailbox = *name, .group = std::string(words.Get("group"))};
  const auto max = words.Number("max", 1, 4'096);
  if (!max.ok()) return max.status();
  options.max_messages = *max;
  const auto lease = Time(words, "lease", options.lease);
  if (!lease.ok()) return lease.status();
  options.lease = *lease;
  const auto wait = Time(words, "wait", options.wait);
  if (!wait.ok()) return wait.status();
  options.wait = *wait;
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const auto got = (*file)->Receive(options);
  if (!got.ok()) return Ended(got.status());
  Json messages = Json::array();
  for (const Delivery& delivery : *got) messages.push_back(ToJson(delivery, words.json()));
  const auto printed = PrintList("messages", messages, words);
  if (!printed.ok() || !words.Has("ack")) return printed;
  std::vector<Settlement> settlements;
  for (const Delivery& delivery : *got) settlements.push_back({.receipt = delivery.receipt});
  for (const absl::Status& status : (*file)->Settle(std::move(settlements)))
    if (!status.ok()) return Ended(status);
  return kExitOk;
}

absl::StatusOr<int> SettleAll(const Words& words, const Settlement& how, std::string_view done) {
  if (words.positional().empty())
    return absl::InvalidArgumentError("write the receipts that waxvm mailbox receive printed");
  std::vector<Settlement> settlements;
  for (const std::string_view receipt : words.positional()) {
    settlements.push_back(how);
    settlements.back().receipt = receipt;
  }
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const auto count = settlements.size();
  for (const absl::Status& status : (*file)->Settle(std::move(settlements)))
    if (!status.ok()) return Ended(status);
  return Printed({{done, count}}, words);
}

absl::StatusOr<int> Acknowledge(const Words& words) {
  return SettleAll(words, {.kind = Settlement::Kind::kAcknowledge}, "acknowledged");
}

absl::StatusOr<int> Reject(const Words& words) {
  const auto delay = Time(words, "delay", milliseconds(0));
  if (!delay.ok()) return delay.status();
  const auto kind = words.Has("dead") ? Settlement::Kind::kDead : Settlement::Kind::kReject;
  return SettleAll(words,
                   {.kind = kind, .time = *delay, .reason = std::string(words.Get("reason"))},
                   "rejected");
}

absl::StatusOr<int> Dead(const Words& words) {
  const auto name = OneName(words, "dead MAILBOX");
  if (!name.ok()) return name.status();
  const auto max = words.Number("max", 100, 4'096);
  if (!max.ok()) return max.status();
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  if (words.Has("requeue")) {
    const auto id = words.Number("requeue", 0, ~0ull);
    if (!id.ok()) return id.status();
    const auto appended = (*file)->Requeue(*name, *id);
    if (!appended.ok()) return Ended(appended.status());
    return Printed({{"sequence", appended->sequence}}, words);
  }
  if (words.Has("remove")) {
    const auto id = words.Number("remove", 0, ~0ull);
    if (!id.ok()) return id.status();
    const absl::Status removed = (*file)->RemoveDead(*name, *id);
    if (!removed.ok()) return Ended(removed);
    return Printed({{"removed", *id}}, words);
  }
  const auto letters = (*file)->DeadLetters(*name, *max);
  if (!letters.ok()) return Ended(letters.status());
  Json list = Json::array();
  for (const DeadLetter& letter : *letters) {
    Json fields = {{"id", letter.id}};
    AddText(fields, "reason", letter.reason, words.json());
    if (!letter.group.empty()) fields["group"] = letter.group;
    fields.update(ToJson(letter.message, words.json()));
    list.push_back(std::move(fields));
  }
  return PrintList("dead", list, words);
}

absl::StatusOr<int> ListMailboxes(const Words& words) {
  if (!words.positional().empty()) return absl::InvalidArgumentError("write waxvm mailbox list");
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const auto names = (*file)->List();
  if (!names.ok()) return names.status();
  Json list = Json::array();
  for (const std::string& name : *names) {
    const auto info = (*file)->Info(name);
    if (!info.ok()) return info.status();
    Json fields = {{"name", name},
                   {"topic", info->options.topic},
                   {"messages", info->messages},
                   {"bytes", info->bytes},
                   {"dead", info->dead_letters},
                   {"next_sequence", info->next_sequence}};
    Json groups = Json::array();
    for (const MailboxInfo::Group& group : info->groups)
      groups.push_back(
          {{"name", group.name}, {"done_up_to", group.done_up_to}, {"open", group.open}});
    fields["groups"] = groups;
    if (!words.json())
      absl::PrintF("%-32s %s %8d messages %10d bytes %6d dead\n", name,
                   info->options.topic ? "topic  " : "mailbox", info->messages, info->bytes,
                   info->dead_letters);
    list.push_back(std::move(fields));
  }
  if (!words.json()) return kExitOk;
  return Printed({{"mailboxes", list}}, words);
}

absl::StatusOr<int> Stats(const Words& words) {
  if (!words.positional().empty()) return absl::InvalidArgumentError("write waxvm mailbox stats");
  const auto file = OpenFile(words);
  if (!file.ok()) return file.status();
  const MailboxFileStats stats = (*file)->Stats();
  return Printed({{"mailboxes", stats.mailboxes},
                  {"messages", stats.messages},
                  {"bytes", stats.bytes},
                  {"senders", stats.senders},
                  {"keys", stats.keys}},
                 words);
}

constexpr Verb kVerbs[] = {
    {.name = "create",
     .words = "MAILBOX",
     .help = "make a mailbox or topic",
     .flags = kCreateFlags,
     .run = CreateMailbox},
    {.name = "remove",
     .words = "MAILBOX",
     .help = "remove it with all that is in it",
     .flags = kStoreFlags,
     .run = RemoveMailbox},
    {.name = "subscribe",
     .words = "TOPIC GROUP",
     .help = "make a group of receivers",
     .flags = kSubscribeFlags,
     .run = SubscribeGroup},
    {.name = "put",
     .words = "MAILBOX [TEXT]",
     .help = "append TEXT or standard input; a mailbox is made where there is none; exit code 1: "
             "refused",
     .flags = kPutFlags,
     .run = Put},
    {.name = "receive",
     .words = "MAILBOX",
     .help = "lease messages and print them",
     .flags = kReceiveFlags,
     .run = ReceiveMessages},
    {.name = "ack",
     .words = "RECEIPT…",
     .help = "done with: never again; exit code 1: it is not leased by this receipt",
     .flags = kAckFlags,
     .run = Acknowledge},
    {.name = "reject",
     .words = "RECEIPT…",
     .help = "to be handed out again",
     .flags = kRejectFlags,
     .run = Reject},
    {.name = "list",
     .words = "",
     .help = "print the mailboxes",
     .flags = kStoreFlags,
     .run = ListMailboxes},
    {.name = "dead",
     .words = "MAILBOX",
     .help = "print dead letters",
     .flags = kDeadFlags,
     .run = Dead},
    {.name = "stats",
     .words = "",
     .help = "print what the store has",
     .flags = kStoreFlags,
     .run = Stats}};

}  // namespace

int MailboxCommand(std::span<const std::string_view> arguments) {
  return RunVerb("mailbox", kVerbs, arguments);
}

}  // namespace waxvm::cli
