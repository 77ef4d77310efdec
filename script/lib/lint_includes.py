#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes point down: each file may include its own layer and those below it, nothing else."""
import re
import sys

# Lowest first. Folders in one row do not know each other, and frontends do not know backends.
ROWS = [
    ["core/include"],
    ["core/base"],
    ["core/wire", "core/tape", "core/media"],
    ["core/backend"],
    ["core/layer"],
    ["core/chunk", "core/order"],
    ["core/mount"],
    ["core/tree"],
    ["core/frontend"],
]
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def row_of(path):
    for number, row in enumerate(ROWS):
        for folder in row:
            if path.startswith(folder + "/"):
                return number, folder
    return None, None


def target_of(bracket, name, source):
    """The project file that an include means, or None for one from elsewhere."""
    if name.startswith("hither/"):
        return "core/include/" + name
    if bracket == "<":
        return None
    if "/" in name:
        return "core/" + name
    return source.rsplit("/", 1)[0] + "/" + name


def wrong(source, target):
    if source.startswith("apps/"):
        own = "/".join(source.split("/")[:2]) + "/"
        if not target.startswith(("core/include/hither/", "apps/common/", own)):
            return "an app includes only <hither/...>, apps/common and its own files"
        return None
    row, folder = row_of(source)
    to_row, to_folder = row_of(target)
    if row is None or to_row is None or folder == to_folder:
        return None
    if to_row > row:
        return f"{folder} lies below {to_folder}"
    if to_row == row:
        return f"{folder} and {to_folder} do not know each other"
    if folder == "core/frontend" and to_folder == "core/backend":
        return "a frontend knows mounts, never backends"
    return None


def main(paths):
    bad = 0
    for path in paths:
        if path.endswith("_test.c") or path.startswith("tests/"):
            continue  # a test may stand on whatever it needs
        with open(path, encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                match = INCLUDE.match(line)
                target = match and target_of(match[1], match[2], path)
                why = target and wrong(path, target)
                if why:
                    print(f"{path}:{number}: includes {match[2]}: {why}")
                    bad = 1
    return bad


sys.exit(main(sys.argv[1:]))
