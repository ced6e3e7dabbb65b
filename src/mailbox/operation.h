// SPDX-License-Identifier: Apache-2.0
// What is handed to the store's thread.
#ifndef WAXVM_SRC_MAILBOX_OPERATION_H_
#define WAXVM_SRC_MAILBOX_OPERATION_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "src/mailbox/engine.h"

namespace waxvm::mailbox {

class Operation {
 public:
  virtual ~Operation() = default;
  /// As the operations of Engine.
  virtual absl::Status Apply(Engine& engine) = 0;
  /// Answers: what Apply left, or where the commit failed why. Called once.
  virtual void Finish(const absl::Status& failure) = 0;
  virtual bool settles() const { return false; }

  std::size_t rows = 1;
  std::size_t bytes = 0;
};

class AppendOperation final : public Operation {
 public:
  AppendOperation(std::vector<MailboxMessage> messages,
                  std::vector<absl::StatusOr<Appended>> results, MailboxStore::AppendDone done)
      : messages_(std::move(messages)), results_(std::move(results)), done_(std::move(done)) {}

  absl::Status Apply(Engine& engine) override {
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      if (!results_[i].ok()) continue;  // no good, and answered so
      if (absl::Status status = engine.Append(messages_[i], results_[i]); !status.ok())
        return status;
    }
    return absl::OkStatus();
  }
  void Finish(const absl::Status& failure) override {
    if (!failure.ok()) results_.assign(messages_.size(), failure);
    done_(std::move(results_));
  }

 private:
  std::vector<MailboxMessage> messages_;
  std::vector<absl::StatusOr<Appended>> results_;
  MailboxStore::AppendDone done_;
};

class SettleOperation final : public Operation {
 public:
  SettleOperation(std::vector<Settlement> settlements, MailboxStore::SettleDone done)
      : settlements_(std::move(settlements)),
        results_(settlements_.size()),
        done_(std::move(done)) {}

  absl::Status Apply(Engine& engine) override {
    for (std::size_t i = 0; i < settlements_.size(); ++i)
      if (absl::Status status = engine.Settle(settlements_[i], results_[i]); !status.ok())
        return status;
    return absl::OkStatus();
  }
  void Finish(const absl::Status& failure) override {
    if (!failure.ok()) results_.assign(settlements_.size(), failure);
    done_(std::move(results_));
  }
  bool settles() const override { return true; }

 private:
  std::vector<Settlement> settlements_;
  std::vector<absl::Status> results_;
  MailboxStore::SettleDone done_;
};

/// May have to wait for a message.
class ReceiveOperation final : public Operation {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// `woken` is called, by any thread, when a stop is requested.
  ReceiveOperation(ReceiveOptions options, MailboxStore::ReceiveDone done, TimePoint deadline,
                   std::function<void()> woken)
      : options_(std::move(options)),
        done_(std::move(done)),
        deadline_(deadline),
        stop_(options_.stop, std::move(woken)) {}

  absl::Status Apply(Engine& engine) override {
    result_ = std::vector<Delivery>();
    return engine.Receive(options_, result_);
  }
  void Finish(const absl::Status& failure) override {
    done_(failure.ok() ? std::move(result_) : absl::StatusOr<std::vector<Delivery>>(failure));
  }

  /// There is nothing to answer yet.
  bool waits(TimePoint now) const {
    return result_.ok() && result_->empty() && now < deadline_ && !stopped();
  }
  bool stopped() const { return options_.stop.stop_requested(); }
  TimePoint deadline() const { return deadline_; }
  Engine::Place place() const { return {options_.mailbox, options_.group}; }

 private:
  const ReceiveOptions options_;
  MailboxStore::ReceiveDone done_;
  const TimePoint deadline_;
  absl::StatusOr<std::vector<Delivery>> result_;
  std::stop_callback<std::function<void()>> stop_;
};

/// Anything else, whose answer is awaited.
template <typename Result>
class AskOperation final : public Operation {
 public:
  using Question = std::function<absl::Status(Engine&, Result&)>;
  explicit AskOperation(Question question) : question_(std::move(question)) {}

  absl::Status Apply(Engine& engine) override { return question_(engine, result_); }
  void Finish(const absl::Status& failure) override {
    if (!failure.ok()) result_ = failure;
    promise_.set_value(std::move(result_));
  }
  std::future<Result> answer() { return promise_.get_future(); }

 private:
  Question question_;
  Result result_;
  std::promise<Result> promise_;
};

}  // namespace waxvm::mailbox

#endif  // WAXVM_SRC_MAILBOX_OPERATION_H_
