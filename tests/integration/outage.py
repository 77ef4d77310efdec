#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""outage.py BUILD [SECONDS]: the network is gone for so long (3 s) in the middle of reads and writes.

Reads and writes wait and go on; beyond --deadline they fail with EIO, and the mount's log says why.
The daemon of a 1 TiB resource, read all over by 16 threads, stays small. Exit 0 passed, 1 failed, 77
skipped.
"""
import errno
import hashlib
import os
import random
import sys
import threading
import time

from nbd_line import Failed, Line, Mount, Server, expect, need, run
from rig.process import Room

SIZE = 16 << 20
RATE = ("--rtt", "20ms", "--rate", "40mbit")  # 16 MiB take three seconds
MOST_RESIDENT = 64 << 20


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read_all(path, got):
    with open(path, "rb") as file:
        got.append(digest(file.read()))


def write_all(path, data, got):
    with open(path, "r+b") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    got.append(True)


def away(line, seconds):
    line.tell("outage", "on")
    threading.Event().wait(seconds)
    line.tell("outage", "off")


def in_the_middle(room, build, image, seconds, work, ways, options=()):
    """Start work on a mount, take the network away while it is at it, and let it end."""
    server = Server(room, "nbdkit", image)
    line = Line(room, build, server.port, RATE)
    mount = Mount(room, build, f"nbd://127.0.0.1:{line.port}/", image + ".mount")
    mount.mount("--cache", room.path("cache"), "--pull", "off", *options)
    before, got, begin = line.sent(), [], time.monotonic()
    thread = threading.Thread(target=work, args=(mount.path, *ways, got))
    thread.start()
    end = begin + 20
    while sum(line.sent()) - sum(before) < SIZE // 8 and time.monotonic() < end:
        thread.join(0.01)
    expect(thread.is_alive(), "it was done before the network went away")
    away(line, seconds)
    thread.join(120)
    expect(not thread.is_alive(), "it still waits, two minutes after the network came back")
    elapsed = time.monotonic() - begin
    expect(elapsed > seconds, f"it took {elapsed:.1f} s, less than the outage")
    mount.umount()
    return got


def rides_through(room, build, seconds):
    image, data = room.path("ride"), random.randbytes(SIZE)
    with open(image, "wb") as file:
        file.write(data)
    got = in_the_middle(room, build, image, seconds, read_all, ())
    expect(got == [digest(data)], "what was read through an outage differs")
    data = random.randbytes(SIZE)
    got = in_the_middle(room, build, image, seconds, write_all, (data,), ("--write",))
    expect(got == [True], "fsync failed, though the network came back")
    with open(image, "rb") as file:
        expect(file.read() == data, "what was written through an outage differs")
    print(f"reads and writes rode through {seconds:g} s without a network")


def gives_up(room, build):
    image = room.path("giveup")
    with open(image, "wb") as file:
        file.write(random.randbytes(SIZE))
    server = Server(room, "nbdkit", image)
    line = Line(room, build, server.port, RATE)
    mount = Mount(room, build, f"nbd://127.0.0.1:{line.port}/", image + ".mount")
    log = room.path("log")
    mount.mount("--cache", "none", "--pull", "off", "--deadline", "1s", "--log", log)
    line.tell("outage", "on")
    begin = time.monotonic()
    try:
        with open(mount.path, "rb", buffering=0) as file:
            file.seek(SIZE // 2)
            file.read(4096)
        raise Failed("read without a network")
    except OSError as error:
        expect(error.errno == errno.EIO, f"{error}, not EIO")
    expect(time.monotonic() - begin < 60, "a deadline of a second took far longer")
    line.tell("outage", "off")
    with open(log, encoding="utf-8") as text:
        said = text.read()
    expect("gave up after 1 s" in said and "nbd://127.0.0.1" in said, f"the log says: {said}")
    with open(mount.path, "rb", buffering=0) as file, open(image, "rb") as plain:
        expect(file.read(4096) == plain.read(4096), "the mount did not get well again")
    mount.umount()
    print("beyond the deadline: EIO, and why; well again afterwards")


def resident(room, build):
    image = room.path("vast")
    with open(image, "wb") as file:
        file.truncate(1 << 40)
    server = Server(room, "nbdkit", image)
    mount = Mount(room, build, f"nbd://127.0.0.1:{server.port}/", image + ".mount")
    mount.mount("--cache", room.path("vast-cache"))
    run([os.path.join(build, "tests/tools/load"), mount.path, "--mode", "random", "--threads", "16",
         "--count", "5000", "--for", "3"])
    with open(f"/proc/{mount.daemon()}/status", encoding="ascii") as status:
        high = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
    mount.umount()
    expect(high < MOST_RESIDENT, f"{high >> 20} MiB resident")
    print(f"1 TiB, read all over: at most {high >> 20} MiB resident")


def main():
    build = os.path.realpath(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3
    need("nbdkit")
    try:
        with Room("hither-outage") as room:
            rides_through(room, build, seconds)
            gives_up(room, build)
            resident(room, build)
    except Failed as failure:
        print(f"outage: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
