#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tape_vm.sh TAPISK HITHER: the same as with a tape file, on /dev/nst0 of the kernel's st driver, in a
# virtual machine, with variable and with fixed blocks. Exit 77: there is none.
set -euo pipefail
# user_of FILE: the process that has it open.
user_of() {
  local link
  for link in /proc/[0-9]*/fd/*; do
    [ "$(readlink "$link" || true)" != "$1" ] || { echo "$link" | cut -d/ -f3; return; }
  done 2>/dev/null
}
# story: a volume on the tape as the drive is set, through all commands.
story() {
  "$tapisk" format /dev/nst0 --size=8M "$@"
  if "$tapisk" format /dev/nst0 --size=8M 2>"$dir/said"; then
    echo "a tape with records was formatted without --force"
    exit 1
  fi
  head -c 8388608 /dev/urandom >"$dir/image"
  : >"$dir/disk"
  "$tapisk" mount /dev/nst0 "$dir/disk"
  if "$tapisk" info /dev/nst0 2>"$dir/said"; then
    echo "two processes had the drive"
    exit 1
  fi
  grep -q 'another process' "$dir/said"
  dd if="$dir/image" of="$dir/disk" bs=1M conv=notrunc,fsync status=none
  "$hither" umount "$dir/disk"
  rm -rf "$dir/cache" "$dir/second"
  # Where the drive stands, and from the beginning.
  "$tapisk" info /dev/nst0
  mt-st -f /dev/nst0 rewind
  "$tapisk" reindex /dev/nst0
  "$tapisk" verify /dev/nst0
  "$tapisk" mount /dev/nst0 "$dir/disk" --read-only
  cmp "$dir/image" "$dir/disk"
  "$hither" umount "$dir/disk"
  "$tapisk" compact /dev/nst0 "$dir/second"
  if "$tapisk" compact /dev/nst0 /dev/nst0a --force 2>"$dir/said"; then
    echo "a tape was copied to itself"
    exit 1
  fi
  grep -q 'same tape' "$dir/said"
  "$tapisk" verify "$dir/second"
  # Killed in the middle of writes: the kernel closes the drive, and the next mount goes on.
  rm -rf "$dir/cache"
  "$tapisk" mount --sync=remote /dev/nst0 "$dir/disk"
  dd if="$dir/image" of="$dir/disk" bs=64k seek=32 count=32 conv=notrunc,fsync status=none
  dd if="$dir/image" of="$dir/image" bs=64k seek=32 count=32 conv=notrunc status=none
  (dd if=/dev/zero of="$dir/disk" bs=64k count=16 conv=notrunc status=none || true) &
  kill -KILL "$(user_of /dev/nst0)"
  wait
  umount -l "$dir/disk" || true
  rm -rf "$dir/cache"
  "$tapisk" mount /dev/nst0 "$dir/disk"
  cmp -i 1M "$dir/image" "$dir/disk"
  "$hither" umount "$dir/disk"
}
# file_system KIND SIZE: on a block device that is the tape, with a source tree; read back with no cache.
file_system() {
  local device
  "$tapisk" format /dev/nst0 --size="$2" --force
  for round in write read; do
    rm -rf "$dir/cache"
    "$tapisk" block /dev/nst0 >"$dir/said"
    device=$(grep -o '/dev/[a-z]*[0-9]*' "$dir/said" | grep -v nst | head -n 1)
    [ "$round" = read ] || "mkfs.$1" -q "$device"
    mkdir -p "$dir/mnt"
    mount "$device" "$dir/mnt"
    if [ "$round" = write ]; then
      cp -r "$tree" "$dir/mnt/tree"
      sync -f "$dir/mnt"
    else
      diff -r "$tree" "$dir/mnt/tree"
      rm -r "$dir/mnt/tree"
      fstrim -v "$dir/mnt"
    fi
    umount "$dir/mnt"
    "$hither" block detach "$device"
  done
  echo "$1: equal"
  "$tapisk" info /dev/nst0 | grep -E '^(in use|garbage)'
}
if [ "${1:-}" = inside ]; then
  tapisk=$2 hither=$3 tree=$4
  PATH=$PATH:/sbin:/usr/sbin
  dir=$(mktemp -d)
  export XDG_CACHE_HOME=$dir/cache XDG_RUNTIME_DIR=$dir
  if "$tapisk" info /dev/nst0 2>"$dir/said"; then
    echo "a blank tape was taken for a volume"
    exit 1
  fi
  grep -q 'tape is blank; tapisk format' "$dir/said"
  if "$tapisk" info /dev/st0 2>"$dir/said"; then
    echo "a device that rewinds was taken"
    exit 1
  fi
  grep -q 'rewinds' "$dir/said"
  story
  file_system ext4 64M
  if command -v mkfs.xfs >/dev/null && modprobe xfs; then
    file_system xfs 320M
  fi
  mt-st -f /dev/nst0 setblk 65536
  story --force
  mt-st -f /dev/nst0 setblk 0
  mt-st -f /dev/nst0 rewind
  "$tapisk" verify /dev/nst0
  mt-st -f /dev/nst0 status >"$dir/said"
  grep -qi 'block size 65536' "$dir/said"
  mt-st -f /dev/nst0 setblk 0
  mt-st -f /dev/nst0 rewind
  echo "of another format" | dd of=/dev/nst0 bs=512 conv=sync status=none
  if "$tapisk" info /dev/nst0 2>"$dir/said"; then
    echo "a tape of another format was taken"
    exit 1
  fi
  grep -q 'another format' "$dir/said"
  echo equal
  exit
fi
vm="$(dirname "$0")/../../../shared/vm/virtual-tape"
[ -x "$vm" ] || { echo "skipped: ../shared/vm/virtual-tape is missing"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || { echo "skipped: qemu-system-x86_64 is missing"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
code=0
"$vm" -m 1G -t 580 -w "$work" "$(realpath "$0")" inside "$@" \
  "$(realpath "$(dirname "$0")/../../core")" </dev/null || code=$?
[ "$code" != 125 ] || { echo "skipped: the virtual machine does not start"; exit 77; }
exit "$code"
