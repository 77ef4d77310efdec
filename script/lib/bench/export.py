# SPDX-License-Identifier: Apache-2.0
"""The NBD export beside nbdkit's memory plugin and qemu-nbd, all serving the same random bytes from
memory on loopback: over TCP, over a UNIX socket, and over TLS (TCP, X.509)."""
import json
import os
import time

from rig.process import run, wait_until
from rig.web import free_port

from .harness import MIB
from .table import Row, median

SIZE = 512 * MIB

JOBS = [  # what is said, fio's options, figure, unit
    ("4 KiB random reads, depth 1", {"rw": "randread", "bs": "4k", "iodepth": 1}, "iops", "reads/s"),
    ("4 KiB random reads, depth 32", {"rw": "randread", "bs": "4k", "iodepth": 32}, "iops", "reads/s"),
    ("4 KiB random writes, depth 32", {"rw": "randwrite", "bs": "4k", "iodepth": 32}, "iops", "reads/s"),
    ("1 MiB sequential reads, depth 4", {"rw": "read", "bs": "1m", "iodepth": 4}, "bw", "MB/s"),
    ("1 MiB sequential writes, depth 4", {"rw": "write", "bs": "1m", "iodepth": 4}, "bw", "MB/s"),
    ("4 KiB random reads, depth 8, 4 connections",
     {"rw": "randread", "bs": "4k", "iodepth": 8, "numjobs": 4}, "iops", "reads/s"),
]


class Server:
    """One server process for each transport."""

    def __init__(self, bench, transport):
        self.bench, self.transport = bench, transport
        self.port = free_port()
        self.socket = bench.room.path(f"{self.name.split()[0]}-{transport}.sock")
        self.keys = bench.room.path("home/.pki/libnbd")
        self.start()
        probe = ["nbdinfo", "--size", self.uri()]
        wait_until(lambda: run(probe, check=False).returncode == 0, 20, self.name)
        run(["nbdcopy", bench.room.path("random"), self.uri()])

    def uri(self):
        if self.transport == "unix":
            return f"nbd+unix:///?socket={self.socket}"
        if self.transport == "tls":
            # libnbd looks for keys below $HOME; a URI that names them is refused by fio's engine.
            return f"nbds://localhost:{self.port}/"
        return f"nbd://127.0.0.1:{self.port}/"


class Hither(Server):
    name = "hither"

    def start(self):
        at = f"unix:{self.socket}" if self.transport == "unix" else f"127.0.0.1:{self.port}"
        tls = ["--tls-certificates", self.keys] if self.transport == "tls" else []
        # What is written stays local; pushing it to the memory behind is not what is measured.
        self.bench.room.start([self.bench.hither, "export", "--foreground", "--cache", "none",
                               "--listen", at, "--sync=local", "--push-interval", "1h",
                               "--push-dirty", "1T", *tls, f"memory:{SIZE}"])


class Nbdkit(Server):
    name = "nbdkit memory"

    def start(self):
        at = ["-U", self.socket] if self.transport == "unix" else ["-i", "127.0.0.1", "-p", str(self.port)]
        tls = ["--tls=require", f"--tls-certificates={self.keys}"] if self.transport == "tls" else []
        self.bench.room.start(["nbdkit", "-f", *at, *tls, "memory", str(SIZE)])


class QemuNbd(Server):
    name = "qemu-nbd"

    def start(self):
        image = os.path.join("/dev/shm", f"hither-bench-{os.getpid()}-{self.transport}")
        with open(image, "wb") as out:
            out.truncate(SIZE)
        self.bench.room.callback(os.unlink, image)
        at = ["-k", self.socket] if self.transport == "unix" else ["-b", "127.0.0.1", "-p", str(self.port)]
        tls = (["--object", f"tls-creds-x509,id=tls0,endpoint=server,verify-peer=no,dir={self.keys}",
                "--tls-creds=tls0"]
               if self.transport == "tls" else [])
        self.bench.room.start(["qemu-nbd", "-f", "raw", "-t", "-e", "16", *at, *tls, image])


def fio(server, options, seconds):
    command = ["fio", "--name=job", "--ioengine=nbd", f"--uri={server.uri()}", "--time_based", "--thread",
               f"--runtime={seconds}", f"--size={SIZE}", "--group_reporting", "--output-format=json"]
    command += [f"--{name}={value}" for name, value in options.items()]
    told = run(command).stdout
    job = json.loads(told[told.index("{"):])["jobs"][0]  # libnbd's engine has a word to say before
    side = job["write" if "write" in options["rw"] else "read"]
    return {"iops": side["iops"], "bw": side["bw_bytes"] / 1e6}


def nbdcopy(server, connections):
    begin = time.monotonic()
    run(["nbdcopy", f"--connections={connections}", server.uri(), "null:"])
    return SIZE / 1e6 / (time.monotonic() - begin)


def turns(servers, measure, repeats):
    """Turn and turn about, so that all see the same machine. {name: median}"""
    figures = {server.name: [] for server in servers}
    for _ in range(repeats):
        for server in servers:
            figures[server.name].append(measure(server))
    return {name: median(values) for name, values in figures.items()}


def row(what, unit, figures):
    ours = figures.pop("hither")
    best = max(figures.values())
    return Row("export", what, ours, unit, figures.items(), "both peers", ours >= best)


def prepare(bench):
    with open(bench.room.path("random"), "wb") as out:
        for _ in range(SIZE // (16 * MIB)):
            out.write(os.urandom(16 * MIB))
    folder = bench.room.make("home/.pki/libnbd")
    os.environ["HOME"] = bench.room.path("home")
    make_keys(folder)


def make_keys(folder):
    """A certificate authority, and a server's certificate, under the names that all look for."""
    ca, key = f"{folder}/ca-cert.pem", f"{folder}/ca-key.pem"
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench",
         "-addext", "keyUsage=keyCertSign", "-keyout", key, "-out", ca])
    run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-keyout", f"{folder}/server-key.pem", "-out", f"{folder}/server.csr"])
    with open(f"{folder}/server.ext", "w", encoding="ascii") as out:
        out.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
                  "keyUsage=digitalSignature,keyEncipherment\n")
    run(["openssl", "x509", "-req", "-days", "2", "-in", f"{folder}/server.csr", "-CA", ca, "-CAkey", key,
         "-CAcreateserial", "-extfile", f"{folder}/server.ext", "-out", f"{folder}/server-cert.pem"])


def servers(bench, quick):
    """Each job on each transport, all servers in one run."""
    seconds, repeats = (2, 1) if quick else (3, 2)
    prepare(bench)
    for transport, said in (("tcp", "TCP"), ("unix", "UNIX socket"), ("tls", "TLS")):
        each = [kind(bench, transport) for kind in (Hither, Nbdkit, QemuNbd)]
        for what, options, figure, unit in JOBS:
            yield row(f"{said}: {what}", unit,
                      turns(each, lambda s, o=options, f=figure: fio(s, o, seconds)[f], repeats))
        for connections in (1, 4):
            yield row(f"{said}: nbdcopy, {connections} connection{'s' * (connections > 1)}", "MB/s",
                      turns(each, lambda s, c=connections: nbdcopy(s, c), repeats))
