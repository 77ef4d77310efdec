#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sum up meson's testlog.json files: one line of counts on stdout, what failed on stderr."""
import json
import sys

FINE = {"OK", "EXPECTEDFAIL"}


def main(paths):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in paths:
        with open(path, encoding="utf-8") as log:
            for line in log:
                test = json.loads(line)
                result = test["result"]
                if result == "SKIP":
                    kind = "skipped"
                else:
                    kind = "passed" if result in FINE else "failed"
                counts[kind] += 1
                if kind == "failed":
                    print(f"{result}: {test['name']} ({path})", file=sys.stderr)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


sys.exit(main(sys.argv[1:]))
