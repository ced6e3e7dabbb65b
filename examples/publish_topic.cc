// SPDX-License-Identifier: Apache-2.0
// publish_topic NUMBER…: numbers are published on a topic; who joins late hears the last one.
#include <ctime>
#include <iostream>

#include "waxvm/engine.h"

using Number = waxvm::BytesMessage<0xb7e0'514c'a26d'938f>;

int main(int argc, char** argv) {
  const auto hub = waxvm::MessageHub::Create();
  const auto topic = waxvm::SigningKey::Generate();
  const auto publisher = waxvm::SigningKey::Generate();
  const waxvm::SigningKey reader_keys[] = {*waxvm::SigningKey::Generate(),
                                           *waxvm::SigningKey::Generate()};
  const auto now = static_cast<std::uint64_t>(std::time(nullptr));
  const auto advert =
      waxvm::Advert::Make({.created = now,
                           .expires = now + 3'600,
                           .ttl = 300,
                           .body = waxvm::TopicBody{.publishers = {publisher->public_key()}}},
                          *topic);
  if (!advert.ok() || !(*hub)->SetTopic(*advert).ok()) return 1;
  const auto out = *waxvm::Engine::Create(hub->get(), &*publisher);
  for (const waxvm::SigningKey& key : reader_keys) {
    const auto reader = *waxvm::Engine::Create(hub->get(), &key);
    (void)reader->On<Number>([](const Number& number, const waxvm::MessageInfo& info) {
      std::cout << (info.retained ? "retained " : "") << number.bytes << '\n';
    });
    (void)reader->Join(topic->public_key());
    for (int i = 1; i < argc; ++i)
      if (const auto sent = out->Publish(topic->public_key(), Number{argv[i]}); !sent.ok())
        return std::cerr << sent.status() << '\n', 1;
    reader->Poll();
  }
}
