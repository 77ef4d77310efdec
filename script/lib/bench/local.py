# SPDX-License-Identifier: Apache-2.0
"""What a mount costs when no network is in the way: against ext4 on the same disk."""
import os
import shutil
import time

from rig.process import Failed, run, wait_until

from . import peers
from .harness import MIB, cached_bytes, drop_caches
from .table import Row, median


def start(bench, quick):
    """From typing the command until a local file is mounted."""
    source = os.path.join(bench.files, "64m")
    path = bench.room.path("mounted-64m")
    times = []
    for _ in range(5 if quick else 15):
        bench.room.will_unmount(path)
        begin = time.monotonic()
        run([bench.hither, "mount", "--cache", "none", source, path])
        times.append((time.monotonic() - begin) * 1e3)
        run([bench.hither, "umount", path])
    figure = median(times)
    yield Row("local", "process start and mount of a local file", figure, "ms", (), "15 ms", figure <= 15)


def rate(bench, path, mode, repeats, cold=False):
    rates = []
    for _ in range(repeats):
        if cold and not drop_caches():
            return None
        rates.append(bench.load(path, mode)["mb_s"])
    return median(rates)


def against_ext4(bench, quick):
    """A mount whose bytes are all local, beside the file itself."""
    name, repeats = "512m", 3 if quick else 5
    plain = bench.room.path("plain-512m")
    shutil.copyfile(os.path.join(bench.files, name), plain)
    size = os.path.getsize(plain)
    keeper = peers.Hither(bench, keep_cache=True)
    with bench.mounted(keeper, bench.url(name)) as path:
        bench.load(path, "seq")
    # A new open of a file that is wholly local: where the kernel allows, it passes through.
    with bench.mounted(peers.Hither(bench), bench.url(name)) as path:
        cold = rate(bench, path, "seq", repeats, cold=True)
        plain_cold = rate(bench, plain, "seq", repeats, cold=True)
        twice = None
        if cold:
            drop_caches()
            before = cached_bytes()
            bench.load(path, "seq")
            twice = (cached_bytes() - before) / size
        yield from warm_rows(bench, path, plain, repeats)
    if cold:
        yield Row("local", "sequential read, page cache dropped", cold, "MB/s", [("ext4", plain_cold)],
                  "70 % of ext4", cold >= 0.70 * plain_cold)
        yield Row("local", "page cache taken, of the file's size", twice, "x", (), "once", twice < 1.3)
    os.unlink(plain)


def warm_rows(bench, path, plain, repeats):
    for what, mode, share in (("sequential read, warm", "seq", 0.65), ("shared mmap, warm", "mmap", 0.75)):
        bench.load(path, mode)
        bench.load(plain, mode)
        # Turn and turn about, so that both see the same machine.
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(rate(bench, path, mode, 1))
            theirs.append(rate(bench, plain, mode, 1))
        yield Row("local", what, median(ours), "MB/s", [("ext4", median(theirs))],
                  f"{share:.0%} of ext4", median(ours) >= share * median(theirs),
                  plot="All local: hither and ext4, MB/s" if mode == "seq" else None)


class NbdServer:
    """nbdkit serving memory on the server's side of the line."""

    def __init__(self, bench, size):
        self.bench = bench
        self.port = 10809 if bench.network.server_host != "127.0.0.1" else free_port()
        host = bench.network.server_host
        self.process = bench.room.start(bench.network.server(
            ["nbdkit", "-f", "-i", host, "-p", str(self.port), "memory", str(size)]))
        probe = ["nbdinfo", "--size", f"nbd://{host}:{self.port}"]
        wait_until(lambda: run(bench.network.server(probe), check=False).returncode == 0, 10, "nbdkit")

    def url(self):
        return f"nbd://{self.bench.network.reach(self.port)}/"


def free_port():
    from rig.web import free_port as any_port
    return any_port()


class NbdMount(peers.Hither):
    def mount(self, url):
        self.path = self.bench.room.path("nbd-file")
        self.bench.room.will_unmount(self.path)
        run(self.bench.network.client(self.command(url, None)))
        return self.path


def writes(bench, quick):
    """Writes into a managed mount over NBD, beside the same writes to an ext4 file."""
    size, repeats = 512 * MIB, 2 if quick else 3
    server = NbdServer(bench, size)
    for what, mode, options in (("sequential write, 1 MiB", "seqwrite", {"bytes": 256 * MIB}),
                                ("random write, 4 KiB", "randwrite", {"count": 20000})):
        ours, theirs = [], []
        for _ in range(repeats):
            with bench.mounted(NbdMount(bench, "--pull", "off"), server.url()) as path:
                ours.append(bench.load(path, mode, **options))
            # A new file each time, as the mount's store is: pages that were freed a moment ago would
            # be warm in the caches, and on a virtual machine also still there.
            plain = bench.room.path(f"plain-{mode}-{len(theirs)}")
            with open(plain, "wb") as out:
                out.truncate(size)
            theirs.append(bench.load(plain, mode, **options))
        key = "elapsed"
        mine, other = (median([answer[key] for answer in answers]) * 1e3 for answers in (ours, theirs))
        yield Row("local", what + ", to a managed mount (nbd)", mine, "ms", [("ext4", other)],
                  "half of ext4's speed", mine <= 2 * other)


def flush(bench, quick):
    """What is pushed, and when fsync says so."""
    if not bench.rate:
        return
    size = (64 if quick else 256) * MIB
    server = NbdServer(bench, 1 << 30)
    line = bench.rate / 8 / 1e6 * 1448 / 1500
    up = bench.network.bytes("up")
    with bench.mounted(NbdMount(bench, "--pull", "off"), server.url()) as path:
        answer = bench.load(path, "seqwrite", bytes=size, fsync=True)
        sent = bench.network.bytes("up") - up
    if sent < size:
        raise Failed(f"fsync came back after {sent} of {size} bytes had gone over the line")
    figure = size / 1e6 / answer["elapsed"]
    yield Row(bench.profile, f"write and fsync of {size // MIB} MiB over nbd", figure, "MB/s",
              [("the line", line)], "90 % of the line", figure >= 0.90 * line)
    up = bench.network.bytes("up")
    with bench.mounted(NbdMount(bench, "--pull", "off"), server.url()) as path:
        with open(path, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), os.urandom(65536), 512 * MIB)
            os.fsync(file.fileno())
    figure = (bench.network.bytes("up") - up) / 1024
    yield Row(bench.profile, "64 KiB patch: sent, all in all", figure, "KiB", (), "little more: 80 KiB",
              figure < 80)
