// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/process_view.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {
namespace {

class View final : public ProcessView {
 public:
  explicit View(Process& process) : process_(process) {}

  std::int32_t pid() const override { return Process::kPid; }
  std::int32_t thread_id() const override { return process_.thread().id; }
  std::vector<std::int32_t> thread_ids() const override {
    std::vector<std::int32_t> ids;
    for (const auto& thread : process_.scheduler().threads()) ids.push_back(thread->id);
    return ids;
  }
  std::string ThreadName(std::int32_t id) const override {
    const Thread* thread = process_.scheduler().Find(id);
    if (thread != nullptr && thread->name[0] != '\0') {
      return std::string(thread->name.data(), strnlen(thread->name.data(), thread->name.size()));
    }
    const std::string path = Executable();
    return path.substr(path.rfind('/') + 1);
  }
  void SetThreadName(std::int32_t id, std::string_view name) override {
    Thread* thread = process_.scheduler().Find(id);
    if (thread == nullptr) return;
    thread->name = {};
    name.copy(thread->name.data(), thread->name.size() - 1);
  }
  SignalsView Signals(std::int32_t id) const override {
    SignalsView view;
    SignalState& signals = process_.signals();
    view.process_pending = signals.pending.set();
    view.queued = signals.pending.size();
    for (const auto& thread : process_.scheduler().threads()) {
      view.queued += thread->pending.size();
      if (thread->id != id) continue;
      view.pending = thread->pending.set();
      view.blocked = thread->blocked;
    }
    for (int signal = 1; signal <= kSignals; ++signal) {
      const SignalAction& action = signals.action(signal);
      if (action.is_ignore()) view.ignored |= SignalBit(signal);
      if (!action.is_ignore() && !action.is_default()) view.caught |= SignalBit(signal);
    }
    return view;
  }
  std::size_t max_queued_signals() const override { return SignalQueue::kMaxQueued; }
  std::chrono::nanoseconds ThreadTime(std::int32_t id) const override {
    const Thread* thread = process_.scheduler().Find(id);
    if (thread == nullptr || !HasClock()) return std::chrono::nanoseconds(0);
    return process_.scheduler().CpuTime(*thread);
  }
  std::chrono::nanoseconds ProcessTime() const override {
    return HasClock() ? process_.host().CpuTime() : std::chrono::nanoseconds(0);
  }
  std::string Executable() const override {
    const InstanceSpec& spec = process_.spec();
    const std::string& file = spec.program.name();
    const std::string& name =
        file.starts_with('/') || spec.arguments.empty() ? file : spec.arguments.front();
    return name.starts_with('/') ? name : "/" + name;
  }
  std::string Maps() const override { return process_.memory().Describe(); }
  std::string AuxiliaryVector() const override { return process_.entry().auxiliary_vector; }
  std::string WorkingDirectory() const override {
    return process_.file_system().WorkingDirectoryText();
  }
  FdTable& files() override { return process_.files(); }

 private:
  bool HasClock() const {
    return process_.spec().clock != nullptr &&
           process_.gate().Check({.resource = Resource::kClock, .name = "clock"}).ok();
  }

  Process& process_;
};

}  // namespace

std::unique_ptr<ProcessView> MakeProcessView(Process& process) {
  return std::make_unique<View>(process);
}

}  // namespace waxvm::linux_abi
