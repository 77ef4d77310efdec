#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sqlite_read.py BUILD [wan]: databases on a web server behind a slow line, read in place.

Ten databases of different page sizes and features: PRAGMA integrity_check and a dump through the VFS
and through a FUSE mount equal the local file's, though the line has outages meanwhile. Then
Python's own sqlite3 with load_extension, the program's errors and exit codes, databases that are
damaged or served oddly, a WAL and a journal beside the database, a profile beside it, and a database
that changes under a reader, who may follow. wan: the ten alone, over 50 ms and 200 Mbit/s, by
../shared/wan where that is there. Exit 0 passed, 1 failed, 77 skipped.
"""
import functools
import http.server
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "script", "lib"))

from rig.network import PROFILES, LinkNetwork, open_network  # noqa: E402
from rig.process import Failed, Room  # noqa: E402
from rig.web import Web  # noqa: E402
from sanitized import environment  # noqa: E402

BUILD = os.path.realpath(sys.argv[1])
REMOTE = os.path.join(BUILD, "apps/sqlite-remote/sqlite-remote")
HITHER = os.path.join(BUILD, "apps/hither/hither")
EXTENSION = os.path.join(BUILD, "core/frontend/sqlite/hither_vfs.so")
PYTHON = "/usr/bin/python3"
PROFILES["test"] = (0.008, 200e6)

ROWS = ("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<{})"
        " INSERT INTO {} SELECT {} FROM n;")
PLAIN = ("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v INTEGER); CREATE INDEX tn ON t(name);"
         + ROWS.format(4000, "t", "i, printf('name %d', i*7919%4000), i*i"))
DATABASES = {
    "512": "PRAGMA page_size=512;" + PLAIN,
    "1k": "PRAGMA page_size=1024;" + PLAIN,
    "4k": PLAIN,
    "64k": "PRAGMA page_size=65536;" + PLAIN,
    "wal": PLAIN + "PRAGMA journal_mode=WAL; INSERT INTO t(name) VALUES('in the WAL');"
           "PRAGMA wal_checkpoint(TRUNCATE);",
    "autovacuum": "PRAGMA auto_vacuum=FULL;" + PLAIN + "DELETE FROM t WHERE id % 3 = 0;",
    "freelist": PLAIN + "DELETE FROM t WHERE id BETWEEN 1000 AND 3000;",
    "norowid": "CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
               + ROWS.format(3000, "w", "printf('%05d', i*7919%3000), i"),
    "overflow": "CREATE TABLE b(id INTEGER PRIMARY KEY, data BLOB);"
                + ROWS.format(40, "b", "i, randomblob(i*1000)"),
    "fts": PLAIN + "CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f SELECT name FROM t;"
           "PRAGMA user_version=7;",
}


def sqlite(*args, **options):
    return subprocess.run(["sqlite3", *args], capture_output=True, text=True, check=True,
                          **options).stdout


def remote(*args, code=0, through=list):
    done = subprocess.run(through([REMOTE, *args]), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False, timeout=60,
                          env=environment(EXTENSION))
    if done.returncode != code:
        raise Failed(f"sqlite-remote {' '.join(args)}: exit {done.returncode}, not {code}:"
                     f" {done.stderr}")
    return done


def expect(condition, what):
    if not condition:
        raise Failed(what)


class Outages:
    """The line goes and comes while the block runs; seconds."""

    def __init__(self, network, well, gone):
        self.network, self.over = network, threading.Event()
        self.well, self.gone, self.count = well, gone, 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(self.well):
            self.network.outage(True)
            self.over.wait(self.gone)
            self.network.outage(False)
            self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def equal_everywhere(room, web, www, well=0.15, gone=0.3):
    fuse = os.access("/dev/fuse", os.R_OK | os.W_OK)
    through = functools.partial(remote, through=web.network.client)
    with Outages(web.network, well, gone) as outages:
        for name in DATABASES:
            local = os.path.join(www, name)
            dump = sqlite("-readonly", f"file:{local}?immutable=1", ".dump")
            url = web.url(name)
            expect(through("--cache", "none", url, "PRAGMA integrity_check").stdout == "ok\n",
                   f"{name}: integrity_check")
            expect(through("--cache", room.path("cache"), url, ".dump").stdout == dump,
                   f"{name}: the dump over the VFS differs")
            if not fuse:
                continue
            path = room.path("mounted.db")
            room.will_unmount(path)
            through("mount", "--cache", room.path("fuse-cache"), url, path)
            expect(sqlite(f"file:{path}?immutable=1", "PRAGMA integrity_check") == "ok\n",
                   f"{name}: integrity_check through FUSE")
            expect(sqlite(f"file:{path}?immutable=1", ".dump") == dump,
                   f"{name}: the dump through FUSE differs")
            subprocess.run([HITHER, "umount", path], check=True)
    print(f"{len(DATABASES)} databases are equal, with {outages.count} outages"
          + ("" if fuse else " (not through FUSE, which is not here)"))


PYTHON_TEST = """
import sqlite3, sys
extension, url = sys.argv[1:]
loader = sqlite3.connect(":memory:")
if not hasattr(loader, "enable_load_extension"):
    sys.exit(77)
loader.enable_load_extension(True)
loader.load_extension(extension)
uri = "file:" + url + "?vfs=hither"
one, two = (sqlite3.connect(uri, uri=True) for _ in range(2))
assert one.execute("SELECT count(*), sum(v) FROM t").fetchone()[0] == 4000
assert two.execute("SELECT name FROM t WHERE id = 77").fetchone() == ("name 1763",)
stats = eval(one.execute("PRAGMA hither_stats").fetchone()[0])
assert stats["pulled_bytes"] <= stats["size_bytes"] and stats["size_bytes"] > 0, stats
try:
    one.execute("INSERT INTO t(v) VALUES(1)")
    raise SystemExit("a web server took a row")
except sqlite3.OperationalError as error:
    assert "readonly" in str(error), error
try:
    sqlite3.connect("file:" + url + "-not?vfs=hither", uri=True)
    raise SystemExit("what is not there was opened")
except sqlite3.OperationalError:
    assert "404" in loader.execute("SELECT hither_error()").fetchone()[0]
"""


def from_python(web):
    done = subprocess.run([PYTHON, "-c", PYTHON_TEST, EXTENSION, web.url("4k")], check=False,
                          capture_output=True, text=True, env=environment(EXTENSION))
    if done.returncode == 77:
        print("Python's sqlite3 cannot load extensions here: not tried")
    else:
        expect(done.returncode == 0, f"Python: {done.stderr}")
        print("Python's sqlite3 reads through the extension")


def errors(web, www):
    with open(os.path.join(www, "noise"), "wb") as out:
        out.write(os.urandom(20000))
    with open(os.path.join(www, "4k"), "rb") as whole, open(os.path.join(www, "cut"), "wb") as out:
        out.write(whole.read(50000))
    many = "SELECT sum(length(name)) FROM t"
    cases = [("4k", "SELECT x FROM t", 1, "no such column: x"),
             ("4k", "SELEC 1", 1, "syntax error"),
             ("noise", many, 26, "it is another file, or an encrypted one"),
             ("cut", many, 11, "is truncated: 50000 bytes of"),
             ("nowhere", many, 1, "answer 404"),
             ("4k", "INSERT INTO t(v) VALUES(1)", 8, "readonly")]
    for name, sql, code, said in cases:
        done = remote("--cache", "none", web.url(name), sql, code=code)
        expect(said in done.stderr, f"{name}, {sql}: {done.stderr!r} does not say {said!r}")
        expect(not done.stdout, f"{name}, {sql}: {done.stdout!r}")
    expect(remote("4k", code=1).stderr.startswith("sqlite-remote: "), "a missing file")
    expect("URL is missing" in remote("--stats", code=2).stderr, "no URL")
    told = remote("--stats", "--explain", "--cache", "none", web.url("4k"),
                  "SELECT v FROM t WHERE id = 3000")
    expect(told.stdout == "9000000\n" and "round trips" in told.stderr and
           re.search(r"table t +[1-9]\d* pages: +\d+ waited for, +\d+ guessed in time", told.stderr),
           f"--stats --explain: {told}")
    told = remote("--stats", "--cache", "none", os.path.join(www, "4k"), "SELECT v FROM t WHERE id = 3")
    expect("reads waited" in told.stderr and "round trips" not in told.stderr, f"--stats of a file: {told}")
    expect("Usage: sqlite-remote mount" in remote("mount", "--help").stdout, "mount --help")
    print("errors have sqlite's exit codes, and say why")


def beside(room, web, www):
    """A WAL or journal that a server's own writer has left is not passed over."""
    db = sqlite3.connect(os.path.join(www, "live"))
    db.executescript("CREATE TABLE t(a); PRAGMA journal_mode=WAL; INSERT INTO t VALUES(1);")
    done = remote("--cache", "none", web.url("live"), "SELECT * FROM t", code=14)
    expect("live-wal is beside the database" in done.stderr, done.stderr)
    remote("--cache", "none", "--beside", "ignore", web.url("live"), "SELECT 1")
    db.close()
    expect(remote("--cache", "none", web.url("live"), "SELECT * FROM t").stdout == "1\n",
           "after the checkpoint")
    shutil.copy(os.path.join(www, "4k"), os.path.join(www, "hot"))
    with open(os.path.join(www, "hot-journal"), "wb") as out:
        out.write(bytes.fromhex("d9d505f920a163d7") + bytes(1000))
    done = remote("--cache", "none", web.url("hot"), "SELECT count(*) FROM t", code=14)
    expect("hot-journal is beside the database" in done.stderr, done.stderr)
    print("a WAL or a journal beside the database is refused")
    profile = os.path.join(www, "4k.hither-profile")
    sql = "SELECT sum(id) FROM t WHERE name < 'name 2'"
    remote("warm", "--cache", "none", "--output", profile, web.url("4k"), sql)
    expect(open(profile, encoding="utf-8").readline() == "hither-profile 1\n", "the profile")
    waited = []
    for profile_used in ("none", None):
        told = remote("--cache", "none", "--prefetch", "none", "--stats",
                      *(["--profile", profile_used] if profile_used else []), web.url("4k"), sql)
        waited.append(int(re.search(r"(\d+) of \d+ reads waited", told.stderr)[1]))
    expect(waited[1] < waited[0], f"reads that waited without and with the profile: {waited}")
    print(f"a profile beside the database is used: {waited[0]} waits become {waited[1]}")
    os.unlink(profile)


def odd_files(www):
    """Databases that are no good, or nearly so: by name, each with a query that meets what is wrong."""
    def copy_of(name, change):
        with open(os.path.join(www, "4k"), "rb") as whole:
            data = bytearray(whole.read())
        change(data)
        with open(os.path.join(www, name), "wb") as out:
            out.write(data)

    root = int(sqlite(os.path.join(www, "4k"), "SELECT rootpage FROM sqlite_schema WHERE name = 't'"))
    base = (root - 1) * 4096

    def circle(data):
        """The root's rightmost child is the root; its first child is a child of another tree."""
        expect(data[base] == 5, "the root of t is no interior page")
        data[base + 8:base + 12] = root.to_bytes(4, "big")
        cell = base + int.from_bytes(data[base + 12:base + 14], "big")
        data[cell:cell + 4] = (1).to_bytes(4, "big")

    def long_circle(data):
        """Every interior page's children are that page's neighbours, round and round."""
        pages = [n for n in range(1, len(data) // 4096) if data[n * 4096] in (2, 5)]
        for number, page in enumerate(pages):
            target = pages[(number + 1) % len(pages)] + 1
            data[page * 4096 + 8:page * 4096 + 12] = target.to_bytes(4, "big")

    copy_of("circle", circle)
    copy_of("long-circle", long_circle)
    copy_of("odd-size", lambda data: data.extend(bytes(1000)))
    copy_of("no-pages", lambda data: data.__delitem__(slice(60, None)))
    for name in ("circle", "long-circle", "odd-size", "no-pages"):
        for sql in ("SELECT sum(v) FROM t", "SELECT count(*) FROM t WHERE name > 'name 3'",
                    "PRAGMA integrity_check(3)"):
            yield name, sql


def damaged(web, www):
    """As the stock program on a local copy, and no byte of the file is fetched twice."""
    for name, sql in odd_files(www):
        local = subprocess.run(["sqlite3", f"file:{os.path.join(www, name)}?immutable=1", sql],
                               capture_output=True, text=True, check=False)
        told = remote("--stats", "--cache", "none", web.url(name), sql, code=local.returncode)
        expect(told.stdout == local.stdout, f"{name}, {sql}: {told.stdout!r}, not {local.stdout!r}")
        for requests in re.findall(r": (\d+) requests", told.stderr):
            expect(int(requests) < 200, f"{name}, {sql}: {told.stderr}")
    print("damaged databases are to us what they are to sqlite3")


class Plain(http.server.SimpleHTTPRequestHandler):
    """Knows no ranges."""

    def log_message(self, *_):
        pass


def without_ranges(www):
    sqlite(os.path.join(www, "large"), "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(3000000))")
    handler = functools.partial(Plain, directory=www)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            expect(remote("--cache", "none", url + "4k", "SELECT count(*) FROM t").stdout == "4000\n",
                   "a small database of a server without ranges")
            said = remote("--cache", "none", url + "large", "SELECT count(*) FROM t", code=1).stderr
            expect("range" in said and said.count("\n") == 1, f"without ranges: {said!r}")
        finally:
            server.shutdown()
            thread.join()
    print("a server without ranges: a small database is read, a large one refused")


CHANGE_TEST = """
import sqlite3, sys
extension, url = sys.argv[1:]
loader = sqlite3.connect(":memory:")
if not hasattr(loader, "enable_load_extension"):
    sys.exit(0)
loader.enable_load_extension(True)
loader.load_extension(extension)
db = sqlite3.connect("file:" + url + "?vfs=hither&prefetch=none", uri=True)
print(db.execute("SELECT v FROM t WHERE id = 1").fetchone(), flush=True)
sys.stdin.readline()
try:
    print(db.execute("SELECT sum(v) FROM t").fetchone())
except sqlite3.OperationalError:
    print(db.execute("PRAGMA hither_error").fetchone()[0])
"""


def changing(web, www):
    path = os.path.join(www, "changing")
    shutil.copy(os.path.join(www, "512"), path)
    reader = subprocess.Popen([PYTHON, "-c", CHANGE_TEST, EXTENSION, web.url("changing")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env=environment(EXTENSION))
    expect(reader.stdout.readline() == "(1,)\n", "the first read")
    sqlite(path, "UPDATE t SET v = v + 1")
    os.utime(path, (1e9, 1e9))
    answer = reader.communicate("\n")[0]
    expect("changed" in answer and "--follow" in answer, f"another version's rows: {answer}")
    shell = subprocess.Popen([REMOTE, "--cache", "none", "--prefetch", "none", web.url("changing")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=environment(EXTENSION))
    shell.stdin.write("SELECT v FROM t WHERE id = 1;\n")
    shell.stdin.flush()
    expect(shell.stdout.readline() == "2\n", "the shell's first read")
    sqlite(path, "UPDATE t SET v = v + 1")
    os.utime(path, (1e9 + 1, 1e9 + 1))
    answer, said = shell.communicate("SELECT sum(v) FROM t;\n")
    expect(not answer and "has changed" in said and "--follow" in said and said.count("changed") == 1,
           f"a shell whose database changes: {answer!r} {said!r}")
    print("a database that changes under a reader fails with a message")


# Each version has its own number in all rows. Sees that none is mixed with another, and that the last one comes.
FOLLOW_TEST = """
import sqlite3, sys, time
extension, url, last = sys.argv[1:]
loader = sqlite3.connect(":memory:")
if not hasattr(loader, "enable_load_extension"):
    sys.exit(77)
loader.enable_load_extension(True)
loader.load_extension(extension)
uri = "file:" + url + "?vfs=hither&prefetch=none&follow=on"
one, two = (sqlite3.connect(uri, uri=True, isolation_level=None) for _ in range(2))
end, seen, failed = time.monotonic() + 30, [], 0
while (not seen or seen[-1] != int(last)) and time.monotonic() < end:
    try:
        one.execute("BEGIN")
        a = one.execute("SELECT min(v), max(v), count(*) FROM t").fetchone()
        b = one.execute("SELECT min(v), max(v), count(*) FROM t WHERE name > ''").fetchone()
        assert a == b and a[0] == a[1] and a[2] == 3000, (a, b)
        assert two.execute("SELECT count(DISTINCT v) FROM t").fetchone() == (1,)
        if not seen or seen[-1] != a[0]:
            seen.append(a[0])
            print(a[0], flush=True)
    except sqlite3.OperationalError as error:
        failed += 1
        assert "disk I/O" in str(error), error
        assert "changed" in loader.execute("SELECT hither_error()").fetchone()[0]
    finally:
        if one.in_transaction:
            one.execute("COMMIT")
assert seen[-1] == int(last), seen
assert one.execute("PRAGMA integrity_check").fetchone() == ("ok",)
print("saw", seen, "and", failed, "failed queries", file=sys.stderr)
"""


def version_of(path, number):
    """Made anew: the counters in its header are the same each time; every third has another schema."""
    columns = "z TEXT, v INTEGER, name TEXT" if number % 3 == 2 else "name TEXT, v INTEGER"
    values = "'z', {0}, 'name ' || i" if number % 3 == 2 else "'name ' || i, {0}"
    new = path + ".new"
    sqlite(new, ("CREATE TABLE pad(x); INSERT INTO pad VALUES(zeroblob(30000));" if number % 2 else "")
           + f"CREATE TABLE t(id INTEGER PRIMARY KEY, {columns});"
           + ROWS.format(3000, "t", "i, " + values.format(number)))
    os.utime(new, (1e9 + number, 1e9 + number))
    os.replace(new, path)


def following(web, www):
    path, versions = os.path.join(www, "followed"), 6
    version_of(path, 0)
    reader = subprocess.Popen([PYTHON, "-c", FOLLOW_TEST, EXTENSION, web.url("followed"),
                               str(versions - 1)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env=environment(EXTENSION))
    for number in range(1, versions):
        if not reader.stdout.readline():
            break
        version_of(path, number)
    said = reader.communicate()[1].strip()
    if reader.returncode == 77:
        print("Python's sqlite3 cannot load extensions here: following was not tried")
        return
    expect(reader.returncode == 0, f"following: {said}")
    expect(remote("--follow", "--cache", "none", web.url("followed"), "SELECT max(v) FROM t",
                  "SELECT min(v) FROM t").stdout == f"{versions - 1}\n" * 2, "--follow")
    print(f"a reader that follows {said}")


KEEP_TEST = """
import sqlite3, sys, time
extension, url, cache = sys.argv[1:]
loader = sqlite3.connect(":memory:")
if not hasattr(loader, "enable_load_extension"):
    sys.exit(77)
loader.enable_load_extension(True)
loader.load_extension(extension)
db = sqlite3.connect("file:" + url + "?vfs=hither&prefetch=none&follow=on&store=" + cache, uri=True,
                     isolation_level=None)
db.execute("SELECT sum(length(name)), sum(v) FROM t").fetchall()
stats = lambda: eval(db.execute("PRAGMA hither_stats").fetchone()[0])
print(stats()["pulled_bytes"], flush=True)
sys.stdin.readline()
end = time.monotonic() + 20
while db.execute("SELECT v FROM t WHERE id = 2000").fetchone() != (-1,):
    assert time.monotonic() < end, "the new version did not come"
db.execute("SELECT sum(length(name)), sum(v) FROM t").fetchall()
print(stats()["pulled_bytes"], db.execute("PRAGMA integrity_check").fetchone()[0], flush=True)
"""


def keeping(room, web, www):
    """With a manifest beside it, only what has changed is fetched again; one that is out of date is not believed."""
    path = os.path.join(www, "kept")
    for cache, good in (("memory", True), (room.path("kept-cache"), True), ("memory", False)):
        sqlite(path, "PRAGMA page_size=4096;" + PLAIN)
        os.utime(path, (1e9, 1e9))
        index = [HITHER, "index", "--quiet", "--chunk", "4K", "--output"]
        subprocess.run([*index, path + ".hither", path], check=True, stdout=subprocess.DEVNULL)
        reader = subprocess.Popen([PYTHON, "-c", KEEP_TEST, EXTENSION, web.url("kept"), cache],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, env=environment(EXTENSION))
        first = reader.stdout.readline()
        if not first:
            expect(reader.wait() == 77, reader.stderr.read())
            print("Python's sqlite3 cannot load extensions here: keeping was not tried")
            return
        shutil.copy(path, path + ".new")
        sqlite(path + ".new", "UPDATE t SET v = -1 WHERE id = 2000")
        os.utime(path + ".new", (1e9 + 1, 1e9 + 1))
        if good:
            subprocess.run([*index, path + ".hither", path + ".new"], check=True,
                           stdout=subprocess.DEVNULL)
        os.replace(path + ".new", path)
        said, wrong = reader.communicate("\n")
        expect(reader.returncode == 0 and said.endswith(" ok\n"), f"keeping: {said} {wrong}")
        before, after = int(first), int(said.split()[0])
        expect((after * 4 < before) == good, f"keeping, {cache}, manifest good: {good}: {before}, {after}")
        print(f"a new version, its manifest {'beside it' if good else 'out of date'}: {after} bytes"
              f" after {before}")
        os.unlink(path)


def main():
    wan = sys.argv[2:] == ["wan"]
    if not shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or \
            not shutil.which("sqlite3"):
        print("skipped: nginx or sqlite3 is not installed")
        return 77
    os.environ["PATH"] += ":/usr/sbin"
    with Room("sqlite-read") as room:
        os.environ.update(HOME=room.folder, XDG_CACHE_HOME=room.path("xdg"),
                          XDG_STATE_HOME=room.path("state"))
        os.chdir(room.folder)
        www = room.make("www")
        for name, sql in DATABASES.items():
            sqlite(os.path.join(www, name), sql)
        network, why = open_network(room, TOP, BUILD, "wan") if wan else \
            (LinkNetwork(room, BUILD, "test"), "")
        web = Web(room, network, www)
        web.url("")
        begin = time.monotonic()
        if wan:
            print(f"line: {network.kind} {why}")
            equal_everywhere(room, web, www, 2.0, 0.7)
            print(f"{time.monotonic() - begin:.1f} s")
            return 0
        equal_everywhere(room, web, www)
        from_python(web)
        errors(web, www)
        damaged(web, www)
        without_ranges(www)
        beside(room, web, www)
        changing(web, www)
        following(web, www)
        keeping(room, web, www)
        print(f"{time.monotonic() - begin:.1f} s")
    return 0


try:
    sys.exit(main())
except Failed as failure:
    print(f"failed: {failure}")
    sys.exit(1)
