// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "session_support.h"

using waxvm::c::Guard;

namespace {

constexpr std::size_t kFirstPoolOptionsSize = 48;
static_assert(sizeof(waxvm_pool_options) == kFirstPoolOptionsSize);
static_assert(sizeof(waxvm_pool_stats) == 80 && sizeof(waxvm_pool_memory) == 40);

absl::StatusOr<waxvm::PoolOptions> ToPoolOptions(const waxvm_pool_options* from) {
  const auto known = waxvm::c::CopyIn("options", from, waxvm_pool_options WAXVM_POOL_OPTIONS_INIT,
                                      kFirstPoolOptionsSize);
  if (!known.ok()) return known.status();
  if (known->reserved != 0) return absl::InvalidArgumentError("options.reserved is not 0");
  waxvm::PoolOptions options;
  using waxvm::c::ToLimit;
  options.min_ready = ToLimit(known->min_ready).value_or(options.min_ready);
  options.max_instances = ToLimit(known->max_instances).value_or(options.max_instances);
  options.queue_limit = ToLimit(known->queue_limit).value_or(options.queue_limit);
  options.fresh_state = known->keep_state == 0;
  std::optional<std::chrono::nanoseconds> idle_time;
  if (const absl::Status status = waxvm::c::SetTime("idle_time_ns", known->idle_time_ns, idle_time);
      !status.ok())
    return status;
  options.idle_time = idle_time.value_or(options.idle_time);
  return options;
}

}  // namespace

extern "C" {

waxvm_status waxvm_pool_open(const waxvm_snapshot* snapshot, const waxvm_pool_options* options,
                             waxvm_pool** pool, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(pool);
    *pool = nullptr;
    WAXVM_C_REQUIRE(snapshot);
    const auto pool_options = ToPoolOptions(options);
    if (!pool_options.ok()) return pool_options.status();
    auto made = std::make_unique<waxvm_pool>();
    made->stop = snapshot->stop;
    auto created = waxvm::Pool::Create(snapshot->snapshot, *pool_options);
    if (!created.ok()) return created.status();
    made->pool = *std::move(created);
    *pool = made.release();
    return absl::OkStatus();
  });
}

waxvm_status waxvm_pool_call(waxvm_pool* pool, const char* function, const void* arguments,
                             size_t argument_bytes, const waxvm_call_options* options,
                             waxvm_bytes** result, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(pool);
    WAXVM_C_REQUIRE(function);
    const auto view = waxvm::c::ToView("arguments", arguments, argument_bytes);
    if (!view.ok()) return view.status();
    const auto call_options = waxvm::c::ToCallOptions(options);
    if (!call_options.ok()) return call_options.status();
    auto returned = pool->pool->Call(function, *view, *call_options);
    if (!returned.ok()) return returned.status();
    *result = new waxvm_bytes{*std::move(returned)};
    return absl::OkStatus();
  });
}

waxvm_status waxvm_pool_run(waxvm_pool* pool, const waxvm_run_options* options,
                            waxvm_result** result, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(pool);
    const auto request = waxvm::c::ToRunRequest(options);
    if (!request.ok()) return request.status();
    auto done = pool->pool->Run(*request);
    if (!done.ok()) return done.status();
    *result = waxvm::c::NewResult(*std::move(done));
    return absl::OkStatus();
  });
}

waxvm_status waxvm_pool_get_stats(waxvm_pool* pool, waxvm_pool_stats* stats, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(pool);
    WAXVM_C_REQUIRE(stats);
    const waxvm::PoolStats now = pool->pool->stats();
    return waxvm::c::CopyOut("stats",
                             {0, now.instances, now.ready, now.kept, now.in_use, now.waiting,
                              now.calls, now.created, now.resets, now.replaced},
                             stats);
  });
}

waxvm_status waxvm_pool_measure_memory(waxvm_pool* pool, waxvm_pool_memory* memory,
                                       waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(pool);
    WAXVM_C_REQUIRE(memory);
    const auto now = pool->pool->MeasureMemory();
    if (!now.ok()) return now.status();
    return waxvm::c::CopyOut(
        "memory", {0, now->instances, now->resident_bytes, now->shared_bytes, now->private_bytes},
        memory);
  });
}

void waxvm_pool_trim(waxvm_pool* pool) {
  if (pool == nullptr) return;
  Guard(nullptr, [&] { return pool->pool->Trim(), absl::OkStatus(); });
}

void waxvm_pool_close(waxvm_pool* pool) { delete pool; }

}  // extern "C"
