// SPDX-License-Identifier: Apache-2.0
// ask_resource URI [TEXT]: puts the text at a coap URI whose host is an address, if there is one,
// and prints what is there.
#include <iostream>

#include "waxvm/coap_endpoint.h"
#include "waxvm/coap_uri.h"

namespace coap = waxvm::coap;

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "ask_resource URI [TEXT]\n", 2;
  const auto uri = coap::Uri::Parse(argv[1]);
  if (!uri.ok()) return std::cerr << uri.status() << '\n', 2;
  const auto server = waxvm::Address::Parse(uri->host);
  if (!server.ok()) return std::cerr << server.status() << '\n', 2;
  auto socket = waxvm::NewUdpSocket();
  if (!socket.ok()) return std::cerr << socket.status() << '\n', 1;
  const auto endpoint = coap::Endpoint::Create(*std::move(socket));
  if (!endpoint.ok()) return std::cerr << endpoint.status() << '\n', 1;
  const auto ask = [&](coap::Message message) {
    uri->ToOptions(message);
    const auto reply = (*endpoint)->Ask({.address = *server, .port = uri->port}, message,
                                        {.timeout = std::chrono::seconds(5)});
    if (!reply.ok()) return std::cerr << reply.status() << '\n', 1;
    std::cout << coap::ToText(reply->message.code()) << ' ' << coap::NameOf(reply->message.code());
    if (!reply->message.payload().empty()) std::cout << ": " << reply->message.payload();
    std::cout << '\n';
    return coap::IsSuccess(reply->message.code()) ? 0 : 1;
  };
  if (argc > 2 && ask(coap::Message(coap::Code::kPut, argv[2])) != 0) return 1;
  return ask(coap::Message(coap::Code::kGet));
}
