# SPDX-License-Identifier: Apache-2.0
"""A web server of a folder, in the test's own process, that counts what it is asked for and can serve a
file damaged."""
import http.server
import os
import re
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        web = self.server
        name = urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/")
        try:
            with open(os.path.join(web.root, name), "rb") as f:
                content, status = f.read(), os.fstat(f.fileno())
        except OSError:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(found[1]) if found else 0
        end = min(int(found[2]) + 1 if found and found[2] else len(content), len(content))
        with web.lock:
            web.asked.append((name, first, end))
            damage = web.damage.get(name)
            if damage and first <= damage[0] < end and damage[1] > 0:
                damage[1] -= 1
                content = bytearray(content)
                content[damage[0]] ^= 0x20
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        if self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.send_header("ETag", etag)
            self.end_headers()
            return
        if first >= len(content) and content:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if found and content else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(end - first))
        if found and content:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first:end])


class Web(http.server.ThreadingHTTPServer):
    """asked: (name, first, end) of every request. damage: {name: [offset, how many times]}."""
    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.asked, self.damage, self.lock = root, [], {}, threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, *_):
        pass  # a client that was killed
