/* SPDX-License-Identifier: Apache-2.0 */
/* call_values: functions over typed values, and answers that only look like values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "waxvm/guest_value.h"

/* A value like this one, put together anew; NULL: no memory. */
static struct waxvm_value* copy_of(const struct waxvm_value* from) {
  size_t bytes, i;
  const char* data = waxvm_value_get_bytes(from, &bytes);
  struct waxvm_value* to;
  int64_t small;
  uint64_t large;
  double real;
  int yes;
  switch (waxvm_value_kind(from)) {
    case WAXVM_KIND_NULL:
      return waxvm_value_new_null();
    case WAXVM_KIND_BOOL:
      return waxvm_value_get_bool(from, &yes) ? waxvm_value_new_bool(yes) : NULL;
    case WAXVM_KIND_INT64:
      return waxvm_value_get_int64(from, &small) ? waxvm_value_new_int64(small) : NULL;
    case WAXVM_KIND_UINT64:
      return waxvm_value_get_uint64(from, &large) ? waxvm_value_new_uint64(large) : NULL;
    case WAXVM_KIND_FLOAT64:
      return waxvm_value_get_float64(from, &real) ? waxvm_value_new_float64(real) : NULL;
    case WAXVM_KIND_TEXT:
      return waxvm_value_new_text(data, bytes);
    case WAXVM_KIND_DATA:
      return waxvm_value_new_data(data, bytes);
    case WAXVM_KIND_LIST:
      to = waxvm_value_new_list();
      for (i = 0; i < waxvm_value_count(from); ++i)
        waxvm_value_append(to, copy_of(waxvm_value_at(from, i)));
      return to;
    default:
      to = waxvm_value_new_map();
      for (i = 0; i < waxvm_value_count(from); ++i) {
        const char* key = waxvm_value_key(from, i, &bytes);
        waxvm_value_insert(to, key, bytes, copy_of(waxvm_value_at(from, i)));
      }
      return to;
  }
}

static int copy(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  struct waxvm_value *given, *made;
  const int code = waxvm_value_decode(arguments, bytes, &given);
  (void)context;
  if (code != WAXVM_CODE_OK) return waxvm_reply_error(reply, code, "the arguments are no value");
  made = copy_of(given);
  waxvm_value_free(given);
  waxvm_reply_write(reply, "noise", 5); /* what was written before is not the answer's */
  return waxvm_reply_value(reply, made);
}

static int kinds(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  struct waxvm_value *map = waxvm_value_new_map(), *list = waxvm_value_new_list();
  (void)context, (void)arguments, (void)bytes;
  waxvm_value_append(list, waxvm_value_new_null());
  waxvm_value_append(list, waxvm_value_new_bool(1));
  waxvm_value_append(list, waxvm_value_new_int64(INT64_MIN));
  waxvm_value_append(list, waxvm_value_new_uint64(UINT64_MAX));
  waxvm_value_append(list, waxvm_value_new_float64(NAN));
  waxvm_value_append(list, waxvm_value_new_float64(-INFINITY));
  waxvm_value_append(list, waxvm_value_new_data("\0\xff", 2));
  waxvm_value_append(list, waxvm_value_new_map());
  waxvm_value_insert(map, "list", 4, list);
  waxvm_value_insert(map, "", 0, waxvm_value_new_text("\xe2\x82\xac", 3));
  return waxvm_reply_value(reply, map);
}

/* So many lists in each other as the arguments, a value, say. */
static int nest(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  struct waxvm_value *given, *value = waxvm_value_new_list();
  int64_t levels = 0;
  (void)context;
  if (waxvm_value_decode(arguments, bytes, &given) != WAXVM_CODE_OK ||
      !waxvm_value_get_int64(given, &levels))
    return waxvm_reply_error(reply, WAXVM_CODE_INVALID_ARGUMENT, "a number is needed");
  waxvm_value_free(given);
  for (int64_t i = 1; i < levels; ++i) {
    struct waxvm_value* outer = waxvm_value_new_list();
    waxvm_value_append(outer, value);
    value = outer;
  }
  return waxvm_reply_value(reply, value);
}

/* {"item": …, "count": …} to {"item": …, "total": …}; what one costs the host says, as a value. */
static int order(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  static struct waxvm_answer answer;
  struct waxvm_value *given, *price = NULL, *total;
  const struct waxvm_value* item;
  int64_t count = 0, cents = 0;
  void* request;
  int code = waxvm_value_decode(arguments, bytes, &given);
  (void)context;
  if (code != WAXVM_CODE_OK) return waxvm_reply_error(reply, code, "the order is no value");
  item = waxvm_value_find(given, "item", 4);
  if (item == NULL || !waxvm_value_get_int64(waxvm_value_find(given, "count", 5), &count)) {
    waxvm_value_free(given);
    return waxvm_reply_error(reply, WAXVM_CODE_INVALID_ARGUMENT, "an item and a count are needed");
  }
  code = waxvm_value_encode(item, &request, &bytes);
  if (code == WAXVM_CODE_OK) {
    code = waxvm_call("price", request, bytes, &answer);
    free(request);
  }
  if (code == WAXVM_CODE_OK) code = waxvm_value_decode(answer.data, answer.bytes, &price);
  total = waxvm_value_new_map();
  if (code == WAXVM_CODE_OK && waxvm_value_get_int64(price, &cents)) {
    waxvm_value_insert(total, "item", 4, copy_of(item));
    waxvm_value_insert(total, "total", 5, waxvm_value_new_int64(count * cents));
  }
  waxvm_value_free(price);
  waxvm_value_free(given);
  if (code == WAXVM_CODE_OK) return waxvm_reply_value(reply, total);
  waxvm_value_free(total);
  return waxvm_reply_error(reply, code < 0 ? WAXVM_CODE_UNAVAILABLE : code, "no price");
}

/* {"count": …, "price": …} to {"total": …}. */
static int total(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  struct waxvm_value *order, *made;
  int64_t count = 0, price = 0;
  const int code = waxvm_value_decode(arguments, bytes, &order);
  (void)context;
  if (code != WAXVM_CODE_OK) return waxvm_reply_error(reply, code, "the order is no value");
  waxvm_value_get_int64(waxvm_value_find(order, "count", 5), &count);
  waxvm_value_get_int64(waxvm_value_find(order, "price", 5), &price);
  waxvm_value_free(order);
  made = waxvm_value_new_map();
  waxvm_value_insert(made, "total", 5, waxvm_value_new_int64(count * price));
  return waxvm_reply_value(reply, made); /* and frees it */
}

/* Words of a message of one segment. */
static uint64_t words[1 << 20];
static size_t word_count;

static void add(uint64_t word) { words[word_count++] = word; }
static uint64_t to_list(int32_t offset, uint64_t size) {
  return size << 35 | (uint64_t)7 << 32 | (uint32_t)offset << 2 | 1;
}
#define VALUE_SIZE ((uint64_t)2 << 32 | (uint64_t)1 << 48)
#define LIST 7u

/* Lists of ten elements that all lead to the same next list. */
static void bomb(int levels) {
  add(LIST), add(0), add(to_list(0, 30));
  for (int level = 0; level < levels; ++level) {
    add(VALUE_SIZE | 10 << 2);
    for (int i = 0; i < 10; ++i)
      add(level == levels - 1 ? 0 : LIST), add(0),
          add(level == levels - 1 ? 0 : to_list((9 - i) * 3, 30));
  }
}

static void nested_raw(int levels) {
  add(LIST), add(0), add(to_list(0, 3));
  for (int level = 1; level < levels; ++level)
    add(VALUE_SIZE | 1 << 2), add(LIST), add(0), add(to_list(0, level == levels - 1 ? 0 : 3));
  add(VALUE_SIZE);
}

static int hostile(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  char what[32] = {0};
  (void)context;
  memcpy(what, arguments, bytes < sizeof what ? bytes : sizeof what - 1);
  word_count = 0;
  add(0), add(VALUE_SIZE); /* segment table, root */
  if (strcmp(what, "fine") == 0) nested_raw(32);
  if (strcmp(what, "bomb") == 0) bomb(8);
  if (strcmp(what, "depth") == 0) nested_raw(33);
  if (strcmp(what, "very_deep") == 0) nested_raw(200000);
  if (strcmp(what, "loop") == 0)
    add(LIST), add(0), add(to_list(0, 3)), add(VALUE_SIZE | 1 << 2), add(LIST), add(0),
        add(to_list(-4, 3));
  if (strcmp(what, "outside") == 0) add(LIST), add(0), add(to_list(1 << 20, 3));
  if (strcmp(what, "before") == 0) add(LIST), add(0), add(to_list(-(1 << 20), 3));
  if (strcmp(what, "long_list") == 0) add(LIST), add(0), add(to_list(0, (1 << 29) - 1));
  if (strcmp(what, "empty_elements") == 0)
    add(LIST), add(0), add(to_list(0, 0)), add((uint64_t)1 << 30);
  if (strcmp(what, "long_text") == 0)
    add(5), add(0), add((uint64_t)2 << 32 | (uint64_t)0xffffffff << 35 | 1), add(0);
  if (strcmp(what, "open_text") == 0)
    add(5), add(0), add((uint64_t)2 << 32 | (uint64_t)8 << 35 | 1), add(~(uint64_t)0);
  if (strcmp(what, "no_text") == 0)
    add(5), add(0), add((uint64_t)2 << 32 | (uint64_t)2 << 35 | 1), add(0xff);
  if (strcmp(what, "far") == 0) add(LIST), add(0), add((uint64_t)9 << 32 | 2);
  if (strcmp(what, "kind") == 0) add(9), add(0), add(0);
  if (strcmp(what, "capability") == 0) add(LIST), add(0), add(3);
  if (strcmp(what, "segments") == 0) add(0), words[0] = 0xffffffff;
  words[0] |= (uint64_t)(word_count - 1) << 32;
  if (strcmp(what, "many") == 0) memset(words, 0xff, 4096), word_count = 512;
  if (strcmp(what, "truncated") == 0)
    nested_raw(8), words[0] = (uint64_t)(word_count - 1) << 32, --word_count;
  if (strcmp(what, "odd") == 0) return waxvm_reply_write(reply, words, 23);
  if (strcmp(what, "nothing") == 0) return WAXVM_CODE_OK;
  return waxvm_reply_write(reply, words, word_count * 8);
}

int main(void) {
  if (waxvm_export("copy", copy, NULL) != 0 || waxvm_export("kinds", kinds, NULL) != 0 ||
      waxvm_export("nest", nest, NULL) != 0 || waxvm_export("order", order, NULL) != 0 ||
      waxvm_export("total", total, NULL) != 0 || waxvm_export("hostile", hostile, NULL) != 0)
    return 1;
  return waxvm_serve_calls() == 0 ? 0 : 2;
}
