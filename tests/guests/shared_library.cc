// SPDX-License-Identifier: Apache-2.0
// A shared library with a constructor, a destructor, thread-local data and a function that throws.
#include "shared_library.h"

#include <cstdio>

namespace {

thread_local int counter = 100;
int loaded = 0;

__attribute__((constructor)) void Load() { loaded = 7; }
__attribute__((destructor)) void Unload() { std::puts("library: unloaded"); }

}  // namespace

extern "C" int library_loaded() { return loaded; }
extern "C" int library_count() { return ++counter; }
extern "C" void library_throw(int value) { throw LibraryError(value); }
extern "C" int library_catch(void (*function)()) {
  try {
    function();
  } catch (const LibraryError& error) {
    return error.value;
  } catch (...) {
    return -1;
  }
  return 0;
}
