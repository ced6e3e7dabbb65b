/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "waxvm_c_pool.h"
#include "waxvm_c_value.h"

static int opens(waxvm_provider provider) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_supervisor* host = NULL;
  waxvm_status status = waxvm_supervisor_open(provider, &host, &error);
  printf("provider %d: %d %s\n", provider, status, error.message);
  waxvm_supervisor_close(host);
  return status == WAXVM_OK || status == WAXVM_UNAVAILABLE;
}

int main(void) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_program* program = NULL;
  printf("waxvm %s\n", waxvm_version());
  if (!opens(WAXVM_PROVIDER_PROCESS) || !opens(WAXVM_PROVIDER_MICROVM)) return 1;
  if (waxvm_program_open_bytes("not an ELF", 10, "text", &program, &error) !=
          WAXVM_INVALID_ARGUMENT ||
      strlen(error.message) == 0)
    return 2;
  waxvm_program_close(program);
  waxvm_value* value = waxvm_value_new_text("consumer", 8);
  waxvm_bytes* message = NULL;
  if (waxvm_value_encode(value, &message, &error) != WAXVM_OK) return 3;
  waxvm_bytes_close(message);
  waxvm_value_close(value);
  return 0;
}
