// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_TESTS_GUESTS_SHARED_LIBRARY_H_
#define WAXVM_TESTS_GUESTS_SHARED_LIBRARY_H_

struct LibraryError {
  explicit LibraryError(int number) : value(number) {}
  virtual ~LibraryError() = default;
  int value;
};

extern "C" {
int library_loaded();
int library_count();  ///< of the calling thread
void library_throw(int value);
int library_catch(void (*function)());
}

#endif  // WAXVM_TESTS_GUESTS_SHARED_LIBRARY_H_
