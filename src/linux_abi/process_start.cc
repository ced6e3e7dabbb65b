// SPDX-License-Identifier: Apache-2.0
// Many runs of one program that was loaded once.
#include "src/base/status.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/start_image.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {

absl::StatusOr<StartImage> Process::TakeStartImage() const {
  StartImage image;
  // A program that has not run has made no file.
  const auto keep_none = [](const std::shared_ptr<OpenFile>&) -> absl::StatusOr<std::uint32_t> {
    return FailedPrecondition("a mapping of one of its own files cannot be kept");
  };
  WAXVM_ASSIGN_OR_RETURN(image.memory, memory_.TakeImage(keep_none));
  image.entry = entry_;
  return image;
}

absl::StatusOr<std::unique_ptr<Process>> Process::CreateAtStart(const StartImage& image,
                                                                const InstanceSpec& spec,
                                                                PageMapper& mapper, Host& host,
                                                                MemoryAccount& account,
                                                                const CpuFeatures& features) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Process> process,
                         CreateEmpty(spec, mapper, host, account));
  process->entry_ = image.entry;
  if (!process->memory_.LoadImage(image.memory, {}))
    return absl::ResourceExhaustedError("the memory limit does not hold the snapshot");
  WAXVM_RETURN_IF_ERROR(BuildStack(spec, features, process->memory_, process->entry_));
  process->file_system_->context().changed = false;
  return process;
}

}  // namespace waxvm::linux_abi
