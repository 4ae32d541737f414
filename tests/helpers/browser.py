"""A headless Chromium that tests drive by its DevTools protocol, over a pipe: no library and no port."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest

# The browser reads from descriptor 3 and writes to 4.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_PATIENCE_SECONDS = 60


@contextlib.contextmanager
def started(profile):
    """A browser that reaches no network; the test is skipped where there is none. `profile` is a folder of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium: the page was not used in a browser (Debian: apt-get install chromium)")
    ends = [*os.pipe(), *os.pipe()]
    # Above the two numbers that they are to get.
    theirs = [fcntl.fcntl(ends[number], fcntl.F_DUPFD, 10) for number in (0, 3)]
    command = [sys.executable, "-c", _START, *map(str, theirs), program]
    command += ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
    command += [f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    process = subprocess.Popen(command, pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for one in (ends[0], ends[3], *theirs):
        os.close(one)
    try:
        yield Browser(write=ends[1], read=ends[2])
    finally:
        process.kill()
        process.wait()
        os.close(ends[1])
        os.close(ends[2])


class Browser:
    def __init__(self, *, write, read):
        self._write, self._read, self._buffer, self._last = write, read, b"", 0
        self.events = []

    def call(self, method, session=None, **parameters):
        """The result of a command."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        data = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while (answer := self._next()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def page(self):
        """A tab of a visitor of its own, who shares nothing with others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session)

    def _next(self):
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], _PATIENCE_SECONDS)[0], "the browser does not answer"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser has ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Page:
    def __init__(self, browser, session):
        self._browser, self._session = browser, session
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def open(self, url, *, width=1280, height=900, dark=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.protocol === 'http:'")

    def value(self, expression):
        """What a JavaScript expression, or its promise, gives."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression):
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never so: {expression}; errors: {self.errors()}"
            time.sleep(0.02)

    def choose(self, selector, files):
        """Gives files to an input, as its dialog does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def click(self, selector, nth=0):
        """Presses and lets go of the mouse in the middle of an element."""
        place = f"document.querySelectorAll({json.dumps(selector)})[{nth}]"
        self.until(place)
        box = self.value(
            f"(() => {{ const e = {place}; e.scrollIntoView({{block: 'center'}}); "
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key, code):
        """Presses a key; `code` is its number."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def errors(self):
        """What the console tells of errors and warnings so far."""
        self.value("1")  # what happened before has been reported
        told = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                told.append(json.dumps(parameters["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
                told.append(json.dumps(parameters["args"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                told.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        return told

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
