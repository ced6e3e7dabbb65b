/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many callers, one program, a fresh state for every call, for C. The rules of waxvm_c.h hold;
 * docs/pool.md explains.
 *
 *   waxvm_pool *pool = NULL;
 *   if (waxvm_session_snapshot(session, &snapshot, &error) ||
 *       waxvm_pool_open(snapshot, NULL, &pool, &error)) …
 *   // From any thread:
 *   waxvm_pool_call(pool, "resize", image, image_bytes, NULL, &result, &error);
 *
 * A pool of a snapshot that waxvm_snapshot_open_start took runs whole programs: waxvm_pool_run.
 */
#ifndef WAXVM_C_POOL_H_
#define WAXVM_C_POOL_H_

#include "waxvm_c_session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In a number 0 means the library's default, WAXVM_LIMIT_ZERO none at all. */
typedef struct waxvm_pool_options {
  size_t struct_size;
  uint64_t min_ready;     /* clones ready for threads that have none; default 1 */
  uint64_t max_instances; /* clones alive at once; default 64 */
  uint64_t queue_limit;   /* calls that wait, further ones are refused; default 1024 */
  uint64_t idle_time_ns;  /* what is not used so long is given back; default 10 s */
  int keep_state;         /* not 0: calls of a thread find what its calls before have left */
  int reserved;           /* 0 */
} waxvm_pool_options;
#define WAXVM_POOL_OPTIONS_INIT \
  { sizeof(waxvm_pool_options), 0, 0, 0, 0, 0, 0 }

/* What a pool has and has done. */
typedef struct waxvm_pool_stats {
  size_t struct_size;
  uint64_t instances; /* alive; those being made and destroyed too */
  uint64_t ready;     /* for any thread */
  uint64_t kept;      /* idle, each for the thread that used it last */
  uint64_t in_use;    /* in a call */
  uint64_t waiting;   /* calls in the queue */
  uint64_t calls;     /* that reached an instance */
  uint64_t created;
  uint64_t resets;
  uint64_t replaced; /* lost in a call, or could not be put back */
} waxvm_pool_stats;
#define WAXVM_POOL_STATS_INIT \
  { sizeof(waxvm_pool_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Memory of the clones that were idle when it was measured. */
typedef struct waxvm_pool_memory {
  size_t struct_size;
  uint64_t instances;      /* that were measured */
  uint64_t resident_bytes; /* shared pages count once for every clone that maps them */
  uint64_t shared_bytes;   /* of these, with the snapshot */
  uint64_t private_bytes;  /* of these, a clone's own */
} waxvm_pool_memory;
#define WAXVM_POOL_MEMORY_INIT \
  { sizeof(waxvm_pool_memory), 0, 0, 0, 0 }

/*
 * A pool. The clone that serves a call runs on the calling thread, as do the host functions inside.
 * Thread safety: everything but waxvm_pool_close may be called from any thread at once.
 */
typedef struct waxvm_pool waxvm_pool;

/* `options` may be NULL. The snapshot may be closed afterwards. */
WAXVM_API waxvm_status waxvm_pool_open(const waxvm_snapshot* snapshot,
                                       const waxvm_pool_options* options, waxvm_pool** pool,
                                       waxvm_error* error);
/*
 * As waxvm_session_call, in a clone of its own; `options.wall_time_ns` bounds waiting and calling
 * together. Also, before the program was called: WAXVM_RESOURCE_EXHAUSTED, the queue is full, or no
 * instance is free for a call from a host function that a call of this pool runs;
 * WAXVM_DEADLINE_EXCEEDED, WAXVM_CANCELLED, its turn did not come in time, or it was stopped
 * before; WAXVM_UNAVAILABLE, clones cannot be made now. An instance that is lost in a call is
 * replaced.
 */
WAXVM_API waxvm_status waxvm_pool_call(waxvm_pool* pool, const char* function,
                                       const void* arguments, size_t argument_bytes,
                                       const waxvm_call_options* options, waxvm_bytes** result,
                                       waxvm_error* error);
/* As waxvm_session_run, in a clone of its own. Blocks and waits as waxvm_pool_call. After a run
 * that ended otherwise than by exiting, the pool replaces the clone. */
WAXVM_API waxvm_status waxvm_pool_run(waxvm_pool* pool, const waxvm_run_options* options,
                                      waxvm_result** result, waxvm_error* error);
/* Fills `stats` as far as its struct_size reaches. */
WAXVM_API waxvm_status waxvm_pool_get_stats(waxvm_pool* pool, waxvm_pool_stats* stats,
                                            waxvm_error* error);
/* Looks at the page tables of every idle clone; calls wait so long. WAXVM_UNIMPLEMENTED where the
 * provider does not tell. */
WAXVM_API waxvm_status waxvm_pool_measure_memory(waxvm_pool* pool, waxvm_pool_memory* memory,
                                                 waxvm_error* error);
/* Gives back every idle clone but those that are ready for any thread, now. */
WAXVM_API void waxvm_pool_trim(waxvm_pool* pool);
/* Ends the calls that wait (WAXVM_CANCELLED) and blocks until those that run have ended, so not
 * from a host function that one of them runs. No call may begin any more. */
WAXVM_API void waxvm_pool_close(waxvm_pool* pool);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_C_POOL_H_ */
