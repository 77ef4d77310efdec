#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hither and its peers side by side. script/bench builds what this needs and runs it.

Usage: main.py BUILD [--quick] [--only WHAT]... [--no-write] [SET]...
"""
import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from bench import export, folder, games, local, memory, paging, playing, reads, report, sqlite, stream, table, tape  # noqa: E402
from bench.harness import Bench, make_files  # noqa: E402
from rig.process import Failed, Room  # noqa: E402

WAN = [reads.first_byte, reads.sequential, reads.random_reads, reads.demand, reads.second_mount,
       local.flush]
SETS = {
    "lan": [reads.first_byte, reads.sequential, reads.random_reads, reads.resident],
    "metro": [reads.first_byte, reads.sequential, reads.demand, local.flush],
    "wan": WAN,
    "far": [reads.first_byte, reads.sequential, reads.demand],
    "export": [export.servers],
    "local": [local.start, local.against_ext4, local.writes],
    "tape": [tape.streaming, tape.random_reads, tape.life, tape.reindex],
    "slice": [memory.rates, memory.faults, memory.dirty, memory.link],
    "ram": [paging.beside_swap, paging.beside_nbd_client],
    "sqlite": [sqlite.queries],
    "sqlite-local": [sqlite.all_local],
    "sqlite-write": [sqlite.small_transactions],
    "stream-wan": [stream.first_frame, stream.seek, stream.viewers],
    "stream-far": [stream.first_frame, stream.seek],
    "stream-moody": [playing.outages],
    "games-wan": [games.playable, folder.many_files],
    "games-far": [games.playable],
}
# Sets that are not named like their line.
LINES = {"local": "lan", "export": "lan", "slice": "lan", "ram": "near", "tape": "lan", "sqlite": "wan",
         "sqlite-local": "lan", "sqlite-write": "metro", "stream-wan": "wan", "stream-far": "far",
         "stream-moody": "moody", "games-wan": "wan", "games-far": "far"}
NOTES = [
    "lan: 0.2 ms, no limit; metro: 10 ms, 500 Mbit/s; wan: 50 ms, 200 Mbit/s; far: 150 ms, 50 Mbit/s.",
    "Each mount starts with an empty cache; peers' caches are deleted between runs. Files hold random"
    " bytes, and what mounts read is compared by checksum.",
    "Sequential: 1 MiB reads of 512 MB (far: 64 MB); where a peer is four times slower than curl, of the first"
    " 32 MB. Random: seeded offsets, at most 12 s for each peer; totals of 2,000 reads are the mean times 2,000 for peers, measured in full for hither.",
    "Demand reads: random 4 KiB reads of an 8 GiB file, so that hardly any is local, while the"
    " background pull fills the line.",
    "Mount to first byte: from starting the command until the first byte was read.",
    "sqlite: a peer that took more than 40 s was stopped.",
    "sqlite: from process start (of a peer's mount) to the last row, cold each time; 1 GB made by"
    " script/lib/bench/shop.py. sqlite-local and sqlite-write: in one process, the VFS loaded.",
    "stream: a film of 10 minutes, 10 Mbit/s, its index at the end. First frame: of ffmpeg, from starting the"
    " mount's command (mpv on the URL: mpv's). Seek: of an mpv that shows the first frame. What the same player takes"
    " with the local file is added to the bar.",
    "stream-moody: 12 Mbit/s, 150 ms; nothing passes for 1 s at a random time of every 30 s. Every player has such a"
    " line of its own, with the same outages, at the same time. mpv as it comes; a stall: no new frame for more than"
    " 0.3 s after it had begun to play. Start: until the first new frame; seeks: until the first that another follows"
    " within 0.3 s. No stall is unavoidable: who keeps the line full and needs 0.15 s to find out that it is back has 1.4 s"
    " ahead at the worst of these outages, if 0.45 s were gathered after each seek, and 1.8 s with 0.9 s.",
    "games: from starting the command (of a peer's mount, of the download) to the line that the game prints when its"
    " level is there; unmodified, from Debian, under Xvfb with software rendering. Ideal: what the launch reads at the"
    " line's rate, three round trips, and the game's own start from the local disk. With a profile, and from the local"
    " disk: the median of three. Who mounts lazily is stopped once it took half as long again as the download. A stall"
    " (over 50 ms) that the line had time to avoid: more than 50 ms of it came after the line could have brought these"
    " bytes, all of it given to the profile in its order from when the mount is there, at its rate less the headers of its"
    " packets, over 48 connections whose windows begin with ten segments and double with each round trip;"
    " what the profile has not is not counted. Pictures: what"
    " was read when, without a profile and with one.",
    "find: every name, size and date of 100,000 files in 100 folders, medians of three; for the first time: the"
    " kernel's names and attributes were dropped, its pages not.",
    "export: all serve the same 512 MiB of random bytes from memory, on loopback; fio's nbd engine."
    " TLS is TLS 1.3 over TCP with a server's certificate.",
    "slice: each pair in one process; memory means the memory backend, 1 GiB. The link is the delay and"
    " rate layers.",
    "ram: over 1 ms and 500 Mbit/s (by TCP a 4 KiB answer takes 1.2 ms): a program of 32 MiB that has 16 MiB of memory;"
    " swap is ram-dl swap by a loop device, from the same ram-ul, its program has what it needs besides, as measured. Beside nbd-client: in a virtual machine, by the kernel's NBD client; its processor"
    " is emulated, so that only the ratio tells something.",
    "tape: seconds of drive time in the model of an LTO-9 drive (core/tape/model.c says where its figures are"
    " from, and which are estimates), the same in each run. The life is a trace like ext4's, described in"
    " tests/tools/tape_life.c; ours runs the real code on a tape file, the peers their designs on the same"
    " model, with what favours them: no overhead of records, what is ahead is read over where that is"
    " quicker than a locate, and LTFS's drive does not stop while it untars. Its readers of another order than the"
    " archive's seek for each folder, as nothing is taken to be cached. tapisk's fsync is answered by the cache's"
    " disk, its default; beside it, every fsync to the tape, and the same life through a managed mount, whose"
    " threads make it differ from run to run. What is deleted is discarded. LTFS reads both labels at each mount, as"
    " its reference implementation does (ltfs_start_mount). The least of any design: each byte of a file once each way,"
    " and 4 s, the shortest locate, before each reading; so a tenth of LTFS's best case cannot be had on this drive.",
    "local: the line is a loopback without delay; every byte was read once before, into the cache folder.",
    "Medians where a row was repeated. rclone, httpdirfs and nbdkit run as Debian ships them, with the"
    " options that served them best.",
]


def measure(options, room, build):
    """Yields each set's name, its rows and the kind of line, as they are done."""
    files = room.make("files")
    without = ("sqlite", "slice", "ram", "tape", "stream", "games")
    if not all(profile.startswith(without) for profile in options.profiles):
        make_files(files)
    for profile in options.profiles:
        with Room("hither-bench", room.folder) as own:
            bench = Bench(own, build, files, LINES.get(profile, profile))
            print(f"\n{profile}: {bench.network.kind}" + (f" ({bench.why})" if bench.why else ""),
                  flush=True)
            rows = []
            for part in SETS[profile]:
                if options.only and part.__name__ not in options.only:
                    continue
                rows += measure_part(bench, profile, part, options.quick)
            yield profile, rows, bench.network.kind


def measure_part(bench, profile, part, quick):
    rows, begin = [], time.monotonic()
    try:
        for row in part(bench, quick):
            rows.append(row)
            print(table.text_line(row), flush=True)
    except Failed as failure:
        rows.append(table.Row(profile, part.__name__, "failed", "", (), str(failure), False))
        print(f"  {part.__name__}: {failure}", flush=True)
    print(f"    ({part.__name__}: {time.monotonic() - begin:.0f} s)", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(prog="script/bench")
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller; a look, no verdict")
    parser.add_argument("--only", action="append", help="a part: sequential, random_reads, demand, ...")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as it is")
    parser.add_argument("--remark", default="", help="what a reader of the figures should know")
    parser.add_argument("profiles", nargs="*", metavar="|".join(SETS))
    options = parser.parse_intermixed_args()
    unknown = set(options.profiles) - set(SETS)
    if unknown:
        parser.error(f"no such set: {', '.join(unknown)}")
    options.profiles = options.profiles or list(SETS)
    keep = not (options.only or options.quick or options.no_write)
    if not keep:
        os.environ["HITHER_BENCH_QUIET"] = "1"  # sets with pictures of their own draw none
    begin, all_rows, built = time.monotonic(), [], report.commit()
    try:
        # Not in /tmp, which may be memory.
        with Room("bench", os.path.dirname(os.path.abspath(options.build))) as room:
            for name, rows, kind in measure(options, room, options.build):
                all_rows += rows
                if keep:
                    report.keep(name, rows, kind, built, options.remark)
            if keep:
                report.write(list(SETS), NOTES, room.folder)
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    missed = [row for row in all_rows if row.met is False]
    print(f"\nbench: {sum(row.met is True for row in all_rows)} bars met, {len(missed)} missed,"
          f" {time.monotonic() - begin:.0f} s" + ("" if keep else "; docs/ left as it was"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
