# SPDX-License-Identifier: Apache-2.0
"""A program that was not built with a sanitizer can load a library that was, if its runtime is there
from the start."""
import os
import subprocess


def environment(library):
    """What a program that is to load the library needs."""
    env = dict(os.environ)
    with open(library, "rb") as file:
        symbols = file.read()
    for symbol, runtime in ((b"__asan_init", "libasan.so"), (b"__tsan_init", "libtsan.so")):
        if symbol in symbols:
            env["LD_PRELOAD"] = subprocess.run(["cc", f"-print-file-name={runtime}"], check=True,
                                               capture_output=True, text=True).stdout.strip()
            # Python and sqlite3 keep what they have until the end.
            env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return env
