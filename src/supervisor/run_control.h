// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_RUN_CONTROL_H_
#define WAXVM_SRC_SUPERVISOR_RUN_CONTROL_H_

#include <atomic>

#include "src/base/mutex.h"
#include "waxvm/provider.h"

namespace waxvm {

/// Ends one run from another thread, before, during and after the life of its instance.
/// Thread safety: all methods may be called from any thread at once.
class RunControl {
 public:
  void Stop() {
    MutexLock lock(mutex_);
    stopped_ = true;
    if (instance_ != nullptr) instance_->Stop();
  }

  bool stopped() const { return stopped_; }

  /// While it lives Stop reaches `instance`, and an earlier Stop has reached it.
  class Attachment {
   public:
    Attachment(RunControl& control, Instance& instance) : control_(control) {
      control_.Set(&instance);
    }
    ~Attachment() { control_.Set(nullptr); }
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;

   private:
    RunControl& control_;
  };

 private:
  void Set(Instance* instance) {
    MutexLock lock(mutex_);
    instance_ = instance;
    if (instance_ != nullptr && stopped_) instance_->Stop();
  }

  Mutex mutex_;
  Instance* instance_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::atomic<bool> stopped_ = false;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_RUN_CONTROL_H_
