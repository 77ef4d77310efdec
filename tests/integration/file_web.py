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

    def setup(self):
        with self.server.lock:
            self.server.connections += 1
        super().setup()

    def log_message(self, *_):
        pass

    def do_GET(self):
        web = self.server
        name = urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/")
        if web.away:
            self.close_connection = True
            return
        ranges = re.findall(r"(\d*)-(\d*)", self.headers.get("Range", "")) if web.ranges else []
        try:
            with open(os.path.join(web.root, name), "rb") as f:
                status = os.fstat(f.fileno())
                size = status.st_size
                parts = [(int(a), min(int(b) + 1 if b else size, size)) if a else (max(size - int(b), 0), size)
                         for a, b in ranges] or [(0, size)]
                bodies = []
                for first, end in parts:
                    f.seek(first)
                    bodies.append(bytearray(f.read(max(end - first, 0))))
        except OSError:
            self.answer(404)
            return
        with web.lock:
            for (first, end), body in zip(parts, bodies):
                if first < end or not first:
                    web.asked.append((name, first, end))
                damage = web.damage.get(name)
                if damage and first <= damage[0] < end and damage[1] > 0:
                    damage[1] -= 1
                    body[damage[0] - first] ^= 0x20
        etag = f'"{status.st_mtime_ns:x}-{size:x}"'
        if self.headers.get("If-None-Match") == etag:
            self.answer(304, ETag=etag)
        elif any(first >= size for first, _ in parts) and size:
            self.answer(416)
        elif not ranges or not size:
            self.answer(200, bodies[0], ETag=etag)
        elif len(parts) == 1:
            self.answer(206, bodies[0], ETag=etag, Content_Range=f"bytes {parts[0][0]}-{parts[0][1] - 1}/{size}")
        else:
            body = b""
            for (first, end), part in zip(parts, bodies):
                body += f"\r\n--PART\r\nContent-Range: bytes {first}-{end - 1}/{size}\r\n\r\n".encode() + part
            self.answer(206, body + b"\r\n--PART--\r\n", ETag=etag,
                        Content_Type="multipart/byteranges; boundary=PART")

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if code != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Web(http.server.ThreadingHTTPServer):
    """asked: (name, first, end) of every request, but for what lies beyond the end. damage: {name: [offset, how many
    times]}. away: nobody is answered. ranges: they are answered as such. connections: made so far."""
    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.asked, self.damage, self.lock = root, [], {}, threading.Lock()
        self.away, self.ranges, self.connections = False, True, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def fetched(self, prefix):
        """Bytes of files whose names begin so that were asked for, each counted once however often."""
        total = 0
        with self.lock:
            asked = sorted(x for x in self.asked if x[0].startswith(prefix))
        last, until = None, 0
        for name, first, end in asked:
            if name != last:
                last, until = name, 0
            total += max(end - max(first, until), 0)
            until = max(until, end)
        return total

    def told_while_away(self, process):
        """Nobody is answered any more: the next line that the program tells in its pipe; then it is ended."""
        self.away = True
        told = process.stderr.readline()
        process.terminate()
        process.communicate(timeout=20)
        self.away = False
        return told

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, *_):
        pass  # a client that was killed
