// SPDX-License-Identifier: Apache-2.0
// Every call on every kind of open file, in one short sequence each.
#ifndef WAXVM_TESTS_DIFFERENTIAL_SEQUENCE_KINDS_H_
#define WAXVM_TESTS_DIFFERENTIAL_SEQUENCE_KINDS_H_

#include <vector>

#include "sequence.h"

namespace waxvm::differential {

/// Those with one descriptor, on each kind of file.
std::vector<Sequence> CallsOnEveryKind();
/// Those that move bytes between two, on each pair of kinds.
std::vector<Sequence> CallsOnEveryPair();

}  // namespace waxvm::differential

#endif  // WAXVM_TESTS_DIFFERENTIAL_SEQUENCE_KINDS_H_
