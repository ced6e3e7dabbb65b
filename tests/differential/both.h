// SPDX-License-Identifier: Apache-2.0
// One program run twice, on the host's own kernel and in a microVM, and what differs.
#ifndef WAXVM_TESTS_DIFFERENTIAL_BOTH_H_
#define WAXVM_TESTS_DIFFERENTIAL_BOTH_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace waxvm::differential {

struct Command {
  std::vector<std::string> arguments;  ///< the first is the program's path
  std::string input = {};
  /// A folder of the host that is granted for reading and writing under its own path; "": none.
  std::string folder = {};
  /// The host's whole root is granted for reading: what dynamically linked programs need.
  bool whole_root = false;
  std::uint64_t memory_bytes = 512 << 20;
  std::chrono::seconds wall_time{60};
  std::vector<std::string> environment = {};
};

struct Ran {
  int exit_code = -1;
  std::string output;
  std::string error;
  /// What is in the folder afterwards: type, mode, number of links, size and contents by path.
  std::map<std::string, std::string> files;
  /// Of a microVM: how it ended, and what it was refused.
  std::string report;
};

Ran RunNatively(const Command& command);
Ran RunInMicroVm(const Command& command);

/// What differs, in words and at most a screenful; "" where nothing does.
std::string Difference(const Ran& native, const Ran& isolated);

/// "" where microVMs work here, otherwise why they do not.
std::string WhyNoMicroVm();

/// The first line in which two texts differ, shown from both; "" where they are equal.
std::string FirstDifference(std::string_view native, std::string_view isolated);

/// Where the guest programs are: the environment's WAXVM_GUEST_DIR, or the build's folder.
std::string GuestPath(const std::string& name);

/// 20 inside the emulated machine, where everything takes longer.
int Slowness();

/// A folder of its own, gone with the object.
class Scratch {
 public:
  Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  /// An empty folder, always under the same path: what was in it is gone.
  const std::string& Fresh();
  /// A path beside that folder, which Fresh leaves alone.
  std::string Beside(const std::string& name) const { return base_ + "/" + name; }

 private:
  std::string base_;
  std::string folder_;
};

}  // namespace waxvm::differential

#endif  // WAXVM_TESTS_DIFFERENTIAL_BOTH_H_
