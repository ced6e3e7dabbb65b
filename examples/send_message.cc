// SPDX-License-Identifier: Apache-2.0
// send_message WORD…: one engine sends words to another one, which answers each on its own thread.
#include <poll.h>

#include <iostream>

#include "waxvm/engine.h"

using Word = waxvm::BytesMessage<0x8f3b'61d2'09c4'e571>;
using Length = waxvm::ValueMessage<0xd21c'7ea9'4f50'863b>;

int main(int argc, char** argv) {
  const auto hub = waxvm::MessageHub::Create();
  const auto asking_key = waxvm::SigningKey::Generate();
  const auto counting_key = waxvm::SigningKey::Generate();
  if (!hub.ok() || !asking_key.ok() || !counting_key.ok()) return 1;
  const auto asking = waxvm::Engine::Create(hub->get(), &*asking_key);
  const auto counting = waxvm::Engine::Create(hub->get(), &*counting_key);
  if (!asking.ok() || !counting.ok()) return 1;

  (void)(*counting)->On<Word>([&](const Word& word, const waxvm::MessageInfo& info) {
    (void)(*counting)->Reply(info, Length{static_cast<std::int64_t>(word.bytes.size())});
  });
  int answers = 0;
  (void)(*asking)->On<Length>([&](const Length& length, const waxvm::MessageInfo& info) {
    std::cout << *length.value.As<std::int64_t>() << " bytes"
              << (info.sender == (*counting)->key() ? "\n" : ", says somebody else\n");
    ++answers;
  });
  if (const auto started = (*counting)->Start(); !started.ok()) return 1;
  const auto descriptor = (*asking)->descriptor();
  if (!descriptor.ok()) return 1;
  for (int i = 1; i < argc; ++i)
    if (const auto sent = (*asking)->Send((*counting)->key(), Word{argv[i]}); !sent.ok())
      return std::cerr << sent.status() << '\n', 1;
  for (pollfd ready = {*descriptor, POLLIN, 0}; answers < argc - 1; (*asking)->Poll())
    if (poll(&ready, 1, /*timeout=*/5'000) != 1) return 1;
}
