#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill.py HITHER [ROUNDS [SEED [TAPISK]]]: SIGKILL the daemon in the middle of writes, again and again.

A program writes 512-byte to 64 KiB pieces into a mounted NBD export (with TAPISK: a tape file) and calls
fsync now and then. At a random moment the daemon is killed. With --sync=remote the server must then
have what fsync acknowledged; with --sync=local the next mount must have it, and must push it. What was
written after the last fsync may be there or not, piece by piece. Exit 0 passed, 1 failed, 77 skipped.
"""
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from qemu_nbd import QemuNbd

SIZE = 8 << 20
SECTOR = 512


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def hither(*args):
    return subprocess.run([HITHER, *args], capture_output=True, text=True)


def mount(work, url, sync):
    done = hither("mount", "--cache", f"{work}/cache", f"--sync={sync}", url, f"{work}/disk")
    if done.returncode:
        raise SystemExit(f"mount: {done.stderr}")


class Server(QemuNbd):
    """An NBD server with a file."""

    def __init__(self, work):
        super().__init__(work, SIZE)

    def check(self, model, what):
        model.check(self.image, what)


class Tape:
    """A tape file. What is on it is seen by mounting a copy, with no cache."""

    def __init__(self, work, tapisk):
        self.work = work
        self.url = f"tape:{work}/tape"
        os.mkdir(f"{work}/alone")
        open(f"{work}/alone/disk", "w").close()
        subprocess.run([tapisk, "format", f"{work}/tape", f"--size={SIZE}", "--capacity=8G"], check=True)

    def check(self, model, what):
        alone = f"{self.work}/alone"
        shutil.copyfile(f"{self.work}/tape", f"{alone}/tape")
        done = hither("mount", "--cache=none", "--read-only", f"tape:{alone}/tape", f"{alone}/disk")
        if done.returncode:
            raise SystemExit(f"{what}: {done.stderr}")
        try:
            model.check(f"{alone}/disk", what)
        finally:
            hither("umount", f"{alone}/disk")

    def stop(self):
        pass


def daemon_of(work):
    """The process that serves work/disk."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if words[0] == HITHER.encode() and f"{work}/disk".encode() in words:
            return int(pid)
    raise SystemExit("no daemon")


class Model:
    """What each sector may hold: the value of the last fsync, or of any write since."""

    def __init__(self):
        self.safe = [0] * (SIZE // SECTOR)
        self.later = {}

    def wrote(self, first, count, value):
        for s in range(first, first + count):
            self.later.setdefault(s, []).append(value)

    def synced(self):
        for s, values in self.later.items():
            self.safe[s] = values[-1]
        self.later = {}

    def check(self, path, what):
        with open(path, "rb") as f:
            data = f.read(SIZE)
        for s, safe in enumerate(self.safe):
            piece = data[s * SECTOR:(s + 1) * SECTOR]
            value = int.from_bytes(piece[:8], "little")
            if piece != value.to_bytes(8, "little") * (SECTOR // 8):
                raise SystemExit(f"{what}: sector {s} is torn")
            if value != safe and value not in self.later.get(s, []):
                raise SystemExit(f"{what}: sector {s} has {value}, not {safe} or {self.later.get(s)}")
            self.safe[s] = value
        self.later = {}


def write_until_killed(work, model, rng, value):
    gone = os.pidfd_open(daemon_of(work))
    killer = threading.Timer(rng.uniform(0.005, 0.15), signal.pidfd_send_signal,
                             (gone, signal.SIGKILL))
    try:
        fd = os.open(f"{work}/disk", os.O_RDWR)
        killer.start()
        while True:
            value += 1
            count = rng.choice((1, 3, 8, 16, 128))
            first = rng.randrange(SIZE // SECTOR - count)
            model.wrote(first, count, value)
            os.pwrite(fd, value.to_bytes(8, "little") * (SECTOR // 8 * count), first * SECTOR)
            if rng.random() < 0.2:
                os.fsync(fd)
                model.synced()
    except OSError:
        pass
    killer.join()
    try:
        os.close(fd)
    except OSError:
        pass
    select.select([gone], [], [])
    os.close(gone)
    return value


def run(work, server, rounds, rng):
    open(f"{work}/disk", "w").close()
    try:
        model, value = Model(), 0
        for i in range(rounds):
            sync = rng.choice(("remote", "local"))
            mount(work, server.url, sync)
            value = write_until_killed(work, model, rng, value)
            if sync == "remote" and rng.random() < 0.5:
                # The server alone: what fsync acknowledged is there already.
                only = Model()
                only.safe, only.later = list(model.safe), {k: list(v) for k, v in model.later.items()}
                server.check(only, f"round {i}, the server after a kill")
            mount(work, server.url, sync)
            model.check(f"{work}/disk", f"round {i}, the next mount")
            done = hither("umount", f"{work}/disk")
            if done.returncode:
                raise SystemExit(f"umount: {done.stderr}")
            server.check(model, f"round {i}, the server after umount")
        print(f"{rounds} kills, {value} writes: nothing that fsync acknowledged was lost")
    finally:
        hither("umount", "--lazy", f"{work}/disk")
        server.stop()


if len(sys.argv) < 2:
    raise SystemExit(__doc__)
HITHER = os.path.realpath(sys.argv[1])
ON_TAPE = len(sys.argv) > 4
# Not nbdkit: 1.32 aborts when a client vanishes while several of its threads answer.
need(ON_TAPE or shutil.which("qemu-nbd"), "qemu-nbd is not installed")
need(os.access("/dev/fuse", os.R_OK | os.W_OK), "no access to /dev/fuse")
with tempfile.TemporaryDirectory() as folder:
    run(folder, Tape(folder, sys.argv[4]) if ON_TAPE else Server(folder),
        int(sys.argv[2]) if len(sys.argv) > 2 else 10,
        random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1))
