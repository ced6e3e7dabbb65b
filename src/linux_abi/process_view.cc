// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/process_view.h"

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
  std::int32_t thread_id() const override { return Process::kPid; }
  std::vector<std::int32_t> thread_ids() const override { return {Process::kPid}; }
  std::string ThreadName(std::int32_t) const override {
    const std::string path = Executable();
    return path.substr(path.rfind('/') + 1);
  }
  void SetThreadName(std::int32_t, std::string_view) override {}
  std::string Executable() const override {
    const InstanceSpec& spec = process_.spec();
    const std::string& name = spec.arguments.empty() ? spec.program.name() : spec.arguments.front();
    return name.starts_with('/') ? name : "/" + name;
  }
  std::string Maps() const override { return process_.memory().Describe(); }
  std::string AuxiliaryVector() const override { return {}; }
  std::string WorkingDirectory() const override {
    return process_.file_system().WorkingDirectoryText();
  }
  FdTable& files() override { return process_.files(); }

 private:
  Process& process_;
};

}  // namespace

std::unique_ptr<ProcessView> MakeProcessView(Process& process) {
  return std::make_unique<View>(process);
}

}  // namespace waxvm::linux_abi
