# SPDX-License-Identifier: Apache-2.0
"""Slices beside the kernel's bare mechanisms, each pair in one process (tests/tools/slice_load.c)."""
import os

from rig.process import run

from .harness import MB
from .table import Row


def measured(bench, part, quick):
    tool = os.path.join(bench.build, "tests/tools/slice_load")
    size = "256" if quick else "1024"
    lines = run([tool, part, size]).stdout.split()
    return {name: float(value) for name, value in (line.split("=") for line in lines)}


def rates(bench, quick):
    got = measured(bench, "read", quick)
    yield Row("slice", "all pulled: sequential read", got["slice"] / MB, "MB/s",
              [("plain memory", got["plain"] / MB)], "95 % of plain memory",
              got["slice"] >= 0.95 * got["plain"])
    got = measured(bench, "fill", quick)
    bare = [("one thread, pwrite + CONTINUE", got["bare"] / MB),
            ("the kernel alone, two threads", got["bare2"] / MB)]
    yield Row("slice", "filled in the background, from memory", got["fill"] / MB, "MB/s", bare,
              "3000 MB/s", got["fill"] >= 3000 * MB)
    yield Row("slice", "a reader streaming behind the fill", got["reader"] / MB, "MB/s", bare,
              "2500 MB/s", got["reader"] >= 2500 * MB)
    got = measured(bench, "seq", quick)
    for way in ("thread", "sigbus"):
        yield Row("slice", f"sequential read on fault, from memory ({way})", got[way] / MB, "MB/s", (),
                  "2000 MB/s", got[way] >= 2000 * MB)


def faults(bench, quick):
    got = measured(bench, "random", quick)
    for way in ("thread", "sigbus"):
        yield Row("slice", f"4 KiB random fault, p50 ({way})", got[f"slice_{way}"], "us",
                  [("bare userfaultfd", got[f"bare_{way}"])], "1.3 times the bare mechanism",
                  got[f"slice_{way}"] <= 1.3 * got[f"bare_{way}"])


def dirty(bench, quick):
    got = measured(bench, "dirty", quick)
    yield Row("slice", "finding 1 % written pages of " + ("256 MiB" if quick else "1 GiB"),
              got["find"] / 1000, "ms", [("XXH3 of all", got["hash"] / 1000)], "2 ms",
              got["find"] < 2000)


def link(bench, quick):
    got = measured(bench, "link", quick)
    yield Row("slice", "over 25 ms and 10 Gbit/s, 64 requests at most", got["slice"] / MB, "MB/s", (),
              "500 MB/s", got["slice"] > 500 * MB)
