#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ram_swap.sh BUILD [PART...]: ram-dl swap, in a machine that may be spoiled (in_vm.sh): a program that
# uses twice its memory, by each kind of device; beside nbd-client and nbdkit; a mirror of which one
# server dies; a server that dies alone, or has no room; a ram-dl that is killed; a machine out of memory;
# more paged out than fits. PART: pages, peer, mirror, death, space, killed, oom, full; default: all.
# Exit 0 passed, 1 failed, 77 skipped.
set -Eeuo pipefail

build=$1
shift
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(pages peer mirror death space killed oom full)
dl=$build/apps/ram-dl/ram-dl ul=$build/apps/ram-dl/ram-ul load=$build/tests/tools/paging
hog=$build/tests/tools/hog
[ "$(id -u)" = 0 ] || { echo "skipped: only root can swap"; exit 77; }
memory=$(awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo)
[ "$memory" -lt 4000 ] || { echo "skipped: not in a small virtual machine"; exit 77; }

limit=16 # MiB of memory that the program has; it uses twice as much
work=$(mktemp -d)
group=/tmp/cgroup-$$
mkdir -p "$group"
mount -t cgroup2 none "$group" 2>/dev/null || { echo "skipped: no cgroup v2"; exit 77; }
echo +memory >"$group/cgroup.subtree_control"
mkdir -p "$group/load"
echo $((limit << 20)) >"$group/load/memory.max"
pids=()
cleanup() {
  kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "failed: $*"
  cat "$work"/*.log 2>/dev/null || true
  dmesg | tail -n 15
  exit 1
}
# A command that fails by itself must not end this without a word.
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# until_line FILE: wait until somebody has written a line to it (they are our children).
until_line() {
  local n=0
  until [ -s "$1" ]; do
    n=$((n + 1))
    [ "$n" -lt 600 ] || fail "nothing in $1"
    read -rt 0.1 <> <(:) || true
  done
}

# serve NAME [OPTIONS]: a ram-ul at unix:$work/NAME.
serve() {
  rm -f "$work/$1.said"
  "$ul" -l "unix:$work/$1" "${@:2}" 128M >"$work/$1.said" 2>"$work/$1.log" &
  ul_pid=$!
  pids+=("$ul_pid")
  until_line "$work/$1.said"
}

# attach NAME ARGUMENTS...: ram-dl swap over serve's NAME.
attach() {
  local name=$1
  shift
  rm -f "$work/dl.said" # else the last one's may be taken for this one's
  "$dl" swap "$@" "nbd+unix:///?socket=$work/$name" >"$work/dl.said" 2>"$work/dl.log" &
  dl_pid=$!
  pids+=("$dl_pid")
  while [ ! -s "$work/dl.said" ] && kill -0 "$dl_pid" 2>/dev/null; do read -rt 0.1 <> <(:) || true; done
  [ -s "$work/dl.said" ] || fail "ram-dl swap did not start"
  cat "$work/dl.said"
}

detach() {
  kill "$dl_pid"
  wait "$dl_pid" || fail "ram-dl ended with $?"
  [ "$(wc -l </proc/swaps)" = 1 ] || fail "$(cat /proc/swaps)"
}

# pages: the program in its group; prints milliseconds.
pages() {
  (echo $BASHPID >"$group/load/cgroup.procs" && exec "$load" $((limit * 2)) 1)
}

part_pages() {
  local kind
  serve a
  for kind in kernel ublk nbd loop; do
    case $kind in
      kernel) attach a ;;
      *) attach a --in-process --kind "$kind" ;;
    esac
    # What others did with this device before is not this one's.
    "$dl" status | grep -Eq 'out +0 pages' || fail "$kind: $("$dl" status)"
    pages >"$work/ms" || fail "$kind: the program failed"
    echo "$kind: $(cat "$work/ms") ms"
    "$dl" status | tee "$work/status"
    grep -Eq 'out +[1-9][0-9]{3,} pages' "$work/status" || fail "nothing was paged out"
    "$dl" status --json | grep -q '"probe_p50_ns": *[1-9]' || fail "no latency"
    detach
  done
  "$ul" inspect "nbd+unix:///?socket=$work/a" | tee "$work/inspect"
  grep -q 'label "ram-dl"' "$work/inspect" || fail "inspect"
  grep -Eq '^[1-9][0-9]{3,} of 32767 pages have bytes' "$work/inspect" || fail "inspect: no pages"
}

# The same program on the same machine, over the usual tools.
part_peer() {
  command -v nbdkit nbd-client mkswap >/dev/null || { echo "peer: nbdkit or nbd-client is missing"; return; }
  local round
  for round in 1 2; do
    rm -f "$work/kit"
    nbdkit -f -U "$work/kit" -P "$work/kit.pid" memory 128M &
    pids+=($!)
    until_line "$work/kit.pid"
    nbd-client -unix "$work/kit" /dev/nbd9 -b 4096 -C 4 >"$work/client.log" 2>&1
    mkswap /dev/nbd9 >/dev/null 2>"$work/mkswap.log"
    swapon -p 100 /dev/nbd9
    pages >"$work/ms"
    echo "round $round: nbd-client + nbdkit memory: $(cat "$work/ms") ms"
    swapoff /dev/nbd9
    nbd-client -d /dev/nbd9 >/dev/null
    kill "$(cat "$work/kit.pid")"
    rm -f "$work/kit.pid"
    serve peer
    attach peer >/dev/null
    pages >"$work/ms"
    echo "round $round: ram-dl + ram-ul: $(cat "$work/ms") ms"
    detach
    kill "$ul_pid"
    wait "$ul_pid" || fail "ram-ul ended with $?"
  done
}

part_mirror() {
  serve first
  local first_pid=$ul_pid
  serve second
  attach first --mirror "nbd+unix:///?socket=$work/second" --deadline 10s
  pages >"$work/ms" &
  local load_pid=$!
  until_paged 1250
  kill -KILL "$first_pid"
  wait "$load_pid" || fail "the program noticed that a server died"
  grep -q 'first server is lost' "$work/dl.log" || fail "nobody said that a server was lost"
  echo "mirror: one server was killed: $(cat "$work/ms") ms, all pages right"
  detach
}

# Alone, a dead server means errors: the program ends, the machine does not hang, swap goes away.
part_death() {
  local how
  for how in '' --in-process; do
    serve "only$how"
    # shellcheck disable=SC2086  # nothing, or an option
    attach "only$how" $how --deadline 5s
    pages >"$work/ms" 2>/dev/null &
    local load_pid=$! code=0
    until_paged 1250
    kill -KILL "$ul_pid"
    wait "$load_pid" || code=$?
    [ "$code" != 0 ] || fail "the program finished without its pages"
    detach
    echo "death$how: the program ended with $code, the swap area was detached"
  done
}

# until_paged PAGES: wait until so much of the swap area is used (it is the only one).
until_paged() {
  while [ "$(awk 'NR == 2 {print $4}' /proc/swaps)" -lt $(($1 * 4)) ]; do read -rt 0.1 <> <(:) || true; done
}

available() { awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo; }

# ends PID SECONDS: it does so by then; sets code.
ends() {
  local n=0
  while kill -0 "$1" 2>/dev/null; do
    n=$((n + 1))
    [ "$n" -lt $(($2 * 10)) ] || fail "process $1 hangs: $(cat "/proc/$1/wchan" 2>/dev/null)"
    read -rt 0.1 <> <(:) || true
  done
  code=0
  wait "$1" || code=$?
}

# A server that has no room for more: what it does not take stays in memory. Who wants more than that is ended by
# the kernel, or goes on trying; the machine goes on, such a program can be killed, and the swap area goes away as
# always.
part_space() {
  command -v nbdkit >/dev/null || { echo "space: nbdkit is missing"; return; }
  local how code load_pid
  for how in '' --in-process; do
    rm -f "$work/no-room" "$work/room" "$work/kit.pid"
    nbdkit -f -U "$work/room" -P "$work/kit.pid" --filter=error memory 128M error-pwrite=ENOSPC \
      error-pwrite-rate=100% "error-pwrite-file=$work/no-room" 2>"$work/kit.errors" &
    pids+=($!)
    until_line "$work/kit.pid"
    # shellcheck disable=SC2086  # nothing, or an option
    attach room $how --deadline 5s
    pages >"$work/ms" 2>/dev/null &
    load_pid=$!
    until_paged 1250
    dmesg --clear
    touch "$work/no-room"
    timeout 60 grep -q 'I/O error, dev' <(dmesg --follow) || fail "nobody said that writing failed"
    # Where it is still there; what it has paged out would not fit when the swap area goes.
    local one
    while read -r one; do kill -KILL "$one" 2>/dev/null || true; done <"$group/load/cgroup.procs"
    ends "$load_pid" 60
    rm "$work/no-room"
    detach
    kill "$(cat "$work/kit.pid")"
    echo "space$how: the program ended with $code, the swap area was detached"
  done
}

# never_waits PID: none of its threads waits for paging when the kernel allocates for it
# (PF_MEMALLOC_NOIO of Linux), but the first, which only waits for signals.
never_waits() {
  local task flags
  for task in "/proc/$1/task"/*; do
    flags=$(awk '{print $9}' "$task/stat")
    [ "$((flags & 0x80000))" != 0 ] || [ "${task##*/}" = "$1" ] || return 1
  done
}

# ram-dl itself is killed, as the OOM killer would: errors, nothing hangs, and the next one cleans up. Of a
# ublk device the kernel leaves a swap area that nobody can name any more: it is the last here, and not what
# ram-dl chooses by itself.
part_killed() {
  local kind code load_pid
  for kind in nbd loop ublk; do
    serve "killed-$kind"
    attach "killed-$kind" --in-process --kind "$kind" --deadline 5s
    [ "$(cat "/proc/$dl_pid/oom_score_adj")" = -1000 ] || fail "the OOM killer may take it"
    never_waits "$dl_pid" || fail "$kind: paging may wait for itself"
    pages >"$work/ms" 2>/dev/null &
    load_pid=$!
    until_paged 1250
    kill -KILL "$dl_pid"
    ends "$load_pid" 120
    [ "$code" != 0 ] || fail "$kind: the program finished without its pages"
    if [ "$kind" = ublk ]; then
      timeout 60 "$build/apps/hither/hither" block list || fail "$kind: list"
      echo "killed ($kind): the program ended with $code, the machine goes on"
      continue
    fi
    awk 'NR == 2 {print $1}' /proc/swaps >"$work/device"
    timeout 60 swapoff "$(cat "$work/device")" || fail "$kind: swapoff"
    timeout 60 "$build/apps/hither/hither" block cleanup || fail "$kind: cleanup"
    attach "killed-$kind" --in-process --kind "$kind"
    pages >"$work/ms" || fail "$kind: the program failed on the next one"
    detach
    echo "killed ($kind): the program ended with $code, all was cleaned up, and the next one works"
  done
}

# All of the machine's memory is gone: the OOM killer takes who wanted it, not ram-dl.
part_oom() {
  local code hog_pid
  # What is served must not be paged out to itself: it is another machine's memory elsewhere.
  serve oom --lock
  attach oom --in-process
  echo 1 >/proc/sys/vm/overcommit_memory # else it is refused so much at once
  "$hog" wait $((memory * 2)) </dev/null >"$work/hog" 2>&1 &
  hog_pid=$!
  ends "$hog_pid" 240
  [ "$code" = 137 ] || fail "the program that wanted all ended with $code"
  kill -0 "$dl_pid" || fail "ram-dl was killed"
  kill -0 "$ul_pid" || fail "ram-ul was killed"
  echo 0 >/proc/sys/vm/overcommit_memory
  pages >"$work/ms" || fail "the next program failed"
  detach
  echo "oom: the OOM killer took the program; ram-dl goes on, and a program after that is right"
}

# More is paged out than fits: nothing is lost by trying, and when there is room again all is well.
part_full() {
  local n=0
  serve full --lock # as above
  attach full --size 128M
  mkfifo "$work/go"
  (echo $BASHPID >"$group/load/cgroup.procs" && exec "$hog" wait 112 <"$work/go" >"$work/hog") &
  local hog_pid=$!
  exec 7>"$work/go"
  until_line "$work/hog"
  until_paged $((90 << 8))
  # What has huge pages nobody else can have.
  until [ "$(available)" -lt 60 ] || [ "$n" -gt 50 ]; do
    n=$((n + 1))
    echo $(($(cat /proc/sys/vm/nr_hugepages) + ($(available) - 30) / 2)) >/proc/sys/vm/nr_hugepages
  done
  kill "$dl_pid"
  until grep -q 'are paged out, and only' "$work/dl.log"; do
    kill -0 "$dl_pid" || fail "ram-dl gave up"
    read -rt 0.1 <> <(:) || true
  done
  [ "$(wc -l </proc/swaps)" = 2 ] || fail "it was detached nevertheless"
  cat "$work/dl.log"
  echo 0 >/proc/sys/vm/nr_hugepages
  echo max >"$group/load/memory.max" # all of it comes back
  detach
  echo go >&7
  wait "$hog_pid" || fail "the program ended with $?"
  grep -q equal "$work/hog" || fail "the program lost bytes"
  echo $((limit << 20)) >"$group/load/memory.max"
  echo "full: told, kept, and detached when there was room; every byte is right"
}

for part in "${parts[@]}"; do "part_$part"; done
