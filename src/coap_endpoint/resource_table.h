// SPDX-License-Identifier: Apache-2.0
// Which resource a request is for.
#ifndef WAXVM_SRC_COAP_ENDPOINT_RESOURCE_TABLE_H_
#define WAXVM_SRC_COAP_ENDPOINT_RESOURCE_TABLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "waxvm/coap_options.h"
#include "waxvm/coap_resource.h"

namespace waxvm::coap {

/// A resource that is served, and who observes it.
struct Served {
  Resource resource;
  std::vector<std::uint32_t> observers;
  std::uint32_t next_number = 2;  ///< of Observe
};

/// Thread safety: none.
class ResourceTable {
 public:
  absl::Status Add(Resource resource);
  /// nullptr: there is none.
  std::shared_ptr<Served> Remove(std::string_view path);
  std::shared_ptr<Served> FindPath(std::string_view path) const;
  /// The resource with exactly that Uri-Path, or else that prefix with the most of its segments.
  const std::shared_ptr<Served>* Find(OptionsView options) const;
  /// What /.well-known/core says to these Uri-Query options; links in the order of their paths.
  std::string Links(OptionsView query) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view key) const {
      return std::hash<std::string_view>()(key);
    }
  };
  /// Each segment with its length before it, so that no segment can pass for two.
  static void AppendSegment(std::string_view segment, std::string& key);
  static std::string KeyOf(std::string_view path);

  std::unordered_map<std::string, std::shared_ptr<Served>, Hash, std::equal_to<>> by_key_;
  std::map<std::string, std::shared_ptr<Served>, std::less<>> by_path_;
  std::size_t prefixes_ = 0;
  mutable std::string key_;  ///< keeps its memory from one request to the next
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_RESOURCE_TABLE_H_
