# SPDX-License-Identifier: Apache-2.0
"""Real games from Debian's packages, unmodified, under Xvfb with software rendering: how each is started, when it is
playable, and whether it plays."""
import os
import shutil
import subprocess
import threading
import time

ENGINE, OPENARENA = "/usr/lib/ioquake3/ioquake3", "/usr/lib/openarena"
DOOM, FREEDOOM = "/usr/games/chocolate-doom", "/usr/share/games/doom/freedoom2.wad"
PROGRAMS = ("Xvfb", "import", "identify", "convert", ENGINE, DOOM)


class Game:
    """start: the command, in the game's folder. ready: what it prints once the level is there. one_file: its assets,
    where that is one file. large: more than a line brings in some seconds."""

    def __init__(self, name, start, ready, source, one_file=None, large=False):
        self.name, self.start, self.ready, self.source = name, start, ready, source
        self.one_file, self.large = one_file, large

    def install(self, folder):
        """Its files, as they would be on a server, in folder/NAME."""
        path = os.path.join(folder, self.name)
        if os.path.isdir(self.source):
            shutil.copytree(self.source, path)
        else:
            os.makedirs(path)
            shutil.copy(self.source, path)
        return path


GAMES = [
    Game("openarena", [
        ENGINE, "+set", "com_basegame", "baseoa", "+set", "fs_basepath", ".", "+set", "com_homepath",
        ".openarena", "+set", "com_protocol", "71", "+set", "r_mode", "-1", "+set", "r_customwidth", "640",
        "+set", "r_customheight", "480", "+set", "r_fullscreen", "0", "+set", "s_initsound", "0", "+set",
        "com_introplayed", "1", "+set", "ttycon", "0", "+set", "in_nograb", "1", "+map", "aggressor"],
        "entered the game", OPENARENA, large=True),
    Game("freedoom", [DOOM, "-iwad", "freedoom2.wad", "-warp", "1", "-nosound", "-window", "-geometry",
                      "640x480"], "ST_Init:", FREEDOOM, one_file="freedoom2.wad"),
]


def missing():
    """What is not installed, or None."""
    for program in PROGRAMS:
        if not shutil.which(program):
            return f"no {program}"
    return None if os.path.exists(FREEDOOM) and os.path.exists(OPENARENA) else "no freedoom or openarena"


def start_display(start):
    """An Xvfb, by start(command, **options) of whoever ends it; its name."""
    reads, writes = os.pipe()
    start(["Xvfb", "-displayfd", str(writes), "-screen", "0", "800x600x24"], pass_fds=[writes])
    os.close(writes)
    with os.fdopen(reads) as told:
        return ":" + told.readline().strip()


class Run:
    """A game that was started; what it prints is read by a thread. began: when, if not now."""

    def __init__(self, command, display, home, cwd=None, began=None):
        self.lines, self.changed = [], threading.Condition()
        self.began = began or time.monotonic()
        env = dict(os.environ, DISPLAY=display, HOME=home, LIBGL_ALWAYS_SOFTWARE="1", SDL_AUDIODRIVER="dummy")
        self.process = subprocess.Popen(command, cwd=cwd, env=env, text=True, errors="replace",
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify()

    def has(self, text):
        return any(text in line for line in self.lines)

    def until(self, text, timeout=120):
        """Seconds from the start to the line that has text; None: not within so many, or it ended before."""
        with self.changed:
            self.changed.wait_for(lambda: self.has(text) or not self.reader.is_alive(), timeout)
            return time.monotonic() - self.began if self.has(text) else None

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reader.join()


LIT = 0.5  # of the screen; a game's window has 0.64 of it, and what comes up bit by bit has less at first
STEADY = 0.01  # of its lit part, from one picture to the next


def lit(path):
    """How much of a picture is not black."""
    return float(subprocess.run(["convert", path, "-colorspace", "Gray", "-threshold", "3%", "-format", "%[fx:mean]",
                                 "info:"], check=True, text=True, capture_output=True).stdout)


def screenshot(display, path):
    """A game that plays has many colours all over its window, and its picture changes again and again, but not by
    becoming lighter. How many colours."""
    deadline, last, changes, before, light = time.monotonic() + 30, None, 0, 0, 0
    while changes < 6 or light < LIT or abs(light - before) > STEADY:
        if time.monotonic() > deadline:
            raise AssertionError(f"{path}: {changes} changes, {light:.2f} lit: nothing is playing")
        subprocess.run(["import", "-display", display, "-window", "root", "-quality", "75", path], check=True)
        seen = subprocess.run(["identify", "-format", "%k %#", path], check=True, text=True,
                              capture_output=True).stdout.split()
        if seen != last and int(seen[0]) > 60:
            changes += 1
        last, before, light = seen, light, lit(path)
    return int(seen[0])
