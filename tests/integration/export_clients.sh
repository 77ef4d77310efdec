#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# export_clients.sh HITHER: the NBD export and clients that others wrote (libnbd's and QEMU's tools,
# fio), over TCP, a UNIX socket, TLS with keys and with certificates; and clients that mean ill.
# Exit 0 passed, 1 failed, 77 skipped.
set -euo pipefail

hither=$1
for tool in nbdinfo nbdcopy qemu-io qemu-img fio openssl python3 cmp; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is missing"; exit 77; }
done

work=$(mktemp -d)
pids=()
cleanup() {
  [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "failed: $*"
  cat "$work"/*.log 2>/dev/null || true
  exit 1
}

source "$(dirname "${BASH_SOURCE[0]}")/export_server.sh"

with_descriptors() {
  [ -z "${DESCRIPTORS:-}" ] || ulimit -n "$DESCRIPTORS"
  exec "$@"
}

# serve NAME OPTIONS...: sets port and pid; the export is the file $work/NAME.img, 32 MiB. DESCRIPTORS: so
# many it may have.
serve() {
  local name=$1
  shift
  truncate -s $((32 << 20)) "$work/$name.img"
  start_export "$work/$name.log" with_descriptors \
    "$hither" export --foreground --cache none -l 127.0.0.1:0 "$@" "file:$work/$name.img=disk"
  pids+=("$pid")
}

# use URI NAME: everything that clients do.
use() {
  local uri=$1 name=$2
  nbdinfo --json "$uri" >"$work/info" || fail "nbdinfo $uri"
  python3 - "$work/info" <<'END' || fail "nbdinfo --json: $(cat "$work/info")"
import json, sys
export = json.load(open(sys.argv[1]))["exports"][0]
assert export["export-size"] == 32 << 20, export["export-size"]
for name in ("can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero", "can_cache", "can_fast_zero"):
    assert export[name], name
assert not export["is_read_only"]
assert "base:allocation" in export["contexts"], export["contexts"]
END
  nbdinfo --list "$uri" | grep -q 'export="disk"' || fail "nbdinfo --list"
  head -c $((32 << 20)) /dev/urandom >"$work/random"
  nbdcopy "$work/random" "$uri" || fail "nbdcopy to"
  nbdcopy --connections=4 "$uri" "$work/back" || fail "nbdcopy from"
  cmp "$work/random" "$work/back" || fail "nbdcopy"
  nbdinfo --map "$uri" >/dev/null || fail "nbdinfo --map"
  nbdinfo --map=hither:dirty "$uri" >/dev/null || fail "nbdinfo --map=hither:dirty"
  # fio lets libnbd read no files that a URI names.
  [[ $uri == nbds* ]] || verify "$uri"
}

# verify URI: fio's.
verify() {
  HOME="$work/home" fio --name=verify --ioengine=nbd "--uri=$1" --rw=randwrite --bs=4k-512k --iodepth=16 --size=32m \
    --verify_state_save=0 --verify=crc32c --verify_fatal=1 --do_verify=1 --thread --output="$work/fio" >/dev/null 2>&1 ||
    fail "fio: $(cat "$work/fio")"
}

# use_qemu HOST [CREDENTIALS]: QEMU's tools, to which an object tells of keys and certificates.
use_qemu() {
  local image="driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=$1,file.server.port=$port"
  local object=()
  image+=",file.export=disk"
  if [ $# -gt 1 ]; then
    object=(--object "$2,id=tls0,endpoint=client")
    image+=",file.tls-creds=tls0"
  fi
  qemu-io "${object[@]}" --image-opts "$image" -c 'write -P 0x5a 0 1M' -c 'write -P 0xa5 -f 1M 64k' -c 'write -z 512k 256k' \
    -c 'discard 2M 1M' -c 'aio_write -P 7 3M 1M' -c 'aio_read 0 1M' -c aio_flush -c flush \
    -c 'read -P 0x5a 0 512k' -c 'read -P 0 512k 256k' -c 'read -P 0x5a 768k 256k' \
    -c 'read -P 0xa5 1M 64k' -c 'read -P 7 3M 1M' >"$work/qemu" 2>&1 || fail "$(cat "$work/qemu")"
  grep -qi 'pattern verification failed\|error' "$work/qemu" && fail "$(cat "$work/qemu")"
  qemu-img convert "${object[@]}" --image-opts "$image" -O raw "$work/copy" || fail "qemu-img convert"
  qemu-img compare "${object[@]}" --image-opts "$image" "driver=raw,file.driver=file,file.filename=$work/copy" \
    >/dev/null || fail "qemu-img compare"
  qemu-img map "${object[@]}" --output=json --image-opts "$image" >/dev/null || fail "qemu-img map"
}

# nbdkit as a client, in the middle of a chain.
use_nbdkit() {
  command -v nbdkit >/dev/null || return 0
  nbdkit -U - nbd "uri=$1" --run "nbdcopy \"$work/random\" \"\$uri\" && nbdcopy \"\$uri\" \"$work/back\"" || fail "nbdkit nbd"
  cmp "$work/random" "$work/back" || fail "nbdkit nbd"
}

# Out of descriptors: who is in is served, the others wait, and come in when there are some again.
use_few_descriptors() {
  python3 - "$port" <<'END' || fail "few descriptors"
import socket, sys
port = int(sys.argv[1])

def greeted(s, seconds):
    s.settimeout(seconds)
    try:
        return s.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
    except TimeoutError:
        return False

crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
assert greeted(crowd[0], 5), "the first one is not served"
assert not greeted(crowd[70], 0.5), "there are descriptors for all"
for s in crowd[:80]:
    s.close()
assert greeted(crowd[-1], 20), "nobody comes in any more"
for s in crowd[80:]:
    s.close()
END
  nbdinfo --size "nbd://127.0.0.1:$port/disk" >/dev/null || fail "nobody is served any more"
  grep -q 'Too many open files' "$work/few.log" || fail "nothing was said"
}

# Whoever means ill is dropped, takes little memory, and the next one is served.
use_ill() {
  python3 - "$port" "$pid" <<'END' || fail "ill clients"
import os, socket, struct, sys, time
port, pid = int(sys.argv[1]), int(sys.argv[2])
MAGIC, OPT = b"NBDMAGIC", b"IHAVEOPT"

def rss():
    return next(int(l.split()[1]) for l in open(f"/proc/{pid}/status") if l.startswith("VmRSS"))

def come(timeout=30):
    s = socket.create_connection(("127.0.0.1", port), timeout)
    return s

def greet():
    s = come()
    assert s.recv(18, socket.MSG_WAITALL)[:16] == MAGIC + OPT
    s.sendall(struct.pack(">I", 3))
    return s

def go():
    s = greet()
    name = b"disk"
    s.sendall(OPT + struct.pack(">IIIx", 7, 6 + len(name), len(name))[:12] + name + b"\0\0")
    # NBD_OPT_GO: 16 bytes of header, 4 of name's length
    while True:
        head = s.recv(20, socket.MSG_WAITALL)
        kind, length = struct.unpack(">II", head[12:])
        s.recv(length, socket.MSG_WAITALL) if length else None
        if kind == 1:
            return s

def ends(s):
    """The server hangs up; with a reset where it left something unread."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    s.close()

def send(s, data):
    try:
        s.sendall(data)
    except ConnectionError:
        pass

def works():
    s = go()
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 512))
    assert len(s.recv(16 + 512, socket.MSG_WAITALL)) == 528
    s.close()

works()
before = rss()
s = come(); send(s, os.urandom(4096)); ends(s)                      # garbage
s = greet(); send(s, OPT + struct.pack(">II", 7, 0xffffffff)); ends(s)  # a huge option
s = go(); send(s, os.urandom(28)); ends(s)                          # no request
for kind in (0, 1, 4, 6):                                           # huge lengths
    s = go(); send(s, struct.pack(">IHHQQI", 0x25609513, 0, kind, 7, 1 << 62, 0xffffffff))
    if kind == 1:
        s.close()
    else:
        answer = s.recv(16, socket.MSG_WAITALL)
        assert len(answer) < 16 or struct.unpack(">I", answer[4:8])[0] != 0, kind
        s.close()
halves = [greet() for _ in range(20)] + [go() for _ in range(20)]   # half messages, left open
for s in halves:
    send(s, OPT[:5])
works()
for s in halves:
    s.close()
# A reader that stops: asks for 64 times 8 MiB, and takes none.
stuck = go()
for i in range(64):
    send(stuck, struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 0, 8 << 20))
works()
# Two thousand connections: most are turned away, in silence, and then it goes on.
crowd = []
for _ in range(2000):
    try:
        crowd.append(come())
    except OSError:
        pass
for s in crowd:
    try:
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it was hung up on
    ends(s)
stuck.close()
works()
grown = rss() - before
assert grown < 128 << 10, f"{grown} KiB more"
print(f"ill clients: {grown} KiB more memory")
END
}

serve plain -l "unix:$work/socket"
use "nbd://127.0.0.1:$port/disk" plain
use "nbd+unix:///disk?socket=$work/socket" plain
use_qemu 127.0.0.1
use_nbdkit "nbd://127.0.0.1:$port/disk"
use_ill
finish_export
nbdinfo "nbd://127.0.0.1:$port/disk" >/dev/null 2>&1 && fail "it is still there"
DESCRIPTORS=64 serve few --max-connections 5000
use_few_descriptors
finish_export
echo "plain: passed"

mkdir "$work/psk"
echo "user:$(openssl rand -hex 32)" >"$work/keys.psk"
chmod 600 "$work/keys.psk"
cp "$work/keys.psk" "$work/psk"
serve keys --tls-psk "$work/keys.psk"
use "nbds://user@127.0.0.1:$port/disk?tls-psk-file=$work/keys.psk" keys
use_qemu 127.0.0.1 "tls-creds-psk,dir=$work/psk,username=user"
nbdinfo "nbd://127.0.0.1:$port/disk" >/dev/null 2>&1 && fail "it talks without TLS"
echo "user:$(openssl rand -hex 32)" >"$work/other.psk"
nbdinfo "nbds://user@127.0.0.1:$port/disk?tls-psk-file=$work/other.psk" >/dev/null 2>&1 &&
  fail "a wrong key is taken"
finish_export
echo "TLS with keys: passed"

# issue NAME SUBJECT-ALTERNATIVE: a certificate that ca-cert.pem vouches for.
mkdir "$work/pki"
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
serve certificates --tls-certificates "$work/pki" --tls-verify-peer
use "nbds://localhost:$port/disk?tls-certificates=$work/pki" certificates
use_qemu localhost "tls-creds-x509,dir=$work/pki"
mkdir "$work/bare"
cp "$work/pki/ca-cert.pem" "$work/bare"
nbdinfo --size "nbds://localhost:$port/disk?tls-certificates=$work/bare" >/dev/null 2>&1 &&
  fail "a client without a certificate is taken"
finish_export
mkdir -p "$work/home/.pki"
ln -s "$work/bare" "$work/home/.pki/libnbd"
serve anybody --tls-certificates "$work/pki"
verify "nbds://localhost:$port/disk"
finish_export
echo "TLS with certificates: passed"
