# SPDX-License-Identifier: Apache-2.0
"""Playing a film in real time over a line that is hardly faster than it and goes away now and then."""
import json
import os
import random
import shutil
import subprocess
import threading
import time

from rig.network import PROFILES, open_network
from rig.process import Failed, Room, run
from rig.web import Web

from . import film, peers
from .report import docs
from .table import Row

SEEKS = [(40, 50), (75, 80), (110, 20)]  # seconds after the start, to percent
LENGTH = 145
STALL = 0.3
PERIOD = 30


class Line:
    """A line and a server of its own, so that players do not take it from each other."""

    def __init__(self, bench, number):
        self.room = bench.room.enter_context(Room(f"line{number}", bench.room.folder))
        self.build, self.hither, self.files, self.profile = bench.build, bench.hither, bench.files, bench.profile
        self.rtt, self.rate = PROFILES[bench.profile]
        self.network, _ = open_network(self.room, os.environ["top"], bench.build, bench.profile, f"-{number}")
        self.web = Web(self.room, self.network, bench.files)
        self.url = self.web.url("film.mp4")
        self.stream = os.path.join(bench.build, "apps/stream/hither-stream")
        self.player = None

    def cache(self):
        return self.room.path("hither-cache")

    def play(self, command):
        self.player = film.Mpv(self.room, lambda options: self.network.client(command(options)), "playing")


class OnUrl:
    """mpv's own HTTP."""

    name = "mpv on the URL"

    def __init__(self, line):
        self.line = line

    def start(self):
        self.line.play(lambda options: ["mpv", *options, self.line.url])

    def end(self):
        pass


class OnMount:
    def __init__(self, line, mounter):
        self.line, self.mounter, self.name = line, mounter, mounter.name

    def start(self):
        begin = time.monotonic()
        path = self.mounter.mount(self.line.url)
        self.line.play(lambda options: ["mpv", *options, path])
        self.line.player.begin = begin

    def end(self):
        self.mounter.unmount()


class Play:
    """hither-stream play, as a user types it."""

    name = "hither-stream play"

    def __init__(self, line):
        self.line = line

    def start(self):
        self.line.play(lambda options: [self.line.stream, "play", "--cache", self.line.cache(), self.line.url, "--",
                                        *options])

    def end(self):
        pass


class Serve:
    """mpv at the endpoint of hither-stream serve, which is asked twice a second what is here."""

    name = "hither-stream serve"

    def __init__(self, line):
        self.line, self.samples, self.over = line, [], threading.Event()

    def start(self):
        begin = time.monotonic()
        process = self.line.room.start(self.line.network.client(
            [self.line.stream, "serve", "--cache", self.line.cache(), "--listen", "127.0.0.1:0", self.line.url]),
            stdout=subprocess.PIPE)
        url = process.stdout.readline().decode().split(": ")[0]
        if not url.startswith("http"):
            raise Failed("hither-stream serve did not start")
        self.line.play(lambda options: ["mpv", *options, url + "media"])
        self.line.player.begin = begin
        self.watcher = threading.Thread(target=self.watch, args=(url,), daemon=True)
        self.watcher.start()

    def ask(self, url, query):
        """curl in the client's world, since its loopback is another."""
        done = run(self.line.network.client(["curl", "-s", "-m", "2", f"{url}status{query}"]), check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def watch(self, url):
        while not self.over.wait(0.5):
            places = self.line.player.places
            told = self.ask(url, f"?at={places[-1][1]:.3f}" if places else "")
            if told:
                self.samples.append((time.monotonic(), told["playhead_us"] / 1e6, told["buffered_us"] / 1e6,
                                     told["local_bytes"]))

    def end(self):
        self.over.set()
        self.watcher.join()


def outage_times(seed=5):
    """One of a second in every PERIOD, at a random time of it."""
    dice = random.Random(seed)
    return [PERIOD * number + 2 + dice.random() * (PERIOD - 4) for number in range(LENGTH // PERIOD + 1)]


def during(players, begin, stop):
    """Seeks of all players and outages of all lines, each at its time."""
    events = [(at, "seek", percent) for at, percent in SEEKS]
    for at in outage_times():
        events += [(at, "outage", True), (at + 1, "outage", False)]
    for at, what, value in sorted(events, key=lambda event: event[0]):
        if stop.wait(max(0, begin + at - time.monotonic())):
            return
        for player in players:
            if what == "seek":
                player.asked.append(player.line.player.seek(value))
            else:
                player.line.network.outage(value)


def plays_on(mpv, shown):
    """When it plays after a seek: the first new frame that another one follows soon. mpv may show one, and wait."""
    after = [when for when, _ in mpv.places if when >= shown]
    return next((first for first, then in zip(after, after[1:]) if then - first <= STALL), None)


def judge(player, begin, finish):
    """Start-up, how long each seek took, and the stalls while it should have played."""
    mpv = player.line.player
    answers = []
    for asked, count in player.asked:
        shown = mpv.restarts[count - 1] if len(mpv.restarts) >= count else None
        moved = plays_on(mpv, shown) if shown else None
        answers.append((asked, max(shown, moved) if shown and moved else finish))
    first = next((when for when, place in mpv.places if place > 0.02), finish)
    # Waiting for an answer to a seek is no stall; nor is what came before the start.
    quiet = [(begin, first), *answers]
    moments = [when for when, _ in mpv.places if when >= first] + [finish]
    stalls = []
    for before, after in zip(moments, moments[1:]):
        free = sum(max(0, min(after, b) - max(before, a)) for a, b in quiet)
        if after - before - free > STALL:
            stalls.append((before, after - before - free))
    return first - mpv.begin, [shown - asked for asked, shown in answers], stalls


def contenders(bench):
    every = [Serve, Play, OnUrl]
    lines = [Line(bench, number) for number in range(len(every))]
    for line, kind in zip(lines, every):
        yield kind(line)
    number = len(every)
    for index in range(len(peers.mounters(bench))):
        line = Line(bench, number + index)
        yield OnMount(line, peers.mounters(line)[index])


def watch(players):
    begin, stop = time.monotonic(), threading.Event()
    for player in players:
        player.asked = []
        player.start()
    begin = time.monotonic()
    acts = threading.Thread(target=during, args=(players, begin, stop))
    acts.start()
    stop.wait(LENGTH)
    finish = time.monotonic()
    stop.set()
    acts.join()
    for player in players:
        player.line.player.close()
        player.end()
    return begin, finish


def outages(bench, quick):
    """All at once, each on a line of its own."""
    del quick
    path = film.make(bench.files)
    players = list(contenders(bench))
    begin, finish = watch(players)
    verdicts = {player.name: judge(player, begin, finish) for player in players}
    for name, (start, seeks, stalls) in verdicts.items():
        print(f"    {name}: start {start:.2f} s, seeks {', '.join(f'{s:.2f}' for s in seeks)} s; stalls "
              + (", ".join(f"{length:.2f} s at {when - begin:.0f}" for when, length in stalls) or "none"))
    # What a seek needs: the group of pictures around the place, half a second of it, with its audio.
    needed = film.RATE / 2 / bench.rate
    rivals = [player.name for player in players[2:]]
    for name in ("hither-stream play", "hither-stream serve"):
        start, seeks, stalls = verdicts[name]
        label = name.split()[1]
        yield Row(bench.profile, f"{label}: stalls, {LENGTH} s, three seeks, outages", len(stalls), "stalls",
                  [(rival, len(verdicts[rival][2])) for rival in rivals], "none", not stalls)
        yield Row(bench.profile, f"{label}: stalled in all", sum(s for _, s in stalls), "s",
                  [(rival, sum(s for _, s in verdicts[rival][2])) for rival in rivals])
        yield Row(bench.profile, f"{label}: the longest of three seeks", max(seeks), "s",
                  [(rival, max(verdicts[rival][1])) for rival in rivals], f"1 s + {needed:.2f} s of transfer",
                  max(seeks) < 1 + needed, plot="Longest of three seeks over the moody line, s")
        yield Row(bench.profile, f"{label}: start", start, "s", [(rival, verdicts[rival][0]) for rival in rivals])
    draw(bench, players, verdicts, begin, path)


# --- the timeline ---

SCRIPT = """
set terminal svg size 900,760 font 'sans,11'
set output '{out}'
set multiplot layout 2,1
set grid
set key top left
set xlabel 'seconds of watching'
set xrange [0:{length}]
{boxes}
set title 'hither-stream serve over 12 Mbit/s, 150 ms, 1 s outages (grey): playhead and what is here ahead of it'
set ylabel 'minute of the film'
plot '{samples}' using 1:($2/60):(($2+$3)/60) with filledcurves lc rgb '#9cc8f0' title 'here, from the playhead on', \\
     '{samples}' using 1:($2/60) with lines lw 2 lc rgb '#103060' title 'playhead'
set title 'Where each player is stopped: red, a stall; blue, the start or a seek'
set ylabel ''
unset key
set yrange [-0.7:{rows}]
set ytics ({names})
plot '{stops}' using 1:2:3:(0) with vectors nohead lw 9 lc rgb '#d03030' title 'stalls', \\
     '{waits}' using 1:2:3:(0) with vectors nohead lw 9 lc rgb '#5080d0' title 'starts and seeks'
unset multiplot
"""


def rows_file(path, rows):
    with open(path, "w", encoding="utf-8") as text:
        for row in rows or [(-10, -10, -10, -10)]:
            text.write(" ".join(f"{value:.3f}" for value in row) + "\n")
    return path


def draw(bench, players, verdicts, begin, _):
    """docs/benchmarks/stream-timeline.svg, where gnuplot is there."""
    if not shutil.which("gnuplot") or os.environ.get("HITHER_BENCH_QUIET"):
        return
    samples, stops, waits = [], [], []
    for when, playhead, buffered, _local in players[0].samples:
        samples.append((when - begin, playhead, buffered))
    for number, player in enumerate(players):
        stops += [(when - begin, number, length) for when, length in verdicts[player.name][2]]
        waits += [(0, number, verdicts[player.name][0])]
        waits += [(asked - begin, number, took)
                  for (asked, _c), took in zip(player.asked, verdicts[player.name][1])]
    boxes = "\n".join(f"set object {n + 1} rect from {at:.2f}, graph 0 to {at + 1:.2f}, graph 1 fc rgb '#cccccc'"
                      " fs solid noborder behind" for n, at in enumerate(outage_times()) if at < LENGTH)
    folder = bench.room.folder
    script = os.path.join(folder, "timeline.gp")
    out = os.path.join(docs(), "benchmarks", "stream-timeline.svg")
    with open(script, "w", encoding="utf-8") as text:
        text.write(SCRIPT.format(
            out=out, length=LENGTH, boxes=boxes, rows=len(players) - 0.3,
            samples=rows_file(os.path.join(folder, "samples"), samples),
            stops=rows_file(os.path.join(folder, "stops"), stops),
            waits=rows_file(os.path.join(folder, "waits"), waits),
            names=", ".join(f"'{player.name}' {n}" for n, player in enumerate(players))))
    run(["gnuplot", script])

