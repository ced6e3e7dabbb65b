/* SPDX-License-Identifier: Apache-2.0 */
/* Exported functions, and the loop that answers calls of them: docs/formats/call.md. */
#include <string.h>

#include "buffer.h"
#include "channel.h"
#include "waxvm/abi/host_call.h"
#include "waxvm/guest.h"

#define VERSION 1u
#define HEADER_BYTES 16u
enum state { STATE_READY = 0, STATE_RETURNED = 1, STATE_FAILED = 2, STATE_AGAIN = 3 };

struct export_entry {
  char* name;
  size_t name_bytes;
  waxvm_function function;
  void* context;
};

/* Sorted by length, then by bytes. A program has one set of exports, as it has one main. */
static struct export_entry* exports;
static size_t export_count;
static size_t export_capacity;
static int serving;

/* The answer to the call before: header and body in one piece, as it is sent. */
struct waxvm_reply {
  struct waxvm_buffer_ buffer;
  size_t bytes; /* of the body */
  int failed;   /* something did not fit */
};

/* The first entry that is not before the name; `*found` tells whether it is the name's. */
static size_t find(const char* name, size_t bytes, int* found) {
  size_t low = 0, high = export_count;
  *found = 0;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    const struct export_entry* entry = &exports[middle];
    const int order = entry->name_bytes != bytes ? (entry->name_bytes < bytes ? -1 : 1)
                                                 : memcmp(entry->name, name, bytes);
    if (order == 0) return *found = 1, middle;
    if (order < 0) low = middle + 1;
    if (order > 0) high = middle;
  }
  return low;
}

int waxvm_export(const char* name, waxvm_function function, void* context) {
  const size_t bytes = name == NULL ? 0 : strlen(name);
  char* copy;
  size_t at;
  int found;
  if (bytes == 0 || bytes > WAXVM_HOST_CALL_MAX_NAME || function == NULL) return WAXVM_EINVAL_;
  at = find(name, bytes, &found);
  if (found) return WAXVM_EEXIST_;
  if (export_count == export_capacity) {
    const size_t wanted = export_capacity == 0 ? 16 : export_capacity * 2;
    struct export_entry* grown = (struct export_entry*)realloc(exports, wanted * sizeof *exports);
    if (grown == NULL) return WAXVM_ENOMEM_;
    exports = grown;
    export_capacity = wanted;
  }
  copy = (char*)malloc(bytes);
  if (copy == NULL) return WAXVM_ENOMEM_;
  memcpy(copy, name, bytes);
  memmove(&exports[at + 1], &exports[at], (export_count - at) * sizeof *exports);
  exports[at].name = copy;
  exports[at].name_bytes = bytes;
  exports[at].function = function;
  exports[at].context = context;
  ++export_count;
  return 0;
}

int waxvm_reply_write(struct waxvm_reply* reply, const void* data, size_t bytes) {
  if (bytes > WAXVM_MAX_CALL_BYTES - reply->bytes ||
      !waxvm_buffer_reserve_(&reply->buffer, HEADER_BYTES + reply->bytes + bytes)) {
    reply->failed = 1;
    return WAXVM_CODE_RESOURCE_EXHAUSTED;
  }
  if (bytes != 0) memcpy(reply->buffer.data + HEADER_BYTES + reply->bytes, data, bytes);
  reply->bytes += bytes;
  return WAXVM_CODE_OK;
}

int waxvm_reply_error(struct waxvm_reply* reply, int code, const char* message) {
  reply->bytes = 0;
  reply->failed = 0;
  (void)waxvm_reply_write(reply, message, strlen(message));
  return code;
}

static size_t continuation(const unsigned char* at, const unsigned char* end, size_t count,
                           unsigned low, unsigned high) {
  size_t i;
  if ((size_t)(end - at) <= count || at[1] < low || at[1] > high) return 0;
  for (i = 2; i <= count; ++i)
    if (at[i] < 0x80 || at[i] > 0xbf) return 0;
  return count + 1;
}

/* The length of the UTF-8 sequence at `at`, 0 where there is none (RFC 3629). */
static size_t sequence(const unsigned char* at, const unsigned char* end) {
  const unsigned first = *at;
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continuation(at, end, 1, 0x80, 0xbf);
  if (first >= 0xe0 && first <= 0xef)
    return continuation(at, end, 2, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf);
  if (first >= 0xf0 && first <= 0xf4)
    return continuation(at, end, 3, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf);
  return 0;
}

/* The host takes messages that are text and not too long: others are made so. */
static void repair_message(struct waxvm_reply* reply) {
  unsigned char* at = reply->buffer.data + HEADER_BYTES;
  const unsigned char* end;
  if (reply->bytes > WAXVM_MAX_MESSAGE_BYTES) reply->bytes = WAXVM_MAX_MESSAGE_BYTES;
  end = at + reply->bytes;
  while (at < end) {
    const size_t bytes = sequence(at, end);
    if (bytes == 0) *at = '?';
    at += bytes == 0 ? 1 : bytes;
  }
}

/* Calls the function and makes `reply` its answer; returns the code. */
static int answer(const unsigned char* in, size_t name_bytes, size_t argument_bytes,
                  struct waxvm_reply* reply) {
  const char* name = (const char*)in + HEADER_BYTES;
  int found, code;
  const size_t at = find(name, name_bytes, &found);
  reply->bytes = 0;
  reply->failed = 0;
  if (!found) {
    (void)waxvm_reply_error(reply, 0, "the program exports no function ");
    (void)waxvm_reply_write(reply, name, name_bytes);
    code = WAXVM_CODE_NOT_FOUND;
  } else {
    code = exports[at].function(exports[at].context, name + name_bytes, argument_bytes, reply);
  }
  if (reply->failed)
    code = waxvm_reply_error(reply, WAXVM_CODE_RESOURCE_EXHAUSTED,
                             "the answer is over 15 MiB, or the program is out of memory");
  if (code < 0 || code > WAXVM_CODE_UNAUTHENTICATED)
    code = waxvm_reply_error(reply, WAXVM_CODE_INTERNAL,
                             "the function returned a number that is no status code");
  if (code != WAXVM_CODE_OK) repair_message(reply);
  return code;
}

static void put32(unsigned char* at, uint32_t value) { memcpy(at, &value, sizeof value); }
static uint32_t get32(const unsigned char* at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* Sends what is in `reply` and waits for the next call. */
static long exchange(struct waxvm_reply* reply, enum state state, int code,
                     struct waxvm_buffer_* in, struct waxvm_host_call* call) {
  static const char name[] = "waxvm.serve";
  long result;
  put32(reply->buffer.data, VERSION);
  put32(reply->buffer.data + 4, state);
  put32(reply->buffer.data + 8, (uint32_t)code);
  put32(reply->buffer.data + 12, 0);
  waxvm_channel_take_();
  result = waxvm_channel_call_(call, name, sizeof name - 1, reply->buffer.data,
                               HEADER_BYTES + reply->bytes, in->data, in->capacity);
  waxvm_channel_release_();
  return result;
}

static int serve(struct waxvm_reply* reply, struct waxvm_buffer_* in) {
  struct waxvm_host_call call;
  enum state state = STATE_READY;
  int code = 0;
  for (;;) {
    uint64_t name_bytes, argument_bytes;
    const long result = exchange(reply, state, code, in, &call);
    if (result != 0) return (int)result;
    if (call.status == WAXVM_CODE_CANCELLED) return 0;
    if (call.status == WAXVM_CODE_UNAVAILABLE) return WAXVM_ENOTCONN_;
    if (call.status != 0) return WAXVM_EPROTO_;
    reply->bytes = 0;
    code = 0;
    if (call.reply_bytes > in->capacity) {
      state = STATE_AGAIN;
      if (waxvm_buffer_reserve_(in, (size_t)call.reply_bytes)) continue;
      state = STATE_FAILED;
      code = waxvm_reply_error(reply, WAXVM_CODE_RESOURCE_EXHAUSTED,
                               "the program has no memory for the arguments");
      continue;
    }
    if (call.reply_bytes < HEADER_BYTES || get32(in->data) != VERSION) return WAXVM_EPROTO_;
    name_bytes = get32(in->data + 4);
    argument_bytes = get32(in->data + 8);
    if (HEADER_BYTES + name_bytes + argument_bytes != call.reply_bytes) return WAXVM_EPROTO_;
    code = answer(in->data, (size_t)name_bytes, (size_t)argument_bytes, reply);
    state = code == WAXVM_CODE_OK ? STATE_RETURNED : STATE_FAILED;
  }
}

int waxvm_serve_calls(void) {
  struct waxvm_reply reply = {{NULL, 0}, 0, 0};
  struct waxvm_buffer_ in = {NULL, 0};
  int result = WAXVM_ENOMEM_;
  if (serving) return WAXVM_EBUSY_;
  serving = 1;
  if (waxvm_buffer_reserve_(&reply.buffer, HEADER_BYTES) &&
      waxvm_buffer_reserve_(&in, HEADER_BYTES))
    result = serve(&reply, &in);
  free(reply.buffer.data);
  free(in.data);
  serving = 0;
  return result;
}
