// SPDX-License-Identifier: Apache-2.0
// Throws through frames with destructors, writes through iostreams, and keeps thread-local state.
#include <iostream>
#include <stdexcept>
#include <string>

namespace {

thread_local int unwound = 0;
thread_local std::string last = "none";

struct Counter {
  ~Counter() { ++unwound; }
};

int Descend(int depth) {
  Counter counter;
  if (depth == 0) throw std::out_of_range("bottom");
  return Descend(depth - 1) + depth;
}

}  // namespace

int main() {
  for (int depth : {0, 10, 100}) {
    try {
      Descend(depth);
    } catch (const std::exception& e) {
      last = e.what();
    }
  }
  std::cout << "caught " << last << ", unwound " << unwound << std::endl;
  return unwound == 113 && last == "bottom" ? 0 : 1;
}
