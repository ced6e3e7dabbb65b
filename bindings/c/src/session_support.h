// SPDX-License-Identifier: Apache-2.0
// What stands behind the handles of sessions, snapshots and pools.
#ifndef WAXVM_BINDINGS_C_SESSION_SUPPORT_H_
#define WAXVM_BINDINGS_C_SESSION_SUPPORT_H_

#include <atomic>
#include <functional>
#include <memory>
#include <stop_token>

#include "support.h"
#include "waxvm/pool.h"
#include "waxvm/session.h"
#include "waxvm_c_pool.h"
#include "waxvm_c_session.h"

namespace waxvm::c {

/// Requests a stop where one of two others is requested. Kept by all that listen to it.
class JoinedStop {
 public:
  JoinedStop(const std::stop_token& one, const std::stop_token& other)
      : one_(one, Request{source_}), other_(other, Request{source_}) {}
  std::stop_token token() const { return source_.get_token(); }

 private:
  struct Request {
    std::stop_source source;
    void operator()() { source.request_stop(); }
  };
  std::stop_source source_;
  std::stop_callback<Request> one_;
  std::stop_callback<Request> other_;
};

absl::StatusOr<CallOptions> ToCallOptions(const waxvm_call_options* from);
absl::StatusOr<RunRequest> ToRunRequest(const waxvm_run_options* from);

}  // namespace waxvm::c

struct waxvm_session {
  std::shared_ptr<const waxvm::c::JoinedStop> stop;
  std::unique_ptr<waxvm::Session> session;
  /// The handle's own and one for each call that runs: who drops the last one frees it.
  std::atomic<int> uses = 1;

  void Drop() {
    if (uses.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
};

struct waxvm_snapshot {
  std::shared_ptr<const waxvm::c::JoinedStop> stop;
  waxvm::Snapshot snapshot;
};

struct waxvm_pool {
  std::shared_ptr<const waxvm::c::JoinedStop> stop;
  std::unique_ptr<waxvm::Pool> pool;
};

#endif  // WAXVM_BINDINGS_C_SESSION_SUPPORT_H_
