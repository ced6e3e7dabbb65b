// SPDX-License-Identifier: Apache-2.0
// Random sequences of system calls, in the text that tests/guests/play_calls.c plays.
#ifndef WAXVM_TESTS_DIFFERENTIAL_SEQUENCE_H_
#define WAXVM_TESTS_DIFFERENTIAL_SEQUENCE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace waxvm::differential {

using Sequence = std::vector<std::string>;  ///< a call each

/// A sequence that depends on the seed and the length alone, on any machine.
Sequence RandomSequence(std::uint64_t seed, int length);

/// The text of several: the one at `i` is announced as number `i`.
std::string ToInput(const std::vector<Sequence>& sequences);

/// What the player printed, cut at the announcements; the one at `i` belongs to sequence `i`.
std::vector<std::string> ByOutput(const std::string& output, std::size_t count);

/// The shortest part of `sequence`, in order, that still `differs`, found by leaving out calls.
/// `differs` is asked at most `budget` times.
Sequence Shrink(Sequence sequence, const std::function<bool(const Sequence&)>& differs,
                int budget = 400);

}  // namespace waxvm::differential

#endif  // WAXVM_TESTS_DIFFERENTIAL_SEQUENCE_H_
