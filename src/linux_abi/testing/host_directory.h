// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_TESTING_HOST_DIRECTORY_H_
#define WAXVM_SRC_LINUX_ABI_TESTING_HOST_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace waxvm::linux_abi {

/// A folder of its own on the host, removed with everything in it.
class HostDirectory {
 public:
  HostDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "waxvm-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data()) != nullptr ? pattern : std::string();
  }
  ~HostDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  HostDirectory(const HostDirectory&) = delete;
  HostDirectory& operator=(const HostDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string Path(std::string_view name) const { return path_ + "/" + std::string(name); }
  void MakeDirectory(std::string_view name) const {
    std::filesystem::create_directories(Path(name));
  }
  void MakeFile(std::string_view name, std::string_view contents) const {
    std::ofstream(Path(name)) << contents;
  }
  void MakeLink(std::string_view name, std::string_view target) const {
    std::filesystem::create_symlink(target, Path(name));
  }
  std::string Contents(std::string_view name) const {
    std::ifstream file(Path(name));
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  bool Exists(std::string_view name) const {
    return std::filesystem::exists(std::filesystem::symlink_status(Path(name)));
  }

 private:
  std::string path_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_TESTING_HOST_DIRECTORY_H_
