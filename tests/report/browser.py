"""A headless Chromium for tests: one page, driven over pipes, that notes errors and requests. Standard library only."""

import base64
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-default-browser-check",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--disable-extensions", "--remote-debugging-pipe",
]


def find():
    for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        path = name and shutil.which(name)
        if path:
            return path
    raise SystemExit("Chromium is missing: tests/real/setup chromium installs it, or set CHROMIUM to its path")


class Browser:
    """A page. `problems` are what its console and its scripts complained of, `requests` the addresses it asked for."""

    def __init__(self, width=1920, height=1080):
        self.folder = tempfile.mkdtemp(prefix="report-chromium-")
        to_child, self.to = os.pipe()
        self.back, from_child = os.pipe()
        # Chromium reads commands from 3 and answers on 4.
        command = f'exec "$@" 3<&{to_child} 4>&{from_child}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, "bash", find(), *FLAGS, f"--user-data-dir={self.folder}", "about:blank"],
            pass_fds=(to_child, from_child), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self.count, self.problems, self.requests = 0, [], []
        self.answers, self.loaded = {}, threading.Event()
        self.arrived = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.session = None
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self):
        rest = b""
        while chunk := os.read(self.back, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in messages:
                self._note(json.loads(message))
        self.arrived.put(None)

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if "id" in message:
            self.arrived.put(message)
        elif method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(f"console: {params['args']}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {params['entry']['text']}")

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.arrived.get(timeout=60)
            if answer is None:
                raise SystemExit("Chromium ended")
            if answer["id"] == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer.get("result", {})

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def theme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, path):
        """Loads the file; returns the seconds until its load event, scripts included."""
        self.loaded.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=path.resolve().as_uri())
        if not self.loaded.wait(60):
            raise SystemExit(f"{path} did not load")
        return time.monotonic() - began

    def run(self, expression):
        """The value of a JavaScript expression, after two frames, so that what is due is drawn."""
        frames = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
        result = self.call(
            "Runtime.evaluate", expression=f"(async () => {{ {frames} return ({expression}); }})()",
            awaitPromise=True, returnByValue=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']['exception']['description']}")
        return result["result"].get("value")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start, end, shift=False):
        modifiers = 8 if shift else 0
        left = {"button": "left", "buttons": 1, "clickCount": 1, "modifiers": modifiers}
        self.mouse("mousePressed", *start, **left)
        for i in range(1, 6):
            place = [a + (b - a) * i / 5 for a, b in zip(start, end)]
            self.mouse("mouseMoved", *place, button="left", buttons=1, modifiers=modifiers)
        self.mouse("mouseReleased", *end, **left)

    def tap(self, x, y):
        """One finger, on a device that has nothing else."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    def click(self, x, y):
        self.drag((x, y), (x, y))

    def key(self, key, shift=False):
        modifiers = 8 if shift else 0
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    def screenshot(self, path, clip=None):
        more = {"clip": {**clip, "scale": clip.get("scale", 1)}} if clip else {}
        png = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=bool(clip), **more)["data"]
        path.write_bytes(base64.b64decode(png))
