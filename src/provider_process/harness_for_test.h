// SPDX-License-Identifier: Apache-2.0
// Runs programs under the process provider and keeps everything that came out.
#ifndef WAXVM_SRC_PROVIDER_PROCESS_HARNESS_FOR_TEST_H_
#define WAXVM_SRC_PROVIDER_PROCESS_HARNESS_FOR_TEST_H_

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "waxvm/native.h"
#include "waxvm/providers.h"

namespace waxvm::process {

class RecordingGate final : public AccessGate {
 public:
  absl::Status Check(const Access& access) override {
    asked.push_back(std::string(ResourceName(access.resource)) + ":" + std::string(access.name) +
                    (access.write ? ":write" : ""));
    if (std::find(refused.begin(), refused.end(), asked.back()) == refused.end()) {
      return absl::OkStatus();
    }
    denials.push_back(asked.back());
    return absl::PermissionDeniedError(asked.back());
  }
  void RecordDenial(const Access& access) override {
    denials.push_back(std::string(ResourceName(access.resource)) + ":" + std::string(access.name));
  }
  std::size_t Count(const std::string& denial) const {
    return static_cast<std::size_t>(std::count(denials.begin(), denials.end(), denial));
  }

  std::vector<std::string> asked;
  std::vector<std::string> refused;
  std::vector<std::string> denials;
};

class HostRandomForTest final : public RandomSource {
 public:
  void Fill(std::span<std::byte>) override {}
};

struct Outcome {
  absl::Status status;
  Event event = Stopped{};
  std::string output;
  std::string error;
  Usage usage;
  RecordingGate gate;

  int exit_code() const {
    const auto* exited = std::get_if<Exited>(&event);
    return exited != nullptr ? exited->code : -1;
  }
  int signal() const {
    const auto* fault = std::get_if<Fault>(&event);
    return fault != nullptr ? fault->signal : -1;
  }
  std::string limit() const {
    const auto* limit = std::get_if<LimitReached>(&event);
    return limit != nullptr ? std::string(LimitName(limit->limit)) : "none";
  }
};

using Configure = std::function<void(InstanceSpec&)>;

/// Runs `program` to its end; host calls are answered with "<name>(<request>)".
inline Outcome RunProgram(Provider& provider, const Program& program,
                          const Configure& configure = nullptr) {
  Outcome outcome;
  InstanceSpec spec(program);
  spec.arguments = {program.name()};
  spec.gate = &outcome.gate;
  spec.output = [&](Stream stream, std::string_view data) {
    (stream == Stream::kOutput ? outcome.output : outcome.error).append(data);
    return absl::OkStatus();
  };
  if (configure) configure(spec);
  auto instance = provider.Create(spec);
  if (!instance.ok()) {
    outcome.status = instance.status();
    return outcome;
  }
  for (;;) {
    auto event = (*instance)->Resume();
    if (!event.ok()) {
      outcome.status = event.status();
      break;
    }
    outcome.event = *event;
    const auto* call = std::get_if<HostCallRequest>(&*event);
    if (call == nullptr) break;
    const absl::Status answered =
        (*instance)->CompleteHostCall(std::string(call->name + "(" + call->request + ")"));
    EXPECT_TRUE(answered.ok()) << answered;
  }
  outcome.usage = (*instance)->usage();
  return outcome;
}

/// A program of tests/guests.
inline Program Guest(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  auto program =
      Program::FromFile(std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name);
  if (program.ok()) return *program;
  ADD_FAILURE() << program.status();
  return Program::FromFunction("missing", [](NativeContext&) { return 127; });
}

inline FileMount Mount(const std::string& host_path, const std::string& guest_path,
                       Rights rights = Rights::kReadOnly) {
  FileMount mount;
  const int fd = open(host_path.c_str(), O_PATH | O_CLOEXEC);
  EXPECT_GE(fd, 0) << host_path;
  mount.host_fd = std::shared_ptr<const int>(new int(fd), [](const int* owned) {
    close(*owned);
    delete owned;
  });
  mount.host_path = host_path;
  mount.guest_path = guest_path;
  mount.rights = rights;
  return mount;
}

/// A test with a provider that works here, or a skip that says why not.
class ProcessProviderFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::Status available = provider_->Available();
    if (!available.ok()) GTEST_SKIP() << available;
  }

  Outcome Run(NativeFunction function, const Configure& configure = nullptr) {
    return RunProgram(*provider_, Program::FromFunction("native", std::move(function)), configure);
  }
  Outcome RunGuest(const std::string& name, const Configure& configure = nullptr) {
    return RunProgram(*provider_, Guest(name), configure);
  }

  std::shared_ptr<Provider> provider_ = NewProcessProvider();
};

}  // namespace waxvm::process

#endif  // WAXVM_SRC_PROVIDER_PROCESS_HARNESS_FOR_TEST_H_
