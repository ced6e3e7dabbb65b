# SPDX-License-Identifier: Apache-2.0
# The signed part of a message, as one Cap'n Proto message of one segment in the standard stream
# framing, not packed. docs/formats/envelope.md says what lies around it and what a reader refuses.
@0x9a1f0f6c42d7e3b5;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("waxvm::wire");

struct Envelope {
  type @0 :UInt64;            # what the payload is
  sequence @1 :UInt64;        # rises with every message of this sender to this destination
  firstSequence @2 :UInt64;   # to a topic: where this run of the publisher began
  created @3 :UInt64;         # milliseconds since 1970
  expires @4 :UInt64;
  inReplyTo @5 :UInt64;       # the sequence of the receiver's message that this answers, or 0
  destinationKind @6 :UInt8;  # 0 an engine, 1 a topic
  flags @7 :UInt8;            # 1 encrypted, 2 the sender wants to know of errors; others refused
  sender @8 :Data;            # Ed25519 key, 32 bytes
  destination @9 :Data;       # Ed25519 key of the engine or topic, 32 bytes
  dependencies @10 :Data;     # ids of messages, 32 bytes each, at most 16
  payload @11 :Data;
}
