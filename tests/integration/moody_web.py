# SPDX-License-Identifier: Apache-2.0
"""A web server with moods, in the test's own process: what it serves is made up as it is asked for, so
that a tebibyte costs nothing, and it can answer wrongly in every way that a mount has to survive."""
import email.utils
import http.server
import re
import struct
import threading

PAGE = 4096
MODIFIED = 784111777  # every resource's Last-Modified, seconds since 1970


def content(offset, length):
    """Bytes [offset, offset + length) of every resource: each page repeats a number of its own."""
    first, last = offset // PAGE, (offset + length + PAGE - 1) // PAGE
    pages = b"".join(struct.pack("<Q", (page * 0x9E3779B97F4A7C15) % 2**64) * (PAGE // 8)
                     for page in range(first, last))
    return pages[offset - first * PAGE:][:length]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *_):
        pass

    def empty(self, code, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": 0, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def part(self, code, first, end, content_range=None):
        web = self.server
        self.send_response(code)
        self.send_header("ETag", web.etag)
        self.send_header("Last-Modified", email.utils.formatdate(MODIFIED, usegmt=True))
        self.send_header("Content-Length", end - first)
        if code == 206:
            self.send_header("Content-Range", content_range or f"bytes {first}-{end - 1}/{web.size}")
        self.end_headers()
        while first < end:
            step = min(end - first, 1 << 18)
            self.wfile.write(content(first, step))
            first += step

    def good(self, first, end):
        self.part(206, first, end)

    def missing(self, *_):
        self.empty(404)

    def busy(self, *_):
        self.empty(503, Retry_After=1)

    def round_and_round(self, *_):
        self.empty(302, Location=self.path + "x")

    def unsatisfied(self, *_):
        self.empty(416, Content_Range=f"bytes */{self.server.size}")

    def elsewhere(self, first, end):
        self.part(206, first, end, f"bytes {first + PAGE}-{end + PAGE - 1}/{self.server.size}")

    def whole(self, *_):
        self.part(200, 0, self.server.size)

    def cut(self, first, end):
        """Half of what was asked for, and then the line is dead."""
        self.send_response(206)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", end - first)
        self.send_header("Content-Range", f"bytes {first}-{end - 1}/{self.server.size}")
        self.end_headers()
        self.wfile.write(content(first, (end - first) // 2))
        self.close_connection = True

    def do_GET(self):
        web = self.server
        with web.lock:
            web.requests += 1
            web.now += 1
            web.most = max(web.most, web.now)
        try:
            asked = re.fullmatch(r"bytes=(\d*)-(\d+)", self.headers.get("Range", ""))
            first, last = (asked[1], int(asked[2])) if asked else (0, web.size - 1)
            first, last = (int(first), last) if first != "" else (max(web.size - last, 0), web.size - 1)
            if self.headers.get("If-None-Match") == web.etag:
                self.empty(304, ETag=web.etag, Last_Modified=email.utils.formatdate(MODIFIED, usegmt=True))
            elif first >= web.size:
                self.unsatisfied()
            else:
                getattr(self, web.mood)(first, min(last + 1, web.size))
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        finally:
            with web.lock:
                web.now -= 1


class Web(http.server.ThreadingHTTPServer):
    """In a with block. mood: the name of one of Handler's ways to answer. It and size, etag may change."""
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, size, mood="good"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.size, self.mood, self.etag = size, mood, '"1"'
        self.lock = threading.Lock()
        self.requests = self.now = self.most = 0
        self.port = self.server_address[1]
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        pass

    def url(self, name="data"):
        return f"http://127.0.0.1:{self.port}/{name}"
