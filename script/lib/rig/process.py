# SPDX-License-Identifier: Apache-2.0
"""Processes and folders that are gone when the program ends, however it ends."""
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class Failed(Exception):
    """Something that the person running the script should read, as one line."""


def run(command, check=True, timeout=900, **options):
    """Run to the end; the completed process with its output as text."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, check=False, **options)
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}: "
                     f"{said[-1] if said else 'no message'}")
    return done


def wait_until(condition, seconds, what):
    """Poll a thing that has no event to wait for, like a server that starts."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.002)


def is_mount(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split(" ")[4] == str(path) for line in mounts)


class Room(contextlib.ExitStack):
    """A temporary folder, and everything that was started or mounted in it."""

    def __init__(self, name, parent=None):
        super().__init__()
        self.logs = itertools.count(1)
        self.folder = tempfile.mkdtemp(prefix=f"{name}-", dir=parent)
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def make(self, *parts):
        os.makedirs(self.path(*parts), exist_ok=True)
        return self.path(*parts)

    def start(self, command, **options):
        """A process that is ended with the room; its output goes to a file of its own."""
        with open(self.path(f"log-{next(self.logs)}"), "wb") as log:
            options.setdefault("stdout", log)
            options.setdefault("stderr", log)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        process.log = log.name
        self.callback(end, process)
        return process

    def will_unmount(self, path):
        self.callback(unmount_hard, path)


def end(process, seconds=10):
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def unmount_hard(path):
    if is_mount(path):
        subprocess.run(["fusermount3", "-uz", path], check=False, stderr=subprocess.DEVNULL)


def run_each(tests, name, place):
    """Run tests, each with place(a room of its own), and say how it went. How many failed."""
    failed = 0
    for test in tests:
        began = time.monotonic()
        with Room(name) as room:
            try:
                test(place(room))
                print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
            except Failed as failure:
                failed += 1
                print(f"{test.__name__}: {failure}", flush=True)
    return failed
