#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""command.py BUILD: what the command promises to people: exit codes, dates, what status lists, what is said
of what was not pushed, little address space, a closed standard output, slips of the keyboard.

Exit 0 passed, 1 failed, 77 skipped.
"""
import errno
import functools
import http.server
import json
import os
import resource
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

from bad_luck import FAST, Place, check_message, fails, read
from moody_web import MODIFIED, Web, content
from nbd_line import Failed, Line, Server, expect, free_port, listens, need, run
from rig.process import is_mount, run_each, wait_until

SIZE = (8 << 20) + 1234


def local_file(p, name, size=SIZE):
    path = p.room.path(name)
    with open(path, "wb") as f:
        f.write(content(0, size))
    return path


def status(p):
    """What is listed of this test's; others may run beside it."""
    listed = json.loads(run([p.hither, "status", "--json"]).stdout)["mounts"]
    return [m for m in listed if m["path"].startswith(p.room.folder)]


def exports(p):
    """The same of exports."""
    listed = json.loads(run([p.hither, "status", "--json"]).stdout)["exports"]
    return [x for x in listed if p.room.folder in x["addresses"]]


def kill(pid):
    """SIGKILL, and until it has gone."""
    gone = os.pidfd_open(pid)
    signal.pidfd_send_signal(gone, signal.SIGKILL)
    select.select([gone], [], [], 20)
    os.close(gone)


# --- dates ---

def a_file_has_its_date(p):
    with Web(SIZE) as web, p.mounted(web.url(), "--cache", p.cache):
        expect(os.stat(p.path).st_mtime == MODIFIED, f"{os.stat(p.path).st_mtime} is not the server's date")
        run([p.hither, "umount", p.path])
        with p.mounted(web.url(), "--cache", p.cache):
            expect(os.stat(p.path).st_mtime == MODIFIED, "the second mount has another date")
    image = local_file(p, "dated")
    os.utime(image, ns=(5, MODIFIED * 10**9 + 7))
    with p.mounted(image, "--write", "--cache", p.cache):
        expect(os.stat(p.path).st_mtime_ns == MODIFIED * 10**9 + 7, "a writable file lost its date")
        began = time.time() - 1
        with open(p.path, "r+b") as f:
            f.write(b"now")
        wait_until(lambda: began <= os.stat(p.path).st_mtime <= time.time() + 1, 10, "a new date")


# --- what is not pushed ---

class Unreachable:
    """An NBD server, and whether it can be reached."""

    def __init__(self, p, name):
        self.image = p.room.path(name)
        with open(self.image, "wb") as f:
            f.truncate(1 << 20)
        server = Server(p.room, "qemu-nbd", self.image)
        self.line = Line(p.room, p.build, server.port, FAST)
        self.url = f"nbd://127.0.0.1:{self.line.port}"

    def write(self, path, text):
        """In the daemon's hands, and not at the server."""
        with open(path, "r+b") as f:
            f.read(1)
            self.line.tell("outage", "on")
            f.seek(0)
            f.write(text)
            f.flush()
            os.fsync(f.fileno())


def forcing_is_told_and_succeeds(p):
    server = Unreachable(p, "forced")
    with p.mounted(server.url, "--cache", p.cache, "--sync", "local"):
        server.write(p.path, b"kept")
        done = run([p.hither, "umount", "--force", p.path], check=False, timeout=20)
        check_message(done.stderr, done.returncode + 1, ["not pushed are kept in", p.cache, "mount the same URL"])
        expect(not is_mount(p.path), "it is still mounted")
        server.line.tell("outage", "off")
    with p.mounted(server.url, "--cache", p.cache):
        run([p.hither, "umount", p.path])
    expect(read(server.image, 0, 4) == b"kept", "what was kept never came")
    server.line.tell("outage", "off")
    with p.mounted(server.url, "--cache", "none", "--sync", "local"):
        server.write(p.path, b"gone")
        done = run([p.hither, "umount", "--force", p.path], check=False, timeout=20)
        check_message(done.stderr, done.returncode + 1, ["not pushed are lost", "no cache on disk"])
    server.line.tell("outage", "off")
    with p.mounted(server.url, "--cache", p.cache):
        done = run([p.hither, "umount", "--force", p.path])
        expect(not done.stderr, f"all was pushed, and it says {done.stderr!r}")


def what_an_umount_cannot_push_keeps_it_mounted(p):
    server = Unreachable(p, "stays")
    with p.mounted(server.url, "--cache", p.cache, "--sync", "local", "--deadline", "1s"):
        server.write(p.path, b"kept")
        done = run([p.hither, "umount", p.path], check=False, timeout=60)
        check_message(done.stderr, done.returncode, [p.path, "not pushed, so it stays mounted", "--force"])
        expect(done.stderr.count("; ") == 1, f"more than one way out: {done.stderr}")
        expect(read(p.path, 0, 4) == b"kept", "it is not mounted any more")
        server.line.tell("outage", "off")
        run([p.hither, "umount", p.path])
    expect(read(server.image, 0, 4) == b"kept", "it was not pushed")


def status_lists_what_matters(p):
    server = Unreachable(p, "listed")
    live = local_file(p, "live")
    with p.mounted(server.url, "--cache", p.cache, "--sync", "local", "--deadline", "1s") as mount:
        server.write(p.path, b"kept")
        pid = mount.daemon()
        kill(pid)
        run([p.hither, "mount", "--cache", "none", live, p.room.path("other")])
        p.room.will_unmount(p.room.path("other"))
        for _ in range(2):  # it is still there the second time
            listed = status(p)
            expect([(m["state"], m["path"]) for m in listed] ==
                   [("mounted", p.room.path("other")), ("ended", p.path)], f"not as expected: {listed}")
            expect(listed[1]["dirty_bytes"] >= 4, "it does not say how much is kept")
        text = run([p.hither, "status"]).stdout
        expect(f"not pushed; hither mount {server.url} {p.path} pushes them" in text, f"no way out: {text}")
        expect(not is_mount(p.path), "the dead mount is still there")
        run([p.hither, "umount", p.room.path("other")])
        server.line.tell("outage", "off")
        # Something else at its place does not make it forgotten ...
        with p.mounted(live, "--cache", "none"):
            expect([m["state"] for m in status(p)] == ["mounted", "ended"], f"forgotten: {status(p)}")
            run([p.hither, "umount", p.path])
        # ... but who takes it over does.
        with p.mounted(server.url, "--cache", p.cache):
            expect([m["state"] for m in status(p)] == ["mounted"], f"listed twice: {status(p)}")
            run([p.hither, "umount", p.path])
        expect(read(server.image, 0, 4) == b"kept", "it was not pushed")
        expect(not status(p), f"something is listed: {status(p)}")
        with p.mounted(live, "--cache", "none") as other:
            kill(other.daemon())
        expect(not status(p), f"one that left nothing is listed: {status(p)}")


# --- what it runs in ---

def little_address_space(p):
    """It works, or says in one line why not and leaves nothing: never a mount that cannot be read."""
    worked = 0
    with Web(SIZE) as web:
        for mib in (60, 80, 100, 120, 150, 200, 300):
            done = run([p.hither, "mount", "--cache", "none", web.url(), p.path], check=False, timeout=30,
                       preexec_fn=lambda mib=mib: resource.setrlimit(resource.RLIMIT_AS, (mib << 20,) * 2))
            p.room.will_unmount(p.path)
            if done.returncode:
                check_message(done.stderr, done.returncode, ["address space", "ulimit -v"])
                expect(not is_mount(p.path), f"{mib} MiB: failed, and is mounted")
                continue
            worked += 1
            expect(read(p.path, 0, SIZE) == content(0, SIZE), f"{mib} MiB: wrong bytes")
            done = run([p.hither, "umount", p.path], check=False, timeout=30)
            expect(done.returncode == 0 and not is_mount(p.path), f"{mib} MiB: {done.stderr}")
            if worked == 1:
                print(f"  works from {mib} MiB on")
    expect(worked >= 2, "it works in none of these")


def a_closed_output_is_no_failure(p):
    image = local_file(p, "quiet")
    for output in (">&-", ">/dev/full"):
        done = run(["sh", "-c", f'exec "$0" mount --cache none "$1" "$2" {output}', p.hither, image, p.path],
                   check=False)
        p.room.will_unmount(p.path)
        expect(done.returncode == 0 and not done.stderr, f"{output}: exit {done.returncode}: {done.stderr}")
        expect(read(p.path, 0, SIZE) == content(0, SIZE), "it is not mounted")
        run([p.hither, "umount", p.path])
        done = run(["sh", "-c", f'exec "$0" status {output}', p.hither], check=False)
        check_message(done.stderr, done.returncode, ["stdout"])  # whose output is all it does


def a_silent_server_is_given_up(p):
    """It takes connections and answers none."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        began = time.monotonic()
        p.says(url, "--cache", "none", "--deadline", "1s", "--idle-timeout", "1s", "--connect-timeout", "1s",
               words=[url, "--idle-timeout sets"])
        expect(time.monotonic() - began < 10, "that took its time")
        expect(not is_mount(p.path), "it is mounted")


def the_foreground_has_a_log_too(p):
    log = p.room.path("log")
    with Web(SIZE) as web:
        process = subprocess.Popen([p.hither, "mount", "--foreground", "--cache", "none", "--pull", "off",
                                    "--log", log, web.url(), p.path],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        p.room.will_unmount(p.path)
        p.room.callback(process.kill)
        expect(p.path in process.stdout.readline(), "it is not mounted")
        web.mood = "unsatisfied"
        fails(errno.ESTALE, read, p.path, 4 << 20, 5)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
        with open(log, encoding="utf-8") as f:
            expect("open it again" in said and "open it again" in f.read(), f"not in the log: {said}")


def slips_are_told(p):
    for words, meant in ((["mout", "a", "b"], "mount"), (["unmount", "a"], "umount"),
                         (["mount", "--cahce", "none", "a", "b"], "--cache"),
                         (["mount", "--readonly", "a", "b"], "--read-only")):
        done = run([p.hither, *words], check=False)
        expect(done.returncode == 2, f"{words}: exit {done.returncode}, not 2")
        check_message(done.stderr, 1, [f"did you mean {meant}?"])
    done = run([p.hither, "mount", "--user", "me", "http://127.0.0.1:1/x", p.path], check=False)
    expect(done.returncode == 2, f"--user me: exit {done.returncode}, not 2")
    check_message(done.stderr, 1, ["--user", "NAME:PASSWORD"])
    done = run([p.hither, "frobnicate"], check=False)
    check_message(done.stderr, done.returncode - 1, ["unknown command frobnicate", "hither --help"])
    for words, said in ((("ram-dl/ram-dl", "run", "--bogus", "x"), "run: unknown option --bogus; see ram-dl run --help"),
                        (("ram-dl/ram-dl", "run", "--size"), "run: a value is missing after --size; see ram-dl run --"),
                        (("ram-dl/ram-dl", "swap", "-s1M", "-q"), "swap: unknown option -q; see ram-dl swap --help"),
                        (("ram-dl/ram-ul", "--lok"), "ram-ul: unknown option --lok; did you mean --lock; see ram-ul"),
                        (("tapisk/tapisk", "format", "--bogus=1", "t"), "format: unknown option --bogus=1; see tapisk "),
                        (("sqlite-remote/sqlite-remote", "--bogus", "x"), "unknown option --bogus; see sqlite-remote")):
        program = os.path.join(os.path.realpath(sys.argv[1]), "apps", words[0])
        if os.path.exists(program):
            done = run([program, *words[1:]], check=False)
            expect(done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, f"{words}: {done}")
    for name in ("stream/hither-stream", "sqlite-remote/sqlite-remote"):
        program = os.path.join(os.path.realpath(sys.argv[1]), "apps", name)
        if os.path.exists(program):
            done = run([program, "umount", "/at"], check=False)
            expect(done.returncode == 2 and done.stderr.endswith(": umount: hither umount /at ends it\n"), f"{done}")


class Folder(http.server.SimpleHTTPRequestHandler):
    """Of the working directory; silent."""

    def log_message(self, format, *args):
        pass


def a_page_instead_of_a_folder_is_told(p):
    os.makedirs(p.room.path("web/folder"))
    os.makedirs(p.room.path("web/pages"))
    for name in ("folder/plain", "pages/index.html", "pages/other.html"):
        with open(p.room.path("web/" + name), "w", encoding="utf-8") as f:
            f.write("bytes and bytes\n" if name == "folder/plain" else "<html>\n<body>a page</body>\n</html>\n")
    handler = functools.partial(Folder, directory=p.room.path("web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, told in (("folder/", True), ("folder", True), ("pages/", True), ("", True),
                           ("pages/other.html", False), ("folder/plain", False)):
            url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
            done = run([p.hither, "mount", "--cache", "none", url, p.path])
            p.room.will_unmount(p.path)
            expect(p.path in done.stdout, f"{name}: {done.stdout}")
            if told:
                check_message(done.stderr, 1, [url, "is a web page", "hither index"])
            else:
                expect(not done.stderr, f"{name}: {done.stderr}")
            run([p.hither, "umount", p.path])
        server.shutdown()


# --- what is in use, and what is waited for ---

def hold(path):
    """A process that has the file open, until its standard input ends."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; f = open(sys.argv[1], 'rb'); print('has it', flush=True); "
                                "sys.stdin.read(); print(len(f.read()))", path],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    expect(process.stdout.readline() == "has it\n", f"cannot open {path}")
    return process


class Foreground:
    """hither mount --foreground; its standard error is read line by line."""

    def __init__(self, p, url, *options):
        self.process = subprocess.Popen([p.hither, "mount", "--foreground", *options, url, p.path],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        p.room.will_unmount(p.path)
        p.room.callback(self.process.kill)
        expect(p.path in self.process.stdout.readline(), "it is not mounted")

    def says(self, *words):
        for line in self.process.stderr:
            if all(word in line for word in words):
                return line
        raise Failed(f"it never said {words}")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)


def an_interrupt_waits_for_users(p):
    with Web(SIZE) as web:
        mount = Foreground(p, web.url(), "--cache", "none", "--pull", "off")
        user = hold(p.path)
        mount.interrupt()
        mount.says("in use by python3", f"(pid {user.pid})", "^C again")
        expect(read(p.path, 5, 100) == content(5, 100), "it was taken away")
        said = user.communicate("", timeout=20)[0]
        expect(said == f"{SIZE}\n", f"the user has read {said!r}")
        expect(mount.process.wait(20) == 0, "not a good end")
        expect(not is_mount(p.path), "it is still mounted")


def a_second_interrupt_takes_it_away(p):
    with Web(SIZE) as web:
        mount = Foreground(p, web.url(), "--cache", "none", "--pull", "off")
        user = hold(p.path)
        mount.interrupt()
        mount.says("in use by python3")
        mount.interrupt()
        expect(mount.process.wait(20) == 0, "not a good end")
        expect(not is_mount(p.path), "it is still mounted")
        user.communicate("", timeout=20)
        expect(user.returncode, "it could go on reading")


def umount_names_who_uses_it(p):
    with Web(SIZE) as web, p.mounted(web.url(), "--cache", "none"):
        user = hold(p.path)
        done = run([p.hither, "umount", p.path], check=False)
        check_message(done.stderr, done.returncode, ["in use by python3", f"(pid {user.pid})", "--lazy"])
        user.communicate("", timeout=20)
        run([p.hither, "umount", p.path])


def umount_says_what_it_waits_for(p):
    server = Unreachable(p, "awaited")
    with p.mounted(server.url, "--cache", p.cache, "--sync", "local", "--deadline", "4s"):
        server.write(p.path, b"kept")
        done = run([p.hither, "umount", p.path], check=False, timeout=60)
        said = done.stderr.splitlines()
        expect(done.returncode == 1 and len(said) >= 2, f"not two lines: {said}")
        for word in ("waiting for", "to be pushed", server.url, "taken nothing for", "--force leaves them in the cache",
                     "^C leaves it to go on"):
            expect(word in said[0], f"{said[0]!r} lacks {word!r}")
        server.line.tell("outage", "off")
        run([p.hither, "umount", p.path])


# --- one cache, one process ---

def a_pull_is_done_by_who_has_the_cache(p):
    with Web(SIZE) as web:
        with p.mounted(web.url(), "--cache", p.cache, "--pull", "off"):
            done = run([p.hither, "pull", "--cache", p.cache, web.url()], check=False, timeout=60)
            expect(done.returncode == 0 and p.path in done.stderr, f"exit {done.returncode}: {done.stderr}")
            here = status(p)[0]
            expect(here["local_bytes"] == here["size_bytes"] == SIZE, f"not all is here: {here}")
            run([p.hither, "umount", p.path])
        with p.mounted(web.url(), "--cache", p.cache, "--offline"):
            expect(read(p.path, 0, SIZE) == content(0, SIZE), "wrong bytes")


def clearing_keeps_what_is_in_use(p):
    with Web(SIZE) as web:
        run([p.hither, "pull", "--cache", p.cache, web.url() + "?other"])
        listed = run([p.hither, "cache", "--cache", p.cache]).stdout
        expect(listed.count(" 8.4 MB") == 2, f"all of it is not all of it: {listed}")
        with p.mounted(web.url(), "--cache", p.cache, "--pull", "off"):
            read(p.path, 0, 100)
            done = run([p.hither, "cache", "--cache", p.cache, "clear"])
            expect("8.5 MB of disk freed, 1 cache cleared" in done.stdout or "8.4 MB of disk freed, 1" in done.stdout, f"{done.stdout}")
            check_message(done.stderr, 1, ["kept", web.url(), "in use"])
            done = run([p.hither, "cache", "--cache", p.cache, "clear", web.url()], check=False)
            check_message(done.stderr, done.returncode, ["hither: " + web.url() + ": in use by process"])
            expect(read(p.path, 4 << 20, 100) == content(4 << 20, 100), "the mount has lost its cache")
            run([p.hither, "umount", p.path])
        done = run([p.hither, "cache", "--cache", p.cache, "clear", web.url()])
        expect("freed, 1 cache cleared" in done.stdout, done.stdout)
        expect(json.loads(run([p.hither, "cache", "--json", "--cache", p.cache]).stdout)["count"] == 0, "some is left")
        told = run([p.hither, "cache", "--cache", p.cache]).stdout
        expect(told == f"Nothing is kept in {p.cache}.\n", told)


def a_local_file_needs_no_cache(p):
    image, home = local_file(p, "near"), p.room.make("home")
    environment = os.environ | {"XDG_CACHE_HOME": home}
    for url in (image, f"file://{image}"):
        said = run([p.hither, "mount", url, p.path], env=environment).stdout
        p.room.will_unmount(p.path)
        expect("no cache" in said, said)
        expect(read(p.path, 0, SIZE) == content(0, SIZE), "wrong bytes")
        with open(p.path, "r+b") as f:
            f.write(content(0, 10))
            os.fsync(f.fileno())
        expect("none: each access goes to the resource" in p.status(), p.status())
        run([p.hither, "umount", p.path])
        expect(not os.listdir(home), f"it was copied: {os.listdir(home)}")
    run([p.hither, "mount", "--order", "none", image, p.path], env=environment)
    expect("local" in p.status(), "who asks for an order gets none")
    run([p.hither, "umount", p.path])


# --- exports ---

def exports_are_listed_and_ended(p):
    with Web(SIZE) as web:
        address = run([p.hither, "export", "--listen", f"unix:{p.room.path('socket')}", "--cache", p.cache, web.url()]
                      ).stdout.partition(": ")[0]
        listed = exports(p)
        expect([(x["path"], x["url"], x["state"]) for x in listed] == [(address, web.url(), "exported")], f"{listed}")
        p.room.callback(subprocess.run, ["kill", str(listed[0]["pid"])], check=False, stderr=subprocess.DEVNULL)
        text = run([p.hither, "status"]).stdout
        expect(f"hither umount {address}" in text, f"it does not say how it ends: {text}")
        expect(address in run([p.hither, "status", address]).stdout, "not found by its address")
        run([p.hither, "pull", "--cache", p.cache, web.url()], timeout=60)
        gone = os.pidfd_open(listed[0]["pid"])
        run([p.hither, "umount", address])
        expect(select.select([gone], [], [], 0)[0], "its process is still there")
        os.close(gone)
        expect(not exports(p), "it is still listed")
        done = run([p.hither, "umount", address], check=False)
        check_message(done.stderr, done.returncode, [address, "hither status"])


def an_export_is_found_by_other_names(p):
    port = free_port()
    with Web(SIZE) as web:
        for listen, name in ((f"127.0.0.1:{port}", f"nbd://localhost:{port}"), (f":{port}", f"nbd://127.0.0.1:{port}/")):
            run([p.hither, "export", "--listen", listen, "--cache", p.cache, web.url()])
            run([p.hither, "umount", name])
            expect(not listens(port), f"{name} has not ended it")


def an_export_at_a_relative_socket(p):
    image, here = local_file(p, "relative.img"), p.room.make("relative")
    for asked, ended in (("t.sock", "nbd+unix:///q?socket=./t.sock"), ("./t.sock", "unix:t.sock"),
                         ("t.sock", f"nbd+unix:///?socket={here}/t.sock")):
        address = run([p.hither, "export", image, "-l", f"unix:{asked}", "-n", "q"], cwd=here).stdout.partition(": ")[0]
        expect(address == f"nbd+unix:///q?socket={here}/t.sock", f"it is at {address}")
        wrong = run([p.hither, "cat", "nbd+unix:///wrong?socket=t.sock"], check=False, cwd=here)
        check_message(wrong.stderr, wrong.returncode, ["'wrong'", "check the name"])
        expect("runs" not in wrong.stderr, f"two ways out: {wrong.stderr}")
        with p.mounted("nbd+unix:///q?socket=" + os.path.relpath(f"{here}/t.sock"), "--cache", "none"):
            expect(read(p.path, 0, SIZE) == content(0, SIZE), "wrong bytes")
            run([p.hither, "umount", p.path])
        for other in ("nbd+unix:///no?socket=t.sock", "unix:no.sock"):
            wrong = run([p.hither, "umount", other], check=False, cwd=here)
            check_message(wrong.stderr, wrong.returncode, ["not exported by hither", "status"])
        run([p.hither, "umount", ended], cwd=here)
        expect(not os.listdir(here), f"left: {os.listdir(here)}")
    keys = p.room.path("keys")
    with open(keys, "w", encoding="ascii") as f:
        f.write("alice:" + "5a" * 32 + "\n")
    run([p.hither, "export", image, "-l", "unix:t.sock", "--tls-psk", keys], cwd=here)
    wrong = run([p.hither, "cat", "nbds+unix://bob@/?socket=t.sock&tls-psk-file=" + keys], check=False, cwd=here)
    check_message(wrong.stderr, wrong.returncode, ["bob"])
    run([p.hither, "umount", "unix:t.sock"], cwd=here)


def an_export_says_what_it_waits_for(p):
    server = Unreachable(p, "exported")
    socket_path = p.room.path("socket")
    address = run([p.hither, "export", "--listen", f"unix:{socket_path}", "--cache", p.cache, "--sync", "local",
                   "--deadline", "4s", server.url]).stdout.partition(": ")[0]
    pid = exports(p)[0]["pid"]
    p.room.callback(subprocess.run, ["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
    with p.mounted(address, "--cache", "none"):
        server.write(p.path, b"kept")
        run([p.hither, "umount", p.path])
    done = run([p.hither, "umount", address], check=False, timeout=60)
    said = done.stderr.splitlines()
    expect(done.returncode == 1 and "waiting for" in said[0] and server.url in said[0], f"{done.returncode}: {said}")
    expect("not pushed are kept in the cache" in said[-1], f"{said}")
    server.line.tell("outage", "off")
    with p.mounted(server.url, "--cache", p.cache):
        run([p.hither, "umount", p.path])
    expect(read(server.image, 0, 4) == b"kept", "it was not pushed")


# --- names, pipes, units ---

def a_session_elsewhere_is_told(p):
    image = local_file(p, "far")
    with p.mounted(image, "--cache", "none"):
        other = os.environ | {"XDG_RUNTIME_DIR": p.room.make("other-run")}
        os.chmod(p.room.path("other-run"), 0o700)
        text = run([p.hither, "status", p.path], env=other).stdout
        expect(p.path in text and "XDG_RUNTIME_DIR" in text, text)
        listed = json.loads(run([p.hither, "status", "--json"], env=other).stdout)
        expect(p.path in [m["path"] for m in listed["elsewhere"]], f"{listed}")
        expect(p.path not in [m["path"] for m in json.loads(run([p.hither, "status", "--json"]).stdout)["elsewhere"]],
               "found and not found")
        run([p.hither, "umount", p.path])


def a_reader_that_goes_is_no_failure(p):
    profile = p.room.path("profile")
    image = local_file(p, "read")
    with p.mounted(image, "--cache", "none", "--record", profile):
        read(p.path, 0, 100)
        run([p.hither, "umount", p.path])
    for words in (["export", "--help"], ["profile", "--list", profile], ["status"], ["cat", image]):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([p.hither, *words], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False,
                              timeout=30)
        os.close(write_end)
        expect(done.returncode == -signal.SIGPIPE and not done.stderr, f"{words}: {done.returncode}, {done.stderr!r}")
    remote = os.path.join(os.path.realpath(sys.argv[1]), "apps/sqlite-remote/sqlite-remote")
    if os.path.exists(remote):
        database = sqlite3.connect(p.room.path("rows.db"))
        database.execute("create table t as with recursive c(n) as (values(1) union all select n + 1 from c limit 99999)"
                         " select n from c")
        database.commit()
        database.close()
        with subprocess.Popen([remote, "--cache", "none", p.room.path("rows.db"), "select n from t"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
            expect(reader.stdout.readline() == "1\n", "no first row")
            reader.stdout.close()
            said = reader.stderr.read()
        expect(reader.returncode == -signal.SIGPIPE and not said, f"sqlite-remote: {reader.returncode}, {said!r}")


def index_names_the_folder_it_is_in(p):
    folder = p.room.make("game/data")
    with open(p.room.path("game/data/file"), "wb") as f:
        f.write(b"bytes")
    for word, where, manifest in ((".", folder, "game/data.hither"), ("..", folder, "game.hither"),
                                  ("data/", p.room.path("game"), "game/data.hither")):
        run([p.hither, "index", "-q", word], cwd=where)
        expect(os.path.exists(p.room.path(manifest)), f"index {word} made no {manifest}")
        run([p.hither, "mount", p.room.path(manifest), p.path])
        p.room.will_unmount(p.path)
        expect(read(os.path.join(p.path, "data" if manifest == "game.hither" else "", "file"), 0, 9) == b"bytes", "lost")
        run([p.hither, "umount", p.path])
        os.unlink(p.room.path(manifest))


def times_are_in_nanoseconds(p):
    image = local_file(p, "timed")
    with p.mounted(image, "--cache", "none"):
        names = status(p)[0].keys()
        expect("wait_ns" in names and "rtt_ns" in names, f"{names}")
        expect(not [n for n in names if n.endswith(("_ms", "_us", "_s"))], f"{names}")


TESTS = (an_interrupt_waits_for_users, a_second_interrupt_takes_it_away, umount_names_who_uses_it,
         umount_says_what_it_waits_for, a_pull_is_done_by_who_has_the_cache,
         clearing_keeps_what_is_in_use, a_local_file_needs_no_cache, exports_are_listed_and_ended,
         an_export_is_found_by_other_names, an_export_at_a_relative_socket,
         an_export_says_what_it_waits_for, a_session_elsewhere_is_told, a_reader_that_goes_is_no_failure,
         index_names_the_folder_it_is_in, times_are_in_nanoseconds, a_page_instead_of_a_folder_is_told, a_file_has_its_date, forcing_is_told_and_succeeds, what_an_umount_cannot_push_keeps_it_mounted,
         status_lists_what_matters, a_closed_output_is_no_failure, a_silent_server_is_given_up,
         the_foreground_has_a_log_too, slips_are_told)
PLAIN_TESTS = (little_address_space,)  # a sanitizer needs address space of its own


def place(room):
    os.environ["XDG_RUNTIME_DIR"] = room.make("run")  # so that status lists nobody else's
    os.chmod(room.path("run"), 0o700)  # else it is not trusted
    return Place(room, os.path.realpath(sys.argv[1]), 2)


def main():
    need("qemu-nbd")
    tests = TESTS + (() if "--sanitized" in sys.argv else PLAIN_TESTS)
    return bool(run_each(tests, "hither-command", place))


if __name__ == "__main__":
    sys.exit(main())
