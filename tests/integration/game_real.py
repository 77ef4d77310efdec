#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""game_real.py BUILD [FOLDER]: real games, unmodified, over an emulated line of 50 ms and 200 Mbit/s.

OpenArena (415 MB; ioquake3) and Freedoom (chocolate-doom), from Debian's packages, under Xvfb with software
rendering: from a local disk, in a tree that is being fetched, and again with the profile that the run before
has left. Prints when each was playable; screenshots go to FOLDER. Exit 0 passed, 1 failed, 77 skipped."""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.path.abspath(sys.argv[1])
SHOTS = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
GAME_ASSETS, LINK = f"{BUILD}/apps/game-assets/game-assets", f"{BUILD}/tests/tools/link"
ENGINE, OPENARENA = "/usr/lib/ioquake3/ioquake3", "/usr/lib/openarena"
DOOM, FREEDOOM = "/usr/games/chocolate-doom", "/usr/share/games/doom/freedoom2.wad"


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


class Game:
    """start: the command, in the game's folder. ready: what it prints once the level is there."""

    def __init__(self, name, start, ready):
        self.name, self.start, self.ready = name, start, ready


GAMES = [
    Game("openarena", [
        ENGINE, "+set", "com_basegame", "baseoa", "+set", "fs_basepath", ".", "+set", "com_homepath",
        ".openarena", "+set", "com_protocol", "71", "+set", "r_mode", "-1", "+set", "r_customwidth", "640",
        "+set", "r_customheight", "480", "+set", "r_fullscreen", "0", "+set", "s_initsound", "0", "+set",
        "com_introplayed", "1", "+set", "ttycon", "0", "+set", "in_nograb", "1", "+map", "aggressor"],
        "entered the game"),
    Game("freedoom", [DOOM, "-iwad", "freedoom2.wad", "-warp", "1", "-nosound", "-window", "-geometry",
                      "640x480"], "ST_Init:"),
]


class Run:
    """A game that was started; what it prints is read by a thread."""

    def __init__(self, command, display, home, cwd=None):
        self.lines, self.changed = [], threading.Condition()
        self.began = time.monotonic()
        env = dict(os.environ, DISPLAY=display, HOME=home, LIBGL_ALWAYS_SOFTWARE="1",
                   SDL_AUDIODRIVER="dummy")
        self.process = subprocess.Popen(["stdbuf", "-oL", *command] if cwd else command, cwd=cwd, env=env,
                                        text=True, errors="replace", stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify()

    def until(self, text, timeout=120):
        """Seconds from the start to the line that has text."""
        with self.changed:
            good = self.changed.wait_for(lambda: any(text in line for line in self.lines)
                                         or not self.reader.is_alive(), timeout)
        assert good and any(text in line for line in self.lines), "".join(self.lines[-20:])
        return time.monotonic() - self.began

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reader.join()


def screenshot(display, path):
    """A game that plays has many colours, and its picture changes again and again."""
    deadline, last, changes = time.monotonic() + 30, None, 0
    while changes < 6:
        assert time.monotonic() < deadline, f"{path}: {changes} changes: nothing is playing"
        subprocess.run(["import", "-display", display, "-window", "root", path], check=True)
        seen = subprocess.run(["identify", "-format", "%k %#", path], check=True, text=True,
                              capture_output=True).stdout.split()
        if seen != last and int(seen[0]) > 60:
            changes += 1
        last = seen
    return int(seen[0])


def play(work, game, display, url):
    site, home = f"{work}/site", f"{work}/home"
    profile, cache = f"{site}/{game.name}.hither-profile", f"{work}/cache"
    shots = SHOTS or work

    def measured(what, command, cwd=None):
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
        os.makedirs(home)
        run = Run(command, display, home, cwd)
        try:
            seconds = run.until(game.ready)
            colors = screenshot(display, f"{shots}/{game.name}-{what}.png")
        finally:
            run.end()
        report = [line.strip() for line in run.lines if "started after" in line]
        print(f"  {game.name}, {what}: playable after {seconds:.2f} s; {colors} colours", *report, flush=True)
        return seconds

    measured("local", game.start, cwd=f"{site}/{game.name}")
    manifest = f"{url}/{game.name}.hither"
    start = ["--", "stdbuf", "-oL", *game.start]
    measured("no-profile", [GAME_ASSETS, "learn", "--cache", cache, "-o", f"{work}/learnt", manifest, *start])
    shutil.copy(f"{work}/learnt", profile)
    measured("profile", [GAME_ASSETS, "play", "--cache", cache, manifest, *start])


def main():
    for program in ("Xvfb", "import", "identify", "nginx", ENGINE, DOOM):
        need(shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"), f"no {program}")
    need(os.path.exists(FREEDOOM) and os.path.exists(OPENARENA), "no freedoom or openarena")
    need(os.path.exists("/dev/fuse"), "no /dev/fuse")
    work = tempfile.mkdtemp(prefix="hither-games-")
    os.chmod(work, 0o755)
    started = []
    try:
        os.makedirs(f"{work}/site/freedoom")
        shutil.copy(FREEDOOM, f"{work}/site/freedoom/")
        shutil.copytree(OPENARENA, f"{work}/site/openarena")
        with open(f"{work}/nginx.conf", "w", encoding="ascii") as f:
            f.write(f"daemon off; pid {work}/pid; error_log {work}/errors;\nevents {{}}\nhttp {{ access_log off; "
                    + "".join(f"{name}_temp_path {work}/{name}; " for name in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                    + f"sendfile on; server {{ listen unix:{work}/web; listen 127.0.0.1:{18800 + os.getpid() % 1000}; "
                    f"root {work}/site; }} }}\n")
        port = 18800 + os.getpid() % 1000
        started.append(subprocess.Popen(["nginx", "-c", f"{work}/nginx.conf"], stderr=subprocess.DEVNULL,
                                        env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin")))
        link = subprocess.Popen([LINK, "--to", f"127.0.0.1:{port}", "--rtt", "50ms", "--rate", "200mbit"],
                                stdout=subprocess.PIPE, text=True)
        started.append(link)
        url = f"http://127.0.0.1:{int(link.stdout.readline())}"
        reads, writes = os.pipe()
        started.append(subprocess.Popen(["Xvfb", "-displayfd", str(writes), "-screen", "0", "800x600x24"],
                                        pass_fds=[writes], stderr=subprocess.DEVNULL))
        display = ":" + os.read(reads, 16).decode().strip()
        for game in GAMES:
            subprocess.run([GAME_ASSETS, "publish", f"{work}/site/{game.name}"], check=True,
                           capture_output=True)
            play(work, game, display, url)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        shutil.rmtree(work, ignore_errors=True)


main()
