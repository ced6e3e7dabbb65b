// SPDX-License-Identifier: Apache-2.0
#include "flags.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"

namespace waxvm::cli {
namespace {

template <typename... Args>
absl::Status Refuse(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

template <typename T>
absl::Status Assign(std::optional<T>& field, absl::StatusOr<T> value) {
  if (!value.ok()) return value.status();
  field = *value;
  return absl::OkStatus();
}

absl::StatusOr<std::uint64_t> ParseCount(std::string_view text) {
  std::uint64_t count = 0;
  if (text.empty()) return Refuse("a number is missing");
  for (const char c : text) {
    if (c < '0' || c > '9') return Refuse("'%s' is not a whole number", text);
    if (__builtin_mul_overflow(count, 10, &count) || __builtin_add_overflow(count, c - '0', &count))
      return Refuse("%s does not fit into 64 bits", text);
  }
  return count;
}

absl::Status AddGrant(RunFlags& flags, std::string_view text) {
  auto grant = ParseGrant(text);
  if (!grant.ok()) return grant.status();
  flags.grants.push_back(*std::move(grant));
  return absl::OkStatus();
}

absl::Status AddImage(RunFlags& flags, std::string_view text) {
  auto image = ParseImage(text);
  if (!image.ok()) return image.status();
  flags.images.push_back(*std::move(image));
  return absl::OkStatus();
}

absl::Status AddVariable(RunFlags& flags, std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == 0 || equals == text.npos) return Refuse("'%s' is not NAME=VALUE", text);
  flags.environment.emplace_back(text);
  return absl::OkStatus();
}

/// Which commands have a flag, and which command it is.
enum class Of { kBoth, kRun, kCall };

/// "self", or what else the program may do with its key, with commas between.
absl::Status SetIdentity(RunFlags& flags, std::string_view text) {
  flags.identity = true;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    more = comma != text.npos;
    if (more) text.remove_prefix(comma + 1);
    if (word == "sign") {
      flags.grants_signing = true;
    } else if (word == "private-key") {
      flags.grants_private_key = true;
    } else if (word == "revoke") {
      flags.revokes = true;
    } else if (word != "self") {
      return Refuse("'%s' is none of self, sign, private-key and revoke", word);
    }
  }
  return absl::OkStatus();
}

absl::Status AddService(RunFlags& flags, std::string_view text) {
  auto service = ParseService(text);
  if (!service.ok()) return service.status();
  flags.services.push_back(*std::move(service));
  return absl::OkStatus();
}

struct Flag {
  std::string_view name;
  std::string_view value;  ///< how the help calls it
  std::string_view help;
  bool repeatable;
  absl::Status (*set)(RunFlags& flags, std::string_view text);
  Of of = Of::kBoth;
  std::string_view alone = {};  ///< what it means without a value; empty: it needs one
};

const std::array kFlags = {
    Flag{"provider", "mock|process|microvm", "how to isolate (default: microvm; never weaker)",
         false, [](RunFlags& f, std::string_view v) { return f.provider = v, absl::OkStatus(); }},
    Flag{"memory", "SIZE", "memory, as in 64MiB (default: the provider's)", false,
         [](RunFlags& f, std::string_view v) {
           return Assign(f.limits.memory_bytes, ParseBytes(v));
         }},
    Flag{"wall", "TIME", "time since the start, as in 250ms, 1s, 1m", false,
         [](RunFlags& f, std::string_view v) {
           return Assign(f.limits.wall_time, ParseDuration(v));
         }},
    Flag{"cpu", "TIME", "CPU time of the program", false,
         [](RunFlags& f, std::string_view v) {
           return Assign(f.limits.cpu_time, ParseDuration(v));
         }},
    Flag{"output", "SIZE", "bytes on standard output and error together", false,
         [](RunFlags& f, std::string_view v) {
           return Assign(f.limits.output_bytes, ParseBytes(v));
         }},
    Flag{
        "open-files", "N", "descriptors open at once, the standard streams included", false,
        [](RunFlags& f, std::string_view v) { return Assign(f.limits.open_files, ParseCount(v)); }},
    Flag{"processes", "N", "threads and processes alive at once, the first included", false,
         [](RunFlags& f, std::string_view v) { return Assign(f.limits.processes, ParseCount(v)); }},
    Flag{
        "host-calls", "N", "calls of granted host functions", false,
        [](RunFlags& f, std::string_view v) { return Assign(f.limits.host_calls, ParseCount(v)); }},
    Flag{"fuel", "N", "instructions of the program, where this host can count them", false,
         [](RunFlags& f, std::string_view v) { return Assign(f.limits.fuel, ParseCount(v)); }},
    Flag{"grant", "GRANT", "clock, random or files:HOST:GUEST:ro|rw; may be repeated", true,
         AddGrant},
    Flag{"image", "IMAGE",
         "root file system: tar:PATH, oci:FOLDER[:REFERENCE] or erofs:PATH;\n"
         "                                    repeated: one on top of the other",
         true, AddImage},
    Flag{"env", "NAME=VALUE", "one variable of the environment; may be repeated", true,
         AddVariable},
    Flag{"identity", "WHAT",
         "a key and an address of its own; WHAT is self (the default), sign,\n"
         "                                    private-key or revoke, several with commas between",
         false, SetIdentity, Of::kRun, "self"},
    Flag{"host-key", "KEY",
         "signs the instance's advert: a file, agent:PUBLIC-KEY, or a name in\n"
         "                                    ~/.waxvm/keys",
         false,
         [](RunFlags& f, std::string_view v) {
           if (v.empty()) return Refuse("a key is missing");
           return f.host_key = v, absl::OkStatus();
         },
         Of::kRun},
    Flag{"directory", "FILE", "puts the advert there", false,
         [](RunFlags& f, std::string_view v) {
           if (v.empty()) return Refuse("a file name is missing");
           return f.directory = v, absl::OkStatus();
         },
         Of::kRun},
    Flag{"service", "NAME,udp,PORT", "told in the advert; may be repeated", true, AddService,
         Of::kRun},
    Flag{"report", "FILE", "write the report as JSON", false,
         [](RunFlags& f, std::string_view v) {
           if (v.empty()) return Refuse("a file name is missing");
           return f.report_path = v, absl::OkStatus();
         },
         Of::kRun},
    Flag{"repeat", "N", "make N calls or runs; the times go to standard error", false,
         [](RunFlags& f, std::string_view v) {
           const auto count = ParseCount(v);
           if (!count.ok()) return count.status();
           if (*count == 0) return Refuse("there must be at least one");
           return f.repeat = *count, absl::OkStatus();
         }},
    Flag{"pool", "N", "make them from N threads in a pool, each in a fresh state", false,
         [](RunFlags& f, std::string_view v) {
           const auto count = ParseCount(v);
           if (!count.ok()) return count.status();
           // Each is a virtual machine and a thread.
           if (*count == 0 || *count > 1000) return Refuse("there are 1 to 1000 instances");
           return f.pool = *count, absl::OkStatus();
         }},
    Flag{"snapshot", "FILE",
         "begin with the ready program in FILE; where it is\n"
         "                                    not there, or of something else, make it",
         false,
         [](RunFlags& f, std::string_view v) {
           if (v.empty()) return Refuse("a file name is missing");
           return f.snapshot_path = v, absl::OkStatus();
         },
         Of::kCall},
};

bool Has(Of command, const Flag& flag) { return flag.of == Of::kBoth || flag.of == command; }

absl::Status UnknownFlag(Of command, std::string_view name) {
  std::vector<std::string_view> names;
  for (const Flag& flag : kFlags)
    if (Has(command, flag)) names.push_back(flag.name);
  const std::string_view nearest = Nearest(name, names);
  if (nearest.empty()) return Refuse("unknown flag --%s; see waxvm help", name);
  return Refuse("unknown flag --%s; did you mean --%s? See waxvm help", name, nearest);
}

/// Applies the flag at arguments[at], with its value there or in the next one; returns the index
/// after it.
absl::StatusOr<std::size_t> ApplyFlag(Of command, std::span<const std::string_view> arguments,
                                      std::size_t at, RunFlags& flags,
                                      std::array<bool, kFlags.size()>& seen) {
  std::string_view name = arguments[at].substr(2);
  std::optional<std::string_view> value;
  if (const std::size_t equals = name.find('='); equals != name.npos) {
    value = name.substr(equals + 1);
    name = name.substr(0, equals);
  }
  const auto flag = std::find_if(kFlags.begin(), kFlags.end(),
                                 [&](const Flag& f) { return f.name == name && Has(command, f); });
  if (flag == kFlags.end()) return UnknownFlag(command, name);
  bool& seen_before = seen[static_cast<std::size_t>(flag - kFlags.begin())];
  if (seen_before && !flag->repeatable) return Refuse("--%s is given twice", name);
  seen_before = true;
  if (!value && !flag->alone.empty()) value = flag->alone;
  if (!value) {
    if (++at == arguments.size())
      return Refuse("--%s needs a value: --%s=%s", name, name, flag->value);
    value = arguments[at];
  }
  const absl::Status status = flag->set(flags, *value);
  if (!status.ok()) return Refuse("--%s: %s", name, status.message());
  return at + 1;
}

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

std::size_t NumberLength(std::string_view text, std::string_view alphabet) {
  return std::min(text.find_first_not_of(alphabet), text.size());
}

}  // namespace

absl::StatusOr<std::uint64_t> ParseBytes(std::string_view text) {
  static constexpr Unit kUnits[] = {{"", 1},
                                    {"B", 1},
                                    {"KiB", std::uint64_t{1} << 10},
                                    {"MiB", std::uint64_t{1} << 20},
                                    {"GiB", std::uint64_t{1} << 30},
                                    {"TiB", std::uint64_t{1} << 40}};
  const std::size_t digits = NumberLength(text, "0123456789");
  const auto number = ParseCount(text.substr(0, digits));
  const auto unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                                 [&](const Unit& u) { return u.name == text.substr(digits); });
  if (digits == 0 || unit == std::end(kUnits))
    return Refuse(
        "'%s' is not a size; write a whole number of bytes, KiB, MiB, GiB or TiB, as in 64MiB",
        text);
  std::uint64_t bytes = 0;
  if (!number.ok() || __builtin_mul_overflow(*number, unit->factor, &bytes))
    return Refuse("%s does not fit into 64 bits", text);
  return bytes;
}

absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text) {
  static constexpr Unit kUnits[] = {{"ns", 1},
                                    {"us", 1'000},
                                    {"ms", 1'000'000},
                                    {"s", 1'000'000'000},
                                    {"m", 60'000'000'000},
                                    {"h", 3'600'000'000'000}};
  const std::size_t length = NumberLength(text, "0123456789.");
  const std::string_view number = text.substr(0, length);
  const std::string_view whole = number.substr(0, number.find('.'));
  const std::string_view fraction =
      whole.size() < number.size() ? number.substr(whole.size() + 1) : "";
  const auto unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                                 [&](const Unit& u) { return u.name == text.substr(length); });
  if (whole.empty() || fraction.find('.') != fraction.npos || fraction.size() > 9 ||
      (whole.size() < number.size() && fraction.empty()) || unit == std::end(kUnits))
    return Refuse("'%s' is not a time; write a number with ns, us, ms, s, m or h, as in 250ms",
                  text);
  const auto count = ParseCount(whole);
  std::uint64_t total = 0;
  if (!count.ok() || __builtin_mul_overflow(*count, unit->factor, &total))
    return Refuse("%s is too long a time", text);
  // Digit by digit, so that 0.1s is exactly 100 ms; what is below a nanosecond is dropped.
  std::uint64_t place = unit->factor;
  std::uint64_t part = 0;
  for (const char c : fraction) {
    part += static_cast<std::uint64_t>(c - '0') * place / 10;
    place /= 10;
  }
  if (__builtin_add_overflow(total, part, &total) ||
      total > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return Refuse("%s is too long a time", text);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

absl::StatusOr<Grant> ParseGrant(std::string_view text) {
  if (text == "clock") return Clock();
  if (text == "random") return Random();
  static constexpr std::string_view kFiles = "files:";
  if (!text.starts_with(kFiles))
    return Refuse("'%s' is not a grant; it is clock, random or files:HOST:GUEST:ro|rw", text);
  std::string_view rest = text.substr(kFiles.size());
  const std::size_t before_rights = rest.rfind(':');
  const std::string_view rights = before_rights == rest.npos ? "" : rest.substr(before_rights + 1);
  if (rights != "ro" && rights != "rw")
    return Refuse("'%s' does not end in :ro or :rw; write files:HOST:GUEST:ro", text);
  rest = rest.substr(0, before_rights);
  const std::size_t before_guest = rest.rfind(':');
  if (before_guest == rest.npos || before_guest == 0)
    return Refuse("'%s' lacks a path; write files:HOST:GUEST:%s", text, rights);
  const std::string_view guest = rest.substr(before_guest + 1);
  if (!guest.starts_with('/'))
    return Refuse("the guest path '%s' is not absolute; it must start with /", guest);
  return Files(std::string(rest.substr(0, before_guest)), std::string(guest),
               rights == "rw" ? Rights::kReadWrite : Rights::kReadOnly);
}

absl::StatusOr<AdvertisedService> ParseService(std::string_view text) {
  const std::size_t first = text.find(',');
  const std::size_t second = first == text.npos ? text.npos : text.find(',', first + 1);
  if (second == text.npos) return Refuse("'%s' is no service; write NAME,udp,PORT", text);
  const std::string_view protocol = text.substr(first + 1, second - first - 1);
  const auto number = protocol == "udp"   ? absl::StatusOr<std::uint64_t>(17)
                      : protocol == "tcp" ? absl::StatusOr<std::uint64_t>(6)
                                          : ParseCount(protocol);
  const auto port = ParseCount(text.substr(second + 1));
  if (!number.ok() || *number > 255 || !port.ok() || *port > 65535)
    return Refuse("'%s' is no service; write NAME,udp,PORT", text);
  return AdvertisedService{.name = std::string(text.substr(0, first)),
                           .protocol = static_cast<std::uint8_t>(*number),
                           .port = static_cast<std::uint16_t>(*port)};
}

absl::StatusOr<ImageFlag> ParseImage(std::string_view text) {
  static constexpr std::pair<std::string_view, ImageFlag::Kind> kKinds[] = {
      {"tar", ImageFlag::Kind::kTar},
      {"oci", ImageFlag::Kind::kOci},
      {"erofs", ImageFlag::Kind::kErofs}};
  const std::size_t colon = text.find(':');
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const auto& k) { return k.first == text.substr(0, colon); });
  if (colon == text.npos || kind == std::end(kKinds))
    return Refuse("'%s' is not an image; it is tar:PATH, oci:FOLDER[:REFERENCE] or erofs:PATH",
                  text);
  ImageFlag image{
      .kind = kind->second, .path = std::string(text.substr(colon + 1)), .reference = {}};
  if (image.kind == ImageFlag::Kind::kOci) {
    const std::size_t end = std::min(image.path.find(':'), image.path.size());
    if (end < image.path.size()) {
      image.reference = image.path.substr(end + 1);
      if (image.reference.empty()) return Refuse("'%s' ends where a reference should follow", text);
    }
    image.path.resize(end);
  }
  if (image.path.empty()) return Refuse("'%s' lacks a path", text);
  return image;
}

std::string_view Nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view nearest;
  std::size_t best = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    std::vector<std::size_t> row(candidate.size() + 1);  // distances from the word's prefix so far
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t changed = diagonal + (word[i] != candidate[j]);
        diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, changed}));
      }
    }
    if (row.back() < best) {
      best = row.back();
      nearest = candidate;
    }
  }
  return nearest;
}

namespace {

/// Parses the flags; the program and what follows it are left in `rest`.
absl::StatusOr<RunFlags> ParseFlags(Of command, std::span<const std::string_view>& rest) {
  RunFlags flags;
  std::array<bool, kFlags.size()> seen{};
  const std::span<const std::string_view> arguments = rest;
  std::size_t at = 0;
  while (at < arguments.size() && arguments[at].starts_with('-') && arguments[at] != "--") {
    if (arguments[at] == "--help" || arguments[at] == "-h") {
      flags.help = true;
      return flags;
    }
    if (!arguments[at].starts_with("--"))
      return Refuse("unknown flag %s; flags start with two dashes, see waxvm help", arguments[at]);
    const auto next = ApplyFlag(command, arguments, at, flags, seen);
    if (!next.ok()) return next.status();
    at = *next;
  }
  if (at < arguments.size() && arguments[at] == "--") ++at;
  rest = arguments.subspan(at);
  return flags;
}

std::string Help(bool (*shown)(const Flag&)) {
  std::string help;
  for (const Flag& flag : kFlags)
    if (shown(flag))
      absl::StrAppendFormat(&help, "  --%-31s %s\n",
                            absl::StrFormat("%s=%s", flag.name, flag.value), flag.help);
  return help;
}

}  // namespace

absl::StatusOr<RunFlags> ParseRunFlags(std::span<const std::string_view> arguments) {
  auto flags = ParseFlags(Of::kRun, arguments);
  if (!flags.ok() || flags->help) return flags;
  if (!flags->identity &&
      !(flags->host_key.empty() && flags->directory.empty() && flags->services.empty()))
    return Refuse("--host-key, --directory and --service are of an --identity");
  if (flags->host_key.empty() && !(flags->directory.empty() && flags->services.empty()))
    return Refuse("an advert needs the host's signature: --host-key=KEY");
  if (arguments.empty() && !flags->images.empty()) return flags;
  if (arguments.empty() || arguments[0].empty())
    return Refuse("no program is given; write waxvm run [flags] -- PROGRAM [arguments]");
  flags->program = arguments[0];
  flags->arguments.assign(arguments.begin() + 1, arguments.end());
  return flags;
}

absl::StatusOr<RunFlags> ParseCallFlags(std::span<const std::string_view> arguments) {
  static constexpr std::string_view kUsage = "waxvm call [flags] -- PROGRAM FUNCTION [ARGUMENT]";
  auto flags = ParseFlags(Of::kCall, arguments);
  if (!flags.ok() || flags->help) return flags;
  if (arguments.empty() || arguments[0].empty())
    return Refuse("no program is given; write %s", kUsage);
  if (arguments.size() == 1 || arguments[1].empty())
    return Refuse("no function is given; write %s", kUsage);
  if (arguments[1].size() > 255)
    return Refuse("the function's name has %d bytes, at most 255", arguments[1].size());
  if (arguments.size() > 3)
    return Refuse(
        "a call has one argument, %d are given; put quotes around it, or write - and "
        "give it on standard input",
        arguments.size() - 2);
  flags->program = arguments[0];
  flags->arguments.assign(arguments.begin() + 1, arguments.end());
  return flags;
}

std::string RunFlagsHelp() {
  return Help([](const Flag& flag) { return flag.of != Of::kCall; });
}

std::string CallFlagsHelp() {
  return Help([](const Flag& flag) { return flag.name == "repeat" || flag.name == "pool"; });
}

}  // namespace waxvm::cli
