// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/host_call.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "src/linux_abi/process.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::linux_abi {
namespace {

// The guest may change the structure while the host function runs; what the reply needs is read
// again and is only ever used as an address and a bound in the guest's own memory.
bool ReadBuffer(Process& process, std::uint64_t address, std::uint64_t bytes, std::string& to) {
  to.resize(bytes);
  return process.memory().Read(address, std::as_writable_bytes(std::span(to.data(), bytes)));
}

}  // namespace

std::int64_t StartHostCall(Process& process, std::uint64_t call_address) {
  struct waxvm_host_call call;
  if (!process.memory().ReadObject(call_address, call)) return -EFAULT;
  if (call.version != WAXVM_HOST_CALL_VERSION || call.reserved != 0 || call.name_bytes == 0 ||
      call.name_bytes > WAXVM_HOST_CALL_MAX_NAME)
    return -EINVAL;
  if (call.request_bytes > WAXVM_HOST_CALL_MAX_REQUEST) return -E2BIG;
  MemoryCharge charge;
  if (!charge.Resize(process.account(), call.request_bytes)) return -ENOMEM;
  HostCallRequest request;
  if (!ReadBuffer(process, call.name, call.name_bytes, request.name) ||
      !ReadBuffer(process, call.request, call.request_bytes, request.request))
    return -EFAULT;
  process.BeginHostCall(std::move(request), std::move(charge), call_address);
  return 0;
}

std::int64_t FinishHostCall(Process& process, std::uint64_t call_address,
                            const absl::StatusOr<std::string>& reply) {
  struct waxvm_host_call call;
  if (!process.memory().ReadObject(call_address, call)) return -EFAULT;
  const absl::string_view text = reply.ok() ? absl::string_view(*reply) : reply.status().message();
  const std::uint64_t fit = std::min<std::uint64_t>(text.size(), call.reply_capacity);
  call.status = static_cast<std::uint32_t>(reply.status().code());
  call.reply_bytes = text.size();
  if (!process.memory().Write(call.reply, std::as_bytes(std::span(text.data(), fit))) ||
      !process.memory().WriteObject(call_address, call))
    return -EFAULT;
  return 0;
}

}  // namespace waxvm::linux_abi
