#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""soak.py BUILD [SECONDS [SEED]]: writable mounts over a bad line, for so long (20 s).

Two files, each behind an NBD server and a line of 50 ms and 200 Mbit/s that fails for 1 to 20 s at
random, loses all connections, or whose server is killed and comes back. fsx.py uses the one in every
way beside a plain copy; fio writes and verifies the other. The mounts come and go, with different
caches and both kinds of --sync. After each fsync under --sync=remote, and after each umount, the
server's file equals the plain copy. Exit 0 passed, 1 failed, 77 skipped.
"""
import os
import random
import re
import subprocess
import sys
import threading
import time

from nbd_line import Failed, Line, Mount, Server, expect, need, run
from rig.process import Room

FSX_BYTES = (48 << 20) + 1536  # qemu-nbd rounds a size up to sectors of 512
FIO_BYTES = (8 << 20, 32 << 20)  # in a short run, in a long one
UNALIGNED_BYTES = 1 << 20
HERE = os.path.dirname(os.path.realpath(__file__))


class Weather(threading.Thread):
    """Makes a line bad, and then good for ever, so that whoever works on it comes to an end."""

    def __init__(self, line, server, rng, longest, until):
        super().__init__()
        self.line, self.server, self.rng, self.longest = line, server, rng, longest
        self.until = until
        self.over = threading.Event()
        self.counts = {"outages": 0, "resets": 0, "server kills": 0}
        self.dark = 0.0
        self.failure = None

    def outage(self):
        seconds = self.rng.uniform(1, self.longest)
        self.counts["outages"] += 1
        self.dark += seconds
        self.line.tell("outage", "on")
        self.over.wait(seconds)
        self.line.tell("outage", "off")

    def reset(self):
        self.counts["resets"] += 1
        self.line.tell("reset")

    def kill(self):
        self.counts["server kills"] += 1
        self.server.kill()
        self.over.wait(self.rng.uniform(0, 2))
        self.server.start()

    def run(self):
        kinds = [self.outage, self.outage, self.reset, self.kill]
        try:
            while (not self.over.wait(self.rng.uniform(self.longest / 4, self.longest))
                   and time.monotonic() < self.until):
                self.rng.choice(kinds)()
        except Exception as error:  # noqa: BLE001: told by the main thread
            self.failure = error

    def stop(self):
        self.over.set()
        self.join()
        if self.failure:
            raise self.failure

    def summary(self):
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items() if n)
        return f"{counts}; {self.dark:.0f} s dark"


class Subject:
    """A file, its server, line and mount."""

    def __init__(self, room, build, name, size, rng):
        self.room, self.name, self.size, self.rng = room, name, size, rng
        self.image = room.path(f"{name}.img")
        with open(self.image, "wb") as f:
            f.write(rng.randbytes(size))
        self.server = Server(room, "qemu-nbd", self.image)
        self.line = Line(room, build, self.server.port)
        self.mount = Mount(room, build, f"nbd://127.0.0.1:{self.line.port}/", room.path(name))
        self.sync, self.used = None, []
        self.mounts = 0

    def options(self):
        self.sync = self.rng.choice(("remote", "local"))
        options = ["--write", f"--sync={self.sync}", "--push-interval",
                   self.rng.choice(("100ms", "1s", "5s")), "--cache",
                   self.rng.choice((self.room.path("cache"), self.room.path("cache"), "none"))]
        # Less room than the file needs: what is clean comes and goes.
        self.used = options + self.rng.choice(([], ["--cache-size", "8M"], ["--cache-size", "24M"]))
        return self.used

    def come(self):
        """Mount. In bad weather that may fail, if it says that it cannot connect; nothing else may."""
        options, end = self.options(), time.monotonic() + 60
        self.mounts += 1
        while True:
            try:
                self.mount.mount(*options)
                return
            except Failed as failure:
                if not re.search("cannot connect|no connection to", str(failure)) or time.monotonic() > end:
                    raise

    def same(self, when):
        with open(self.image, "rb") as a, open(self.image + ".copy", "rb") as b:
            there, here = a.read(), b.read()
        if there == here:
            return
        pages = [i for i in range(0, self.size, 4096) if there[i:i + 4096] != here[i:i + 4096]]
        raise Failed(f"{self.name}: the server's file differs from the plain copy {when}"
                     f" ({' '.join(self.used)}) in {len(pages)} pages of {4096} bytes:"
                     f" {', '.join(map(str, pages[:20]))}\n" + self.tail())


class Fsx(Subject):
    def __init__(self, room, build, seed):
        super().__init__(room, build, "fsx", FSX_BYTES, random.Random(f"fsx {seed}"))
        self.log = room.path("fsx.log")
        self.copy = self.image + ".copy"
        with open(self.image, "rb") as f, open(self.copy, "wb") as to:
            to.write(f.read())
        self.fsyncs = 0

    def exercise(self, seconds):
        with subprocess.Popen([sys.executable, os.path.join(HERE, "fsx.py"), self.mount.path,
                               self.copy, self.log, str(seconds), str(self.rng.getrandbits(32))],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            while process.stdout.read(1):
                self.fsyncs += 1
                if self.sync == "remote":
                    self.same("after fsync")
                process.stdin.write(b"\n")
                process.stdin.flush()
        expect(process.returncode == 0, f"fsx ended with {process.returncode}; its last operations:\n"
               + self.tail())

    def tail(self):
        with open(self.log, encoding="utf-8") as f:
            return "".join(f.readlines()[-25:])

    def round(self, until):
        self.come()
        self.exercise(max(3, min(until - time.monotonic(), self.rng.uniform(10, 60))))
        self.mount.umount()
        self.same("after umount")

    def summary(self):
        with open(self.log, encoding="utf-8") as f:
            operations = sum(1 for _ in f)
        return f"{operations} operations, {self.fsyncs} fsyncs, {self.mounts} mounts"


class Fio(Subject):
    def __init__(self, room, build, seed, long):
        super().__init__(room, build, "fio", FIO_BYTES[long], random.Random(f"fio {seed}"))

    def fio(self, path, job, *options):
        done = run(["fio", "--name=verify", f"--filename={path}", f"--size={self.size}",
                    "--rw=randwrite", "--verify=crc32c", "--verify_fatal=1", *job, *options],
                   check=False, cwd=self.room.folder)
        expect(done.returncode == 0, f"fio on {path} (--sync={self.sync}, {' '.join(job)}): exit"
               f" {done.returncode}: {done.stderr}{done.stdout}")

    def round(self, _):
        self.come()
        job = [f"--bs={self.rng.choice(('3000', '4k', '16k', '100k'))}",
               f"--ioengine={self.rng.choice(('psync', 'mmap', 'libaio'))}",
               f"--randseed={self.rng.getrandbits(31)}",
               f"--fsync={self.rng.choice((0, 0, 300))}"]
        if job[0].endswith("3000") and job[1].endswith("mmap"):
            job[1] = "--ioengine=psync"
        if job[0].endswith("3000"):
            # Each write waits for the blocks that it covers in part: a round trip each.
            job.append(f"--io_size={UNALIGNED_BYTES}")
        self.fio(self.mount.path, job, "--do_verify=1", "--end_fsync=1")
        self.mount.umount()
        self.fio(self.image, job, "--verify_only=1")

    def summary(self):
        return f"{self.mounts} mounts, each {self.size >> 20} MiB written and verified here and there"


def keep_on(subject, until, failures):
    try:
        while time.monotonic() < until and not failures:
            subject.round(until)
    except Exception as error:  # noqa: BLE001: told by the main thread
        failures.append(error)


def soak(room, build, seconds, seed):
    longest, until = min(20, max(1.5, seconds / 10)), time.monotonic() + seconds
    subjects = [Fsx(room, build, seed), Fio(room, build, seed, seconds > 60)]
    weathers = [Weather(s.line, s.server, random.Random(f"weather {s.name} {seed}"), longest,
                        until) for s in subjects]
    failures = []
    threads = [threading.Thread(target=keep_on, args=(s, until, failures)) for s in subjects]
    for t in weathers + threads:
        t.start()
    try:
        for t in threads:
            t.join()
    finally:
        for w in weathers:
            w.stop()
    if failures:
        raise failures[0]
    for subject, weather in zip(subjects, weathers):
        print(f"{subject.name}: {subject.summary()}; {weather.summary()}: equal")


def main():
    build = os.path.realpath(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().getrandbits(31)
    need("qemu-nbd", "fio")
    print(f"seed {seed}, {seconds:g} s", flush=True)
    try:
        with Room("hither-soak") as room:
            soak(room, build, seconds, seed)
    except Failed as failure:
        print(f"soak (seed {seed}): {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
