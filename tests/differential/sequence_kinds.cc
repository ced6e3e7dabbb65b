// SPDX-License-Identifier: Apache-2.0
#include "sequence_kinds.h"

#include <string>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace waxvm::differential {
namespace {

// How a kind comes to be: D is its descriptor, O another that goes with it.
constexpr const char* kKinds[] = {
    "",
    "open D a 0 0",
    "open D a 1 0",
    "open D a 2 0",
    "open D a 02002 0",
    "open D a 010000000 0",
    "open D . 0200000 0",
    "pipe D O 0",
    "pipe O D 0",
    "pipe D O 0;write O 100 3",
    "pipe O D 0;close O",
    "pipe D O 0;close O",
    "socketpair D O 1",
    "socketpair D O 1;write O 100 3",
    "socketpair D O 1;close O",
    "socketpair D O 2",
    "socketpair D O 2;write O 100 3;write O 0 1",
    "socketpair D O 2;close O",
    "socketpair D O 5",
    "socketpair D O 5;write O 100 3;write O 7 3",
    "socketpair D O 5;close O",
    "eventfd D 5 0",
    "eventfd D 0 1",
    "epoll D",
    "memfd D 0",
    "memfd D 1;write D 1000 2",
};

constexpr const char* kCalls[] = {
    "fstat d0",
    "getfl d0",
    "getfd d0",
    "setfl d0 0",
    "setfl d0 02000;getfl d0",
    "read d0 0",
    "read d0 1",
    "read d0 7",
    "read d0 8",
    "read d0 100",
    "pread d0 0 0",
    "pread d0 8 0",
    "pread d0 8 -1",
    "pread d0 100 4096",
    "write d0 0 1",
    "write d0 7 1",
    "write d0 8 1",
    "write d0 100 1",
    "pwrite d0 0 0 1",
    "pwrite d0 8 0 1",
    "pwrite d0 8 -1 1",
    "readv d0 0 0",
    "readv d0 7 8",
    "readv d0 100 100",
    "readv d0 16 0",
    "writev d0 0 0 1",
    "writev d0 7 8 1",
    "writev d0 16 0 1",
    "writev d0 16 16 1",
    "writev d0 100 100 1",
    "lseek d0 0 0",
    "lseek d0 0 1",
    "lseek d0 0 2",
    "lseek d0 -1 0",
    "lseek d0 100 0;lseek d0 0 1",
    "lseek d0 1 3",
    "lseek d0 1 4",
    "lseek d0 1 5",
    "ftruncate d0 -1",
    "ftruncate d0 100",
    "fallocate d0 0 0 100",
    "fallocate d0 0 0 0",
    "fallocate d0 0 -1 100",
    "fallocate d0 1 0 10000;fstat d0",
    "fallocate d0 2 0 100",
    "fallocate d0 3 0 100",
    "fallocate d0 64 0 100",
    "fallocate d0 0x4000 0 100",
    "fchmod d0 0600;fstat d0",
    "fchmod d0 0755;fstat d0",
    "fchdir d0",
    "fsync d0",
    "flock d0 1",
    "flock d0 8",
    "flock d0 5",
    "lock d0 0 0 10",
    "lock d0 1 0 10",
    "lock d0 2 0 10",
    "lock d0 0 -1 10",
    "lock d0 9 0 10",
    "pending d0",
    "getdents d0",
    "send d0 0 1 0",
    "send d0 100 1 0",
    "send d0 100 1 0x80",
    "recv d0 0 0",
    "recv d0 0 2;recv d0 200 0",
    "recv d0 100 0;recv d0 100 0",
    "recv d0 8 2",
    "recv d0 8 0x20",
    "shutdown d0 0;poll d0 d0 5;read d0 10;write d0 10 1",
    "shutdown d0 1;poll d0 d0 5;read d0 10;write d0 10 1",
    "shutdown d0 2;poll d0 d0 0x2005;read d0 10;write d0 10 1",
    "shutdown d0 3",
    "add d0 -1",
    "add d0 -2;read d0 8",
    "add d0 0;read d0 8;read d0 8",
    "poll d0 d0 0",
    "poll d0 d0 1",
    "poll d0 d0 4",
    "poll d0 d0 0x2000",
    "poll d0 d0 0x3fff",
    "epoll d4;epoll_ctl d4 1 d0 0x2005;epoll_wait d4;read d0 8;epoll_wait d4",
    "epoll d4;epoll_ctl d4 1 d0 0x80000005;epoll_wait d4;epoll_wait d4",
    "epoll d4;epoll_ctl d4 2 d0 5",
    "epoll d4;epoll_ctl d4 3 d0 5",
    "epoll d4;epoll_ctl d0 1 d4 5",
    "epoll_ctl d0 1 d0 5",
    "epoll_ctl d0 9 d0 5",
    "epoll_wait d0",
    "mmap m0 d0 0 1 1 0",
    "mmap m0 d0 0 1 1 1",
    "mmap m0 d0 4096 1 1 0;look m0 0 100",
    "mmap m0 d0 4096 1 2 0;look m0 0 100",
    "mmap m0 d0 4096 3 1 0;put m0 0 10 3;msync m0 0 4096 4",
    "mmap m0 d0 4096 3 2 0;put m0 0 10 3",
    "mmap m0 d0 4096 1 1 100",
    "mmap m0 d0 4096 1 0 0",
    "mmap m0 d0 8192 1 1 4096;look m0 0 100;look m0 4096 100",
    "mmap m0 d0 8192 3 1 0;madvise m0 0 8192 9;look m0 0 100;fstat d0;read d0 10",
    "mmap m0 d0 8192 3 2 0;madvise m0 0 8192 9",
    "mmap m0 d0 8192 1 1 0;madvise m0 0 8192 9",
    "dup d0 d5;fstat d5",
    "dup3 d0 d5 02000000",
    "dup3 d0 d0 0",
    "openat d5 d0 b 0102 0644",
    "fstatat d0 a 0",
    "fstatat d0 - 4096",
    "fstatat d0 - 0",
    "mkdirat d0 x 0755",
    "unlinkat d0 a 0",
    "linkat d0 - -100 b 4096",
    "close d0;close d0",
};

constexpr const char* kPairCalls[] = {
    "sendfile D d2 -1 100",
    "sendfile D d2 -1 0",
    "sendfile D d2 0 100",
    "sendfile D d2 4096 100",
    "copy_file_range D d2 -1 -1 100",
    "copy_file_range D d2 -1 -1 0",
    "copy_file_range D d2 0 0 100",
    "copy_file_range D d2 100 4096 1000",
};

void Append(Sequence& sequence, const char* calls, const char* of, const char* other) {
  const std::string named = absl::StrReplaceAll(calls, {{"D", of}, {"O", other}});
  for (const auto& call : absl::StrSplit(named, ';', absl::SkipEmpty()))
    sequence.emplace_back(call.data(), call.size());
}

Sequence Beginning() { return {"open d0 a 0102 0644", "write d0 5000 1", "close d0"}; }

}  // namespace

std::vector<Sequence> CallsOnEveryKind() {
  std::vector<Sequence> all;
  for (const char* kind : kKinds) {
    for (const char* call : kCalls) {
      Sequence& sequence = all.emplace_back(Beginning());
      Append(sequence, kind, "d0", "d1");
      Append(sequence, call, "d0", "d1");
    }
  }
  return all;
}

std::vector<Sequence> CallsOnEveryPair() {
  std::vector<Sequence> all;
  for (const char* one : kKinds) {
    for (const char* two : kKinds) {
      Sequence& sequence = all.emplace_back(Beginning());
      Append(sequence, one, "d0", "d1");
      Append(sequence, two, "d2", "d3");
      for (const char* call : kPairCalls) Append(sequence, call, "d0", "d1");
      // What arrived, and where both are now.
      for (const char* call : {"read d1 2000", "read d3 2000", "lseek d0 0 1", "lseek d2 0 1"})
        sequence.emplace_back(call);
    }
  }
  return all;
}

}  // namespace waxvm::differential
