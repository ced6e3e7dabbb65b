// SPDX-License-Identifier: Apache-2.0
// use_mailbox FILE: messages for somebody who is away, each taking effect once.
#include <iostream>

#include "waxvm/mailbox_dedup.h"
#include "waxvm/mailbox_file.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::cerr << "use_mailbox FILE\n", 2;
  const auto store = waxvm::MailboxFile::Open(argv[1]);
  if (!store.ok()) return std::cerr << store.status() << '\n', 1;
  const waxvm::MailboxOptions options = {.strict = true, .max_deliveries = 5};
  if (const auto made = (*store)->Create("bob", options); !made.ok())
    return std::cerr << made << '\n', 1;

  // The sender's retry is recognised by its key: three are appended, two are stored.
  for (const char* text : {"first", "first", "second"}) {
    const auto appended = (*store)->AppendOne(waxvm::MailboxMessage{
        .mailbox = "bob", .sender = "alice", .payload = text, .idempotency_key = text});
    if (!appended.ok()) return std::cerr << appended.status() << '\n', 1;
  }

  // The receiver keeps what took effect beside the effect, in one transaction of its own.
  waxvm::MailboxDedup dedup;
  for (;;) {
    const auto got = (*store)->Receive({.mailbox = "bob", .max_messages = 10});
    if (!got.ok()) return std::cerr << got.status() << '\n', 1;
    if (got->empty()) break;
    for (const waxvm::Delivery& delivery : *got) {
      if (dedup.Begin(delivery)) std::cout << delivery.sequence << ' ' << delivery.payload << '\n';
      const auto done = (*store)->Acknowledge(delivery.receipt);
      if (!done.ok()) return std::cerr << done << '\n', 1;
    }
  }
  std::cout << (*store)->Stats().messages << " left\n";
}
