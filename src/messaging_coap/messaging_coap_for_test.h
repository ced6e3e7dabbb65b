// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MESSAGING_COAP_MESSAGING_COAP_FOR_TEST_H_
#define WAXVM_SRC_MESSAGING_COAP_MESSAGING_COAP_FOR_TEST_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "src/messaging/messaging_for_test.h"
#include "waxvm/messaging_coap.h"

namespace waxvm {

/// Where engines are, and who is sent what is published; not to be changed while threads run.
struct Places {
  std::map<PublicKey, SocketAddress> engines = {};
  std::vector<SocketAddress> topic_peers = {};
};

/// What a process has: an endpoint, a transport on it, a hub and engines.
class Side {
 public:
  Side(coap::Endpoint& at, const Places& places, messaging::TestClock& clock,
       CoapTransportOptions options = {})
      : endpoint(at) {
    options.find = [&places](const PublicKey& key) -> absl::StatusOr<SocketAddress> {
      const auto found = places.engines.find(key);
      if (found == places.engines.end()) return absl::NotFoundError("nobody knows this key");
      return found->second;
    };
    options.topic_peers = [this, &places](const PublicKey&) {
      std::vector<SocketAddress> others = places.topic_peers;
      std::erase(others, endpoint.local_address());
      return others;
    };
    transport = *CoapTransport::Create(&endpoint, options);
    hub = *MessageHub::Create(messaging::HubOptions(clock, transport.get()));
    EXPECT_TRUE(transport->Serve(hub.get()).ok());
  }
  ~Side() { transport->Stop(); }

  Engine& Add(unsigned number, EngineOptions options = {}) {
    keys.push_back(std::make_unique<SigningKey>(messaging::KeyOf(number)));
    exchange_keys.push_back(std::make_unique<ExchangeKey>(*ExchangeKey::Of(*keys.back())));
    options.exchange_key = exchange_keys.back().get();
    options.replay.first_start = true;
    engines.push_back(*Engine::Create(hub.get(), keys.back().get(), options));
    return *engines.back();
  }
  void Poll() {
    for (const auto& engine : engines) engine->Poll();
  }

  coap::Endpoint& endpoint;
  std::unique_ptr<CoapTransport> transport;
  std::unique_ptr<MessageHub> hub;
  std::vector<std::unique_ptr<SigningKey>> keys;
  std::vector<std::unique_ptr<ExchangeKey>> exchange_keys;
  std::vector<std::unique_ptr<Engine>> engines;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_MESSAGING_COAP_MESSAGING_COAP_FOR_TEST_H_
