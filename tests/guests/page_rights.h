/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a byte can be read and written. Needs `leave` as the handler of SIGSEGV. */
#ifndef WAXVM_TESTS_GUESTS_PAGE_RIGHTS_H_
#define WAXVM_TESTS_GUESTS_PAGE_RIGHTS_H_

#include <setjmp.h>

static sigjmp_buf back;

static void leave(int signal) { siglongjmp(back, signal); }

static int readable(const volatile char* at) {
  if (sigsetjmp(back, 1) != 0) return 0;
  (void)*at;
  return 1;
}
static int writable(volatile char* at) {
  if (sigsetjmp(back, 1) != 0) return 0;
  *at = *at;
  return 1;
}

#endif /* WAXVM_TESTS_GUESTS_PAGE_RIGHTS_H_ */
