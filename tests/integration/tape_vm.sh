#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tape_vm.sh TAPISK HITHER: the same as with a tape file, on /dev/nst0 of the kernel's st driver, in a
# virtual machine. Exit 77: there is none.
set -euo pipefail
if [ "${1:-}" = inside ]; then
  tapisk=$2 hither=$3
  dir=$(mktemp -d)
  export XDG_CACHE_HOME=$dir/cache XDG_RUNTIME_DIR=$dir
  if "$tapisk" info /dev/nst0 2>"$dir/said"; then
    echo "a blank tape was taken for a volume"
    exit 1
  fi
  cat "$dir/said"
  grep -q 'tape is blank; tapisk format' "$dir/said"
  "$tapisk" format /dev/nst0 --size=8M
  if "$tapisk" format /dev/nst0 --size=8M 2>"$dir/said"; then
    echo "a tape with records was formatted without --force"
    exit 1
  fi
  head -c 8388608 /dev/urandom >"$dir/image"
  : >"$dir/disk"
  "$tapisk" mount -w /dev/nst0 "$dir/disk"
  dd if="$dir/image" of="$dir/disk" bs=1M conv=notrunc,fsync status=none
  "$hither" umount "$dir/disk"
  rm -rf "$dir/cache"
  "$tapisk" reindex /dev/nst0
  "$tapisk" verify /dev/nst0
  "$tapisk" mount /dev/nst0 "$dir/disk"
  cmp "$dir/image" "$dir/disk"
  "$hither" umount "$dir/disk"
  "$tapisk" compact /dev/nst0 "$dir/second"
  "$tapisk" verify "$dir/second"
  echo equal
  exit
fi
vm="$(dirname "$0")/../../../shared/vm/virtual-tape"
[ -x "$vm" ] || { echo "skipped: ../shared/vm/virtual-tape is missing"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || { echo "skipped: qemu-system-x86_64 is missing"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
code=0
"$vm" -m 1G -t 280 -w "$work" "$(realpath "$0")" inside "$@" </dev/null || code=$?
[ "$code" != 125 ] || { echo "skipped: the virtual machine does not start"; exit 77; }
exit "$code"
