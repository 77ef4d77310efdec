#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""man_help.py PAGE PROGRAM: a manual and its program's --help know the same commands and options.

A program with commands lists them under "Commands:"; their --help is read as well. Help must fit 80
columns, go to standard output and leave standard error empty. Exit 0 passed, 1 failed.
"""
import re
import subprocess
import sys


def check_once(words, text):
    """No option is listed twice: of two meanings one would never be had."""
    names = [name for line in text.splitlines() if re.match(r" {2,6}-", line)  # what is deeper goes on
             for name in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", re.split(r"\s{2,}", line.strip())[0])]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"{' '.join(words)} --help lists twice: {twice}")


def help_of(program, *words):
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=False)
    wide = [line for line in done.stdout.splitlines() if len(line) > 80]
    if done.returncode or done.stderr or not done.stdout or wide:
        raise SystemExit(f"{' '.join(words)} --help: exit {done.returncode}, {done.stderr!r}, {wide}")
    check_once((program, *words), done.stdout)
    return done.stdout


def options_in_help(text):
    return {name for line in text.splitlines() if line.lstrip().startswith("-")
            for name in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", re.split(r"\s{2,}", line.strip())[0])}


def options_in_page(text):
    """Those that are described: .It Fl f , -foreground; .Fl -lazy elsewhere is a mention."""
    return {name for line in text.splitlines() if line.startswith(".It Fl ")
            for name in re.findall(r"(?<= )-([a-z][a-z0-9-]*)", line)}


def main():
    page, program = sys.argv[1:]
    with open(page, encoding="utf-8") as f:
        manual = f.read()
    top = help_of(program)
    commands = re.findall(r"^  (\w+)", top.partition("\nCommands:\n")[2].partition("\n\n")[0], re.M)
    helped = options_in_help(top)
    for command in commands:
        helped |= options_in_help(help_of(program, command))
    name = program.rsplit("/", 1)[-1]
    described = set(re.findall(rf"^\.Ss {re.escape(name)} (\w+)", manual, re.M))
    told = options_in_page(manual)
    wrong = [f"{page} does not describe the command {c}" for c in sorted(set(commands) - described)]
    wrong += [f"{page} describes {c}, which is no command" for c in sorted(described - set(commands))]
    wrong += [f"{page} does not describe --{o}" for o in sorted(helped - told)]
    wrong += [f"{page} describes --{o}, which --help does not have" for o in sorted(told - helped)]
    if len(helped) < 3:
        wrong.append(f"only {len(helped)} options found in --help")
    print("\n".join(wrong) or f"{len(commands)} commands, {len(helped)} options: the same")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
