/* SPDX-License-Identifier: Apache-2.0 */
/* Where the page of stubs lies in every guest; for stubs.S as well. */
#ifndef WAXVM_SRC_VMM_STUBS_H_
#define WAXVM_SRC_VMM_STUBS_H_

#define WAXVM_STUB_ADDRESS 0x2000

#endif /* WAXVM_SRC_VMM_STUBS_H_ */
