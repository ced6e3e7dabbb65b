// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/pin.h"

#include <pthread.h>
#include <sched.h>

#include <cstddef>
#include <vector>

namespace waxvm {

void PinTo(bool last) {
  // As the process began: a thread that was pinned has but one.
  static const cpu_set_t all = [] {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  std::vector<std::size_t> cpus;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &all)) cpus.push_back(cpu);
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  CPU_SET(last ? cpus.back() : cpus.front(), &chosen);
  pthread_setaffinity_np(pthread_self(), sizeof chosen, &chosen);
}

}  // namespace waxvm
