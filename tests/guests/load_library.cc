// SPDX-License-Identifier: Apache-2.0
// load_library LIBRARY: dlopen, dlsym, thread-local data of a library, exceptions that cross it in
// both directions, dlclose, and a library that is not there.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "shared_library.h"

namespace {

int failed = 0;

void Step(const char* name, bool ok) {
  std::printf("%s: %s\n", name, ok ? "ok" : "FAILED");
  std::fflush(stdout);
  if (!ok) ++failed;
}

template <typename Function>
Function* Find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

int main(int argc, char** argv) {
  void* library = dlopen(argc > 1 ? argv[1] : "./shared_library.so", RTLD_NOW);
  Step("dlopen", library != nullptr);
  if (library == nullptr) return std::printf("%s\n", dlerror()), 1;
  auto* loaded = Find<decltype(library_loaded)>(library, "library_loaded");
  auto* count = Find<decltype(library_count)>(library, "library_count");
  auto* raise = Find<decltype(library_throw)>(library, "library_throw");
  auto* contain = Find<decltype(library_catch)>(library, "library_catch");
  Step("dlsym", loaded && count && raise && contain);
  Step("constructor", loaded() == 7);
  Step("counts", count() == 101 && count() == 102);
  int other = 0;
  std::thread([&] { other = count(); }).join();
  Step("thread-local", other == 101 && count() == 103);
  int caught = 0;
  try {
    raise(5);
  } catch (const LibraryError& error) {
    caught = error.value;
  }
  Step("thrown there, caught here", caught == 5);
  Step("thrown here, caught there", contain([] { throw LibraryError(9); }) == 9);
  Step("of another type", contain([] { throw 1; }) == -1);
  std::thread([&] {
    Step("on another thread", contain([] { throw LibraryError(3); }) == 3);
  }).join();
  Step("no such symbol", dlsym(library, "library_none") == nullptr && dlerror() != nullptr);
  Dl_info info;
  Step("dladdr", dladdr(reinterpret_cast<void*>(count), &info) != 0 &&
                     std::strcmp(info.dli_sname, "library_count") == 0);
  Step("dlclose", dlclose(library) == 0);
  Step("no such library", dlopen("/none/library.so", RTLD_NOW) == nullptr);
  void* math = dlopen("libm.so.6", RTLD_LAZY);
  auto* cosine = math == nullptr ? nullptr : Find<double(double)>(math, "cos");
  Step("one of the system's", cosine != nullptr && cosine(0.0) == 1.0);
  return failed;
}
