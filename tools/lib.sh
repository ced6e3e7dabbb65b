# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts beside it: where things are, how packages get installed, how to build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
started=$SECONDS

say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The comment at the head of the calling script is its manual.
usage() { sed -n '/^# Usage/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# Packages of the named groups of tools/packages.
packages_of() {
  local group
  for group in "$@"; do sed -n "s/^$group://p" "$root/tools/packages"; done | tr -s ' ' '\n' | sort -u
}

# Of the packages named, those that are not installed.
missing_of() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1)" = installed ] ||
      printf '%s ' "$package"
  done
}

# Installs what is missing of the named groups, and says so first.
need() {
  local missing
  if ! command -v dpkg-query >/dev/null; then
    say "not a Debian system: make sure that the counterparts are there of" $(packages_of "$@")
    return
  fi
  missing=$(missing_of $(packages_of "$@"))
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    die "missing packages; run:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
  fi
  say "installing with apt-get: $missing"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 $missing >"${TMPDIR:-/tmp}/waxvm-apt.log" 2>&1 || {
    tail -n 20 "${TMPDIR:-/tmp}/waxvm-apt.log" >&2
    die "apt-get could not install: $missing"
  }
}

# build PRESET [TARGET…]: configures and builds into build/PRESET.
build() {
  local preset=$1 launcher=()
  shift
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    export CCACHE_SLOPPINESS=pch_defines,time_macros # what it asks for where headers are precompiled
  fi
  say "configuring $preset"
  (cd "$root" && cmake --preset "$preset" --log-level=WARNING "${launcher[@]}" >/dev/null)
  say "building $preset${*:+: $*}"
  cmake --build "$root/build/$preset" --parallel "$(nproc)" ${@:+--target "$@"}
}
