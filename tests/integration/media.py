#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""media.py BUILD: videos that were not made for streaming, mounted over a slow line.

An MP4 with its index at the end, one in fragments, a Matroska, an AVI: ffmpeg decodes every frame of the
mounted file to the same hashes as of the plain one; the first frame of the first, and one after a seek,
need a small part of it. Exit 0 passed, 1 failed, 77 skipped.
"""
import json
import os
import sys
import time

from nbd_line import Failed, expect, need, run
from rig.network import LinkNetwork
from rig.process import Room
from rig.web import Web

SECONDS = 60
VIDEO = ["-f", "lavfi", "-i", f"testsrc=size=320x240:rate=25:duration={SECONDS}",
         "-f", "lavfi", "-i", f"sine=frequency=300:duration={SECONDS}:sample_rate=44100",
         "-vf", "noise=alls=20:allf=t", "-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-b:v", "1M",
         "-c:a", "aac"]
FILES = {
    "last.mp4": VIDEO,
    "fragments.mp4": [*VIDEO, "-movflags", "frag_keyframe+empty_moov"],
    "some.mkv": VIDEO,
    "some.avi": [*VIDEO[:-1], "mp3"],
}


def make(room, name):
    path = room.path("www", name)
    run(["ffmpeg", "-v", "error", "-y", *FILES[name], path])
    return path


def frames(path):
    """A hash of every frame."""
    return run(["ffmpeg", "-v", "error", "-i", path, "-map", "0", "-f", "framemd5", "-"]).stdout


class Mounted:
    def __init__(self, room, build, url, *options):
        self.hither = os.path.join(build, "apps/hither/hither")
        self.room, self.url, self.options = room, url, options
        self.path = room.path("mounted-" + os.path.basename(url))

    def __enter__(self):
        self.room.will_unmount(self.path)
        run([self.hither, "mount", "--cache", "none", *self.options, self.url, self.path])
        return self

    def __exit__(self, *_):
        run([self.hither, "umount", self.path])

    def stats(self):
        told = json.loads(run([self.hither, "status", "--json", self.path]).stdout)
        return told["mounts"][0] if "mounts" in told else told


def one_frame(mount, at):
    """Decode a frame at so many seconds: how long it took, and the bytes pulled meanwhile."""
    before, begin = mount.stats()["pulled_bytes"], time.monotonic()
    run(["ffmpeg", "-v", "error", "-ss", str(at), "-i", mount.path, "-frames:v", "1", "-f", "null", "-"])
    return time.monotonic() - begin, mount.stats()["pulled_bytes"] - before


def starts_and_seeks_with_little(room, build, web, path):
    """Of a file of some megabytes: its index, and some seconds from where it is played."""
    size = os.path.getsize(path)
    pulled = {}
    for order in ("auto", "none"):
        with Mounted(room, build, web.url("last.mp4"), "--pull", "off", "--order", order) as mount:
            first = one_frame(mount, 0)
            seek = one_frame(mount, SECONDS * 3 // 4)
            pulled[order] = first[1] + seek[1]
            print(f"order {order}: first frame {first[0]:.2f} s, {first[1] >> 10} KiB; after a seek"
                  f" {seek[0]:.2f} s, {seek[1] >> 10} KiB, of {size >> 10} KiB")
    # 30 seconds ahead of a playhead come, at two places, and the seconds that may be next.
    expect(pulled["auto"] < size, "the order fetched more than the file")


def main():
    build = os.path.realpath(sys.argv[1])
    need("ffmpeg", "nginx")
    try:
        with Room("hither-media") as room:
            room.make("www")
            paths = {name: make(room, name) for name in FILES}
            web = Web(room, LinkNetwork(room, build, "metro"), room.path("www"))
            for name, path in paths.items():
                expected = frames(path)
                expect(expected.count("\n") > SECONDS * 25, f"{name}: too few frames to compare")
                with Mounted(room, build, web.url(name)) as mount:
                    expect(frames(mount.path) == expected, f"{name}: other frames through the mount")
            print(f"{len(paths)} files decode to the same frames")
            starts_and_seeks_with_little(room, build, web, paths["last.mp4"])
    except Failed as failure:
        print(f"media: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
