// SPDX-License-Identifier: Apache-2.0
#include "waxvm/mailbox_file.h"

#include <algorithm>
#include <utility>

#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/mailbox/checks.h"
#include "src/mailbox/writer.h"

namespace waxvm {
namespace {

using namespace mailbox;

/// A row has more than its payload, and SQLite's limit here is 1 MiB.
constexpr std::size_t kMaxPayloadBytes = 960 << 10;

class File final : public MailboxFile {
 public:
  File(std::unique_ptr<Engine> engine, const MailboxFileOptions& options)
      : max_payload_bytes_(std::min(options.max_payload_bytes, kMaxPayloadBytes)),
        writer_(std::move(engine), options) {}

  absl::Status Create(const std::string& name, const MailboxOptions& options) override {
    WAXVM_RETURN_IF_ERROR(CheckName("mailbox", name));
    WAXVM_RETURN_IF_ERROR(CheckOptions(options));
    return Ask<absl::Status>(
        [&](Engine& engine, absl::Status& result) { return engine.Create(name, options, result); });
  }
  absl::Status Remove(const std::string& name) override {
    return Ask<absl::Status>(
        [&](Engine& engine, absl::Status& result) { return engine.Remove(name, result); });
  }
  absl::Status Subscribe(const std::string& topic, const std::string& group,
                         bool from_start) override {
    WAXVM_RETURN_IF_ERROR(CheckName("group", group));
    return Ask<absl::Status>([&](Engine& engine, absl::Status& result) {
      return engine.Subscribe(topic, group, from_start, result);
    });
  }
  absl::Status Unsubscribe(const std::string& topic, const std::string& group) override {
    WAXVM_RETURN_IF_ERROR(CheckName("group", group));
    return Ask<absl::Status>([&](Engine& engine, absl::Status& result) {
      return engine.Unsubscribe(topic, group, result);
    });
  }

  void Append(std::vector<MailboxMessage> messages, AppendDone done) override {
    std::vector<absl::StatusOr<Appended>> results;
    results.reserve(messages.size());
    const absl::Status count = CheckCount(messages.size());
    std::size_t bytes = 0;
    for (const MailboxMessage& message : messages) {
      absl::Status status = count.ok() ? CheckMessage(message, max_payload_bytes_) : count;
      bytes += message.payload.size();
      if (status.ok()) {
        results.emplace_back(Appended());
      } else {
        results.emplace_back(std::move(status));
      }
    }
    if (std::none_of(results.begin(), results.end(), [](const auto& r) { return r.ok(); }))
      return done(std::move(results));
    const std::size_t rows = messages.size();
    Submit(
        std::make_unique<AppendOperation>(std::move(messages), std::move(results), std::move(done)),
        rows, bytes);
  }

  void Receive(ReceiveOptions options, ReceiveDone done) override {
    if (absl::Status status = CheckReceive(options); !status.ok()) return done(std::move(status));
    const auto deadline = After(std::chrono::steady_clock::now(), options.wait);
    const std::size_t rows = options.max_messages;
    auto operation = std::make_unique<ReceiveOperation>(std::move(options), std::move(done),
                                                        deadline, [this] { writer_.Wake(); });
    operation->rows = rows;
    if (absl::Status status = writer_.Submit(operation); !status.ok()) operation->Finish(status);
  }

  void Settle(std::vector<Settlement> settlements, SettleDone done) override {
    absl::Status status = CheckCount(settlements.size());
    for (std::size_t i = 0; status.ok() && i < settlements.size(); ++i)
      status = CheckSettlement(settlements[i]);
    if (!status.ok() || settlements.empty())
      return done(std::vector<absl::Status>(settlements.size(), status));
    const std::size_t rows = settlements.size();
    Submit(std::make_unique<SettleOperation>(std::move(settlements), std::move(done)), rows, 0);
  }

  absl::StatusOr<std::vector<Appended>> Exchange(std::vector<std::string> receipts,
                                                 std::vector<MailboxMessage> messages) override {
    using Result = absl::StatusOr<std::vector<Appended>>;
    WAXVM_RETURN_IF_ERROR(CheckCount(receipts.size() + messages.size()));
    std::size_t bytes = 0;
    for (const MailboxMessage& message : messages) {
      WAXVM_RETURN_IF_ERROR(CheckMessage(message, max_payload_bytes_));
      bytes += message.payload.size();
    }
    return Ask<Result>(
        [&](Engine& engine, Result& result) { return engine.Exchange(receipts, messages, result); },
        receipts.size() + messages.size(), bytes);
  }

  absl::StatusOr<std::vector<DeadLetter>> DeadLetters(const std::string& mailbox,
                                                      std::size_t max) override {
    using Result = absl::StatusOr<std::vector<DeadLetter>>;
    WAXVM_RETURN_IF_ERROR(CheckCount(max));
    return Ask<Result>(
        [&](Engine& engine, Result& result) { return engine.DeadLetters(mailbox, max, result); });
  }
  absl::StatusOr<Appended> Requeue(const std::string& mailbox, std::uint64_t id) override {
    using Result = absl::StatusOr<Appended>;
    return Ask<Result>(
        [&](Engine& engine, Result& result) { return engine.Requeue(mailbox, id, result); });
  }
  absl::Status RemoveDead(const std::string& mailbox, std::uint64_t id) override {
    return Ask<absl::Status>([&](Engine& engine, absl::Status& result) {
      return engine.RemoveDead(mailbox, id, result);
    });
  }

  absl::StatusOr<MailboxInfo> Info(const std::string& mailbox) override {
    using Result = absl::StatusOr<MailboxInfo>;
    return Ask<Result>([&](Engine& engine, Result& result) {
      result = engine.Info(mailbox);
      return absl::OkStatus();
    });
  }
  absl::StatusOr<std::vector<std::string>> List() override {
    using Result = absl::StatusOr<std::vector<std::string>>;
    return Ask<Result>([&](Engine& engine, Result& result) {
      result = engine.List();
      return absl::OkStatus();
    });
  }
  MailboxFileStats Stats() override {
    using Result = absl::StatusOr<MailboxFileStats>;
    return Ask<Result>([&](Engine& engine, Result& result) {
             result = engine.Stats();
             return absl::OkStatus();
           })
        .value_or(MailboxFileStats());
  }

 private:
  void Submit(std::unique_ptr<Operation> operation, std::size_t rows, std::size_t bytes) {
    operation->rows = rows;
    operation->bytes = bytes;
    if (absl::Status status = writer_.Submit(operation); !status.ok()) operation->Finish(status);
  }

  template <typename Result>
  Result Ask(typename AskOperation<Result>::Question question, std::size_t rows = 1,
             std::size_t bytes = 0) {
    auto operation = std::make_unique<AskOperation<Result>>(std::move(question));
    std::future<Result> answer = operation->answer();
    Submit(std::move(operation), rows, bytes);
    return answer.get();
  }

  const std::size_t max_payload_bytes_;
  Writer writer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MailboxFile>> MailboxFile::Open(const std::string& path,
                                                               const MailboxFileOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Open(path, options));
  return std::make_unique<File>(std::move(engine), options);
}

}  // namespace waxvm
