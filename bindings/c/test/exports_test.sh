#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# exports_test.sh LIBRARY HEADER…: the library exports the functions of the headers and nothing else.
set -eu
command -v nm >/dev/null || { echo "skipped: nm is not installed (binutils)"; exit 77; }
library=$1
shift
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort)
# Declarations begin with WAXVM_API; comments call functions, too.
declared=$(cat "$@" | tr '\n' ' ' | grep -oE 'WAXVM_API [^(;]*\(' | grep -oE 'waxvm_[a-z_0-9]+\(' |
           tr -d '(' | sort -u)
[ -n "$declared" ] || { echo "no function found in $*"; exit 1; }
if [ "$exported" != "$declared" ]; then
  echo "exported:"; echo "$exported"
  echo "declared:"; echo "$declared"
  exit 1
fi
# No symbol of this library may clash with, or be replaced by, one of the program that loads it.
readelf -d "$library" | grep -q 'SONAME.*\[libwaxvm_c\.so\.0\]' || { echo "wrong SONAME"; exit 1; }
echo "$(echo "$exported" | wc -l) symbols, as declared"
