/* SPDX-License-Identifier: Apache-2.0 */
/* run_program PROGRAM [ARGUMENTS]: runs an untrusted program in a microVM, with nothing but 64 MiB
 * of memory and a second of time. */
#include <stdio.h>

#include "waxvm_c.h"

int main(int argc, char** argv) {
  waxvm_error error = WAXVM_ERROR_INIT;
  waxvm_run_options options = WAXVM_RUN_OPTIONS_INIT;
  waxvm_supervisor* host = NULL;
  waxvm_result* result = NULL;
  int exit_code = 1;
  if (argc < 2) return fputs("run_program PROGRAM [ARGUMENTS]\n", stderr), 2;
  options.arguments = (const char* const*)argv + 2;
  options.argument_count = (size_t)argc - 2;
  options.memory_bytes = 64u << 20;
  options.wall_time_ns = 1000u * 1000u * 1000u;
  if (waxvm_supervisor_open(WAXVM_PROVIDER_MICROVM, &host, &error) ||
      waxvm_run_file(host, argv[1], &options, &result, &error)) {
    fprintf(stderr, "waxvm: %s\n", error.message);
  } else {
    size_t bytes = 0;
    const char* output = waxvm_result_output(result, &bytes);
    fwrite(output, 1, bytes, stdout);
    exit_code = waxvm_result_exit_code(result);
  }
  waxvm_result_close(result);
  waxvm_supervisor_close(host);
  return exit_code;
}
