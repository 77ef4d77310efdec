#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# block.sh HITHER [KIND...]: a file system on block devices: mkfs, mount, git clone, fsck, a killed
# process and what is left of it. KIND: ublk, nbd, loop; default: those that this kernel has.
# Exit 0 passed, 1 failed, 77 skipped.
set -euo pipefail

hither=$1
shift
kinds=("$@")
[ ${#kinds[@]} -gt 0 ] || kinds=(ublk nbd loop)
[ "$(id -u)" = 0 ] || { echo "skipped: only root can make block devices"; exit 77; }
for tool in mkfs.ext4 e2fsck git sha256sum; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is missing"; exit 77; }
done

work=$(mktemp -d)
device=
cleanup() {
  umount "$work/mnt" 2>/dev/null || true
  [ -z "$device" ] || "$hither" block detach "$device" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
mkdir "$work/mnt"

# A small repository with some history.
git init -q "$work/origin"
for i in 1 2 3 4 5; do
  head -c $((i * 50000)) /dev/urandom >"$work/origin/file$i"
  git -C "$work/origin" add .
  git -C "$work/origin" -c user.name=t -c user.email=t@localhost commit -qm "$i"
done

fail() {
  echo "failed: $*"
  exit 1
}

# start KIND OPTIONS...: sets device.
start() {
  local kind=$1
  shift
  device=
  "$hither" block --kind "$kind" "$@" --log "$work/log" --pid-file "$work/pid" \
    "file:$work/image" >"$work/said" || fail "$(cat "$work/log" 2>/dev/null)"
  device=$(sed 's/:.*//' "$work/said")
  "$hither" block list | grep -q "^$device .*alive" || fail "$device is not in the list"
  "$hither" status | grep -q "by hither block detach $device\$" || fail "status does not say how $device ends"
  "$hither" umount "$device" 2>"$work/umount" && fail "umount detached $device"
  grep -q "hither block detach $device" "$work/umount" || fail "umount does not say how $device ends"
}

check_kind() {
  local kind=$1
  truncate -s 0 "$work/image"
  truncate -s 64M "$work/image"
  start "$kind" --cache none
  mkfs.ext4 -q -F "$device"
  mount "$device" "$work/mnt"
  git clone -q "$work/origin" "$work/mnt/clone"
  git -C "$work/mnt/clone" fsck --full --strict 2>/dev/null
  "$hither" block detach "$device" 2>"$work/said" && fail "a mounted device was removed"
  grep -q 'in use' "$work/said" || fail "$(cat "$work/said")"
  umount "$work/mnt"
  exec 7<"$device" # merely open: it is not taken away either
  "$hither" block detach "$device" 2>"$work/said" && fail "a device that is open was removed"
  grep -q "in use by .*(pid $$)" "$work/said" || fail "$(cat "$work/said")"
  exec 7<&-
  e2fsck -fn "$device" >/dev/null 2>&1 || fail "e2fsck of $device"
  "$hither" block detach "$device"
  "$hither" block list | grep -q "^$device " && fail "$device is still in the list"

  # All of it has come to the file: a fresh device shows the same.
  e2fsck -fn "$work/image" >/dev/null 2>&1 || fail "e2fsck of the file"
  start "$kind"
  mount -o ro "$device" "$work/mnt"
  diff -r "$work/origin" "$work/mnt/clone" -x .git || fail "the clone differs"
  umount "$work/mnt"
  if command -v blkdiscard >/dev/null; then
    blkdiscard "$device" || fail "blkdiscard of $device"
    [ "$(stat -c %b "$work/image")" -lt 64 ] || fail "what was discarded takes room: $(stat -c %b "$work/image") blocks"
  fi

  # Killed: accesses fail, they do not hang; the next start, or cleanup, removes what is left.
  kill -KILL "$(cat "$work/pid")"
  while kill -0 "$(cat "$work/pid")" 2>/dev/null; do read -rt 0.05 <> <(:) || true; done
  local got
  got=$(timeout 20 dd "if=$device" bs=4k count=1 iflag=direct 2>/dev/null | wc -c) || true
  [ "$got" = 0 ] || fail "a dead process answered"
  "$hither" block list | grep -q "^$device .*dead" || fail "$device is not listed as dead"
  "$hither" block cleanup >/dev/null
  "$hither" block list | grep -q "^$device .*dead" && fail "$device was not cleaned up"
  device=
  echo "$kind: passed"
}

# start_recovering: a ublk device that a later start of the same takes over; sets device.
start_recovering() {
  "$hither" block --kind ublk --recover --cache "$work/cache" --sync local --log "$work/log" \
    --pid-file "$work/pid" "file:$work/image" >"$work/said" || fail "$(cat "$work/log" 2>/dev/null)"
  device=$(sed 's/:.*//' "$work/said")
}

# Who detaches is told what could not be pushed: here its server has died.
check_unpushed() {
  command -v nbdkit >/dev/null || return 0
  local kit
  rm -f "$work/kit" "$work/kit.pid"
  nbdkit -f -U "$work/kit" -P "$work/kit.pid" memory 8M &
  kit=$!
  until [ -s "$work/kit.pid" ]; do
    kill -0 "$kit" 2>/dev/null || fail "nbdkit does not start"
    read -rt 0.1 <> <(:) || true
  done
  "$hither" block --kind "$1" --cache none --push-interval 1h --deadline 1s --log "$work/log" \
    "nbd+unix:///?socket=$work/kit" >"$work/said" || fail "$(cat "$work/log" 2>/dev/null)"
  device=$(sed 's/:.*//' "$work/said")
  kill -KILL "$kit"
  wait "$kit" 2>/dev/null || true
  dd if=/dev/urandom "of=$device" bs=64k count=4 status=none
  "$hither" block detach "$device" 2>"$work/said" && fail "nobody was told that nothing was pushed"
  grep -q 'not pushed are lost' "$work/said" || fail "$(cat "$work/said")"
  "$hither" block list | grep -q "^$device " && fail "$device is still in the list"
  device=
}

kill_hard() {
  local pid
  pid=$(cat "$work/pid")
  kill -KILL "$pid"
  while kill -0 "$pid" 2>/dev/null; do read -rt 0.05 <> <(:) || true; done
}

# The process is killed twice while somebody writes: the writer waits, the next start takes the device
# over, and nothing that was written is lost.
check_recovery() {
  local before writer
  truncate -s 0 "$work/image"
  truncate -s 64M "$work/image"
  head -c 64M /dev/urandom >"$work/noise"
  start_recovering
  before=$device
  dd "if=$work/noise" "of=$device" bs=64k oflag=direct conv=fsync status=none &
  writer=$!
  for _ in 1 2; do
    read -rt 0.2 <> <(:) || true # somewhere in the middle
    kill_hard
    "$hither" block list | grep -q "^$before .*dead" || fail "$before is not listed as dead"
    # Others that come and go clean up, but leave it alone.
    device=$("$hither" block --kind ublk --cache none memory:1M | sed 's/:.*//')
    [ "$device" != "$before" ] || fail "a device that waits for recovery was given to another"
    "$hither" block detach "$device"
    start_recovering
    [ "$device" = "$before" ] || fail "$device was made, $before not taken over"
  done
  wait "$writer" || fail "the writer got an error"
  cmp "$work/noise" "$device" || fail "bytes were lost"
  "$hither" block detach "$device"
  device=
  cmp "$work/noise" "$work/image" || fail "bytes were not pushed"
  rm -rf "$work/cache"
  echo "ublk: taken over from killed processes"
}

done=0
for kind in "${kinds[@]}"; do
  # The pid file cannot be written, so that nothing stays where the kind is possible.
  said=$("$hither" block --kind "$kind" --cache none --pid-file /nowhere/x memory:1M 2>&1) || true
  if [[ $said != *"/nowhere/x"* ]]; then
    echo "$said"
    continue
  fi
  check_kind "$kind"
  check_unpushed "$kind"
  [ "$kind" != ublk ] || check_recovery
  done=1
done
[ "$done" = 1 ] || { echo "skipped: no kind of block device can be made here"; exit 77; }
