#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tree.py HITHER: folders that are mounted by their manifests, and what a bad server may do to them.
Exit 0 passed, 1 failed, 77 skipped."""
import concurrent.futures
import errno
import hashlib
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from file_web import Web  # noqa: E402

HITHER = sys.argv[1]
BIG = 3_000_000


def hither(*args, good=True):
    done = subprocess.run([HITHER, *args], capture_output=True, text=True)
    if good and done.returncode:
        raise SystemExit(f"hither {args}: {done.stderr}")
    return done


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    put.time += 1  # long ago, and never twice the same
    os.utime(path, (put.time, put.time))


put.time = 1_600_000_000


def get(path):
    with open(path, "rb") as f:
        return f.read()


def fails_with(code, path, offset=0):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.pread(fd, 10, offset)
    except OSError as e:
        assert e.errno == code, f"{path}: {e}"
    else:
        raise AssertionError(f"{path}: was read")
    finally:
        os.close(fd)


def snapshot(root):
    """Everything that can be seen of a tree."""
    seen = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            seen[os.path.relpath(path, root)] = (
                oct(st.st_mode), st.st_size if not os.path.isdir(path) else 0,
                st.st_mtime_ns if not os.path.islink(path) else 0,
                os.readlink(path) if os.path.islink(path) else None)
    return seen


class Test:
    def __init__(self, work):
        self.work, self.site = work, f"{work}/site"
        self.game, self.at, self.cache = f"{self.site}/game", f"{work}/at", f"{work}/cache"
        random.seed(6)
        put(f"{self.game}/run.sh", b"#!/bin/sh\necho \"it runs: $(cat data/small-7)\"\n")
        os.chmod(f"{self.game}/run.sh", 0o755)
        for i in range(50):
            put(f"{self.game}/data/small-{i}", b"%d\n" % i * random.randrange(1, 900))
        put(f"{self.game}/data/big one#%.bin", random.randbytes(BIG))
        put(f"{self.game}/data/empty", b"")
        os.symlink("data/big one#%.bin", f"{self.game}/link")
        self.root = hither("index", "-q", self.game).stdout.strip()
        self.web = Web(self.site)
        self.url = self.web.url("game.hither")

    def mount(self, *args, good=True, url=None, at=None):
        return hither("mount", "--cache", self.cache, *args, url or self.url, at or self.at, good=good)

    def umount(self):
        hither("umount", self.at)
        assert not os.path.exists(self.at), "the mount point is left"

    def fresh(self):
        shutil.rmtree(self.cache, ignore_errors=True)

    def the_tree_is_there(self):
        self.mount("--root-hash", self.root, "--order", "none")
        self.web.asked.clear()
        assert snapshot(self.at) == snapshot(self.game)
        assert not self.web.asked, f"looking asked the server: {self.web.asked}"
        assert get(f"{self.at}/link") == get(f"{self.game}/link")
        out = subprocess.run(["./run.sh"], cwd=self.at, capture_output=True, text=True).stdout
        assert out.startswith("it runs: 7"), out
        for name, *_ in self.web.asked:
            assert name.startswith("game/"), name
        try:
            put(f"{self.at}/new", b"")
        except OSError as e:
            assert e.errno == errno.EROFS
        else:
            raise AssertionError("it was written")
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        self.umount()

    def a_damaged_chunk_is_never_seen(self):
        name = "game/data/big one#%.bin"
        local, good = f"{self.at}/data/big one#%.bin", get(f"{self.site}/{name}")
        # Once: it is fetched again. (65536 bytes a chunk: number 30 has the damage.)
        self.fresh()
        self.web.damage[name] = [30 * 65536 + 77, 1]
        self.mount("--order", "none")
        assert get(local) == good
        assert self.web.damage[name][1] == 0, "the damage was not served"
        self.umount()
        # For ever: EIO there, and only there; file and offset are named.
        self.fresh()
        self.web.damage[name] = [30 * 65536 + 77, 1 << 30]
        self.mount("--order", "none")
        fails_with(errno.EIO, local, 30 * 65536 + 5)
        fd = os.open(local, os.O_RDONLY)
        assert os.pread(fd, 65536, 29 * 65536) == good[29 * 65536:30 * 65536]
        assert os.pread(fd, 65536, 31 * 65536) == good[31 * 65536:32 * 65536]
        os.close(fd)
        status = hither("status").stdout
        assert f"data/big one#%.bin at {30 * 65536}" in status or \
            f"at {30 * 65536}" in self.log(), status
        del self.web.damage[name]
        assert get(local) == good, "repaired, but not read"
        self.umount()

    def log(self):
        return hither("status", "--json").stdout

    def a_changed_file_is_not_mixed_in(self):
        self.fresh()
        self.mount("--order", "none")
        path = f"{self.game}/data/small-9"
        old = get(path)
        put(path, old[:-1] + b"X")
        put(f"{self.game}/data/small-8", b"longer than it was" * 1000)
        fails_with(errno.EIO, f"{self.at}/data/small-9")
        fails_with(errno.EIO, f"{self.at}/data/small-8")
        assert get(f"{self.at}/data/small-10") == get(f"{self.game}/data/small-10")
        self.umount()
        # Indexed again, the next mount has the new ones.
        self.root = hither("index", "-q", self.game).stdout.strip()
        self.mount("--root-hash", self.root)
        assert get(f"{self.at}/data/small-9") == old[:-1] + b"X"
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        self.umount()

    def killed_and_resumed(self):
        self.fresh()
        self.mount("--order", "none")
        local = f"{self.at}/data/big one#%.bin"
        fd = os.open(local, os.O_RDONLY)
        os.pread(fd, BIG // 2, 0)
        mounts = json.loads(hither("status", "--json").stdout)
        mounts = mounts if isinstance(mounts, list) else mounts["mounts"]
        pid = next(m["pid"] for m in mounts if m["path"] == self.at)
        daemon = os.pidfd_open(pid)
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
        os.close(fd)
        assert select.select([daemon], [], [], 20)[0], "it outlives SIGKILL"
        os.close(daemon)
        self.web.asked.clear()
        self.mount("--order", "none")
        assert get(local) == get(f"{self.game}/data/big one#%.bin")
        again = self.web.fetched("game/data/big")
        # But for a MiB whose notes waited to be written, what was read is there.
        assert again < BIG - BIG // 2 + (1 << 20) + 2 * 65536, f"half was read, killed, then {again} of {BIG}"
        self.umount()

    def big_bytes(self):
        return sum(end - first for name, first, end in self.web.asked if "big" in name)

    def full_cache_disk(self):
        if os.geteuid() != 0:
            print("    not tried: a small disk needs root")
            return
        small, self.cache = self.cache, f"{self.work}/small"
        os.mkdir(self.cache)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", self.cache], check=True)
        try:
            self.mount()
            subprocess.run(["diff", "-r", self.at, self.game], check=True)
            self.umount()
        finally:
            subprocess.run(["umount", "-l", self.cache], check=True)
            self.cache = small

    def small_reads_are_not_repeated(self):
        """A hashed piece comes once, in whatever parts it is read."""
        self.fresh()
        self.mount("--order", "none")
        self.web.asked.clear()
        fd = os.open(f"{self.at}/data/big one#%.bin", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for i in range(0, 40 * 65536, 4096 * 5):
            os.pread(fd, 4096, i)
        os.close(fd)
        asked = self.big_bytes()
        assert asked <= 44 * 65536, f"{asked} bytes for 40 pieces"
        self.umount()

    def offline(self):
        hither("mount", "--cache", self.cache, self.url, self.at)
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        self.umount()
        self.web.asked.clear()
        self.mount("--offline")
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        self.umount()
        assert not self.web.asked, self.web.asked

    def what_is_kept_is_cleared(self):
        """Manifest and files together; not while somebody has them."""
        self.fresh()
        self.mount()
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        done = hither("cache", "--cache", self.cache, "clear", self.url, good=False)
        assert done.returncode == 1 and "in use" in done.stderr, done
        self.umount()
        self.mount("--offline")
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        self.umount()
        assert "2 caches cleared" in hither("cache", "--cache", self.cache, "clear", self.url).stdout
        assert not os.listdir(self.cache), os.listdir(self.cache)
        done = hither("cache", "--cache", self.cache, "clear", self.url, good=False)
        assert done.returncode == 1, done

    def layers_are_put_around_the_files(self):
        self.fresh()
        log = f"{self.work}/log"
        self.mount("--order", "none", "--wrap", f"delay=1ms,log={log}")
        assert get(f"{self.at}/data/small-3") == get(f"{self.game}/data/small-3")
        self.umount()
        assert b"read" in get(log), get(log)

    def a_profile_that_does_not_fit_is_told(self):
        put(f"{self.site}/game.hither-profile", b"no profile")
        done = self.mount("--order", "none")
        assert "profile beside the manifest is damaged, or of another version" in done.stderr, done
        self.umount()
        os.unlink(f"{self.site}/game.hither-profile")

    def one_file(self):
        hither("index", "-q", f"{self.game}/data/big one#%.bin", "-o", f"{self.site}/one.hither")
        good = get(f"{self.game}/data/big one#%.bin")
        self.mount(url=self.web.url("one.hither"))
        assert get(self.at) == good
        self.umount()
        done = subprocess.run([HITHER, "cat", self.web.url("one.hither")],
                              capture_output=True, check=True)
        assert done.stdout == good
        done = hither("cat", self.url, good=False)
        assert done.returncode == 1 and "folder" in done.stderr, done.stderr

    def the_manifest_opens_the_files_connections(self):
        """It comes by many connections at once, which the files' first requests find open."""
        self.fresh()
        wide = f"{self.site}/wide"
        for i in range(8):
            put(f"{wide}/{i}/part", random.randbytes(10_000))  # a part each
        for i in range(3000):
            put(f"{wide}/empty/{hashlib.sha256(b'%d' % i).hexdigest()}", b"")
        hither("index", "-q", wide)
        before = self.web.connections
        self.mount("--order", "none", url=self.web.url("wide.hither"))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            read = list(pool.map(get, [f"{self.at}/{i}/part" for i in range(8)]))
        assert read == [get(f"{wide}/{i}/part") for i in range(8)]
        pieces = [x for x in self.web.asked if x[0] == "wide.hither"]
        assert len(pieces) > 8, pieces
        # 48 for the manifest, of which some may come only after the mount, one for a profile.
        new = self.web.connections - before
        assert new <= 49, f"{new} connections, {len(pieces)} pieces"
        self.umount()

    def a_damaged_manifest_is_not_kept(self):
        """What a bad line made of it is not what the cache has for ever."""
        self.fresh()
        self.web.damage["game.hither"] = [60, 1]
        self.mount("--order", "none")
        assert self.web.damage["game.hither"][1] == 0, "the damage was not served"
        assert get(f"{self.at}/data/small-3") == get(f"{self.game}/data/small-3")
        self.umount()
        self.fresh()
        self.web.damage["game.hither"] = [60, 1 << 30]
        done = self.mount(good=False)
        assert done.returncode == 1 and "cut off or damaged" in done.stderr, done.stderr
        del self.web.damage["game.hither"]
        self.mount("--root-hash", self.root)
        self.umount()

    def names_do_not_steer_the_terminal(self):
        os.mkdir(f"{self.site}/odd")
        name = "red\x1b[31m\nline"
        put(f"{self.site}/odd/{name}", b"x")
        hither("index", "-q", f"{self.site}/odd")
        put(f"{self.site}/odd/{name}", b"y")
        self.mount("--order", "none", url=self.web.url("odd.hither"))
        fails_with(errno.EIO, f"{self.at}/{name}")
        status = hither("status", self.at).stdout
        assert "red?[31m?line at 0" in status and "\x1b" not in status, status
        self.umount()

    def a_path_in_a_tree_is_explained(self):
        done = self.mount(url=f"{self.url}/data/small-1", good=False)
        assert done.returncode == 1 and "mount its manifest" in done.stderr and "data/small-1" in done.stderr, done

    def a_server_without_ranges_is_told_at_once(self):
        """Not by the first program that reads; small files come whole."""
        self.fresh()
        small = f"{self.site}/small"
        put(f"{small}/a", b"a" * 5000)
        hither("index", "-q", small)
        self.web.ranges = False
        for _ in range(2):  # what the cache has of the manifest does not hide it
            done = self.mount(good=False)
            assert done.returncode == 1 and "does not support range requests" in done.stderr, done
            assert not os.path.exists(self.at)
        self.mount(url=self.web.url("small.hither"))
        assert get(f"{self.at}/a") == b"a" * 5000
        self.umount()
        self.web.ranges = True

    def what_the_cache_has_is_offered(self):
        self.fresh()
        self.mount()
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        self.umount()
        gone = Web(self.site)
        url = gone.url("game.hither")
        self.mount("--order", "none", url=url)
        get(f"{self.at}/data/small-3")
        self.umount()
        gone.shutdown()
        gone.server_close()
        done = self.mount(url=url, good=False)
        assert done.returncode == 1 and re.search("the cache has [0-9]+ % of it: ", done.stderr) and "--offline" in done.stderr, done
        hither("cache", "--cache", self.cache, "clear", url)
        done = self.mount(url=url, good=False)
        assert done.returncode == 1 and "--offline" not in done.stderr, done

    def a_url_as_people_type_it_is_explained(self):
        done = self.mount(url=self.web.url("game/data/big one#%.bin"), good=False)
        assert done.returncode == 1 and "%20, and # %23" in done.stderr, done

    def figures_agree(self):
        """What a mount is said to have, and what status says of it."""
        done = self.mount()
        subprocess.run(["diff", "-r", self.at, self.game], check=True)
        hither("pull", "--cache", self.cache, self.url)
        size = sum(os.path.getsize(os.path.join(f, n)) for f, _, names in os.walk(self.game)
                   for n in names if not os.path.islink(os.path.join(f, n)))
        status = json.loads(hither("status", "--json", self.at).stdout)["mounts"][0]
        assert status["size_bytes"] == status["local_bytes"] == size, (status, size)
        said = done.stdout.partition(": ")[2].partition(" from")[0]
        assert f"{said} of {said} (100 %)" in hither("status", self.at).stdout, said
        # As umount takes it, and from inside.
        for path in (os.path.dirname(self.at), f"{self.at}/data"):
            assert f"{self.at}\n" in hither("status", path).stdout, path
        self.umount()

    def what_a_killed_daemon_left_is_told(self):
        self.mount("--order", "none")
        pid = json.loads(hither("status", "--json", self.at).stdout)["mounts"][0]["pid"]
        end = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([end], [], [])
        os.close(end)
        done = hither("status")
        assert f"{self.at}: the process that had mounted it was killed; unmounted" in done.stderr, done
        assert not os.path.exists(self.at)

    def profiles_of_two_trees_are_named(self):
        for name, size in (("a", 100), ("b", 101)):
            put(f"{self.work}/{name}", f"hither-profile 1\nsize {size}\n0 50 5\n".encode())
        done = hither("profile", f"{self.work}/a", f"{self.work}/b", good=False)
        assert done.returncode == 1 and f"{self.work}/a and {self.work}/b are of different" in done.stderr, done

    def a_plot_tells_what_is_what(self):
        offset, half = self.size_of_tree() - 10, self.size_of_tree() // 2
        for name in ("x", "y"):
            put(f"{self.work}/{name}/run", f"hither-profile 1\nsize {self.size_of_tree()}\n0 50 5\n"
                                           f"{half} 10 90\n{offset} 10 100\n".encode())
        hither("profile", "--plot", f"{self.work}/p.svg", "--tree", self.url, f"{self.work}/x/run",
               f"{self.work}/y/run")
        plot = get(f"{self.work}/p.svg").decode()
        for text in (">x/run: ", ">y/run: ", "0.020 s", "0.100 s", "time since", ">data/big one#%.bin<"):
            assert text in plot, (text, plot)
        assert plot.count(">data/big one#%.bin<") == 2, plot  # once in each
        # The last bytes, at the upper edge, are as tall as a mark elsewhere.
        assert "M900 40v3" in plot or "M899 40v3" in plot or "43v-3" in plot, plot

    def size_of_tree(self):
        """Of the mount's bytes."""
        if not hasattr(self, "tree_bytes"):
            hither("mount", "--cache", "none", "--order", "none", "--record", f"{self.work}/noted", self.url, self.at)
            get(f"{self.at}/run.sh")
            self.umount()
            self.tree_bytes = int(get(f"{self.work}/noted").decode().partition("size ")[2].split()[0])
        return self.tree_bytes

    def a_pull_in_a_pipe_says_what_is_wrong(self):
        """Long before the deadline."""
        self.fresh()
        self.web.asked.clear()
        process = subprocess.Popen([HITHER, "pull", "--cache", self.cache, "--wrap", "rate=500k", "--deadline", "60s",
                                    self.url], stderr=subprocess.PIPE, text=True)
        while not self.web.fetched("game/data/small"):
            assert process.poll() is None
        told = self.web.told_while_away(process)
        assert "it is tried again, up to --deadline" in told, told

    def an_interrupted_index_ends_its_line(self):
        os.mkdir(f"{self.work}/large")
        with open(f"{self.work}/large/zeros", "wb") as f:
            f.truncate(8 << 30)
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(HITHER, [HITHER, "index", f"{self.work}/large"])
        said = os.read(fd, 4096)
        assert b" of 8.6 GB" in said, said
        os.write(fd, b"\x03")
        try:
            while piece := os.read(fd, 4096):
                said += piece
        except OSError:
            pass  # the other end has gone
        os.close(fd)
        assert os.waitpid(pid, 0)[1] == signal.SIGINT and said.endswith(b"\n"), said

    def what_is_misused_is_told_at_once(self):
        before = get(f"{self.site}/game.hither")
        for base in ("http://x/", "/x", "../x", ".", "a//b"):
            done = hither("index", "-q", "--base", base, self.game, good=False)
            assert done.returncode == 2 and f"--base {base}: " in done.stderr, done
        done = hither("index", "-q", "--chunk", "5", self.game, good=False)
        assert done.returncode == 2 and "power of two" in done.stderr, done
        assert get(f"{self.site}/game.hither") == before
        for root in ("abc", "", "g" * 64):
            done = self.mount("--root-hash", root, good=False)
            assert done.returncode == 2 and "64 hexadecimal digits" in done.stderr, done
        done = self.mount("--root-hash", "0" * 64, url=self.web.url("game/data/small-1"), good=False)
        assert done.returncode == 2 and "for manifests" in done.stderr, done
        done = self.mount(url=f"{self.url}/", good=False)
        assert done.returncode == 1 and "with no slash" in done.stderr, done

    def bad_manifests(self):
        good = get(f"{self.site}/game.hither")

        def refused(name, data, why, *args):
            put(f"{self.site}/{name}.hither", data)
            done = self.mount(*args, url=self.web.url(f"{name}.hither"), good=False)
            assert done.returncode == 1 and why in done.stderr, f"{name}: {done.stderr}"
            assert not os.path.exists(self.at)

        def hashed(data):
            return data[:-32] + hashlib.sha256(data[:-32]).digest()

        refused("cut", good[:-100], "cut off or damaged")
        refused("later", hashed(good[:16] + b"\2" + good[17:]), "version 2")
        refused("web", b"<html>not found</html>", "no manifest")
        refused("nothing", b"", "no manifest")
        refused("up", hashed(good.replace(b"\4data", b"\4../x", 1)), "a path that is")
        link = b"\x12data/big one#%.bin"
        assert link in good
        refused("out", hashed(good.replace(link, b"\x12data/../../etc/pas", 1)), "leads out")
        refused("hash", good, "its root hash is", "--root-hash", "0" * 64)
        done = self.mount(url=self.web.url("missing.hither"), good=False)
        assert done.returncode == 1 and "404" in done.stderr
        os.mkdir(self.at)
        put(f"{self.at}/x", b"")
        done = self.mount(good=False)
        assert done.returncode == 1 and "not empty" in done.stderr
        shutil.rmtree(self.at)


def main():
    need(os.path.exists("/dev/fuse"), "no /dev/fuse")
    work = tempfile.mkdtemp(prefix="hither-tree-")
    os.environ["XDG_CACHE_HOME"] = f"{work}/xdg"
    os.environ["XDG_RUNTIME_DIR"] = work
    test = Test(work)
    try:
        for part in (test.the_tree_is_there, test.a_damaged_chunk_is_never_seen,
                     test.a_changed_file_is_not_mixed_in, test.killed_and_resumed, test.small_reads_are_not_repeated,
                     test.full_cache_disk, test.offline,
                     test.what_is_kept_is_cleared, test.layers_are_put_around_the_files,
                     test.a_profile_that_does_not_fit_is_told,
                     test.one_file, test.the_manifest_opens_the_files_connections,
                     test.a_damaged_manifest_is_not_kept, test.names_do_not_steer_the_terminal,
                     test.a_path_in_a_tree_is_explained, test.a_server_without_ranges_is_told_at_once,
                     test.what_the_cache_has_is_offered, test.a_url_as_people_type_it_is_explained, test.figures_agree,
                     test.what_a_killed_daemon_left_is_told, test.profiles_of_two_trees_are_named,
                     test.a_plot_tells_what_is_what, test.a_pull_in_a_pipe_says_what_is_wrong,
                     test.an_interrupted_index_ends_its_line, test.what_is_misused_is_told_at_once, test.bad_manifests):
            print(" ", part.__name__, flush=True)
            part()
    finally:
        if os.path.ismount(test.at):
            hither("umount", "--lazy", test.at, good=False)
        shutil.rmtree(work, ignore_errors=True)


main()
