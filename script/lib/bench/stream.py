# SPDX-License-Identifier: Apache-2.0
"""Films over a line: the first frame, a seek, ten viewers; hither-stream and its peers."""
import os
import statistics
import time

from rig.process import Failed, run, wait_until

from . import film, peers
from .harness import MB
from .table import Row, median

FRAME = ["ffmpeg", "-v", "error", "-frames:v", "1", "-f", "null", "-"]


class Stream(peers.Hither):
    """hither-stream mount, as a user types it."""

    name = "hither-stream"

    def command(self, url, name):
        program = os.path.join(self.bench.build, "apps/stream/hither-stream")
        return [program, "mount", "--cache", self.bench.room.path("hither-cache"), *self.options, url, self.path]


def frame(at, path):
    """Decode one frame."""
    return [*FRAME[:3], *(["-ss", str(at)] if at else []), "-i", path, *FRAME[3:]]


def timed(command):
    begin = time.monotonic()
    run(command)
    return (time.monotonic() - begin) * 1e3


def first_through(bench, mounter, url):
    begin = time.monotonic()
    with bench.mounted(mounter, url) as path:
        run(frame(0, path))
        return (time.monotonic() - begin) * 1e3


def mpv_on(bench, path, name):
    """mpv in the client's world, held at its first frame."""
    return film.Mpv(bench.room, lambda options: bench.network.client(["mpv", *options, "--pause", path]), name)


def restarted(player, count, what):
    moment = player.wait(count, 120)
    if moment is None:
        raise Failed(f"{what}: mpv shows no frame")
    return moment


def mpv_first(bench, url):
    player = mpv_on(bench, url, f"first-{time.monotonic_ns()}")
    try:
        return (restarted(player, 1, "mpv") - player.begin) * 1e3
    finally:
        player.close()


def line_seconds(bench, size):
    """What so many bytes take: a curl of some of them tells the rate."""
    url, part = bench.url("film.mp4"), int(min(size, max(bench.rate, 100e6) / 8 * 2))
    seconds = bench.download(["curl", "-sS", "-r", f"0-{part - 1}", "-o", "/dev/null", url])
    return size / (part / seconds)


def first_frame(bench, quick):
    """From typing the command to the first decoded frame of a film whose index is at the end, cold."""
    path, url = film.make(bench.files), bench.url("film.mp4")
    repeats = 3 if quick else 7
    own = median([timed(frame(0, path)) for _ in range(5)])
    rivals = [("ffmpeg on the URL", median([timed(bench.network.client(frame(0, url))) for _ in range(3)])),
              ("mpv on the URL", median([mpv_first(bench, url) for _ in range(3)])),
              ("download first", line_seconds(bench, os.path.getsize(path)) * 1e3 + own)]
    rivals += [(peer.name, median([first_through(bench, peer, url) for _ in range(3)]))
               for peer in peers.mounters(bench)]
    figure = median([first_through(bench, Stream(bench), url) for _ in range(repeats)])
    ideal = 4 * bench.rtt * 1e3 + film.index_bytes(path) * 8e3 / bench.rate
    met = figure - own <= 1.3 * ideal and all(figure < other for _, other in rivals)
    yield Row(bench.profile, f"first decoded frame, {os.path.getsize(path) // MB} MB MP4, index last", figure, "ms",
              rivals, f"1.3 x {ideal:.0f} + ffmpeg's own {own:.0f}, best peer", met, plot="First decoded frame, ms")


def seek_of(bench, path, name):
    """A seek to 75 % in an mpv that shows the first frame, and is over with reading ahead."""
    player = mpv_on(bench, path, f"{name}-{time.monotonic_ns()}")
    try:
        restarted(player, 1, name)
        asked, count = player.seek(75)
        return (restarted(player, count, name) - asked) * 1e3
    finally:
        player.close()


def seek_through(bench, mounter, url):
    with bench.mounted(mounter, url) as path:
        return seek_of(bench, path, mounter.name.split()[0])


def key_bytes(path):
    """What the largest key frame takes, and the audio beside it."""
    told = run(["ffprobe", "-v", "error", "-select_streams", "v", "-read_intervals", "%+20", "-show_entries",
                "packet=size,flags", "-of", "csv=p=0", path]).stdout.split()
    return max(int(size) for size, flags in (line.split(",")[:2] for line in told) if "K" in flags)


def seek(bench, quick):
    """From asking a player that shows the first frame to the frame at 75 %."""
    path, url = film.make(bench.files), bench.url("film.mp4")
    own = median([seek_of(bench, path, "local") for _ in range(5)])
    rivals = [("mpv on the URL", median([seek_of(bench, url, "url") for _ in range(3)]))]
    rivals += [(peer.name, median([seek_through(bench, peer, url) for _ in range(3)]))
               for peer in peers.mounters(bench)]
    figures = [seek_through(bench, Stream(bench), url) for _ in range(3 if quick else 7)]
    figure = median(figures)
    ideal = 2 * bench.rtt * 1e3 + key_bytes(path) * 8e3 / bench.rate
    yield Row(bench.profile, "seek to 75 %, next frame", figure, "ms", rivals,
              f"2 RTT + key frame = {ideal:.0f} + mpv's own {own:.0f}", figure - own <= ideal,
              plot="Seek to 75 %, ms")
    print(f"    (seeks: {', '.join(f'{f:.0f}' for f in figures)} ms; spread {statistics.pstdev(figures):.0f})")


def viewers(bench, quick):
    """Ten players read one file on one mount, a little apart: how often it crosses the line."""
    del quick
    film.make(bench.files)
    size = os.path.getsize(os.path.join(bench.files, "clip.mp4"))
    with bench.mounted(Stream(bench), bench.url("clip.mp4")) as path:
        before = bench.network.bytes("down")
        players = []
        for number in range(10):
            players.append(bench.room.start(["ffmpeg", "-v", "error", "-readrate", "8", "-i", path, "-map", "0",
                                             "-c", "copy", "-f", "null", "-"]))
            target = time.monotonic() + 0.3
            wait_until(lambda t=target: time.monotonic() >= t, 5, str(number))
        for player in players:
            if player.wait(120):
                raise Failed("a viewer failed")
        figure = (bench.network.bytes("down") - before) / size
    # Headers of packets are some 4 % of what is counted.
    yield Row(bench.profile, f"ten viewers of {size // MB} MB on one mount: bytes on the line", figure, "files", (),
              "once (1.06 with TCP's headers)", figure <= 1.06)

