#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# exports_test.sh LIBRARY HEADER: the library exports the functions of the header and nothing else.
set -eu
command -v nm >/dev/null || { echo "skipped: nm is not installed (binutils)"; exit 77; }
exported=$(nm -D --defined-only "$1" | awk '$2 != "A" { print $3 }' | sort)
declared=$(grep -oE '\bwaxvm_[a-z_]+\(' "$2" | tr -d '(' | sort -u)
[ -n "$declared" ] || { echo "no function found in $2"; exit 1; }
if [ "$exported" != "$declared" ]; then
  echo "exported:"; echo "$exported"
  echo "declared:"; echo "$declared"
  exit 1
fi
# No symbol of this library may clash with, or be replaced by, one of the program that loads it.
readelf -d "$1" | grep -q 'SONAME.*\[libwaxvm_c\.so\.0\]' || { echo "wrong SONAME"; exit 1; }
echo "$(echo "$exported" | wc -l) symbols, as declared"
