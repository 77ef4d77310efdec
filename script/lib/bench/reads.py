# SPDX-License-Identifier: Apache-2.0
"""Reading over a line, cold: hither and its peers."""
import os
import time

from rig.process import Failed

from . import peers
from .harness import MB
from .table import Row, median

RANDOM_COUNT = 2000
# What a peer reads at first; if it is that many times slower than curl, it is not asked for the rest.
PROBE, SLOW = 32 << 20, 4


def one_curl(bench, name):
    """MB/s of one curl to /dev/null, as a median of two: what the line gives."""
    size = os.path.getsize(os.path.join(bench.files, name))
    times = [bench.download(["curl", "-sS", "-o", "/dev/null", bench.url(name)]) for _ in range(2)]
    return size / MB / median(times)


def aria2(bench, name):
    size = os.path.getsize(os.path.join(bench.files, name))
    folder = bench.room.make("aria2")
    seconds = bench.download(["aria2c", "-q", "-x8", "-s8", "--allow-overwrite=true",
                              "--file-allocation=none", "-d", folder, "-o", name, bench.url(name)])
    os.unlink(os.path.join(folder, name))
    return size / MB / seconds


def read_through(bench, mounter, name, repeats=1):
    """MB/s of reading a mounted file from front to back, and the checksum of what came."""
    size = os.path.getsize(os.path.join(bench.files, name))
    rates, sums = [], set()
    for _ in range(repeats):
        with bench.mounted(mounter, bench.url(name)) as path:
            answer = bench.load(path, "seq")
            rates.append(size / MB / answer["elapsed"])
            sums.add(answer["sum"])
    return median(rates), sums


def is_slow(bench, peer, name, curl):
    """Its MB/s if it is too slow to wait for; else None."""
    with bench.mounted(peer, bench.url(name)) as path:
        figure = PROBE / MB / bench.load(path, "seq", bytes=PROBE)["elapsed"]
    return figure if figure * SLOW < curl else None


def sequential(bench, quick):
    """A file from front to back, through a mount."""
    name = "64m" if quick or bench.profile == "far" else "512m"
    expected = bench.load(os.path.join(bench.files, name), "seq")["sum"]
    curl = one_curl(bench, name)
    rivals = [("curl", curl), ("aria2c -x8", aria2(bench, name))]
    for peer in peers.mounters(bench):
        slow = bench.rate and is_slow(bench, peer, name, curl)
        if slow:
            rivals.append((peer.name, slow))
            continue
        rate, sums = read_through(bench, peer, name)
        rivals.append((peer.name, rate))
        if sums != {expected}:
            raise Failed(f"{peer.name} read wrong bytes")
    repeats = 3 if bench.profile == "lan" else 1
    figure, sums = read_through(bench, peers.Hither(bench), name, repeats)
    if sums != {expected}:
        raise Failed("hither read wrong bytes")
    lan = bench.profile == "lan"
    best = max(rate for _, rate in rivals)
    share = 0.80 if lan else 0.95
    # On a line with a rate all but the slow start is the line's; a hundredth is noise.
    met = figure >= share * curl and (lan or figure >= 0.99 * best)
    bar = f"{share:.0%} of one curl" + ("" if lan else ", best peer")
    yield Row(bench.profile, f"sequential read, {name}", figure, "MB/s", rivals, bar, met,
              plot="Sequential read of a cold mount, MB/s")


def random_mean(bench, mounter, count, threads=1, seconds=60):
    with bench.mounted(mounter, bench.url("512m")) as path:
        return bench.load(path, "random", count=count, threads=threads, for_=seconds)


def random_reads(bench, quick):
    """4 KiB at random places of a cold 512 MB file."""
    rtt_ms = bench.rtt * 1e3
    few = 100 if quick else 400
    singles, many = [], []
    for peer in peers.mounters(bench):
        one = random_mean(bench, peer, few, seconds=4 if quick else 12)
        singles.append((peer.name, one["mean_us"] / 1e3))
        deep = random_mean(bench, peer, 4000, threads=16, seconds=4 if quick else 8)
        many.append((peer.name, deep["count"] / deep["elapsed"]))
    off = random_mean(bench, peers.Hither(bench, "--pull", "off"), few)
    figure = off["mean_us"] / 1e3
    yield Row(bench.profile, "random 4 KiB, depth 1, pull off: mean", figure, "ms", singles,
              "1.15 RTT" if rtt_ms >= 5 else "", figure <= 1.15 * rtt_ms if rtt_ms >= 5 else None,
              plot="Random 4 KiB reads at depth 1, pull off: mean ms")
    deep = random_mean(bench, peers.Hither(bench, "--pull", "off"), 20000, 16, 4 if quick else 8)
    rate = deep["count"] / deep["elapsed"]
    best = max(figure for _, figure in many) if many else 0
    yield Row(bench.profile, "random 4 KiB, depth 16, pull off", rate, "reads/s", many,
              "10 x best peer" if bench.profile == "wan" else "",
              rate >= 10 * best if bench.profile == "wan" else None,
              plot="Random 4 KiB reads at depth 16, reads a second")
    if not quick:
        yield from random_with_pull(bench, singles)


def random_with_pull(bench, singles):
    """The same reads while the rest comes in the background: all of them, in all."""
    answer = random_mean(bench, peers.Hither(bench), RANDOM_COUNT, seconds=600)
    first = 512 * 1024 * 1024 / MB / one_curl(bench, "512m")
    rivals = [(name, mean * RANDOM_COUNT / 1e3) for name, mean in singles]
    figure = answer["elapsed"]
    lazy = min((s for name, s in rivals if name.startswith("nbdkit")), default=0)
    wan = bench.profile == "wan"
    yield Row(bench.profile, f"{RANDOM_COUNT} random 4 KiB, depth 1, pull on: all", figure, "s",
              rivals + [("download first", first)], "4 x nbdkit; download first" if wan else "",
              figure * 4 <= lazy and figure <= first if wan else None)


def demand(bench, quick):
    """Reads that must come over the line while the background pull fills it."""
    if not bench.rate:
        return
    with bench.mounted(peers.Hither(bench), bench.url("8g")) as path:
        # The pull has reached the line's rate after some ten round trips.
        begin, down = time.monotonic(), bench.network.bytes("down")
        while bench.network.bytes("down") - down < bench.rate / 8:
            if time.monotonic() - begin > 30:
                raise Failed("the background pull does not fill the line")
            time.sleep(0.05)
        answer = bench.load(path, "random", count=5000, for_=5 if quick else 15, seed=7)
    rtt = bench.rtt * 1e6
    for key, name, bar in (("p50_us", "p50", 2), ("p99_us", "p99", 4)):
        figure = answer[key] / rtt
        yield Row(bench.profile, f"demand read while pulling: {name}", figure, "RTT", (), f"{bar} RTT",
                  figure <= bar)


def first_byte(bench, quick):
    """From typing the command to the first byte of a 1 GB file."""
    def once(mounter):
        begin = time.monotonic()
        with bench.mounted(mounter, bench.url("1g")) as path:
            with open(path, "rb") as file:
                if file.read(1) != b"\0":
                    raise Failed(f"{mounter.name} read a wrong byte")
            return (time.monotonic() - begin) * 1e3

    repeats = 3 if quick else 7
    rivals = [(p.name, median([once(p) for _ in range(3)])) for p in peers.mounters(bench)]
    figure = median([once(peers.Hither(bench)) for _ in range(repeats)])
    # TCP and the request take two round trips, whoever asks. On a short line a process's start
    # (15 ms) is more than what is left of four.
    wan, long_line = bench.rtt >= 0.005, bench.rtt >= 0.03
    met = all(figure < other for _, other in rivals)
    if long_line:
        met = met and figure <= 4 * bench.rtt * 1e3
    yield Row(bench.profile, "mount to first byte of 1 GB", figure, "ms", rivals,
              "4 RTT, best peer" if long_line else "best peer" if wan else "", met if wan else None,
              plot="Mount to first byte, ms")


def second_mount(bench, quick):
    """A mount with an intact cache asks once and fetches nothing."""
    del quick
    name = "64m"
    first = peers.Hither(bench, keep_cache=True)
    with bench.mounted(first, bench.url(name)) as path:
        expected = bench.load(path, "seq")["sum"]
    before = len(bench.web.requests())
    with bench.mounted(peers.Hither(bench), bench.url(name)) as path:
        again = bench.load(path, "seq")["sum"]
    asked = bench.web.requests()[before:]
    body = sum(sent for method, status, sent, _ in asked if method != "HEAD" and status in (200, 206))
    # A validation may carry a byte or a block of body, with the header.
    figure = len(asked)
    yield Row(bench.profile, "second mount, cache intact: requests", figure, "requests", (),
              "1, no data", figure == 1 and body < 8192 and again == expected)


def resident(bench, quick):
    """Memory of the daemon under a file of 1 TiB, pulling and read at random."""
    hither = peers.Hither(bench)
    with bench.mounted(hither, bench.url("1t")) as path:
        bench.load(path, "random", count=20000, threads=16, for_=3 if quick else 8)
        pid = hither.pid()
        if not pid:
            raise Failed("the daemon of the mount was not found")
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    figure = peak / 1024
    yield Row(bench.profile, "resident memory, peak, 1 TiB sparse file", figure, "MiB", (), "64 MiB",
              figure < 64)
