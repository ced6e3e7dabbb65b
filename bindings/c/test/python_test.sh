#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# python_test.sh LIBRARY PROVIDER: runs programs through the library from Python's ctypes.
for python in python3 /usr/bin/python3; do
  "$python" -c 'import ctypes' 2>/dev/null && exec "$python" "$(dirname "$0")/python_test.py" "$@"
done
echo "skipped: no python3 with ctypes on this machine"
exit 77
