// SPDX-License-Identifier: Apache-2.0
// Addresses as libcoap has them, and the descriptors that belong to them.
#ifndef WAXVM_SRC_COAP_EDGE_SOCKET_ADDRESSES_H_
#define WAXVM_SRC_COAP_EDGE_SOCKET_ADDRESSES_H_

#include <coap3/coap.h>

#include <string>

#include "waxvm/socket_address.h"

namespace waxvm::coap::edge {

coap_address_t ToLibcoap(const SocketAddress& address);
SocketAddress FromLibcoap(const coap_address_t& address);

/// What the bounds of one source are counted by: an IPv4 address, or the /64 of an IPv6 one, which
/// one client may have all of.
std::string SourceOf(const SocketAddress& address);

/// The descriptor of this process that is the TCP connection between the two; -1: none is. libcoap
/// keeps it to itself.
int FindConnection(const SocketAddress& local, const SocketAddress& remote);
/// The same of the TCP socket that listens there.
int FindListener(const SocketAddress& local);

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_SOCKET_ADDRESSES_H_
