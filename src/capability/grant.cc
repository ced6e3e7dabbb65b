// SPDX-License-Identifier: Apache-2.0
#include "waxvm/grant.h"

#include <utility>

namespace waxvm {

Grant Clock(std::shared_ptr<ClockSource> source) { return ClockGrant{std::move(source)}; }

Grant Random(std::shared_ptr<RandomSource> source) { return RandomGrant{std::move(source)}; }

Grant Files(std::string host_path, std::string guest_path, Rights rights) {
  return FilesGrant{std::move(host_path), std::move(guest_path), rights};
}

Grant Image(RootImage image) { return ImageGrant{std::move(image)}; }

Grant Function(std::string name, HostFunction function) {
  return FunctionGrant{std::move(name), std::move(function)};
}

}  // namespace waxvm
