// SPDX-License-Identifier: Apache-2.0
// Taking the image of a process, and making another from it.
#include "src/linux_abi/process_image.h"

#include <algorithm>
#include <utility>

#include "src/base/status.h"
#include "src/linux_abi/files_keeper.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/process_view.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {

bool ProcessImage::KeepsTime() const {
  const auto runs = [](const auto& timer) { return timer.left.has_value(); };
  return std::ranges::any_of(timers.created, runs) || std::ranges::any_of(timers.intervals, runs) ||
         std::ranges::any_of(
             threads.threads,
             [](const ThreadImage& thread) { return thread.call && thread.call->left; }) ||
         std::ranges::any_of(files.files, [](const files_image::File& file) {
           const auto* timer = std::get_if<files_image::Timer>(&file.what);
           return timer != nullptr && timer->left;
         });
}

absl::StatusOr<ProcessImage> Process::TakeImage() {
  if (!pending_host_call_ || ending_)
    return FailedPrecondition("the program is not waiting for a host call");
  FilesKeeper keeper(*this);
  ProcessImage image;
  WAXVM_ASSIGN_OR_RETURN(image.memory, memory_.TakeImage([&](std::shared_ptr<OpenFile> file) {
    return keeper.IndexOf(file, "a mapping");
  }));
  WAXVM_ASSIGN_OR_RETURN(image.threads, scheduler_.TakeImage([&](std::shared_ptr<OpenFile> file) {
    return keeper.IndexOf(file, "a thread that sleeps");
  }));
  WAXVM_ASSIGN_OR_RETURN(image.files, keeper.Finish());
  image.entry = entry_;
  image.actions = signals_.actions;
  image.pending = signals_.pending.All();
  image.signals_sent = signals_.sent;
  image.timers = timers_.TakeImage();
  image.host_call_address = host_call_address_;
  image.keeps_time = image.KeepsTime();
  return image;
}

absl::StatusOr<std::unique_ptr<Process>> Process::CreateFrom(const ProcessImage& image,
                                                             const InstanceSpec& spec,
                                                             PageMapper& mapper, Host& host,
                                                             MemoryAccount& account) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Process> process,
                         CreateEmpty(spec, mapper, host, account));
  Process& self = *process;
  const absl::Status no_memory =
      absl::ResourceExhaustedError("the memory limit does not hold the snapshot");
  self.entry_ = image.entry;
  FilesRestorer files(image.files, self);
  WAXVM_RETURN_IF_ERROR(files.Restore());
  if (!self.memory_.LoadImage(image.memory, files.files())) return no_memory;
  if (!self.scheduler_.LoadImage(image.threads, files.files())) return no_memory;
  self.signals_.actions = image.actions;
  for (const siginfo_t& info : image.pending)
    if (!self.signals_.pending.Add(info, account)) return no_memory;
  self.signals_.sent = image.signals_sent;
  self.timers_.LoadImage(image.timers);
  self.RestoreHostCall(image);
  return process;
}

void Process::RestoreHostCall(const ProcessImage& image) {
  pending_host_call_ = true;
  host_call_charge_.Reset();
  host_call_address_ = image.host_call_address;
  memory_.ForgetWindows();
  scheduler_.ForgetPast(image);
  changed_ = false;
}

}  // namespace waxvm::linux_abi
