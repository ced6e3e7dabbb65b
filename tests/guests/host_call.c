/* SPDX-License-Identifier: Apache-2.0 */
/* host_call [NAME [FUNCTION]]: asks the host to greet NAME and prints its answer. */
#include <stdio.h>
#include <string.h>

#include "waxvm/abi/host_call.h"

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "world";
  const char* function = argc > 2 ? argv[2] : "greet";
  char reply[256];
  struct waxvm_host_call call = {
      .version = WAXVM_HOST_CALL_VERSION,
      .name_bytes = (uint32_t)strlen(function),
      .name = (uint64_t)(uintptr_t)function,
      .request = (uint64_t)(uintptr_t)name,
      .request_bytes = strlen(name),
      .reply = (uint64_t)(uintptr_t)reply,
      .reply_capacity = sizeof reply,
  };
  long error = waxvm_host_call(&call);
  if (error != 0) return printf("no host: %ld\n", error), 2;
  if (call.reply_bytes > sizeof reply) call.reply_bytes = sizeof reply;
  printf("%u %.*s\n", call.status, (int)call.reply_bytes, reply);
  return call.status == WAXVM_HOST_CALL_OK ? 0 : 1;
}
