# SPDX-License-Identifier: Apache-2.0
"""fsx.py FILE COPY LOG SECONDS SEED: use FILE in every way at random, and COPY, which is as
long, in the same way: each byte that is read from FILE must be COPY's.

Reads, writes, reads and writes of a shared mapping, fsync, msync, dropped page cache, a truncation
(which must be refused), open and close. Each operation is written to LOG before it is done. After
every fsync an s is written to stdout, and a line is waited for on stdin: somebody may look at what
is behind FILE meanwhile. Exit 0, or 1 and what differs on stderr.
"""
import errno
import faulthandler
import mmap
import os
import random
import sys
import time


class Exerciser:
    def __init__(self, path, copy, log, rng):
        self.path, self.rng = path, rng
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(copy, "r+b") as f:
            self.copy = mmap.mmap(f.fileno(), 0)
        self.size, self.count = len(self.copy), 0
        self.fd = self.map = None
        self.open()

    def open(self):
        self.fd = os.open(self.path, os.O_RDWR)
        self.map = mmap.mmap(self.fd, self.size)

    def close(self):
        self.map.close()
        os.close(self.fd)

    def note(self, *words):
        self.count += 1
        os.write(self.log, f"{self.count} {time.monotonic():.3f} {' '.join(map(str, words))}\n".encode())

    def place(self, longest):
        """Anywhere; often near the one before, at the end, or page by page."""
        length = min(int(2 ** self.rng.uniform(0, longest)), self.size)
        offset = self.rng.randrange(self.size - length + 1)
        kind = self.rng.random()
        if kind < 0.25:
            offset, length = offset & ~4095, max(length & ~4095, 4096)
        elif kind < 0.3:
            offset = self.size - length
        return min(offset, self.size - length), length

    def compare(self, what, offset, found):
        wanted = self.copy[offset:offset + len(found)]
        if found == wanted:
            return
        differs = [i for i in range(len(found)) if found[i] != wanted[i]]
        raise SystemExit(f"operation {self.count}, {what} at {offset}+{len(found)}: {len(differs)} bytes"
                         f" differ, the first at {offset + differs[0]}: {found[differs[0]]:#x}, not"
                         f" {wanted[differs[0]]:#x}; the last at {offset + differs[-1]}")

    # --- operations ---

    def read(self):
        offset, length = self.place(20)
        self.note("read", offset, length)
        found = os.pread(self.fd, length, offset)
        if len(found) != length:
            raise SystemExit(f"operation {self.count}: read {len(found)} of {length} bytes")
        self.compare("read", offset, found)

    def map_read(self):
        offset, length = self.place(17)
        self.note("map-read", offset, length)
        self.compare("map-read", offset, self.map[offset:offset + length])

    def write(self):
        offset, length = self.place(18)
        data = self.rng.randbytes(length)
        self.note("write", offset, length)
        done = os.pwrite(self.fd, data, offset)
        if done != length:
            raise SystemExit(f"operation {self.count}: wrote {done} of {length} bytes")
        self.copy[offset:offset + length] = data

    def map_write(self):
        offset, length = self.place(16)
        data = self.rng.randbytes(length)
        self.note("map-write", offset, length)
        self.map[offset:offset + length] = data
        self.copy[offset:offset + length] = data

    def fsync(self):
        self.note("fsync")
        os.fsync(self.fd)
        sys.stdout.write("s")
        sys.stdout.flush()
        if not sys.stdin.readline():
            raise SystemExit("nobody is there any more")

    def msync(self):
        self.note("msync")
        self.map.flush()

    def drop(self):
        self.note("drop")
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def truncate(self):
        self.note("truncate")
        try:
            os.ftruncate(self.fd, self.rng.randrange(self.size))
        except OSError as error:
            if error.errno == errno.EPERM:
                return
            raise
        raise SystemExit(f"operation {self.count}: truncated")

    def reopen(self):
        self.note("reopen")
        self.close()
        self.open()

    def run(self, seconds):
        operations = ((self.read, 30), (self.map_read, 20), (self.write, 24), (self.map_write, 16),
                      (self.fsync, 2), (self.msync, 1), (self.drop, 3), (self.truncate, 1),
                      (self.reopen, 3))
        ways, weights = zip(*operations)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.rng.choices(ways, weights)[0]()
        self.fsync()
        self.note("close")
        self.close()


if __name__ == "__main__":
    faulthandler.enable()  # a SIGBUS, where a mapped page cannot be had
    target, plain, log_path, duration, seed = sys.argv[1:6]
    Exerciser(target, plain, log_path, random.Random(int(seed))).run(float(duration))
