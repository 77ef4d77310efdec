#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""memory.py BUILD [SIZE [READS]]: what a mount of a 1 TiB file needs, read all over by many threads.

The daemon's peak resident memory (VmHWM, so the mapped program and libraries count too) stays below
64 MiB, with the cache on disk and without, and there are at most 64 requests in flight. Exit 0 passed,
1 failed, 77 skipped.
"""
import concurrent.futures
import os
import random
import re
import sys
import time

from moody_web import PAGE, Web, content
from nbd_line import Failed, Mount, expect, need
from rig.process import Room

MOST_MIB, THREADS = 64, 96


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", f.read(), re.M))
    return {name: int(fields[name]) / 1024 for name in ("VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem")}


def read_all_over(path, size, count, seed):
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDONLY)
    try:
        for _ in range(count):
            at, length = rng.randrange(size), rng.choice((1, 100, PAGE, 3 * PAGE, 100000))
            expect(os.pread(fd, length, at) == content(at, min(length, size - at)), f"wrong at {at}")
    finally:
        os.close(fd)


def measure(room, build, web, reads, options):
    path = room.path("mounted")
    mount = Mount(room, build, web.url(), path)
    web.most = 0
    began = time.monotonic()
    mount.mount("--workers", "64", *options)
    pid = mount.daemon()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda i: read_all_over(path, web.size, reads // THREADS, i), range(THREADS)))
    used = memory(pid)
    read_s = time.monotonic() - began
    mount.umount()
    print(f"{' '.join(options)}: " + ", ".join(f"{k} {v:.1f} MiB" for k, v in used.items()) +
          f"; at most {web.most} requests; {reads} reads in {read_s:.1f} s,"
          f" unmounted in {time.monotonic() - began - read_s:.1f} s", flush=True)
    expect(time.monotonic() - began - read_s < 8, "umount takes its time")
    expect(used["VmHWM"] < MOST_MIB, f"{used['VmHWM']:.1f} MiB resident")
    expect(16 < web.most <= 64, f"{web.most} requests in flight")


def main():
    build = os.path.realpath(sys.argv[1])
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 40
    reads = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    need()
    try:
        with Room("hither-memory") as room, Web(size) as web:
            for options in (["--cache", room.path("cache")],
                            ["--cache", room.path("small"), "--cache-size", "16M"],
                            ["--direct"]):
                measure(room, build, web, reads, options)
    except Failed as failure:
        print(f"memory: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
