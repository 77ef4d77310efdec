# SPDX-License-Identifier: Apache-2.0
"""A folder of very many files, looked at: names, sizes and dates, beside the same folder on ext4."""
import os
import statistics
import time

from rig.process import run

from .harness import NAMES, drop_caches
from .table import Row

FOLDERS, FILES = 100, 1000
RUNS = 3


def make(path):
    for i in range(FOLDERS):
        folder = os.path.join(path, f"folder-{i:03}")
        os.makedirs(folder)
        for k in range(FILES):
            with open(os.path.join(folder, f"a-file-{k:04}.txt"), "w", encoding="ascii") as out:
                out.write(f"{i} {k}\n")


def look(path):
    """ms for every name and every stat, and how many there are."""
    begin = time.monotonic()
    seen = run(["find", path, "-printf", "%s\\n"]).stdout.count("\n")
    return (time.monotonic() - begin) * 1000, seen


def looked(path, cold):
    times = []
    for _ in range(RUNS):
        if cold:
            drop_caches(NAMES)
        ms, seen = look(path)
        assert seen == FOLDERS * FILES + FOLDERS + 1, seen
        times.append(ms)
    return statistics.median(times)


def many_files(bench, _quick):
    name, folder = "many", os.path.join(bench.files, "many")
    if not os.path.exists(folder):
        make(folder)
        run([bench.hither, "index", "-q", folder])
    manifest = os.path.getsize(f"{folder}.hither") / 1e6
    yield Row(bench.profile, "manifest of 100,000 files", manifest, "MB", (), "20 MB", manifest < 20)
    at = bench.room.make("looked-at")
    bench.room.will_unmount(at)
    run(bench.network.client([bench.hither, "mount", "--pull", "off", "--cache", bench.room.path("hither-cache"),
                              bench.url(f"{name}.hither"), at]))
    asked = len(bench.web.requests())
    for how, cold in (("for the first time", True), ("again", False)):
        ours, ext4 = looked(at, cold), looked(folder, cold)
        yield Row(bench.profile, f"find with stat of 100,000 files, {how}", ours, "ms", [("ext4", ext4)],
                  "half of ext4's speed", ours <= 2 * ext4)
    asked = len(bench.web.requests()) - asked
    yield Row(bench.profile, "the same: requests", asked, "requests", (), "none", asked == 0)
    run([bench.hither, "umount", at])
