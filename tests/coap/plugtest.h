// SPDX-License-Identifier: Apache-2.0
// The ETSI CoAP plugtest's server and client, both of them endpoints of this library.
#ifndef WAXVM_TESTS_COAP_PLUGTEST_H_
#define WAXVM_TESTS_COAP_PLUGTEST_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/coap/wire.h"

namespace waxvm::coap {

inline Message Get(std::string_view path) { return Message(Code::kGet).SetPath(path); }

/// Each case runs on the simulated network and over the loopback interface, and looks at what both
/// sides sent: the client's messages are those of the client role, the server's of the other.
class Plugtest : public testing::TestWithParam<Carrier> {
 protected:
  Plugtest();

  /// The options that one of several path or query segments makes.
  static std::vector<std::string> All(const Captured& message, OptionNumber number);

  /// The i-th datagram, after checks of who sent it, its type and its code.
  Captured Expect(std::size_t i, const Endpoint& from, Type type, Code code) const;
  Captured ExpectFrom(std::size_t i, const SocketAddress& from, Type type, Code code) const;
  /// That nothing is sent any more, and this many were.
  void ExpectSent(std::size_t count);

  Heard Ask(const Message& message, const RequestOptions& options = {}) {
    return wire.AskOnce(client, server.local_address(), message, options);
  }
  /// A transaction of two messages, all of whose common properties are checked.
  void Transaction(Type type, const Message& message, Code code, Captured* request = nullptr,
                   Captured* response = nullptr);
  void Serve(std::string path, Methods methods, ResourceHandler handler, Resource resource = {});
  /// What changes the text that /obs serves.
  void SetObserved(std::string text) {
    observed = std::move(text);
    server.Notify("/obs");
  }
  void ServeObserved();

  Wire wire{GetParam()};
  Endpoint& server;
  Endpoint& client;
  int handled = 0;
  std::string observed = "first";
  ContentFormat observed_format = ContentFormat::kTextPlain;
  std::uint32_t observed_max_age = 60;
  std::vector<DeferredResponder> deferred;
};

/// "Simulated", "Loopback".
std::string CarrierName(const testing::TestParamInfo<Carrier>& info);

/// What a server of the plugtest is: one whose peers all are on the same link.
EndpointOptions PlugtestOptions();

/// A message that no endpoint sent.
std::string Compose(Type type, Code code, std::uint16_t id, std::string_view token,
                    const Message& message);
/// Sends it, and takes what comes back first.
void SendRaw(DatagramSocket& socket, const SocketAddress& to, const std::string& bytes);

}  // namespace waxvm::coap

#endif  // WAXVM_TESTS_COAP_PLUGTEST_H_
