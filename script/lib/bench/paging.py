# SPDX-License-Identifier: Apache-2.0
"""ram-dl run beside ram-dl swap over the same line, on this machine: by a loop device, which every kernel has.
And ram-dl swap beside nbd-client and nbdkit, by the kernel's NBD client, in a virtual machine
(tests/integration/ram_swap.sh)."""
import contextlib
import json
import os
import re
import signal
import subprocess

from rig.process import Failed, run, wait_until
from rig.web import free_port

from .table import Row, median

SIZE, HALF = 32, 16  # MiB that the program uses, and that it has


class Group:
    """Processes that have so much memory together: a control group, of either version."""

    def __init__(self, count):
        v1, v2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
        base, knob, self.most = ((v1, "memory.limit_in_bytes", "memory.max_usage_in_bytes") if os.path.isdir(v1)
                                 else (v2, "memory.max", "memory.peak"))
        self.path = os.path.join(base, f"hither-bench-{os.getpid()}")
        os.mkdir(self.path)
        with open(os.path.join(self.path, knob), "w", encoding="ascii") as out:
            out.write(str(count))

    def peak(self):
        with open(os.path.join(self.path, self.most), encoding="ascii") as told:
            return int(told.read())

    def command(self, words):
        return ["sh", "-c", f'echo $$ >{self.path}/cgroup.procs && exec "$@"', "sh", *words]

    def remove(self):
        with contextlib.suppress(OSError):
            os.rmdir(self.path)


def figures(told):
    """name=value lines; what comes several times gets a list."""
    got = {}
    for name, value in re.findall(r"^(\w+)=([\d.]+)$", told, re.M):
        got.setdefault(name, []).append(float(value))
    return got


def line_of(process, what):
    line = process.stdout.readline()
    if not line:
        with open(process.log, encoding="utf-8") as log:
            raise Failed(f"{what}: {log.read().strip()[-200:]}")
    return line


class Line:
    """ram-ul at the far end of the bench's line, and what runs here."""

    def __init__(self, bench):
        self.bench = bench
        apps = os.path.join(bench.build, "apps/ram-dl")
        self.ram_dl, self.hog = os.path.join(apps, "ram-dl"), os.path.join(bench.build, "tests/tools/hog")
        port = free_port()
        server = bench.room.start(bench.network.server(
            [os.path.join(apps, "ram-ul"), "-l", f"{bench.network.server_host}:{port}", "256M"]),
            stdout=subprocess.PIPE, text=True)
        line_of(server, "ram-ul")
        self.url = f"nbd://{bench.network.reach(port)}/"
        self.group = Group((HALF << 20) + self.itself())
        bench.room.callback(self.group.remove)

    def itself(self):
        """What the program takes beside the memory that it asks for."""
        group = Group(64 << 20)
        try:
            run(group.command([self.hog, "pass", "1", "1"]))
            return group.peak() - (1 << 20)
        finally:
            group.remove()

    def ours(self, *work):
        return figures(run(self.bench.network.client(
            [self.ram_dl, "run", "--limit", f"{HALF}M", "--size", f"{SIZE * 2}M", self.url, "--", self.hog,
             *work])).stdout)

    def paged(self, *work):
        return figures(run(self.group.command([self.hog, *work])).stdout)

    @contextlib.contextmanager
    def swap(self):
        with open("/proc/swaps", encoding="ascii") as swaps:
            if len(swaps.readlines()) > 1:
                raise Failed("this machine has swap of its own, which would be measured")
        process = self.bench.room.start(self.bench.network.client(
            [self.ram_dl, "swap", "--kind", "loop", self.url]), stdout=subprocess.PIPE, text=True)
        line_of(process, "ram-dl swap")
        told = json.loads(run([self.ram_dl, "status", "--json"]).stdout)["swaps"][0]
        try:
            yield told
        finally:
            os.kill(told["pid"], signal.SIGTERM)  # not who is in front of it to enter a namespace
            wait_until(lambda: process.poll() is not None, 60, "swapoff")


def beside_swap(bench, quick):
    if os.geteuid():
        raise Failed("only root can swap")
    line, looks = Line(bench), "1000" if quick else "2000"
    with line.swap() as told:
        table, passes = line.paged("table", str(SIZE), looks), line.paged("pass", str(SIZE), "2")
    own_table, own_passes = line.ours("table", str(SIZE), looks), line.ours("pass", str(SIZE), "2")
    trip = bench.rtt * 1e6
    swap = "ram-dl swap"
    yield Row("ram", "a page over the line, as swap reads it", told["probe_p50_ns"] / 1e3, "us", (), "", None)
    # Half of what it looks up is here: three quarters of all is half of those that wait.
    fault = own_table["p75"][0]
    yield Row("ram", "run: a fault, p50", fault, "us", [(swap, table["p75"][0])], "1.3 round trips + 20 us",
              fault < 1.3 * trip + 20)
    yield Row("ram", f"run: {looks} random look-ups in twice the memory", own_table["seconds"][0], "s",
              [(swap, table["seconds"][0])], "as quick as swap",
              own_table["seconds"][0] <= table["seconds"][0])
    ours, theirs = median(own_passes["read"]), median(passes["read"])
    yield Row("ram", "run: a sequential pass over twice the memory", ours, "s", [(swap, theirs)],
              "a third of swap's time", ours * 3 <= theirs)


def beside_nbd_client(bench, quick):
    tests = os.path.join(os.environ["top"], "tests/integration")
    done = run([f"{tests}/in_vm.sh", f"{tests}/ram_swap.sh", bench.build, "peer"], check=False)
    took = re.findall(r"^round \d: (.*): (\d+) ms$", done.stdout, re.M)
    if done.returncode or not took:
        raise Failed("ram_swap.sh: " + (done.stdout.strip().splitlines() or ["no answer"])[-1])
    by_name = {}
    for name, ms in took:
        by_name.setdefault(name, []).append(float(ms))
    ours, theirs = by_name["ram-dl + ram-ul"], by_name["nbd-client + nbdkit memory"]
    # The machine is emulated, and no two rounds are alike: the best of each.
    yield Row("ram", "swap: 32 MiB in 16 MiB of memory (emulated processor: only the ratio counts)",
              min(ours), "ms", [("nbd-client + nbdkit memory", min(theirs))], "as quick as the peer",
              min(ours) <= min(theirs))
