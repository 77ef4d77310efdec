#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sqlite_read.py BUILD: databases on a web server behind a slow line, read in place.

Ten databases of different page sizes and features: PRAGMA integrity_check and a dump through the VFS
and through a FUSE mount equal the local file's, though the line has an outage meanwhile. Then
Python's own sqlite3 with load_extension, the program's errors and exit codes, a WAL and a journal
beside the database, a profile beside it, and a database that changes under a reader.
Exit 0 passed, 1 failed, 77 skipped.
"""
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

from rig.network import PROFILES, LinkNetwork  # noqa: E402
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


def remote(*args, code=0):
    done = subprocess.run([REMOTE, *args], capture_output=True, text=True,
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
    """The line goes and comes while the block runs."""

    def __init__(self, network):
        self.network, self.over = network, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        control = next(iter(self.network.controls.values()))
        while not self.over.wait(0.15):
            for state in ("on", "off"):
                subprocess.run([self.network.tool, "ctl", control, "outage", state], check=True,
                               stdout=subprocess.DEVNULL)
                if state == "on":
                    self.over.wait(0.3)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def equal_everywhere(room, web, www):
    fuse = os.access("/dev/fuse", os.R_OK | os.W_OK)
    with Outages(web.network):
        for name in DATABASES:
            local = os.path.join(www, name)
            dump = sqlite("-readonly", f"file:{local}?immutable=1", ".dump")
            url = web.url(name)
            expect(remote("--cache", "memory", url, "PRAGMA integrity_check").stdout == "ok\n",
                   f"{name}: integrity_check")
            expect(remote("--cache", room.path("cache"), url, ".dump").stdout == dump,
                   f"{name}: the dump over the VFS differs")
            if not fuse:
                continue
            path = room.path("mounted.db")
            room.will_unmount(path)
            remote("mount", "--cache", room.path("fuse-cache"), url, path)
            expect(sqlite(f"file:{path}?immutable=1", "PRAGMA integrity_check") == "ok\n",
                   f"{name}: integrity_check through FUSE")
            expect(sqlite(f"file:{path}?immutable=1", ".dump") == dump,
                   f"{name}: the dump through FUSE differs")
            subprocess.run([HITHER, "umount", path], check=True)
    print(f"{len(DATABASES)} databases are equal, with outages"
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
        done = remote("--cache", "memory", web.url(name), sql, code=code)
        expect(said in done.stderr, f"{name}, {sql}: {done.stderr!r} does not say {said!r}")
        expect(not done.stdout, f"{name}, {sql}: {done.stdout!r}")
    expect(remote("4k", code=1).stderr.startswith("sqlite-remote: "), "a missing file")
    expect("URL is missing" in remote("--stats", code=2).stderr, "no URL")
    told = remote("--stats", "--explain", "--cache", "memory", web.url("4k"),
                  "SELECT v FROM t WHERE id = 3")
    expect(told.stdout == "9\n" and "table t" in told.stderr and "round trips" in told.stderr,
           f"--stats --explain: {told}")
    print("errors have sqlite's exit codes, and say why")


def beside(room, web, www):
    """A WAL or journal that a server's own writer has left is not passed over."""
    db = sqlite3.connect(os.path.join(www, "live"))
    db.executescript("CREATE TABLE t(a); PRAGMA journal_mode=WAL; INSERT INTO t VALUES(1);")
    done = remote("--cache", "memory", web.url("live"), "SELECT * FROM t", code=14)
    expect("live-wal is beside the database" in done.stderr, done.stderr)
    remote("--cache", "memory", "--beside", "ignore", web.url("live"), "SELECT 1")
    db.close()
    expect(remote("--cache", "memory", web.url("live"), "SELECT * FROM t").stdout == "1\n",
           "after the checkpoint")
    shutil.copy(os.path.join(www, "4k"), os.path.join(www, "hot"))
    with open(os.path.join(www, "hot-journal"), "wb") as out:
        out.write(bytes.fromhex("d9d505f920a163d7") + bytes(1000))
    done = remote("--cache", "memory", web.url("hot"), "SELECT count(*) FROM t", code=14)
    expect("hot-journal is beside the database" in done.stderr, done.stderr)
    print("a WAL or a journal beside the database is refused")
    profile = os.path.join(www, "4k.hither-profile")
    sql = "SELECT sum(id) FROM t WHERE name < 'name 2'"
    remote("warm", "--cache", "memory", "--output", profile, web.url("4k"), sql)
    expect(open(profile, encoding="utf-8").readline() == "hither-profile 1\n", "the profile")
    waited = []
    for profile_used in ("none", None):
        told = remote("--cache", "memory", "--prefetch", "none", "--stats",
                      *(["--profile", profile_used] if profile_used else []), web.url("4k"), sql)
        waited.append(int(re.search(r"(\d+) of \d+ reads waited", told.stderr)[1]))
    expect(waited[1] < waited[0], f"reads that waited without and with the profile: {waited}")
    print(f"a profile beside the database is used: {waited[0]} waits become {waited[1]}")
    os.unlink(profile)


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
    expect("changed" in answer, f"another version's rows: {answer}")
    print("a database that changes under a reader fails with a message")


def main():
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
        web = Web(room, LinkNetwork(room, BUILD, "test"), www)
        web.url("")
        begin = time.monotonic()
        equal_everywhere(room, web, www)
        from_python(web)
        errors(web, www)
        beside(room, web, www)
        changing(web, www)
        print(f"{time.monotonic() - begin:.1f} s")
    return 0


try:
    sys.exit(main())
except Failed as failure:
    print(f"failed: {failure}")
    sys.exit(1)
