#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stream_browser.py BUILD [SCREENSHOT]: headless Chromium plays a video from hither-stream's page, and seeks.

An MP4 with its index at the end, behind an emulated line of 50 ms and 200 Mbit/s. The player's currentTime must
advance from the start, and soon after a seek to 75 %, with little of the file pulled; decoded frames are counted,
and the page's picture must tell the same. Exit 0 passed, 1 failed, 77 skipped.
"""
import base64
import json
import os
import shutil
import subprocess
import sys
import time

from nbd_line import Failed, expect, need, run
from rig.network import LinkNetwork
from rig.process import Room
from rig.web import Web
from stream import Endpoint

SECONDS = 300


class Browser:
    """Chromium, told what to do over a pipe: the DevTools protocol, messages end with a 0."""

    def __init__(self, room, program):
        theirs, self.to = os.pipe()
        self.from_, their_out = os.pipe()
        # The protocol is spoken on descriptors 3 and 4.
        shell = f'exec 3<&{theirs} 4>&{their_out}; exec "$@"'
        self.process = room.start(
            ["bash", "-c", shell, "browser", program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox",
             "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--no-first-run", "--no-proxy-server",
             "--disable-background-networking", "--disable-component-update", "--window-size=1100,900",
             "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={room.make('profile')}"],
            pass_fds=(theirs, their_out))
        os.close(theirs)
        os.close(their_out)
        self.number, self.rest, self.session, self.console = 0, b"", None, []

    def message(self):
        while b"\0" not in self.rest:
            part = os.read(self.from_, 1 << 16)
            if not part:
                raise Failed("the browser has gone")
            self.rest += part
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        self.number += 1
        ask = {"id": self.number, "method": method, "params": params}
        if self.session:
            ask["sessionId"] = self.session
        os.write(self.to, json.dumps(ask).encode() + b"\0")
        while True:
            told = self.message()
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(json.dumps(told["params"])[:300])
            if told.get("id") == self.number:
                if "error" in told:
                    raise Failed(f"{method}: {told['error']}")
                return told["result"]

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def tell(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Failed(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression, seconds, what):
        """Wait for an event of the page: the expression is a promise's."""
        begin = time.monotonic()
        limit = f"new Promise((_, no) => setTimeout(() => no(new Error('not within {seconds} s')), {seconds * 1000}))"
        try:
            value = self.tell(f"Promise.race([{expression}, {limit}])")
        except Failed as failure:
            state = self.tell("(v => v && [v.readyState, v.networkState, v.currentTime, v.error && v.error.message])"
                              "(document.querySelector('video'))")
            raise Failed(f"{what}: {failure}; video {state}; {self.console}") from failure
        return value, time.monotonic() - begin

    def screenshot(self, path):
        with open(path, "wb") as out:
            out.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


PAST = """new Promise(ok => {{ const v = document.querySelector('video');
    const look = () => {{ if (v.currentTime > {0} && !v.seeking && v.readyState >= 3) {{
        v.removeEventListener('timeupdate', look); ok(v.currentTime); }} }};
    v.addEventListener('timeupdate', look); look(); }})"""


def play_and_seek(room, build, web, screenshot):
    endpoint = Endpoint(room, build, web.url("film.mp4"), "--buffer", "10s")
    browser = Browser(room, shutil.which("chromium") or shutil.which("google-chrome"))
    begin = time.monotonic()
    browser.open(endpoint.url)
    browser.until("new Promise(ok => { const look = () => document.querySelector('video') && $('name') &&"
                  " $('name').textContent == 'film.mp4' ? ok() : setTimeout(look, 20); look(); })", 20, "the page")
    browser.tell("document.querySelector('video').play()")
    browser.until(PAST.format(0), 20, "the first frame")
    first = time.monotonic() - begin
    browser.until(PAST.format(2), 20, "two seconds are played")
    duration = browser.tell("document.querySelector('video').duration")
    expect(abs(duration - SECONDS) < 1, f"the duration is {duration}")
    target = SECONDS * 3 / 4
    browser.tell(f"document.querySelector('video').currentTime = {target}")
    _, seek = browser.until(PAST.format(target + .05), 20, "it plays after a seek")
    browser.until(PAST.format(target + 3), 20, "it goes on after a seek")
    frames = browser.tell("document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames")
    expect(frames > 60, f"{frames} frames were decoded")
    told = endpoint.status()
    expect(told["playhead_told"] and abs(told["playhead_us"] / 1e6 - target - 3) < 3, f"the playhead: {told}")
    expect(told["local_bytes"] < told["size_bytes"] * .75, "nearly all was pulled")
    browser.until("new Promise(ok => { const look = () => $('playhead').textContent.includes('of 5:00') ? ok() :"
                  " setTimeout(look, 20); look(); })", 5, "the page tells where it plays")
    if screenshot:
        browser.screenshot(screenshot)
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    wide = browser.tell("[innerWidth, document.documentElement.scrollWidth]")
    expect(wide == [390, 390], f"on a narrow screen the page is laid out for {wide} pixels")
    browser.call("Emulation.clearDeviceMetricsOverride")
    stalls = browser.tell("stalls + (waits() > 0)")
    print(f"first frame {first:.2f} s after navigating, a seek {seek:.2f} s, {stalls} stalls, {frames} frames;"
          f" {told['local_bytes'] >> 20} of {told['size_bytes'] >> 20} MiB are local")
    expect(stalls == 0 and seek < 3, "it stalls")
    expect(not browser.console, f"the page's console: {browser.console}")
    # Another origin: its page may neither show the video nor ask for the status.
    with open(room.path("www", "evil.html"), "w", encoding="utf-8") as page:
        page.write(EVIL.replace("ENDPOINT", endpoint.url))
    browser.call("Page.navigate", url=web.url("evil.html"))
    browser.until("new Promise(ok => { const look = () => document.title == 'refused' ? ok() :"
                  " setTimeout(look, 20); look(); })", 20, "a page of another origin is refused")
    endpoint.end()
    says_what_it_cannot_play(room, build, web, browser)
    browser.call("Browser.close")


def says_what_it_cannot_play(room, build, web, browser):
    run(["ffmpeg", "-v", "error", "-i", room.path("www", "film.mp4"), "-t", "5", "-c", "copy", room.path("www", "film.ts")])
    endpoint = Endpoint(room, build, web.url("film.ts"))
    browser.call("Page.navigate", url=endpoint.url)
    told = """new Promise(ok => { const look = () => document.querySelector('#message') &&
        $('message').textContent.includes('does not play') ? ok() : setTimeout(look, 20); look(); })"""
    browser.until(told, 20, "an MPEG-TS is said not to play")
    browser.until("new Promise(ok => setTimeout(ok, 1500))", 5, "a while passes")
    browser.until(told, 1, "it is still said")
    endpoint.end()


EVIL = """<title>evil</title><script>
const v = document.createElement("video");
v.onerror = () => fetch("ENDPOINTmedia").then(() => document.title = "got it", () => document.title = "refused");
v.onloadedmetadata = () => document.title = "plays";
v.src = "ENDPOINTmedia";
</script>"""


def main():
    build = os.path.realpath(sys.argv[1])
    screenshot = sys.argv[2] if len(sys.argv) > 2 else None
    need("ffmpeg", "nginx")
    if not shutil.which("chromium") and not shutil.which("google-chrome"):
        print("skipped: chromium is not installed")
        return 77
    try:
        with Room("hither-browser") as room:
            room.make("www")
            run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={SECONDS}",
                 "-f", "lavfi", "-i", f"sine=duration={SECONDS}", "-vf", "noise=alls=15:allf=t",
                 "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-b:v", "4M",
                 "-c:a", "aac", room.path("www", "film.mp4")])
            web = Web(room, LinkNetwork(room, build, "wan"), room.path("www"))
            play_and_seek(room, build, web, screenshot)
    except (Failed, subprocess.SubprocessError) as failure:
        print(f"stream_browser: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
