"""A headless Chromium for tests, driven by chromedriver over plain HTTP (W3C WebDriver)."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEYS = {"enter": "\ue007", "escape": "\ue00c", "left": "\ue012", "up": "\ue013",
        "right": "\ue014", "down": "\ue015"}
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
             "--hide-scrollbars", "--no-first-run")


class Browser:
    """One page, in one window."""

    def __init__(self, port: int, profile: str) -> None:
        self._base = f"http://127.0.0.1:{port}"
        options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}"],
                   "binary": shutil.which("chromium")}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page anew."""
        self._ask("POST", self._session + "/url", {"url": "about:blank"})
        self._ask("POST", self._session + "/url", {"url": page.as_uri() + fragment})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns; promises are waited for."""
        return self._ask("POST", self._session + "/execute/sync",
                         {"script": script, "args": list(arguments)})

    def until(self, script: str, *arguments: Any, seconds: float = 10) -> Any:
        """The first true value of an expression; the page is asked again at each frame."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.run("await new Promise(requestAnimationFrame);"
                             f"return ({script});", *arguments)
            if found:
                return found
        raise AssertionError(f"never: {script}\n{self.console()}")

    def click(self, selector: str) -> None:
        """Click like a user: at the element's middle, which must be visible."""
        found = self._ask("POST", self._session + "/element",
                          {"using": "css selector", "value": selector})
        (element,) = found.values()
        self._ask("POST", f"{self._session}/element/{element}/click", {})

    def press(self, keys: str) -> None:
        """Press a key by its name, or type text, where the focus is."""
        for char in [KEYS[keys]] if keys in KEYS else keys:
            self._ask("POST", self._session + "/actions", {"actions": [{
                "type": "key", "id": "keys",
                "actions": [{"type": kind, "value": char} for kind in ("keyDown", "keyUp")]}]})

    def size(self, width: int, height: int) -> None:
        """Make the page so large, in pixels."""
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)

    def scheme(self, name: str) -> None:
        """Prefer "light" or "dark"."""
        self._cdp("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": name}])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self._cdp("Page.printToPDF")["data"])

    def screenshot(self, path: Path) -> None:
        """What is visible, as a PNG file."""
        path.write_bytes(base64.b64decode(self._ask("GET", self._session + "/screenshot")))

    def console(self) -> list[str]:
        """What the page complained of since this was asked last."""
        entries = self._ask("POST", self._session + "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def _cdp(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", self._session + "/goog/cdp/execute",
                         {"cmd": command, "params": parameters})

    def close(self) -> None:
        """End the browser."""
        self._ask("DELETE", self._session)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser, ended with its driver."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            assert driver.stdout is not None
            port = next(int(found[1]) for line in driver.stdout
                        if (found := re.search(r"successfully on port (\d+)", line)))
            page = Browser(port, profile)
            try:
                yield page
            finally:
                page.close()
        finally:
            driver.terminate()
            driver.wait(10)
            assert driver.stdout is not None
            driver.stdout.close()
