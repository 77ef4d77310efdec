#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nbd_servers.sh CONTRACT_TEST: the backend contract against nbdkit, qemu-nbd and nbd-server, over UNIX
# sockets and TCP on loopback, writable and read-only, and with TLS (nbdkit and qemu-nbd).
# Exit 0 passed, 1 failed, 77 skipped: what it needs is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/wait.sh"

contract=$(realpath "${1:?usage: nbd_servers.sh CONTRACT_TEST}")
PATH=$PATH:/usr/sbin
missing=()
for program in nbdkit qemu-nbd nbd-server openssl; do
	type -P "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]})); then
	echo "skipped: not installed: ${missing[*]}"
	exit 77
fi

dir=$(mktemp -d)
pids=()
finish() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# serve NAME COMMAND...: a server that stays in the foreground and writes $dir/NAME.pid when it listens.
serve() {
	local name=$1
	shift
	"$@" >"$dir/$name.log" 2>&1 </dev/null &
	pids+=($!)
	wait_until "$name" test -s "$dir/$name.pid"
}

image() {
	truncate -s 3M "$dir/$1.img"
	echo "$dir/$1.img"
}

check() { # NAME URL
	echo "== $1"
	HITHER_CONTRACT_URL=$2 HITHER_CONTRACT_WRITABLE=1 "$contract"
}

check_read_only() { # NAME URL IMAGE
	echo "== $1"
	HITHER_CONTRACT_URL=$2 HITHER_CONTRACT_CONTENT=$3 "$contract"
}

kit() { # NAME OPTION...
	local file
	file=$(image "$1")
	serve "$1" nbdkit --foreground --pidfile="$dir/$1.pid" "${@:2}" file "$file"
}

qemu() { # NAME OPTION...
	local file
	file=$(image "$1")
	serve "$1" qemu-nbd --persistent --shared=8 --format=raw --pid-file="$dir/$1.pid" \
		"${@:2}" "$file"
}

nbd_server() { # NAME CONFIG_LINE...: leaves the foreground, else it serves one client at a time
	local file
	file=$(image "$1")
	{
		printf '[generic]\n'
		printf '%s\n' "${@:2}"
		printf '[disk]\nexportname = %s\nflush = true\nfua = true\n' "$file"
	} >"$dir/$1.conf"
	nbd-server -C "$dir/$1.conf" -p "$dir/$1.pid" >"$dir/$1.log" 2>&1 </dev/null
	wait_until "$1" test -s "$dir/$1.pid"
	pids+=("$(<"$dir/$1.pid")")
}

make_certificates() { # in $dir/pki
	local who pki=$dir/pki
	mkdir "$pki"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj '/CN=test CA' -keyout "$pki/ca-key.pem" -out "$pki/ca-cert.pem"
	for who in server client; do
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$who" \
			-keyout "$pki/$who-key.pem" -out "$dir/$who.csr"
		printf 'extendedKeyUsage=%sAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n' "$who" \
			>"$dir/$who.ext"
		openssl x509 -req -in "$dir/$who.csr" -days 2 -out "$pki/$who-cert.pem" \
			-CA "$pki/ca-cert.pem" -CAkey "$pki/ca-key.pem" -CAcreateserial \
			-extfile "$dir/$who.ext"
	done
}

kit kit-unix --unix="$dir/kit.sock"
check 'nbdkit, UNIX socket' "nbd+unix:///?socket=$dir/kit.sock"
port=$(free_port)
kit kit-tcp --ipaddr=127.0.0.1 --port="$port"
check 'nbdkit, TCP' "nbd://127.0.0.1:$port"
head -c 3M /dev/urandom >"$dir/kit-ro.img"
kit kit-ro --unix="$dir/kit-ro.sock" --readonly
check_read_only 'nbdkit, read-only' "nbd+unix:///?socket=$dir/kit-ro.sock" "$dir/kit-ro.img"

qemu qemu-unix --socket="$dir/qemu.sock" --export-name=disk
check 'qemu-nbd, UNIX socket' "nbd+unix:///disk?socket=$dir/qemu.sock"
port=$(free_port)
qemu qemu-tcp --bind=127.0.0.1 --port="$port"
check 'qemu-nbd, TCP' "nbd://127.0.0.1:$port"

nbd_server server-unix "unixsock = $dir/server.sock" 'listenaddr = 127.0.0.1' "port = $(free_port)"
check 'nbd-server, UNIX socket' "nbd+unix:///disk?socket=$dir/server.sock"
port=$(free_port)
nbd_server server-tcp 'listenaddr = 127.0.0.1' "port = $port"
check 'nbd-server, TCP' "nbd://127.0.0.1:$port/disk"

make_certificates >"$dir/pki.log" 2>&1
port=$(free_port)
kit kit-tls --ipaddr=127.0.0.1 --port="$port" --tls=require --tls-certificates="$dir/pki" \
	--tls-verify-peer
check 'nbdkit, TLS' "nbds://127.0.0.1:$port/?tls-certificates=$dir/pki"
port=$(free_port)
qemu qemu-tls --bind=127.0.0.1 --port="$port" --tls-creds=tls0 \
	--object="tls-creds-x509,id=tls0,endpoint=server,verify-peer=yes,dir=$dir/pki"
check 'qemu-nbd, TLS' "nbds://127.0.0.1:$port/?tls-certificates=$dir/pki"
mkdir "$dir/psk"
echo "test:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >"$dir/psk/keys.psk"
kit kit-psk --unix="$dir/kit-psk.sock" --tls=require --tls-psk="$dir/psk/keys.psk"
check 'nbdkit, pre-shared key' \
	"nbds+unix://test@/?socket=$dir/kit-psk.sock&tls-psk-file=$dir/psk/keys.psk"
