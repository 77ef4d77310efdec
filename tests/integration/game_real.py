#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""game_real.py BUILD [FOLDER]: real games, unmodified, over an emulated line of 50 ms and 200 Mbit/s.

OpenArena (415 MB; ioquake3) and Freedoom (chocolate-doom), from Debian's packages, under Xvfb with software
rendering: from a local disk, in a tree that is being fetched, and again with the profile that the run before
has left, which must not be slower. Prints when each was playable; screenshots go to FOLDER. Exit 0 passed,
1 failed, 77 skipped."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../script/lib"))
from rig import games  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
SHOTS = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
GAME_ASSETS, LINK = f"{BUILD}/apps/game-assets/game-assets", f"{BUILD}/tests/tools/link"


def need(condition, why):
    if not condition:
        print("skipped:", why)
        sys.exit(77)


def play(work, game, display, url):
    site, home = f"{work}/site", f"{work}/home"
    cache = f"{work}/cache"
    shots = SHOTS or work

    def measured(what, command, cwd=None):
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
        os.makedirs(home)
        run = games.Run(command, display, home, cwd)
        try:
            seconds = run.until(game.ready)
            assert seconds, "".join(run.lines[-20:])
            colors = games.screenshot(display, f"{shots}/{game.name}-{what}.png")
        finally:
            run.end()
        # Of hither's own, where it was built with one; the game never is.
        assert not run.has("Sanitizer") and not run.has("runtime error:"), "".join(run.lines[-60:])
        report = [line.strip() for line in run.lines if "started after" in line]
        print(f"  {game.name}, {what}: playable after {seconds:.2f} s; {colors} colours", *report, flush=True)
        assert cwd or report, "no report"
        return seconds

    start = ["stdbuf", "-oL", *game.start]
    measured("local", start, cwd=f"{site}/{game.name}")
    manifest = f"{url}/{game.name}.hither"
    without = measured("no-profile", [GAME_ASSETS, "learn", "--cache", cache, "--output", f"{work}/learnt", manifest,
                                      "--", *start])
    subprocess.run([GAME_ASSETS, "publish", "--profile", f"{work}/learnt", f"{site}/{game.name}"], check=True,
                   capture_output=True)
    having = measured("profile", [GAME_ASSETS, "play", "--cache", cache, manifest, "--", *start])
    # On a busy machine a second is nothing; a profile that costs what it saves is more.
    assert having < without + 1, f"{game.name}: {having:.2f} s with a profile, {without:.2f} s without"


def main():
    os.environ["PATH"] += ":/usr/sbin:/usr/games"
    need(not games.missing(), games.missing())
    need(shutil.which("nginx"), "no nginx")
    need(os.path.exists("/dev/fuse"), "no /dev/fuse")
    work = tempfile.mkdtemp(prefix="hither-games-")
    os.chmod(work, 0o755)
    started = []

    def begin(command, **options):
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True, **options))
        return started[-1]

    try:
        os.mkdir(f"{work}/site")
        with open(f"{work}/nginx.conf", "w", encoding="ascii") as f:
            f.write(f"daemon off; pid {work}/pid; error_log {work}/errors;\nevents {{}}\nhttp {{ access_log off; "
                    + "".join(f"{name}_temp_path {work}/{name}; " for name in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                    + f"sendfile on; server {{ listen unix:{work}/web; listen 127.0.0.1:{18800 + os.getpid() % 1000}; "
                    f"root {work}/site; }} }}\n")
        port = 18800 + os.getpid() % 1000
        begin(["nginx", "-c", f"{work}/nginx.conf"])
        link = begin([LINK, "--to", f"127.0.0.1:{port}", "--rtt", "50ms", "--rate", "200mbit"],
                     stdout=subprocess.PIPE)
        url = f"http://127.0.0.1:{int(link.stdout.readline())}"
        display = games.start_display(begin)
        for game in games.GAMES:
            game.install(f"{work}/site")
            subprocess.run([GAME_ASSETS, "publish", f"{work}/site/{game.name}"], check=True, capture_output=True)
            play(work, game, display, url)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        shutil.rmtree(work, ignore_errors=True)


main()
