/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WAXVM_SRC_GUEST_SDK_CHANNEL_H_
#define WAXVM_SRC_GUEST_SDK_CHANNEL_H_

#include <stddef.h>
#include <stdint.h>

/* What this library returns, by the numbers of Linux, without errno.h's thread-local variable. */
#define WAXVM_E2BIG_ (-7)
#define WAXVM_ENOMEM_ (-12)
#define WAXVM_EBUSY_ (-16)
#define WAXVM_EEXIST_ (-17)
#define WAXVM_EINVAL_ (-22)
#define WAXVM_EPROTO_ (-71)
#define WAXVM_EMSGSIZE_ (-90)
#define WAXVM_ENOTCONN_ (-107)

/* One host call, with the channel taken for its length: the socket of the process provider
 * carries one at a time. */
void waxvm_channel_take_(void);
void waxvm_channel_release_(void);

struct waxvm_host_call;
/* Makes a call while the channel is taken. */
long waxvm_channel_call_(struct waxvm_host_call* call, const char* name, size_t name_bytes,
                         const void* request, size_t request_bytes, void* reply,
                         size_t reply_capacity);

#endif /* WAXVM_SRC_GUEST_SDK_CHANNEL_H_ */
