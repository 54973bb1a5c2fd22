"""The page in a real Firefox, steered by WebDriver BiDi (W3C): what differs between browsers is picture, sound and ICE.

Playwright brings a Firefox of its own, and its way to a plain one asks for commands that releases of today lack.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = "firefox-esr", "firefox"
MAGENTA = (255, 0, 255)
ENTER, ESCAPE, CONTROL = "\ue007", "\ue00c", "\ue009"
PREFERENCES = {
    # Nothing leaves this machine: what is not for its own address is sent to a port where nobody listens.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.server": "",
    # A microphone that hums.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
}
_COMMAND_SECONDS = 60.0


class Firefox:
    """A running one; `errors` are the sentences of its pages' consoles and exceptions."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._count = socket, 0
        self.errors: list[str] = []
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])

    def command(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(_COMMAND_SECONDS))
            if told.get("id") == self._count:
                assert told["type"] == "success", f"{method}: {told['message']}"
                return told["result"]
            if told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
                self.errors.append(told["params"]["text"])

    def open(self, address: str, size: tuple[int, int] = (1200, 860)) -> Page:
        page = Page(self, self.command("browsingContext.create", type="window")["context"])
        width, height = size
        page.command("browsingContext.setViewport", viewport={"width": width, "height": height}, devicePixelRatio=1)
        page.command("browsingContext.navigate", url=address, wait="complete")
        return page


class Page:
    """A window."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self._firefox, self._context = firefox, context

    def command(self, method: str, **parameters: Any) -> Any:
        return self._firefox.command(method, context=self._context, **parameters)

    def ask(self, script: str) -> Any:
        """The value of an expression, awaited; as JSON tells it."""
        answer = self._firefox.command(
            "script.evaluate", expression=f"(async () => JSON.stringify((await ({script})) ?? null))()",
            target={"context": self._context}, awaitPromise=True,
        )  # fmt: skip
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def text(self, selector: str) -> str:
        return self.ask(f"document.querySelector('{selector}').innerText")

    def visible(self, selector: str) -> bool:
        return self.ask(f"document.querySelector('{selector}')?.checkVisibility() ?? false")

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, into which it is brought."""
        script = "(e) => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
        return self.ask(f"({script} return [r.x, r.y, r.width, r.height]; }})(document.querySelector('{selector}'))")

    def press(self, selector: str) -> None:
        """As a mouse does it."""
        left, top, width, height = self.place(selector)
        move = {"type": "pointerMove", "x": round(left + width / 2), "y": round(top + height / 2)}
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        self._act({"type": "pointer", "id": "mouse", "actions": [move, down, up]})

    def keys(self, keys: str, held: str = "") -> None:
        """As a keyboard does it, `held` all the while."""
        events = [("keyDown", key) for key in held]
        events += [(kind, key) for key in keys for kind in ("keyDown", "keyUp")]
        events += [("keyUp", key) for key in held]
        self._act({"type": "key", "id": "keyboard", "actions": [{"type": kind, "value": key} for kind, key in events]})

    def _act(self, source: dict[str, Any]) -> None:
        self.command("input.performActions", actions=[source])

    def give(self, selector: str, file: Path) -> None:
        """Chooses a file."""
        found = self.command("browsingContext.locateNodes", locator={"type": "css", "value": selector})["nodes"][0]
        self.command("input.setFiles", element={"sharedId": found["sharedId"]}, files=[str(file)])

    def pixels(self, selector: str = "#frame") -> np.ndarray:
        """uint8 [H, W, 3], scaled to the lamps' 48x64."""
        left, top, width, height = self.place(selector)
        box = {"type": "box", "x": left, "y": top, "width": width, "height": height}
        data = base64.b64decode(self.command("browsingContext.captureScreenshot", clip=box)["data"])
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return cv2.resize(picture, (48, 64), interpolation=cv2.INTER_AREA)

    def lamp(self) -> float:
        return float(self.pixels()[28:34, 20:28, 0].mean())

    def status(self, name: str = "status") -> str:
        return self.ask(f"document.documentElement.dataset.{name}")

    def close(self) -> None:
        self.command("browsingContext.close")


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("NO FIREFOX: the page was not tested in it; apt install firefox-esr xvfb")
    if shutil.which("Xvfb") is None:
        pytest.skip("NO XVFB: Firefox without a screen has no WebGL, the page was not tested in it; apt install xvfb")
    profile = tmp_path_factory.mktemp("firefox")
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
    (profile / "user.js").write_text("\n".join(lines))
    with ExitStack() as held:
        screen = held.enter_context(_running("Xvfb", "-displayfd", "1", "-screen", "0", "1600x1200x24"))
        display = f":{screen.stdout.readline().strip()}"
        words = path, "--remote-debugging-port", "0", "--profile", str(profile), "--no-remote"
        browser = held.enter_context(_running(*words, environment={"DISPLAY": display}))
        address = next(line.split()[-1] for line in browser.stderr if "BiDi listening on" in line)
        # Nobody needs what else it says, but it shall not wait for a reader.
        for stream in (browser.stderr, browser.stdout):
            threading.Thread(target=stream.read, daemon=True).start()
        yield Firefox(held.enter_context(connect(f"{address}/session", max_size=None, compression=None)))


@contextmanager
def _running(*words: str, environment: dict[str, str] | None = None) -> Iterator[Any]:
    """A program, until the end."""
    with subprocess.Popen(
        words, env=os.environ | (environment or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            program.kill()


@pytest.fixture
def open_page(firefox: Firefox) -> Iterator[Callable[..., Page]]:
    """Opens an address; a page that throws or complains fails its test."""
    pages: list[Page] = []

    def opens(address: str, **options: Any) -> Page:
        pages.append(firefox.open(address, **options))
        return pages[-1]

    yield opens
    for page in pages:
        page.close()
    errors = [*firefox.errors]
    firefox.errors.clear()
    assert not errors


def test_texts_are_said_over_any_background(
    served: Any, open_page: Callable[..., Page], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    wait(lambda: page.status() == "live")
    page.press("label:has(input[value=colour])")
    page.ask("Object.assign(document.querySelector('#colour'), {value: '#ff00ff'}).oninput()")
    wait(lambda: np.abs(page.pixels()[4, 24].astype(int) - MAGENTA).max() < 12 and 20 < page.lamp() < 70)
    assert page.status("drawn") == "canvas"
    # Beside the lamp nothing covers the colour, within it nothing shines through.
    picture = page.pixels().astype(int)
    assert np.abs(picture[20:44, 2:5] - MAGENTA).mean() < 12
    assert picture[28:34, 20:28].max() < 70
    page.ask("document.querySelector('#voice').value = JSON.stringify(['endless', null])")
    page.press("#text")
    page.keys("and so on")
    page.keys(ENTER, held=CONTROL)
    wait(lambda: page.status("state") == "speaking")
    wait(lambda: page.lamp() > 120)
    wait(lambda: page.text("#state") == "speaking")
    page.press("#stop")
    wait(lambda: page.lamp() < 70)
    wait(lambda: page.text("#state") == "idle")
    wait(lambda: int(page.text("#rate")) > 20)
    wait(lambda: int(page.text("#latency")) > 0)


# A machine without a sound card has no running AudioContext: half a second is recorded, and decoded.
LOUDNESS = """(async () => {
  const stream = new MediaStream(document.querySelector('#video').srcObject.getAudioTracks());
  const recorder = new MediaRecorder(stream);
  const recorded = new Promise((resolve) => { recorder.ondataavailable = ({ data }) => resolve(data); });
  recorder.start();
  setTimeout(() => recorder.stop(), 500);
  const bytes = await (await recorded).arrayBuffer();
  const samples = (await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes)).getChannelData(0);
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
})()"""


def test_files_are_said_and_heard_after_a_press(
    served: Any, open_page: Callable[..., Page], wait: Callable[..., Any], sound: Callable[..., bytes], lamps: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    page = open_page(served.url)
    wait(lambda: page.status() == "live" and 20 < page.lamp() < 70)
    # Firefox wants a press before a page may be heard; the picture moves without it.
    wait(lambda: page.visible("#unmute"))
    page.press("#text")
    wait(lambda: not page.visible("#unmute") and not page.ask("document.querySelector('#video').muted"))
    file = tmp_path / "long.wav"
    file.write_bytes(sound(60.0))
    page.give("#file", file)
    wait(lambda: page.text("#say-hint") == "long.wav, 60.0 s.")
    wait(lambda: page.lamp() > 120)
    wait(lambda: page.ask(LOUDNESS) > 0.05)
    page.keys(ESCAPE)
    wait(lambda: page.lamp() < 70)
    wait(lambda: page.ask(LOUDNESS) < 0.001)


def test_captions_show_the_sentence_and_its_words_so_far(
    served: Any, open_page: Callable[..., Page], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    wait(lambda: page.status() == "live")
    page.press("#captions")
    page.ask("document.querySelector('#voice').value = JSON.stringify(['counts', null])")
    page.press("#text")
    page.keys("Hello to you, friend. This is another one for a while.")
    page.keys(ENTER, held=CONTROL)
    for sentence in ("Hello to you, friend.", "This is another one for a while."):
        wait(lambda sentence=sentence: page.visible("#caption") and page.text("#caption") == sentence)
        wait(lambda sentence=sentence: page.text(".said") == sentence.removesuffix("."))
    wait(lambda: not page.visible("#caption"))


def test_the_microphone_is_spoken(
    served: Any, open_page: Callable[..., Page], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    wait(lambda: page.status() == "live")
    page.press("#talk")
    wait(lambda: page.status("state") == "speaking")
    wait(lambda: page.lamp() > 80)
    page.press("#talk")
    wait(lambda: page.status("state") == "idle")
    wait(lambda: page.lamp() < 70)


def test_obs_gets_the_picture_alone_over_nothing(
    served: Any, open_page: Callable[..., Page], wait: Callable[..., Any], lamps: Any
) -> None:
    view = open_page(f"{served.url}/obs", size=(480, 640))
    wait(lambda: view.status() == "live")
    view.ask("document.documentElement.style.background = 'magenta'")
    wait(lambda: 20 < view.pixels(":root")[32, 24, 1] < 70)
    assert np.abs(view.pixels(":root")[4, 24].astype(int) - MAGENTA).max() < 12
    (session,) = served.sessions
    assert session.alpha


def test_a_lost_session_is_opened_again_and_a_page_that_goes_ends_it(
    served: Any, open_page: Callable[..., Page], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    wait(lambda: page.status() == "live")
    (first,) = served.sessions
    served.client.delete(f"/api/sessions/{first.id}")
    wait(lambda: [session.id for session in served.sessions] not in ([], [first.id]))
    wait(lambda: page.status() == "live" and 20 < page.lamp() < 70)
    page.command("browsingContext.navigate", url="about:blank", wait="complete")
    wait(lambda: not len(served.sessions))
