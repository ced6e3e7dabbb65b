// SPDX-License-Identifier: Apache-2.0
// Handles that everything else takes or gives: stops and bytes.
#include "support.h"

using waxvm::c::Guard;

extern "C" {

waxvm_status waxvm_stop_open(waxvm_stop** stop, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(stop);
    *stop = nullptr;
    *stop = new waxvm_stop;
    return absl::OkStatus();
  });
}

void waxvm_stop_request(waxvm_stop* stop) {
  if (stop == nullptr) return;
  // A callback may close the handle.
  std::stop_source source = stop->source;
  source.request_stop();
}

int waxvm_stop_requested(const waxvm_stop* stop) {
  return stop != nullptr && stop->source.stop_requested() ? 1 : 0;
}

void waxvm_stop_close(waxvm_stop* stop) { delete stop; }

const char* waxvm_bytes_data(const waxvm_bytes* bytes, size_t* byte_count) {
  if (byte_count != nullptr) *byte_count = bytes != nullptr ? bytes->bytes.size() : 0;
  return bytes != nullptr ? bytes->bytes.c_str() : nullptr;
}

void waxvm_bytes_close(waxvm_bytes* bytes) { delete bytes; }

}  // extern "C"
