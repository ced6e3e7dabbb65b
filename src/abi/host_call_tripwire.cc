// SPDX-License-Identifier: Apache-2.0
// Guests in the field were compiled against this layout. If one of these fails, the change needs a
// new version number and a new page, not a new assertion. Specification: docs/formats/host_call.md.
#include <cstddef>
#include <type_traits>

#include "waxvm/abi/host_call.h"

static_assert(WAXVM_HOST_CALL_VERSION == 1);
static_assert(WAXVM_HOST_CALL_NUMBER == 0x40005758);
static_assert(WAXVM_HOST_CALL_FD == 255);
static_assert(WAXVM_HOST_CALL_MAX_NAME == 255);
static_assert(WAXVM_HOST_CALL_MAX_REQUEST == 16 * 1024 * 1024);
static_assert(WAXVM_HOST_CALL_MAX_REPLY == 16 * 1024 * 1024);

using Call = struct waxvm_host_call;
static_assert(std::is_standard_layout_v<Call> && std::is_trivially_copyable_v<Call>);
static_assert(sizeof(Call) == 64 && alignof(Call) == 8);
static_assert(offsetof(Call, version) == 0);
static_assert(offsetof(Call, name_bytes) == 4);
static_assert(offsetof(Call, name) == 8);
static_assert(offsetof(Call, request) == 16);
static_assert(offsetof(Call, request_bytes) == 24);
static_assert(offsetof(Call, reply) == 32);
static_assert(offsetof(Call, reply_capacity) == 40);
static_assert(offsetof(Call, reply_bytes) == 48);
static_assert(offsetof(Call, status) == 56);
static_assert(offsetof(Call, reserved) == 60);

static_assert(sizeof(waxvm_host_call_request_frame) == 16);
static_assert(offsetof(waxvm_host_call_request_frame, version) == 0);
static_assert(offsetof(waxvm_host_call_request_frame, name_bytes) == 4);
static_assert(offsetof(waxvm_host_call_request_frame, request_bytes) == 8);
static_assert(sizeof(waxvm_host_call_reply_frame) == 16);
static_assert(offsetof(waxvm_host_call_reply_frame, version) == 0);
static_assert(offsetof(waxvm_host_call_reply_frame, status) == 4);
static_assert(offsetof(waxvm_host_call_reply_frame, reply_bytes) == 8);
