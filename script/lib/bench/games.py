# SPDX-License-Identifier: Apache-2.0
"""Games over a line: from typing the command until one can play."""
import os
import re
import shutil
import time

from rig import games
from rig.process import Failed, run

from . import peers
from .report import docs
from .table import Row

PATIENCE_S = {"wan": 45, "far": 100}
MARK = "mark"  # a file in each game's folder, to find it by


class Measured:
    """seconds from the command to playable; None: stopped after so many of patience."""

    def __init__(self, seconds, lines=()):
        self.seconds, self.text = seconds, "".join(lines)

    def report(self):
        """What game-assets says at the end."""
        return next((line for line in self.text.splitlines() if "started after" in line), "")

    def stalls(self):
        found = re.search(r"(\d+) reads stalled", self.report())
        return int(found[1]) if found else 0


class Contest:
    """One game on one line."""

    def __init__(self, bench, game, display):
        self.bench, self.game, self.display = bench, game, display
        self.tool = os.path.join(bench.build, "apps/game-assets/game-assets")
        self.manifest = bench.url(f"{game.name}.hither")
        self.start = ["stdbuf", "-oL", *game.start]
        self.patience = PATIENCE_S[bench.profile]

    def fresh(self):
        for name in ("home", "hither-cache", "peer-cache", "downloaded"):
            shutil.rmtree(self.bench.room.path(name), ignore_errors=True)
        return self.bench.room.make("home")

    def play(self, command, cwd=None, began=None, shot=None):
        """Start the game by this; until one can play."""
        home = self.bench.room.make("home")
        left = self.patience - (time.monotonic() - began if began else 0)
        own = games.Run(command, self.display, home, cwd, began)
        try:
            seconds = own.until(self.game.ready, max(left, 1))
            if seconds is None and own.process.poll() is not None:
                raise Failed(f"{self.game.name} ended: {''.join(own.lines[-3:]).strip()}")
            if shot and seconds:
                games.screenshot(self.display, shot)
        finally:
            own.end()
        return Measured(seconds, own.lines)

    def local(self):
        """The second time: libraries and drivers are in memory for everybody."""
        folder = os.path.join(self.bench.files, self.game.name)
        for _ in range(2):
            self.fresh()
            measured = self.play(self.start, folder)
        return measured

    def download(self):
        """All of it by aria2, eight connections at a time, then from the disk."""
        self.fresh()
        bench, folder, site = self.bench, self.bench.room.make("downloaded"), self.bench.files
        listed = bench.room.path("list")
        with open(listed, "w", encoding="utf-8") as out:
            for root, _, names in os.walk(os.path.join(site, self.game.name)):
                for name in names:
                    path = os.path.relpath(os.path.join(root, name), site)
                    out.write(f"{bench.url(path)}\n dir={folder}\n out={path}\n")
        begin = time.monotonic()
        run(bench.network.client(["aria2c", "-q", "-x8", "-s8", "-j8", "--min-split-size=1M",
                                  "--file-allocation=none", "-i", listed]), timeout=self.patience)
        return self.play(bench.network.client(self.start), os.path.join(folder, self.game.name), begin)

    def mounted(self, mounter, name):
        """name: of a file in the game's folder, whose URL is mounted."""
        self.fresh()
        begin = time.monotonic()
        with self.bench.mounted(mounter, self.bench.url(f"{self.game.name}/{name}")) as path:
            return self.play(self.bench.network.client(self.start), os.path.dirname(path), begin)

    def hither(self, record, shot=None):
        self.fresh()
        cache = self.bench.room.path("hither-cache")
        return self.play(self.bench.network.client(
            [self.tool, "learn", "--cache", cache, "--output", record, self.manifest, "--", *self.start]), shot=shot)

    def rivals(self):
        yield "aria2 -x8, then play", self.download
        # Each as it does best here: rclone with its cache, nbdkit (of one file) without its filters.
        for mounter in (peers.Rclone(self.bench, "full"), peers.Httpdirfs(self.bench)):
            if mounter.available():
                yield mounter.name, lambda m=mounter: self.mounted(m, MARK)
        nbdkit = peers.Nbdkit(self.bench)
        if self.game.one_file and nbdkit.available():
            yield nbdkit.name, lambda: self.mounted(nbdkit, self.game.one_file)


def learnt_bytes(path):
    """Of a profile: what the launch reads."""
    with open(path, encoding="ascii") as text:
        return sum(int(line.split()[1]) for line in text if line[0].isdigit())


def prepare(bench, game):
    path = os.path.join(bench.files, game.name)
    if not os.path.exists(path):
        game.install(bench.files)
        with open(os.path.join(path, MARK), "w", encoding="ascii") as out:
            out.write("here\n")
    run([os.path.join(bench.build, "apps/game-assets/game-assets"), "publish", path])
    beside = f"{path}.hither-profile"
    if os.path.exists(beside):
        os.unlink(beside)
    return beside


def ours(contest, beside, folder):
    """Without a profile, which the first run leaves, and with it."""
    name = contest.game.name
    without, having = os.path.join(folder, f"{name}: no profile"), os.path.join(folder, f"{name}: with one")
    shot = None if os.environ.get("HITHER_BENCH_QUIET") else os.path.join(docs(), "benchmarks", f"games-{name}.jpg")
    plain = contest.hither(without)
    shutil.copy(without, beside)
    again = contest.hither(having, shot)
    if shot:
        run([contest.bench.hither, "profile", "--plot", os.path.join(docs(), "benchmarks", f"games-{name}.svg"),
             without, having])
    return plain, again, learnt_bytes(without)


def rows(contest, own_s, plain, again, launch, rivals):
    bench, game = contest.bench, contest.game
    ideal = launch * 8 / bench.rate + 3 * bench.rtt + own_s
    for name, measured in (("with a profile", again), ("without", plain)):
        if measured.seconds is None:
            raise Failed(f"{game.name}, hither {name}: not playable after {contest.patience} s: {measured.text[-300:]}")
    download, best = rivals[0][1], min(seconds for _, seconds in rivals)
    title = f"{game.name}: command to playable, s"
    bar = f"1.3 x {ideal:.1f} (ideal)" + (", a quarter of the download" if game.large else "")
    yield Row(bench.profile, f"{game.name}, with a profile", again.seconds, "s", rivals, bar,
              again.seconds <= 1.3 * ideal and (not game.large or again.seconds * 4 <= download), plot=title)
    yield Row(bench.profile, f"{game.name}, without one", plain.seconds, "s", rivals,
              f"{best / 1.5:.1f} (best / 1.5)" if game.large else "",
              plain.seconds * 1.5 <= best if game.large else None)
    yield Row(bench.profile, f"{game.name}, with a profile: stalls over 50 ms", again.stalls(), "stalls",
              [("without one", plain.stalls())])


def playable(bench, quick):
    os.environ["PATH"] += ":/usr/sbin:/usr/games"
    if games.missing():
        raise Failed(f"games: {games.missing()}")
    display = games.start_display(bench.room.start)
    for game in games.GAMES:
        contest, beside = Contest(bench, game, display), prepare(bench, game)
        own = contest.local().seconds
        plain, again, launch = ours(contest, beside, bench.room.make("profiles"))
        print(f"    {game.name}: own start {own:.2f} s, its launch reads {launch / 1e6:.1f} MB;"
              f"\n      without a profile {plain.seconds} s {plain.report()}"
              f"\n      with one {again.seconds} s {again.report()}", flush=True)
        rivals = []
        for name, action in list(contest.rivals())[:1 if quick else None]:
            measured = action()
            seconds = measured.seconds or contest.patience
            rivals.append((name if measured.seconds else f"{name} (stopped after {contest.patience} s)", seconds))
            print(f"      {rivals[-1][0]}: {seconds:.2f} s", flush=True)
        yield from rows(contest, own, plain, again, launch, rivals)
