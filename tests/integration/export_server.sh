# shellcheck shell=bash disable=SC2154,SC2034
# (what it takes from and sets for who sources it)
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of the export, which have $work, a folder, and fail.

# start_export LOG COMMAND...: start it in the background, and wait until it says where clients may come to.
# Sets pid, and port if that is on TCP.
start_export() {
  local log=$1 said line
  shift
  rm -f "$work/said"
  mkfifo "$work/said"
  "$@" >"$work/said" 2>"$log" &
  pid=$!
  exec {said}<>"$work/said" # it stays open: the export may say more
  read -rt 60 line <&"$said" || fail "the export does not start: $*"
  port=$(sed -n 's|^nbds\{0,1\}://127.0.0.1:\([0-9]*\)/.*|\1|p' <<<"$line")
}

# finish_export: the server ends well, and has pushed all.
finish_export() {
  kill "$pid"
  wait "$pid" || fail "the export ended with $?"
  pid=
}
