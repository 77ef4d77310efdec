#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bad_luck.py BUILD [SECONDS]: what a mount does when things go wrong, seen by programs and by people.

The network is gone for SECONDS (2); the cache's disk is full, the cache in use, of another format,
damaged; the resource shrinks, grows, goes; servers answer wrongly; many threads read oddly. Each message
must be one line that names the thing and the way out. Exit 0 passed, 1 failed, 77 skipped.
"""
import concurrent.futures
import contextlib
import errno
import glob
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from moody_web import PAGE, Web, content
from nbd_line import Failed, Line, Mount, Server, expect, need, run
from rig.process import run_each, wait_until

SIZE = (8 << 20) + 1234
FAST = ("--rtt", "4ms")


class Place:
    """The room, with what every test needs in it."""

    def __init__(self, room, build, seconds):
        self.room, self.build, self.seconds = room, build, seconds
        self.path, self.cache = room.path("mounted"), room.path("cache")
        self.hither = os.path.join(build, "apps/hither/hither")

    @contextlib.contextmanager
    def mounted(self, url, *options):
        mount = Mount(self.room, self.build, url, self.path)
        mount.mount(*options)
        try:
            yield mount
        finally:
            subprocess.run([self.hither, "umount", "--force", self.path], capture_output=True, check=False)

    def says(self, url, *options, words):
        """Mounting fails, in one line with these words."""
        done = run([self.hither, "mount", *options, url, self.path], check=False, timeout=60)
        if done.returncode == 0:
            run([self.hither, "umount", self.path])
        check_message(done.stderr, done.returncode, words)

    def status(self):
        return run([self.hither, "status", self.path]).stdout


def check_message(text, code, words):
    expect(code == 1 and text.count("\n") == 1 and text.startswith("hither: ") and len(text) < 400,
           f"exit {code}, not one line: {text!r}")
    missing = [w for w in words if w not in text]
    expect(not missing, f"{text!r} lacks {missing}")


def read(path, offset, length):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


def fails(code, function, *args):
    try:
        function(*args)
    except OSError as error:
        expect(error.errno == code, f"{error}, not {errno.errorcode[code]}")
        return
    raise Failed(f"{function.__name__} did not fail")


# --- the network ---

def reads_ride_through_an_outage(p):
    with Web(SIZE) as web:
        line = Line(p.room, p.build, web.port, FAST)
        with p.mounted(f"http://127.0.0.1:{line.port}/x", "--cache", "none", "--pull", "off",
                       "--deadline", f"{p.seconds * 4 + 20:g}s", "--idle-timeout", "1s"), \
                concurrent.futures.ThreadPoolExecutor(8) as pool:
            expect(read(p.path, 0, 100) == content(0, 100), "the first bytes are wrong")
            # The outage begins in the middle of these.
            early = [pool.submit(read, p.path, i << 18, 1 << 18) for i in range(4)]
            line.tell("outage", "on")
            late = [pool.submit(read, p.path, (i << 18) + 5, 70000) for i in range(20, 24)]
            done, _ = concurrent.futures.wait(late, p.seconds)
            expect(not done, "a read ended although the network was gone")
            began = time.monotonic()
            line.tell("outage", "off")
            for i, future in enumerate(early):
                expect(future.result() == content(i << 18, 1 << 18), "wrong after the outage")
            for i, future in enumerate(late, 20):
                expect(future.result() == content((i << 18) + 5, 70000), "wrong after the outage")
            took = time.monotonic() - began
            expect(took < 20, f"{took:.1f} s from the outage's end to the bytes")
            print(f"  {p.seconds:g} s dark, bytes {took:.2f} s later")


def reads_give_up_at_the_deadline(p):
    with Web(SIZE) as web:
        line = Line(p.room, p.build, web.port, FAST)
        with p.mounted(f"http://127.0.0.1:{line.port}/x", "--cache", "none", "--pull", "off",
                       "--deadline", "1s"):
            line.tell("outage", "on")
            began = time.monotonic()
            fails(errno.EIO, read, p.path, 4 << 20, 5)
            took = time.monotonic() - began
            expect(0.9 < took < 20, f"a deadline of 1 s took {took:.1f} s")
            said = p.status()
            expect(f"127.0.0.1:{line.port}/x" in said and "gave up after 1 s" in said
                   and "--deadline" in said, f"status does not say why: {said}")
            line.tell("outage", "off")
            expect(read(p.path, 4 << 20, 5) == content(4 << 20, 5), "wrong after the outage")
            said = p.status()
            expect("  error " not in said and "gave up after 1 s" in said.partition("  log ")[2],
                   f"status does not say what happened: {said}")


def writes_wait_and_are_kept(p):
    need("qemu-nbd")
    image = p.room.path("image")
    with open(image, "wb") as f:
        f.truncate(4 << 20)
    server = Server(p.room, "qemu-nbd", image)
    line = Line(p.room, p.build, server.port, FAST)
    url = f"nbd://127.0.0.1:{line.port}"

    def write(fd, offset, text):
        os.pwrite(fd, text, offset)
        os.fsync(fd)

    with p.mounted(url, "--cache", p.cache, "--deadline", f"{p.seconds * 4 + 20:g}s"), \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        fd = os.open(p.path, os.O_RDWR)
        write(fd, 0, b"before")
        line.tell("outage", "on")
        future = pool.submit(write, fd, 5000, b"during")
        done, _ = concurrent.futures.wait([future], p.seconds)
        expect(not done, "fsync said success although the network was gone")
        line.tell("outage", "off")
        future.result()
        expect(read(image, 5000, 6) == b"during", "the server lacks what fsync acknowledged")
        os.close(fd)
        run([p.hither, "umount", p.path])
    with p.mounted(url, "--cache", p.cache, "--deadline", "1s"):
        fd = os.open(p.path, os.O_RDWR)
        os.pread(fd, PAGE, 2 * PAGE)  # else the write itself would wait for its page, and fail
        line.tell("outage", "on")
        os.pwrite(fd, b"later", 9000)
        fails(errno.EIO, os.fsync, fd)
        expect("gave up after 1 s" in p.status(), f"status does not say why: {p.status()}")
        line.tell("outage", "off")
        write(fd, 9100, b"and on")  # what the failed fsync was for goes too
        os.close(fd)
        run([p.hither, "umount", p.path])
        expect(read(image, 9000, 5) == b"later" and read(image, 9100, 6) == b"and on",
               "what was written in the outage never came")


# --- the cache ---

@contextlib.contextmanager
def small_disk(p, name, size):
    """A file system of its own with so much room (root only: see chosen), for a cache."""
    disk = p.room.make(name)
    run(["mount", "-t", "tmpfs", "-o", f"size={size}", "hither-test", disk])
    try:
        yield disk
    finally:
        run(["umount", disk])


def is_full(disk, pages=64):
    return os.statvfs(disk).f_bavail < pages


def serve_noise(p, name, size):
    """An NBD server's port, and its file."""
    image = p.room.path(name)
    with open(image, "wb") as f:
        f.write(random.randbytes(size))
    return Server(p.room, "qemu-nbd", image).port, image


def a_full_disk_is_no_error(p):
    with small_disk(p, "disk", "3m") as disk, Web(SIZE) as web:
        with p.mounted(web.url(), "--cache", f"{disk}/cache"):
            for offset in range(0, SIZE, 100000):
                expect(read(p.path, offset, 100000) == content(offset, min(100000, SIZE - offset)),
                       f"wrong at {offset} with a full disk")
            run([p.hither, "umount", p.path])
        with p.mounted(web.url(), "--cache", f"{disk}/cache", "--pull", "off"):
            expect(read(p.path, 0, SIZE) == content(0, SIZE), "wrong at the second mount")
            run([p.hither, "umount", p.path])


def a_full_disk_can_be_written(p):
    """What is clean makes room for what is written, and can be dropped though there is no room."""
    port, image = serve_noise(p, "full-image", 16 << 20)
    with small_disk(p, "full-disk", "3m") as disk:
        for _ in range(2):
            data = random.randbytes(8 << 20)  # more than the disk has: pushing makes room
            with p.mounted(f"nbd://127.0.0.1:{port}", "--write", "--cache", f"{disk}/cache"):
                wait_until(lambda: is_full(disk), 20, "a full disk")
                with open(p.path, "r+b") as file:
                    file.write(data)
                    os.fsync(file.fileno())
                run([p.hither, "umount", p.path])
            with open(image, "rb") as file:
                expect(file.read(len(data)) == data, "what fsync promised is not there")


def a_full_disk_without_a_server_can_be_left(p):
    """A writer waits for room that only a push can make: umount --force ends it, and it is told."""
    line = Line(p.room, p.build, serve_noise(p, "left-image", 16 << 20)[0], FAST)
    with (small_disk(p, "left-disk", "3m") as disk,
          p.mounted(f"nbd://127.0.0.1:{line.port}", "--write", "--pull", "off", "--order", "none",
                    "--cache", f"{disk}/cache")):
        line.tell("outage", "on")
        with subprocess.Popen(["dd", "if=/dev/urandom", f"of={p.path}", "bs=1M", "count=8",
                               "conv=notrunc,fsync"], stderr=subprocess.PIPE, text=True) as writer:
            wait_until(lambda: is_full(disk), 20, "a full disk")
            done = run([p.hither, "umount", "--force", p.path], check=False, timeout=20)
            check_message(done.stderr, done.returncode + 1, ["not pushed are kept", disk])
            told = writer.communicate(timeout=20)[1]
            # The one who waits for room is told of the room, who comes after the force of the force.
            expect(writer.returncode == 1 and ("No space left" in told or "Input/output" in told),
                   f"the writer was not told, but: {told}")


def rewriting_on_a_full_disk_goes_on(p):
    """Each rewrite is noted in the log, which grows on a disk that has no room for it."""
    port, image = serve_noise(p, "log-image", 4 << 20)
    last = {}
    with small_disk(p, "log-disk", "1m") as disk:
        with p.mounted(f"nbd://127.0.0.1:{port}", "--write", "--push-interval", "100ms",
                       "--cache", f"{disk}/cache"):
            wait_until(lambda: is_full(disk, 32), 20, "a full disk")
            with open(p.path, "r+b", buffering=0) as file:
                for i in range(1500):
                    last[i % 64] = bytes([i % 256]) * 4096
                    os.pwrite(file.fileno(), last[i % 64], i % 64 << 12)
                    os.fsync(file.fileno())
            run([p.hither, "umount", p.path])
    with open(image, "rb") as file:
        expect(file.read(64 << 12) == b"".join(last[i] for i in range(64)),
               "the last rewrites are not there")


def secrets_do_not_keep_a_cache(p):
    with Web(SIZE) as web:
        run([p.hither, "pull", "--cache", p.cache, web.url() + "?token=secret"])
    expect("token=***" in run([p.hither, "cache", "--cache", p.cache, "list"]).stdout, "not in the list")
    run([p.hither, "cache", "--cache", p.cache, "clear"])
    expect("token" not in run([p.hither, "cache", "--cache", p.cache, "list"]).stdout, "it is still there")


def a_cache_has_one_user(p):
    with Web(SIZE) as web, p.mounted(web.url(), "--cache", p.cache) as mount:
        pid = str(mount.daemon())
        done = run([p.hither, "mount", "--cache", p.cache, web.url(), p.room.path("second")], check=False)
        check_message(done.stderr, done.returncode, [web.url(), p.path, pid, "umount", "--cache DIR"])
        done = run([p.hither, "cache", "--cache", p.cache, "clear", web.url()], check=False)
        check_message(done.stderr, done.returncode, [p.cache, pid])
        expect(read(p.path, 1, SIZE) == content(1, SIZE - 1), "the first user suffered")


def a_strange_cache_is_refused_or_dropped(p):
    with Web(SIZE) as web:
        cache = p.room.path("strange")
        run([p.hither, "pull", "--quiet", "--cache", cache, web.url()])
        [state] = glob.glob(f"{cache}/*/state")
        good = open(state, "rb").read()
        for what, at, words in (("another version", 12, "format"), ("a damaged header", 40, "damaged"),
                                ("no header", 0, "state log")):
            bad = bytearray(good)
            bad[at] ^= 0x55
            with open(state, "wb") as f:
                f.write(bad)
            p.says(web.url(), "--cache", cache, words=[state, "delete it to start anew", words])
        with open(state, "wb") as f:
            f.write(good)
        with p.mounted(web.url(), "--cache", cache):
            expect(read(p.path, 0, SIZE) == content(0, SIZE), "wrong from an intact cache")
            expect(web.requests and os.path.exists(state), "no cache")
        listing = run([p.hither, "cache", "--cache", cache, "list"]).stdout
        expect(web.url() in listing, f"cache list: {listing}")
        size = run([p.hither, "cache", "--cache", cache, "size"]).stdout
        expect("in 1 cache" in size, f"cache size: {size}")
        run([p.hither, "cache", "--cache", cache, "clear"])
        expect(not glob.glob(f"{cache}/*"), "cache clear left something")
    p.says(web.url(), "--cache", "/proc/no/such", words=["/proc/no", "cannot make this cache folder", "--cache"])


# --- the resource ---

def a_resource_that_changes_is_never_mixed(p):
    for size in (SIZE - (5 << 20), SIZE + (1 << 20), SIZE):
        with Web(SIZE) as web:
            with p.mounted(web.url(), "--cache", "none", "--pull", "off"):
                expect(read(p.path, 0, 10) == content(0, 10), "wrong")
                web.size, web.etag = size, '"2"'
                fails(errno.ESTALE, read, p.path, 6 << 20, 4096)
                said = p.status()
                expect(web.url() in said and "open it again" in said, f"status does not say why: {said}")
            cache = p.room.path(f"changing-{size}")
            web.size, web.etag = SIZE, '"1"'
            run([p.hither, "pull", "--quiet", "--cache", cache, web.url()])
            web.size, web.etag = size, '"2"'
            p.says(web.url(), "--cache", cache, "--on-change", "fail",
                   words=[web.url(), "changed", "--on-change"])
            with p.mounted(web.url(), "--cache", cache):
                expect(read(p.path, 0, size + 1) == content(0, size), "not the new version")


def servers_that_answer_wrongly(p):
    answers = {"missing": ["404", "check the URL"], "busy": ["503", "try again later"],
               "round_and_round": ["redirected too often", "give the URL of the file itself"],
               "unsatisfied": ["416", "download it first"],
               "elsewhere": ["sent bytes 4096-", "download it first"],
               "whole": ["range requests", "download it first"]}
    with Web(SIZE) as web:
        for web.mood, words in answers.items():
            p.says(web.url(), "--cache", "none", "--connect-timeout", "900ms",
                   words=[web.url()[:40], *words])
        web.mood = "good"
        with p.mounted(web.url(), "--cache", "none", "--pull", "off", "--deadline", "30s"):
            for offset, web.mood in ((1 << 20, "busy"), (2 << 20, "cut")):
                back = threading.Timer(0.3, setattr, (web, "mood", "good"))
                back.start()
                expect(read(p.path, offset, 50000) == content(offset, 50000), f"wrong after {web.mood}")
                back.join()
            for offset, web.mood in ((3 << 20, "elsewhere"), (4 << 20, "unsatisfied")):
                fails({"elsewhere": errno.EPROTO, "unsatisfied": errno.ESTALE}[web.mood],
                      read, p.path, offset, 4096)
                expect(web.url() in p.status(), "status does not name the URL")
    p.says("http://127.0.0.1:9/x", "--cache", "none", "--deadline", "1s",
           words=["http://127.0.0.1:9/x", "check that the server runs"])
    p.says("http://nowhere.invalid/x", "--cache", "none", "--deadline", "1s",
           words=["nowhere.invalid", "check the name"])


# --- the readers ---

def sixty_four_odd_readers(p):
    def reader(number):
        rng = random.Random(number)
        fd = os.open(p.path, os.O_RDONLY)
        try:
            start = rng.randrange(SIZE - 20000)
            for at in range(start + 400, start, -1):  # backwards, byte by byte
                expect(os.pread(fd, 1, at) == content(at, 1), f"byte {at} is wrong")
            for at in range(start, start + 400):
                expect(os.pread(fd, 1, at) == content(at, 1), f"byte {at} is wrong")
            for _ in range(20):
                at, length = rng.randrange(SIZE + 2 * PAGE), rng.randrange(1, 200000)
                expect(os.pread(fd, length, at) == content(at, max(0, min(length, SIZE - at))),
                       f"[{at}, +{length}) is wrong")
            expect(os.pread(fd, 10, SIZE) == b"" and os.pread(fd, 10, 1 << 50) == b"", "past the end")
        finally:
            os.close(fd)
    with Web(SIZE) as web:
        line = Line(p.room, p.build, web.port, FAST)
        with p.mounted(f"http://127.0.0.1:{line.port}/x", "--cache", "none", "--workers", "64"), \
                concurrent.futures.ThreadPoolExecutor(64) as pool:
            list(pool.map(reader, range(64)))
            expect(1 < web.most <= 64, f"{web.most} requests in flight")
            print(f"  at most {web.most} requests at a time")


def few_descriptors(p):
    """All are taken by connections; status and umount are heard all the same."""
    with Web(SIZE) as web:
        limited = 'ulimit -n 12; exec "$0" mount "$1" "$2"'
        done = run(["sh", "-c", limited, p.hither, web.url(), p.path], check=False, timeout=10)
        check_message(done.stderr, done.returncode, ["12 files", "ulimit -n"])
        limited = 'ulimit -n 64; exec "$0" mount -j 64 --cache none --pull off --deadline 2s "$1" "$2"'
        run(["sh", "-c", limited, p.hither, f"http://127.0.0.1:{web.port}/x", p.path])
        p.room.will_unmount(p.path)
        mount = Mount(p.room, p.build, f"http://127.0.0.1:{web.port}/x", p.path)
        pid = mount.daemon()
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            for future in [pool.submit(read, p.path, i << 16, 4096) for i in range(120)]:
                with contextlib.suppress(OSError):
                    future.result()
        for _ in range(3):
            expect(p.path in p.status(), "status is not heard")
        before = cpu_seconds(pid)
        time.sleep(1)  # what is looked for is that nothing happens
        used = cpu_seconds(pid) - before
        expect(used < 0.5, f"an idle daemon used {used:.2f} s of a second")
        mount.umount()


def misuse_is_told_at_once(p):
    """Before anything is asked for: exit 2, one line, the option and what is wrong with it."""
    for options, words in ((["--workers", "0"], ["--workers", "1 to 64"]),
                           (["--workers", "65"], ["--workers", "1 to 64"]),
                           (["--order", "bogus"], ["bogus", "readahead", "sqlite"]),
                           (["--ca-file", "/nowhere.pem"], ["--ca-file", "/nowhere.pem"])):
        done = run([p.hither, "mount", *options, "http://127.0.0.1:9/x", p.path], check=False)
        expect(done.returncode == 2, f"{options}: exit {done.returncode}, not 2")
        check_message(done.stderr, 1, words)


def swapped_arguments_are_told(p):
    done = run([p.hither, "mount", p.path, "http://127.0.0.1:9/x"], check=False)
    check_message(done.stderr, done.returncode, ["http://127.0.0.1:9/x is a URL", "path"])


def a_stopped_daemon_is_told(p):
    """Neither command looks into the mount, and neither waits for ever."""
    image = p.room.path("stopped")
    with open(image, "wb") as f:
        f.write(content(0, SIZE))
    with p.mounted(image, "--cache", p.cache) as mount:
        pid = mount.daemon()
        os.kill(int(pid), signal.SIGSTOP)
        try:
            expect("unreachable" in run([p.hither, "status", p.path], timeout=30).stdout, "not told")
            [address] = [a for folder in (os.environ.get("XDG_RUNTIME_DIR", "/tmp") + "/hither", f"/tmp/hither-{os.getuid()}")
                         for a in glob.glob(f"{folder}/{pid}.sock")]
            with contextlib.ExitStack() as queue:
                for _ in range(40):  # more than may wait for it: nobody else is kept by that
                    one = queue.enter_context(socket.socket(socket.AF_UNIX))
                    one.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        one.connect(address)
                expect("unreachable" in run([p.hither, "status", p.path], timeout=30).stdout, "not told")
                done = run([p.hither, "umount", p.path], check=False, timeout=30)
            check_message(done.stderr, done.returncode, ["is stopped", f"kill -CONT {pid}"])
        finally:
            os.kill(int(pid), signal.SIGCONT)


def a_closed_output_is_told(p):
    """And no file of ours takes its place."""
    image = p.room.path("closed")
    with open(image, "wb") as f:
        f.write(content(0, SIZE))
    done = run(["sh", "-c", 'exec "$0" cat "$1" >&-', p.hither, image], check=False)
    check_message(done.stderr, done.returncode, ["stdout"])
    with p.mounted(image, "--cache", p.cache) as mount:
        mount.umount()
        run(["sh", "-c", '"$0" mount --cache "$1" "$2" "$3" <&- 2>&- >/dev/null', p.hither, p.cache, image, p.path])
        p.room.will_unmount(p.path)
        expect(read(p.path, 0, SIZE) == content(0, SIZE), "wrong without standard descriptors")
        mount.umount()


def what_failed_to_open_leaves_no_cache(p):
    run([p.hither, "pull", "--cache", p.cache, "http://127.0.0.1:9/x"], check=False)
    expect("127.0.0.1:9" not in run([p.hither, "cache", "--cache", p.cache, "list"]).stdout,
           "a cache of nothing")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# These take as long as they are told to be dark.
OUTAGES = (reads_ride_through_an_outage, reads_give_up_at_the_deadline, writes_wait_and_are_kept)
FULL_DISKS = (a_full_disk_is_no_error, a_full_disk_can_be_written,
              a_full_disk_without_a_server_can_be_left, rewriting_on_a_full_disk_goes_on)
OTHERS = (few_descriptors, misuse_is_told_at_once, swapped_arguments_are_told, a_stopped_daemon_is_told,
          a_closed_output_is_told, what_failed_to_open_leaves_no_cache, secrets_do_not_keep_a_cache,
          a_cache_has_one_user, a_strange_cache_is_refused_or_dropped,
          a_resource_that_changes_is_never_mixed, servers_that_answer_wrongly, sixty_four_odd_readers)


def chosen(seconds):
    if seconds >= 30:
        return OUTAGES
    if os.geteuid():
        print("  left out: full disks; a small file system needs root")
        return OUTAGES + OTHERS
    return OUTAGES + FULL_DISKS + OTHERS


def main():
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2
    need("qemu-nbd")
    return bool(run_each(chosen(seconds), "hither-bad-luck",
                         lambda room: Place(room, os.path.realpath(sys.argv[1]), seconds)))


if __name__ == "__main__":
    sys.exit(main())
