# SPDX-License-Identifier: Apache-2.0
"""A file behind an NBD server behind an emulated line, and its mount."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "script", "lib"))

from rig.process import Failed, run, wait_until  # noqa: E402

WAN = ("--rtt", "50ms", "--rate", "200mbit")


def need(*programs):
    missing = [p for p in programs if not shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        print("skipped: not installed:", ", ".join(missing))
        sys.exit(77)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: no access to /dev/fuse")
        sys.exit(77)


def expect(condition, what):
    if not condition:
        raise Failed(what)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """nbdkit or qemu-nbd, for one file. It can be killed and started again in the same place."""

    def __init__(self, room, program, image, options=()):
        self.room, self.port = room, free_port()
        self.command = {
            "nbdkit": ["nbdkit", "--foreground", "--ipaddr=127.0.0.1", f"--port={self.port}",
                       *options, "file", image],
            "qemu-nbd": ["qemu-nbd", "--persistent", "--shared=0", "--format=raw",
                         "--bind=127.0.0.1", f"--port={self.port}", *options, image],
        }[program]
        self.start()

    def start(self):
        self.process = self.room.start(self.command)
        wait_until(lambda: self.process.poll() is not None or listens(self.port), 20,
                   f"{self.command[0]} to listen")
        expect(self.process.poll() is None, f"{self.command[0]} does not start: "
               + open(self.process.log, encoding="utf-8").read())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Line:
    """The project's link emulator in front of a port."""

    def __init__(self, room, build, port, options=WAN):
        self.tool = os.path.join(build, "tests/tools/link")
        self.control = room.path(f"line-{port}")
        process = room.start([self.tool, "--to", f"127.0.0.1:{port}", "--with-parent", "--control",
                              self.control, *options], stdout=subprocess.PIPE, text=True)
        self.port = int(process.stdout.readline())

    def tell(self, *words):
        return run([self.tool, "ctl", self.control, *words]).stdout

    def sent(self):
        """Bytes that have passed to the server, and from it."""
        return tuple(int(n) for n in re.match(r"up=(\d+) down=(\d+)", self.tell("stat")).groups())


class Mount:
    """A path that is mounted with the same URL again and again."""

    def __init__(self, room, build, url, path):
        self.hither = os.path.join(build, "apps/hither/hither")
        self.url, self.path = url, path
        room.will_unmount(path)

    def mount(self, *options):
        run([self.hither, "mount", *options, self.url, self.path])

    def umount(self):
        run([self.hither, "umount", self.path])

    def daemon(self):
        """The process that serves it."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if words[0] == self.hither.encode() and self.path.encode() in words:
                return int(pid)
        raise Failed(f"{self.path} has no daemon")
