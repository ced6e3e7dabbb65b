/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WAXVM_SRC_GUEST_SDK_VALUE_REP_H_
#define WAXVM_SRC_GUEST_SDK_VALUE_REP_H_

#include <stddef.h>
#include <stdint.h>

#include "waxvm/guest_value.h"

/* An element of a list, or an entry of a map. */
struct waxvm_item_ {
  struct waxvm_value* value;
  char* key; /* terminated; NULL in a list */
  size_t key_bytes;
};

struct waxvm_value {
  int kind;
  int incomplete;  /* something could not be put into it */
  uint64_t word;   /* a boolean or number, as it is on the wire */
  char* bytes;     /* text or data, terminated */
  size_t count;    /* of bytes or items */
  size_t capacity; /* of items */
  struct waxvm_item_* items;
};

struct waxvm_value* waxvm_value_new_(int kind);
/* A terminated copy; NULL: no memory. */
char* waxvm_value_copy_(const void* bytes, size_t count);

#endif /* WAXVM_SRC_GUEST_SDK_VALUE_REP_H_ */
