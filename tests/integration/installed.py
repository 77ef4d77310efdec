#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""installed.py BUILD: what `meson install` puts down is enough to build and run a C program.

Installs into a folder, compiles the README's example there by pkg-config alone, runs it, and looks at
what the library exports: hither_* and nothing else. Exit 0 passed, 1 failed, 77 skipped.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CONTENT = b"sixteen bytes is what the example shows"


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def example():
    """The README's C program: the indented block that begins with #include."""
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as f:
        block = re.search(r"(?:^    #include.*\n)(?:^(?:    .*|\s*)\n)+?(?=^\S|^    cc )", f.read(), re.M)
    if not block:
        raise SystemExit("README.md has no C program")
    return re.sub(r"^    ", "", block.group(), flags=re.M)


def install(build, folder):
    """The prefix's place in folder, and that of its pkg-config file."""
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder)
    for root, _, files in os.walk(folder):
        if "hither.pc" in files:
            with open(os.path.join(root, "hither.pc"), encoding="utf-8") as f:
                prefix = re.search(r"^prefix=(.*)$", f.read(), re.M).group(1)
            return folder + prefix, root
    raise SystemExit("no hither.pc was installed")


def completes(prefix, *words):
    """What bash offers for the last of these words, by what was installed."""
    script = (f'. {prefix}/share/bash-completion/completions/{words[0]}; COMP_WORDS=("$@");'
              ' COMP_CWORD=$(($# - 1)); _hither "$1" "${COMP_WORDS[COMP_CWORD]}"; echo "${COMPREPLY[@]}"')
    return run("bash", "-c", script, "bash", *words,
               env={**os.environ, "PATH": f"{prefix}/bin:{os.environ['PATH']}"}).split()


def check_completion(prefix):
    for words, expected in ((("hither", "um"), ["umount"]), (("hither", "mount", "--cac"), ["--cache", "--cache-size"]),
                            (("hither", "--vers"), ["--version"]), (("hither", "mount", "x"), []),
                            (("hither-stream", "pl"), ["play"])):
        offered = completes(prefix, *words)
        if offered != expected:
            raise SystemExit(f"{' '.join(words)}: {offered} was offered, not {expected}")


def compile_and_run(folder, prefix, pc):
    source, program, resource = (os.path.join(folder, n) for n in ("example.c", "example", "resource"))
    with open(source, "w", encoding="utf-8") as f:
        f.write(example())
    with open(resource, "wb") as f:
        f.write(CONTENT)
    flags = run("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "hither",
                env={**os.environ, "PKG_CONFIG_PATH": pc}).split()
    run("cc", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o", program, source, *flags)
    libraries = os.path.dirname(pc)
    said = run(program, f"file://{resource}",
               env={**os.environ, "LD_LIBRARY_PATH": libraries, "HOME": folder})
    if said.encode() != CONTENT[:16]:
        raise SystemExit(f"the example says {said!r}")
    return libraries


def check_headers(prefix):
    """Each public header compiles alone, in C and in C++."""
    headers = os.path.join(prefix, "include", "hither")
    languages = [("c", "gnu11", "cc")] + ([("c++", "c++17", "c++")] if shutil.which("c++") else [])
    for header in sorted(os.listdir(headers)):
        for language, standard, compiler in languages:
            run(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror",
                "-fsyntax-only", "-I", os.path.dirname(headers), "-include", f"hither/{header}",
                os.devnull)


def check_symbols(libraries):
    lines = run("nm", "-D", "--defined-only", os.path.join(libraries, "libhither.so")).splitlines()
    names = [line.split()[-1] for line in lines]
    other = [n for n in names if not n.startswith("hither_")]
    if other or "hither_mount_open" not in names:
        raise SystemExit(f"libhither.so exports {other} of {len(names)}")
    return len(names)


def check_libraries(prefix, libraries):
    """What brings dozens of others along is loaded when a URL needs it (core/base/library.h)."""
    for path in (os.path.join(libraries, "libhither.so"), os.path.join(prefix, "bin", "hither")):
        needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", path))
        if any(n.startswith(("libcurl", "libnbd")) for n in needed) or "libc.so.6" not in needed:
            raise SystemExit(f"{path} loads {needed} when it starts")


def main():
    for program in ("meson", "pkg-config", "cc", "nm", "readelf"):
        if not shutil.which(program):
            print(f"skipped: {program} is not installed")
            return 77
    with tempfile.TemporaryDirectory(prefix="hither-installed-") as folder:
        prefix, pc = install(os.path.realpath(sys.argv[1]), folder)
        libraries = compile_and_run(folder, prefix, pc)
        check_libraries(prefix, libraries)
        check_headers(prefix)
        check_completion(prefix)
        print(f"the README's program runs; {check_symbols(libraries)} symbols, all hither_*")
    return 0


if __name__ == "__main__":
    sys.exit(main())
