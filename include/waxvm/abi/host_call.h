/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of a host call: one reserved call, the same under every provider. C11,
 * freestanding apart from <stddef.h> and <stdint.h>; x86-64 Linux. docs/formats/host_call.md is
 * the specification.
 *
 * In a microVM the call is the reserved system-call number WAXVM_HOST_CALL_NUMBER. Elsewhere that
 * number does not exist (ENOSYS) and the call goes through the inherited descriptor
 * WAXVM_HOST_CALL_FD, a stream socket.
 */
#ifndef WAXVM_ABI_HOST_CALL_H_
#define WAXVM_ABI_HOST_CALL_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WAXVM_HOST_CALL_VERSION 1u
/* "WX" 0x5758 with bit 30 set: outside of every range Linux hands out. */
#define WAXVM_HOST_CALL_NUMBER 0x40005758L
#define WAXVM_HOST_CALL_FD 255
/* An entry of the auxiliary vector ("WX", 1), where `syscall` makes a detour: the address to jump
 * to instead, with every register as for `syscall` and the address to come back to in rcx. */
#define WAXVM_HOST_CALL_AUXV_ENTRY 0x57580001UL

#define WAXVM_HOST_CALL_MAX_NAME 255u
#define WAXVM_HOST_CALL_MAX_REQUEST (16u << 20)
#define WAXVM_HOST_CALL_MAX_REPLY (16u << 20)

/*
 * One call. All fields little-endian; pointers are guest addresses. The structure is read once
 * when the call is made; `reply_bytes` and `status` are written back when it is answered.
 */
struct waxvm_host_call {
  uint32_t version;        /* in: WAXVM_HOST_CALL_VERSION */
  uint32_t name_bytes;     /* in: 1 to WAXVM_HOST_CALL_MAX_NAME */
  uint64_t name;           /* in: address, not terminated */
  uint64_t request;        /* in: address */
  uint64_t request_bytes;  /* in: at most WAXVM_HOST_CALL_MAX_REQUEST */
  uint64_t reply;          /* in: address of the buffer for the reply or the error's message */
  uint64_t reply_capacity; /* in: its size in bytes */
  uint64_t reply_bytes;    /* out: full size of the reply; more than the capacity: it was cut */
  uint32_t status;         /* out: 0, or a WAXVM_HOST_CALL_* error; the reply is then its message */
  uint32_t reserved;       /* in: 0 */
};

/* Error codes: the canonical status codes. 0 is success. */
#define WAXVM_HOST_CALL_OK 0u
#define WAXVM_HOST_CALL_INVALID_ARGUMENT 3u
#define WAXVM_HOST_CALL_NOT_FOUND 5u
#define WAXVM_HOST_CALL_PERMISSION_DENIED 7u
#define WAXVM_HOST_CALL_INTERNAL 13u
#define WAXVM_HOST_CALL_UNAVAILABLE 14u

/* Frames on WAXVM_HOST_CALL_FD: a request header, name, request bytes; then a reply header and
 * reply bytes. */
struct waxvm_host_call_request_frame {
  uint32_t version;
  uint32_t name_bytes;
  uint32_t request_bytes;
  uint32_t reserved;
};
struct waxvm_host_call_reply_frame {
  uint32_t version;
  uint32_t status;
  uint32_t reply_bytes;
  uint32_t reserved;
};

static inline long waxvm_syscall4_(long number, long a, long b, long c, long d) {
  register long flags __asm__("r10") = d;
  register long zero8 __asm__("r8") = 0;
  register long zero9 __asm__("r9") = 0;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(flags), "r"(zero8), "r"(zero9)
                   : "rcx", "r11", "memory");
  return result;
}

#define WAXVM_SENDTO_ 44
#define WAXVM_RECVFROM_ 45

static inline long waxvm_transfer_(long number, void* data, size_t bytes) {
  unsigned char* at = (unsigned char*)data;
  while (bytes != 0) {
    /* MSG_NOSIGNAL: a host that hangs up is an error here, not a SIGPIPE. */
    long n = waxvm_syscall4_(number, WAXVM_HOST_CALL_FD, (long)at, (long)bytes, 0x4000);
    if (n == -4 /* EINTR */) continue;
    if (n < 0) return n;
    if (n == 0) return -32 /* EPIPE */;
    at += n;
    bytes -= (size_t)n;
  }
  return 0;
}

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* the function shares its name with the structure */
#endif
/*
 * Makes the call described by `call`. Returns 0 when it was answered (look at call->status then),
 * or a negated errno: -ENOSYS where no host is there, -EFAULT for a bad address, -EINVAL for a bad
 * field, -E2BIG for a request over the bound. Not thread-safe outside a microVM: serialise calls.
 */
static inline long waxvm_host_call(struct waxvm_host_call* call) {
  struct waxvm_host_call_request_frame request;
  struct waxvm_host_call_reply_frame reply;
  unsigned char sink[256];
  uint64_t left;
  long result = waxvm_syscall4_(WAXVM_HOST_CALL_NUMBER, (long)call, 0, 0, 0);
  if (result != -38 /* ENOSYS */) return result;

  if (call->version != WAXVM_HOST_CALL_VERSION || call->reserved != 0 || call->name_bytes == 0 ||
      call->name_bytes > WAXVM_HOST_CALL_MAX_NAME)
    return -22 /* EINVAL */;
  if (call->request_bytes > WAXVM_HOST_CALL_MAX_REQUEST) return -7 /* E2BIG */;
  request.version = WAXVM_HOST_CALL_VERSION;
  request.name_bytes = call->name_bytes;
  request.request_bytes = (uint32_t)call->request_bytes;
  request.reserved = 0;
  result = waxvm_transfer_(WAXVM_SENDTO_, &request, sizeof request);
  if (result == -9 /* EBADF */ || result == -88 /* ENOTSOCK */) return -38;
  if (result == 0)
    result = waxvm_transfer_(WAXVM_SENDTO_, (void*)(uintptr_t)call->name, call->name_bytes);
  if (result == 0)
    result = waxvm_transfer_(WAXVM_SENDTO_, (void*)(uintptr_t)call->request, call->request_bytes);
  if (result == 0) result = waxvm_transfer_(WAXVM_RECVFROM_, &reply, sizeof reply);
  if (result != 0) return result;
  left = reply.reply_bytes;
  call->status = reply.status;
  call->reply_bytes = left;
  if (left != 0) {
    uint64_t fit = left < call->reply_capacity ? left : call->reply_capacity;
    result = waxvm_transfer_(WAXVM_RECVFROM_, (void*)(uintptr_t)call->reply, fit);
    left -= fit;
    while (result == 0 && left != 0) {
      size_t part = left < sizeof sink ? (size_t)left : sizeof sink;
      result = waxvm_transfer_(WAXVM_RECVFROM_, sink, part);
      left -= part;
    }
  }
  return result;
}

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_ABI_HOST_CALL_H_ */
