/* SPDX-License-Identifier: Apache-2.0 */
/* run_in_every_provider PROGRAM: the same file under each boundary that works on this machine. */
#include <stdio.h>

#include "waxvm_c.h"

int main(int argc, char** argv) {
  static const char* const names[] = {"process", "microvm"};
  static const waxvm_provider providers[] = {WAXVM_PROVIDER_PROCESS, WAXVM_PROVIDER_MICROVM};
  for (int i = 0; i < 2; ++i) {
    waxvm_error error = WAXVM_ERROR_INIT;
    waxvm_supervisor* host = NULL;
    waxvm_result* result = NULL;
    printf("%s: ", names[i]);
    const waxvm_status status = waxvm_supervisor_open(providers[i], &host, &error) ||
                                        waxvm_run_file(host, argv[argc - 1], NULL, &result, &error)
                                    ? error.code
                                    : WAXVM_OK;
    if (status == WAXVM_OK)
      printf("exit code %d, output:\n%s", waxvm_result_exit_code(result),
             waxvm_result_output(result, NULL));
    else
      printf("%s%s\n", status == WAXVM_UNAVAILABLE ? "not available: " : "", error.message);
    waxvm_result_close(result);
    waxvm_supervisor_close(host);
    if (status != WAXVM_OK && status != WAXVM_UNAVAILABLE) return 1;
  }
  return 0;
}
