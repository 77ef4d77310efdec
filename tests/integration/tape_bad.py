#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tape_bad.py TAPISK HITHER: tapes that fail, under a mount. Exit 0 passed, 1 failed, 77 skipped.

A record that cannot be read, the end of the medium in the middle of writes, a full cache disk, caches of
another tape and of an older state, discards, a copy that is killed. A full cache disk needs root for a small file system.
"""
import contextlib
import ctypes
import errno
import mmap
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

MIB = 1 << 20
BLOCK = 4096


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def run(*args, fails=False):
    done = subprocess.run(args, capture_output=True, text=True)
    if bool(done.returncode) != fails:
        raise SystemExit(f"{' '.join(args)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Disk:
    """A tape that is mounted."""

    def __init__(self, work, *options):
        self.path = f"{work}/disk"
        open(self.path, "a").close()
        run(TAPISK, "mount", f"{work}/tape", self.path, *options)

    def __enter__(self):
        return self

    def umount(self, *options, fails=False):
        return run(HITHER, "umount", self.path, *options, fails=fails)

    def __exit__(self, *_):
        subprocess.run([HITHER, "umount", "--force", self.path], capture_output=True)


def pattern(block, version):
    return struct.pack("<QQ", block, version) * (BLOCK // 16)


def write(path, blocks, version, sync=True):
    """Returns what failed, or None."""
    fd = os.open(path, os.O_RDWR)
    try:
        for b in blocks:
            os.pwrite(fd, pattern(b, version), b * BLOCK)
        if sync:
            os.fsync(fd)
    except OSError as e:
        return e.errno
    finally:
        try:
            os.close(fd)
        except OSError:
            pass
    return None


def damage(tape, number):
    """Change a byte of a data record in the tape file (core/tape/drive_file.c); returns its blocks."""
    with open(tape, "r+b") as f:
        at = 16
        while True:
            f.seek(at)
            _, length = struct.unpack("<II", f.read(8))
            if number == 0:
                break
            at += 8 + length
            number -= 1
        head = f.read(88)
        blocks = struct.unpack("<I", head[56:60])[0]
        blocks = struct.unpack(f"<{blocks}Q", f.read(8 * blocks))
        f.seek(at + 8 + length // 2)
        byte = f.read(1)[0]
        f.seek(at + 8 + length // 2)
        f.write(bytes([byte ^ 1]))
        return sorted(blocks)


def read_all(path, version_of):
    """The blocks that cannot be read; all others are right."""
    bad = []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buf = mmap.mmap(-1, BLOCK)
    for b in range(1024):
        try:
            os.preadv(fd, [buf], b * BLOCK)
            if buf[:] != pattern(b, version_of(b)):
                raise SystemExit(f"block {b} is wrong")
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            bad.append(b)
    os.close(fd)
    return bad


def a_bad_record(work):
    """EIO for its blocks alone, until they are written again."""
    run(TAPISK, "format", f"{work}/tape", "--size=4M", "--capacity=1G")
    with Disk(work) as d:
        if write(d.path, range(1024), 1):
            raise SystemExit("write failed")
        d.umount()
    lost = damage(f"{work}/tape", 3)
    again = lost[:len(lost) // 2]
    with Disk(work, "--cache=none") as d:
        bad = read_all(d.path, lambda b: 1)
        if bad != lost:
            raise SystemExit(f"{len(bad)} blocks are bad, not {len(lost)}")
        if write(d.path, again, 2):
            raise SystemExit("writing over bad blocks failed")
        d.umount()
    with Disk(work, "--cache=none", "--read-only") as d:
        bad = read_all(d.path, lambda b: 2 if b in again else 1)
        if bad != lost[len(again):]:
            raise SystemExit(f"{len(bad)} blocks are bad after writing over {len(again)}")
        d.umount()
    said = run(TAPISK, "compact", f"{work}/tape", f"{work}/second", fails=True)
    if f"{len(bad) * BLOCK} bytes cannot be read" not in said:
        raise SystemExit(said)


def the_end_of_the_medium(work):
    """What fsync did not promise fails; what it promised is on the tape; nothing hangs."""
    run(TAPISK, "format", f"{work}/tape", "--size=64M", "--capacity=40M")
    with Disk(work, "--sync=remote") as d:
        if write(d.path, range(2048), 1):
            raise SystemExit("write failed")
        failed = write(d.path, range(2048, 10240), 2)
        if failed != errno.ENOSPC:
            raise SystemExit(f"no ENOSPC on a full tape, but {failed}")
        if "full" not in d.umount(fails=True):
            raise SystemExit("umount does not say that the tape is full")
        d.umount("--force")
    shutil.rmtree(f"{work}/cache")
    os.mkdir(f"{work}/cache")
    with Disk(work, "--read-only") as d:
        with open(d.path, "rb") as f:
            for b in range(2048):
                if f.read(BLOCK) != pattern(b, 1):
                    raise SystemExit(f"block {b} was lost")
        d.umount()
    run(TAPISK, "verify", f"{work}/tape")


def a_full_cache_disk(work):
    """ENOSPC, or all of it; and what fsync promised is on the tape in the end."""
    os.mkdir(f"{work}/small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", f"{work}/small"],
                      capture_output=True).returncode:
        print("a full cache disk: not tried, no small file system without root")
        return
    try:
        run(TAPISK, "format", f"{work}/tape", "--size=32M", "--capacity=1G")
        with Disk(work, f"--cache={work}/small") as d:
            if write(d.path, range(512), 1):
                raise SystemExit("a small write failed")
            failed = write(d.path, range(512, 8192), 2)
            if failed not in (None, errno.ENOSPC):
                raise SystemExit(f"a full cache disk is {errno.errorcode[failed]}")
            d.umount()
        with Disk(work, "--cache=none", "--read-only") as d:
            with open(d.path, "rb") as f:
                for b in range(512 if failed else 8192):
                    if f.read(BLOCK) != pattern(b, 1 if b < 512 else 2):
                        raise SystemExit(f"block {b} was lost")
            d.umount()
    finally:
        subprocess.run(["umount", f"{work}/small"])


def stale_caches(work):
    """A cache that the tape has left behind is not believed; what is dirty in it is not dropped."""
    run(TAPISK, "format", f"{work}/tape", "--size=1M", "--capacity=1G")
    old, new = f"--cache={work}/cache/old", f"--cache={work}/cache/new"
    for cache, version in ((old, 1), (new, 2)):
        with Disk(work, cache) as d:
            if write(d.path, range(8), version):
                raise SystemExit("write failed")
            d.umount()
    with Disk(work, old) as d:
        with open(d.path, "rb") as f:
            if f.read(BLOCK) != pattern(0, 2):
                raise SystemExit("an old cache was believed")
        if write(d.path, range(8), 3):
            raise SystemExit("write failed")
        d.umount("--force")
    with Disk(work, new) as d:
        if write(d.path, range(8), 4):
            raise SystemExit("write failed")
        d.umount()
    said = run(TAPISK, "mount", f"{work}/tape", f"{work}/disk", old, fails=True)
    if "has changed" not in said:
        raise SystemExit(said)


def discards(work):
    """What is punched out reads as zeros, is garbage on the tape, and stays so without the cache."""
    run(TAPISK, "format", f"{work}/tape", "--size=4M", "--capacity=1G")
    with Disk(work) as d:
        if write(d.path, range(1024), 1):
            raise SystemExit("write failed")
        run(HITHER, "umount", d.path)
    for options in ((), ("--cache=none",)):
        with Disk(work, *options) as d:
            first = 4 if options else 516  # up to 512, and up to 1024
            run("fallocate", "--punch-hole", "--offset", str(first * BLOCK), "--length", str(508 * BLOCK), d.path)
            run("fallocate", "--length", "8M", d.path, fails=True)
            with open(d.path, "rb") as f:
                for b in range(1024):
                    hole = first <= b < first + 508 or (options and b >= 516)
                    if f.read(BLOCK) != (bytes(BLOCK) if hole else pattern(b, 1)):
                        raise SystemExit(f"block {b} is wrong after a discard")
            d.umount()
    shutil.rmtree(f"{work}/cache")
    os.mkdir(f"{work}/cache")
    if "in use      32.8 kB" not in run(TAPISK, "info", f"{work}/tape"):
        raise SystemExit(run(TAPISK, "info", f"{work}/tape"))
    with Disk(work, "--read-only") as d:
        with open(d.path, "rb") as f:
            for b in range(1024):
                if f.read(BLOCK) != (pattern(b, 1) if b < 4 or 512 <= b < 516 else bytes(BLOCK)):
                    raise SystemExit(f"block {b} is wrong on the tape")
        d.umount()


@contextlib.contextmanager
def watched(folder):
    """A descriptor that can be read once a file there was made or written: inotify(7). Reading never blocks."""
    made, written, nonblock = 0x100, 0x2, os.O_NONBLOCK
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(nonblock)
    if fd < 0 or libc.inotify_add_watch(fd, folder.encode(), made | written) < 0:
        raise SystemExit(f"inotify: {os.strerror(ctypes.get_errno())}")
    try:
        yield fd
    finally:
        os.close(fd)


def killed_at_8_mib(work, pace):
    """A copy at this pace, in the middle. False: it was quicker, and is removed."""
    copy = subprocess.Popen([TAPISK, "compact", f"{work}/tape", f"{work}/second"],
                            env=dict(os.environ, HITHER_TAPE_PACE=str(pace)))
    with watched(work) as changes:
        while not os.path.exists(f"{work}/second") or os.path.getsize(f"{work}/second") < 8 * MIB:
            if copy.poll():
                raise SystemExit(f"the copy failed: {copy.returncode}")
            if select.select([changes], [], [], 1)[0]:
                os.read(changes, 65536)
    copy.kill()
    if copy.wait() == -signal.SIGKILL and os.path.getsize(f"{work}/second") < 64 * MIB:
        return True
    os.unlink(f"{work}/second")
    return False


def a_copy_that_is_killed(work):
    """It is no volume, can be repeated, and what it was made from is as it was; the same tape is refused."""
    run(TAPISK, "format", f"{work}/tape", "--size=64M", "--capacity=1G")
    with Disk(work) as d:
        if write(d.path, range(16384), 1):
            raise SystemExit("write failed")
        d.umount()
    said = run(TAPISK, "compact", f"{work}/tape", f"{work}/tape", "--force", fails=True)
    if "same tape" not in said:
        raise SystemExit(said)
    if not any(killed_at_8_mib(work, pace) for pace in (8, 4, 1)):  # it is slower on a busy machine, so that one will do
        raise SystemExit("the copy has always ended before it was killed")
    said = run(TAPISK, "info", f"{work}/second", fails=True)
    if "cut short" not in said:
        raise SystemExit(said)
    said = run(TAPISK, "compact", f"{work}/tape", f"{work}/second", fails=True)
    if "--force" not in said:
        raise SystemExit(said)
    run(TAPISK, "compact", f"{work}/tape", f"{work}/second", "--force")
    run(TAPISK, "verify", f"{work}/second")
    if "in use      67.1 MB" not in run(TAPISK, "info", f"{work}/second"):
        raise SystemExit("the copy is not whole")


def another_tape(work):
    """A tape with the name of one that is in the cache is not taken for it."""
    for version in (1, 2):
        run(TAPISK, "format", f"{work}/tape", "--size=1M", "--capacity=1G",
            *(["--force"] if version == 2 else []))
        with Disk(work) as d:
            with open(d.path, "rb") as f:
                if f.read(BLOCK) != bytes(BLOCK):
                    raise SystemExit("an empty tape has bytes of another")
            if write(d.path, range(4), version):
                raise SystemExit("write failed")
            d.umount()


def another_tape_in_between(work):
    """What could not be pushed to one tape is not pushed to another one of its name, and not forgotten."""
    run(TAPISK, "format", f"{work}/tape", "--size=8M", "--capacity=17M")
    with Disk(work) as d:
        if write(d.path, range(1024), 1):
            raise SystemExit("write failed")
        if "full" not in d.umount(fails=True):
            raise SystemExit("umount does not say that the tape is full")
        d.umount("--force")
    if "4.2 MB: written, and kept" not in run(TAPISK, "info", f"{work}/tape"):
        raise SystemExit("info does not tell of what is in the cache")
    said = run(TAPISK, "compact", f"{work}/tape", f"{work}/second", fails=True)
    if "4.2 MB that were written to it are in the cache" not in said:
        raise SystemExit(said)
    os.rename(f"{work}/tape", f"{work}/first")
    run(TAPISK, "format", f"{work}/tape", "--size=8M", "--capacity=1G")
    said = run(TAPISK, "mount", f"{work}/tape", f"{work}/disk", fails=True)
    if "has changed" not in said:
        raise SystemExit(said)
    os.rename(f"{work}/first", f"{work}/tape")
    with Disk(work) as d:
        if read_all(d.path, lambda b: 1):
            raise SystemExit("blocks cannot be read")
        d.umount("--force")


def slips(work):
    """Nothing but the volume is ever mounted, and a pace that is none is told."""
    run(TAPISK, "format", f"{work}/%41.tape", "--size=1M", "--capacity=1G")
    os.rename(f"{work}/%41.tape", f"{work}/tape")
    said = run(TAPISK, "mount", "--cache", f"{work}/cache", f"{work}/tape", f"{work}/disk", fails=True)
    if "name the tape first" not in said:
        raise SystemExit(said)
    os.rename(f"{work}/tape", f"{work}/%41.tape")
    run(TAPISK, "mount", f"{work}/%41.tape", f"{work}/disk")
    run(TAPISK, "umount", f"{work}/disk")
    for pace in ("nan", "inf", "-1", "fast"):
        os.environ["HITHER_TAPE_PACE"] = pace
        said = run(TAPISK, "info", f"{work}/%41.tape", fails=True)
        if "HITHER_TAPE_PACE" not in said:
            raise SystemExit(said)
    del os.environ["HITHER_TAPE_PACE"]


if len(sys.argv) < 3:
    raise SystemExit(__doc__)
TAPISK, HITHER = map(os.path.realpath, sys.argv[1:3])
need(os.access("/dev/fuse", os.R_OK | os.W_OK), "no access to /dev/fuse")
for test in (a_bad_record, the_end_of_the_medium, a_full_cache_disk, another_tape, another_tape_in_between,
             stale_caches, discards, a_copy_that_is_killed, slips):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/cache")
        os.mkdir(f"{folder}/run")
        os.environ.update(XDG_CACHE_HOME=f"{folder}/cache", XDG_RUNTIME_DIR=f"{folder}/run")
        test(folder)
        print("passed:", test.__name__.replace("_", " "))
