#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ram_run.py BUILD [MIB]: ram-dl run. A sort of MIB (default 160) at a quarter of its memory, all
kinds of allocations, servers that die, and no privileges. Exit 77: userfaultfd is not to be had."""
import contextlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.path.realpath(sys.argv[1])
SIZE = int(sys.argv[2]) if len(sys.argv) > 2 else 160
DL = f"{BUILD}/apps/ram-dl/ram-dl"
UL = f"{BUILD}/apps/ram-dl/ram-ul"
HOG = f"{BUILD}/tests/tools/hog"
MAPS = f"{BUILD}/tests/tools/maps"
LINE = 8000
folder = tempfile.mkdtemp(prefix="hither-ram-run-")
os.chmod(folder, 0o755)
env = {**os.environ, "XDG_RUNTIME_DIR": folder, "LC_ALL": "C"}
servers = []


def serve(name, mib):
    """A ram-ul; its URL."""
    path = f"{folder}/{name}"
    process = subprocess.Popen([UL, "-l", f"unix:{path}", f"{mib}M"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline(), "ram-ul did not start"
    os.chmod(path, 0o777)
    servers.append(process)
    return f"nbd+unix:///?socket={path}", process


def command(url, limit, program, size=None, options=()):
    return [DL, "run", "--limit", f"{limit}M", "--size", f"{size or SIZE * 4}M", *options, url, "--", *program]


def run(arguments, code=0, said="", more=None, **keywords):
    done = subprocess.run(arguments, env={**env, **(more or {})}, capture_output=True, text=True,
                          timeout=120 + SIZE, check=False, **keywords)
    assert done.returncode == code, f"{arguments}: {done.returncode}, not {code}: {done.stderr}"
    assert said in done.stderr, f"{arguments}: not {said!r}, but: {done.stderr}"
    return done.stdout


def nothing_left():
    left = [name for name in os.listdir(folder) if name.startswith("ram-dl-run")]
    assert not left, left


def make_lines(path):
    rng = random.Random(7)
    with open(path, "wb") as out:
        for _ in range((SIZE << 20) // LINE):
            out.write(rng.randbytes(16).hex().encode() + b"." * (LINE - 33) + b"\n")


def watch(process):
    """What ram-dl status told last, while the process lived."""
    last = {}
    while True:
        told = json.loads(run([DL, "status", "--json"]))["runs"]
        last = max(told, key=lambda one: one["out_bytes"], default=last)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # status is a picture, not an event
            return last


def sort_at_a_quarter():
    url, server = serve("sort", SIZE * 4)
    make_lines(f"{folder}/lines")
    program = ["sort", "--parallel=1", "-S", f"{SIZE * 3 // 2}M", f"{folder}/lines", "-o"]
    run([*program, f"{folder}/plain"])
    for how, more in (("", {}), (", system calls by a buffer", {"RAM_DL_RUN_USER_FAULTS": "1"})):
        begin = time.monotonic()
        with subprocess.Popen(command(url, SIZE // 4, [*program, f"{folder}/paged"]),
                              env={**env, **more}) as process:
            told = watch(process)
        assert process.returncode == 0, process.returncode
        subprocess.run(["cmp", f"{folder}/plain", f"{folder}/paged"], check=True)
        assert told["out_bytes"] > SIZE << 19, told
        assert told["resident_bytes"] <= (SIZE << 20) * 9 // 32, told
        assert told["tracking"] in ("async", "fault", "hash"), told
        assert told["kernel_faults"] == (not more and os.geteuid() == 0) or not more, told
        print(f"sort of {SIZE} MiB{how}: equal, {time.monotonic() - begin:.1f} s, "
              f"{told['out_bytes'] >> 20} MiB out, wait p50 {told['wait_p50_ns'] // 1000} us, {told['tracking']}")
    os.unlink(f"{folder}/paged")
    nothing_left()
    server.kill()


def all_kinds_of_allocations():
    url, server = serve("churn", 512)
    for more in ({}, {"RAM_DL_RUN_USER_FAULTS": "1"}):
        run(command(url, 24, [HOG, "churn", "120", "160"], 512, ("--above", "256K")), more=more)
    for seal in (("--compress", "lz4"), ("--compress", "zstd", "--encrypt")):
        run(command(url, 24, [HOG, "churn", "64", "60"], 512, ("--above", "256K", *seal)))
    # Several processes share the server, each has its own.
    both = f"{HOG} pass 64 1 & a=$!; {HOG} pass 64 1 & b=$!; wait $a && wait $b"
    run(command(url, 16, ["bash", "-c", both], 512))
    server.kill()
    print("allocations: every byte was right")


def what_programs_do_to_memory():
    """As the kernel would, of which the program is to notice nothing."""
    url, server = serve("maps", 256)
    children = ("child", "child-with-handler", "child-by-the-kernel")
    said = {"mapped-over": "mapped over memory of the server: refused",
            **{child: "a child that was only forked has none of it" for child in children}}
    for more in ({}, {"RAM_DL_RUN_USER_FAULTS": "1"}):
        for part in ("guards", "advice") if more else ("descriptors", "guards", "mapped-over", "parts", "advice",
                                                            *children):
            run(command(url, 16, [MAPS, part], 200), said=said.get(part, ""), more=more)
    run(command(url, 16, [MAPS, "given-back"], 64))
    run(command(url, 16, [MAPS, "usable"], 64), more={"LD_PRELOAD": f"{BUILD}/tests/tools/allocator.so"})
    nothing_left()
    server.kill()
    print("mprotect, parts of areas, closefrom and their like: as the kernel does")


def one_at_a_time():
    """A server that somebody uses is refused: two would write over each other."""
    url, server = serve("taken", 128)
    with subprocess.Popen(command(url, 16, [HOG, "wait", "64"], 120), env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for force in ((), ("--force",)):
            run(command(url, 16, [HOG, "pass", "64"], 120, force), 1, "in use by ram-dl run of host")
        if os.geteuid() == 0:
            run([DL, "swap", url], 1, "in use by ram-dl run of host")
        assert f"process {process.pid}, since" in run([UL, "inspect", url])
        told, _ = process.communicate("x", timeout=60)
    assert process.returncode == 0 and told == "equal\n", (process.returncode, told)
    assert "in use" not in run([UL, "inspect", url])
    # One that is killed takes its program with it, and what it had is free.
    with subprocess.Popen(command(url, 16, [HOG, "wait", "64"], 120), env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.stdout.read() == "", "its program goes on"
    run(command(url, 16, [HOG, "pass", "64"], 120))
    nothing_left()
    server.kill()
    disk = f"{folder}/disk"
    with open(disk, "wb") as image:
        image.write(b"\xeb\x63\x90" + bytes(16 << 20))
    run(command(disk, 16, ["true"], 8), 1, "--force overwrites them")
    print("a server that is in use, or is not empty: refused")


def the_server_forgets():
    """One that was restarted has zeros for what it had."""
    url, server = serve("forgets", 256)

    def restart():
        server.kill()
        server.wait()
        serve("forgets", 256)
    what_was_there_is_lost("restart", url, restart)
    first, server = serve("forgets-first", 256)
    second, other = serve("forgets-second", 256)
    with subprocess.Popen(command(first, 16, [HOG, "wait", "64"], 256, ("--mirror", second)), env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        server.kill()
        server.wait()
        serve("forgets-first", 256)
        told, _ = process.communicate("x", timeout=120)
    assert process.returncode == 0 and told == "equal\n", (process.returncode, told)
    run(command(first, 16, ["true"], 256, ("--mirror", first)), 1, "the mirror is the server itself")
    other.kill()
    print("mirror: one that was restarted was not believed")


class Between:
    """Stands between a program and its server, at a URL of its own, and may change what the server says."""

    def __init__(self, name, server_path):
        self.path, self.server_path = f"{folder}/{name}", server_path
        self.url = f"nbd+unix:///?socket={self.path}"
        self.change = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.server_path)
            for source, sink, changes in ((client, server, False), (server, client, True)):
                threading.Thread(target=self.pump, args=(source, sink, changes), daemon=True).start()

    def pump(self, source, sink, changes):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(self.change(data) if changes and self.change else data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def one_bit_is_wrong(data):
    """In the middle of pages; headers are left alone."""
    if len(data) < 4096:
        return data
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def what_was_there_is_lost(what, url, happen, *options):
    """A program's pages cannot be had again: it is told, and ends."""
    with subprocess.Popen(command(url, 16, [HOG, "wait", "64"], 256, ("--deadline", "1s", *options)), env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "ready\n"
        happen()
        begin = time.monotonic()
        _, said = process.communicate("x", timeout=60)
        took = time.monotonic() - begin
    assert process.returncode == 128 + signal.SIGBUS, (what, process.returncode, said)
    assert "cannot be had" in said, (what, said)
    nothing_left()
    print(f"{what}: SIGBUS after {took:.1f} s: {said.splitlines()[0]}")


def the_server_fails():
    url, server = serve("dies", 256)
    what_was_there_is_lost("death", url, server.kill)
    url, server = serve("stalls", 256)
    what_was_there_is_lost("stall", url, lambda: server.send_signal(signal.SIGSTOP))
    server.kill()
    url, server = serve("behind", 256)
    between = Between("garbage", f"{folder}/behind")

    def change(function):
        between.change = function
    what_was_there_is_lost("garbage", between.url, lambda: change(lambda data: os.urandom(len(data))))
    change(None)
    what_was_there_is_lost("a bit", between.url, lambda: change(one_bit_is_wrong), "--encrypt")
    server.kill()


def the_server_is_full():
    if not shutil.which("nbdkit"):
        print("a full server: not tested, nbdkit is missing")
        return
    full = f"{folder}/is-full"
    path = f"{folder}/fills"
    with socket.socket(socket.AF_UNIX) as waiting, open(f"{folder}/refusals", "wb") as refusals:
        waiting.bind(path)
        waiting.listen()
        # By activation (sd_listen_fds(3)): whoever connects before it is up waits.
        start = f'exec 3<&{waiting.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        servers.append(subprocess.Popen(["bash", "-c", start, "bash", "nbdkit", "-f", "--filter=error", "memory", "256M",
                                         "error-pwrite=ENOSPC", "error-pwrite-rate=100%",
                                         f"error-pwrite-file={full}"], stderr=refusals, pass_fds=[waiting.fileno()]))
    fill = ["sh", "-c", f": >{full}; exec {HOG} wait 64"]
    with subprocess.Popen(command(f"nbd+unix:///?socket={path}", 16, fill, 256, ("--deadline", "2s")), env=env,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        told = wait_for_trouble()
        said, _ = process.communicate("x", timeout=60)
    assert process.returncode == 0 and said == "equal\n", (process.returncode, said)
    assert told["resident_bytes"] > 32 << 20, told
    with open(f"{folder}/refusals", encoding="utf-8") as refusals:
        count = len(refusals.readlines())
    assert count < 500, f"a full server was asked {count} times"
    nothing_left()
    print(f"a full server: what it did not take stayed here, and status says why: {told['message']}")


def wait_for_trouble():
    """What ram-dl status tells of the run that has some."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for told in json.loads(run([DL, "status", "--json"]))["runs"]:
            if told["error"]:
                return told
        time.sleep(0.1)  # status is a picture, not an event
    raise AssertionError("nobody said that the server is full")


def who_waits_keeps_nobody_out():
    """While one thread waits for a server that is silent another one has memory that needs none."""
    url, server = serve("silent", 256)
    with subprocess.Popen(command(url, 32, [HOG, "beside", "64"], size=128), env=env, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == "ready\n", program.stderr.read()
        server.send_signal(signal.SIGSTOP)
        try:
            program.stdin.write("x")
            program.stdin.flush()
            assert select.select([program.stdout], [], [], 20)[0], "the other thread waits, too"
        finally:
            server.send_signal(signal.SIGCONT)
        assert program.stdout.read() == "went on\nequal\n" and not program.wait(60), program.stderr.read()
    print("a silent server: only who needs it waits")


def one_of_two_dies():
    for number, (which, happens) in enumerate(((0, signal.SIGKILL), (0, signal.SIGSTOP), (1, signal.SIGSTOP))):
        both = [serve(f"mirror{number}{side}", 256) for side in range(2)]
        options = ("--mirror", both[1][0], "--deadline", "3s")
        with subprocess.Popen(command(both[0][0], 16, [HOG, "wait", "64"], 256, options), env=env,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            both[which][1].send_signal(happens)
            told, _ = process.communicate("x", timeout=120)
        assert process.returncode == 0 and told == "equal\n", (which, happens, process.returncode, told)
        for _, server in both:
            server.kill()
    print("mirror: nothing was noticed, of death or silence")


def without_privileges():
    """As nobody, if we are root: else all of this was."""
    if os.geteuid() != 0:
        return
    url, server = serve("nobody", 256)
    probe = subprocess.run([DL, "--version"], user=65534, group=65534, extra_groups=[], env=env,
                           capture_output=True, check=False)
    if probe.returncode:
        print("without privileges: not tested, nobody cannot read the build")
        return
    os.mkdir(f"{folder}/nobody.run", 0o700)
    os.chown(f"{folder}/nobody.run", 65534, 65534)
    run(command(url, 16, [HOG, "pass", "64", "2"], 256), more={"XDG_RUNTIME_DIR": f"{folder}/nobody.run"},
        user=65534, group=65534, extra_groups=[])
    server.kill()
    print("without privileges: done")


def bad_input():
    url, server = serve("bad", 16)
    run([DL, "run", "--help"])
    run([DL, "run"], 2, "a server and a command")
    run([DL, "run", url, "--", "true"], 2, "--size is missing")
    run([DL, "run", "--size", "8M", url, "--"], 2, "a server and a command")
    run([DL, "run", "--size", "8M", "--chunk", "5K", url, "--", "true"], 2, "power of two")
    run([DL, "run", "--size", "8M", "--limit", "1M", url, "--", "true"], 2, "8388608")
    run([DL, "run", "--size", "32M", url, "--", "true"], 1, "the server has only")
    run([DL, "run", "--size", "8M", url, "--", "/no/such"], 127, "No such file")
    run([DL, "run", "--size", "8M", url, "sh", "-c", "exit 7"], 7)
    run([DL, "run", "--size", "8M", url, "--", "sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM, "Terminated")
    run([DL, "run", "--size", "8M", "nbd://127.0.0.1:1/", "--", "true"], 1)
    run([DL, "run", "--size", "16M", url, "--", sys.executable, "-c", "bytearray(64 << 20)"], 1,
        "of the 16 MiB of --size")
    nothing_left()
    server.kill()
    print("bad input: told")


def whom_it_lets_in():
    """What listens beyond loopback to everybody says so; what names its clients, or stays here, does not."""
    run([UL, "64X"], 2, "64X is not a size")
    run([UL, "100"], 2, "less than a page")
    for listen, options, warns in (("0.0.0.0:0", (), True), ("0.0.0.0:0", ("--allow", "127.0.0.1"), False),
                                   ("127.0.0.1:0", (), False)):
        with subprocess.Popen([UL, "-l", listen, *options, "16M"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as server:
            told = server.stdout.readline()
            server.terminate()
            said = server.communicate(timeout=20)[1]
        assert told.startswith(listen[:-1]), told
        assert ("warning: whoever can reach 0.0.0.0:" in said) == warns, (listen, options, said)
        assert server.returncode == 0, said
    print("ram-ul: told whom it lets in")


@contextlib.contextmanager
def listening(*options, limit=None):
    """A ram-ul at a port of its own, with so many descriptors; host:port."""
    with subprocess.Popen([UL, "-l", "127.0.0.1:0", *options, "128M"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE,
                                                                                      (limit, limit)))) as server:
        servers.append(server)
        told = server.stdout.readline()
        assert told, server.stderr.read()
        yield told.split(": ")[0]
        server.terminate()
        assert not server.wait(20), server.stderr.read()


HUGE = "/proc/sys/vm/nr_overcommit_hugepages"


def huge_pages():
    """Memory in huge pages; without any it tells how to have them."""
    run([UL, "-H", "-l", f"unix:{folder}/huge", "1024G"], 1, "vm.nr_hugepages")
    run([UL, "-H", "/etc/hostname"], 2, "only memory can be in them")
    with open(HUGE, encoding="ascii") as knob:
        before = knob.read()
    try:
        with open(HUGE, "w", encoding="ascii") as knob:
            knob.write("64")
    except OSError:
        return  # nobody may set more aside here
    try:
        with listening("--hugepages") as where:
            run(command(where, 8, [HOG, "churn", "48", "300"], size=96))
    finally:
        with open(HUGE, "w", encoding="ascii") as knob:
            knob.write(before)


def keys_and_networks():
    """Who has neither the key nor an address that is allowed gets nothing."""
    work = [HOG, "pass", "48", "1"]
    for name, key in (("keys", "me:" + "ab" * 32), ("others", "me:" + "cd" * 32)):
        with open(f"{folder}/{name}", "w", encoding="ascii") as out:
            out.write(key + "\n")
    with listening("--tls-psk", f"{folder}/keys") as place:
        url = f"nbds://me@{place}/?tls-psk-file={folder}/"
        run(command(url + "keys", 16, work, 100))
        run(command(url + "others", 16, work, 100), 1, "TLS")
        run(command(f"nbd://{place}/", 16, work, 100), 1)
    with listening("--allow", "127.0.0.1") as place:
        run(command(place, 16, work, 100))
    with listening("--allow", "192.0.2.0/24", "--allow", "2001:db8::/32") as place:
        run(command(place, 16, work, 100), 1)
    with listening("--read-only") as place:
        run(command(place, 16, work, 100), 1)
    if os.geteuid() == 0:
        with listening("--lock") as place:
            run(command(place, 16, work, 100))
    print("keys, networks, a locked server: as told")


def few_descriptors():
    """Out of descriptors is told by whoever it is; with few, all goes on."""
    def limited(count, *words):
        return ["sh", "-c", 'ulimit -n "$0"; exec "$@"', str(count), *words]
    url, server = serve("few", 256)
    work = [HOG, "pass", "48", "1"]
    run(limited(64, *command(url, 16, work, 100)))
    run(limited(48, *command(url, 16, work, 100)), 1, "ulimit -n")
    told = set()
    for count in (6, 9, 12, 16, 20, 28, 40):  # the program's own, which the pool has to live with
        done = subprocess.run(command(url, 16, limited(count, *work), 100), env=env, timeout=60, capture_output=True,
                              text=True, check=False)
        assert not done.returncode, (count, done)
        assert not done.stderr or "no more memory than this machine has: " in done.stderr, (count, done.stderr)
        told.add(bool(done.stderr))
    assert told == {False, True}, told
    nothing_left()
    server.kill()
    with listening(limit=64) as place:
        crowd = [socket.create_connection(place.rsplit(":", 1)) for _ in range(90)]
        for one in crowd:
            one.close()
        run(command(place, 16, [HOG, "pass", "48", "1"], 100))
    print("few descriptors: told, or enough")


def what_grows_stays_where_it_is():
    """An area that grows to most of --size: there would be no room for it and what it was before."""
    url, server = serve("grows", 96)
    grow = "b = bytearray(4 << 20)\nwhile len(b) < 80 << 20: b.extend(b'x' * (3 << 20))\n" \
           "assert b.count(b'x') == len(b) - (4 << 20), 'lost'"
    run(command(url, 16, [sys.executable, "-c", grow], 96))
    server.kill()
    print("realloc: grows where it is")


NUMPY = """
import hashlib, numpy
a = numpy.arange(N, dtype="f8")
a *= 1.000001
a += numpy.sin(a[:1000].mean())
print(hashlib.sha256(a.reshape(-1, 1024).mean(axis=1).tobytes()).hexdigest(), hashlib.sha256(a).hexdigest())
"""


def numpy_at_a_quarter():
    python = "/usr/bin/python3"  # whose packages are Debian's
    if subprocess.run([python, "-c", "import numpy"], capture_output=True, check=False).returncode:
        print("numpy: not tested, python3-numpy is missing")
        return
    url, server = serve("numpy", SIZE * 4)
    program = [python, "-c", NUMPY.replace("N", str(SIZE << 17), 1)]
    begin = time.monotonic()
    assert run(program) == run(command(url, max(SIZE // 4, 8), program)), "numpy: other numbers"
    server.kill()
    print(f"numpy: {SIZE} MiB at a quarter, with it and without: equal, {time.monotonic() - begin:.1f} s")


REDIS = """redis-server --port 0 --unixsocket ./redis --save '' --enable-debug-command local >log 2>&1 & server=$!
until [ -S redis ]; do kill -0 $server || exit 9; sleep 0.02; done
ask() { redis-cli -s redis "$@"; }
ask debug populate $KEYS key 200
ask setrange large 20000000 end
ask strlen large
ask debug digest
kill $server
wait $server
"""


def redis_is_the_same():
    if not shutil.which("redis-server"):
        print("redis: not tested, redis-server is missing")
        return
    mib = min(SIZE, 256)  # a digest comes by each key in no order
    url, server = serve("redis", mib * 8 + 256)
    told = []
    for how in ([], command(url, max(mib // 4, 8), [], mib * 8 + 256)[:-1]):
        place = tempfile.mkdtemp(dir=folder)
        told.append(run([*how, "sh", "-c", REDIS], more={"KEYS": str(mib * 3000)}, cwd=place))
    assert told[0] == told[1] and re.fullmatch("OK\n20000003\n20000003\n(?!0{40})[0-9a-f]{40}\n", told[0]), told
    server.kill()
    print(f"redis: {mib * 3000} keys, with it and without: the same digest")


def timed(part):
    begin = time.monotonic()
    part()
    print(f"  ({part.__name__}: {time.monotonic() - begin:.1f} s)", flush=True)


def main():
    done = subprocess.run([DL, "run", "--size", "8M", serve("probe", 16)[0], "--", "true"], env=env,
                          capture_output=True, text=True, check=False)
    if done.returncode and "userfaultfd" in done.stderr:
        print(f"skipped: {done.stderr.strip()}")
        return 77
    timed(bad_input)
    timed(whom_it_lets_in)
    timed(huge_pages)
    timed(keys_and_networks)
    timed(few_descriptors)
    timed(what_grows_stays_where_it_is)
    timed(all_kinds_of_allocations)
    timed(what_programs_do_to_memory)
    timed(one_at_a_time)
    timed(the_server_fails)
    timed(the_server_forgets)
    timed(the_server_is_full)
    timed(who_waits_keeps_nobody_out)
    timed(one_of_two_dies)
    timed(without_privileges)
    timed(numpy_at_a_quarter)
    timed(redis_is_the_same)
    timed(sort_at_a_quarter)
    return 0


try:
    code = main()
finally:
    for one in servers:
        one.kill()
        one.wait()
    shutil.rmtree(folder)
sys.exit(code)
