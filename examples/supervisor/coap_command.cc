// SPDX-License-Identifier: Apache-2.0
// waxvm coap: ask, observe, publish to and serve CoAP resources.
#include "absl/strings/str_format.h"
#include "coap_words.h"
#include "commands.h"

namespace waxvm::cli {
namespace {

using coap::Code;

constexpr WordFlag kNon = {.name = "non", .value = "", .help = "ask without confirmation"};
constexpr WordFlag kTimeout = {
    .name = "timeout", .value = "TIME", .help = "as in 2s (default: 93s; 8s for a group)"};
constexpr WordFlag kAccept = {.name = "accept",
                              .value = "FORMAT",
                              .help = "the format that is wanted, a number or a media type"};
constexpr WordFlag kContentFormat = {
    .name = "content-format", .value = "FORMAT", .help = "the format of the body"};
constexpr WordFlag kData = {.name = "data", .value = "TEXT", .help = "the body"};
constexpr WordFlag kFile = {
    .name = "file", .value = "FILE", .help = "the body; - and without either: standard input"};
constexpr WordFlag kBlockSize = {
    .name = "block-size", .value = "N", .help = "16 to 1024 bytes (default: 1024)"};
constexpr WordFlag kETag = {.name = "etag", .value = "HEX", .help = "of what is here already"};
constexpr WordFlag kIfMatch = {
    .name = "if-match", .value = "HEX", .help = "only where it has this ETag; empty: where it is"};
constexpr WordFlag kIfNoneMatch = {
    .name = "if-none-match", .value = "", .help = "only where it is not there"};

constexpr WordFlag kGetFlags[] = {kVerboseFlag,   kNon,         kTimeout,       kAccept,
                                  kETag,          kBlockSize,   kInterfaceFlag, kFolderFlag,
                                  kDirectoryFlag, kPetnamesFlag};
constexpr WordFlag kBodyFlags[] = {kData,          kFile,        kContentFormat, kVerboseFlag,
                                   kNon,           kTimeout,     kAccept,        kIfMatch,
                                   kIfNoneMatch,   kBlockSize,   kInterfaceFlag, kFolderFlag,
                                   kDirectoryFlag, kPetnamesFlag};
constexpr WordFlag kDeleteFlags[] = {kVerboseFlag,   kNon,        kTimeout,       kIfMatch,
                                     kInterfaceFlag, kFolderFlag, kDirectoryFlag, kPetnamesFlag};
constexpr WordFlag kObserveFlags[] = {
    {.name = "count", .value = "N", .help = "end after so many (default: at a signal)"},
    kVerboseFlag,
    kNon,
    {.name = "timeout", .value = "TIME", .help = "until the first answer (default: 93s)"},
    kAccept,
    kBlockSize,
    kInterfaceFlag,
    kFolderFlag,
    kDirectoryFlag,
    kPetnamesFlag};
constexpr WordFlag kPublishFlags[] = {
    kData,
    kFile,
    kContentFormat,
    kVerboseFlag,
    {.name = "put", .value = "", .help = "with PUT; otherwise with POST"},
    {.name = "hops", .value = "N", .help = "routers on the way, and one (default: 1)"},
    kInterfaceFlag,
    kFolderFlag,
    kDirectoryFlag,
    kPetnamesFlag};
constexpr WordFlag kSubscribeFlags[] = {
    {.name = "count", .value = "N", .help = "end after so many (default: at a signal)"},
    kVerboseFlag,
    {.name = "timeout", .value = "TIME", .help = "until the first message (default: none)"},
    kInterfaceFlag,
    kFolderFlag,
    kDirectoryFlag,
    kPetnamesFlag};
constexpr WordFlag kServeFlags[] = {
    {.name = "listen",
     .value = "ADDRESS",
     .help = "default: [::1]:5683; port 0 picks one, [::] is every address"},
    {.name = "writable", .value = "", .help = "files can be put and deleted by anybody"},
    {.name = "max-file", .value = "BYTES", .help = "longer ones are not served (default: 16 MiB)"},
    {.name = "poll", .value = "TIME", .help = "how often files are looked at (default: 500ms)"},
    {.name = "rate", .value = "N", .help = "requests a second of one peer (default: any number)"},
    {.name = "echo",
     .value = "auto|yes|no",
     .help = "let peers prove their address (auto: not on loopback)"},
    {.name = "group",
     .value = "ADDRESS",
     .help = "be found at this multicast group; may be repeated",
     .repeatable = true},
    kBlockSize,
    kInterfaceFlag};

constexpr Verb kVerbs[] = {
    {.name = "get",
     .words = "URI",
     .help = "print what is at URI",
     .flags = kGetFlags,
     .run = [](const Words& words) { return CoapRequest(words, Code::kGet); }},
    {.name = "put",
     .words = "URI",
     .help = "make the body what is at URI",
     .flags = kBodyFlags,
     .run = [](const Words& words) { return CoapRequest(words, Code::kPut); }},
    {.name = "post",
     .words = "URI",
     .help = "hand the body to what is at URI, and print the answer",
     .flags = kBodyFlags,
     .run = [](const Words& words) { return CoapRequest(words, Code::kPost); }},
    {.name = "delete",
     .words = "URI",
     .help = "remove what is at URI",
     .flags = kDeleteFlags,
     .run = [](const Words& words) { return CoapRequest(words, Code::kDelete); }},
    {.name = "fetch",
     .words = "URI",
     .help = "ask what is at URI for what the body says",
     .flags = kBodyFlags,
     .run = [](const Words& words) { return CoapRequest(words, Code::kFetch); }},
    {.name = "observe",
     .words = "URI",
     .help = "print what is at URI, and again whenever it changes",
     .flags = kObserveFlags,
     .run = CoapObserve},
    {.name = "publish",
     .words = "URI",
     .help = "send the body to everybody who listens to the group",
     .flags = kPublishFlags,
     .run = CoapPublish},
    {.name = "subscribe",
     .words = "URI",
     .help = "print what is published to the group, at this path or below",
     .flags = kSubscribeFlags,
     .run = CoapSubscribe},
    {.name = "serve",
     .words = "FOLDER",
     .help = "serve the files of FOLDER until a signal; says where on standard output",
     .flags = kServeFlags,
     .run = CoapServe}};

}  // namespace

std::string CoapHelp() {
  return VerbHelp("coap", kVerbs) +
         "A URI is coap://HOST[:PORT]/path?query. HOST is an address as in [::1] or 127.0.0.1,\n"
         "localhost, a petname, a key in base32, or a name of theirs, with or without .internal.\n"
         "The body of a success goes to standard output and nothing else does; what was refused "
         "is\n"
         "said on standard error.\n\n"
         "exit codes of coap:\n"
         "  0 a 2.xx answer               1 the observation was ended by the other side\n"
         "  4 a 4.xx answer               5 a 5.xx answer\n"
         "  6 rejected, or nobody there   124 no answer in time\n"
         "  125 nothing was asked: a flag, a URI, a name or a file is wrong\n";
}

int CoapCommand(std::span<const std::string_view> arguments) {
  for (const std::string_view argument : arguments) {
    if (argument == "--") break;
    if (argument != "--help" && argument != "-h") continue;
    absl::PrintF("%s", CoapHelp());
    return kExitOk;
  }
  return RunVerb("coap", kVerbs, arguments);
}

}  // namespace waxvm::cli
