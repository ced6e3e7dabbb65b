// SPDX-License-Identifier: Apache-2.0
#include "sequence.h"

#include <algorithm>
#include <initializer_list>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace waxvm::differential {
namespace {

/// splitmix64: the standard library's distributions differ between implementations.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t Next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int Below(int bound) { return static_cast<int>(Next() % static_cast<std::uint64_t>(bound)); }
  template <typename T>
  T Of(std::initializer_list<T> choices) {
    return choices.begin()[Below(static_cast<int>(choices.size()))];
  }

 private:
  std::uint64_t state_;
};

/// Makes one argument of a call. Few names and descriptors, so that calls meet each other.
class Arguments {
 public:
  explicit Arguments(Random& random) : random_(random) {}

  std::string Make(char kind) {
    switch (kind) {
      case 'd':
        return absl::StrCat("d", random_.Below(6));
      case 'm':
        return absl::StrCat("m", random_.Below(3));
      case 'p':
        return Path();
      case 'o':  // flags of open
        return absl::StrFormat("0%o", random_.Of({0, 1, 2}) |
                                          random_.Of({0, 0, 0100, 0100, 0100, 0200000}) |
                                          random_.Of({0, 0, 0, 01000, 02000, 0400000}));
      case 'r':  // rights
        return random_.Of({"0644", "0600", "0777", "0755", "0640", "0700", "0555"});
      case 'n':  // how many bytes
        // Small enough that no pipe fills up: how much of an odd write fits into the rest of one is
        // how its kernel keeps pages, which waxvm does not copy.
        return absl::StrCat(random_.Of({0, 1, 7, 8, 100, 512, 1000, 2000}));
      case 'a':  // where in a file
        return absl::StrCat(random_.Of({0, 0, 1, 5, 100, 4095, 4096, 5000, 65536, 100000}));
      case 'A':  // where in a file, or nowhere
        return absl::StrCat(random_.Of({-1, 0, 1, 100, 4096, 5000, 65536}));
      case 's':  // a seed of bytes
        return absl::StrCat(random_.Below(200));
      case 'g':  // a page's offset
        return absl::StrCat(4096 * random_.Below(5));
      case 'G':  // a length in memory
        return absl::StrCat(random_.Of({0, 1, 4096, 4096, 8192, 12288, 16384, 5000}));
      case 'x':  // an offset in memory
        return absl::StrCat(random_.Of({0, 0, 8, 100, 4096, 4090, 8192, 9000, 12288}));
      case 'R':  // rights of memory
        return absl::StrCat(random_.Of({0, 1, 3, 3, 3}));
      case 'b':
        return absl::StrCat(random_.Below(2));
      default:
        return "0";
    }
  }

  std::string Path() {
    const std::string first = random_.Of({"a", "b", "c", "e", "l", "k"});
    switch (random_.Below(10)) {
      case 0:
        return absl::StrCat(first, "/", random_.Of({"a", "b", "l", "c", ".."}));
      case 1:
        return absl::StrCat(first, "/../", random_.Of({"a", "b", "c"}));
      case 2:
        return random_.Of({".", "a/", "b//a", "./c", "e/a/", "l/", "-"});
      default:
        return first;
    }
  }

 private:
  Random& random_;
};

/// A call and the kinds of its arguments; what stands between apostrophes is chosen from.
struct Template {
  const char* call;
  const char* arguments;
  int weight;
};

constexpr Template kTemplates[] = {
    {"open", "dpor", 14},
    {"openat", "ddpor", 4},
    {"close", "d", 3},
    {"stat", "p", 4},
    {"lstat", "p", 3},
    {"fstat", "d", 4},
    {"fstatat", "dp'0 256 4096'", 3},
    {"mkdir", "pr", 6},
    {"mkdirat", "dpr", 2},
    {"rmdir", "p", 3},
    {"unlink", "p", 4},
    {"unlinkat", "dp'0 512'", 2},
    {"rename", "pp", 5},
    {"renameat2", "dpdp'0 1 2 3'", 2},
    {"link", "pp", 4},
    {"linkat", "dpdp'0 1024'", 1},
    {"symlink", "pp", 5},
    {"readlink", "p'1 100'", 3},
    {"chmod", "pr", 2},
    {"fchmod", "dr", 1},
    {"access", "p'0 1 2 4 6'", 2},
    {"umask", "'0 022 077 027'", 1},
    {"utimens", "p'0 1000 77777''0 256'", 2},
    {"truncate", "pa", 2},
    {"chdir", "p", 1},
    {"fchdir", "d", 1},
    {"getdents", "d", 3},
    {"read", "dn", 8},
    {"pread", "dna", 3},
    {"write", "dns", 12},
    {"pwrite", "dnas", 4},
    {"readv", "dnn", 2},
    {"writev", "dnns", 2},
    {"lseek", "dA'0 1 2'", 5},
    {"ftruncate", "dA", 3},
    {"fallocate", "d'0 1 3'an", 2},
    {"sendfile", "ddAn", 3},
    {"copy_file_range", "ddAAn", 3},
    {"fsync", "d", 1},
    {"flock", "d'1 2 8'", 2},
    {"lock", "d'0 1 2'an", 2},
    {"dup", "dd", 2},
    {"dup3", "dd'0 02000000'", 2},
    {"getfd", "d", 1},
    {"setfd", "d'0 1'", 1},
    {"getfl", "d", 2},
    {"setfl", "d'0 02000'", 1},
    {"pending", "d", 2},
    {"pipe", "dd'0 02000000'", 4},
    {"socketpair", "dd'1 2 5'", 4},
    {"send", "dns'0'", 3},
    {"recv", "dn'0 2'", 3},
    {"shutdown", "d'0 1 2'", 1},
    {"eventfd", "d'0 1 5''0 1'", 2},
    {"add", "d'0 1 3 -1 -2'", 2},
    {"memfd", "d'0 1'", 2},
    {"poll", "dd'1 4 5 2'", 4},
    {"epoll", "d", 2},
    {"epoll_ctl", "d'1 1 2 3'd'1 4 5 0x80000001'", 5},
    {"epoll_wait", "d", 4},
    {"mmap", "mdGR'0x22 0x22 0x21 1 2 2'g", 6},
    {"munmap", "mgG", 2},
    {"mprotect", "mgGR", 3},
    {"madvise", "mgG'0 3 4 4'", 2},
    {"msync", "mgG'1 4'", 1},
    {"mremap", "mG", 1},
    {"look", "mxn", 6},
    {"put", "mxns", 5},
    {"futex", "m'0 0 1 129 4 9'x'0 1'x'0 1'", 2},
};

std::string MakeCall(const Template& call, Random& random, Arguments& arguments) {
  std::string text = call.call;
  for (const char* at = call.arguments; *at != '\0'; ++at) {
    if (*at != '\'') {
      absl::StrAppend(&text, " ", arguments.Make(*at));
      continue;
    }
    std::vector<std::string> choices(1);
    for (++at; *at != '\''; ++at) {
      if (*at == ' ')
        choices.emplace_back();
      else
        choices.back() += *at;
    }
    absl::StrAppend(
        &text, " ",
        choices[static_cast<std::size_t>(random.Below(static_cast<int>(choices.size())))]);
  }
  return text;
}

const Template& Choose(Random& random) {
  int total = 0;
  for (const Template& call : kTemplates) total += call.weight;
  int at = random.Below(total);
  for (const Template& call : kTemplates)
    if ((at -= call.weight) < 0) return call;
  return kTemplates[0];
}

}  // namespace

Sequence RandomSequence(std::uint64_t seed, int length) {
  Random random(seed);
  Arguments arguments(random);
  // Most sequences keep to a few kinds of calls, which then meet more often.
  std::vector<const Template*> favourites;
  for (int i = 0; i < 8; ++i) favourites.push_back(&Choose(random));
  Sequence sequence = {"open d0 a 0102 0644", "write d0 10000 1", "mkdir c 0755"};
  for (int i = 0; i < length; ++i) {
    const Template& call = random.Below(3) == 0
                               ? Choose(random)
                               : *favourites[static_cast<std::size_t>(random.Below(8))];
    sequence.push_back(MakeCall(call, random, arguments));
  }
  return sequence;
}

std::string ToInput(const std::vector<Sequence>& sequences) {
  std::string text;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    absl::StrAppend(&text, "sequence ", i, "\n");
    for (const std::string& call : sequences[i]) absl::StrAppend(&text, call, "\n");
  }
  return text;
}

std::vector<std::string> ByOutput(const std::string& output, std::size_t count) {
  std::vector<std::string> parts(count);
  std::size_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t begin = output.find(absl::StrCat("sequence ", i, "\n"), at);
    if (begin == output.npos) break;
    at = std::min(output.find(absl::StrCat("\nsequence ", i + 1, "\n"), begin), output.size());
    const std::size_t first_line = output.find('\n', begin) + 1;
    parts[i] = at < first_line ? "" : output.substr(first_line, at - first_line) + "\n";
  }
  return parts;
}

Sequence Shrink(Sequence sequence, const std::function<bool(const Sequence&)>& differs,
                int budget) {
  for (std::size_t chunk = std::max<std::size_t>(sequence.size() / 2, 1); budget > 0;) {
    bool shorter = false;
    for (std::size_t at = sequence.size(); at > 0 && budget > 0;) {
      const std::size_t begin = at > chunk ? at - chunk : 0;
      Sequence fewer = sequence;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(begin),
                  fewer.begin() + static_cast<std::ptrdiff_t>(at));
      --budget;
      if (differs(fewer)) {
        sequence = std::move(fewer);
        shorter = true;
      }
      at = begin;
    }
    if (chunk == 1 && !shorter) break;
    if (!shorter) chunk = std::max<std::size_t>(chunk / 2, 1);
  }
  return sequence;
}

}  // namespace waxvm::differential
