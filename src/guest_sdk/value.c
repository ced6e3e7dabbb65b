/* SPDX-License-Identifier: Apache-2.0 */
/* Values in memory: built, looked at, freed. */
#include <stdlib.h>
#include <string.h>

#include "value_rep.h"

struct waxvm_value* waxvm_value_new_(int kind) {
  struct waxvm_value* value = (struct waxvm_value*)calloc(1, sizeof *value);
  if (value != NULL) value->kind = kind;
  return value;
}

char* waxvm_value_copy_(const void* bytes, size_t count) {
  char* copy = count < WAXVM_MAX_CALL_BYTES ? (char*)malloc(count + 1) : NULL;
  if (copy == NULL) return NULL;
  if (count != 0) memcpy(copy, bytes, count);
  copy[count] = '\0';
  return copy;
}

static struct waxvm_value* new_word(int kind, uint64_t word) {
  struct waxvm_value* value = waxvm_value_new_(kind);
  if (value != NULL) value->word = word;
  return value;
}

static struct waxvm_value* new_bytes(int kind, const void* bytes, size_t count) {
  struct waxvm_value* value = waxvm_value_new_(kind);
  if (value == NULL) return NULL;
  value->count = count;
  value->bytes = waxvm_value_copy_(bytes, count);
  if (value->bytes != NULL) return value;
  free(value);
  return NULL;
}

struct waxvm_value* waxvm_value_new_null(void) {
  return waxvm_value_new_(WAXVM_KIND_NULL);
}
struct waxvm_value* waxvm_value_new_bool(int value) {
  return new_word(WAXVM_KIND_BOOL, value != 0);
}
struct waxvm_value* waxvm_value_new_int64(int64_t value) {
  return new_word(WAXVM_KIND_INT64, (uint64_t)value);
}
struct waxvm_value* waxvm_value_new_uint64(uint64_t value) {
  return new_word(WAXVM_KIND_UINT64, value);
}
struct waxvm_value* waxvm_value_new_float64(double value) {
  uint64_t word;
  memcpy(&word, &value, sizeof word);
  return new_word(WAXVM_KIND_FLOAT64, word);
}
struct waxvm_value* waxvm_value_new_text(const char* text, size_t bytes) {
  return new_bytes(WAXVM_KIND_TEXT, text, bytes);
}
struct waxvm_value* waxvm_value_new_data(const void* data, size_t bytes) {
  return new_bytes(WAXVM_KIND_DATA, data, bytes);
}
struct waxvm_value* waxvm_value_new_list(void) {
  return waxvm_value_new_(WAXVM_KIND_LIST);
}
struct waxvm_value* waxvm_value_new_map(void) {
  return waxvm_value_new_(WAXVM_KIND_MAP);
}

/* Without recursion: who builds a value may nest it as deep as memory reaches. The list of what is
 * left to do is kept in the values' own members. */
void waxvm_value_free(struct waxvm_value* value) {
  struct waxvm_value* outer = NULL;
  while (value != NULL) {
    if (value->count != 0 && value->items != NULL) {
      struct waxvm_item_* last = &value->items[--value->count];
      struct waxvm_value* inner = last->value;
      free(last->key);
      value->bytes = (char*)outer; /* a list has no bytes */
      outer = value;
      value = inner;
      continue;
    }
    free(value->bytes);
    free(value->items);
    free(value);
    value = outer;
    if (outer != NULL) {
      outer = (struct waxvm_value*)(void*)value->bytes;
      value->bytes = NULL;
    }
  }
}

static int put(struct waxvm_value* to, int kind, char* key, size_t key_bytes,
               struct waxvm_value* item) {
  int code = WAXVM_CODE_OK;
  if (to == NULL || to->kind != kind) {
    code = WAXVM_CODE_INVALID_ARGUMENT;
  } else if (item == NULL) {
    code = WAXVM_CODE_RESOURCE_EXHAUSTED;
  } else if (to->count == to->capacity) {
    const size_t wanted = to->capacity == 0 ? 4 : to->capacity * 2;
    struct waxvm_item_* grown = (struct waxvm_item_*)realloc(to->items, wanted * sizeof *to->items);
    if (grown == NULL) code = WAXVM_CODE_RESOURCE_EXHAUSTED;
    if (grown != NULL) to->items = grown, to->capacity = wanted;
  }
  if (code != WAXVM_CODE_OK) {
    if (code == WAXVM_CODE_RESOURCE_EXHAUSTED) to->incomplete = 1;
    free(key);
    waxvm_value_free(item);
    return code;
  }
  to->items[to->count].value = item;
  to->items[to->count].key = key;
  to->items[to->count].key_bytes = key_bytes;
  ++to->count;
  return WAXVM_CODE_OK;
}

int waxvm_value_append(struct waxvm_value* list, struct waxvm_value* item) {
  if (list != NULL && list == item) return WAXVM_CODE_INVALID_ARGUMENT;
  return put(list, WAXVM_KIND_LIST, NULL, 0, item);
}

int waxvm_value_insert(struct waxvm_value* map, const char* key, size_t key_bytes,
                       struct waxvm_value* item) {
  char* copy;
  if (map != NULL && map == item) return WAXVM_CODE_INVALID_ARGUMENT;
  copy = waxvm_value_copy_(key, key_bytes);
  if (copy != NULL) return put(map, WAXVM_KIND_MAP, copy, key_bytes, item);
  waxvm_value_free(item);
  return put(map, WAXVM_KIND_MAP, NULL, 0, NULL);
}

int waxvm_value_kind(const struct waxvm_value* value) { return value != NULL ? value->kind : -1; }

int waxvm_value_get_bool(const struct waxvm_value* value, int* to) {
  if (waxvm_value_kind(value) != WAXVM_KIND_BOOL) return 0;
  *to = (int)value->word;
  return 1;
}

int waxvm_value_get_int64(const struct waxvm_value* value, int64_t* to) {
  const int kind = waxvm_value_kind(value);
  if (kind != WAXVM_KIND_INT64 && (kind != WAXVM_KIND_UINT64 || value->word > INT64_MAX)) return 0;
  *to = (int64_t)value->word;
  return 1;
}

int waxvm_value_get_uint64(const struct waxvm_value* value, uint64_t* to) {
  const int kind = waxvm_value_kind(value);
  if (kind != WAXVM_KIND_UINT64 && (kind != WAXVM_KIND_INT64 || value->word > INT64_MAX)) return 0;
  *to = value->word;
  return 1;
}

int waxvm_value_get_float64(const struct waxvm_value* value, double* to) {
  if (waxvm_value_kind(value) != WAXVM_KIND_FLOAT64) return 0;
  memcpy(to, &value->word, sizeof *to);
  return 1;
}

const char* waxvm_value_get_bytes(const struct waxvm_value* value, size_t* bytes) {
  const int kind = waxvm_value_kind(value);
  const int has = kind == WAXVM_KIND_TEXT || kind == WAXVM_KIND_DATA;
  if (bytes != NULL) *bytes = has ? value->count : 0;
  return has ? value->bytes : NULL;
}

size_t waxvm_value_count(const struct waxvm_value* value) {
  const int kind = waxvm_value_kind(value);
  return kind == WAXVM_KIND_LIST || kind == WAXVM_KIND_MAP ? value->count : 0;
}

const struct waxvm_value* waxvm_value_at(const struct waxvm_value* value, size_t index) {
  return index < waxvm_value_count(value) ? value->items[index].value : NULL;
}

const char* waxvm_value_key(const struct waxvm_value* map, size_t index, size_t* key_bytes) {
  const int has = waxvm_value_kind(map) == WAXVM_KIND_MAP && index < map->count;
  if (key_bytes != NULL) *key_bytes = has ? map->items[index].key_bytes : 0;
  return has ? map->items[index].key : NULL;
}

const struct waxvm_value* waxvm_value_find(const struct waxvm_value* map, const char* key,
                                           size_t key_bytes) {
  size_t i;
  if (waxvm_value_kind(map) != WAXVM_KIND_MAP) return NULL;
  for (i = 0; i < map->count; ++i)
    if (map->items[i].key_bytes == key_bytes &&
        (key_bytes == 0 || memcmp(map->items[i].key, key, key_bytes) == 0))
      return map->items[i].value;
  return NULL;
}
