/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as Cap'n Proto messages of value.capnp, without its library: a value is a struct of two
 * words (kind and boolean; number) and one pointer, an entry of a map one of two pointers.
 */
#include <stdlib.h>
#include <string.h>

#include "value_rep.h"

enum { VALUE_DATA = 2, VALUE_POINTERS = 1, VALUE_WORDS = 3, ENTRY_WORDS = 2 };
enum { POINTER_STRUCT = 0, POINTER_LIST = 1, POINTER_FAR = 2 };
enum { LIST_OF_BYTES = 2, LIST_COMPOSITE = 7 };
#define MAX_WORDS (WAXVM_MAX_CALL_BYTES / 8)
#define MAX_SEGMENTS 512u

/*
 * Writing: one segment, its size counted first.
 */
struct writer {
  uint64_t* words;
  size_t next; /* the first word that is free */
  size_t values;
};

static size_t words_of(size_t bytes) { return (bytes + 7) / 8; }

/* Words behind the value's own struct; a code. */
static int measure(const struct waxvm_value* value, int depth, size_t* words, size_t* values) {
  size_t i;
  if (value->incomplete) return WAXVM_CODE_RESOURCE_EXHAUSTED;
  if (++*values > WAXVM_MAX_VALUES) return WAXVM_CODE_INVALID_ARGUMENT;
  if (value->kind == WAXVM_KIND_TEXT || value->kind == WAXVM_KIND_DATA) {
    *words += words_of(value->count + (value->kind == WAXVM_KIND_TEXT));
  } else if (value->kind >= WAXVM_KIND_LIST) {
    if (depth >= WAXVM_MAX_VALUE_DEPTH) return WAXVM_CODE_INVALID_ARGUMENT;
    *words += 1; /* the tag */
    for (i = 0; i < value->count; ++i) {
      int code;
      *words += VALUE_WORDS;
      if (value->kind == WAXVM_KIND_MAP)
        *words += ENTRY_WORDS + words_of(value->items[i].key_bytes + 1);
      if (*words > MAX_WORDS) return WAXVM_CODE_INVALID_ARGUMENT;
      code = measure(value->items[i].value, depth + 1, words, values);
      if (code != WAXVM_CODE_OK) return code;
    }
  }
  return *words > MAX_WORDS ? WAXVM_CODE_INVALID_ARGUMENT : WAXVM_CODE_OK;
}

static uint64_t struct_tag(uint64_t low, uint64_t data, uint64_t pointers) {
  return (low << 2) | data << 32 | pointers << 48;
}

/* A pointer in the word `at` to what begins at `to`. */
static uint64_t list_pointer(size_t at, size_t to, uint64_t size_kind, uint64_t count) {
  return (((uint64_t)(to - at - 1) << 2 | POINTER_LIST) & 0xffffffffu) | size_kind << 32 |
         count << 35;
}

static void write_bytes(struct writer* writer, size_t at, const char* bytes, size_t count) {
  if (count != 0) memcpy(&writer->words[writer->next], bytes, count);
  writer->words[at] = list_pointer(at, writer->next, LIST_OF_BYTES, count);
  writer->next += words_of(count);
}

/* Writes the struct at `at`, whose place is taken already, and takes that of what it leads to. */
static void write_value(struct writer* writer, const struct waxvm_value* value, size_t at) {
  const int is_map = value->kind == WAXVM_KIND_MAP;
  const size_t step = is_map ? ENTRY_WORDS : VALUE_WORDS;
  const size_t pointer = at + VALUE_DATA;
  size_t i, first;
  writer->words[at] = (uint64_t)value->kind;
  if (value->kind == WAXVM_KIND_BOOL) writer->words[at] |= value->word << 16;
  if (value->kind >= WAXVM_KIND_INT64 && value->kind <= WAXVM_KIND_FLOAT64)
    writer->words[at + 1] = value->word;
  if (value->kind == WAXVM_KIND_TEXT) write_bytes(writer, pointer, value->bytes, value->count + 1);
  if (value->kind == WAXVM_KIND_DATA) write_bytes(writer, pointer, value->bytes, value->count);
  if (value->kind < WAXVM_KIND_LIST) return;
  writer->words[pointer] =
      list_pointer(pointer, writer->next, LIST_COMPOSITE, (uint64_t)(value->count * step));
  writer->words[writer->next] = is_map ? struct_tag(value->count, 0, 2)
                                       : struct_tag(value->count, VALUE_DATA, VALUE_POINTERS);
  first = writer->next + 1;
  writer->next = first + value->count * step;
  for (i = 0; i < value->count; ++i) {
    const struct waxvm_item_* item = &value->items[i];
    size_t place = first + i * step;
    if (is_map) {
      write_bytes(writer, place, item->key, item->key_bytes + 1);
      writer->words[place + 1] =
          struct_tag(writer->next - (place + 1) - 1, VALUE_DATA, VALUE_POINTERS);
      place = writer->next;
      writer->next += VALUE_WORDS;
    }
    write_value(writer, item->value, place);
  }
}

int waxvm_value_encode(const struct waxvm_value* value, void** message, size_t* bytes) {
  /* Segment table and root pointer, then the value. */
  size_t words = 2 + VALUE_WORDS, values = 0;
  struct writer writer;
  int code;
  *message = NULL;
  *bytes = 0;
  if (value == NULL) return WAXVM_CODE_RESOURCE_EXHAUSTED;
  code = measure(value, 0, &words, &values);
  if (code != WAXVM_CODE_OK) return code;
  writer.words = (uint64_t*)calloc(words, sizeof *writer.words);
  if (writer.words == NULL) return WAXVM_CODE_RESOURCE_EXHAUSTED;
  writer.words[0] = (uint64_t)(words - 1) << 32; /* one segment less one; its words */
  writer.words[1] = struct_tag(0, VALUE_DATA, VALUE_POINTERS);
  writer.next = 2 + VALUE_WORDS;
  write_value(&writer, value, 2);
  *message = writer.words;
  *bytes = words * 8;
  return WAXVM_CODE_OK;
}

int waxvm_reply_value(struct waxvm_reply* reply, struct waxvm_value* value) {
  void* message;
  size_t bytes;
  int code = waxvm_value_encode(value, &message, &bytes);
  waxvm_value_free(value);
  if (code == WAXVM_CODE_INVALID_ARGUMENT)
    return waxvm_reply_error(reply, WAXVM_CODE_RESOURCE_EXHAUSTED,
                             "the value of the answer is over 15 MiB, 32 levels or 2^20 values");
  if (code != WAXVM_CODE_OK)
    return waxvm_reply_error(reply, code, "the program has no memory for the answer");
  (void)waxvm_reply_error(reply, 0, ""); /* what was written before */
  code = waxvm_reply_write(reply, message, bytes);
  free(message);
  return code;
}

/*
 * Reading. Whoever wrote the message may have lied: every pointer is checked against its segment,
 * and each word is paid for as often as it is read, so that pointers that share what they lead to
 * cannot make a small message into a large value.
 */
struct reader {
  const unsigned char* segments[MAX_SEGMENTS];
  size_t segment_words[MAX_SEGMENTS];
  size_t segment_count;
  size_t budget; /* words */
  size_t values;
  int code;
};

struct place {
  size_t segment;
  size_t word;
};

/* What a pointer leads to. */
struct target {
  struct place at;
  int type; /* POINTER_, or -1: a null pointer */
  uint64_t word;
};

static int malformed(struct reader* reader) {
  if (reader->code == WAXVM_CODE_OK) reader->code = WAXVM_CODE_INVALID_ARGUMENT;
  return 0;
}

static int no_memory(struct reader* reader) {
  reader->code = WAXVM_CODE_RESOURCE_EXHAUSTED;
  return 0;
}

static uint64_t word_at(const struct reader* reader, struct place at) {
  uint64_t word;
  memcpy(&word, reader->segments[at.segment] + at.word * 8, sizeof word);
  return word;
}

static int inside(const struct reader* reader, struct place at, size_t words) {
  return at.segment < reader->segment_count && at.word <= reader->segment_words[at.segment] &&
         words <= reader->segment_words[at.segment] - at.word;
}

/* The words from `at` on may be read. */
static int pay(struct reader* reader, struct place at, size_t words) {
  const size_t price = words == 0 ? 1 : words;
  if (!inside(reader, at, words) || price > reader->budget) return malformed(reader);
  reader->budget -= price;
  return 1;
}

/* Where the pointer `word` at `at` leads; false: outside. */
static int lead(const struct reader* reader, struct place at, uint64_t word, struct place* to) {
  const int64_t offset = (int32_t)(uint32_t)word >> 2;
  const int64_t target = (int64_t)at.word + 1 + offset;
  if (target < 0) return 0;
  to->segment = at.segment;
  to->word = (size_t)target;
  return inside(reader, *to, 0);
}

static struct place landing(uint64_t far) {
  const struct place at = {(size_t)(far >> 32), (size_t)((uint32_t)far >> 3)};
  return at;
}

static int follow(struct reader* reader, struct place at, struct target* target) {
  target->word = word_at(reader, at);
  target->type = -1;
  if (target->word == 0) return 1;
  if ((target->word & 3) == POINTER_FAR) {
    const int twice = (target->word & 4) != 0;
    at = landing(target->word);
    if (!pay(reader, at, twice ? 2 : 1)) return 0;
    target->word = word_at(reader, at);
    if (twice) {
      const struct place tag = {at.segment, at.word + 1};
      if ((target->word & 7) != POINTER_FAR) return malformed(reader);
      target->at = landing(target->word);
      target->word = word_at(reader, tag);
      target->type = (int)(target->word & 3);
      if (target->type > POINTER_LIST || !inside(reader, target->at, 0)) return malformed(reader);
      return 1;
    }
  }
  target->type = (int)(target->word & 3);
  if (target->type > POINTER_LIST || !lead(reader, at, target->word, &target->at))
    return malformed(reader);
  return 1;
}

/* A list of bytes; `*bytes` is its own copy, which whoever calls frees. */
static int read_bytes(struct reader* reader, struct place at, int is_text, char** bytes,
                      size_t* count) {
  struct target target;
  size_t length;
  const char* from;
  if (!follow(reader, at, &target)) return 0;
  if (target.type == -1) {
    *count = 0;
    *bytes = waxvm_value_copy_("", 0);
    return *bytes != NULL ? 1 : no_memory(reader);
  }
  if (target.type != POINTER_LIST || ((target.word >> 32) & 7) != LIST_OF_BYTES)
    return malformed(reader);
  length = (size_t)(target.word >> 35);
  if (!pay(reader, target.at, words_of(length))) return 0;
  from = (const char*)reader->segments[target.at.segment] + target.at.word * 8;
  if (is_text && (length == 0 || from[--length] != '\0')) return malformed(reader);
  *count = length;
  *bytes = waxvm_value_copy_(from, length);
  return *bytes != NULL ? 1 : no_memory(reader);
}

/* A struct as the writer's version of the schema has it; what it lacks is zero. */
struct shape {
  struct place at;
  size_t data;
  size_t pointers;
};

static int open_struct(struct reader* reader, struct target target, struct shape* shape) {
  shape->at = target.at;
  shape->data = (size_t)(target.word >> 32) & 0xffff;
  shape->pointers = (size_t)(target.word >> 48);
  return pay(reader, shape->at, shape->data + shape->pointers);
}

static struct waxvm_value* read_value(struct reader* reader, struct shape from, int depth);

/* The struct that the second pointer of an entry leads to; one without bytes where there is none.
 */
static int read_entry_value(struct reader* reader, struct shape entry, struct shape* value) {
  const struct place at = {entry.at.segment, entry.at.word + entry.data + 1};
  struct target target;
  memset(value, 0, sizeof *value);
  if (entry.pointers < 2) return 1;
  if (!follow(reader, at, &target)) return 0;
  if (target.type == -1) return 1;
  if (target.type != POINTER_STRUCT) return malformed(reader);
  return open_struct(reader, target, value);
}

static int read_item(struct reader* reader, struct waxvm_value* to, struct shape from, int depth) {
  const struct place key_at = {from.at.segment, from.at.word + from.data};
  struct waxvm_value* item = NULL;
  struct shape inner;
  char* key = NULL;
  size_t key_bytes = 0;
  if (to->kind == WAXVM_KIND_LIST) {
    item = read_value(reader, from, depth);
    if (item == NULL) return 0;
    return waxvm_value_append(to, item) == WAXVM_CODE_OK ? 1 : no_memory(reader);
  }
  if (from.pointers == 0) return malformed(reader); /* a key is never left out */
  if (!read_bytes(reader, key_at, 1, &key, &key_bytes)) return 0;
  if (read_entry_value(reader, from, &inner)) item = read_value(reader, inner, depth);
  if (item != NULL && waxvm_value_insert(to, key, key_bytes, item) != WAXVM_CODE_OK)
    no_memory(reader);
  free(key);
  return item != NULL && reader->code == WAXVM_CODE_OK;
}

static int read_items(struct reader* reader, struct waxvm_value* to, struct place at, int depth) {
  struct target target;
  struct shape item;
  uint64_t tag;
  size_t words, count, i;
  if (depth >= WAXVM_MAX_VALUE_DEPTH) return malformed(reader);
  if (!follow(reader, at, &target)) return 0;
  if (target.type == -1) return 1;
  if (target.type != POINTER_LIST || ((target.word >> 32) & 7) != LIST_COMPOSITE)
    return malformed(reader);
  words = (size_t)(target.word >> 35);
  if (!pay(reader, target.at, words + 1)) return 0;
  tag = word_at(reader, target.at);
  count = (size_t)((uint32_t)tag >> 2);
  item.data = (size_t)(tag >> 32) & 0xffff;
  item.pointers = (size_t)(tag >> 48);
  if ((tag & 3) != POINTER_STRUCT || (uint64_t)count * (item.data + item.pointers) > words)
    return malformed(reader);
  item.at = target.at;
  item.at.word += 1;
  for (i = 0; i < count; ++i) {
    /* Elements that have no bytes cost their memory nevertheless. */
    if (item.data + item.pointers == 0 && !pay(reader, item.at, 0)) return 0;
    if (!read_item(reader, to, item, depth + 1)) return 0;
    item.at.word += item.data + item.pointers;
  }
  return 1;
}

static struct waxvm_value* read_value(struct reader* reader, struct shape from, int depth) {
  const struct place pointer = {from.at.segment, from.at.word + from.data};
  const struct place number = {from.at.segment, from.at.word + 1};
  const uint64_t first = from.data > 0 ? word_at(reader, from.at) : 0;
  const int kind = (int)(first & 0xffff);
  struct waxvm_value* value;
  int good = 1;
  if (kind > WAXVM_KIND_MAP || ++reader->values > WAXVM_MAX_VALUES) {
    malformed(reader);
    return NULL;
  }
  value = waxvm_value_new_(kind);
  if (value == NULL) {
    no_memory(reader);
    return NULL;
  }
  if (kind == WAXVM_KIND_BOOL) value->word = (first >> 16) & 1;
  if (kind >= WAXVM_KIND_INT64 && kind <= WAXVM_KIND_FLOAT64 && from.data > 1)
    value->word = word_at(reader, number);
  if (kind == WAXVM_KIND_TEXT || kind == WAXVM_KIND_DATA) {
    if (from.pointers > 0) {
      good = read_bytes(reader, pointer, kind == WAXVM_KIND_TEXT, &value->bytes, &value->count);
    } else {
      value->bytes = waxvm_value_copy_("", 0);
      good = value->bytes != NULL ? 1 : no_memory(reader);
    }
  } else if (kind >= WAXVM_KIND_LIST && from.pointers > 0) {
    good = read_items(reader, value, pointer, depth);
  }
  if (good) return value;
  waxvm_value_free(value);
  return NULL;
}

/* Takes the segment table apart. */
static int open_segments(struct reader* reader, const unsigned char* message, size_t bytes) {
  uint32_t count, words;
  size_t at, i;
  if (bytes < 8 || bytes % 8 != 0 || bytes > WAXVM_MAX_CALL_BYTES) return malformed(reader);
  memcpy(&count, message, sizeof count);
  if (count >= MAX_SEGMENTS) return malformed(reader);
  reader->segment_count = (size_t)count + 1;
  at = (reader->segment_count / 2 + 1) * 8;
  for (i = 0; i < reader->segment_count; ++i) {
    if (at > bytes) return malformed(reader);
    memcpy(&words, message + 4 + 4 * i, sizeof words);
    if (words > (bytes - at) / 8) return malformed(reader);
    reader->segments[i] = message + at;
    reader->segment_words[i] = words;
    at += (size_t)words * 8;
  }
  reader->budget = bytes / 8;
  return reader->segment_words[0] != 0 ? 1 : malformed(reader);
}

int waxvm_value_decode(const void* message, size_t bytes, struct waxvm_value** value) {
  struct reader* reader = (struct reader*)calloc(1, sizeof *reader);
  const struct place root = {0, 0};
  struct shape shape = {{0, 0}, 0, 0};
  struct target target;
  int code;
  *value = NULL;
  if (reader == NULL) return WAXVM_CODE_RESOURCE_EXHAUSTED;
  if (open_segments(reader, (const unsigned char*)message, bytes) &&
      follow(reader, root, &target)) {
    if (target.type == POINTER_LIST) malformed(reader);
    if (target.type == -1 || (target.type == POINTER_STRUCT && open_struct(reader, target, &shape)))
      *value = read_value(reader, shape, 0);
  }
  if (*value == NULL && reader->code == WAXVM_CODE_OK) reader->code = WAXVM_CODE_INVALID_ARGUMENT;
  code = reader->code;
  if (code != WAXVM_CODE_OK) {
    waxvm_value_free(*value);
    *value = NULL;
  }
  free(reader);
  return code;
}
