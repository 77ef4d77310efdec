# SPDX-License-Identifier: Apache-2.0
"""MP4 files with their index at the end, made in all the ways that a rewritten index could get wrong."""
import os
import struct

from nbd_line import run

SECONDS = 6


def source(kind, more=""):
    return ["-f", "lavfi", "-i", f"{kind}{more}:duration={SECONDS}"]


PICTURE = source("testsrc", "=size=160x120:rate=25")
OTHER = source("testsrc2", "=size=128x96:rate=30")
SOUND = source("sine", "=frequency=300:sample_rate=44100")
SPEECH = source("sine", "=frequency=700:sample_rate=48000")
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,500\nThe first line\n\n2\n00:00:04,000 --> 00:00:05,000\nThe second\n"
CHAPTERS = ";FFMETADATA1\ntitle=A film\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=3\ntitle=One\n" \
           "[CHAPTER]\nTIMEBASE=1/1\nSTART=3\nEND=6\ntitle=Two\n"

WAYS = {
    "plain.mp4": [*PICTURE, *SOUND, *H264, "-c:a", "aac"],
    "b-frames.mp4": [*PICTURE, *SOUND, "-c:v", "libx264", "-preset", "fast", "-bf", "4", "-b_strategy", "2",
                     "-refs", "4", "-g", "100", "-c:a", "aac"],
    "tracks.mp4": [*PICTURE, *OTHER, *SOUND, *SPEECH, "-map", "0", "-map", "1", "-map", "2", "-map", "3", *H264,
                   "-c:a", "aac", "-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=fra"],
    "subtitles.mp4": [*PICTURE, *SOUND, "-i", "{subtitles}", "-map", "0", "-map", "1", "-map", "2", *H264,
                      "-c:a", "aac", "-c:s", "mov_text"],
    "edits.mp4": [*PICTURE, "-itsoffset", "1.37", *SOUND, *H264, "-bf", "2", "-c:a", "aac"],
    "cut.mp4": ["-ss", "2.3", "-i", "{plain.mp4}", "-c", "copy"],
    "quicktime.mov": [*PICTURE, *SOUND, "-c:v", "mjpeg", "-c:a", "pcm_s16le", "-timecode", "01:00:00:00"],
    "chapters.m4a": [*SOUND, "-i", "{chapters}", "-map_metadata", "1", "-c:a", "aac"],
    "hevc.mp4": [*PICTURE, *SOUND, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none",
                 "-tag:v", "hvc1", "-c:a", "libmp3lame"],
    "variable.mp4": [*PICTURE, *SOUND, "-vf", "select='not(mod(n,3))*lt(n,60)+gte(n,60)'", "-fps_mode", "vfr",
                     *H264, "-c:a", "aac", "-video_track_timescale", "90000"],
}


def make(room):
    """Paths of all of them, in the room's folder www: WAYS, and one with 64-bit offsets beyond 4 GiB."""
    folder = room.make("www")
    paths = {name: os.path.join(folder, name) for name in WAYS}
    names = {"{subtitles}": room.path("subtitles.srt"), "{chapters}": room.path("chapters.txt"),
             "{plain.mp4}": paths["plain.mp4"]}
    for name, text in (("subtitles.srt", SUBTITLES), ("chapters.txt", CHAPTERS)):
        with open(room.path(name), "w", encoding="utf-8") as out:
            out.write(text)
    for name, way in WAYS.items():
        run(["ffmpeg", "-v", "error", "-y", *[names.get(word, word) for word in way], paths[name]])
    paths["co64.mp4"] = os.path.join(folder, "co64.mp4")
    widen(paths["tracks.mp4"], paths["co64.mp4"], 5 << 30)
    return paths


def boxes(data):
    """(type, body) of each box; only such as have 32-bit sizes."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, data[at + 8:at + size]
        at += size


def wide_offsets(kind, body, shift):
    if kind == b"stco":
        count, = struct.unpack(">I", body[4:8])
        offsets = struct.unpack(f">{count}I", body[8:8 + 4 * count])
        kind, body = b"co64", body[:8] + struct.pack(f">{count}Q", *[o + shift for o in offsets])
    elif kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        body = b"".join(wide_offsets(k, b, shift) for k, b in boxes(body))
    return struct.pack(">I4s", len(body) + 8, kind) + body


def widen(path, out, shift):
    """The same with a hole of `shift` bytes (a free box) before its media, and so with co64."""
    with open(path, "rb") as file:
        data = file.read()
    parts = list(boxes(data))
    if [kind for kind, _ in parts][0] != b"ftyp" or parts[-1][0] != b"moov":
        raise ValueError(f"{path}: {[kind for kind, _ in parts]}")
    with open(out, "wb") as file:
        head = len(parts[0][1]) + 8
        file.write(data[:head] + struct.pack(">I4sQ", 1, b"free", shift))
        file.seek(head + shift)
        file.write(data[head:-len(parts[-1][1]) - 8])
        file.write(wide_offsets(*parts[-1], shift))


def box(kind, body, wide=False):
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8, kind) + body


def remade(kind, body, move, without=(), wide=False):
    """A box with its chunk offsets moved, without boxes of some types, its sizes in 64 bits or not."""
    if kind == b"stco":
        count, = struct.unpack(">I", body[4:8])
        offsets = struct.unpack(f">{count}I", body[8:8 + 4 * count])
        body = body[:8] + struct.pack(f">{count}I", *[move(o) for o in offsets])
    elif kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        body = b"".join(remade(k, b, move, without, wide) for k, b in boxes(body) if k not in without)
    return box(kind, body, wide)


def make_odd(plain, folder):
    """Paths of files that no muxer makes, but players play, with the media of plain; and of those whose index
    leads to offsets in a way that is not to be followed."""
    with open(plain, "rb") as file:
        parts = dict(boxes(file.read()))
    offsets, media = [], parts[b"mdat"]
    remade(b"moov", parts[b"moov"], lambda o: offsets.append(o) or o)
    begin = min(offsets)
    cut = sorted(offsets)[len(offsets) // 2] - begin
    head = box(b"ftyp", parts[b"ftyp"])

    def moov(at, behind_cut=0, **how):
        return remade(b"moov", parts[b"moov"],
                      lambda o: o - begin + at + (behind_cut if o - begin >= cut else 0), **how)
    at = len(head) + 8
    mdat, plainly = box(b"mdat", media), moov(at)
    trak = plainly.rindex(b"trak") - 4
    lies = plainly[:trak] + (1 << 20).to_bytes(4, "big") + plainly[trak + 4:]
    files = {
        "middle.mp4": head + box(b"mdat", media[:cut]) + moov(at, len(plainly) + 8) + box(b"mdat", media[cut:]),
        "two-mdats.mp4": head + box(b"mdat", media[:cut]) + box(b"free", bytes(9)) + box(b"mdat", media[cut:]) +
                         moov(at, 17 + 8),
        "to-the-end.mp4": head + mdat + bytes(4) + plainly[4:],
        "64-bit-sizes.mp4": head + box(b"mdat", media, True) + moov(at + 8, wide=True),
        "no-stss.mp4": head + mdat + moov(at, without=(b"stss",)),
        "no-ftyp.mp4": mdat + moov(8),
        "free-first.mp4": box(b"free", bytes(20)) + head + mdat + moov(at + 28),
        "late-ftyp.mov": box(b"wide", b"") + head + mdat + moov(at + 8),
        "zeros-behind.mp4": head + mdat + plainly + bytes(100000),
        "free-inside.mp4": head + mdat + box(b"moov", box(b"free", b"") + plainly[8:]),
        "two-moovs.mp4": head + mdat + plainly + plainly,
    }
    kept = {"lying-trak.mp4": head + mdat + lies, "moov-in-moov.mp4": head + mdat + box(b"moov", plainly)}
    for name, content in (files | kept).items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(content)
    return ({name: os.path.join(folder, name) for name in names} for names in (files, kept))


def frames(path):
    """A hash of every decoded frame, and of every packet (subtitles and data are not decoded)."""
    decoded = run(["ffmpeg", "-v", "error", "-i", path, "-map", "0:v?", "-map", "0:a?", "-f", "framemd5", "-"])
    packets = run(["ffmpeg", "-v", "error", "-i", path, "-map", "0", "-c", "copy", "-f", "framemd5", "-"])
    return decoded.stdout, packets.stdout, decoded.stderr + packets.stderr
