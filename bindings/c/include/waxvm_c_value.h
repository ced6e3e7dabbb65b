/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed values for calls, for C: built here, encoded as the arguments of a call; and the result of
 * a call, decoded. The rules of waxvm_c.h hold; docs/formats/value.md is what is on the wire, and a
 * guest reads and writes them with waxvm/guest_value.h or the Cap'n Proto library of its language.
 *
 *   waxvm_value *order = waxvm_value_new_map();
 *   waxvm_value_insert(order, "item", 4, waxvm_value_new_text("tea", 3), &error);
 *   waxvm_value_insert(order, "count", 5, waxvm_value_new_int64(2), &error);
 *   waxvm_value_encode(order, &message, &error);
 *   arguments = waxvm_bytes_data(message, &argument_bytes);
 */
#ifndef WAXVM_C_VALUE_H_
#define WAXVM_C_VALUE_H_

#include "waxvm_c.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WAXVM_VALUE_NULL 0
#define WAXVM_VALUE_BOOL 1
#define WAXVM_VALUE_INT64 2
#define WAXVM_VALUE_UINT64 3
#define WAXVM_VALUE_FLOAT64 4
#define WAXVM_VALUE_TEXT 5 /* UTF-8 */
#define WAXVM_VALUE_DATA 6 /* any bytes */
#define WAXVM_VALUE_LIST 7
#define WAXVM_VALUE_MAP 8 /* in an order; keys are UTF-8, none is there twice */

/* Lists and maps inside of each other, the outermost included; values in one message. */
#define WAXVM_MOST_VALUE_DEPTH 32
#define WAXVM_MOST_VALUES ((size_t)1 << 20)

/* A value with everything in it. Thread safety: as memory, one writer or many readers. */
typedef struct waxvm_value waxvm_value;

/* The new value, to be closed or put into another one; NULL where there is no memory, or for NULL
 * with a length. */
WAXVM_API waxvm_value* waxvm_value_new_null(void);
WAXVM_API waxvm_value* waxvm_value_new_bool(int value);
WAXVM_API waxvm_value* waxvm_value_new_int64(int64_t value);
WAXVM_API waxvm_value* waxvm_value_new_uint64(uint64_t value);
WAXVM_API waxvm_value* waxvm_value_new_float64(double value);
WAXVM_API waxvm_value* waxvm_value_new_text(const char* text, size_t byte_count);
WAXVM_API waxvm_value* waxvm_value_new_data(const void* bytes, size_t byte_count);
WAXVM_API waxvm_value* waxvm_value_new_list(void);
WAXVM_API waxvm_value* waxvm_value_new_map(void);
WAXVM_API void waxvm_value_close(waxvm_value* value);

/* Puts `item` at the end of a list, or under a key at the end of a map. `item` belongs to it then;
 * it is closed even when this fails (WAXVM_INVALID_ARGUMENT: NULL, or no list or map), except where
 * it would be put into itself. */
WAXVM_API waxvm_status waxvm_value_append(waxvm_value* list, waxvm_value* item, waxvm_error* error);
WAXVM_API waxvm_status waxvm_value_insert(waxvm_value* map, const char* key, size_t key_bytes,
                                          waxvm_value* item, waxvm_error* error);

/* The message that a call takes as its arguments. WAXVM_INVALID_ARGUMENT for text that is not
 * UTF-8, a key that is there twice, and what is over a bound. */
WAXVM_API waxvm_status waxvm_value_encode(const waxvm_value* value, waxvm_bytes** message,
                                          waxvm_error* error);
/* The value in a message that anybody may have written. WAXVM_INVALID_ARGUMENT says what is wrong
 * with it. */
WAXVM_API waxvm_status waxvm_value_decode(const void* message, size_t message_bytes,
                                          waxvm_value** value, waxvm_error* error);

/* A WAXVM_VALUE_; -1 for NULL. */
WAXVM_API int waxvm_value_kind(const waxvm_value* value);
/* Not 0, and the number is in `to`, where the value is such a one: a number of either integer kind
 * that fits, for both of them. */
WAXVM_API int waxvm_value_get_bool(const waxvm_value* value, int* to);
WAXVM_API int waxvm_value_get_int64(const waxvm_value* value, int64_t* to);
WAXVM_API int waxvm_value_get_uint64(const waxvm_value* value, uint64_t* to);
WAXVM_API int waxvm_value_get_float64(const waxvm_value* value, double* to);
/* Text or data, terminated; NULL and 0 where it is neither. `byte_count` may be NULL. */
WAXVM_API const char* waxvm_value_get_bytes(const waxvm_value* value, size_t* byte_count);
/* Elements of a list, entries of a map, otherwise 0. */
WAXVM_API size_t waxvm_value_count(const waxvm_value* value);
/* The element, or the value of the entry, at `index`; NULL: there is none. What this and the two
 * below give belongs to `value`, and is valid until that is changed or closed. */
WAXVM_API const waxvm_value* waxvm_value_at(const waxvm_value* value, size_t index);
/* The key of the entry at `index`, terminated. */
WAXVM_API const char* waxvm_value_key(const waxvm_value* map, size_t index, size_t* key_bytes);
/* What is in a map under a key; NULL: there is none. */
WAXVM_API const waxvm_value* waxvm_value_find(const waxvm_value* map, const char* key,
                                              size_t key_bytes);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_C_VALUE_H_ */
