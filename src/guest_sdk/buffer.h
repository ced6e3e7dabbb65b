/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WAXVM_SRC_GUEST_SDK_BUFFER_H_
#define WAXVM_SRC_GUEST_SDK_BUFFER_H_

#include <stddef.h>
#include <stdlib.h>

/* Bytes that grow. */
struct waxvm_buffer_ {
  unsigned char* data;
  size_t capacity;
};

/* Makes room for `bytes`, at least doubling; 0 where there is no memory. */
static inline int waxvm_buffer_reserve_(struct waxvm_buffer_* buffer, size_t bytes) {
  size_t wanted = buffer->capacity < 4096 ? 4096 : buffer->capacity;
  unsigned char* data;
  if (bytes <= buffer->capacity) return 1;
  while (wanted < bytes) wanted *= 2; /* callers stay below 16 MiB */
  data = (unsigned char*)realloc(buffer->data, wanted);
  if (data == NULL && wanted > bytes) data = (unsigned char*)realloc(buffer->data, wanted = bytes);
  if (data == NULL) return 0;
  buffer->data = data;
  buffer->capacity = wanted;
  return 1;
}

#endif /* WAXVM_SRC_GUEST_SDK_BUFFER_H_ */
