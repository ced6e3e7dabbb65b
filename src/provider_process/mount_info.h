/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /proc/self/mountinfo as text (proc(5)); freestanding. */
#ifndef WAXVM_SRC_PROVIDER_PROCESS_MOUNT_INFO_H_
#define WAXVM_SRC_PROVIDER_PROCESS_MOUNT_INFO_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wx_mount_cursor {
  const char* text;
  size_t bytes;
  int too_long; /* set when a path did not fit: the caller must fail */
};

/* Whether mount `id` is of a type that holds ordinary files. Unknown types and ids are not. */
int wx_mount_allowed(const char* text, size_t bytes, uint64_t id);

/* Finds the next mount strictly below the absolute path `folder` whose type does not hold ordinary
 * files (proc, sysfs, devtmpfs, …) and writes its path relative to `folder`, decoded and
 * terminated, to `below`. 0 at the end. */
int wx_next_forbidden(struct wx_mount_cursor* cursor, const char* folder, char* below,
                      size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_SRC_PROVIDER_PROCESS_MOUNT_INFO_H_ */
