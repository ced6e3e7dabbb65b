// SPDX-License-Identifier: Apache-2.0
#include "waxvm/coap_link.h"

#include <algorithm>

#include "src/base/status.h"

namespace waxvm::coap {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return Lower(x) == Lower(y); });
}

bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (Lower(c) >= 'a' && Lower(c) <= 'z');
}
bool IsOneOf(char c, std::string_view set) { return set.find(c) != set.npos; }
/// Spec: RFC 5987 section 3.2.1, with the star that ends "title*".
bool InName(char c) { return IsAlphanumeric(c) || IsOneOf(c, "!#$&+-.^_`|~*"); }
/// Spec: RFC 6690 section 2, ptokenchar.
bool InToken(char c) { return IsAlphanumeric(c) || IsOneOf(c, "!#$%&'()*+-./:<=>?@[]^_`{|}~"); }
/// What a target is made of; whether it is a URI is for who follows it.
bool InTarget(char c) {
  return static_cast<unsigned char>(c) > ' ' && c != '<' && c != '>' && c != '"' && c != '\x7f';
}
bool IsControl(char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }

/// Takes links from the front of a text. Once something was wrong, error() says what.
/// Thread safety: none; distinct objects may be used from distinct threads.
class Reader {
 public:
  Reader(std::string_view text, const LinkLimits& limits) : text_(text), limits_(limits) {}

  absl::StatusOr<std::vector<Link>> ReadAll() {
    std::vector<Link> links;
    SkipSpace();
    if (at_ == text_.size()) return links;
    while (true) {
      if (links.size() == limits_.max_links)
        return InvalidArgument("there are more than %d links", limits_.max_links);
      WAXVM_ASSIGN_OR_RETURN(Link link, ReadLink());
      links.push_back(std::move(link));
      if (at_ == text_.size()) return links;
      if (!Take(',')) return Wrong("a link is followed by neither ',' nor ';'");
      SkipSpace();
    }
  }

 private:
  absl::StatusOr<Link> ReadLink() {
    Link link;
    if (!Take('<')) return Wrong("a link does not begin with '<'");
    link.target = TakeAll(InTarget);
    if (!Take('>')) return Wrong("the target of a link does not end with '>'");
    SkipSpace();
    while (Take(';')) {
      SkipSpace();
      if (link.attributes.size() == limits_.max_attributes)
        return InvalidArgument("a link has more than %d attributes", limits_.max_attributes);
      WAXVM_ASSIGN_OR_RETURN(LinkAttribute attribute, ReadAttribute());
      link.attributes.push_back(std::move(attribute));
      SkipSpace();
    }
    return link;
  }

  absl::StatusOr<LinkAttribute> ReadAttribute() {
    LinkAttribute attribute{std::string(TakeAll(InName))};
    if (attribute.name.empty()) return Wrong("an attribute has no name");
    if (!Take('=')) return attribute;
    if (!Take('"')) {
      attribute.value = TakeAll(InToken);
      if (attribute.value->empty()) return Wrong("an attribute has no value after '='");
      return attribute;
    }
    attribute.value.emplace();
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && ++at_ == text_.size()) break;
      *attribute.value += text_[at_++];
    }
    if (!Take('"')) return Wrong("a quoted value does not end");
    return attribute;
  }

  bool Take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  template <typename Allowed>
  std::string_view TakeAll(Allowed allowed) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && allowed(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  void SkipSpace() {
    TakeAll([](char c) { return IsOneOf(c, " \t\r\n"); });
  }
  absl::Status Wrong(const char* what) const {
    return InvalidArgument("at byte %d: %s", at_, what);
  }

  std::string_view text_;
  const LinkLimits& limits_;
  std::size_t at_ = 0;
};

bool IsNumber(std::string_view text) {
  return !text.empty() && (text == "0" || text[0] != '0') &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

absl::Status AppendLink(const Link& link, std::string& text) {
  if (!std::all_of(link.target.begin(), link.target.end(), InTarget))
    return InvalidArgument("the target '%s' cannot be written", link.target.substr(0, 80));
  text += '<' + link.target + '>';
  for (const LinkAttribute& attribute : link.attributes) {
    if (attribute.name.empty() ||
        !std::all_of(attribute.name.begin(), attribute.name.end(), InName))
      return InvalidArgument("'%s' is no name of an attribute", attribute.name.substr(0, 80));
    text += ';' + attribute.name;
    if (!attribute.value) continue;
    text += '=';
    if (IsNumber(*attribute.value)) {
      text += *attribute.value;
      continue;
    }
    text += '"';
    for (const char c : *attribute.value) {
      if (IsControl(c) && c != '\t')
        return InvalidArgument("the value of '%s' has control characters", attribute.name);
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    text += '"';
  }
  return absl::OkStatus();
}

bool MatchesPattern(std::string_view value, std::string_view pattern) {
  if (pattern.ends_with('*')) return value.starts_with(pattern.substr(0, pattern.size() - 1));
  return value == pattern;
}

bool AnyMatches(std::string_view values, std::string_view pattern) {
  while (!values.empty()) {
    const std::size_t end = std::min(values.find(' '), values.size());
    if (end != 0 && MatchesPattern(values.substr(0, end), pattern)) return true;
    values.remove_prefix(std::min(end + 1, values.size()));
  }
  return false;
}

}  // namespace

const LinkAttribute* Link::Find(std::string_view name) const {
  for (const LinkAttribute& attribute : attributes)
    if (EqualIgnoringCase(attribute.name, name)) return &attribute;
  return nullptr;
}

Link& Link::With(std::string_view name, std::string_view value) {
  attributes.push_back({std::string(name), std::string(value)});
  return *this;
}

Link& Link::With(std::string_view name) {
  attributes.push_back({std::string(name)});
  return *this;
}

absl::StatusOr<std::vector<Link>> ParseLinks(std::string_view text, const LinkLimits& limits) {
  if (text.size() > limits.max_bytes)
    return InvalidArgument("the links have %d bytes, more than %d", text.size(), limits.max_bytes);
  return Reader(text, limits).ReadAll();
}

absl::StatusOr<std::string> LinksToText(std::span<const Link> links) {
  std::string text;
  for (const Link& link : links) {
    if (!text.empty()) text += ',';
    WAXVM_RETURN_IF_ERROR(AppendLink(link, text));
  }
  return text;
}

bool Matches(const Link& link, std::string_view query) {
  const std::size_t equals = std::min(query.find('='), query.size());
  const std::string_view name = query.substr(0, equals);
  const bool has_pattern = equals != query.size();
  const std::string_view pattern = has_pattern ? query.substr(equals + 1) : std::string_view();
  if (EqualIgnoringCase(name, "href")) return !has_pattern || MatchesPattern(link.target, pattern);
  const bool is_list = EqualIgnoringCase(name, "rt") || EqualIgnoringCase(name, "if") ||
                       EqualIgnoringCase(name, "rel");
  for (const LinkAttribute& attribute : link.attributes) {
    if (!EqualIgnoringCase(attribute.name, name)) continue;
    if (!has_pattern) return true;
    const std::string_view value = attribute.value ? *attribute.value : std::string_view();
    if (is_list ? AnyMatches(value, pattern) : MatchesPattern(value, pattern)) return true;
  }
  return false;
}

}  // namespace waxvm::coap
