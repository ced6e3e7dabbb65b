/* SPDX-License-Identifier: Apache-2.0 */
/* Ends itself with abort(). */
#include <stdlib.h>

int main(void) { abort(); }
