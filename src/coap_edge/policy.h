// SPDX-License-Identifier: Apache-2.0
// Who may ask what inside, and where that is.
#ifndef WAXVM_SRC_COAP_EDGE_POLICY_H_
#define WAXVM_SRC_COAP_EDGE_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/coap_edge.h"
#include "waxvm/coap_uri.h"

namespace waxvm::coap::edge {

inline constexpr std::string_view kAnonymous = "anonymous";

/// What becomes of a request.
struct Decision {
  /// kEmpty: it is sent on. Otherwise it is answered with this.
  Code refusal = Code::kEmpty;
  SocketAddress address = {};
  Uri uri = {};  ///< inside
  /// Of the mapping that was used: the gateway's path, and that inside which it stands for.
  bool mapped = false;
  std::vector<std::string> outer = {};
  std::vector<std::string> inner = {};
};

/// Thread safety: may be used from any number of threads at once.
class Policy {
 public:
  /// Errors: kInvalidArgument names what makes no sense.
  static absl::StatusOr<Policy> Create(const EdgeOptions& options);

  Decision Decide(std::string_view identity, Code method, OptionsView options) const;
  /// The mappings that somebody may GET anything of, as links. Spec: RFC 6690.
  std::string Discovery(std::string_view identity) const;

 private:
  struct Pattern {
    std::vector<std::string> segments;
    bool below = false;
    bool Matches(const std::vector<std::string>& path) const;
  };
  struct Rule {
    std::string who;
    std::string host;
    Pattern path;
    std::uint32_t methods = 0;
    bool IsFor(std::string_view identity) const;
  };
  struct Mapping {
    std::vector<std::string> outer;
    Uri inner;
  };

  Policy() = default;
  absl::Status AddHost(const EdgeHost& host);
  absl::Status AddMapping(const EdgeMapping& mapping);
  absl::Status AddRule(const EdgeRule& rule);
  Decision Locate(OptionsView options) const;
  Decision Mapped(OptionsView options) const;

  std::map<std::string, SocketAddress> hosts_;
  std::vector<Mapping> mappings_;
  std::vector<Rule> rules_;
};

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_POLICY_H_
