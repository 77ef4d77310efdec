# shellcheck shell=bash disable=SC2154
# (what it takes from who sources it)
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests with servers that do not tell when they are ready, which have $dir with their *.log.

# wait_until WHAT COMMAND...: at most 20 s.
wait_until() {
  local what=$1 deadline=$((SECONDS + 20))
  shift
  until "$@" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      echo "no sign of $what; it says:" >&2
      cat "$dir"/*.log >&2
      exit 1
    fi
    sleep 0.02
  done
}

# A port that nobody listens on, below the range that the kernel gives to clients.
free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)); do
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}
