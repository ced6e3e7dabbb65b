// SPDX-License-Identifier: Apache-2.0
// Two threads that work on one thing have a CPU each, the same in every repetition.
#ifndef WAXVM_BENCHMARKS_PIN_H_
#define WAXVM_BENCHMARKS_PIN_H_

namespace waxvm {

/// Runs the calling thread on the first CPU that this process may use, or on the last one.
void PinTo(bool last);

}  // namespace waxvm

#endif  // WAXVM_BENCHMARKS_PIN_H_
