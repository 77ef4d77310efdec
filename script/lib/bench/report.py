# SPDX-License-Identifier: Apache-2.0
"""What was measured, kept: a file a set in docs/benchmarks/, and docs/benchmarks.md made from them.

A set that is measured again replaces its file only, so that one part of the program can be measured
without an hour for the others; each set says when, of which version and on which machine it is.
"""
import datetime
import json
import os
import platform
import subprocess

from . import table

TOOLS = ["curl", "aria2", "rclone", "nbdkit", "libnbd-bin", "httpdirfs", "nginx", "qemu-utils", "sqlite3",
         "ffmpeg"]


def docs():
    return os.path.join(os.environ["top"], "docs")


def text_of(command):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False).stdout.strip()


def machine():
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return f"{os.cpu_count()} CPUs ({cpu}), kernel {platform.release()}"


def commit():
    return text_of(["git", "-C", os.environ["top"], "rev-parse", "--short", "HEAD"])


def keep(name, rows, line, built, remark):
    """Remember a set's rows, and what they were measured with. built: commit() before the run."""
    os.makedirs(os.path.join(docs(), "benchmarks"), exist_ok=True)
    record = {"date": str(datetime.date.today()),
              "commit": built, "remark": remark,
              "machine": machine(), "line": line, "rows": [vars(row) for row in rows]}
    with open(os.path.join(docs(), "benchmarks", name + ".json"), "w", encoding="utf-8") as out:
        json.dump(record, out, indent=1)
        out.write("\n")


def load(names):
    """Every set that was ever measured, in the order of names."""
    sets = []
    for name in names:
        path = os.path.join(docs(), "benchmarks", name + ".json")
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as text:
            record = json.load(text)
        record["name"] = name
        record["rows"] = [table.Row(**row) for row in record["rows"]]
        sets.append(record)
    return sets


def timelines():
    """Pictures that sets drew of themselves."""
    folder = os.path.join(docs(), "benchmarks")
    return sorted("benchmarks/" + name for name in os.listdir(folder)
                  if name.endswith("-timeline.svg") or name.startswith("games-") and not name.endswith(".json"))


def write(names, notes, folder):
    """docs/benchmarks.md and its plot; folder: for temporary files."""
    sets = load(names)
    rows = [row for record in sets for row in record["rows"]]
    drawn = table.plot(rows, folder, os.path.join(docs(), "benchmarks.svg"))
    versions = text_of(["dpkg-query", "-W", "-f", "${Package} ${Version}, ", *TOOLS]).rstrip(", ")
    with open(os.path.join(docs(), "benchmarks.md"), "w", encoding="utf-8") as out:
        out.write(table.markdown(sets, [f"Versions: {versions}"], notes,
                                 "benchmarks.svg" if drawn else "", timelines()))
