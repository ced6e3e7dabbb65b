// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string_view>

#include "absl/strings/str_format.h"
#include "support.h"

using waxvm::c::Guard;

namespace {

absl::Status Add(waxvm_grants* grants, waxvm::Grant grant) {
  grants->list.push_back(std::move(grant));
  return absl::OkStatus();
}

/// A C callback as a host function; shares the caller's data with every copy of itself.
class Callback {
 public:
  Callback(waxvm_function function, std::shared_ptr<void> user_data)
      : function_(function), user_data_(std::move(user_data)) {}

  absl::StatusOr<std::string> operator()(const waxvm::HostCallContext& context,
                                         std::string_view request) const {
    waxvm_call call{context, std::string(context.label()), {}};
    const waxvm_status code = function_(user_data_.get(), &call, request.data(), request.size());
    if (code == WAXVM_OK) return std::move(call.reply);
    return absl::Status(static_cast<absl::StatusCode>(code), call.reply);
  }

 private:
  waxvm_function function_;
  std::shared_ptr<void> user_data_;
};

}  // namespace

extern "C" {

waxvm_status waxvm_grants_open(waxvm_grants** grants, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(grants);
    *grants = nullptr;
    *grants = new waxvm_grants;
    return absl::OkStatus();
  });
}

void waxvm_grants_close(waxvm_grants* grants) { delete grants; }

waxvm_status waxvm_grants_add_clock(waxvm_grants* grants, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(grants);
    return Add(grants, waxvm::Clock());
  });
}

waxvm_status waxvm_grants_add_random(waxvm_grants* grants, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(grants);
    return Add(grants, waxvm::Random());
  });
}

waxvm_status waxvm_grants_add_files(waxvm_grants* grants, const char* host_path,
                                    const char* guest_path, int writable, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(grants);
    WAXVM_C_REQUIRE(host_path);
    WAXVM_C_REQUIRE(guest_path);
    return Add(grants,
               waxvm::Files(host_path, guest_path,
                            writable != 0 ? waxvm::Rights::kReadWrite : waxvm::Rights::kReadOnly));
  });
}

waxvm_status waxvm_grants_add_image(waxvm_grants* grants, const waxvm_image* image,
                                    waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(grants);
    WAXVM_C_REQUIRE(image);
    return Add(grants, waxvm::Image(image->image));
  });
}

waxvm_status waxvm_grants_add_function(waxvm_grants* grants, const char* name,
                                       waxvm_function function, void* user_data,
                                       waxvm_free free_user_data, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    // First of all, so that the data is freed whatever is wrong with the rest.
    std::shared_ptr<void> shared(user_data, [free_user_data](void* data) {
      if (free_user_data != nullptr) free_user_data(data);
    });
    WAXVM_C_REQUIRE(grants);
    WAXVM_C_REQUIRE(name);
    WAXVM_C_REQUIRE(function);
    return Add(grants, waxvm::Function(name, Callback(function, std::move(shared))));
  });
}

waxvm_status waxvm_call_reply(waxvm_call* call, const void* bytes, size_t byte_count) {
  return Guard(nullptr, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(call);
    if (byte_count != 0) WAXVM_C_REQUIRE(bytes);
    call->reply.assign(static_cast<const char*>(byte_count != 0 ? bytes : ""), byte_count);
    return absl::OkStatus();
  });
}

const char* waxvm_call_label(const waxvm_call* call) {
  return call != nullptr ? call->label.c_str() : nullptr;
}

int waxvm_call_stop_requested(const waxvm_call* call) {
  return call != nullptr && call->context.StopRequested() ? 1 : 0;
}

}  // extern "C"
