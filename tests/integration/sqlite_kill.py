#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sqlite_kill.py BUILD [SEED]: SIGKILL a program in the middle of transactions, again and again.

It writes a database in an NBD export over the VFS, with a rollback journal or a WAL, and tells each
COMMIT that has returned. After every kill the next program must find the database whole, with every
transaction that was told; another one at the same time is refused; and with sync=remote, the server
itself has all of it. HITHER_KILLS: how many, 12 if not set. Exit 0 passed, 1 failed, 77 skipped.
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from qemu_nbd import QemuNbd
from sanitized import environment

BUILD = os.path.realpath(sys.argv[1])
REMOTE = os.path.join(BUILD, "apps/sqlite-remote/sqlite-remote")
EXTENSION = os.path.join(BUILD, "core/frontend/sqlite/hither_vfs.so")
PYTHON = "/usr/bin/python3"
SIZE = 16 << 20

# Transactions of several pages; each row is in both tables, or in none.
WRITER = """
import sqlite3, sys
extension, uri, journal = sys.argv[1:]
loader = sqlite3.connect(":memory:")
if not hasattr(loader, "enable_load_extension"):
    sys.exit(77)
loader.enable_load_extension(True)
loader.load_extension(extension)
try:
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    db.execute("PRAGMA journal_mode=" + journal).fetchone()
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS a(id INTEGER PRIMARY KEY, data BLOB)")
    db.execute("CREATE TABLE IF NOT EXISTS b(id INTEGER PRIMARY KEY, k TEXT)")
    db.execute("CREATE INDEX IF NOT EXISTS bk ON b(k)")
    n = db.execute("SELECT coalesce(max(id), 0) FROM a").fetchone()[0]
    print("ready", n, flush=True)
    while True:
        n += 1
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO a VALUES(?, zeroblob(?))", (n, n * 977 % 9000))
        db.execute("INSERT INTO b VALUES(?, ?)", (n, str(n * 7919 % 10007)))
        db.execute("DELETE FROM a WHERE id = ?", (n - 300,))
        db.execute("DELETE FROM b WHERE id = ?", (n - 300,))
        db.execute("COMMIT")
        print(n, flush=True)
except sqlite3.Error as error:
    sys.exit(f"{error}: " + loader.execute("SELECT hither_error()").fetchone()[0])
"""


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def ask(options, url, sql, code=0):
    done = subprocess.run([REMOTE, *options, url, sql], capture_output=True, text=True,
                          check=False, timeout=60)
    if done.returncode != code:
        raise SystemExit(f"{sql}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def kill_one(work, url, rng, told, number):
    sync = rng.choice(("remote", "local"))
    journal = rng.choice(("delete", "truncate", "wal")) if sync == "local" else \
        rng.choice(("delete", "persist"))
    uri = f"file:{url.replace('?', '%3f')}?vfs=hither&sync={sync}&store={work}/cache&state={work}/state"
    options = ["--cache", f"{work}/cache", "--state", f"{work}/state", "--sync", "local"]
    # The journal mode is in the file: WAL is left with the database in it.
    ask(options, url, "PRAGMA journal_mode=delete")
    writer = subprocess.Popen([PYTHON, "-c", WRITER, EXTENSION, uri, journal],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment(EXTENSION))
    first = writer.stdout.readline()
    if not first.startswith("ready"):
        writer.wait()
        need(writer.returncode != 77, "Python's sqlite3 cannot load extensions")
        raise SystemExit(f"round {number}: the writer: {first} {writer.stderr.read()}")
    if number == 0:
        ask(options, url, "SELECT 1", code=1)  # in use
    time.sleep(rng.uniform(0.0, 0.12))  # the moment is what is tried
    writer.kill()
    # Not communicate(): it would pass over what readline() has taken into its buffer.
    out, err = writer.stdout.read(), writer.stderr.read()
    writer.wait()
    if writer.returncode != -9:
        raise SystemExit(f"round {number}: the writer ended by itself: {err}")
    told = max([told, *map(int, out.split("\n")[:-1])])
    checks = ("PRAGMA integrity_check; SELECT ifnull(max(id), 0) FROM a; SELECT ifnull(max(id), 0) FROM b;"
              "SELECT count(*) FROM (SELECT id FROM a EXCEPT SELECT id FROM b)")
    whole, a, b, lone = ask(options, url, checks).split()
    if whole != "ok" or a != b or lone != "0" or int(a) < told or int(a) > told + 1:
        raise SystemExit(f"round {number} ({sync}, {journal}): told {told}, found {a} and {b},"
                         f" {lone} lone rows, {whole}")
    return int(a), f"{sync} {journal}"


def run(work, rounds, rng):
    server = QemuNbd(work, SIZE)
    try:
        told, kinds = 0, {}
        for number in range(rounds):
            told, kind = kill_one(work, server.url, rng, told, number)
            kinds[kind] = kinds.get(kind, 0) + 1
        # All of it has been pushed by now: the server's own bytes are the database.
        shutil.copy(server.image, f"{work}/copy")
        found = subprocess.run(["sqlite3", f"file:{work}/copy?immutable=1",
                                "PRAGMA integrity_check; SELECT max(id) FROM a"],
                               capture_output=True, text=True, check=True).stdout.split()
        if found != ["ok", str(told)]:
            raise SystemExit(f"the server has {found}, not {told}")
        print(f"{rounds} kills ({', '.join(f'{v} {k}' for k, v in sorted(kinds.items()))}),"
              f" {told} transactions: none is lost, none is torn")
    finally:
        server.stop()


need(shutil.which("qemu-nbd"), "qemu-nbd is not installed")
need(shutil.which("sqlite3"), "sqlite3 is not installed")
with tempfile.TemporaryDirectory() as folder:
    run(folder, int(os.environ.get("HITHER_KILLS", "12")),
        random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1))
