// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "commands.h"
#include "flags.h"
#include "signals.h"
#include "waxvm/dns.h"
#include "waxvm/petnames.h"
#include "waxvm/resolver_dns.h"

namespace waxvm::cli {
namespace {

struct DnsFlags {
  DnsServerOptions options;
  std::string zone;       ///< its lines
  std::string directory;  ///< empty: none
  std::string petnames;   ///< empty: none
  bool listens = false;
  bool json = false;
  bool help = false;
};

absl::Status Refuse(const std::string& text) { return absl::InvalidArgumentError(text); }

absl::Status AddFile(DnsFlags& flags, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::ErrnoToStatus(errno, absl::StrFormat("cannot open %s", path));
  flags.zone.append(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) return Refuse(absl::StrFormat("cannot read %s", path));
  flags.zone.push_back('\n');
  return absl::OkStatus();
}

struct Flag {
  std::string_view name;
  absl::Status (*set)(DnsFlags& flags, const std::string& value);
};

constexpr std::array kFlags = {
    Flag{"listen",
         [](DnsFlags& f, const std::string& value) {
           if (!std::exchange(f.listens, true)) f.options.listen.clear();
           return f.options.listen.push_back(value), absl::OkStatus();
         }},
    Flag{"record",
         [](DnsFlags& f, const std::string& value) {
           return f.zone += value + "\n", absl::OkStatus();
         }},
    Flag{"zone", AddFile},
    Flag{"directory",
         [](DnsFlags& f, const std::string& value) {
           if (value.empty()) return Refuse("a file name is missing");
           return f.directory = value, absl::OkStatus();
         }},
    Flag{"petnames",
         [](DnsFlags& f, const std::string& value) {
           if (value.empty()) return Refuse("a file name is missing");
           return f.petnames = value, absl::OkStatus();
         }},
    Flag{"suffix",
         [](DnsFlags& f, const std::string& value) {
           return f.options.suffix = value, absl::OkStatus();
         }},
    Flag{"reverse",
         [](DnsFlags& f, const std::string& value) {
           return f.options.reverse_prefixes.push_back(value), absl::OkStatus();
         }},
};

absl::StatusOr<DnsFlags> ParseDnsFlags(std::span<const std::string_view> arguments) {
  DnsFlags flags;
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    const std::string_view argument = arguments[at];
    if (argument == "--json" || argument == "--help" || argument == "-h") {
      (argument == "--json" ? flags.json : flags.help) = true;
      continue;
    }
    if (!argument.starts_with("--"))
      return Refuse(absl::StrFormat("dns takes flags alone, not '%s'", argument));
    std::string_view name = argument.substr(2);
    std::optional<std::string> value;
    if (const std::size_t equals = name.find('='); equals != name.npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const auto flag =
        std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& f) { return f.name == name; });
    if (flag == kFlags.end()) {
      std::array<std::string_view, kFlags.size()> names;
      std::transform(kFlags.begin(), kFlags.end(), names.begin(),
                     [](const Flag& f) { return f.name; });
      const std::string_view nearest = Nearest(name, names);
      return Refuse(
          absl::StrFormat("unknown flag --%s%s; see waxvm dns --help", name,
                          nearest.empty() ? "" : absl::StrFormat(", did you mean --%s?", nearest)));
    }
    if (!value) {
      if (++at == arguments.size()) return Refuse(absl::StrFormat("--%s needs a value", name));
      value = arguments[at];
    }
    if (absl::Status status = flag->set(flags, *value); !status.ok())
      return Refuse(absl::StrFormat("--%s: %s", name, status.message()));
  }
  return flags;
}

int Fail(const absl::Status& status) {
  absl::FPrintF(stderr, "waxvm: dns: %s\n", status.message());
  return kExitFailed;
}

/// Says where it listens: what waits for that can ask from then on.
bool Announce(const std::vector<std::string>& addresses, const DnsFlags& flags) {
  const std::string text =
      flags.json ? absl::StrFormat("{\"address\": \"%s\", \"addresses\": [\"%s\"]}\n",
                                   addresses.front(), absl::StrJoin(addresses, "\", \""))
                 : absl::StrFormat("answers for %s on %s\n", flags.options.suffix,
                                   absl::StrJoin(addresses, ", "));
  return std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
}

/// What was written down, and what adverts say.
class BothSources final : public DnsSource {
 public:
  BothSources(std::shared_ptr<DnsSource> written, std::shared_ptr<DnsSource> adverts)
      : written_(std::move(written)), adverts_(std::move(adverts)) {}

  DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) override {
    const DnsFound first = written_->Lookup(question, answer);
    if (!answer.entries().empty()) return first;
    const DnsFound second = adverts_->Lookup(question, answer);
    return second == DnsFound::kNo ? first : second;
  }

 private:
  const std::shared_ptr<DnsSource> written_, adverts_;
};

/// Everything that answers, in the order in which it is made.
struct Sources {
  std::optional<Petnames> petnames;
  std::unique_ptr<Directory> directory;
  std::unique_ptr<Resolver> resolver;
  std::shared_ptr<DnsSource> source;
};

absl::StatusOr<Sources> OpenSources(const DnsFlags& flags) {
  Sources sources;
  auto written = StaticDnsSource::FromZone(flags.zone, flags.options.suffix);
  if (!written.ok()) return written.status();
  sources.source = *std::move(written);
  if (flags.directory.empty()) {
    if (flags.petnames.empty()) return sources;
    return Refuse("--petnames names keys, whose adverts are in a --directory");
  }
  auto petnames = flags.petnames.empty() ? absl::StatusOr<Petnames>(Petnames::InMemory())
                                         : Petnames::Open(flags.petnames);
  if (!petnames.ok()) return petnames.status();
  sources.petnames = *std::move(petnames);
  auto directory = OpenDirectory(flags.directory);
  if (!directory.ok()) return directory.status();
  sources.directory = *std::move(directory);
  return sources;
}

/// `sources` stays where it is from now on.
absl::Status AddAdverts(Sources& sources, const std::string& suffix) {
  if (sources.directory == nullptr) return absl::OkStatus();
  sources.resolver = Resolver::Create(sources.directory.get(), &*sources.petnames);
  auto adverts = ResolverDnsSource::Create(sources.resolver.get(), sources.directory.get(),
                                           &*sources.petnames, {.suffix = suffix});
  if (!adverts.ok()) return adverts.status();
  sources.source = std::make_shared<BothSources>(sources.source, *std::move(adverts));
  return absl::OkStatus();
}

}  // namespace

std::string DnsHelp() {
  return "flags of dns, which answers as a DNS server until a signal stops it:\n"
         "  --listen=ADDRESS    on UDP and TCP, as in [::1]:53 (default: [::1]:0, which picks a\n"
         "                      port); may be repeated\n"
         "  --suffix=NAME       the names that are answered for end in it (default: internal)\n"
         "  --record=RECORD     NAME [TTL] TYPE DATA, as in 'sensor AAAA fd00::1'; may be "
         "repeated\n"
         "  --zone=FILE         a file of such lines; may be repeated\n"
         "  --directory=FILE    answer from the adverts in it, for petnames and keys in base32\n"
         "  --petnames=FILE     the petnames, as waxvm name set writes them\n"
         "  --reverse=PREFIX    answer for these IPv6 addresses too (always: fd00::/8)\n"
         "  --json              say where it listens as a line of JSON\n";
}

int DnsCommand(std::span<const std::string_view> arguments) {
  // Before there is anything to stop: a signal that comes early is not lost.
  StopOnSignal signals;
  auto flags = ParseDnsFlags(arguments);
  if (!flags.ok()) return Fail(flags.status());
  if (flags->help) {
    absl::PrintF("%s", DnsHelp());
    return kExitOk;
  }
  auto sources = OpenSources(*flags);
  if (!sources.ok()) return Fail(sources.status());
  if (const absl::Status added = AddAdverts(*sources, flags->options.suffix); !added.ok())
    return Fail(added);
  const auto server = DnsServer::Create(sources->source, flags->options);
  if (!server.ok()) return Fail(server.status());
  if (!Announce((*server)->addresses(), *flags)) return kExitFailed;
  std::promise<void> stopped;
  const std::stop_callback on_stop(signals.source().get_token(), [&] { stopped.set_value(); });
  stopped.get_future().wait();
  return kExitOk;
}

}  // namespace waxvm::cli
