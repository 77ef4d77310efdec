#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# http_nginx.sh CONTRACT_TEST HITHER: the http backend against nginx on loopback: the backend contract,
# how many requests and connections there are, TLS with all its files and through a proxy, names and
# passwords, redirects, a server without ranges, one that speaks nothing but HTTP/2, and one that dies and comes back.
# Exit 0 passed, 1 failed, 77 skipped: what it needs is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/wait.sh"

contract=$(realpath "${1:?usage: http_nginx.sh CONTRACT_TEST HITHER}")
hither=$(realpath "${2:?usage: http_nginx.sh CONTRACT_TEST HITHER}")
PATH=$PATH:/usr/sbin
missing=()
for program in nginx openssl python3 cmp; do
	type -P "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]})); then
	echo "skipped: not installed: ${missing[*]}"
	exit 77
fi
unset "${!http_proxy@}" "${!https_proxy@}" "${!all_proxy@}" "${!HTTPS_PROXY@}" "${!ALL_PROXY@}"

dir=$(mktemp -d)
chmod 755 "$dir" # nginx's worker may be another user
export HOME=$dir/home
pids=()
finish() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

listens() { (: <"/dev/tcp/127.0.0.1/$1"); }

fail() {
	echo "$*" >&2
	exit 1
}

make_certificates() { # in $dir/pki
	local who pki=$dir/pki
	mkdir "$pki"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj '/CN=test CA' -keyout "$pki/ca-key.pem" -out "$pki/ca.pem"
	for who in server client; do
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$who" \
			-keyout "$pki/$who-key.pem" -out "$dir/$who.csr"
		printf 'extendedKeyUsage=%sAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n' "$who" \
			>"$dir/$who.ext"
		openssl x509 -req -in "$dir/$who.csr" -days 2 -out "$pki/$who.pem" \
			-CA "$pki/ca.pem" -CAkey "$pki/ca-key.pem" -CAcreateserial -extfile "$dir/$who.ext"
	done
}

write_configuration() {
	local user_line=
	((EUID != 0)) || user_line='user root;'
	cat >"$dir/nginx.conf" <<-CONF
		$user_line
		daemon off;
		worker_processes 1;
		pid $dir/nginx.pid;
		error_log $dir/nginx.log;
		events { worker_connections 512; }
		http {
			log_format full '\$connection \$status \$server_protocol \$request_uri \$http_range';
			access_log $dir/access full;
			client_body_temp_path $dir/tmp; proxy_temp_path $dir/tmp; fastcgi_temp_path $dir/tmp;
			uwsgi_temp_path $dir/tmp; scgi_temp_path $dir/tmp;
			server {
				listen 127.0.0.1:$http;
				listen 127.0.0.1:$https ssl http2;
				listen 127.0.0.1:$clear_http2 http2;
				ssl_certificate $dir/pki/server.pem;
				ssl_certificate_key $dir/pki/server-key.pem;
				ssl_client_certificate $dir/pki/ca.pem;
				ssl_verify_client optional;
				root $dir/www;
				location / { }
				location /auth/ {
					alias $dir/www/;
					auth_basic test;
					auth_basic_user_file $dir/passwords;
				}
				location /client-cert/ {
					alias $dir/www/;
					if (\$ssl_client_verify != SUCCESS) { return 403; }
				}
				location /redirect/ { rewrite ^/redirect/(.*)\$ http://localhost:$http/\$1 redirect; }
				location /secure/ { rewrite ^/secure/(.*)\$ https://127.0.0.1:$https/\$1 redirect; }
				location /no-range/ { alias $dir/www/; max_ranges 0; }
				location /slow/ { alias $dir/www/; limit_rate 1m; }
				location /busy/ { add_header Retry-After 1 always; return 503; }
			}
		}
	CONF
}

start_nginx() {
	nginx -e "$dir/nginx.log" -p "$dir" -c "$dir/nginx.conf" >"$dir/nginx-out.log" 2>&1 </dev/null &
	nginx=$!
	pids+=("$nginx")
	wait_until nginx listens "$https"
}
stop_nginx() {
	kill "$nginx"
	wait "$nginx" 2>/dev/null || true
}

# same NAME URL [OPTION...]: hither cat gives the bytes of www/NAME.
same() {
	"$hither" cat "${@:3}" "$2" | cmp - "$dir/www/$1"
}

# refused WORDS URL [OPTION...]: hither cat fails, and says so with these words.
refused() {
	local said
	if said=$("$hither" cat "${@:3}" "$2" 2>&1 >/dev/null); then
		fail "$2 should have failed"
	fi
	[[ $said == *"$1"* ]] || fail "$2: expected \"$1\", not: $said"
}

mkdir "$dir/www" "$dir/tmp" "$dir/home"
head -c 3M /dev/urandom >"$dir/www/data"
head -c 100K /dev/urandom >"$dir/www/small"
: >"$dir/www/empty"
echo 'me:{PLAIN}secret' >"$dir/passwords"
make_certificates >"$dir/pki.log" 2>&1
http=$(free_port) https=$(free_port) clear_http2=$(free_port)
write_configuration
start_nginx
plain=http://127.0.0.1:$http
tls=https://127.0.0.1:$https

echo '== the contract'
HITHER_CONTRACT_URL=$plain/data HITHER_CONTRACT_CONTENT=$dir/www/data "$contract"
HITHER_CONTRACT_URL=$plain/no-range/small HITHER_CONTRACT_CONTENT=$dir/www/small "$contract"
same empty "$plain/empty"
same empty "$plain/no-range/empty"
refused 'does not support range requests' "$plain/no-range/data"

echo '== opening is one request, and its connection is used again'
: >"$dir/access"
"$hither" cat -j 1 "$plain/data" 0-4095 | cmp -n 4096 - "$dir/www/data"
wait_until 'a line in the log' grep -q ' /data ' "$dir/access"
# What was given up just before may be logged only now.
mapfile -t lines < <(grep -v ' /no-range/' "$dir/access")
[[ ${#lines[@]} == 1 && ${lines[0]} == *' 206 HTTP/1.1 /data bytes=0-8191' ]] ||
	fail "one request was expected, not: ${lines[*]}"
: >"$dir/access"
"$hither" cat -j 1 "$plain/data" 1M- | cmp -i 0:1M - "$dir/www/data"
wait_until 'the last line in the log' grep -q -- '-3145727$' "$dir/access"
((1 < $(wc -l <"$dir/access"))) || fail 'no request but the first'
connections=$(cut -d ' ' -f 1 "$dir/access" | sort -u | wc -l)
((connections == 1)) || fail "$connections connections for one request at a time"

echo '== TLS'
same data "$tls/data" --ca-file "$dir/pki/ca.pem"
same data "$tls/data" --insecure
same data "$plain/secure/data" --ca-file "$dir/pki/ca.pem"
refused '--ca-file' "$tls/data"
refused 'no-such-file' "$tls/data" --ca-file "$dir/no-such-file"
refused 403 "$tls/client-cert/data" --insecure
same data "$tls/client-cert/data" --insecure --cert-file "$dir/pki/client.pem" \
	--key-file "$dir/pki/client-key.pem"

echo '== names and passwords'
same data "$plain/auth/data" --user me:secret
same data "http://me:secret@127.0.0.1:$http/auth/data"
refused '--user' "$plain/auth/data"
refused 'check --user' "$plain/auth/data" --user me:guess
echo 'machine 127.0.0.1 login me password secret' >"$HOME/.netrc"
chmod 600 "$HOME/.netrc"
same data "$plain/auth/data"
rm "$HOME/.netrc"

echo '== redirects, and a server that is busy'
same data "$plain/redirect/data"
refused 'answered 503' "$plain/busy/data" --connect-timeout 500ms

echo '== TLS through a proxy'
cat >"$dir/proxy.py" <<'PYTHON'
# A proxy that only makes tunnels; the words in front of the host are its answer to others.
import socket, sys, threading
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
def serve(client):
    asked = b""
    while b"\r\n\r\n" not in asked:
        data = client.recv(4096)
        if not data:
            return
        asked += data
    method, target = asked.split(b" ", 2)[:2]
    host, port = target.decode().rsplit(":", 1)
    if method != b"CONNECT" or host != "127.0.0.1":
        answer = host.split(".")[0]
        client.sendall(f"HTTP/1.1 {answer} no\r\nContent-Length: 4\r\n\r\nwhy\n".encode())
        return client.close()
    server = socket.create_connection((host, int(port)))
    # What a proxy says of itself here is about nothing that was asked for.
    client.sendall(b"HTTP/1.1 200 Connection established\r\nETag: \"proxy\"\r\nVia: test\r\n\r\n")
    threading.Thread(target=pump, args=(client, server), daemon=True).start()
    pump(server, client)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PYTHON
proxy=$(free_port)
python3 "$dir/proxy.py" "$proxy" >"$dir/proxy.log" 2>&1 &
pids+=($!)
wait_until 'the proxy' listens "$proxy"
same data "$tls/data" --insecure --proxy "http://127.0.0.1:$proxy"
HTTPS_PROXY=http://127.0.0.1:$proxy same small "$tls/no-range/small" --insecure
refused 'the proxy wants a name and password' https://407.test/data --proxy "http://127.0.0.1:$proxy"
refused 'answer 403' https://403.test/data --proxy "http://127.0.0.1:$proxy"
refused 'answer 502' https://502.test/data --proxy "http://127.0.0.1:$proxy"

echo '== HTTP/2 alone'
cat >"$dir/http2_only.py" <<'PYTHON'
# TLS in front of a clear-text HTTP/2 server; hangs up on clients that do not offer "h2".
import socket, ssl, sys, threading
port, inner, certificate, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["h2"])
def serve(raw):
    try:
        client = context.wrap_socket(raw, server_side=True)
        if client.selected_alpn_protocol() != "h2":
            return client.close()
        server = socket.create_connection(("127.0.0.1", inner))
        client.settimeout(0.01)
        server.settimeout(0.01)
        while True:
            for a, b in ((client, server), (server, client)):
                try:
                    data = a.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    return
                b.settimeout(None)
                b.sendall(data)
                b.settimeout(0.01)
    except OSError:
        pass
    finally:
        raw.close()
listener = socket.create_server(("127.0.0.1", port))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PYTHON
http2_only=$(free_port)
python3 "$dir/http2_only.py" "$http2_only" "$clear_http2" "$dir/pki/server.pem" \
	"$dir/pki/server-key.pem" >"$dir/http2.log" 2>&1 &
pids+=($!)
wait_until 'the HTTP/2 server' listens "$http2_only"
: >"$dir/access"
same small "https://127.0.0.1:$http2_only/small" --ca-file "$dir/pki/ca.pem"
wait_until 'HTTP/2 in the log' grep -q 'HTTP/2.0 /small' "$dir/access"

echo '== a server that dies and comes back'
for url in "$plain" "$tls"; do
	rm -f "$dir/out"
	"$hither" cat --insecure "$url/slow/data" >"$dir/out" &
	reader=$!
	pids+=("$reader")
	wait_until 'some bytes' test -s "$dir/out"
	stop_nginx
	start_nginx
	wait "$reader" || fail "reading $url/slow/data failed"
	cmp "$dir/out" "$dir/www/data"
done
echo passed
