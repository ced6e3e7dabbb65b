/* SPDX-License-Identifier: Apache-2.0 */
/* Prints its arguments and environment, one a line; exits with their number. */
#include <stdio.h>

int main(int argc, char** argv, char** envp) {
  for (int i = 0; i < argc; i++) printf("argv[%d]=%s\n", i, argv[i]);
  for (int i = 0; envp[i] != NULL; i++) printf("env[%d]=%s\n", i, envp[i]);
  return argc;
}
