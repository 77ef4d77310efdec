# SPDX-License-Identifier: Apache-2.0
"""Queries over a database of 1 GB on a web server: sqlite-remote, its peers, and downloading it."""
import os
import shutil
import subprocess
import tempfile
import time

from rig.process import Failed, run, wait_until

from . import peers, shop
from .harness import drop_caches
from .table import Row

JOIN = ("SELECT p.id, c.email, d.name, p.total FROM purchase p JOIN customer c ON c.id = p.customer"
        " JOIN product d ON d.id = p.product WHERE p.product = 150000 ORDER BY p.day LIMIT 50")
QUERIES = {
    "point": "SELECT * FROM customer WHERE id = 345678",
    "range": "SELECT total, remark FROM purchase WHERE customer = 5 ORDER BY day LIMIT 100",
    "full text": "SELECT rowid, name FROM product_text WHERE product_text MATCH 'wewece cebaba'"
                 " LIMIT 20",
    "join": JOIN,
    "scan": "SELECT count(*), sum(length(description)) FROM product WHERE price >= 0",
}
PYTHON = "/usr/bin/python3"
PATIENCE_S = 40  # a rival that has not answered by then is stopped, and counts as that slow


def database():
    """Made once, kept where the demo keeps its own."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.environ.get("HITHER_DEMO_CACHE") or os.path.join(base, "hither-demo")
    path = os.path.join(folder, "bench-shop-1.db")
    os.makedirs(folder, exist_ok=True)
    if not os.path.exists(path):
        print("  making the database, once", flush=True)
        shop.make(path)
    return path


def remote_tool(bench):
    return os.path.join(bench.build, "apps/sqlite-remote/sqlite-remote")


def extension(bench):
    return os.path.join(bench.build, "core/frontend/sqlite/hither_vfs.so")


class Measured:
    """One cold run: seconds from process start to the last row, bytes and requests; answer None: it was
    stopped."""

    def __init__(self, bench, action):
        down, asked = bench.network.bytes("down"), len(bench.web.requests())
        begin = time.monotonic()
        try:
            self.answer, self.seconds = action(lambda: time.monotonic() - begin)
        except subprocess.TimeoutExpired:
            self.answer, self.seconds = None, PATIENCE_S
        self.bytes = bench.network.bytes("down") - down
        self.requests = len(bench.web.requests()) - asked

    def show(self):
        return f"{self.requests} requests, {self.bytes / 1000:.0f} kB"


def by_remote(bench, url, statements, *options):
    def action(clock):
        done = run(bench.network.client([remote_tool(bench), "--cache", "none", *options, url,
                                         *statements]), timeout=PATIENCE_S)
        return done.stdout, clock()
    return Measured(bench, action)


def by_mount(bench, mounter, url, statements):
    """The mount's own start counts: a query is asked of a URL, not of a mount that is there."""
    def action(clock):
        with bench.mounted(mounter, url) as path:
            answer = run(["sqlite3", f"file:{path}?immutable=1", *statements],
                         timeout=PATIENCE_S).stdout
            seconds = clock()
        return answer, seconds
    return Measured(bench, action)


def contenders(bench, quick):
    rivals = [("prefetch none", lambda url, sql: by_remote(bench, url, sql, "--prefetch", "none"))]
    names = () if quick else peers.mounters(bench)
    for peer in names:
        rivals.append((peer.name, lambda url, sql, p=peer: by_mount(bench, p, url, sql)))
    rivals.append(("hither mount", lambda url, sql: by_mount(
        bench, peers.Hither(bench, "--pull", "off"), url, sql)))
    return rivals


def downloads(bench, url, path, quick):
    """Seconds to have the file; then any query is as fast as locally."""
    tools = {"curl": ["curl", "-sS", "-o", path, url]}
    if not quick and shutil.which("aria2c"):
        tools["aria2"] = ["aria2c", "-q", "-x8", "-s8", "--allow-overwrite=true",
                          "--file-allocation=none", "-d", os.path.dirname(path), "-o",
                          os.path.basename(path), url]
    out = {}
    for name, command in tools.items():
        out[f"{name}, then query"] = bench.download(command)
        os.unlink(path)
    return out


def detail(name, measured):
    print(f"    {name:<28} {measured.seconds:8.3f} s  {measured.show()}", flush=True)


def verdict(name, ours, best_s, rtt, rate, paged_bytes, scanned):
    """(bar, met) as the project promises them."""
    trips = ours.seconds / rtt
    if name == "point":
        return ("5 RTT, best peer, 4 x bytes", trips <= 5 and ours.seconds < best_s
                and ours.bytes <= 4 * paged_bytes)
    if name == "range":
        return "8 RTT", trips <= 8
    if name == "full text":
        return "3 x best peer", ours.seconds * 3 <= best_s
    if name == "join":
        return "4 x best peer (15 RTT: the aim)", ours.seconds * 4 <= best_s
    if name == "scan":
        return "85 % of the line", scanned * 8 / rate / ours.seconds >= 0.85
    return "3 x best peer", ours.seconds * 3 <= best_s


def table_bytes(path, table):
    sql = f"SELECT sum(pgsize) FROM dbstat WHERE name = '{table}' AND aggregate = 1"
    return int(run(["sqlite3", path, sql]).stdout)


def queries(bench, quick):
    path = database()
    served = os.path.join(bench.files, "shop.db")
    if not os.path.exists(served):
        os.symlink(path, served)
    url, scanned = bench.url("shop.db"), table_bytes(path, "product")
    got = {} if quick else downloads(bench, url, bench.room.path("downloaded.db"), quick)
    runs = [(name, [sql]) for name, sql in QUERIES.items()]
    runs.append(("all five in one session", list(QUERIES.values())))
    for name, statements in runs:
        expected = run(["sqlite3", f"file:{path}?immutable=1", *statements]).stdout
        times = sorted((by_remote(bench, url, statements) for _ in range(1 if quick else 3)),
                       key=lambda m: m.seconds)
        ours = times[len(times) // 2]
        detail(f"{name}: sqlite-remote", ours)
        rivals, paged = [(n, s) for n, s in got.items()], 0
        for rival, action in contenders(bench, quick):
            drop_caches()
            measured = action(url, statements)
            detail(f"{name}: {rival}", measured)
            if measured.answer is None:
                rival += f" (stopped after {PATIENCE_S} s)"
            elif measured.answer != expected:
                raise Failed(f"{name}: {rival} gave another answer")
            if rival.startswith("prefetch none"):
                paged = measured.bytes
            rivals.append((rival, measured.seconds))
        if any(m.answer != expected for m in times):
            raise Failed(f"{name}: sqlite-remote gave another answer")
        foreign = [s for n, s in rivals if not n.startswith(("prefetch none", "hither mount"))]
        best = min(foreign) if foreign else 0
        bar, met = verdict(name, ours, best, bench.rtt, bench.rate, paged, scanned)
        yield Row("wan", f"{name} ({ours.show()})", ours.seconds / bench.rtt, "RTT",
                  [(n, s / bench.rtt) for n, s in rivals], bar, met if foreign else None,
                  plot="SQLite queries, cold, RTT" if name != "scan" else None)


def all_local(bench, quick):
    """The VFS when every byte is here, beside SQLite's own on the same file."""
    path = os.path.join(bench.room.folder, "small.db")
    shop.make(path, 0.02 if quick else 0.1)
    done = run([PYTHON, os.path.join(os.path.dirname(__file__), "sqlite_client.py"),
                extension(bench), "local", path, bench.room.make("vfs-store")])
    figure = float(done.stdout)
    os.unlink(path)
    yield Row("local", "VFS, all local: rate / SQLite's own", figure, "", (), "0.90", figure >= 0.9)


def small_transactions(bench, quick):
    """Over metro, into a database that an NBD server has."""
    count = 100 if quick else 1000
    client = os.path.join(os.path.dirname(__file__), "sqlite_client.py")
    port = 10809

    def write(name):
        return float(run(bench.network.client(
            [PYTHON, client, extension(bench), "write", name, str(count)])).stdout)

    with tempfile.TemporaryDirectory(dir=bench.room.folder) as folder:
        own = write(f"file:{folder}/own.db")
        seconds = {}
        for sync in ("local", "remote"):
            image = f"{folder}/{sync}.img"
            with open(image, "wb") as out:
                out.truncate(64 << 20)
            server = bench.room.start(bench.network.server(
                ["qemu-nbd", "--persistent", "--shared=0", "-f", "raw", "-b", bench.network.server_host, "-p",
                 str(port), "--pid-file", f"{folder}/{sync}.pid", image]))
            wait_until(lambda s=sync: os.path.exists(f"{folder}/{s}.pid"), 10, "qemu-nbd")
            seconds[sync] = write(f"file:nbd://{bench.network.reach(port)}/?vfs=hither&sync={sync}"
                                  f"&store={folder}/store&state={folder}/state")
            server.terminate()
            server.wait()
            port += 1
    yield Row("metro", f"{count} small transactions, sync=local: rate / ext4's",
              own / seconds["local"], "", (), "0.5", own / seconds["local"] >= 0.5)
    trips = seconds["remote"] / count / bench.rtt
    yield Row("metro", f"{count} small transactions, sync=remote: each", trips, "RTT", (),
              "1.2 RTT", trips <= 1.2)
