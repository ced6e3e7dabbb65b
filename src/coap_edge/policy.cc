// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/policy.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "waxvm/coap_link.h"

namespace waxvm::coap::edge {
namespace {

using Segments = std::vector<std::string>;

/// A path as it is written in a URI, decoded.
absl::StatusOr<Segments> SegmentsOf(const std::string& path) {
  if (!path.starts_with('/'))
    return absl::InvalidArgumentError(absl::StrFormat("the path '%s' does not begin with /", path));
  auto uri = Uri::Parse("coap://h" + path);
  if (!uri.ok()) return uri.status();
  if (!uri->query.empty())
    return absl::InvalidArgumentError(absl::StrFormat("the path '%s' has a query", path));
  return std::move(uri->path);
}

bool StartsWith(const Segments& path, const Segments& start) {
  return start.size() <= path.size() && std::equal(start.begin(), start.end(), path.begin());
}

/// The resource that is asked for where the request names a server; nullopt where it names none.
std::optional<absl::StatusOr<Uri>> NamedUri(OptionsView options) {
  if (const auto text = options.proxy_uri()) return Uri::Parse(*text);
  const auto scheme = options.proxy_scheme();
  if (!scheme) return std::nullopt;
  if (*scheme != "coap") return absl::UnimplementedError("another scheme than coap");
  // Without a host the gateway itself would be meant. Spec: RFC 7252 section 5.10.2.
  if (!options.uri_host()) return absl::InvalidArgumentError("no Uri-Host");
  return Uri::FromOptions(options, Uri());
}

}  // namespace

bool Policy::Pattern::Matches(const std::vector<std::string>& path) const {
  return below ? StartsWith(path, segments) : path == segments;
}

bool Policy::Rule::IsFor(std::string_view identity) const {
  if (who == "*" || who == identity) return true;
  // Only these two: "psk:a:*" is a name like any other, and not everybody with a key.
  return (who == "psk:*" || who == "rpk:*") && identity.starts_with(who.substr(0, 4));
}

absl::StatusOr<Policy> Policy::Create(const EdgeOptions& options) {
  Policy policy;
  for (const EdgeHost& host : options.hosts) {
    if (const absl::Status status = policy.AddHost(host); !status.ok()) return status;
  }
  for (const EdgeMapping& mapping : options.mappings) {
    if (const absl::Status status = policy.AddMapping(mapping); !status.ok()) return status;
  }
  for (const EdgeRule& rule : options.rules) {
    if (const absl::Status status = policy.AddRule(rule); !status.ok()) return status;
  }
  // The longest path first, so that it is asked first.
  std::stable_sort(
      policy.mappings_.begin(), policy.mappings_.end(),
      [](const Mapping& a, const Mapping& b) { return a.outer.size() > b.outer.size(); });
  return policy;
}

absl::Status Policy::AddHost(const EdgeHost& host) {
  const bool is_v6 = host.name.find(':') != std::string::npos;
  const auto uri = Uri::Parse(is_v6 ? "coap://[" + host.name + "]" : "coap://" + host.name);
  if (!uri.ok() || uri->host != host.name || !uri->path.empty() || host.name == "*")
    return absl::InvalidArgumentError(absl::StrFormat("'%s' is no name of a host", host.name));
  if (host.address.port == 0 || host.address.is_multicast())
    return absl::InvalidArgumentError(
        absl::StrFormat("%s cannot be a server inside", host.address.ToText()));
  if (!hosts_.emplace(host.name, host.address).second)
    return absl::InvalidArgumentError(absl::StrFormat("the host '%s' is there twice", host.name));
  return absl::OkStatus();
}

absl::Status Policy::AddMapping(const EdgeMapping& mapping) {
  auto outer = SegmentsOf(mapping.path);
  if (!outer.ok()) return outer.status();
  auto inner = Uri::Parse(mapping.uri);
  if (!inner.ok()) return inner.status();
  const auto host = hosts_.find(inner->host);
  if (host == hosts_.end() || inner->scheme != Scheme::kCoap || !inner->query.empty())
    return absl::InvalidArgumentError(
        absl::StrFormat("'%s' is no coap URI of a host inside", mapping.uri));
  inner->port = host->second.port;
  mappings_.push_back({*std::move(outer), *std::move(inner)});
  return absl::OkStatus();
}

absl::Status Policy::AddRule(const EdgeRule& rule) {
  const bool known =
      rule.who == "*" || rule.who == kAnonymous ||
      ((rule.who.starts_with("psk:") || rule.who.starts_with("rpk:")) && rule.who.size() > 4);
  if (!known) return absl::InvalidArgumentError(absl::StrFormat("'%s' is nobody", rule.who));
  if (rule.host != "*" && hosts_.count(rule.host) == 0)
    return absl::InvalidArgumentError(absl::StrFormat("'%s' is no host inside", rule.host));
  Rule added = {.who = rule.who, .host = rule.host, .path = {}, .methods = 0};
  std::string path = rule.path;
  added.path.below = path.ends_with("/*");
  if (added.path.below) path.erase(path.size() - 1);
  auto segments = SegmentsOf(path);
  if (!segments.ok()) return segments.status();
  // "/a/*" is /a and what is below it, not only what is below "/a/".
  if (added.path.below && !segments->empty()) segments->pop_back();
  added.path.segments = *std::move(segments);
  for (const Code method : rule.methods) {
    if (!IsRequest(method))
      return absl::InvalidArgumentError(absl::StrFormat("%s is no method", ToText(method)));
    added.methods |= 1u << static_cast<unsigned>(method);
  }
  rules_.push_back(std::move(added));
  return absl::OkStatus();
}

Decision Policy::Mapped(OptionsView options) const {
  // Attack: "." and "..", which a server inside might resolve to a path that no rule allows.
  auto asked = Uri::FromOptions(options, Uri());
  if (!asked.ok()) return {.refusal = Code::kBadOption};
  for (const Mapping& mapping : mappings_) {
    if (!StartsWith(asked->path, mapping.outer)) continue;
    Decision decision = {.address = hosts_.at(mapping.inner.host),
                         .uri = mapping.inner,
                         .mapped = true,
                         .outer = mapping.outer,
                         .inner = mapping.inner.path};
    const auto rest = asked->path.begin() + static_cast<std::ptrdiff_t>(mapping.outer.size());
    decision.uri.path.insert(decision.uri.path.end(), rest, asked->path.end());
    decision.uri.query = std::move(asked->query);
    return decision;
  }
  return {.refusal = Code::kNotFound};
}

Decision Policy::Locate(OptionsView options) const {
  auto named = NamedUri(options);
  if (!named) return Mapped(options);
  if (!named->ok()) {
    return {.refusal = named->status().code() == absl::StatusCode::kUnimplemented
                           ? Code::kProxyingNotSupported
                           : Code::kBadOption};
  }
  Uri& uri = **named;
  if (uri.scheme != Scheme::kCoap) return {.refusal = Code::kProxyingNotSupported};
  const auto host = hosts_.find(uri.host);
  // The same answer as where a rule is missing: nobody learns which hosts there are.
  if (host == hosts_.end() || host->second.port != uri.port) return {.refusal = Code::kForbidden};
  return {.address = host->second, .uri = std::move(uri)};
}

Decision Policy::Decide(std::string_view identity, Code method, OptionsView options) const {
  Decision decision = Locate(options);
  if (decision.refusal != Code::kEmpty) return decision;
  bool other_method = false;
  for (const Rule& rule : rules_) {
    if (!rule.IsFor(identity) || (rule.host != "*" && rule.host != decision.uri.host) ||
        !rule.path.Matches(decision.uri.path))
      continue;
    if (static_cast<unsigned>(method) < 32 && (rule.methods >> static_cast<unsigned>(method) & 1))
      return decision;
    other_method = true;
  }
  return {.refusal = other_method ? Code::kMethodNotAllowed : Code::kForbidden};
}

std::string Policy::Discovery(std::string_view identity) const {
  std::vector<Link> links;
  for (const Mapping& mapping : mappings_) {
    const bool shown = std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) {
      return rule.IsFor(identity) && (rule.host == "*" || rule.host == mapping.inner.host) &&
             (rule.methods >> static_cast<unsigned>(Code::kGet) & 1) &&
             (rule.path.Matches(mapping.inner.path) ||
              StartsWith(rule.path.segments, mapping.inner.path));
    });
    if (!shown) continue;
    Uri outer;
    outer.path = mapping.outer;
    links.push_back({.target = outer.PathAndQuery()});
  }
  return LinksToText(links).value_or("");
}

}  // namespace waxvm::coap::edge
