# SPDX-License-Identifier: Apache-2.0
"""Tapes, in the virtual time of the drive's model (tests/tools/tape_load.c): seconds of the drive, the same
on each machine and in each run; only the CPU's are this machine's."""
import os

from rig.process import run

from .table import Row


def measured(bench, *arguments):
    tool = os.path.join(bench.build, "tests/tools/tape_load")
    lines = run([tool, *arguments]).stdout.split()
    return {name: float(value) for name, value in (line.split("=") for line in lines)}


def streaming(bench, quick):
    got = measured(bench, "stream", bench.room.make("tape"), "1" if quick else "10")
    best = got["bytes"] / got["rate"]
    for way in ("write", "read"):
        yield Row("tape", f"{way} {got['bytes'] / 1e9:.0f} GB: share of the drive's rate", 100 * best / got[way],
                  "%", (), "95 %", best >= 0.95 * got[way])
    yield Row("tape", "the same write, if its last stop counts as a back-hitch",
              100 * best / (got["write"] + got["backhitch"]), "%",
              [("that stop, and nothing else", 100 * best / (best + got["backhitch"]))], "95 %",
              best >= 0.95 * (got["write"] + got["backhitch"]))
    for way in ("write", "read"):
        rate = got["bytes"] / 1e6 / got[f"{way}_cpu"]
        yield Row("tape", f"{way}: MB for each second of one CPU", rate, "MB/s", (), "400 MB/s", rate >= 400)


def random_reads(bench, quick):
    got = measured(bench, "random")
    peers = [("first come first served", got["fifo"]), ("by position", got["sorted"])]
    yield Row("tape", "128 random reads of 1 MiB over a full tape", got["cost"], "s", peers,
              "half of first come, and by position",
              got["cost"] * 2 <= got["fifo"] and got["cost"] <= got["sorted"])


def life(bench, quick):
    got = measured(bench, "life", bench.room.make("tape"))
    for part, said in (("untar", "untar of 20,000 small files, sync"),
                       ("read", "unmount, mount, read them back cold"),
                       ("delete", "delete half"), ("compact", "unmount, compact")):
        yield Row("tape", said, got[f"ours_{part}"], "s",
                  [("the same by a mount, with its threads", got[f"mounted_{part}"]),
                   ("every fsync to the tape", got[f"remote_{part}"]),
                   ("one block a record, FIFO", got[f"reference_{part}"]), ("LTFS", got[f"ltfs_{part}"])])
    for kind, where in (("", ""), ("named", ", read back in another order"),
                        ("half", " but compacting, on a tape half full")):
        values = measured(bench, "life", bench.room.make("tape"), kind) if kind else got
        yield Row("tape", f"the whole life{where}, by a mount with its threads", values["mounted_all"], "s",
                  [("the least of any design: its bytes, a locate before each reading", values["least_all"])])
        for peer, said in (("reference", "one block a record, FIFO"), ("ltfs", "LTFS")):
            yield Row("tape", f"the whole life{where}, beside {said}", values["ours_all"], "s",
                      [(said, values[f"{peer}_all"])], "a tenth", values["ours_all"] * 10 <= values[f"{peer}_all"])


def reindex(bench, quick):
    got = measured(bench, "reindex", bench.room.make("tape"))
    for name, said in (("here", "the tape where its writing ended"), ("loaded", "the tape just loaded")):
        yield Row("tape", f"index of 1 TB from the newest checkpoint, {said}: drive time",
                  100 * got[name] / got["all"], "%",
                  [("the locate to the end of data alone", 100 * got["to_end"] / got["all"])]
                  if name == "loaded" else (), "1 % of reading all", got[name] < got["all"] / 100)
    yield Row("tape", "the same: bytes read", 100 * got["moved"] / 1e12, "%", (), "1 % of reading all",
              got["moved"] < 1e10)
