#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stream.py BUILD: hither-stream with real players, and with clients that behave badly.

Ten differently made MP4s with their index at the end are served over a slow line: through the endpoint (virtual
faststart) and through a mounted path every frame decodes to the same hash as of the plain file, without an error.
Exit 0 passed, 1 failed, 77 skipped.
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import media_files
from nbd_line import Failed, expect, need, run
from rig.network import LinkNetwork
from rig.process import Room, is_mount, wait_until
from rig.web import Web


class Endpoint:
    """hither-stream serve, on a port of its own."""

    def __init__(self, room, build, url, *options, files=None):
        limit = ["prlimit", f"--nofile={files}"] if files else []
        self.process = room.start([*limit, os.path.join(build, "apps/stream/hither-stream"), "serve", "--cache", "none",
                                   "--listen", "127.0.0.1:0", *options, url], stdout=subprocess.PIPE)
        self.said = self.process.stdout.readline().decode()
        expect(self.said.startswith("http://127.0.0.1:"), f"it did not start: {self.said}{self.log()}")
        self.url = self.said.split(": ")[0]
        self.port = int(self.url.split(":")[2].rstrip("/"))

    def log(self):
        with open(self.process.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def ask(self, path, method="GET", **headers):
        """status, headers, body"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        c.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = c.getresponse()
        body = answer.read()
        c.close()
        return answer.status, answer.headers, body

    def status(self, query=""):
        return json.loads(self.ask("/status" + query)[2])

    def end(self, seconds=5):
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        expect(code == 0, f"serve ended with {code}: {self.log()}")
        expect(time.monotonic() - begin < seconds, "serve took long to end")


def decodes_the_same(room, build, web, paths):
    hither = os.path.join(build, "apps/hither/hither")
    stream = os.path.join(build, "apps/stream/hither-stream")
    for name, path in paths.items():
        expected = media_files.frames(path)
        expect(expected[0].count("\n") > 50 and not expected[2], f"{name}: {expected[2] or 'too few frames'}")
        endpoint = Endpoint(room, build, web.url(name))
        expect("its index in front" in endpoint.said, f"{name} is not laid out anew")
        got = media_files.frames(endpoint.url + "media/" + name)
        expect(got == expected, f"{name}: other frames through the endpoint: {got[2]}")
        endpoint.end()
        mounted = room.path("mounted-" + name)
        room.will_unmount(mounted)
        run([stream, "mount", "--cache", "none", web.url(name), mounted])
        expect(media_files.frames(mounted) == expected, f"{name}: other frames through the mount")
        run([hither, "umount", mounted])
        expect(not os.path.exists(mounted), f"{name}: the mount left its file")
    print(f"{len(paths)} files decode to the same frames, through the endpoint and through a mount")


def lays_out_odd_files(room, build, web):
    """What no muxer makes; an index that is not understood is left where it is, since players may understand it."""
    odd, kept = media_files.make_odd(room.path("www", "plain.mp4"), room.path("www"))
    for name, path in (odd | kept).items():
        expected = media_files.frames(path)
        expect(expected[0].count("\n") > 50, f"{name}: too few frames")
        endpoint = Endpoint(room, build, web.url(name))
        expect(("its index in front" in endpoint.said) == (name in odd), f"{name}: {endpoint.said}")
        got = media_files.frames(endpoint.url + "media/" + name)
        expect(got[:2] == expected[:2], f"{name}: other frames through the endpoint: {got[2]}")
        endpoint.end()


def top_boxes(endpoint):
    """Types of the first boxes, by Range requests."""
    kinds, at = [], 0
    for _ in range(4):
        body = endpoint.ask("/media", Range=f"bytes={at}-{at + 15}")[2]
        kinds.append(body[4:8])
        size = int.from_bytes(body[:4], "big")
        at += int.from_bytes(body[8:16], "big") if size == 1 else size
    return kinds


def answers_as_http_says(endpoint, path):
    size = os.path.getsize(path)
    expect(top_boxes(endpoint)[1] == b"moov", "the index is not in front")
    status, headers, body = endpoint.ask("/media")
    expect(status == 200 and len(body) == int(headers["Content-Length"]) == size, f"{status}, {len(body)}")
    with open(path, "rb") as file:
        plain = file.read()
    media = plain[plain.index(b"mdat"):plain.index(b"moov") - 4]
    expect(media in body, "media bytes were changed")
    for given, first, length in (("bytes=0-0", 0, 1), ("bytes=-7", size - 7, 7), ("bytes=100-", 100, size - 100),
                                 (f"bytes={size - 5}-{10 ** 30}", size - 5, 5)):
        status, headers, part = endpoint.ask("/media", Range=given)
        expect(status == 206 and part == body[first:first + length], f"{given}: {status}, {len(part)} bytes")
        expect(headers["Content-Range"] == f"bytes {first}-{first + length - 1}/{size}", given)
    status, headers, part = endpoint.ask("/media", "HEAD", Range="bytes=5-9")
    expect(status == 206 and headers["Content-Length"] == "5" and not part, "HEAD")
    for given in (f"bytes={size}-", f"bytes={10 ** 30}-", "bytes=0-1,3-4", "bytes=-0",
                  "bytes=" + ",".join(f"{n}-{n}" for n in range(1500))):
        status, headers, _ = endpoint.ask("/media", Range=given)
        expect(status == 416 and headers["Content-Range"] == f"bytes */{size}", f"{given}: {status}")
    status, headers, page = endpoint.ask("/")
    expect(status == 200 and b"<video" in page and "default-src 'none'" in headers["Content-Security-Policy"], "page")
    expect(endpoint.ask("/media", "POST")[0] == 405 and endpoint.ask("/nothing")[0] == 404, "POST, or /nothing")
    c = http.client.HTTPConnection("127.0.0.1", endpoint.port)
    for _ in range(3): # on one connection
        c.request("GET", "/media", headers={"Range": "bytes=0-9"})
        expect(c.getresponse().read() == body[:10] and c.sock, "a connection is not kept")
    c.close()


def keeps_others_out(room, endpoint):
    port = endpoint.port
    for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{port}"}, {"Host": "127.0.0.1"},
                    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"},
                    {"Sec_Fetch_Site": "same-site"}):
        for path in ("/", "/media", "/status?at=50"):
            expect(endpoint.ask(path, **headers)[0] == 403, f"{headers} got {path}")
    expect(not endpoint.status()["playhead_told"], "a page of another origin moved the playhead")
    expect(endpoint.ask("/media", Host=f"localhost:{port}", Range="bytes=0-0")[0] == 206, "localhost")
    done = run([endpoint.process.args[0], "serve", "--cache", "none", "--listen", "0.0.0.0:0",
                room.path("www", "plain.mp4")], check=False)
    expect(done.returncode == 1 and "this machine only" in done.stderr, f"0.0.0.0: {done.stderr}")


def raw(endpoint, data):
    """What is answered to these bytes, up to the end of the stream."""
    answer = b""
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as s, contextlib.suppress(OSError):
        s.sendall(data)  # which may be refused before it is all there
        s.shutdown(socket.SHUT_WR)
        while len(answer) < 4096:
            part = s.recv(4096)
            if not part:
                break
            answer += part
    return answer


def survives_bad_clients(endpoint, size):
    host = f"Host: 127.0.0.1:{endpoint.port}\r\n".encode()
    for data in (b"", b"\0" * 5000, b"GET", b"GET / HTTP/1.1\r\n\r\n", b"GET /media HTTP/9.9\r\n" + host + b"\r\n",
                 b"GET / HTTP/1.1\r\n" + host + host + b"\r\n", b"GET " + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000 + b"\r\n",
                 b"POST /media HTTP/1.1\r\n" + host + b"Content-Length: 99999999999999999999\r\n\r\nx",
                 b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"):
        answer = raw(endpoint, data)
        expect(not answer or answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.1 5"),
               f"{data[:40]!r} got {answer[:40]!r}")
    # Many at once, all of which leave in the middle.
    sockets = []
    for i in range(40):
        s = socket.create_connection(("127.0.0.1", endpoint.port))
        s.sendall(b"GET /media HTTP/1.1\r\n" + host + f"Range: bytes={size * i // 40}-\r\n\r\n".encode())
        sockets.append(s)
    for s in sockets[::2]:
        s.recv(1000)
    for s in sockets:
        s.close()
    wait_until(lambda: endpoint.status()["viewers"] == 0, 15, "those who left are forgotten")
    # More than it takes: those that say nothing must not keep it from others for ever.
    idle = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(30)]
    expect(endpoint.ask("/media", Range="bytes=0-0")[0] == 206, "thirty idle connections are too many")
    for s in idle:
        s.close()
    # Those that take nothing may do so for hours: who was not heard of for longest makes room.
    asleep = []
    for _ in range(150):
        s = socket.create_connection(("127.0.0.1", endpoint.port), timeout=20)
        s.sendall(b"GET /media HTTP/1.1\r\n" + host + b"\r\n")
        s.recv(12, socket.MSG_WAITALL)
        asleep.append(s)
    expect(endpoint.ask("/media", Range="bytes=0-9")[0] == 206, "sleepers keep others out")
    expect(all(s.recv(1) for s in asleep[-30:]), "the latest guests were sent away")
    for s in asleep:
        s.close()


def tells_where_it_is(room, build, web):
    """A told playhead is pulled before anybody reads there."""
    endpoint = Endpoint(room, build, web.url("long.mp4"), "--buffer", "5s")
    wait_until(lambda: endpoint.status()["format"] == "mp4", 10, "the index is known")
    wait_until(lambda: endpoint.status()["buffered_us"] >= 4e6, 10, "five seconds are there")
    before = endpoint.status()
    expect(before["local_bytes"] < before["size_bytes"] * .8, "without --all everything came")
    endpoint.status("?at=71.3&stalls=2&stalled=1.5")
    wait_until(lambda: endpoint.status()["buffered_us"] >= 4e6, 10, "the place told of is there")
    told = endpoint.status()
    expect(told["playhead_us"] == 71300000 and told["playhead_told"] and told["stalls"] == 2 and
           told["stalled_us"] == 1500000 and len(told["local"]) == 400, f"{told}")
    endpoint.end()


def is_recorded(room, build, web, paths):
    copy = room.path("copy.mp4")
    endpoint = Endpoint(room, build, web.url("plain.mp4"), "--all", "--record", copy)
    wait_until(lambda: os.path.exists(copy), 15, "the copy")
    endpoint.end()
    with open(copy, "rb") as got, open(paths["plain.mp4"], "rb") as want:
        expect(got.read() == want.read(), "the copy differs")
    expect(not os.path.exists(copy + ".part") and "verified" in endpoint.log(), endpoint.log())
    done = run([endpoint.process.args[0], "serve", "--listen", "127.0.0.1:0", "--record", copy,
                web.url("plain.mp4")], check=False)
    expect(done.returncode == 1 and "exists already" in done.stderr, done.stderr)
    # Somebody else's file of the name that the copy had while it was written is none of its business.
    beside = room.path("beside.mp4")
    with open(beside + ".part", "wb") as file:
        file.write(b"mine")
    endpoint = Endpoint(room, build, web.url("plain.mp4"), "--all", "--record", beside)
    wait_until(lambda: os.path.exists(beside), 15, "the copy beside another file")
    endpoint.end()
    with open(beside + ".part", "rb") as file:
        expect(file.read() == b"mine", "--record took another's file")
    for option in (["--record", room.path("small.mp4")], ["--all"]):
        done = run([endpoint.process.args[0], "serve", "--listen", "127.0.0.1:0", "--cache-size", "512K", *option,
                    web.url("long.mp4")], check=False)
        expect(done.returncode == 1 and f"{option[0]} needs all of it" in done.stderr, f"{option}: {done.stderr}")
    part = room.path("part.mp4")
    endpoint = Endpoint(room, build, web.url("long.mp4"), "--record", part, "--buffer", "2s")
    endpoint.end()
    expect(not os.path.exists(part) and "% was seen" in endpoint.log(), endpoint.log())


def ends_when_the_server_is_silent(room, build):
    """A read waits for an answer that never comes: the end must not."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4"
        process = room.start([os.path.join(build, "apps/stream/hither-stream"), "serve", "--cache", "none", url])
        silent.accept()[0].recv(1000)
        process.send_signal(signal.SIGTERM)
        expect(process.wait(5) != 0, "it was never ready, but ended with 0")


def ends_when_the_server_dies(room, build):
    """In the middle of an answer: it is said soon, and the client gets an end, not a silence for ever."""
    web = Web(room, LinkNetwork(room, build, "metro"), room.path("www"))
    url = web.url("long.mp4")
    endpoint = Endpoint(room, build, url, "--buffer", "2s", "--deadline", "5s")
    c = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=20)
    c.request("GET", "/media")
    answer = c.getresponse()
    answer.read(1000)
    web.network.outage(True)
    begin = time.monotonic()
    try:
        answer.read()
        raise Failed("a dead server's file came whole")
    except http.client.IncompleteRead:
        pass
    took = time.monotonic() - begin
    expect(4 < took < 12, f"the client was told after {took:.1f} s")
    web.network.outage(False)
    wait_until(lambda: endpoint.ask("/media", Range="bytes=0-9")[0] == 206, 10, "it serves again")
    endpoint.end()


def is_cut_off_when_it_changes(room, build, web):
    """A file that grows is another version: an error, never a mixture."""
    path = room.path("www", "growing.mp4")
    shutil.copy(room.path("www", "long.mp4"), path)
    endpoint = Endpoint(room, build, web.url("growing.mp4"), "--buffer", "1s")
    with open(path, "ab") as file:
        file.write(b"more" * 1000)
    try:
        body = endpoint.ask("/media")[2]
        raise Failed(f"{len(body)} bytes of a changed file came without an error")
    except http.client.IncompleteRead:
        pass
    wait_until(lambda: "changed" in endpoint.log(), 5, f"the log says so: {endpoint.log()}")
    endpoint.end()


def no_media(room, build, web):
    """Damaged: served as it is, and serve and probe say what is wrong. No media at all: neither takes it."""
    with open(room.path("www", "plain.mp4"), "rb") as file:
        data = file.read()
    at = data.index(b"moov")
    size = int.from_bytes(data[at - 4:at], "big")
    bad = {"torn.mp4": data[:at + 200],
           "liar.mp4": data[:at - 4] + (0x7ffffff0).to_bytes(4, "big") + data[at:],
           "huge.mp4": data[:at - 4] + b"\0\0\0\1moov" + (2 ** 64 - 5).to_bytes(8, "big") + data[at + 4:],
           "deep.mp4": data[:at - 4] + b"".join((size + 8 * n).to_bytes(4, "big") + b"moov"
                                               for n in range(500, 0, -1)) + data[at - 4:]}
    for name, content in bad.items():
        with open(room.path("www", name), "wb") as file:
            file.write(content)
        endpoint = Endpoint(room, build, web.url(name))
        body = endpoint.ask("/media")[2]
        # A moov in a moov is an index of nothing, but one: it may go to the front.
        expect(body == content or (name == "deep.mp4" and sorted(body) == sorted(content)), f"{name} came otherwise")
        endpoint.status()
        endpoint.end()
        expect(name == "deep.mp4" or "served as it is" in endpoint.log(), f"{name}: nothing is said: {endpoint.log()}")
        done = run([endpoint.process.args[0], "probe", web.url(name)], check=False)
        expect(done.returncode == 1 and name in done.stderr, f"probe {name}: {done.returncode} {done.stderr}")


    with open(room.path("www", "prose.txt"), "w", encoding="ascii") as file:
        file.write("This is no film, and no music either.\n" * 10000)
    stream = os.path.join(build, "apps/stream/hither-stream")
    done = run([stream, "probe", "--json", web.url("prose.txt")], check=False)
    expect(done.returncode == 1 and "prose.txt" in done.stderr and not done.stdout, f"probe: {done.stderr}")
    if knows_streams(stream, web):
        done = run([stream, "serve", "--cache", "none", "--listen", "127.0.0.1:0", web.url("prose.txt")], check=False)
        told = run([stream, "probe", web.url("prose.txt")], check=False).stderr
        expect("prose.txt: neither video nor audio" in told, f"probe: {told}")
        expect(done.returncode == 1 and "prose.txt: neither video nor audio" in done.stderr and not done.stdout,
               f"serve: {done.returncode} {done.stderr}")


def knows_streams(stream, web):
    """Is libavformat there, which knows what has no index?"""
    return bool(json.loads(run([stream, "probe", "--json", web.url("plain.mp4")]).stdout)["streams"])


def has_no_index(room, build, web):
    """MPEG-TS: served, and what libavformat says of it is told."""
    run(["ffmpeg", "-v", "error", "-y", "-i", room.path("www", "plain.mp4"), "-c", "copy", room.path("www", "plain.ts")])
    stream = os.path.join(build, "apps/stream/hither-stream")
    if knows_streams(stream, web):
        told = json.loads(run([stream, "probe", "--json", web.url("plain.ts")]).stdout)
        expect(told["format"] == "mpegts" and len(told["streams"]) == 2 and not told["index"] and
               abs(told["duration_us"] / 1e6 - media_files.SECONDS) < 1, f"{told}")
    endpoint = Endpoint(room, build, web.url("plain.ts"))
    expect(media_files.frames(endpoint.url + "media") == media_files.frames(room.path("www", "plain.ts")),
           "other frames of an MPEG-TS")
    endpoint.end()


def has_an_index_of_two_gigabytes(room, build, web):
    """Really so long, though all zeros: nobody loads it, the file is what it was."""
    moov, media = 2 << 30, b"\0\0\x10\0mdat" + os.urandom(4096 - 8)
    head = b"\0\0\0\x10ftypisom\0\0\2\0" + media
    path = room.path("www", "index.mp4")
    with open(path, "wb") as file:
        file.write(head + moov.to_bytes(4, "big") + b"moov")
        file.truncate(len(head) + moov)
    endpoint = Endpoint(room, build, web.url("index.mp4"))
    size = len(head) + moov
    expect(endpoint.ask("/media", Range=f"bytes=0-{len(head) - 1}")[2] == head, "its first bytes")
    status, headers, tail = endpoint.ask("/media", Range="bytes=-5000")
    expect(status == 206 and headers["Content-Range"] == f"bytes {size - 5000}-{size - 1}/{size}" and
           tail == bytes(5000), f"its last bytes: {status} {headers['Content-Range']}")
    told = endpoint.status()
    expect(told["local_bytes"] < 64 << 20, f"{told['local_bytes']} bytes of it were pulled")
    with open(f"/proc/{endpoint.process.pid}/status", encoding="ascii") as text:
        peak = next(int(line.split()[1]) for line in text if line.startswith("VmHWM"))
    expect(peak < 1 << 20, f"{peak} KiB of memory")
    endpoint.end()
    done = run([endpoint.process.args[0], "probe", web.url("index.mp4")], check=False)
    expect(done.returncode == 1 and f"an index of {moov} bytes" in done.stderr, f"probe: {done.stderr}")
    os.unlink(path)


def does_with_few_descriptors(room, build, web):
    """As many as apps/common/start.c promises to be enough; with fewer it says so."""
    stream, hither = (os.path.join(build, p) for p in ("apps/stream/hither-stream", "apps/hither/hither"))
    path = room.path("few.mp4")
    for count in (64, 30):
        command = 'ulimit -n "$0"; exec "$@"'
        done = run(["sh", "-c", command, str(count), stream, "mount", "--cache", "none", web.url("long.mp4"), path],
                   check=False)
        expect((done.returncode == 0) == (count == 64), f"{count} descriptors: {done.returncode}: {done.stderr}")
        expect(os.path.ismount(path) == (count == 64), f"{count} descriptors: mounted?")
        if count == 64:
            run([hither, "umount", path])
    # More guests than descriptors: who was not heard of for longest makes room.
    endpoint = Endpoint(room, build, web.url("plain.mp4"), files=64)
    host = f"Host: 127.0.0.1:{endpoint.port}"
    asleep = []
    for _ in range(80):
        s = socket.create_connection(("127.0.0.1", endpoint.port), timeout=10)
        s.sendall(f"GET /media HTTP/1.1\r\n{host}\r\n\r\n".encode())
        asleep.append(s)
    expect(endpoint.ask("/media", Range="bytes=0-9")[0] == 206, "sleepers take all descriptors")
    for s in asleep:
        s.close()
    endpoint.end()


def probes(build, web):
    stream = os.path.join(build, "apps/stream/hither-stream")
    told = json.loads(run([stream, "probe", "--json", web.url("long.mp4")]).stdout)
    expect(told["format"] == "mp4" and told["index_place"] == "at the end" and told["round_trips"] <= 3, f"{told}")
    expect(abs(told["duration_us"] - 90e6) < 1e5 and told["first_bytes"] < told["size_bytes"] / 3, f"{told}")
    expect(len(told["streams"]) in (0, 2), f"{told}")


FAKE_MPV = """#!/usr/bin/python3
import json, socket, sys, time
fd = int(next(a for a in sys.argv if a.startswith("--input-ipc-client")).split("//")[1])
lines = socket.socket(fileno=fd).makefile("rw")
def tell(**what):
    lines.write(json.dumps(what) + "\\n")
    lines.flush()
def hear():
    while True:
        said = json.loads(lines.readline())["command"]
        if said[:2] == ["set_property", "cache-pause-wait"]:
            return said[2]
began = time.monotonic()
tell(event="seek")
hurried, took = hear(), time.monotonic() - began
for at in range(4):
    tell(event="property-change", id=1, data=60 + at / 25)
print(hurried, hear(), 1 < took < 5)
"""


def does_not_gather_for_ever_after_a_seek(room, build, web):
    """mpv, which is a script here, shall play on a while after a seek, whatever is there; and gather again later."""
    stream = os.path.join(build, "apps/stream/hither-stream")
    fake = os.path.join(room.make("fake"), "mpv")
    with open(fake, "w", encoding="utf-8") as script:
        script.write(FAKE_MPV)
    os.chmod(fake, 0o755)
    env = dict(os.environ, XDG_RUNTIME_DIR=room.make("runtime"))
    done = run([stream, "play", "--cache", "none", "--player", fake, web.url("long.mp4")], env=env, timeout=30)
    expect(done.stdout.split() == ["0.1", "0.9", "True"], f"what mpv was told: {done.stdout}{done.stderr}")


def plays(room, build, web):
    if not shutil.which("mpv"):
        print("mpv is not there: play is not tried with it")
        return
    stream = os.path.join(build, "apps/stream/hither-stream")
    env = dict(os.environ, XDG_RUNTIME_DIR=room.make("runtime"))
    quiet = ["--no-config", "--vo=null", "--ao=null", "--really-quiet"]
    done = run([stream, "play", "--cache", "none", web.url("long.mp4"), "--", *quiet, "--start=60", "--length=2"],
               env=env)
    expect("; 0 stalls" in done.stderr, f"play: {done.stderr}")
    # ^C ends the player and the mount.
    player = room.start([stream, "play", "--cache", "none", web.url("long.mp4"), "--", *quiet, "--pause"], env=env)
    wait_until(lambda: any(name.startswith("hither-play-") and is_mount(room.path("runtime", name, "long.mp4"))
                           for name in os.listdir(room.path("runtime"))), 10, "play mounts")
    player.send_signal(signal.SIGINT)
    expect(player.wait(10) == 0, "play did not end by ^C")
    left = [name for name in os.listdir(room.path("runtime")) if name.startswith("hither-play")]
    expect(not left, f"play left {left}")
    failed = run([stream, "play", "--cache", "none", "--player", "false", web.url("long.mp4")], check=False, env=env)
    expect(failed.returncode == 1 and "exit code 1" in failed.stderr, f"a failing player: {failed.stderr}")
    plays_no_page(room, stream, web, env)
    leaves_nothing_when_killed(room, stream, web, env)


def plays_no_page(room, stream, web, env):
    with open(room.path("www", "page.mp4"), "w", encoding="ascii") as file:
        file.write("<html><body>Log in, please.</body></html>\n")
    done = run([stream, "play", "--cache", "none", web.url("page.mp4"), "--", "--no-config", "--vo=null", "--ao=null",
                "--really-quiet"], check=False, env=env)
    expect(done.returncode == 1 and ("page.mp4: neither video nor audio" in done.stderr or not knows_streams(stream, web)),
           f"play of a page: {done.returncode} {done.stderr}")


def leaves_nothing_when_killed(room, stream, web, env):
    """The next one clears away what a killed one left: its mount, and its folder."""
    def folders():
        return [name for name in os.listdir(room.path("runtime")) if name.startswith("hither-play")]
    quiet = ["--no-config", "--vo=null", "--ao=null", "--really-quiet"]
    killed = room.start([stream, "play", "--cache", "none", web.url("long.mp4"), "--", *quiet, "--pause"], env=env)
    wait_until(lambda: any(is_mount(room.path("runtime", name, "long.mp4")) for name in folders()), 10, "play mounts")
    room.will_unmount(room.path("runtime", folders()[0], "long.mp4"))
    killed.kill()
    killed.wait()
    run([stream, "play", "--cache", "none", web.url("plain.mp4"), "--", *quiet, "--length=1"], env=env)
    expect(not folders(), f"a killed play left {folders()}")


def main():
    build = os.path.realpath(sys.argv[1])
    need("ffmpeg", "nginx")
    try:
        with Room("hither-stream") as room:
            paths = media_files.make(room)
            run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25:duration=90",
                 "-f", "lavfi", "-i", "sine=duration=90", "-vf", "noise=alls=20:allf=t", *media_files.H264,
                 "-b:v", "1M", "-c:a", "aac", room.path("www", "long.mp4")])
            web = Web(room, LinkNetwork(room, build, "metro"), room.path("www"))
            endpoint = Endpoint(room, build, web.url("plain.mp4"))
            answers_as_http_says(endpoint, paths["plain.mp4"])
            keeps_others_out(room, endpoint)
            survives_bad_clients(endpoint, os.path.getsize(paths["plain.mp4"]))
            endpoint.end()
            for test in (lays_out_odd_files, tells_where_it_is, is_cut_off_when_it_changes, no_media, has_no_index, has_an_index_of_two_gigabytes,
                         does_with_few_descriptors, does_not_gather_for_ever_after_a_seek, plays):
                test(room, build, web)
                print(test.__name__)
            probes(build, web)
            is_recorded(room, build, web, paths)
            ends_when_the_server_is_silent(room, build)
            ends_when_the_server_dies(room, build)
            decodes_the_same(room, build, web, paths)
    except Failed as failure:
        print(f"stream: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
