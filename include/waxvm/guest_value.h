/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed values for guests: the arguments of a call, read; its result, built. C11, in
 * libwaxvm_guest.a, which needs no Cap'n Proto library for it; docs/formats/value.md is what is on
 * the wire.
 *
 *   struct waxvm_value *order = NULL;
 *   int code = waxvm_value_decode(arguments, bytes, &order);
 *   if (code != WAXVM_CODE_OK) return waxvm_reply_error(reply, code, "no order");
 *   …waxvm_value_get_int64(waxvm_value_find(order, "count", 5), &count)…
 *   waxvm_value_free(order);
 *   return waxvm_reply_value(reply, waxvm_value_new_int64(count * price));
 *
 * Thread safety: as memory, one writer or many readers.
 */
#ifndef WAXVM_GUEST_VALUE_H_
#define WAXVM_GUEST_VALUE_H_

#include <stddef.h>
#include <stdint.h>

#include "waxvm/guest.h"

#ifdef __cplusplus
extern "C" {
#endif

enum waxvm_kind {
  WAXVM_KIND_NULL = 0,
  WAXVM_KIND_BOOL = 1,
  WAXVM_KIND_INT64 = 2,
  WAXVM_KIND_UINT64 = 3,
  WAXVM_KIND_FLOAT64 = 4,
  WAXVM_KIND_TEXT = 5, /* UTF-8 */
  WAXVM_KIND_DATA = 6, /* any bytes */
  WAXVM_KIND_LIST = 7,
  WAXVM_KIND_MAP = 8 /* in an order; keys are UTF-8 */
};

/* Lists and maps inside of each other, the outermost included; values in one message. */
#define WAXVM_MAX_VALUE_DEPTH 32
#define WAXVM_MAX_VALUES ((size_t)1 << 20)

/* A value with everything in it. */
struct waxvm_value;

/* The new value, to be freed or given away; NULL: no memory. */
struct waxvm_value* waxvm_value_new_null(void);
struct waxvm_value* waxvm_value_new_bool(int value);
struct waxvm_value* waxvm_value_new_int64(int64_t value);
struct waxvm_value* waxvm_value_new_uint64(uint64_t value);
struct waxvm_value* waxvm_value_new_float64(double value);
struct waxvm_value* waxvm_value_new_text(const char* text, size_t bytes);
struct waxvm_value* waxvm_value_new_data(const void* data, size_t bytes);
struct waxvm_value* waxvm_value_new_list(void);
struct waxvm_value* waxvm_value_new_map(void);
void waxvm_value_free(struct waxvm_value* value);

/*
 * Puts `item` at the end of a list, or under a key at the end of a map, to which it belongs then;
 * it is freed where this fails. Returns WAXVM_CODE_OK; WAXVM_CODE_INVALID_ARGUMENT, no list or map,
 * or into itself (which frees nothing); WAXVM_CODE_RESOURCE_EXHAUSTED, no memory, or `item` is
 * NULL. After a failure that is not of the first kind the whole cannot be encoded any more: it is
 * enough to look there.
 */
int waxvm_value_append(struct waxvm_value* list, struct waxvm_value* item);
int waxvm_value_insert(struct waxvm_value* map, const char* key, size_t key_bytes,
                       struct waxvm_value* item);

/* Makes the message of `value` the whole answer, frees the value (NULL is no memory) and returns
 * the code to be returned. */
int waxvm_reply_value(struct waxvm_reply* reply, struct waxvm_value* value);

/*
 * The message of a value, for waxvm_call; to be freed with free. Returns WAXVM_CODE_OK;
 * WAXVM_CODE_INVALID_ARGUMENT for more than WAXVM_MAX_VALUE_DEPTH, WAXVM_MAX_VALUES or
 * WAXVM_MAX_CALL_BYTES; WAXVM_CODE_RESOURCE_EXHAUSTED, no memory. Whether text is UTF-8 and keys
 * are there once, the host looks.
 */
int waxvm_value_encode(const struct waxvm_value* value, void** message, size_t* bytes);

/* The value in a message. Returns WAXVM_CODE_OK; WAXVM_CODE_INVALID_ARGUMENT, it is none;
 * WAXVM_CODE_RESOURCE_EXHAUSTED, no memory. */
int waxvm_value_decode(const void* message, size_t bytes, struct waxvm_value** value);

/* A WAXVM_KIND_; -1 for NULL, as what is not there. */
int waxvm_value_kind(const struct waxvm_value* value);
/* 1, and the number is in `to`, where the value is such a one: a number of either integer kind that
 * fits, for both of them. Otherwise 0. */
int waxvm_value_get_bool(const struct waxvm_value* value, int* to);
int waxvm_value_get_int64(const struct waxvm_value* value, int64_t* to);
int waxvm_value_get_uint64(const struct waxvm_value* value, uint64_t* to);
int waxvm_value_get_float64(const struct waxvm_value* value, double* to);
/* Text or data, terminated; NULL and 0 where it is neither. `bytes` may be NULL. */
const char* waxvm_value_get_bytes(const struct waxvm_value* value, size_t* bytes);
/* Elements of a list, entries of a map, otherwise 0. */
size_t waxvm_value_count(const struct waxvm_value* value);
/* The element, or the value of the entry, at `index`; NULL: there is none. It belongs to `value`.
 */
const struct waxvm_value* waxvm_value_at(const struct waxvm_value* value, size_t index);
/* The key of the entry at `index`, terminated. */
const char* waxvm_value_key(const struct waxvm_value* map, size_t index, size_t* key_bytes);
/* What is in a map under a key; NULL: there is none. */
const struct waxvm_value* waxvm_value_find(const struct waxvm_value* map, const char* key,
                                           size_t key_bytes);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_GUEST_VALUE_H_ */
