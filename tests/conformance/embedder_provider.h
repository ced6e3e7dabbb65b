// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_TESTS_CONFORMANCE_EMBEDDER_PROVIDER_H_
#define WAXVM_TESTS_CONFORMANCE_EMBEDDER_PROVIDER_H_

#include <memory>

#include "waxvm/provider.h"

namespace waxvm::conformance {

/// A provider written outside of the library, from its public headers alone: what the mock
/// provider does, with a watchdog that adds the wall-time limit which the mock cannot enforce.
std::shared_ptr<Provider> NewEmbedderProvider();

}  // namespace waxvm::conformance

#endif  // WAXVM_TESTS_CONFORMANCE_EMBEDDER_PROVIDER_H_
