/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract between the embedder's side of the process provider and the code that builds the
 * sandbox from inside. C11, shared by both; never seen by the program.
 *
 *   embedder ── clone3 with new namespaces ──> pid 1: wx_sandbox_init, then wx_sandbox_reap
 *                                                └─ pid 2: wx_sandbox_enter, then the program
 *
 * The embedder sends one wx_config over the control socket (SOCK_SEQPACKET); pid 1 answers with a
 * wx_report of kind WX_ROOT that carries the in-memory root, where it is wanted; pid 2 with one of
 * kind WX_READY that carries the seccomp listener, and waits for one byte; a failed step answers
 * WX_FAILED instead. When the program has ended, pid 1 sends WX_EXITED.
 */
#ifndef WAXVM_SRC_PROVIDER_PROCESS_SANDBOX_H_
#define WAXVM_SRC_PROVIDER_PROCESS_SANDBOX_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where the descriptors are inside; everything else is closed before anything else happens. */
enum {
  WX_FD_CONTROL = 3,
  WX_FD_PROGRAM = 4,
  WX_FD_EMBEDDER = 5, /* a pidfd: its end ends the sandbox */
  WX_FD_CGROUP = 6,   /* cgroup.procs of the memory cgroup */
  WX_FD_STAGE = 7,
  WX_FD_HOST_CALL = 255
};

/* Descriptors as numbered in the embedder; -1 where there is none. */
struct wx_descriptors {
  int input, output, error, control, program, embedder, cgroup, stage, host_call;
};

enum wx_step {
  WX_STEP_NONE,
  WX_STEP_DESCRIPTORS,
  WX_STEP_CONFIG,
  WX_STEP_SETGROUPS,
  WX_STEP_UID_MAP,
  WX_STEP_GID_MAP,
  WX_STEP_CAPABILITIES,
  WX_STEP_STAGE,
  WX_STEP_CGROUP,
  WX_STEP_PRIVATE_MOUNTS,
  WX_STEP_MOUNT_INFO,
  WX_STEP_GRANT_OPEN,
  WX_STEP_GRANT_CHANGED,
  WX_STEP_GRANT_TYPE,
  WX_STEP_GRANT_CLONE,
  WX_STEP_GRANT_RIGHTS,
  WX_STEP_GRANT_COVER,
  WX_STEP_GRANT_ATTACH,
  WX_STEP_ROOT,
  WX_STEP_DEVICE,
  WX_STEP_PIVOT,
  WX_STEP_HOST_NAME,
  WX_STEP_NO_NEW_PRIVILEGES,
  WX_STEP_LANDLOCK,
  WX_STEP_FORK,
  WX_STEP_RLIMIT,
  WX_STEP_SESSION,
  WX_STEP_SECCOMP,
  WX_STEP_LISTENER,
  WX_STEP_EXEC,
  WX_STEP_COUNT
};

enum { WX_MOUNT_WRITABLE = 1, WX_MOUNT_DIRECTORY = 2 };

/* A granted folder or file. It is opened again by path, in the sandbox's own copy of the mounts
 * (a mount of another namespace cannot be cloned), and must be the same object. */
struct wx_mount {
  uint64_t device; /* major << 32 | minor */
  uint64_t inode;
  uint32_t flags;
  uint32_t host_path;  /* offset of a terminated string */
  uint32_t guest_path; /* the same; absolute, normalised */
  uint32_t reserved;
};

struct wx_rlimit {
  uint32_t resource;
  uint32_t reserved;
  uint64_t value;
};

enum { WX_MAX_CONFIG = 192 * 1024, WX_MAX_RLIMITS = 16 };
/* WX_ROOT_WANTED: the embedder measures the in-memory root and is sent a descriptor of it. */
enum { WX_RANDOM_DEVICES = 1, WX_LISTENER = 2, WX_ROOT_WANTED = 4 };

/* Offsets are from the start of this structure. */
struct wx_config {
  uint32_t bytes; /* of the whole message */
  uint32_t flags;
  uint32_t host_uid, host_gid;   /* of the embedder */
  uint32_t guest_uid, guest_gid; /* as the program sees them */
  uint32_t landlock_abi;         /* 0: the kernel has none */
  uint32_t filter_offset, filter_count;
  uint32_t mount_offset, mount_count;
  uint32_t rlimit_count;
  uint64_t root_bytes; /* bound of the in-memory root; 0: the kernel's default */
  struct wx_rlimit rlimits[WX_MAX_RLIMITS];
};

enum wx_report_kind { WX_READY = 1, WX_FAILED = 2, WX_EXITED = 3, WX_ROOT = 4 };

struct wx_report {
  uint32_t kind;
  uint32_t step;  /* WX_FAILED: which */
  int32_t error;  /* WX_FAILED: the errno */
  int32_t item;   /* WX_FAILED: which grant, or -1 */
  int32_t status; /* WX_EXITED: as from wait4 */
  uint32_t reserved;
  uint64_t cpu_ns;     /* WX_EXITED: of the program and all its processes */
  uint64_t peak_bytes; /* WX_EXITED: of the largest process */
};

/* The namespaces of every instance: user, mount, pid, net, ipc, uts, cgroup. */
#define WX_NAMESPACES                                                                      \
  (UINT64_C(0x10000000) | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | \
   0x02000000)

/* What the stage is started with; `arguments` and `environment` are already the program's. */
struct wx_spawn {
  struct wx_descriptors descriptors;
  char* const* arguments;
  char* const* environment;
  uint32_t failed_step; /* out: what failed before the exec */
  int32_t failed_errno;
};

/* Starts the stage as pid 1 of new namespaces. Its pid, or a negated errno of clone3. */
long wx_spawn_stage(struct wx_spawn* spawn, int32_t* pidfd);

/* For native programs, called in a forked child of the embedder: makes pid 1 of new namespaces as
 * the embedder's own child. As fork: 0 in the child. */
long wx_clone_native(int32_t* pidfd);

/* Moves the descriptors to the numbers above and closes all others. Raw system calls only, no
 * state: may run between clone(CLONE_VM | CLONE_VFORK) and exec. 0 or a negated errno. */
long wx_place_descriptors(const struct wx_descriptors* descriptors);

/* Lets the two capabilities that building the sandbox needs survive the stage's exec. Same rules.
 */
long wx_keep_capabilities(void);

/* As pid 1: takes its identity, builds the root, gives up every privilege. 0; or -1 after the
 * failure was reported. */
int wx_sandbox_init(const struct wx_config* config);

/* As pid 2: limits, session, filter; reports WX_READY and waits. 0 to go on, -1 to end. */
int wx_sandbox_enter(const struct wx_config* config);

/* As pid 1: waits until process `program` or the embedder has ended, then ends everything. */
__attribute__((noreturn)) void wx_sandbox_reap(long program);

void wx_report_failure(uint32_t step, long result, int item);
void wx_report_root(int root);
__attribute__((noreturn)) void wx_exit(int code);

/* Pieces of wx_sandbox_init; each reports its own failure. */
int wx_build_root(const struct wx_config* config);
int wx_drop_privileges(const struct wx_config* config);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_SRC_PROVIDER_PROCESS_SANDBOX_H_ */
