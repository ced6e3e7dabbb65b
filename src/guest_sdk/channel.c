/* SPDX-License-Identifier: Apache-2.0 */
/* Host calls of a program, one at a time. */
#include "channel.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "buffer.h"
#include "waxvm/abi/host_call.h"
#include "waxvm/guest.h"

#define CALL_WRITE 1
#define CALL_MMAP 9
#define CALL_SCHED_YIELD 24
#define CALL_MADVISE 28
#define CALL_FUTEX 202

/* A lock of its own: 0 free, 1 taken, 2 taken and waited for. No threads library is needed. */
static _Atomic uint32_t channel_lock;

void waxvm_channel_take_(void) {
  uint32_t free_value = 0;
  if (atomic_compare_exchange_strong(&channel_lock, &free_value, 1)) return;
  while (atomic_exchange(&channel_lock, 2) != 0)
    waxvm_syscall4_(CALL_FUTEX, (long)&channel_lock, 128 /* FUTEX_WAIT_PRIVATE */, 2, 0);
}

void waxvm_channel_release_(void) {
  if (atomic_exchange(&channel_lock, 0) == 2)
    waxvm_syscall4_(CALL_FUTEX, (long)&channel_lock, 129 /* FUTEX_WAKE_PRIVATE */, 1, 0);
}

static unsigned long find_entry(void) {
  static _Atomic unsigned long known = 1; /* 1: not looked up yet */
  unsigned long entry = atomic_load_explicit(&known, memory_order_relaxed);
  if (entry == 1) {
    entry = getauxval(WAXVM_HOST_CALL_AUXV_ENTRY);
    atomic_store_explicit(&known, entry, memory_order_relaxed);
  }
  return entry;
}

/* What `syscall` does, without its detour. */
static long enter(unsigned long entry, struct waxvm_host_call* call) {
  register unsigned long target __asm__("rbx") = entry;
  long result;
  __asm__ volatile(
      "lea 1f(%%rip), %%rcx\n\t"
      "jmp *%[target]\n"
      "1:"
      : "=a"(result)
      : "a"(WAXVM_HOST_CALL_NUMBER), "D"(call), [target] "r"(target)
      : "rcx", "r11", "memory", "cc");
  return result;
}

long waxvm_channel_call_(struct waxvm_host_call* call, const char* name, size_t name_bytes,
                         const void* request, size_t request_bytes, void* reply,
                         size_t reply_capacity) {
  *call = (struct waxvm_host_call){0};
  call->version = WAXVM_HOST_CALL_VERSION;
  call->name_bytes = (uint32_t)name_bytes;
  call->name = (uint64_t)(uintptr_t)name;
  call->request = (uint64_t)(uintptr_t)request;
  call->request_bytes = request_bytes;
  call->reply = (uint64_t)(uintptr_t)reply;
  call->reply_capacity = reply_capacity;
  const unsigned long entry = find_entry();
  return entry != 0 ? enter(entry, call) : waxvm_host_call(call);
}

/*
 * Where replies arrive: as large as one can be, because a call cannot be made twice to get the rest
 * of its reply. Pages that no reply reached are not there. Taken with the channel.
 */
static unsigned char* landing;
static size_t landing_bytes;
#define LANDING_MIN ((size_t)64 << 10)

static int make_landing(void) {
  size_t bytes = WAXVM_HOST_CALL_MAX_REPLY;
  if (landing != NULL) return 1;
  /* Less where the memory limit does not hold that much even in addresses. */
  for (; bytes >= LANDING_MIN; bytes /= 2) {
    /* waxvm_syscall4_ passes 0 as offset and a descriptor of 0, which anonymous memory ignores. */
    const long at = waxvm_syscall4_(CALL_MMAP, 0, (long)bytes, 3 /* read, write */,
                                    0x4022 /* private, anonymous, no reserve */);
    if (at < 0 && at > -4096) continue;
    landing = (unsigned char*)at;
    landing_bytes = bytes;
    return 1;
  }
  return 0;
}

/* Takes the reply out of the landing area; a code or a negated errno. */
static int collect(const struct waxvm_host_call* call, struct waxvm_answer* answer) {
  struct waxvm_buffer_ buffer = {answer->data, answer->capacity};
  const size_t bytes = (size_t)call->reply_bytes;
  int result = (int)call->status;
  if (bytes > landing_bytes || !waxvm_buffer_reserve_(&buffer, bytes)) {
    result = WAXVM_EMSGSIZE_;
  } else {
    answer->data = buffer.data;
    answer->capacity = buffer.capacity;
    answer->bytes = bytes;
    if (bytes != 0) memcpy(answer->data, landing, bytes);
  }
  if (bytes > LANDING_MIN)
    waxvm_syscall4_(CALL_MADVISE, (long)(landing + LANDING_MIN),
                    (long)(landing_bytes - LANDING_MIN), 4 /* MADV_DONTNEED */, 0);
  return result;
}

int waxvm_call(const char* name, const void* request, size_t bytes, struct waxvm_answer* answer) {
  struct waxvm_host_call call;
  const size_t name_bytes = strlen(name);
  int result = WAXVM_ENOMEM_;
  answer->bytes = 0;
  if (name_bytes == 0 || name_bytes > WAXVM_HOST_CALL_MAX_NAME) return WAXVM_EINVAL_;
  if (bytes > WAXVM_HOST_CALL_MAX_REQUEST) return WAXVM_E2BIG_;
  waxvm_channel_take_();
  if (make_landing()) {
    result =
        (int)waxvm_channel_call_(&call, name, name_bytes, request, bytes, landing, landing_bytes);
    if (result == 0) result = collect(&call, answer);
  }
  waxvm_channel_release_();
  return result;
}

void waxvm_answer_free(struct waxvm_answer* answer) {
  free(answer->data);
  answer->data = NULL;
  answer->bytes = answer->capacity = 0;
}

static void write_all(const char* at, size_t bytes) {
  while (bytes != 0) {
    const long n = waxvm_syscall4_(CALL_WRITE, 2, (long)at, (long)bytes, 0);
    if (n == -4 /* EINTR */) continue;
    if (n <= 0) return; /* a log line is not worth an error */
    at += n;
    bytes -= (size_t)n;
  }
}

void waxvm_log(const char* text, size_t bytes) {
  char line[512];
  const int ends = bytes != 0 && text[bytes - 1] == '\n';
  /* In one piece where it fits, so that lines of two threads do not mix. */
  if (!ends && bytes < sizeof line) {
    memcpy(line, text, bytes);
    line[bytes] = '\n';
    write_all(line, bytes + 1);
    return;
  }
  write_all(text, bytes);
  if (!ends) write_all("\n", 1);
}

void waxvm_yield(void) { waxvm_syscall4_(CALL_SCHED_YIELD, 0, 0, 0, 0); }
