// SPDX-License-Identifier: Apache-2.0
// waxvm coap serve: each file of a folder is a resource.
#include <array>
#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "coap_folder.h"
#include "coap_words.h"
#include "commands.h"
#include "signals.h"

namespace waxvm::cli {
namespace {

using coap::Code;
using coap::ContentFormat;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kDefaultPoll{500};
// However often others write, the folder is not looked through more often.
constexpr milliseconds kLeastPoll{50};
// How long a signal may go unseen.
constexpr milliseconds kSlice{100};
// Attack: a body in blocks, for a server that takes none.
constexpr std::size_t kMaxReadOnlyBody = 4096;

ContentFormat FormatOf(std::string_view path) {
  static constexpr std::array<std::pair<std::string_view, ContentFormat>, 17> kFormats = {{
      {".txt", ContentFormat::kTextPlain},
      {".text", ContentFormat::kTextPlain},
      {".md", ContentFormat::kTextPlain},
      {".csv", ContentFormat::kTextPlain},
      {".log", ContentFormat::kTextPlain},
      {".json", ContentFormat::kJson},
      {".xml", ContentFormat::kXml},
      {".cbor", ContentFormat::kCbor},
      {".cborseq", ContentFormat::kCborSequence},
      {".exi", ContentFormat::kExi},
      {".wlnk", ContentFormat::kLinkFormat},
      {".cwt", ContentFormat::kCwt},
      {".senml", ContentFormat::kSenmlJson},
      {".senmlc", ContentFormat::kSenmlCbor},
      {".sensml", ContentFormat::kSensmlJson},
      {".sensmlc", ContentFormat::kSensmlCbor},
      {".cose", ContentFormat::kCoseSign1},
  }};
  const std::size_t dot = path.rfind('.');
  if (dot != path.npos)
    for (const auto& [extension, format] : kFormats)
      if (path.substr(dot) == extension) return format;
  return ContentFormat::kOctetStream;
}

/// Tells contents apart, but for those who look for two with the same: whoever may write files may
/// do what they want to readers anyway. FNV-1a.
std::string ETagOf(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  std::string etag(8, '\0');
  for (char& c : etag) {
    c = static_cast<char>(hash & 0xff);
    hash >>= 8;
  }
  return etag;
}

std::vector<std::string> SegmentsOf(coap::OptionsView options) {
  std::vector<std::string> path;
  options.ForEach(coap::OptionNumber::kUriPath,
                  [&](std::string_view segment) { path.emplace_back(segment); });
  return path;
}

Code CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return Code::kNotFound;
    case absl::StatusCode::kPermissionDenied:
      return Code::kForbidden;
    case absl::StatusCode::kFailedPrecondition:
      return Code::kConflict;
    case absl::StatusCode::kResourceExhausted:
      return Code::kServiceUnavailable;
    default:
      return Code::kInternalServerError;
  }
}

void Refuse(coap::Responder& responder, const absl::Status& status) {
  const std::string text(status.message());
  responder.Send(CodeOf(status), coap::ToBytes(text));
}

class FolderServer {
 public:
  FolderServer(const Folder& folder, coap::Endpoint& endpoint, bool writable)
      : folder_(folder), endpoint_(endpoint), writable_(writable) {}

  /// Serves what is there, and whatever else is asked for.
  absl::Status Begin() {
    Scan();
    coap::Resource rest = NewResource("/");
    rest.prefix = true;
    rest.listed = false;
    return endpoint_.Serve(std::move(rest));
  }

  /// Finds out what has changed, and tells those who observe it.
  void Scan() {
    changed_ = false;
    std::map<std::string, FileState> files = folder_.List();
    for (const auto& [path, state] : files_)
      if (files.count(path) == 0) (void)endpoint_.Remove(path);
    for (const auto& [path, state] : files) {
      const auto known = files_.find(path);
      if (known == files_.end()) {
        coap::Resource resource = NewResource(path);
        resource.produces = {FormatOf(path)};
        resource.observable = true;
        // One that no link can name is served by what serves the rest.
        (void)endpoint_.Serve(std::move(resource));
      } else if (known->second != state) {
        (void)endpoint_.Notify(path);
      }
    }
    files_ = std::move(files);
  }

  bool changed() const { return changed_; }

 private:
  coap::Resource NewResource(const std::string& path) {
    coap::Resource resource;
    resource.path = path;
    if (writable_) resource.methods = {Code::kGet, Code::kPut, Code::kDelete};
    resource.handler = [this](const coap::ServedRequest& request, coap::Responder& responder) {
      const std::vector<std::string> segments = SegmentsOf(request.options);
      if (request.code == Code::kGet) return Get(segments, request, responder);
      if (request.code == Code::kPut) return Put(segments, request, responder);
      Delete(segments, responder);
    };
    return resource;
  }

  void Get(const std::vector<std::string>& path, const coap::ServedRequest& request,
           coap::Responder& responder) {
    auto bytes = folder_.Read(path);
    if (!bytes.ok()) return Refuse(responder, bytes.status());
    const ContentFormat format = FormatOf(path.back());
    if (request.options.accept().value_or(format) != format)
      return responder.Send(Code::kNotAcceptable);
    const std::string etag = ETagOf(*bytes);
    coap::Message answer(Code::kContent);
    answer.SetPayload(format, *std::move(bytes)).AddETag(etag);
    responder.Send(answer);
  }

  /// The tag of what is there; nullopt: nothing.
  std::optional<std::string> TagOf(const std::vector<std::string>& path) {
    const auto bytes = folder_.Read(path);
    if (bytes.ok()) return ETagOf(*bytes);
    // Something is there, whatever it holds.
    return absl::IsNotFound(bytes.status()) ? std::nullopt : std::optional<std::string>("");
  }

  void Put(const std::vector<std::string>& path, const coap::ServedRequest& request,
           coap::Responder& responder) {
    if (path.empty()) return responder.Send(Code::kMethodNotAllowed);
    const ContentFormat format = FormatOf(path.back());
    if (format != ContentFormat::kOctetStream &&
        request.options.content_format().value_or(format) != format)
      return responder.Send(Code::kUnsupportedContentFormat);
    const std::optional<std::string> tag = TagOf(path);
    if (!responder.PreconditionsHold(tag ? std::optional<std::string_view>(*tag) : std::nullopt))
      return;
    const auto made = folder_.Write(path, coap::ToText(request.payload));
    if (!made.ok()) return Refuse(responder, made.status());
    changed_ = true;
    coap::Message answer(*made ? Code::kCreated : Code::kChanged);
    answer.AddETag(ETagOf(coap::ToText(request.payload)));
    responder.Send(answer);
  }

  void Delete(const std::vector<std::string>& path, coap::Responder& responder) {
    const std::optional<std::string> tag = TagOf(path);
    if (!responder.PreconditionsHold(tag ? std::optional<std::string_view>(*tag) : std::nullopt))
      return;
    const absl::Status removed = folder_.Remove(path);
    // Nothing is there afterwards either way. Spec: RFC 7252 section 5.8.4.
    if (!removed.ok() && !absl::IsNotFound(removed)) return Refuse(responder, removed);
    changed_ = true;
    responder.Send(Code::kDeleted);
  }

  const Folder& folder_;
  coap::Endpoint& endpoint_;
  const bool writable_;
  bool changed_ = false;
  std::map<std::string, FileState> files_;  ///< as they were told of
};

bool IsLoopback(const Address& address) {
  Address loopback;
  loopback.bytes.back() = 1;
  const std::string_view view = address.view();
  static constexpr std::string_view kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f", 13);
  return address == loopback || view.substr(0, kMapped.size()) == kMapped;
}

absl::StatusOr<bool> WantsEcho(const Words& words, const Address& address) {
  const std::string_view echo = words.Get("echo", "auto");
  if (echo == "auto") return !IsLoopback(address);
  if (echo == "yes" || echo == "no") return echo == "yes";
  return absl::InvalidArgumentError(
      absl::StrFormat("--echo is auto, yes or no, not '%s'", Printable(echo)));
}

absl::StatusOr<coap::EndpointOptions> OptionsOf(const Words& words, const Address& address,
                                                std::size_t file_bytes) {
  coap::EndpointOptions options;
  const auto exponent = BlockExponentOf(words);
  if (!exponent.ok()) return exponent.status();
  const auto rate = words.Number("rate", 0, 1'000'000);
  if (!rate.ok()) return rate.status();
  const auto echo = WantsEcho(words, address);
  if (!echo.ok()) return echo.status();
  options.block_exponent = *exponent;
  options.max_requests_per_second = static_cast<double>(*rate);
  // Nobody outside can pretend to be on the loopback interface.
  if (!*echo) options.transmission.amplification_limit = 0;
  options.max_body_bytes = words.Has("writable") ? file_bytes : kMaxReadOnlyBody;
  options.max_bodies_bytes = std::max(options.max_bodies_bytes, 2 * file_bytes);
  return options;
}

absl::Status JoinGroup(const Words& words, coap::Endpoint& endpoint) {
  const auto interface = InterfaceOf(words);
  if (!interface.ok()) return interface.status();
  for (const std::string_view group : words.All("group")) {
    const auto address = Address::Parse(group);
    if (!address.ok()) return address.status();
    if (const absl::Status joined = endpoint.Join(*address, *interface); !joined.ok())
      return joined;
  }
  return absl::OkStatus();
}

absl::Status Announce(const Words& words, const SocketAddress& address) {
  const std::string uri = absl::StrFormat("coap://%s/", address.ToText());
  const Json json = {{"address", address.ToText()}, {"uri", uri}};
  return WriteOut(words.json() ? OneLine(json) : absl::StrFormat("serves %s\n", uri));
}

}  // namespace

absl::StatusOr<int> CoapServe(const Words& words) {
  // Before there is anything to stop: a signal that comes early is not lost.
  StopOnSignal signals;
  if (words.positional().size() != 1)
    return absl::InvalidArgumentError(
        "write waxvm coap serve [flags] FOLDER, as in --listen='[::1]:5683' ./public");
  const auto listen = SocketAddress::Parse(words.Get("listen", "[::1]:5683"));
  if (!listen.ok())
    return absl::InvalidArgumentError(
        absl::StrFormat("--listen: %s", std::string(listen.status().message())));
  const auto file_bytes = words.Number("max-file", std::size_t{16} << 20, std::size_t{1} << 30);
  if (!file_bytes.ok()) return file_bytes.status();
  const auto poll = TimeOf(words, "poll", kDefaultPoll);
  if (!poll.ok()) return poll.status();
  const auto options = OptionsOf(words, listen->address, *file_bytes);
  if (!options.ok()) return options.status();
  const auto folder = Folder::Open(std::string(words.positional()[0]), {.file_bytes = *file_bytes});
  if (!folder.ok()) return folder.status();
  auto socket = NewUdpSocket({.local = *listen});
  if (!socket.ok()) return socket.status();
  const auto endpoint = coap::Endpoint::Create(*std::move(socket), *options);
  if (!endpoint.ok()) return endpoint.status();
  if (const absl::Status joined = JoinGroup(words, **endpoint); !joined.ok()) return joined;
  FolderServer server(*folder, **endpoint, words.Has("writable"));
  if (const absl::Status begun = server.Begin(); !begun.ok()) return begun;
  if (const absl::Status said = Announce(words, (*endpoint)->local_address()); !said.ok())
    return said;

  auto scanned = Clock::now();
  while (!signals.source().stop_requested()) {
    const auto due = scanned + (server.changed() ? std::min(kLeastPoll, *poll) : *poll);
    const auto until = std::min(due, Clock::now() + kSlice);
    if (const absl::Status status = (*endpoint)->Poll(until); !status.ok()) return status;
    const auto now = Clock::now();
    if (now < due && !(server.changed() && now >= scanned + kLeastPoll)) continue;
    server.Scan();
    scanned = now;
  }
  return kExitOk;
}

}  // namespace waxvm::cli
