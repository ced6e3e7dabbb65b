// SPDX-License-Identifier: Apache-2.0
// Packages of npm, installed into the build folder.
#ifndef WAXVM_TESTS_COAP_NPM_H_
#define WAXVM_TESTS_COAP_NPM_H_

#include <string>
#include <string_view>

namespace waxvm::coap {

/// The path of a program; "" where there is none.
std::string FindProgram(std::string_view program);

/// Installs "name@version" below the folder, unless it is there. Returns why it cannot be used; ""
/// where it can.
std::string InstallPackage(const std::string& folder, const std::string& package);

}  // namespace waxvm::coap

#endif  // WAXVM_TESTS_COAP_NPM_H_
