/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call_functions [MODE]: exports functions and answers calls. MODE "exit" ends with 3 before it is
 * ready, "fault" faults, "greet" calls the host's greet first, "after" prints what serving ended
 * with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "waxvm/guest.h"

static int count;
static volatile int* volatile nowhere = (volatile int*)0x10;

static int noop(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  return WAXVM_CODE_OK;
}

static int echo(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context;
  return waxvm_reply_write(reply, arguments, bytes);
}

/* "A B" in decimal. */
static int add(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  char text[64];
  long a, b;
  (void)context;
  if (bytes >= sizeof text)
    return waxvm_reply_error(reply, WAXVM_CODE_INVALID_ARGUMENT, "too long");
  memcpy(text, arguments, bytes);
  text[bytes] = '\0';
  if (sscanf(text, "%ld %ld", &a, &b) != 2)
    return waxvm_reply_error(reply, WAXVM_CODE_INVALID_ARGUMENT, "two numbers are needed");
  return waxvm_reply_write(reply, text, (size_t)snprintf(text, sizeof text, "%ld", a + b));
}

/* "CODE MESSAGE". */
static int fail(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  char text[256] = {0};
  char* message;
  long code;
  (void)context;
  memcpy(text, arguments, bytes < sizeof text ? bytes : sizeof text - 1);
  code = strtol(text, &message, 10);
  return waxvm_reply_error(reply, (int)code, *message == ' ' ? message + 1 : message);
}

static int fault(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  *nowhere = 1;
  return WAXVM_CODE_OK;
}

static int leave(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  _exit(9);
}

static int spin(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes, (void)reply;
  for (volatile unsigned i = 0; nowhere != NULL; ++i) {
  }
  return WAXVM_CODE_OK;
}

/* So many bytes as the arguments say; null: there is no room. */
static char* allocate_bytes(const void* arguments, size_t bytes, size_t* size) {
  char text[32] = {0};
  memcpy(text, arguments, bytes < sizeof text ? bytes : sizeof text - 1);
  *size = strtoull(text, NULL, 10);
  return malloc(*size);
}

/* Touches that many bytes and gives them back. */
static int allocate(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  size_t size;
  char* memory = allocate_bytes(arguments, bytes, &size);
  (void)context;
  if (memory == NULL) return waxvm_reply_error(reply, WAXVM_CODE_RESOURCE_EXHAUSTED, "no memory");
  for (size_t i = 0; i < size; i += 4096) ((volatile char*)memory)[i] = 1;
  free(memory);
  return WAXVM_CODE_OK;
}

/* That many bytes, written in two parts. */
static int produce(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  size_t size;
  char* memory = allocate_bytes(arguments, bytes, &size);
  (void)context;
  if (memory == NULL) return waxvm_reply_error(reply, WAXVM_CODE_RESOURCE_EXHAUSTED, "no memory");
  memset(memory, 'p', size);
  /* What it returns is not looked at: the library remembers. */
  waxvm_reply_write(reply, memory, size / 2);
  waxvm_reply_write(reply, memory + size / 2, size - size / 2);
  free(memory);
  return WAXVM_CODE_OK;
}

/* "NAME REQUEST": the answer of a granted function, or its error. */
static int call_host(void* context, const void* arguments, size_t bytes,
                     struct waxvm_reply* reply) {
  static struct waxvm_answer answer;
  char name[256] = {0};
  const char* text = arguments;
  size_t name_bytes = 0;
  int code;
  (void)context;
  while (name_bytes < bytes && text[name_bytes] != ' ') ++name_bytes;
  if (name_bytes >= sizeof name) return WAXVM_CODE_INVALID_ARGUMENT;
  memcpy(name, text, name_bytes);
  if (name_bytes < bytes) ++name_bytes;
  code = waxvm_call(name, text + name_bytes, bytes - name_bytes, &answer);
  if (code < 0) return waxvm_reply_error(reply, WAXVM_CODE_INTERNAL, "no host");
  waxvm_reply_write(reply, answer.data, answer.bytes);
  return code;
}

static int write_output(void* context, const void* arguments, size_t bytes,
                        struct waxvm_reply* reply) {
  (void)context, (void)reply;
  if (write(1, arguments, bytes) != (ssize_t)bytes) return WAXVM_CODE_DATA_LOSS;
  waxvm_log(arguments, bytes);
  waxvm_yield();
  return WAXVM_CODE_OK;
}

/* How often it was called, which is state of the program. */
static int counter(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  char text[16];
  (void)arguments, (void)bytes;
  return waxvm_reply_write(reply, text,
                           (size_t)snprintf(text, sizeof text, "%d", ++*(int*)context));
}

static int garbled(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  (void)context, (void)arguments, (void)bytes;
  return waxvm_reply_error(reply, WAXVM_CODE_ABORTED, "a\xff\xc3(\xe2\x82\xac");
}

static int nested(void* context, const void* arguments, size_t bytes, struct waxvm_reply* reply) {
  char text[16];
  (void)context, (void)arguments, (void)bytes;
  return waxvm_reply_write(reply, text,
                           (size_t)snprintf(text, sizeof text, "%d", waxvm_serve_calls()));
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    waxvm_function function;
  } all[] = {{"noop", noop},
             {"echo", echo},
             {"add", add},
             {"fail", fail},
             {"fault", fault},
             {"exit", leave},
             {"spin", spin},
             {"allocate", allocate},
             {"produce", produce},
             {"call_host", call_host},
             {"write_output", write_output},
             {"counter", counter},
             {"garbled", garbled},
             {"nested", nested}};
  const char* mode = argc > 1 ? argv[1] : "";
  int result;
  for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i)
    if (waxvm_export(all[i].name, all[i].function, &count) != 0) return 100;
  if (waxvm_export("echo", echo, NULL) != -17) return 101;
  if (waxvm_export("", echo, NULL) != -22) return 102;
  if (strcmp(mode, "exit") == 0) return 3;
  if (strcmp(mode, "fault") == 0) fault(NULL, NULL, 0, NULL);
  if (strcmp(mode, "greet") == 0) {
    struct waxvm_answer answer = {0};
    if (waxvm_call("greet", "early", 5, &answer) != WAXVM_CODE_OK) return 4;
    waxvm_answer_free(&answer);
  }
  result = waxvm_serve_calls();
  if (strcmp(mode, "after") == 0) printf("serving ended with %d\n", result), fflush(stdout);
  return result == 0 ? 0 : 5;
}
