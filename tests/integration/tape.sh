#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tape.sh TAPISK HITHER: a tape file, an ext4 image with a source tree written to it through a mount, the
# cache deleted, the index rebuilt from the tape alone, mounted again: every file is equal. Exit 77: no FUSE.
set -euo pipefail
tapisk=$1 hither=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
for tool in mkfs.ext4 debugfs fusermount3; do
  PATH=$PATH:/sbin:/usr/sbin command -v "$tool" >/dev/null || {
    echo "skipped: $tool is missing"
    exit 77
  }
done
PATH=$PATH:/sbin:/usr/sbin
[ -w /dev/fuse ] || {
  echo "skipped: /dev/fuse cannot be used"
  exit 77
}
dir=$(mktemp -d "${TMPDIR:-/tmp}/hither-tape-XXXXXX")
export XDG_CACHE_HOME=$dir/cache XDG_RUNTIME_DIR=$dir/run
mkdir "$dir/run" "$dir/cache"
cleanup() {
  "$hither" umount "$dir/disk" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

mkdir "$dir/tree"
cp -r "$top/core" "$top/docs" "$dir/tree/"
mkfs.ext4 -q -d "$dir/tree" "$dir/image" 32M
"$tapisk" format "$dir/tape" --size=32M --capacity=1G
if "$tapisk" format "$dir/tape" --size=32M 2>"$dir/said"; then
  echo "a tape with records was formatted without --force"
  exit 1
fi
grep -q -- --force "$dir/said"

if "$tapisk" mount "$dir/tape" 2>"$dir/said"; then
  echo "a mount nowhere"
  exit 1
fi
grep -q "^tapisk: mount: name the path" "$dir/said"

: >"$dir/disk"
"$tapisk" mount "$dir/tape" "$dir/disk" -w
if "$tapisk" info "$dir/tape" 2>"$dir/said"; then
  echo "two processes had the tape"
  exit 1
fi
grep -q "tapisk umount PATH" "$dir/said"
dd if="$dir/image" of="$dir/disk" bs=1M conv=notrunc,fsync status=none
"$hither" umount "$dir/disk"

rm -rf "$dir/cache"
mkdir "$dir/cache"
"$tapisk" reindex "$dir/tape"
"$tapisk" verify "$dir/tape"
"$tapisk" mount "$dir/tape" "$dir/disk"
cmp "$dir/image" "$dir/disk"
mkdir "$dir/back"
debugfs -R "rdump / $dir/back" "$dir/disk" 2>/dev/null
rm -rf "$dir/back/lost+found"
diff -r "$dir/tree" "$dir/back"
"$hither" umount "$dir/disk"

"$tapisk" compact "$dir/tape" "$dir/second"
"$tapisk" mount "$dir/second" "$dir/disk"
cmp "$dir/image" "$dir/disk"
"$hither" umount "$dir/disk"
echo "equal: $(find "$dir/tree" -type f | wc -l) files"
