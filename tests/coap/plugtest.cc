// SPDX-License-Identifier: Apache-2.0
#include "tests/coap/plugtest.h"

#include <utility>

#include "waxvm/coap_uri.h"

namespace waxvm::coap {

using std::chrono::seconds;

EndpointOptions PlugtestOptions() {
  EndpointOptions options;
  options.transmission.amplification_limit = 0;
  return options;
}

std::string CarrierName(const testing::TestParamInfo<Carrier>& info) {
  return info.param == Carrier::kSimulated ? "Simulated" : "Loopback";
}

Plugtest::Plugtest() : server(wire.Add(PlugtestOptions())), client(wire.Add()) {
  Serve("/test", {Code::kGet, Code::kPost, Code::kPut, Code::kDelete},
        [this](const ServedRequest& request, Responder& responder) {
          ++handled;
          if (request.code == Code::kGet)
            return responder.Send(Code::kContent, ToBytes("a text"), ContentFormat::kTextPlain);
          if (request.code == Code::kPost) return responder.Send(Code::kCreated);
          responder.Send(request.code == Code::kPut ? Code::kChanged : Code::kDeleted);
        });
  Serve("/separate", {Code::kGet}, [this](const ServedRequest&, Responder& responder) {
    ++handled;
    deferred.push_back(responder.Defer());
    wire.At(seconds(1), [this, at = deferred.size() - 1] {
      deferred[at].Send(Message(Code::kContent)
                            .SetPayload(ContentFormat::kTextPlain, "late, and longer than others"));
    });
  });
}

void Plugtest::Serve(std::string path, Methods methods, ResourceHandler handler,
                     Resource resource) {
  resource.path = std::move(path);
  resource.methods = methods;
  resource.handler = std::move(handler);
  const absl::Status served = server.Serve(std::move(resource));
  ASSERT_TRUE(served.ok()) << served;
}

void Plugtest::ServeObserved() {
  Resource resource;
  resource.observable = true;
  Serve(
      "/obs", {Code::kGet, Code::kPut, Code::kDelete},
      [this](const ServedRequest& request, Responder& responder) {
        if (request.code == Code::kGet) {
          Message answer(Code::kContent);
          answer.SetPayload(observed_format, observed).SetMaxAge(observed_max_age);
          return responder.Send(answer);
        }
        if (request.code == Code::kDelete) {
          responder.Send(Code::kDeleted);
          return (void)server.Remove("/obs");
        }
        observed_format = request.options.content_format().value_or(observed_format);
        responder.Send(Code::kChanged);
        SetObserved(std::string(ToText(request.payload)));
      },
      std::move(resource));
}

std::vector<std::string> Plugtest::All(const Captured& message, OptionNumber number) {
  std::vector<std::string> values;
  message.options().ForEach(number, [&](std::string_view value) { values.emplace_back(value); });
  return values;
}

Captured Plugtest::ExpectFrom(std::size_t i, const SocketAddress& from, Type type,
                              Code code) const {
  const std::vector<Captured>& captured = wire.captured();
  if (i >= captured.size()) {
    ADD_FAILURE() << "there is no datagram " << i << "\n" << wire.ToText();
    return {};
  }
  const Captured& message = captured[i];
  EXPECT_TRUE(message.view().ok()) << i << "\n" << wire.ToText();
  EXPECT_EQ(message.from, from) << i << "\n" << wire.ToText();
  EXPECT_EQ(message.type(), type) << i << "\n" << wire.ToText();
  EXPECT_EQ(ToText(message.code()), ToText(code)) << i << "\n" << wire.ToText();
  return message;
}

Captured Plugtest::Expect(std::size_t i, const Endpoint& from, Type type, Code code) const {
  return ExpectFrom(i, from.local_address(), type, code);
}

void Plugtest::ExpectSent(std::size_t count) {
  wire.RunFor(seconds(300));
  EXPECT_EQ(wire.captured().size(), count) << wire.ToText();
}

void Plugtest::Transaction(Type type, const Message& message, Code code, Captured* request,
                           Captured* response) {
  wire.captured().clear();
  const Heard heard = Ask(message, {.confirmable = type == Type::kCon});
  ASSERT_TRUE(heard.status.ok()) << heard.status;
  EXPECT_EQ(ToText(heard.code()), ToText(code));
  EXPECT_FALSE(heard.more);
  ExpectSent(2);
  const Captured asked = Expect(0, client, type, message.code());
  EXPECT_EQ(PathAndQueryOf(asked.options()), PathAndQueryOf(message.options()));
  EXPECT_EQ(asked.payload(), message.payload());
  EXPECT_EQ(asked.options().content_format(), message.options().content_format());
  const Captured answered = Expect(1, server, type == Type::kCon ? Type::kAck : Type::kNon, code);
  EXPECT_EQ(answered.token(), asked.token());
  EXPECT_EQ(heard.payload(), answered.payload());
  if (type == Type::kCon) {
    EXPECT_EQ(answered.id(), asked.id());
  }
  EXPECT_TRUE(answered.payload().empty() || answered.options().content_format());
  if (request != nullptr) *request = asked;
  if (response != nullptr) *response = answered;
}

std::string Compose(Type type, Code code, std::uint16_t id, std::string_view token,
                    const Message& message) {
  std::string bytes(1200, '\0');
  MessageWriter writer(std::as_writable_bytes(std::span(bytes)), type, code, id, ToBytes(token));
  message.WriteTo(writer);
  EXPECT_TRUE(writer.ok());
  bytes.resize(writer.message().size());
  return bytes;
}

void SendRaw(DatagramSocket& socket, const SocketAddress& to, const std::string& bytes) {
  const Datagram datagram = {.peer = to, .local = {}, .bytes = ToBytes(bytes)};
  const auto sent = socket.Send(std::span(&datagram, 1));
  ASSERT_TRUE(sent.ok()) << sent.status();
}

}  // namespace waxvm::coap
