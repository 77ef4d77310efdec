#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# export_kernel.sh HITHER: the NBD export and the kernel's client (nbd-client), in a machine whose kernel
# has it (in_vm.sh): over TCP with several connections, a UNIX socket, and TLS with certificates; each time
# a file system, checked and compared. Exit 0 passed, 1 failed, 77 skipped.
set -euo pipefail

hither=$1
for tool in nbd-client nbdkit mkfs.ext4 e2fsck openssl cmp; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is missing"; exit 77; }
done
[ -b /dev/nbd0 ] || { echo "skipped: this kernel has no NBD client"; exit 77; }

work=$(mktemp -d)
pid=
cleanup() {
  umount "$work/mnt" 2>/dev/null || true
  nbd-client -d /dev/nbd0 >/dev/null 2>&1 || true
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/mnt" "$work/pki" "$work/tree"
for i in 1 2 3 4 5; do head -c $((i * 700000)) /dev/urandom >"$work/tree/$i"; done

fail() {
  echo "failed: $*"
  cat "$work"/*.log 2>/dev/null || true
  dmesg | tail -n 10
  exit 1
}

source "$(dirname "${BASH_SOURCE[0]}")/export_server.sh"

# serve OPTIONS...: an export of 64 MiB; sets port.
serve() {
  truncate -s 0 "$work/image"
  truncate -s 64M "$work/image"
  start_export "$work/export.log" \
    "$hither" export --foreground --cache none -l 127.0.0.1:0 -l "unix:$work/socket" "$@" "file:$work/image=disk"
}

# use NAME CLIENT-ARGUMENTS...: a file system, written, checked, and read again by another connection.
use() {
  local name=$1
  shift
  nbd-client -N disk -b 4096 "$@" >"$work/client.log" 2>&1 || fail "$name: nbd-client"
  mkfs.ext4 -q -F /dev/nbd0 || fail "$name: mkfs"
  mount /dev/nbd0 "$work/mnt"
  cp -r "$work/tree" "$work/mnt"
  umount "$work/mnt"
  e2fsck -fn /dev/nbd0 >/dev/null 2>&1 || fail "$name: fsck of the device"
  nbd-client -d /dev/nbd0 >/dev/null
  nbd-client -N disk -b 4096 "$@" >"$work/client.log" 2>&1 || fail "$name: nbd-client again"
  mount -o ro /dev/nbd0 "$work/mnt"
  diff -r "$work/tree" "$work/mnt/tree" || fail "$name: other bytes"
  umount "$work/mnt"
  nbd-client -d /dev/nbd0 >/dev/null
  finish_export
  e2fsck -fn "$work/image" >/dev/null 2>&1 || fail "$name: fsck of the file"
  echo "$name: passed"
}

serve
use TCP 127.0.0.1 "$port" /dev/nbd0 -C 4
serve
use "UNIX socket" -unix "$work/socket" /dev/nbd0

# issue NAME: a certificate that ca-cert.pem vouches for.
issue() {
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$work/pki/$1-key.pem" \
    -out "$work/pki/$1.csr" 2>/dev/null
  openssl x509 -req -in "$work/pki/$1.csr" -CA "$work/pki/ca-cert.pem" -CAkey "$work/pki/ca-key.pem" \
    -CAcreateserial -days 2 -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") \
    -out "$work/pki/$1-cert.pem" 2>/dev/null
}
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 2 -addext basicConstraints=critical,CA:TRUE \
  -keyout "$work/pki/ca-key.pem" -out "$work/pki/ca-cert.pem" 2>/dev/null
issue server
issue client
serve --tls-certificates "$work/pki" --tls-verify-peer
# nbd-client itself knows TLS up to 1.2 only; nbdkit stands between.
nbdkit -f -U "$work/kit" -P "$work/kit.pid" nbd hostname=localhost "port=$port" export=disk tls=require \
  "tls-certificates=$work/pki" >"$work/kit.log" 2>&1 &
kit=$!
until [ -s "$work/kit.pid" ]; do
  kill -0 "$kit" 2>/dev/null || fail "nbdkit does not start"
  read -rt 0.1 <> <(:) || true
done
use "TLS, by way of nbdkit" -unix "$work/kit" /dev/nbd0 -N ''
kill "$kit"
