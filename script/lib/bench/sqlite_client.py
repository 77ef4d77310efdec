# SPDX-License-Identifier: Apache-2.0
"""Measured inside one process, with the VFS loaded; Debian's Python, whose sqlite3 loads extensions.

sqlite_client.py EXTENSION local PATH FOLDER    the same queries over SQLite's own VFS and ours, local
sqlite_client.py EXTENSION write URI COUNT      COUNT small transactions; URI may be a path
Prints one number: ours in parts of SQLite's own rate, or seconds.
"""
import sqlite3
import sys
import time


def connect(extension, name):
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(extension)
    return sqlite3.connect(name, uri=True, isolation_level=None)


LOCAL_QUERIES = [
    "SELECT sum(length(remark)) FROM purchase WHERE id % 7 = 0",
    "SELECT sum(p.total) FROM purchase p WHERE p.customer BETWEEN 10 AND 600",
    "SELECT count(*) FROM purchase p JOIN customer c ON c.id = p.customer WHERE p.id % 97 = 3",
    "SELECT count(*) FROM product_text WHERE product_text MATCH 'wevaba OR guwefo'",
]


def round_of(db):
    begin = time.perf_counter()
    for sql in LOCAL_QUERIES:
        db.execute(sql).fetchall()
    return time.perf_counter() - begin


def local(extension, path, folder):
    ours = connect(extension, f"file:file:{path}?vfs=hither&mode=ro&prefetch=all&store={folder}")
    own = sqlite3.connect(f"file:{path}?immutable=1", uri=True, isolation_level=None)
    while True:
        stats = eval(ours.execute("PRAGMA hither_stats").fetchone()[0])  # numbers, no null
        if stats["local_bytes"] == stats["size_bytes"]:
            break
        time.sleep(0.05)
    for db in (ours, own):
        db.execute("PRAGMA cache_size=200")  # so that pages are read again and again
        round_of(db)
    times = [(round_of(ours), round_of(own)) for _ in range(7)]
    print(min(own_s for _, own_s in times) / min(ours_s for ours_s, _ in times))


def write(extension, uri, count):
    db = connect(extension, uri)
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER)")
    db.execute("INSERT INTO t VALUES(0, 'the first', 0)")
    begin = time.perf_counter()
    for i in range(1, int(count) + 1):
        db.execute("INSERT INTO t VALUES(?, 'a small row', ?)", (i, i * 7))
    print(time.perf_counter() - begin)


{"local": local, "write": write}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
