# SPDX-License-Identifier: Apache-2.0
"""Games over a line: from typing the command until one can play."""
import os
import re
import shutil
import statistics
import subprocess
import time

from rig import games
from rig.process import Failed, run

from . import peers
from .report import docs
from .table import Row

PATIENCE_S = {"wan": 60, "far": 110}
MARK = "mark"  # a file in each game's folder, to find it by
RUNS = 3       # of what is short: the median counts
CHUNK = 64 << 10
SLACK = 1.3     # of the ideal
SEGMENT = 1448
PAYLOAD = SEGMENT / 1500  # of what a line carries: IPv4, and TCP with timestamps (RFC 791, 9293, 7323)
CONNECTIONS = 48  # as many as a player's mount opens, each of ten segments at first (RFC 6928)
STALL = 0.05


class Measured:
    """seconds from the command to playable; None: stopped after so many of patience."""

    def __init__(self, seconds, lines=(), record=None):
        self.seconds, self.text, self.record = seconds, "".join(lines), record

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
        """The first time libraries and drivers come from the disk, for whoever is measured first."""
        folder = os.path.join(self.bench.files, self.game.name)
        seconds = []
        for _ in range(1 + RUNS):
            self.fresh()
            seconds.append(self.play(self.start, folder).seconds or self.patience)
        return statistics.median(seconds[1:])

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
        try:
            run(bench.network.client(["aria2c", "-q", "-x8", "-s8", "-j8", "--min-split-size=1M",
                                      "--file-allocation=none", "-i", listed]), timeout=self.patience)
        except subprocess.TimeoutExpired:
            return Measured(None)
        return self.play(bench.network.client(self.start), os.path.join(folder, self.game.name), begin)

    def mounted(self, mounter, name):
        """name: of a file in the game's folder, whose URL is mounted."""
        self.fresh()
        begin = time.monotonic()
        with self.bench.mounted(mounter, self.bench.url(f"{self.game.name}/{name}")) as path:
            return self.play(self.bench.network.client(self.start), os.path.dirname(path), begin)

    def hither(self, record, shot=None, learn=False):
        self.fresh()
        cache = self.bench.room.path("hither-cache")
        how = ["learn", "--output", record] if learn else ["play", "--record", record]
        measured = self.play(self.bench.network.client(
            [self.tool, *how, "--cache", cache, self.manifest, "--", *self.start]), shot=shot)
        if measured.seconds is None:
            raise Failed(f"{self.game.name}: not playable after {self.patience} s: {measured.text[-300:]}")
        measured.record = record
        return measured

    def lazy(self):
        """Who else mounts, each as it does best here: rclone with its cache, nbdkit (of one file) without its
        filters."""
        for mounter in (peers.Rclone(self.bench, "full"), peers.Httpdirfs(self.bench)):
            if mounter.available():
                yield mounter, MARK
        nbdkit = peers.Nbdkit(self.bench)
        if self.game.one_file and nbdkit.available():
            yield nbdkit, self.game.one_file

    def publish(self, profile=None):
        run([self.tool, "publish", *(["--profile", profile] if profile else []),
             os.path.join(self.bench.files, self.game.name)])

    def rivals(self, quick):
        """(name, seconds) of each. Who mounts is stopped when the download would have won by a half."""
        def told(name, action):
            measured = action()
            late = "" if measured.seconds else f" (stopped after {self.patience:.0f} s)"
            found.append((name + late, measured.seconds or self.patience))
            print(f"      {found[-1][0]}: {found[-1][1]:.2f} s", flush=True)

        found = []
        told("aria2 -x8, then play", self.download)
        self.patience = min(self.patience, max(1.5 * found[0][1], 10))
        for mounter, name in () if quick else self.lazy():
            told(mounter.name, lambda m=mounter, n=name: self.mounted(m, n))
        return found


# --- profiles ---

def entries(path):
    """(offset, length, seconds, waited) of each step."""
    with open(path, encoding="ascii") as text:
        for line in text:
            if line[0].isdigit():
                words = line.split()
                yield int(words[0]), int(words[1]), int(words[2]) / 1000, words[-1] == "w"


def stalled(path):
    """(offset, length, begin, end in seconds) of each read that waited more than 50 ms."""
    with open(path, encoding="ascii") as text:
        for line in text:
            if line.startswith("# stalled "):
                offset, length, begin, end = line.split()[2:]
                yield int(offset), int(length), int(begin) / 1000, int(end) / 1000


def chunks(offset, length):
    return range(offset // CHUNK, (offset + length - 1) // CHUNK + 1)


def soonest(total, rate, rtt):
    """Seconds from the first request, over connections that are there, until so many bytes can have come: each
    connection's window doubles with each round trip (RFC 5681), until they fill the line."""
    goodput, come, window, trips = rate / 8 * PAYLOAD, 0, CONNECTIONS * 10 * SEGMENT, 1
    while window < goodput * rtt and come + window < total:
        come, window, trips = come + window, 2 * window, trips + 1
    return trips * rtt + (total - come) / goodput


def avoidable(profile, run_of, rate, rtt):
    """Stalls of a run of which more than 50 ms came after the line could have brought the bytes: all of it given to
    the profile, in its order, from when the mount is there. Nobody could have foreseen what the profile has not."""
    due, total = {}, 0
    for offset, length, _, _ in entries(profile):
        for chunk in chunks(offset, length):
            if chunk not in due:
                total += CHUNK
                due[chunk] = soonest(total, rate, rtt)
    return sum(all(c in due for c in chunks(offset, length)) and
               end - max(begin, *(due[c] for c in chunks(offset, length))) > STALL
               for offset, length, begin, end in stalled(run_of))


def learnt_bytes(path):
    """Of a profile: what the launch reads."""
    return sum(length for _, length, _, _ in entries(path))


# --- ours ---

def prepare(bench, game):
    path = os.path.join(bench.files, game.name)
    if not os.path.exists(path):
        game.install(bench.files)
        with open(os.path.join(path, MARK), "w", encoding="ascii") as out:
            out.write("here\n")
    beside = f"{path}.hither-profile"
    if os.path.exists(beside):
        os.unlink(beside)


def ours(contest, folder):
    """Without a profile, which the first run leaves, and several times with it."""
    name = contest.game.name
    without = os.path.join(folder, f"{name}: no profile")
    having = [os.path.join(folder, f"{name}: with one" + ", again" * i) for i in range(RUNS)]
    shot = None if os.environ.get("HITHER_BENCH_QUIET") else os.path.join(docs(), "benchmarks", f"games-{name}.jpg")
    plain = contest.hither(without, learn=True)
    contest.publish(without)
    again = [contest.hither(record, shot if record == having[-1] else None) for record in having]
    again.sort(key=lambda measured: measured.seconds)
    median = again[RUNS // 2]
    if shot:
        run([contest.bench.hither, "profile", "--plot", os.path.join(docs(), "benchmarks", f"games-{name}.svg"),
             without, median.record])
    print(f"    {name}: with a profile {', '.join(f'{m.seconds:.2f}' for m in again)} s", flush=True)
    return plain, median


def rows(contest, own_s, plain, again, launch, late, rivals):
    bench, game = contest.bench, contest.game
    ideal = launch * 8 / bench.rate + 3 * bench.rtt + own_s
    download, best = rivals[0][1], min(seconds for _, seconds in rivals)
    title = f"{game.name}: command to playable, s"
    yield Row(bench.profile, f"{game.name}, with a profile", again.seconds, "s", rivals,
              f"{SLACK} x {ideal:.2f} (ideal) = {SLACK * ideal:.2f}", again.seconds <= SLACK * ideal, plot=title)
    if game.large:
        yield Row(bench.profile, f"{game.name}, with a profile, beside the download", again.seconds, "s",
                  rivals[:1], f"{download / 4:.2f} (a quarter)", again.seconds * 4 <= download)
    yield Row(bench.profile, f"{game.name}, without one", plain.seconds, "s", rivals,
              f"{best / 1.5:.2f} (best / 1.5)" if game.large else "",
              plain.seconds * 1.5 <= best if game.large else None)
    yield Row(bench.profile, f"{game.name}, with a profile: stalls over 50 ms", again.stalls(), "stalls",
              [("without one", plain.stalls())])
    yield Row(bench.profile, f"{game.name}: of these, that the line had time to avoid", late,
              "stalls", (), "none" if bench.profile == "wan" else "",
              late == 0 if bench.profile == "wan" else None)


def contend(bench, game, display, quick):
    contest = Contest(bench, game, display)
    prepare(bench, game)
    contest.publish()
    own = contest.local()
    plain, again = ours(contest, bench.room.make("profiles"))
    launch, late = learnt_bytes(plain.record), avoidable(plain.record, again.record, bench.rate, bench.rtt)
    print(f"    {game.name}: own start {own:.2f} s, its launch reads {launch / 1e6:.1f} MB;"
          f"\n      without a profile {plain.seconds:.2f} s {plain.report()}"
          f"\n      with one {again.seconds:.2f} s {again.report()}", flush=True)
    yield from rows(contest, own, plain, again, launch, late, contest.rivals(quick))


def playable(bench, quick):
    os.environ["PATH"] += ":/usr/sbin:/usr/games"
    if games.missing():
        raise Failed(f"games: {games.missing()}")
    display = games.start_display(bench.room.start)
    for game in games.GAMES:
        try:
            yield from contend(bench, game, display, quick)
        except Failed as failure:  # and the next one has its turn
            print(f"  {game.name}: {failure}", flush=True)
            yield Row(bench.profile, game.name, "failed", "", (), str(failure), False)
