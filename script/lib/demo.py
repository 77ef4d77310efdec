#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A database on a web server 50 ms away, queried through hither and after downloading it.

Usage: demo.py BUILD DATABASE; script/demo prepares both.
"""
import os
import sys
import threading
import time

from rig.network import open_network
from rig.process import Failed, Room, run
from rig.web import Web

QUERIES = [
    ("one order with its customer",
     "SELECT p.id, c.name, c.city, p.total FROM purchase p JOIN customer c ON c.id = p.customer"
     " WHERE p.id = 1234567"),
    ("the orders of one customer",
     "SELECT id, day, total FROM purchase WHERE customer = 123456 ORDER BY day"),
    ("an order's lines and products",
     "SELECT i.line, d.name, i.quantity, i.price FROM item i JOIN product d ON d.id = i.product"
     " WHERE i.purchase = 1777777 ORDER BY i.line"),
    ("revenue of one day",
     "SELECT count(*), sum(total) FROM purchase WHERE day = 2000"),
    ("revenue of a year, by month",
     "SELECT (day - 1460) / 31, count(*), sum(total) FROM purchase"
     " WHERE day BETWEEN 1460 AND 1824 GROUP BY 1 ORDER BY 1"),
    ("who bought most of one product",
     "SELECT c.name, sum(i.quantity) FROM item i JOIN purchase p ON p.id = i.purchase"
     " JOIN customer c ON c.id = p.customer WHERE i.product = 4711"
     " GROUP BY c.id ORDER BY 2 DESC, 1 LIMIT 3"),
]


def say(text=""):
    print(text, flush=True)


def headline(text):
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    say(f"\n\033[1m== {text}\033[0m" if bold else f"\n== {text}")


class Ticking:
    """A with block that takes a while: what tell() says and for how long, on a terminal in a line that is
    drawn over, else a line every ten seconds."""

    def __init__(self, tell):
        self.tell, self.over = tell, threading.Event()
        self.terminal = sys.stdout.isatty()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        if self.terminal:
            print("\r\033[K", end="", flush=True)

    def run(self):
        began = told = time.monotonic()
        while not self.over.wait(0.5):
            now = time.monotonic()
            text = f"   {now - began:.0f} s  {self.tell()}"
            if self.terminal:
                print(f"\r{text[:78]}\033[K", end="", flush=True)
            elif now - told >= 10:
                told = now
                say(text)


def timed(action):
    begin = time.monotonic()
    result = action()
    return time.monotonic() - begin, result


def query(path, sql):
    return run(["sqlite3", "-readonly", path, sql]).stdout


def answer_of(text):
    """One line of an answer, for the table."""
    lines = text.splitlines()
    first = lines[0] if lines else "(nothing)"
    more = f" (+{len(lines) - 1} rows)" if len(lines) > 1 else ""
    return (first[:30 - len(more)] + more)[:30]


class Demo:
    def __init__(self, room, build, database):
        self.room, self.database = room, database
        self.hither = os.path.join(build, "apps/hither/hither")
        self.size = os.path.getsize(database)
        self.network, _ = open_network(room, os.environ["top"], build, "wan")
        os.symlink(database, os.path.join(room.make("www"), "shop.db"))
        self.web = Web(room, self.network, room.path("www"))
        self.url = self.web.url("shop.db")

    def download(self):
        """What everybody does today."""
        copy = self.room.path("downloaded.db")
        command = self.network.client(["curl", "-sS", "-o", copy, self.url])
        with Ticking(lambda: f"{self.here(copy):.0f} of {self.size / 1e6:.0f} MB"):
            seconds, _ = timed(lambda: run(command))
        if os.path.getsize(copy) != self.size:
            raise Failed("the download is not as long as the original")
        return seconds, copy

    @staticmethod
    def here(path):
        return os.path.getsize(path) / 1e6 if os.path.exists(path) else 0

    def mount(self):
        path = self.room.path("shop.db")
        self.room.will_unmount(path)
        command = [self.hither, "mount", "--cache", self.room.path("cache"), self.url, path]
        say(f"   $ hither mount {self.url} {os.path.basename(path)}")
        seconds, _ = timed(lambda: run(self.network.client(command)))
        return seconds, path

    def unmount(self, path):
        say(f"   $ hither umount {os.path.basename(path)}")
        run([self.hither, "umount", path])
        if os.path.ismount(path):
            raise Failed(f"{path} is still mounted after umount")

    def ask(self, path, copy, before, download_s):
        """Every query through the mount, its answer beside the local file's: a row of the table each."""
        down = self.network.bytes("down")
        total, after_download, wrong = before, download_s, 0
        for what, sql in QUERIES:
            with Ticking(lambda what=what: f"{what} ..."):
                took, answer = timed(lambda sql=sql: query(path, sql))
            total += took
            local_s, expected = timed(lambda sql=sql: query(copy, sql))
            after_download += local_s
            wrong += answer != expected
            here = (self.network.bytes("down") - down) / self.size
            say(f"   {what:<31} {answer_of(answer):<31} {took:7.2f} s {total:8.2f} s"
                f" {after_download:9.2f} s {min(here, 1):8.1%}"
                + ("" if answer == expected else "   WRONG"))
        return total, wrong


def demo(build, database):
    with Room("hither-demo") as room:
        d = Demo(room, build, database)
        headline(f"A database of {d.size / 1e6:.0f} MB, on nginx behind a line of 200 Mbit/s, 50 ms away")
        say(f"   line: {d.network.kind}")
        headline("The old way: download it, then ask")
        say(f"   $ curl -o shop.db {d.url}")
        download_s, copy = d.download()
        say(f"   {download_s:.1f} s until the first answer")

        headline("With hither: ask at once")
        mount_s, path = d.mount()
        say(f"   {mount_s:.2f} s until the file is there: {path}")
        say("   $ sqlite3 shop.db 'SELECT ...'       (the stock sqlite3, nothing special)\n")
        say(f"   {'query':<31} {'answer':<31} {'took':>9} {'after':>10} {'downloaded':>11} {'fetched':>8}")
        say("   " + "-" * 105)
        total, wrong = d.ask(path, copy, mount_s, download_s)
        say("   " + "-" * 105)
        say("   after: since typing `hither mount`.  downloaded: the same moment, had we downloaded first."
            "\n   fetched: share of the file that has come over the line by then; the rest keeps coming"
            "\n   in the background.\n")
        d.unmount(path)
        if wrong:
            raise Failed(f"{wrong} of {len(QUERIES)} answers differ from the local file's")
        headline("Result")
        say(f"   All {len(QUERIES)} answers equal the local file's. All of them were there {total:.1f} s after"
            f"\n   the mount began; a download alone takes {download_s:.1f} s: {download_s / total:.1f} times"
            f" as long.")


def main():
    try:
        demo(*sys.argv[1:3])
    except Failed as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
