/* SPDX-License-Identifier: Apache-2.0 */
/* call_host_function PROGRAM: grants a guest one function of this process, by name. */
#include <stdio.h>

#include "waxvm_c.h"

static waxvm_status greet(void* user_data, waxvm_call* call, const void* name, size_t bytes) {
  char reply[80];
  ++*(int*)user_data;
  if (bytes > 64) return WAXVM_INVALID_ARGUMENT;
  const int length = snprintf(reply, sizeof reply, "hello %.*s", (int)bytes, (const char*)name);
  return waxvm_call_reply(call, reply, (size_t)length);
}

int main(int argc, char** argv) {
  const char* arguments[] = {"guest"};
  int calls = 0, exit_code = 1;
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_grants* grants = NULL;
  waxvm_supervisor* host = NULL;
  waxvm_result* result = NULL;
  options.arguments = arguments;
  options.argument_count = 1;
  if (waxvm_grants_open(&grants, &error) ||
      waxvm_grants_add_function(grants, "greet", greet, &calls, NULL, &error) ||
      waxvm_supervisor_open(WAXVM_PROVIDER_MICROVM, &host, &error) ||
      (options.grants = grants, waxvm_run_file(host, argv[argc - 1], &options, &result, &error))) {
    fprintf(stderr, "waxvm: %s\n", error.message);
  } else {
    printf("%shost calls: %d\n", waxvm_result_output(result, NULL), calls);
    exit_code = waxvm_result_exit_code(result);
  }
  waxvm_result_close(result);
  waxvm_supervisor_close(host);
  waxvm_grants_close(grants);
  return exit_code;
}
