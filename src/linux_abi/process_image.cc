// SPDX-License-Identifier: Apache-2.0
// Taking the image of a process, and making another from it.
#include "src/linux_abi/process_image.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "src/base/status.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/process_view.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {
namespace {

absl::Status CannotKeep(std::string_view what) {
  return FailedPrecondition("a snapshot cannot keep %s", what);
}

absl::StatusOr<std::vector<DescriptorImage>> ImageOf(const FdTable& files) {
  std::vector<DescriptorImage> images;
  std::map<const OpenFile*, std::uint64_t> seen;
  for (std::uint64_t fd = 0; fd < files.size(); ++fd) {
    const OpenFile* file = files.Get(fd);
    if (file == nullptr) continue;
    DescriptorImage image{.number = fd, .close_on_exec = files.close_on_exec(fd)};
    const auto [first, is_new] = seen.try_emplace(file, fd);
    const auto path = file->Path();
    struct stat status {};
    if (!is_new) {
      image.same_as = first->second;
    } else if (const std::optional<int> stream = files.StreamOf(file)) {
      image.stream = stream;
      image.flags = file->flags();
    } else if (path.ok() && file->Stat(status) == 0 && S_ISCHR(status.st_mode)) {
      image.device = *path;
      image.flags = file->flags();
    } else {
      return CannotKeep(absl::StrFormat("descriptor %d, which is open for %s", fd,
                                        path.ok() ? *path : "a pipe, socket or unnamed file"));
    }
    images.push_back(std::move(image));
  }
  return images;
}

absl::Status OpenDescriptors(const std::vector<DescriptorImage>& images, FileSystem& file_system,
                             FdTable& files) {
  const std::array<std::shared_ptr<OpenFile>, 3> streams = {files.Share(0), files.Share(1),
                                                            files.Share(2)};
  files.CloseRange(0, 2, /*only_mark=*/false);
  for (const DescriptorImage& image : images) {
    std::shared_ptr<OpenFile> file;
    if (image.same_as) {
      file = files.Share(*image.same_as);
    } else if (image.stream) {
      file = streams.at(static_cast<std::size_t>(*image.stream));
      file->SetStatusFlags(image.flags);
    } else {
      auto opened = file_system.Open(file_system.root(), image.device, image.flags, 0);
      if (opened.ok()) file = *std::move(opened);
    }
    if (file == nullptr || files.Replace(image.number, std::move(file), image.close_on_exec) < 0)
      return FailedPrecondition("descriptor %d of the snapshot cannot be opened", image.number);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ProcessImage> Process::TakeImage() {
  if (!pending_host_call_ || ending_)
    return FailedPrecondition("the program is not waiting for a host call");
  if (scheduler_.threads().size() != 1 || thread().id != kPid)
    return CannotKeep("more than one thread");
  if (signals_.pending.size() != 0 || thread().pending.size() != 0)
    return CannotKeep("signals that wait to be delivered");
  if (timers_.any()) return CannotKeep("a timer");
  if (file_system_->context().changed)
    return CannotKeep("what the program changed in its own file system (as in /tmp)");
  ProcessImage image;
  WAXVM_ASSIGN_OR_RETURN(image.memory, memory_.TakeImage());
  WAXVM_ASSIGN_OR_RETURN(image.descriptors, ImageOf(*files_));
  image.entry = entry_;
  image.thread = thread();
  image.next_thread_id = scheduler_.next_id();
  image.actions = signals_.actions;
  image.working_directory = file_system_->WorkingDirectoryText();
  image.umask = file_system_->umask();
  image.host_call_address = host_call_address_;
  return image;
}

absl::StatusOr<std::unique_ptr<Process>> Process::CreateFrom(const ProcessImage& image,
                                                             const InstanceSpec& spec,
                                                             PageMapper& mapper, Host& host,
                                                             MemoryAccount& account) {
  WAXVM_ASSIGN_OR_RETURN(std::unique_ptr<Process> process,
                         CreateEmpty(spec, mapper, host, account));
  Process& self = *process;
  self.entry_ = image.entry;
  if (!self.memory_.LoadImage(image.memory))
    return absl::ResourceExhaustedError("the memory limit does not hold the snapshot");
  WAXVM_RETURN_IF_ERROR(OpenDescriptors(image.descriptors, *self.file_system_, *self.files_));
  if (self.file_system_->ChangeDirectory(self.file_system_->root(), image.working_directory) < 0)
    return FailedPrecondition("the working directory of the snapshot, %s, is not there",
                              image.working_directory);
  self.file_system_->set_umask(image.umask);
  static_cast<ThreadSettings&>(self.thread()) = image.thread;
  self.scheduler_.set_next_id(image.next_thread_id);
  self.signals_.actions = image.actions;
  self.file_system_->context().changed = false;
  self.RestoreHostCall(image);
  return process;
}

void Process::RestoreHostCall(const ProcessImage& image) {
  pending_host_call_ = true;
  host_call_charge_.Reset();
  host_call_address_ = image.host_call_address;
  memory_.ForgetWindows();
  scheduler_.ForgetPast();
  changed_ = false;
}

}  // namespace waxvm::linux_abi
