// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_IDENTITY_TEMP_FOLDER_FOR_TEST_H_
#define WAXVM_SRC_IDENTITY_TEMP_FOLDER_FOR_TEST_H_

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace waxvm::identity {

/// A folder of its own, removed with all that is in it.
class TempFolder {
 public:
  explicit TempFolder(const std::filesystem::path& in = std::filesystem::temp_directory_path())
      : path_((in / "waxvm-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no temporary folder");
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace waxvm::identity

#endif  // WAXVM_SRC_IDENTITY_TEMP_FOLDER_FOR_TEST_H_
