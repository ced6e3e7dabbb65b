/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call_adversary WHEN WHAT: speaks docs/formats/call.md, and breaks it as WHAT says, at once
 * ("ready") or in the answer to the first call ("answer").
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "waxvm/abi/host_call.h"

static unsigned char request[16 << 20];
static unsigned char reply[4096];

static uint32_t serve(uint32_t version, uint32_t state, uint32_t code, uint32_t zero,
                      size_t bytes) {
  static const char name[] = "waxvm.serve";
  const uint32_t header[4] = {version, state, code, zero};
  struct waxvm_host_call call = {
      .version = WAXVM_HOST_CALL_VERSION,
      .name_bytes = sizeof name - 1,
      .name = (uint64_t)(uintptr_t)name,
      .request = (uint64_t)(uintptr_t)request,
      .request_bytes = bytes,
      .reply = (uint64_t)(uintptr_t)reply,
      .reply_capacity = sizeof reply,
  };
  memcpy(request, header, sizeof header);
  if (waxvm_host_call(&call) != 0) exit(20);
  return call.status;
}

static void misbehave(const char* what) {
  if (strcmp(what, "short") == 0) serve(1, 1, 0, 0, 15);
  if (strcmp(what, "empty") == 0) serve(1, 1, 0, 0, 0);
  if (strcmp(what, "version") == 0) serve(2, 1, 0, 0, 16);
  if (strcmp(what, "state") == 0) serve(1, 4, 0, 0, 16);
  if (strcmp(what, "reserved") == 0) serve(1, 1, 0, 7, 16);
  if (strcmp(what, "failed_with_0") == 0) serve(1, 2, 0, 0, 16);
  if (strcmp(what, "failed_with_17") == 0) serve(1, 2, 17, 0, 16);
  if (strcmp(what, "returned_with_5") == 0) serve(1, 1, 5, 0, 16);
  if (strcmp(what, "large") == 0) serve(1, 1, 0, 0, 16 + (15 << 20) + 1);
  if (strcmp(what, "long_message") == 0) serve(1, 2, 3, 0, 16 + (64 << 10) + 1);
  if (strcmp(what, "no_text") == 0) memset(request + 16, 0xff, 4), serve(1, 2, 3, 0, 20);
  if (strcmp(what, "ready_again") == 0) serve(1, 0, 0, 0, 16);
  if (strcmp(what, "returned") == 0) serve(1, 1, 0, 0, 16);
  if (strcmp(what, "again_with_bytes") == 0) serve(1, 3, 0, 0, 20);
  if (strcmp(what, "again") == 0)
    for (int i = 0; i < 100; ++i) serve(1, 3, 0, 0, 16);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (strcmp(argv[1], "answer") == 0 && serve(1, 0, 0, 0, 16) != 0) return 21;
  misbehave(argv[2]);
  return 22;
}
