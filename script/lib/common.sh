# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the scripts beside it: where things are, how to say things, how to build.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export top

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# A headline; bold on a terminal.
step() {
  if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    printf '\n\033[1m== %s\033[0m\n' "$*"
  else
    printf '\n== %s\n' "$*"
  fi
}

# build_in DIR [MESON OPTIONS]: configure once, then compile; quiet unless something is wrong.
build_in() {
  local dir=$1 log
  shift
  mkdir -p "$(dirname "$dir")"
  log=$dir.log
  {
    if [ -e "$dir/build.ninja" ]; then
      meson configure "$dir" "$@"
    else
      meson setup "$dir" "$top" "$@"
    fi && ninja -C "$dir"
  } </dev/null >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    die "the build in $dir failed; all of its output is in $log"
  }
}

# A free TCP port on loopback, for servers that cannot pick one themselves.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds; a server's start has no event to wait for.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}
