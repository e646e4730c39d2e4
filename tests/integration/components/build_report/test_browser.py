"""The report in a real browser: nothing loaded, nothing logged, everything seen, on every screen and on paper."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import websocket
from PIL import Image

from components.build_report.logic import build
from tests.fakes import release_records as records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENS = {
    "desktop": (1280, "light"),
    "desktop-dark": (1280, "dark"),
    "phone": (390, "light"),
    "phone-dark": (390, "dark"),
}
RECORDS = ("promoted", "rolled_back", "inconclusive", "rejected_offline", "rejected_data", "failed")

MEASURE = Path(__file__).with_name("measure.js").read_text()


class Browser:
    """One page of a headless Chromium, spoken to over its DevTools protocol."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Run one command; events that arrive meanwhile are kept."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def open(self, path: Path, width: int, scheme: str) -> None:
        """Show a file on a screen of some width and colour scheme."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv()))

    def evaluate(self, expression: str) -> Any:
        """Run a script of the test in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a Chromium that can reach no network."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install Debian's package `chromium`")
    profile = tmp_path_factory.mktemp("profile")
    switches = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
    ]
    with (profile / "chromium.log").open("wb") as log:
        process = subprocess.Popen([CHROMIUM, *switches, "about:blank"], stdout=log, stderr=log)
    try:
        page = Browser(_page_address(profile, process))
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _page_address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        port_file = profile / "DevToolsActivePort"
        if port_file.exists() and (lines := port_file.read_text().splitlines()):
            with urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=10) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError(
        f"expected Chromium's debugging port; its log: {(profile / 'chromium.log').read_text()[-1000:]}"
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build one report of every ending."""
    folder = tmp_path_factory.mktemp("reports")
    for name in RECORDS:
        build(getattr(records, name)(folder / name / records.RELEASE_ID), folder / f"{name}.html")
    return folder


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", RECORDS)
def test_report_is_whole_on_every_screen(browser: Browser, reports: Path, name: str, screen: str) -> None:
    """Every section is seen, text is readable, no label is cut, nothing is wider than the screen or loaded."""
    width, scheme = SCREENS[screen]
    browser.open(reports / f"{name}.html", width, scheme)
    found = browser.evaluate(MEASURE)
    problems = {key: found[key] for key in ("hidden", "faint", "cut")}
    assert problems == {"hidden": [], "faint": [], "cut": []}
    assert found["overflow"] <= 0
    assert (found["charts"] >= 14) is (name in {"promoted", "rolled_back", "inconclusive"})
    assert (found["background"] == "rgb(13, 16, 21)") is (scheme == "dark")
    requests = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert requests == [(reports / f"{name}.html").as_uri()]
    logged = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in browser.events if event["method"] in logged] == []


def test_screenshot_shows_colour(browser: Browser, reports: Path, tmp_path: Path) -> None:
    """The picture is not blank: the verdict's colour is on it."""
    browser.open(reports / "rolled_back.html", 1280, "light")
    shot = browser.call("Page.captureScreenshot", format="png")["data"]
    (tmp_path / "report.png").write_bytes(base64.b64decode(shot))
    with Image.open(tmp_path / "report.png") as image:
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert sum(count for count, colour in colours if colour == (179, 38, 30)) > 1000


def test_report_prints(browser: Browser, reports: Path) -> None:
    """On paper it takes a few pages, in light colours whatever the screen shows."""
    browser.open(reports / "promoted.html", 1280, "dark")
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 14
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
