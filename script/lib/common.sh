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

# tick SAY...: while this script lives, what SAY prints and for how long it has gone on: on a terminal
# in a line that is drawn over, else a line every ten seconds.
tick() {
  local began=$SECONDS told=$SECONDS text
  while sleep 0.5 && kill -0 $$ 2>/dev/null; do
    text="   $((SECONDS - began)) s  $("$@")"
    if [ -t 1 ]; then
      printf '\r%.78s\033[K' "$text"
    elif ((SECONDS - told >= 10)); then
      told=$SECONDS
      printf '%.110s\n' "$text"
    fi
  done
}

# showing SAY COMMAND...: run COMMAND, and show meanwhile what the function SAY tells of it.
showing() {
  local say=$1 ticker code=0
  shift
  tick "$say" &
  ticker=$!
  "$@" || code=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if [ -t 1 ]; then printf '\r\033[K'; fi
  return "$code"
}

# What the build that logs to $build_log does now.
build_state() {
  tail -n 1 "$build_log" 2>/dev/null || true
}

configure_and_compile() {
  local dir=$1
  shift
  {
    if [ -e "$dir/build.ninja" ]; then
      meson configure "$dir" "$@"
    else
      meson setup "$dir" "$top" "$@"
    fi && ninja -C "$dir"
  } </dev/null >"$build_log" 2>&1
}

# build_in DIR [MESON OPTIONS]: configure once, then compile; shows how far it is.
build_in() {
  mkdir -p "$(dirname "$1")"
  build_log=$1.log
  : >"$build_log"
  showing build_state configure_and_compile "$@" || {
    tail -n 40 "$build_log" >&2
    die "the build in $1 failed; all of its output is in $build_log"
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
