/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WAXVM_BINDINGS_C_TEST_CHECK_H_
#define WAXVM_BINDINGS_C_TEST_CHECK_H_

#include <stdio.h>
#include <stdlib.h>

static int failures;

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);             \
    }                                                                 \
  } while (0)

static inline const char* guest(const char* name) {
  static _Thread_local char path[4096];
  const char* folder = getenv("WAXVM_GUEST_DIR");
  snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : ".", name);
  return path;
}

#endif /* WAXVM_BINDINGS_C_TEST_CHECK_H_ */
