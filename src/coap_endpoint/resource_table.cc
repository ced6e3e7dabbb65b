// SPDX-License-Identifier: Apache-2.0
#include "src/coap_endpoint/resource_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status.h"
#include "waxvm/coap_uri.h"

namespace waxvm::coap {
namespace {

Link LinkOf(const Resource& resource) {
  // A path is not encoded, a link is.
  Link link = {.target = PathAndQueryOf(Message(Code::kGet).SetPath(resource.path).options()),
               .attributes = resource.attributes};
  if (resource.observable) link.With("obs");
  if (resource.produces.empty()) return link;
  std::string formats;
  for (const ContentFormat format : resource.produces)
    absl::StrAppend(&formats, formats.empty() ? "" : " ", static_cast<int>(format));
  return link.With("ct", formats);
}

}  // namespace

void ResourceTable::AppendSegment(std::string_view segment, std::string& key) {
  key.push_back(static_cast<char>(segment.size() >> 8));
  key.push_back(static_cast<char>(segment.size()));
  key.append(segment);
}

std::string ResourceTable::KeyOf(std::string_view path) {
  std::string key;
  if (path.size() <= 1) return key;
  path.remove_prefix(1);
  for (;;) {
    const std::size_t slash = path.find('/');
    AppendSegment(path.substr(0, slash), key);
    if (slash == path.npos) return key;
    path.remove_prefix(slash + 1);
  }
}

absl::Status ResourceTable::Add(Resource resource) {
  if (resource.path.empty() || resource.path.front() != '/')
    return InvalidArgument("the path '%s' does not begin with a slash", resource.path);
  if (!resource.handler) return InvalidArgument("no handler for '%s'", resource.path);
  // What no client could ask for, or no list could show.
  for (std::size_t from = 1, end = 0; end != resource.path.npos; from = end + 1) {
    end = resource.path.find('/', from);
    const std::string_view segment = std::string_view(resource.path).substr(from, end - from);
    if (segment == "." || segment == ".." || segment.size() > 255)
      return InvalidArgument("'%s' is no segment of a path", segment);
  }
  if (resource.listed)
    WAXVM_RETURN_IF_ERROR(LinksToText(std::vector<Link>{LinkOf(resource)}).status());
  std::string key = KeyOf(resource.path);
  if (by_key_.count(key) != 0)
    return absl::AlreadyExistsError(absl::StrFormat("'%s' is served already", resource.path));
  auto served = std::make_shared<Served>();
  served->resource = std::move(resource);
  prefixes_ += served->resource.prefix;
  by_path_.emplace(served->resource.path, served);
  by_key_.emplace(std::move(key), std::move(served));
  return absl::OkStatus();
}

std::shared_ptr<Served> ResourceTable::Remove(std::string_view path) {
  const auto found = by_path_.find(path);
  if (found == by_path_.end()) return nullptr;
  std::shared_ptr<Served> served = std::move(found->second);
  by_path_.erase(found);
  by_key_.erase(KeyOf(path));
  prefixes_ -= served->resource.prefix;
  return served;
}

std::shared_ptr<Served> ResourceTable::FindPath(std::string_view path) const {
  const auto found = by_path_.find(path);
  return found == by_path_.end() ? nullptr : found->second;
}

const std::shared_ptr<Served>* ResourceTable::Find(OptionsView options) const {
  key_.clear();
  const std::shared_ptr<Served>* longest = nullptr;
  const auto look = [&](bool whole) -> const std::shared_ptr<Served>* {
    const auto found = by_key_.find(std::string_view(key_));
    if (found == by_key_.end() || !(whole || found->second->resource.prefix)) return nullptr;
    return &found->second;
  };
  // Only where there are prefixes is every part of the path looked up.
  for (const OptionView& option : options) {
    if (option.number > OptionNumber::kUriPath) break;
    if (option.number != OptionNumber::kUriPath) continue;
    if (prefixes_ != 0)
      if (const auto* found = look(false)) longest = found;
    AppendSegment(option.text(), key_);
  }
  const auto* exact = look(true);
  return exact != nullptr ? exact : longest;
}

std::string ResourceTable::Links(OptionsView query) const {
  std::vector<Link> links;
  for (const auto& [path, served] : by_path_) {
    if (!served->resource.listed) continue;
    Link link = LinkOf(served->resource);
    bool wanted = true;
    query.ForEach(OptionNumber::kUriQuery,
                  [&](std::string_view text) { wanted = wanted && Matches(link, text); });
    if (wanted) links.push_back(std::move(link));
  }
  // Each was checked when it was added.
  const absl::StatusOr<std::string> text = LinksToText(links);
  return text.ok() ? *text : std::string();
}

}  // namespace waxvm::coap
