# SPDX-License-Identifier: Apache-2.0
"""A line between a server and its clients: two network namespaces with the kernel's real TCP where
../shared/wan and root are there, else the project's own proxy, tests/tools/link."""
import os
import re
import subprocess

from .process import Failed, run

PROFILES = {  # rtt in seconds, rate in bit/s (0: unlimited)
    "lan": (0.0002, 0),
    "metro": (0.010, 500e6),
    "wan": (0.050, 200e6),
    "far": (0.150, 50e6),
    "moody": (0.150, 12e6),
    "near": (0.001, 500e6),
}
WAN_KNOWS = ("lan", "metro", "wan", "far")  # by these names


class LinkNetwork:
    """A proxy for each server port; everything on loopback, no root."""

    kind = "tests/tools/link, a proxy on loopback"
    server_host = "127.0.0.1"

    def __init__(self, room, build, profile):
        self.room, self.tool, self.profile = room, os.path.join(build, "tests/tools/link"), profile
        self.controls = {}
        self.ports = {}

    def client(self, command):
        return list(command)

    server = client

    def reach(self, port):
        """host:port as a client sees the server's port."""
        if port not in self.ports:
            rtt, rate = PROFILES[self.profile]
            control = self.room.path(f"link-{port}")
            process = self.room.start(
                [self.tool, "--with-parent", "--to", f"127.0.0.1:{port}", "--rtt", f"{rtt * 1000}ms",
                 "--rate", f"{int(rate)}bit" if rate else "unlimited", "--control", control],
                stdout=subprocess.PIPE)
            line = process.stdout.readline().strip()
            if not line:
                raise Failed(f"{self.tool} did not start")
            self.controls[port], self.ports[port] = control, int(line)
        return f"127.0.0.1:{self.ports[port]}"

    def outage(self, on):
        """Nothing passes, either way, while it is on; connections stay."""
        for control in self.controls.values():
            run([self.tool, "ctl", control, "outage", "on" if on else "off"])

    def bytes(self, way):
        """Payload bytes so far; way: 'down' or 'up'."""
        total = 0
        for control in self.controls.values():
            told = run([self.tool, "ctl", control, "stat"]).stdout
            total += int(re.search(rf"\b{way}=(\d+)", told)[1])
        return total


class NamespaceNetwork:
    """Two namespaces joined by ../shared/wan."""

    kind = "two network namespaces with the kernel's own TCP (wan)"
    server_host = "198.18.0.2"

    def __init__(self, room, tool, profile, suffix=""):
        self.room, self.name = room, f"hither-{os.getpid()}{suffix}"
        self.tool = ["env", f"WAN_DIR={room.make('wan')}", tool]
        rtt, rate = PROFILES[profile]
        line = ["--rtt", f"{rtt * 1000:g}ms", "--rate", f"{rate / 1000:g}kbit"] if profile not in WAN_KNOWS else \
            ["--profile", profile]
        run([*self.tool, "up", self.name, *line])
        room.callback(subprocess.run, [*self.tool, "down", self.name], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def client(self, command):
        return [*self.tool, "exec", self.name, "client", "--", *command]

    def server(self, command):
        return [*self.tool, "exec", self.name, "server", "--", *command]

    def reach(self, port):
        return f"{self.server_host}:{port}"

    def outage(self, on):
        """Nothing passes, either way, while it is on."""
        run([*self.tool, "set", self.name, "--loss", "100%" if on else "0%"])

    def bytes(self, way):
        """Bytes on the line so far, headers included."""
        told = run([*self.tool, "stat", self.name]).stdout
        return int(re.search(rf"^{way} .*\bbytes (\d+)", told, re.MULTILINE)[1])


def build_wan(room, top):
    """The namespace emulator, compiled; None and why where it cannot be used."""
    source = os.path.join(top, "..", "shared", "wan", "wan.c")
    if not os.path.exists(source):
        return None, "../shared/wan is not there"
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        return None, "../shared/wan needs root and /dev/net/tun"
    tool = room.path("wan-tool")
    if not os.path.exists(tool):
        run(["cc", "-std=gnu11", "-O2", "-o", tool, source, "-pthread"])
    return tool, None


def open_network(room, top, build, profile, suffix=""):
    """The best line that this machine can emulate, and why it is not a better one (''). suffix: tells several of
    one program apart."""
    tool, why = build_wan(room, top)
    if tool:
        try:
            return NamespaceNetwork(room, tool, profile, suffix), ""
        except Failed as failure:
            why = str(failure)
    return LinkNetwork(room, build, profile), why
