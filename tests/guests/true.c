/* SPDX-License-Identifier: Apache-2.0 */
/* Does nothing and succeeds: the whole cost of a run is waxvm's. */
int main(void) { return 0; }
