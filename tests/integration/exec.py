#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""exec.py HITHER: programs that are run before they have been downloaded, and profiles. Exit 0 passed, 1 failed, 77
skipped."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from file_web import Web  # noqa: E402

HITHER = os.path.abspath(sys.argv[1])
LARGE = 100 << 20
PROGRAM = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern const unsigned char blob[];
int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		printf("[%s]", argv[i]);
	puts("");
	fflush(stdout);
	if (argc > 1 && !strcmp(argv[1], "die"))
		raise(SIGSEGV);
	if (argc > 1 && !strcmp(argv[1], "wait"))
		pause();
	return argc > 1 ? blob[atoi(argv[1])] : 0;
}
"""
BLOB = '.section .rodata\n.globl blob\nblob: .incbin "blob"\n.section .note.GNU-stack,"",@progbits\n'


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def build(folder):
    """program: static, of 100 MB; dynamic: with a library of its own beside it."""
    for name, text in (("main.c", PROGRAM), ("blob.s", BLOB), ("lib.c", "int seven(void) { return 7; }\n"),
                       ("dyn.c", "int seven(void);\nint main(void) { return seven(); }\n")):
        with open(f"{folder}/{name}", "w", encoding="ascii") as f:
            f.write(text)
    noise = os.urandom(1 << 20)
    with open(f"{folder}/blob", "wb") as f:
        f.write(bytes(range(256)))
        for _ in range(LARGE >> 20):
            f.write(noise)
    commands = (["gcc", "-static", "-o", "program", "main.c", "blob.s"],
                ["gcc", "-shared", "-fPIC", "-o", "libseven.so", "lib.c"],
                ["gcc", "-o", "dynamic", "dyn.c", "-L.", "-lseven", "-Wl,-rpath,$ORIGIN/../lib"])
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        need(done.returncode == 0, f"{' '.join(command)}: {done.stderr[-200:]}")


class Test:
    def __init__(self, work):
        self.work, self.site = work, f"{work}/site"
        for folder in ("build", "site", "site/tools", "site/tools/bin", "site/tools/lib", "run"):
            os.mkdir(f"{work}/{folder}")
        build(f"{work}/build")
        shutil.copy(f"{work}/build/program", self.site)
        shutil.copy(f"{work}/build/program", f"{self.site}/tools/bin/large")
        shutil.copy(f"{work}/build/dynamic", f"{self.site}/tools/bin")
        shutil.copy(f"{work}/build/libseven.so", f"{self.site}/tools/lib")
        self.script("script.py", "#!/usr/bin/python3\nimport sys\nprint('args', sys.argv[1:])\nsys.exit(3)\n")
        self.script("tools/bin/beside", '#!/bin/sh\ncat "$HITHER_TREE/lib/text"; cat "$1"\n')
        self.script("tools/bin/bare", "exit 9\n")
        self.script("tools/bin/alien", "#! /nowhere/alien -x\n")
        self.script("tools/bin/windows", "#!/bin/sh\r\necho here\r\n")
        self.script("outside", '#!/bin/sh\necho "tree: ${HITHER_TREE-none}"\n')
        with open(f"{self.site}/tools/lib/text", "w", encoding="ascii") as f:
            f.write("text of the tree\n")
        with open(f"{self.site}/tools/lib/plain", "w", encoding="ascii") as f:
            f.write("not executable\n")
        os.chmod(f"{self.site}/tools/lib/plain", 0o644)
        self.zipapp(f"{self.site}/app.pyz")
        subprocess.run([HITHER, "index", "-q", f"{self.site}/tools"], check=True, stdout=subprocess.DEVNULL)
        self.web = Web(self.site)

    def script(self, name, text):
        with open(f"{self.site}/{name}", "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(f"{self.site}/{name}", 0o755)

    def zipapp(self, path):
        """A Python program of 100 MB, most of it data that it does not read."""
        with open(path, "wb") as f:
            f.write(b"#!/usr/bin/python3\n")
        with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as z:
            with z.open("data", "w") as data:
                noise = os.urandom(1 << 20)
                for _ in range(LARGE >> 20):
                    data.write(noise)
            z.writestr("__main__.py", "import sys\nprint('zipped', sys.argv[1])\n")

    def run(self, name, *args, options=(), code=0, **how):
        """exec with an empty cache; asked is how many bytes."""
        self.web.asked.clear()
        shutil.rmtree(f"{self.work}/cache", ignore_errors=True)
        done = subprocess.run([HITHER, "exec", "--cache", f"{self.work}/cache", *options, self.web.url(name), *args],
                              capture_output=True, text=True, timeout=60, check=False, **how)
        assert done.returncode == code, f"{name} {args}: {done.returncode}: {done.stdout} {done.stderr}"
        self.nothing_is_left()
        return done

    def nothing_is_left(self):
        left = [n for n in os.listdir(f"{self.work}/run") if n.startswith("hither-exec-")]
        assert not left, left
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            assert f"{self.work}/run/hither-exec" not in mounts.read()

    def asked(self):
        return sum(end - first for _, first, end in self.web.asked)

    def starts_early(self, what, name, *args, said, code=0):
        done = self.run(name, *args, options=["--pull", "off"], code=code)
        assert said in done.stdout, done
        share = self.asked() / LARGE
        print(f"    {what}: {share:.1%} of it was fetched, in {len(self.web.asked)} requests")
        assert share < 0.05, f"{share}: {self.web.asked}"

    def a_few_percent_are_enough(self):
        self.starts_early("a static program", "program", "200", "--help", "-x", said="[200][--help][-x]", code=200)
        self.starts_early("one in a tree", "tools.hither/bin/large", "7", said="[7]", code=7)
        self.starts_early("a zipped Python program", "app.pyz", "arg", said="zipped arg")
        done = self.run("script.py", "-v", "x", code=3)
        assert "args ['-v', 'x']" in done.stdout, done

    def what_is_beside_it_is_found(self):
        self.run("tools.hither/bin/dynamic", code=7)
        with open(f"{self.work}/mine", "w", encoding="ascii") as f:
            f.write("text of mine\n")
        done = self.run("tools.hither/bin/beside", "mine", cwd=self.work)
        assert done.stdout == "text of the tree\ntext of mine\n", done
        self.run("tools.hither/bin/dynamic", code=7, options=["--root-hash", self.root()])
        assert "root hash" in self.run("tools.hither/bin/dynamic", code=126, options=["--root-hash", "0" * 64]).stderr

    def root(self):
        with open(f"{self.site}/tools.hither", "rb") as f:
            return f.read()[-32:].hex()

    def how_it_ended_is_passed_on(self):
        assert self.run("outside").stdout == "tree: none\n"
        tree = self.web.url("tools.hither")
        for name, code, said in (("bin/nothing", 127, f"bin/nothing is not in {tree}"),
                                 ("lib/plain", 126, f"{tree}/lib/plain is not marked executable in its tree"),
                                 ("bin/alien", 127, f"{tree}/bin/alien wants /nowhere/alien, which"),
                                 ("bin/windows", 127, f"{tree}/bin/windows: its first line ends in CR LF"),
                                 ("bin", 126, f"{tree}/bin is a folder")):
            done = self.run(f"tools.hither/{name}", code=code)
            assert said in done.stderr and "hither-exec" not in done.stderr, done.stderr
        with open(f"{self.site}/bad.hither", "w", encoding="ascii") as f:
            f.write("no manifest\n")
        self.run("bad.hither/bin/frob", code=126)
        with open(f"{self.site}/page", "w", encoding="ascii") as f:
            f.write("echo a page\n")
        page = self.run("page", code=126)
        assert not page.stdout and "/page is no program" in page.stderr, page.stderr
        bare = self.run("tools.hither/bin/bare", code=126)  # without #!: nobody makes sh read it
        assert "bin/bare is no program" in bare.stderr, bare.stderr
        self.run("program", "die", code=128 + signal.SIGSEGV)
        assert "404" in self.run("missing", code=127).stderr
        assert "404" in self.run("missing.hither/bin/frob", code=127).stderr
        assert "a folder" in self.run("tools.hither", code=126).stderr
        done = subprocess.run([HITHER, "exec"], capture_output=True, text=True, check=False)
        assert done.returncode == 2

    def waiting(self):
        process = subprocess.Popen([HITHER, "exec", "--cache", f"{self.work}/cache", self.web.url("program"), "wait"],
                                   stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "[wait]\n"
        return process

    def signals_are_the_programs(self):
        process = self.waiting()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        process.stdout.close()
        self.nothing_is_left()
        # Killed itself, the next one clears away what it left.
        process = self.waiting()
        process.kill()
        process.wait()
        process.stdout.close()
        self.run("script.py", code=3)

    def offline(self):
        self.run("program", "5", options=["--pull", "off"], code=5)
        self.web.away = True
        done = subprocess.run([HITHER, "exec", "--offline", "--cache", f"{self.work}/cache", self.web.url("program"),
                               "5"], capture_output=True, text=True, timeout=60, check=False)
        self.web.away = False
        assert done.returncode == 5, done

    def two_at_a_time(self):
        first = self.waiting()
        second = subprocess.run([HITHER, "exec", "--cache", f"{self.work}/cache", self.web.url("program"), "6"],
                                capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 6 and "[6]" in second.stdout and "a copy of its own" in second.stderr, second
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 128 + signal.SIGTERM
        first.stdout.close()
        self.nothing_is_left()

    def a_tree_is_pulled_whole(self):
        shutil.rmtree(f"{self.work}/cache", ignore_errors=True)
        url = self.web.url("tools.hither")
        subprocess.run([HITHER, "pull", "--cache", f"{self.work}/cache", url], check=True, timeout=120)
        self.web.away = True
        done = subprocess.run([HITHER, "exec", "--offline", "--cache", f"{self.work}/cache", f"{url}/bin/large", "9"],
                              capture_output=True, text=True, timeout=60, check=False)
        at = f"{self.work}/at"
        subprocess.run([HITHER, "mount", "--offline", "--cache", f"{self.work}/cache", url, at], check=True,
                       stdout=subprocess.DEVNULL)
        for name in ("bin/large", "lib/text", "lib/libseven.so"):
            with open(f"{at}/{name}", "rb") as ours, open(f"{self.site}/tools/{name}", "rb") as theirs:
                assert ours.read() == theirs.read(), name
        subprocess.run([HITHER, "umount", at], check=True)
        self.web.away = False
        assert done.returncode == 9, done

    def profiles(self):
        at, files = f"{self.work}/at", []
        for number, parts in enumerate((("lib/text", "bin/beside"), ("bin/beside", "lib/plain"))):
            files.append(f"{self.work}/run{number}")
            shutil.rmtree(f"{self.work}/cache", ignore_errors=True)
            subprocess.run([HITHER, "mount", "--cache", f"{self.work}/cache", "--pull", "off", "--record", files[-1],
                            self.web.url("tools.hither"), at], check=True, stdout=subprocess.DEVNULL)
            for part in parts:
                with open(f"{at}/{part}", "rb") as f:
                    f.read()
            subprocess.run([HITHER, "umount", at], check=True)
        url, merged, plot = self.web.url("tools.hither"), f"{self.work}/merged", f"{self.work}/plot.svg"
        said = subprocess.run([HITHER, "profile", *files, "-o", merged, "--plot", plot, "--tree", url], check=True,
                              capture_output=True, text=True).stdout
        for word in ("run0: ", "run1: ", "together: ", "lib/text", "lib/plain"):
            assert word in said, said
        steps = subprocess.run([HITHER, "profile", "--list", "--tree", url, merged], check=True, capture_output=True,
                               text=True).stdout
        assert {line.split()[-1] for line in steps.splitlines()} == {"lib/text", "bin/beside", "lib/plain"}, steps
        with open(plot, encoding="utf-8") as f:
            text = f.read()
        assert text.startswith("<svg") and text.count('<g transform="translate(0 ') == 2 and text.rstrip().endswith("</svg>")
        assert ">run0: " in text and self.work not in text  # it is shown elsewhere
        bad = subprocess.run([HITHER, "profile", f"{self.site}/script.py"], capture_output=True, text=True, check=False)
        assert bad.returncode == 1 and "no hither profile" in bad.stderr, bad
        other = subprocess.run([HITHER, "profile", "--plot", "x.txt", merged], capture_output=True, text=True,
                               check=False)
        assert other.returncode == 2 and ".svg" in other.stderr


def main():
    need(os.path.exists("/dev/fuse"), "no /dev/fuse")
    work = tempfile.mkdtemp(prefix="hither-exec-test-")
    os.environ["XDG_CACHE_HOME"], os.environ["XDG_RUNTIME_DIR"] = f"{work}/xdg", f"{work}/run"
    try:
        test = Test(work)
        for part in (test.a_few_percent_are_enough, test.what_is_beside_it_is_found, test.how_it_ended_is_passed_on,
                     test.signals_are_the_programs, test.offline, test.two_at_a_time,
                     test.a_tree_is_pulled_whole, test.profiles):
            print(" ", part.__name__, flush=True)
            begin = time.monotonic()
            part()
            print(f"    ({time.monotonic() - begin:.1f} s)")
    finally:
        for name in os.listdir(f"{work}/run") + ["../at"]:
            path = f"{work}/run/{name}"
            if os.path.ismount(path):
                subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(work, ignore_errors=True)


main()
