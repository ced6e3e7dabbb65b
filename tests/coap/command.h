// SPDX-License-Identifier: Apache-2.0
// waxvm coap as a user runs it, and a relay in between that loses datagrams.
#ifndef WAXVM_TESTS_COAP_COMMAND_H_
#define WAXVM_TESTS_COAP_COMMAND_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/process.h"

namespace waxvm::coap {

using support::Completed;

/// Runs a program to its end, with this environment.
Completed RunProgram(const std::vector<std::string>& arguments, const std::string& input = "");
/// `waxvm coap …`.
Completed RunCoap(std::vector<std::string> arguments, const std::string& input = "");

/// A program in the background, killed at the end.
class Background {
 public:
  explicit Background(const std::vector<std::string>& arguments);
  ~Background() { Stop(9); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  /// The next line of its standard output; "" where none comes in ten seconds.
  std::string ReadLine();
  /// Everything until it ends. Returns its exit code.
  int WaitFor(std::string& output);
  /// Returns its exit code.
  int Stop(int signal);
  bool started() const { return child_ > 0; }

 private:
  pid_t child_ = -1;
  int output_ = -1;
};

/// `waxvm coap serve`, and where it says that it listens.
class Served {
 public:
  explicit Served(const std::string& folder, std::vector<std::string> flags = {});
  std::string Uri(const std::string& path) const { return uri_ + path; }
  std::uint16_t port() const;
  int Stop(int signal) { return program_.Stop(signal); }
  const std::string& line() const { return line_; }

 private:
  Background program_;
  std::string line_;
  std::string uri_;  ///< without the last slash
};

/// A UDP port of ::1 that was free a moment ago.
std::uint16_t FreePort();

/// Passes datagrams between whoever sends to it and a port of ::1, and loses some of them, always
/// the same ones for the same seed and order.
class LossyRelay {
 public:
  LossyRelay(std::uint16_t to, double loss, std::uint64_t seed);
  ~LossyRelay();
  LossyRelay(const LossyRelay&) = delete;
  LossyRelay& operator=(const LossyRelay&) = delete;

  std::string Uri(const std::string& path) const;
  std::uint16_t port() const { return port_; }
  int lost() const { return lost_; }
  int passed() const { return passed_; }

 private:
  void Run();
  bool Loses();

  const std::uint16_t to_;
  const double loss_;
  std::uint64_t state_;
  int front_ = -1;
  int wake_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> lost_ = 0;
  std::atomic<int> passed_ = 0;
  std::thread thread_;
};

/// A folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

/// Bytes that are not the same anywhere.
std::string LongText(std::size_t bytes);

}  // namespace waxvm::coap

#endif  // WAXVM_TESTS_COAP_COMMAND_H_
