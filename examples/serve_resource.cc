// SPDX-License-Identifier: Apache-2.0
// serve_resource [ADDRESS]: serves a note that anybody can read, replace and observe.
#include <iostream>

#include "waxvm/coap_endpoint.h"

namespace coap = waxvm::coap;

int main(int argc, char** argv) {
  const auto address = waxvm::SocketAddress::Parse(argc > 1 ? argv[1] : "[::1]:0");
  if (!address.ok()) return std::cerr << address.status() << '\n', 2;
  auto socket = waxvm::NewUdpSocket({.local = *address});
  if (!socket.ok()) return std::cerr << socket.status() << '\n', 1;
  const auto endpoint = coap::Endpoint::Create(*std::move(socket));
  if (!endpoint.ok()) return std::cerr << endpoint.status() << '\n', 1;
  std::string note = "nothing yet";
  coap::Resource resource;
  resource.path = "/note";
  resource.methods = {coap::Code::kGet, coap::Code::kPut};
  resource.observable = true;
  resource.handler = [&](const coap::ServedRequest& request, coap::Responder& responder) {
    if (request.code == coap::Code::kGet)
      return responder.Send(coap::Code::kContent, coap::ToBytes(note),
                            coap::ContentFormat::kTextPlain);
    note = coap::ToText(request.payload);
    responder.Send(coap::Code::kChanged);
    (*endpoint)->Notify("/note");
  };
  const auto served = (*endpoint)->Serve(std::move(resource));
  if (!served.ok()) return std::cerr << served << '\n', 1;
  std::cout << "coap://" << (*endpoint)->local_address().ToText() << "/note" << std::endl;
  while ((*endpoint)->Poll(std::chrono::steady_clock::time_point::max()).ok()) {
  }
  return 1;
}
