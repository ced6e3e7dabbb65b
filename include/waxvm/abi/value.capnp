# SPDX-License-Identifier: Apache-2.0
# A value that a call takes or gives, as one Cap'n Proto message in the standard stream framing, not
# packed. docs/formats/value.md says what a reader refuses.
@0xb3d5a1c47e9f2860;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("waxvm::wire");

struct Value {
  union {
    null @0 :Void;
    bool @1 :Bool;
    int64 @2 :Int64;
    uint64 @3 :UInt64;
    float64 @4 :Float64;
    text @5 :Text;
    data @6 :Data;
    list @7 :List(Value);
    map @8 :List(Entry);
  }

  struct Entry {
    key @0 :Text;
    value @1 :Value;
  }
}
