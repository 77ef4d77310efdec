#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""game.py GAME-ASSETS: publish, learn and play what behaves like a game. Exit 0 passed, 1 failed, 77
skipped."""
import fcntl
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from file_web import Web  # noqa: E402

GAME_ASSETS = os.path.abspath(sys.argv[1])
PARTS, PART_BYTES = 8, 700_000
MIB, CHUNK = 1 << 20, 64 << 10


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def game(*args, code=0, **how):
    done = subprocess.run([GAME_ASSETS, *args], capture_output=True, text=True, timeout=60, **how)
    assert done.returncode == code, f"{args}: {done.returncode}: {done.stderr}"
    return done


class Test:
    def __init__(self, work):
        self.work, self.dir = work, f"{work}/site/game"
        os.makedirs(self.dir)
        os.mkdir(f"{work}/run")
        random.seed(3)
        for i in range(PARTS):
            with open(f"{self.dir}/part{i}", "wb") as f:
                f.write(random.randbytes(PART_BYTES))
        # It reads three parts, not in order, and saves.
        with open(f"{self.dir}/play", "w", encoding="ascii") as f:
            f.write("#!/bin/sh\ncat part5 part1 part6 | cksum\n")
        os.chmod(f"{self.dir}/play", 0o755)
        self.sum = subprocess.run(["./play"], cwd=self.dir, capture_output=True, text=True,
                                  check=True).stdout
        self.hash = game("publish", self.dir).stdout.strip()
        self.web = Web(f"{work}/site")
        self.url = self.web.url("game.hither")
        self.fresh()

    def fresh(self):
        self.cache = f"{self.work}/cache{time.monotonic_ns()}"
        self.web.asked.clear()

    def play(self, *args, command=("./play",), verb="play", code=0):
        done = game(verb, "--cache", self.cache, *args, self.url, "--", *command, code=code)
        assert not os.listdir(f"{self.work}/run/") or \
            not [n for n in os.listdir(f"{self.work}/run") if n.startswith("game-assets-")], \
            "its folder is left"
        return done

    def parts(self):
        """The parts in the order they were first asked for."""
        seen = []
        for name, *_ in self.web.asked:
            if name.startswith("game/part") and name not in seen:
                seen.append(name)
        return seen

    def it_plays(self):
        done = self.play("--root-hash", self.hash, "--order", "none")
        assert self.sum in done.stdout, done.stdout
        assert "started after" in done.stderr and " saved\n" in done.stderr, done.stderr
        assert self.parts() == [f"game/part{i}" for i in (5, 1, 6)], self.parts()

    def what_it_ends_with_is_told(self):
        done = self.play(command=["sh", "-c", "exit 3"], code=1)
        assert "exit code 3" in done.stderr, done.stderr
        for code in (130, 255):
            done = self.play(command=["sh", "-c", f"exit {code}"], code=1)
            assert f"exit code {code}" in done.stderr, done.stderr
        done = self.play(command=["sh", "-c", "kill -SEGV $$"], code=1)
        assert "Segmentation fault" in done.stderr, done.stderr
        for wrong in ("20", "200%", "some"):
            assert "--ready" in self.play("--ready", wrong, command=["true"], code=2).stderr
        assert "64 hexadecimal digits" in self.play("--root-hash", "abc", command=["true"], code=2).stderr
        assert "is no folder" in game("publish", f"{self.dir}/play", code=2).stderr
        done = self.play(command=["./nothing"], code=1)
        assert "./nothing" in done.stderr, done.stderr
        done = game("play", "http://x/y", "--", "true", code=2)
        assert ".hither" in done.stderr

    def a_profile_is_learnt_and_used(self):
        self.fresh()
        profile = f"{self.work}/site/game.hither-profile"
        done = self.play("--output", profile, "--order", "none", verb="learn")
        assert "steps" in done.stderr
        with open(profile, encoding="ascii") as f:
            text = f.read()
        self.size = int(re.search(r"size (\d+)", text)[1])
        assert f"version {self.hash}" in text, text
        noted = f"{self.work}/noted"
        self.play("--record", noted, "--order", "none", verb="learn")
        with open(noted, encoding="ascii") as f:
            assert f"version {self.hash}" in f.read()
        # Publishing takes it, and none of another tree.
        game("publish", "--profile", profile, self.dir)
        with open(f"{self.work}/other", "w", encoding="ascii") as f:
            f.write(text.replace(self.hash, "0" * 64))
        assert "another tree" in game("publish", "--profile", f"{self.work}/other", self.dir,
                                      code=1).stderr
        # Nobody is left to wonder why a profile that does not fit is not used.
        with open(f"{self.dir}/later", "w", encoding="ascii") as f:
            f.write("later")
        assert "of another version" in game("publish", self.dir).stderr
        self.fresh()
        done = self.play("--ready", "profile", command=["true"], code=1)
        assert "of another version" in done.stderr and "that fits it" in done.stderr, done
        os.unlink(f"{self.dir}/later")
        assert game("publish", "--profile", profile, self.dir).stdout.strip() == self.hash
        # The launch set comes without being asked for, and nothing but that is waited for.
        self.fresh()
        done = self.play("--ready", "profile", "--order", "none", command=["true"])
        assert sorted(self.parts()) == [f"game/part{i}" for i in (1, 5, 6)], self.parts()
        self.fresh()
        done = self.play("--ready", "profile", "--order", "none")
        assert self.sum in done.stdout
        assert " 0 reads stalled" in done.stderr, done.stderr

    def it_does_not_wait_for_what_does_not_come(self):
        """--ready ends once nothing more can be had, and says why."""
        command = {"command": ["echo", "played"]}
        for args in (("--pull", "off"), ("--order", "none")):  # then it fetches for itself
            self.fresh()
            done = self.play("--ready", "50%", *args, **command)
            assert "played" in done.stdout and "does not come" not in done.stderr, done
        self.fresh()
        self.play("--order", "none")
        done = self.play("--ready", "100%", "--offline", **command)
        assert "played" in done.stdout and "does not come: --offline" in done.stderr, done
        self.fresh()
        done = self.play("--ready", "100%", "--cache-size", "1M", **command)
        assert "played" in done.stdout and "--cache-size is too small" in done.stderr, done
        self.fresh()
        self.web.damage["game/part2"] = [PART_BYTES // 2, 1 << 30]
        for ready in ("100%", "profile"):
            text = f"hither-profile 1\nsize {self.size}\nversion {self.hash}\n0 {self.size} 5\n"
            with open(f"{self.work}/all", "w", encoding="ascii") as f:
                f.write(text)
            done = self.play("--ready", ready, "--profile", f"{self.work}/all", **command)
            assert "played" in done.stdout and "does not come: part2 at" in done.stderr, done
        del self.web.damage["game/part2"]

    def it_is_not_started_where_it_cannot_work(self):
        """A server without ranges, from the start or later."""
        self.fresh()
        with open(f"{self.work}/site/wide.bin", "wb") as f:
            f.write(random.randbytes(2 * MIB))
        os.rename(f"{self.work}/site/wide.bin", f"{self.dir}/wide.bin")
        game("publish", self.dir)
        self.play("--order", "none", command=["true"])
        self.web.ranges = False
        begun = time.monotonic()
        # All: half of it may be small files, which come whole.
        done = self.play("--ready", "100%", command=["echo", "played"], code=1)
        assert time.monotonic() - begun < 5, "it took long to give up"
        assert "played" not in done.stdout and "does not support range requests" in done.stderr, done
        self.fresh()
        done = self.play(command=["echo", "played"], code=1)
        assert "played" not in done.stdout and "does not support range requests" in done.stderr, done
        self.web.ranges = True
        os.unlink(f"{self.dir}/wide.bin")
        assert game("publish", self.dir).stdout.strip() == self.hash

    def a_silent_server_is_told_of(self):
        """In a pipe, too: --ready, and what is wrong, long before the deadline."""
        self.fresh()
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, "--ready", "100%", "--wrap", "rate=1M", "--deadline", "60s",
             self.url, "--", "true"], stderr=subprocess.PIPE, text=True)
        assert "starts once" in process.stderr.readline()
        told = self.web.told_while_away(process)
        assert "it is tried again, up to --deadline" in told, told

    def a_profile_of_another_tree_is_not_used(self):
        self.fresh()
        with open(f"{self.work}/other", "w", encoding="ascii") as f:
            f.write(f"hither-profile 1\nsize {self.size + 1}\n0 100000 5\n")
        done = self.play("--order", "none", "--profile", f"{self.work}/other")
        assert self.sum in done.stdout and "of another tree" in done.stderr, done
        assert self.parts() == [f"game/part{i}" for i in (5, 1, 6)], self.parts()

    def what_it_writes_goes_to_the_overlay(self):
        overlay, save = f"{self.work}/overlay", "echo level 2 > save; mv part1 old; rm part2; ls"
        if os.geteuid() != 0:
            print("    not tried: the overlay needs root here")
            return
        done = self.play(command=["sh", "-c", "echo x > save"], code=1)
        assert "Read-only" in done.stderr
        done = self.play("--overlay", overlay, command=["sh", "-c", save])
        assert "old" in done.stdout and "part2" not in done.stdout, done.stdout
        with open(f"{overlay}/files/save", encoding="ascii") as f:
            assert f.read() == "level 2\n"
        done = self.play("--overlay", overlay, command=["sh", "-c", "cat save; ls; cksum old"])
        assert "level 2" in done.stdout and "part2" not in done.stdout and "part1" not in done.stdout, done.stdout
        with open(f"{self.dir}/part1", "rb") as f:
            moved = subprocess.run(["cksum"], stdin=f, capture_output=True, text=True, check=True).stdout.split()
        assert " ".join(moved) in done.stdout, done.stdout
        assert "overlay" not in subprocess.run(["mount"], capture_output=True, text=True,
                                               check=True).stdout.split(self.work)[-1][:200]
        # A folder that has something else would get it mixed up with ours.
        os.mkdir(f"{self.work}/other-folder")
        with open(f"{self.work}/other-folder/mine", "w", encoding="ascii") as f:
            f.write("mine")
        done = self.play("--overlay", f"{self.work}/other-folder", command=["true"], code=1)
        assert "files of something else" in done.stderr, done
        assert os.listdir(f"{self.work}/other-folder") == ["mine"]
        # One at a time: two upper layers in one place would lose each other's files.
        self.play("--overlay", overlay, command=["sh", "-c", f"! flock -n {overlay} true"])
        taken = os.open(overlay, os.O_RDONLY)
        fcntl.flock(taken, fcntl.LOCK_EX)
        done = self.play("--overlay", overlay, command=["true"], code=1)
        assert "another game writes" in done.stderr, done
        os.close(taken)
        assert self.sum in self.play().stdout

    def offline(self):
        self.fresh()
        self.play("--ready", "100%", command=["true"])
        self.web.asked.clear()
        assert self.sum in self.play("--offline").stdout
        assert not self.web.asked

    def network_gone(self):
        """The game goes on with what is here; what is not is an error, after the deadline."""
        self.fresh()
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, "--order", "none", "--deadline", "2s", self.url, "--", "sh",
             "-c", "cat part5 >/dev/null; echo here; read x; cksum part5; cat part3 >/dev/null && echo all; echo on"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "here" not in process.stdout.readline():
            assert process.poll() is None
        self.web.away = True
        said, told = process.communicate("\n", timeout=30)
        self.web.away = False
        with open(f"{self.dir}/part5", "rb") as f:
            assert subprocess.run(["cksum"], stdin=f, capture_output=True, text=True,
                                  check=True).stdout.split()[0] in said, said
        assert "all" not in said and said.endswith("on\n"), said
        assert "part3" in told and "started after" in told and process.returncode == 0, told
        assert self.sum in self.play().stdout  # and the next time all is well

    def full_cache_disk(self):
        if os.geteuid() != 0:
            print("    not tried: a small disk needs root")
            return
        self.cache = f"{self.work}/small"
        os.mkdir(self.cache)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", self.cache], check=True)
        try:
            assert self.sum in self.play().stdout
            assert self.sum in self.play("--order", "none").stdout
        finally:
            subprocess.run(["umount", "-l", self.cache], check=True)

    def folders_that_do_not_say_their_names(self):
        os.unlink(f"{self.dir}.hither")
        for path, where in ((".", self.dir), ("./", self.dir), (f"{self.dir}//", "/")):
            done = game("publish", path, cwd=where)
            assert os.path.exists(f"{self.dir}.hither") and done.stdout.strip() == self.hash, done
            os.unlink(f"{self.dir}.hither")
        game("publish", self.dir)

    def killed(self):
        """What a killed game had read is not fetched again, but for the MiB whose notes waited to be written."""
        self.fresh()
        files = "part0 part1 part2 part3"
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, "--order", "none", self.url, "--", "sh", "-c",
             f"cat {files} >/dev/null; echo here; exec sleep 60"], stdout=subprocess.PIPE, text=True)
        while "here" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
        process.wait()
        process.stdout.close()
        before = self.web.fetched("game/part")
        self.web.asked.clear()
        done = self.play("--order", "none", command=["sh", "-c", f"cat {files} | cksum"])
        good = subprocess.run(f"cat {files} | cksum", shell=True, cwd=self.dir, capture_output=True, text=True,
                              check=True).stdout
        assert done.stdout == good, done.stdout
        again = self.web.fetched("game/part")
        assert before >= 4 * PART_BYTES and again < MIB + 4 * CHUNK, f"{before} bytes, killed, then {again}"
        assert self.sum in self.play().stdout

    def terminal(self):
        """A bar while it waits, one line while the game runs, which is wiped before the report."""
        self.fresh()
        pid, fd = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(GAME_ASSETS, [GAME_ASSETS, "play", "--cache", self.cache, "--ready", "100%", self.url, "--", "sh",
                                   "-c", "sleep 1.5; echo done"])
        said = b""
        while True:
            try:
                piece = os.read(fd, 4096)
            except OSError:
                piece = b""
            if not piece:
                break
            said += piece
        os.close(fd)
        assert os.waitpid(pid, 0)[1] == 0, said
        bar, _, rest = said.partition(b"100 %")
        assert b"[" in bar and b" of 5.6 MB" in rest, said
        assert b"\r\x1b[K" in rest.partition(b"done")[2].partition(b"started after")[0], said

    def twice(self):
        """One cache is one process's at a time: who comes second is told so, and plays nevertheless."""
        self.fresh()
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, self.url, "--", "sh", "-c", "echo here; exec sleep 60"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "here" not in process.stdout.readline():
            assert process.poll() is None
        done = game("play", "--cache", self.cache, self.url, "--", "./play")
        assert self.sum in done.stdout and "another process has the cache" in done.stderr, done
        process.terminate()
        process.communicate(timeout=20)
        done = self.play()
        assert self.sum in done.stdout and "another process" not in done.stderr, done

    def deaf(self):
        """A game that does not end when it is asked to is killed."""
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, self.url, "--", "sh", "-c",
             "trap '' TERM; echo here; while :; do sleep 1; done"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        while "here" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        process.stdout.close()

    def interrupted(self):
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, self.url, "--", "sh", "-c",
             "echo here; exec sleep 60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "here" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert not [n for n in os.listdir(f"{self.work}/run") if n.startswith("game-assets-")]
        # Before the game was started.
        self.fresh()
        process = subprocess.Popen(
            [GAME_ASSETS, "play", "--cache", self.cache, "--wrap", "rate=100k", "--ready", "100%", self.url, "--",
             "echo", "played"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "starts once" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said, told = process.communicate(timeout=20)
        assert "played" not in said and "was not started" in told and process.returncode == 1, (said, told)


def main():
    need(os.path.exists("/dev/fuse"), "no /dev/fuse")
    work = tempfile.mkdtemp(prefix="hither-game-")
    os.environ["XDG_CACHE_HOME"] = f"{work}/xdg"
    os.environ["XDG_RUNTIME_DIR"] = f"{work}/run"
    try:
        test = Test(work)
        for part in (test.it_plays, test.what_it_ends_with_is_told,
                     test.a_profile_is_learnt_and_used, test.it_does_not_wait_for_what_does_not_come,
                     test.it_is_not_started_where_it_cannot_work, test.a_silent_server_is_told_of,
                     test.a_profile_of_another_tree_is_not_used, test.what_it_writes_goes_to_the_overlay,
                     test.offline, test.network_gone, test.full_cache_disk,
                     test.folders_that_do_not_say_their_names, test.killed, test.twice,
                     test.terminal, test.interrupted, test.deaf):
            print(" ", part.__name__, flush=True)
            part()
    finally:
        for name in os.listdir(f"{work}/run"):
            if os.path.ismount(f"{work}/run/{name}"):
                subprocess.run(["umount", "-l", f"{work}/run/{name}"], check=False)
        shutil.rmtree(work, ignore_errors=True)


main()
