# SPDX-License-Identifier: Apache-2.0
"""What every measurement needs: the line, the server, files on it, the load tool, page caches."""
import contextlib
import os
import time

from rig.network import PROFILES, open_network
from rig.process import Failed, run
from rig.web import Web

MB = 1000 * 1000
MIB = 1 << 20


class Bench:
    """One line with its server; closed and made anew for the next."""

    def __init__(self, room, build, files, profile):
        self.room, self.build, self.files, self.profile = room, build, files, profile
        self.hither = os.path.join(build, "apps/hither/hither")
        self.load_tool = os.path.join(build, "tests/tools/load")
        self.rtt, self.rate = PROFILES[profile]
        self.network, self.why = open_network(room, os.environ["top"], build, profile)
        self.web = Web(room, self.network, files)

    def url(self, name):
        return self.web.url(name)

    def load(self, path, mode, **options):
        """One run of tests/tools/load: its answer as a dict."""
        command = [self.load_tool, path, "--mode", mode]
        for name, value in options.items():
            command.append("--" + name.rstrip("_"))
            if value is not True:
                command.append(str(value))
        answer = {}
        for word in run(command).stdout.split():
            name, value = word.split("=")
            answer[name] = value if name == "sum" else float(value)
        return answer

    @contextlib.contextmanager
    def mounted(self, mounter, url):
        path = mounter.mount(url)
        try:
            yield path
        finally:
            mounter.unmount()

    def download(self, command):
        """Seconds that a command takes on the client's side."""
        begin = time.monotonic()
        run(self.network.client(command))
        return time.monotonic() - begin


PAGES, NAMES = "1\n", "2\n"  # proc_sys_vm(5): drop_caches


def drop_caches(what=PAGES):
    """Forget clean pages, or names and attributes; False where that is not allowed."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as knob:
            knob.write(what)
    except OSError:
        return False
    return True


def cached_bytes():
    with open("/proc/meminfo", encoding="ascii") as info:
        for line in info:
            if line.startswith("Cached:"):
                return int(line.split()[1]) * 1024
    raise Failed("/proc/meminfo has no Cached line")


def make_files(folder):
    """What the server offers: random bytes where they are compared, holes where only size counts."""
    noise = os.urandom(16 * MIB)
    for name, blocks in (("512m", 32), ("64m", 4)):
        with open(os.path.join(folder, name), "wb") as out:
            for number in range(blocks):
                out.write(number.to_bytes(8, "little"))
                out.write(noise[8:])
    for name, size in (("1g", 1 << 30), ("8g", 8 << 30), ("1t", 1 << 40)):
        with open(os.path.join(folder, name), "wb") as out:
            out.truncate(size)
