#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs hither into a folder, builds each of examples/ against that by pkg-config, and runs it.
# usage: examples.sh BUILD
set -euo pipefail
build=$1
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if nm -D "$build/core/libhither.so" | grep -qE '__(asan|tsan)_init'; then
  echo "skipped: a sanitized library is not linked by plain programs"
  exit 77
fi
root=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" || true
  rm -rf "$root"
}
trap cleanup EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$root" >"$root/log" 2>&1 || {
  cat "$root/log"
  exit 1
}
pc=$(find "$root" -name hither.pc)
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$root
libdir=$root$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=libdir hither)
export LD_LIBRARY_PATH=$libdir
av='libavformat libavcodec libavutil'
# Of the system, not of the folder that hither was installed into.
# shellcheck disable=SC2086  # a list
av_options() { env -u PKG_CONFIG_SYSROOT_DIR -u PKG_CONFIG_PATH pkg-config "$@" $av; }
for source in "$top"/examples/*.c; do
  name=$(basename "$source" .c)
  more=
  if [ "$name" = avio ]; then
    av_options --exists || continue
    more=$(av_options --cflags --libs)
  fi
  # shellcheck disable=SC2046,SC2086  # lists of options
  cc -Wall -Wextra -Wno-unused-parameter -Werror -O1 -o "$root/$name" "$source" \
    $(pkg-config --cflags --libs hither) $more
done

# expect WHAT WANT COMMAND...
expect() {
  local what=$1 want=$2 got
  shift 2
  got=$("$@")
  [ "$got" = "$want" ] || {
    echo "$what: got '$got', not '$want'"
    exit 1
  }
  echo "$what: $got"
}

seq 200000 >"$root/numbers"
printf x >>"$root/numbers"
if out=$("$root/slice" "$root/numbers" 2>&1); then
  [ "$out" = 200000 ] || {
    echo "slice: got '$out', not 200000"
    exit 1
  }
  expect 'read_at, a file' 120 "$root/read_at" "$root/numbers"
  expect 'read_at, an object' 120 "$root/read_at" "file://$root/numbers"
  expect 'read_at, a pattern' $((((1 << 30) - 1) % 251)) "$root/read_at" pattern
else
  grep -q userfaultfd <<<"$out" || {
    echo "slice: $out"
    exit 1
  }
  echo "slices are not run: $out"
fi
expect backend $((1048579 * 1048579 % 256)) "$root/backend" 1048579

exec 3< <(exec "$root/export" "$root/numbers" "unix:$root/sock")
server=$!
read -rt 10 said <&3 || {
  echo "export: nothing said after 10 s"
  exit 1
}
if command -v nbdcopy >/dev/null; then
  nbdcopy "nbd+unix:///?socket=$root/sock" "$root/copy"
  cmp "$root/numbers" "$root/copy"
  echo "export: equal"
else
  echo "export: $said; nbdcopy, which would read it, is missing"
fi

if [ -x "$root/avio" ] && command -v ffmpeg >/dev/null; then
  # Each second is brighter than the one before it.
  ffmpeg -v error -f lavfi -i "color=black:size=64x48:rate=10:duration=9,geq=lum=16+20*floor(T):cb=128:cr=128" \
    -c:v libx264 -preset ultrafast -pix_fmt yuv420p "$root/steps.mp4"
  expect 'avio, first frame' '64x48, luminance 16' "$root/avio" "$root/steps.mp4"
  expect 'avio, after a seek' '64x48, luminance 136' "$root/avio" "$root/steps.mp4" 6.5
else
  echo "avio: not built, libavformat's headers or ffmpeg are missing"
fi
