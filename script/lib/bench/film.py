# SPDX-License-Identifier: Apache-2.0
"""The films that players are given, and a player that tells what it does: mpv, by its JSON IPC."""
import json
import os
import socket
import subprocess
import threading
import time

from rig.process import Failed, end, run, wait_until

MINUTES = 10
RATE = 10e6  # bit/s
DURATION = MINUTES * 60
QUIET = ["--no-config", "--vo=null", "--ao=null", "--really-quiet", "--no-terminal", "--idle=no", "--msg-level=all=no"]


def make(folder):
    """clip.mp4, a minute; film.mp4, ten of them: H.264 and AAC, 10 Mbit/s, the index at the end."""
    clip, film = os.path.join(folder, "clip.mp4"), os.path.join(folder, "film.mp4")
    if not os.path.exists(clip):
        run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=60",
             "-f", "lavfi", "-i", "sine=duration=60", "-vf", "noise=alls=40:allf=t", "-c:v", "libx264",
             "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-b:v", "9.85M", "-minrate", "9.85M",
             "-maxrate", "9.85M", "-bufsize", "5M", "-x264-params", "nal-hrd=cbr", "-c:a", "aac", "-b:a", "128k",
             clip])
    if not os.path.exists(film):
        run(["ffmpeg", "-v", "error", "-y", "-stream_loop", str(MINUTES - 1), "-i", clip, "-c", "copy", film])
    return film


def index_bytes(path):
    """Of the moov, which is the last box."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            if head[4:8] == b"moov":
                return length
            at += length
    raise Failed(f"{path} has no moov")


class Mpv:
    """One mpv. command: how it is started, given options for it. Times are monotonic seconds."""

    def __init__(self, room, command, name):
        self.socket = room.path(f"mpv-{name}")
        self.begin = time.monotonic()
        self.process = room.start(command([*QUIET, f"--input-ipc-server={self.socket}"]))
        wait_until(lambda: self.process.poll() is not None or os.path.exists(self.socket), 60, f"mpv {name}")
        if self.process.poll() is not None:
            with open(self.process.log, encoding="utf-8", errors="replace") as log:
                raise Failed(f"mpv {name} ended: {log.read().strip()[-300:]}")
        self.pipe = socket.socket(socket.AF_UNIX)
        self.connect()
        self.lock = threading.Condition()
        self.places = []  # (when, seconds into the film), for each frame
        self.restarts = []  # when it began to show frames: at the start, after a seek
        self.paused = []  # (when, does it wait for its cache?)
        self.over = False
        self.tell("observe_property", 1, "time-pos")
        self.tell("observe_property", 2, "paused-for-cache")
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def connect(self):
        for _ in range(500):
            try:
                self.pipe.connect(self.socket)
                return
            except OSError:
                time.sleep(0.002)
        raise Failed("mpv does not answer")

    def tell(self, *command):
        self.pipe.sendall(json.dumps({"command": command}).encode() + b"\n")

    def listen(self):
        with self.pipe.makefile("rb") as lines:
            try:
                for line in lines:
                    self.take(json.loads(line))
            except (OSError, ValueError):
                pass
        with self.lock:
            self.over = True
            self.lock.notify_all()

    def take(self, told):
        now = time.monotonic()
        with self.lock:
            if told.get("event") == "playback-restart":
                self.restarts.append(now)
            elif told.get("event") == "property-change" and told.get("data") is not None:
                if told["id"] == 1:
                    self.places.append((now, told["data"]))
                else:
                    self.paused.append((now, told["data"]))
            self.lock.notify_all()

    def wait(self, count, seconds):
        """When it began to show frames for the count-th time; None: not within so long."""
        with self.lock:
            self.lock.wait_for(lambda: len(self.restarts) >= count or self.over, seconds)
            return self.restarts[count - 1] if len(self.restarts) >= count else None

    def seek(self, percent):
        """The moment of asking; the answer is one more restart."""
        with self.lock:
            count = len(self.restarts)
        now = time.monotonic()
        self.tell("seek", percent, "absolute-percent+keyframes")
        return now, count + 1

    def close(self):
        try:
            self.tell("quit")
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            pass
        end(self.process)
        self.pipe.close()
