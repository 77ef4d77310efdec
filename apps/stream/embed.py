#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py FILE OUT NAME: the bytes of FILE as a C array NAME and its length NAME_len."""
import sys

source, out, name = sys.argv[1:]
with open(source, "rb") as file:
    data = file.read()
with open(out, "w", encoding="ascii") as text:
    text.write(f"#include <stddef.h>\n#include \"page.h\"\nconst unsigned char {name}[] = {{\n")
    for at in range(0, len(data), 16):
        text.write(",".join(str(byte) for byte in data[at:at + 16]) + ",\n")
    text.write(f"}};\nconst size_t {name}_len = {len(data)};\n")
