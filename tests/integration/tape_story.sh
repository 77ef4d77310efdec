#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tape_story.sh TAPISK [TREE]: the story of a tape, told as it goes: formatted, a file system made on
# it, a source tree copied there, everything on this machine lost, found again from the tape alone, equal;
# half of it deleted and discarded, the rest compacted to a second tape, equal. With ext4, and with xfs.
# Needs root, FUSE and loop devices; exit 77: they are missing.
set -euo pipefail
tapisk=$1
tree=${2:-$(cd "$(dirname "$0")/../.." && pwd)/core}
PATH=$PATH:/sbin:/usr/sbin
skip() {
  echo "skipped: $1"
  exit 77
}
[ "$(id -u)" = 0 ] || skip "needs root"
[ -w /dev/fuse ] || skip "/dev/fuse cannot be used"
[ -e /dev/loop-control ] || skip "no loop devices"
for tool in mkfs.ext4 fstrim losetup; do
  command -v "$tool" >/dev/null || skip "$tool is missing"
done
dir=$(mktemp -d "${TMPDIR:-/tmp}/hither-story-XXXXXX")
export XDG_CACHE_HOME=$dir/cache XDG_RUNTIME_DIR=$dir/run
mkdir "$dir/run" "$dir/mnt"
device=
cleanup() {
  umount "$dir/mnt" 2>/dev/null || true
  [ -z "$device" ] || "$tapisk" block detach "$device" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
say() {
  printf '%4d s  %s\n' "$SECONDS" "$*"
}
# attach TAPE: as a block device, mounted.
attach() {
  "$tapisk" block --kind=loop "$1" >"$dir/said"
  device=$(grep -o '/dev/loop[0-9]*' "$dir/said" | head -n 1)
  [ "${2:-}" = new ] || mount "$device" "$dir/mnt"
}
detach() {
  umount "$dir/mnt"
  "$tapisk" block detach "$device"
  device=
}
lose_all_but_the_tape() {
  rm -rf "$dir/cache"
}

# story FILE_SYSTEM SIZE
story() {
  local files deleted
  "$tapisk" format "$dir/tape" --size="$2" --capacity=10G
  say "formatted; $1 goes on it"
  attach "$dir/tape" new
  "mkfs.$1" -q "$device"
  mount "$device" "$dir/mnt"
  cp -r "$tree" "$dir/mnt/tree"
  files=$(find "$dir/mnt/tree" -type f | wc -l)
  say "$files files were copied to it, in $device"
  detach
  "$tapisk" info "$dir/tape" | sed 's/^/          /'
  lose_all_but_the_tape
  "$tapisk" reindex "$dir/tape" >/dev/null
  say "the cache was deleted, the index rebuilt from all records"
  attach "$dir/tape"
  diff -r "$tree" "$dir/mnt/tree"
  say "mounted again: $files files, equal"
  find "$dir/mnt/tree" -type f | sort | awk 'NR % 2' >"$dir/half"
  deleted=$(wc -l <"$dir/half")
  xargs rm <"$dir/half"
  sync -f "$dir/mnt" # what is deleted is free once that is committed
  fstrim "$dir/mnt"
  detach
  "$tapisk" info "$dir/tape" | grep -E '^(in use|garbage)' | sed 's/^/          /'
  "$tapisk" compact "$dir/tape" "$dir/second" | sed 's/^/          /'
  say "$deleted files were deleted and discarded, the rest compacted to a second tape"
  "$tapisk" verify "$dir/second" >/dev/null
  lose_all_but_the_tape
  attach "$dir/second"
  [ "$(find "$dir/mnt/tree" -type f | wc -l)" = $((files - deleted)) ]
  (cd "$dir/mnt/tree" && find . -type f -print0 | xargs -0 -I{} cmp {} "$tree/{}") # find -exec would not fail
  say "mounted, with no cache: $((files - deleted)) files, equal"
  detach
  "fsck_of_$1"
  rm -rf "$dir/tape" "$dir/second" "$dir/cache"
}
# The file system that came back is in order, by its own judgement.
fsck_of_ext4() {
  attach "$dir/second" new
  e2fsck -fn "$device" >/dev/null 2>&1
  "$tapisk" block detach "$device"
  device=
}
fsck_of_xfs() {
  attach "$dir/second" new
  xfs_repair -n "$device" >/dev/null 2>&1
  "$tapisk" block detach "$device"
  device=
}

story ext4 1G
if command -v mkfs.xfs >/dev/null && modprobe xfs 2>/dev/null || grep -q xfs /proc/filesystems; then
  story xfs 1G
else
  say "xfs: not tried, mkfs.xfs or the kernel's xfs is missing"
fi
