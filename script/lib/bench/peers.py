# SPDX-License-Identifier: Apache-2.0
"""Who is measured: each mounter makes a URL a file in a folder of its own, and takes it away again."""
import os
import shutil
import subprocess
import time

from rig.process import end, is_mount, run, unmount_hard, wait_until


class Mounter:
    """mount() gives the file's path; unmount() leaves nothing, its cache included. Mounted anew each time."""

    name = ""
    program = ""  # that must be installed

    def __init__(self, bench):
        self.bench = bench
        self.process = None
        self.folder = None

    def available(self):
        return shutil.which(self.program) is not None

    def command(self, url, name):
        raise NotImplementedError

    def begin(self, url):
        name = url.rsplit("/", 1)[1]
        self.folder = self.bench.room.make("mount")
        self.bench.room.make("peer-cache")
        path = os.path.join(self.folder, name)
        self.bench.room.will_unmount(self.folder)
        self.process = self.bench.room.start(self.bench.network.client(self.command(url, name)))
        return path

    def mount(self, url):
        path = self.begin(url)
        wait_until(lambda: self.process.poll() is not None or
                   (is_mount(self.folder) and os.path.exists(path)), 20, self.name)
        return path

    def unmount(self):
        for _ in range(50):
            done = subprocess.run(["fusermount3", "-u", self.folder], check=False,
                                  stderr=subprocess.DEVNULL)
            if done.returncode == 0 or not is_mount(self.folder):
                break
            time.sleep(0.1)
        unmount_hard(self.folder)
        end(self.process)
        shutil.rmtree(self.bench.room.path("peer-cache"), ignore_errors=True)
        os.rmdir(self.folder)


class Rclone(Mounter):
    program = "rclone"

    def __init__(self, bench, mode):
        super().__init__(bench)
        self.mode, self.name = mode, f"rclone ({mode})"

    def command(self, url, name):
        return ["rclone", "mount", ":http:", self.folder, "--http-url", url[:-len(name)],
                "--vfs-cache-mode", self.mode, "--cache-dir", self.bench.room.path("peer-cache"),
                "--read-only", "--config", "/dev/null"]


class Nbdkit(Mounter):
    program = "nbdfuse"

    def __init__(self, bench, filters=()):
        super().__init__(bench)
        self.filters = filters
        self.name = "nbdkit curl" + "".join(f" + {f}" for f in filters)

    def available(self):
        return super().available() and run(["nbdkit", "curl", "--dump-plugin"],
                                           check=False).returncode == 0

    def command(self, url, name):
        return ["nbdfuse", "-r", os.path.join(self.folder, name), "--command", "nbdkit", "-s",
                *[f"--filter={f}" for f in self.filters], "curl", f"url={url}"]


class Httpdirfs(Mounter):
    program = "httpdirfs"
    name = "httpdirfs"

    def command(self, url, name):
        return ["httpdirfs", "-f", "--no-range-check", "--cache", "--cache-location",
                self.bench.room.path("peer-cache"), url[:-len(name)], self.folder]


class Hither(Mounter):
    """The command, as a user types it. mount() returns when it has."""

    name = "hither"

    def __init__(self, bench, *options, keep_cache=False):
        super().__init__(bench)
        self.options, self.keep_cache = options, keep_cache
        self.path = None

    def available(self):
        return os.path.exists(self.bench.hither)

    def command(self, url, name):
        return [self.bench.hither, "mount", "--cache", self.bench.room.path("hither-cache"),
                *self.options, url, self.path]

    def mount(self, url):
        self.path = self.bench.room.path(url.rsplit("/", 1)[1])
        self.bench.room.will_unmount(self.path)
        run(self.bench.network.client(self.command(url, None)))
        return self.path

    def unmount(self):
        run([self.bench.hither, "umount", self.path])
        if os.path.exists(self.path):
            os.unlink(self.path)
        if not self.keep_cache:
            shutil.rmtree(self.bench.room.path("hither-cache"), ignore_errors=True)

    def pid(self):
        """The daemon behind the mount, the one that has the path among its arguments."""
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/cmdline", "rb") as text:
                        words = text.read().split(b"\0")
                except OSError:
                    continue
                if os.path.basename(words[0]) == b"hither" and self.path.encode() in words:
                    return int(entry)
        return None


def mounters(bench):
    """The peers that are installed."""
    every = [Rclone(bench, "off"), Rclone(bench, "full"), Nbdkit(bench),
             Nbdkit(bench, ("cache", "readahead")), Httpdirfs(bench)]
    return [peer for peer in every if peer.available()]
