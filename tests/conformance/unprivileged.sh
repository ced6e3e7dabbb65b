#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# unprivileged.sh CONFORMANCE_TEST: the suite over the process provider as an ordinary user.
skip() {
  echo "skipped: $*"
  exit 77
}

[ "$(id -u)" = 0 ] || skip "this user is an ordinary one: conformance_process did this already"
command -v setpriv >/dev/null || skip "setpriv is not installed (util-linux)"
as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
$as_nobody test -x "$1" || skip "user 65534 may not reach $1"
# Its folder may not be writable, and coverage and sanitizers write where they are.
cd /tmp || exit 1
exec $as_nobody "$1" --gtest_filter='*/process:*/process_native:-*.Slow*'
