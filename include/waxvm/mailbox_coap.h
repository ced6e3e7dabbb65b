// SPDX-License-Identifier: Apache-2.0
// Mailboxes as CoAP resources, so that any client can use them.
#ifndef WAXVM_MAILBOX_COAP_H_
#define WAXVM_MAILBOX_COAP_H_

#include <chrono>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/mailbox.h"

namespace waxvm {

enum class MailboxAccess { kAppend, kReceive };

/// Whether whoever sent a request may do this; the value is the sender whose quota a message takes.
/// Errors are answered: kPermissionDenied with 4.03, kUnauthenticated with 4.01. An address is no
/// proof of who somebody is: what matters is checked by a secure transport, or in the payload.
using MailboxAuthorizer = absl::AnyInvocable<absl::StatusOr<std::string>(
    const coap::ServedRequest& request, const std::string& mailbox, MailboxAccess access)>;

struct MailboxCoapOptions {
  std::string path = "/mb";                 ///< mailboxes are right below it
  std::chrono::milliseconds lease{30'000};  ///< where the request asks for none
  std::chrono::milliseconds max_lease{3'600'000};
  std::chrono::milliseconds max_wait{30'000};  ///< longer ones are shortened
};

/// Serves all mailboxes of a store, which must outlive the endpoint, as docs/mailbox.md says:
///   POST PATH/NAME[?k=KEY][&o=ORDERING][&t=SECONDS]   appends; 2.01 after the commit
///   GET PATH/NAME[?g=GROUP][&l=SECONDS][&w=SECONDS]   leases one message, or waits for it
///   DELETE PATH/NAME?r=RECEIPT                        acknowledges
///   PUT PATH/NAME?r=RECEIPT&l=SECONDS                 extends the lease
///   POST PATH/NAME?r=RECEIPT[&x=REASON][&d=SECONDS]   rejects
/// Nobody may do anything but what `authorize`, called on the endpoint's thread, allows.
/// Errors: those of Endpoint::Serve.
absl::Status ServeMailboxes(coap::Endpoint& endpoint, MailboxStore* store,
                            MailboxAuthorizer authorize, const MailboxCoapOptions& options = {});

}  // namespace waxvm

#endif  // WAXVM_MAILBOX_COAP_H_
