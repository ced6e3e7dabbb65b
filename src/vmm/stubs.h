/* SPDX-License-Identifier: Apache-2.0 */
/* Where the page of stubs lies in every guest, and the one with an image's vector registers in the
 * standard format of XSAVE, rdx behind them; for stubs.S as well. */
#ifndef WAXVM_SRC_VMM_STUBS_H_
#define WAXVM_SRC_VMM_STUBS_H_

#define WAXVM_STUB_ADDRESS 0x2000
#define WAXVM_EXTENDED_ADDRESS 0x4000
#define WAXVM_EXTENDED_RDX 4088

#endif /* WAXVM_SRC_VMM_STUBS_H_ */
