/* SPDX-License-Identifier: Apache-2.0 */
/* limit_program PROGRAM: runs a program that may not end by itself; says which bound ended it. */
#include <stdio.h>

#include "waxvm_c.h"

int main(int argc, char** argv) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_supervisor* host = NULL;
  waxvm_result* result = NULL;
  int exit_code = 1;
  options.memory_bytes = 32u << 20;
  options.wall_time_ns = 500u * 1000u * 1000u;
  options.cpu_time_ns = 400u * 1000u * 1000u;
  options.output_bytes = 64u << 10;
  options.open_files = 16;
  options.processes = 1;
  options.host_calls = WAXVM_LIMIT_ZERO;
  if (waxvm_supervisor_open(WAXVM_PROVIDER_MICROVM, &host, &error) ||
      waxvm_run_file(host, argv[argc - 1], &options, &result, &error)) {
    fprintf(stderr, "waxvm: %s\n", error.message);
  } else {
    static const char* const names[] = {"exited", "fault", "limit", "stopped"};
    const char* limit = waxvm_result_limit(result);
    size_t bytes = 0;
    waxvm_result_output(result, &bytes);
    printf("%s%s%s, %zu bytes of output\n", names[waxvm_result_outcome(result)],
           limit != NULL ? ": " : "", limit != NULL ? limit : "", bytes);
    exit_code = waxvm_result_exit_code(result);
  }
  waxvm_result_close(result);
  waxvm_supervisor_close(host);
  return exit_code;
}
