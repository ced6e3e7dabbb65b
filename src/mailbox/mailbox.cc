// SPDX-License-Identifier: Apache-2.0
#include "waxvm/mailbox.h"

#include <future>
#include <utility>

namespace waxvm {
namespace {

/// Starts something that calls back once, and waits for that.
template <typename Result, typename Start>
Result Await(Start start) {
  std::promise<Result> promise;
  auto result = promise.get_future();
  start([&promise](Result value) { promise.set_value(std::move(value)); });
  return result.get();
}

}  // namespace

std::string MailboxOf(const PublicKey& receiver) { return receiver.ToBase32(); }

std::uint64_t MessageBytes(const MailboxMessage& message) {
  constexpr std::uint64_t kEachMessage = 64;
  return kEachMessage + message.payload.size() + message.sender.size() +
         message.ordering_key.size();
}

std::vector<absl::StatusOr<Appended>> MailboxStore::Append(std::vector<MailboxMessage> messages) {
  return Await<std::vector<absl::StatusOr<Appended>>>(
      [&](AppendDone done) { Append(std::move(messages), std::move(done)); });
}

absl::StatusOr<Appended> MailboxStore::AppendOne(MailboxMessage message) {
  std::vector<MailboxMessage> one;
  one.push_back(std::move(message));
  return std::move(Append(std::move(one)).front());
}

absl::StatusOr<std::vector<Delivery>> MailboxStore::Receive(ReceiveOptions options) {
  return Await<absl::StatusOr<std::vector<Delivery>>>(
      [&](ReceiveDone done) { Receive(std::move(options), std::move(done)); });
}

std::vector<absl::Status> MailboxStore::Settle(std::vector<Settlement> settlements) {
  return Await<std::vector<absl::Status>>(
      [&](SettleDone done) { Settle(std::move(settlements), std::move(done)); });
}

absl::Status MailboxStore::Acknowledge(const std::string& receipt) {
  return Settle({{.kind = Settlement::Kind::kAcknowledge, .receipt = receipt}}).front();
}

absl::Status MailboxStore::Extend(const std::string& receipt, std::chrono::milliseconds lease) {
  return Settle({{.kind = Settlement::Kind::kExtend, .receipt = receipt, .time = lease}}).front();
}

absl::Status MailboxStore::Reject(const std::string& receipt, const std::string& reason,
                                  std::chrono::milliseconds delay) {
  return Settle({{.kind = Settlement::Kind::kReject,
                  .receipt = receipt,
                  .time = delay,
                  .reason = reason}})
      .front();
}

}  // namespace waxvm
