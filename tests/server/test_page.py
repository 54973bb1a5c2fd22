"""The page in a real browser without a window: it shows, speaks, listens, says what is missing, and comes back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="NO PLAYWRIGHT: the page was not tested")
NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
LIVE = ":root[data-status=live]"
MAGENTA = (255, 0, 255)


def found_chromium() -> str:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("NO CHROMIUM: the page was not tested")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = found_chromium()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--use-fake-device-for-media-stream"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a fresh profile; a page that throws fails its test."""
    contexts, errors = [], []

    def opens(address: str, microphone: bool = False, script: str = "", **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1200, "height": 860}} | options))
        context.set_default_timeout(60_000)
        contexts.append(context)
        if microphone:
            context.grant_permissions(["microphone"])
        page = context.new_page()
        page.add_init_script(script)
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert not errors


def pixels(page: Any, selector: str = "#frame") -> np.ndarray:
    """uint8 [H, W, 4], scaled to the lamps' 48x64."""
    data = page.locator(selector).screenshot(omit_background=True, scale="css")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), (48, 64), interpolation=cv2.INTER_AREA)


def lamp(page: Any) -> float:
    return float(pixels(page)[28:34, 20:28, 0].mean())


def test_texts_are_said_over_any_background(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    page.click("label:has(input[value=colour])")
    page.fill("#colour", "#ff00ff")
    page.wait_for_selector(LIVE)
    wait(lambda: np.abs(pixels(page)[4, 24, :3].astype(int) - MAGENTA).max() < 12 and 20 < lamp(page) < 70)
    # Beside the lamp nothing covers the colour, within it nothing shines through.
    picture = pixels(page)
    assert np.abs(picture[20:44, 2:5, :3].astype(int) - MAGENTA).mean() < 12
    assert picture[28:34, 20:28, 0].astype(int).max() < 70
    page.select_option("#voice", label="endless")
    page.fill("#text", "and so on")
    page.press("#text", "Control+Enter")
    page.wait_for_selector(":root[data-state=speaking]")
    wait(lambda: lamp(page) > 120)
    sync_api.expect(page.locator("#state")).to_have_text("speaking")
    page.click("#stop")
    wait(lambda: lamp(page) < 70)
    sync_api.expect(page.locator("#state")).to_have_text("idle")
    assert int(page.locator("#rate").inner_text()) > 0


def test_escape_interrupts_and_files_are_said(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], sound: Callable[..., bytes], lamps: Any
) -> None:
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    page.set_input_files("#file", {"name": "long.wav", "mimeType": "audio/wav", "buffer": sound(60.0)})
    sync_api.expect(page.locator("#say-hint")).to_have_text("long.wav, 60.0 s.")
    wait(lambda: lamp(page) > 120)
    page.keyboard.press("Escape")
    wait(lambda: lamp(page) < 70)
    page.set_input_files("#file", {"name": "no.wav", "mimeType": "audio/wav", "buffer": b"no sound at all"})
    sync_api.expect(page.locator("#say-hint")).to_contain_text("; wanted ")


def test_captions_show_the_sentence_and_its_words_so_far(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], lamps: Any
) -> None:
    first, second = "Hello 😀 to you, dear friends of ours.", "This is another one for a while and no more."
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    caption = page.locator("#caption")
    assert not page.is_checked("#captions")
    page.check("#captions")
    page.reload()
    page.wait_for_selector(LIVE)
    assert page.is_checked("#captions")
    page.select_option("#voice", label="counts")
    page.fill("#text", f"{first} {second}")
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#caption:visible")
    seen = []
    for sentence in (first, second):
        sync_api.expect(caption).to_have_text(sentence)
        # What was said grows, word by word, and with what is to come it is the sentence.
        while page.locator(".coming").inner_text() not in (".", ""):
            seen.append(page.locator(".said").inner_text())
    assert all(one in (first, second) or first.startswith(one) or second.startswith(one) for one in seen)
    assert len(set(seen)) > 6
    # It is not read out word by word.
    assert caption.get_attribute("aria-live") == "off"
    assert caption.evaluate("e => e.closest('[role=status], [role=alert], [aria-live]:not([aria-live=off])')") is None
    sync_api.expect(caption).to_be_hidden()
    for way in (lambda: page.uncheck("#captions"), lambda: page.click("#stop")):
        page.check("#captions")
        page.press("#text", "Control+Enter")
        page.wait_for_selector("#caption:visible")
        way()
        sync_api.expect(caption).to_be_hidden()
    # A long sentence comes in parts, which fit into the picture.
    page.fill("#text", "so it goes on and on, " * 12)
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#caption:visible")
    assert len(caption.inner_text()) <= 84
    inside = "e => { const [a, b] = [e, e.parentNode].map((n) => n.getBoundingClientRect());"
    assert caption.evaluate(inside + "return a.top > b.top && a.bottom < b.bottom && a.right < b.right }")


def test_the_microphone_is_spoken(served: Any, open_page: Callable[..., Any], lamps: Any) -> None:
    page = open_page(served.url, microphone=True)
    page.wait_for_selector(LIVE)
    page.click("#talk")
    sync_api.expect(page.locator("#talk")).to_have_attribute("aria-pressed", "true")
    # The browser's own microphone beeps every second.
    page.wait_for_selector(":root[data-state=speaking]")
    page.click("#talk")
    page.wait_for_selector(":root[data-state=idle]")


def test_a_microphone_that_is_not_allowed_is_told(served: Any, open_page: Callable[..., Any], lamps: Any) -> None:
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    page.click("#talk")
    sync_api.expect(page.locator("#microphone-hint")).to_contain_text("The microphone is not allowed.")
    sync_api.expect(page.locator("#talk")).to_have_attribute("aria-pressed", "false")


def test_controls_are_turned_and_stay_in_another_session(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    page.locator("#control-head_motion").fill("0.25")
    page.click("label:has(input[value=happy])")

    def turned() -> bool:
        settings = [session.controls for session in served.sessions]
        return len(settings) == 1 and (settings[0].head_motion, settings[0].emotion) == (0.25, "happy")

    wait(turned)
    assert page.locator("#control-emotion_strength").is_visible()
    page.click("label:has(input[value=checker])")
    wait(lambda: turned() and all(session.alpha for session in served.sessions))
    page.click("#reset")
    wait(lambda: all(session.controls.head_motion is None for session in served.sessions))
    assert not page.locator("#control-emotion_strength").is_visible()


def test_obs_gets_the_picture_alone_over_nothing(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    page.click("label:has(input[value=page])")
    wait(lambda: [session.alpha for session in served.sessions] == [True])
    page.wait_for_selector(LIVE)
    page.click("#share")
    view = open_page(page.input_value("#obs-address"), viewport={"width": 480, "height": 640})
    view.wait_for_selector(LIVE)
    wait(lambda: pixels(view, ":root")[32, 24, 3] == 255)
    assert pixels(view, ":root")[4, 24, 3] < 8
    assert [session.watchers for session in served.sessions] == [2]
    view.context.close()


def test_a_full_server_is_told_and_tried_again(
    serve: Callable[..., Any], open_page: Callable[..., Any], lamps: Any
) -> None:
    with serve(most_sessions=1) as served:
        path = served.open()
        page = open_page(served.url)
        sync_api.expect(page.locator("#notice")).to_contain_text("All 1 sessions of this server are taken")
        served.client.delete(path)
        page.click("#again")
        page.wait_for_selector(LIVE)
        page.context.close()


def test_a_token_is_asked_for_and_does_not_stay_in_the_address(
    serve: Callable[..., Any], open_page: Callable[..., Any], lamps: Any
) -> None:
    token = "a-token-of-many-letters"
    with serve(token=token) as served:
        page = open_page(served.url)
        page.wait_for_selector("#token-form:visible")
        page.fill("#token", token)
        page.press("#token", "Enter")
        page.wait_for_selector(LIVE)
        told = open_page(f"{served.url}/?token={token}")
        told.wait_for_selector(LIVE)
        assert token not in told.url
        for each in (page, told):
            each.context.close()


def test_a_lost_session_is_opened_again(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url)
    page.wait_for_selector(LIVE)
    (first,) = served.sessions
    served.client.delete(f"/api/sessions/{first.id}")
    page.wait_for_selector(":root:not([data-status=live])")
    page.wait_for_selector(LIVE)
    (second,) = served.sessions
    assert second.id != first.id
    wait(lambda: 20 < lamp(page) < 70)
    page.close()
    wait(lambda: not len(served.sessions))


def test_a_browser_that_is_killed_takes_its_session_with_it_and_one_that_pauses_does_not(
    served: Any, wait: Callable[..., Any], tmp_path: Path, lamps: Any
) -> None:
    path = found_chromium()
    words = "--headless", "--no-sandbox", f"--user-data-dir={tmp_path}", "--autoplay-policy=no-user-gesture-required"
    browser = subprocess.Popen(
        [path, *words, served.url], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def send(kind: signal.Signals) -> None:
        # To all of its processes.
        os.killpg(browser.pid, kind)

    def watched() -> Any:
        return [session for session in served.sessions if session.watchers]

    try:
        (first,) = wait(watched)
        send(signal.SIGSTOP)
        time.sleep(2.0)
        send(signal.SIGCONT)
        time.sleep(2.0)
        assert watched() == [first]
        # Silent for long: it is taken for lost, well before a session nobody watches is; and comes back.
        send(signal.SIGSTOP)
        wait(lambda: not len(served.sessions), 40.0)
        send(signal.SIGCONT)
        wait(watched)
        send(signal.SIGKILL)
        wait(lambda: not len(served.sessions), 20.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            send(signal.SIGKILL)
        browser.wait()


def test_a_session_of_somebody_else_is_steered_and_left(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], sound: Callable[..., bytes], lamps: Any
) -> None:
    path = served.open()
    page = open_page(f"{served.url}/?session={path.rpartition('/')[2]}")
    page.wait_for_selector(LIVE)
    assert not page.locator("#behind").is_visible()
    page.set_input_files("#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": sound(20.0)})
    wait(lambda: served.session(path).live.statistics.spoken_seconds > 0)
    page.close()
    wait(lambda: served.session(path).watchers == 0)
    assert len(served.sessions) == 1


UNHEARD = """
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    return this.muted ? play.call(this) : Promise.reject(new DOMException("press first", "NotAllowedError"));
  };"""


def test_a_browser_that_wants_a_press_before_sound_gets_one(
    served: Any, open_page: Callable[..., Any], wait: Callable[..., Any], lamps: Any
) -> None:
    page = open_page(served.url, script=UNHEARD)
    page.wait_for_selector("#unmute:visible")
    assert page.evaluate("document.getElementById('video').muted")
    wait(lambda: 20 < lamp(page) < 70)
    page.click("#text")
    sync_api.expect(page.locator("#unmute")).to_be_hidden()
    assert not page.evaluate("document.getElementById('video').muted")


NAMELESS = """() => {
  const labelled = (e) => [...(e.labels ?? [])].some((label) => label.textContent.trim());
  const named = (e) => e.ariaLabel || e.textContent.trim() || labelled(e);
  const all = [...document.querySelectorAll('button, input, select, textarea, canvas')];
  return all.filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML);
}"""


@pytest.mark.parametrize("width", [360, 1200])
def test_everything_has_a_name_and_fits(served: Any, open_page: Callable[..., Any], lamps: Any, width: int) -> None:
    page = open_page(served.url, viewport={"width": width, "height": 800})
    page.wait_for_selector(LIVE)
    page.wait_for_selector("#control-lip_opening")
    for behind in ("colour", "image"):
        page.click(f"label:has(input[value={behind}])")
        page.wait_for_selector(f"#{behind}-row:visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NAMELESS) == []
    # By keyboard alone: from the top to the text, and it is said.
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "text":
            break
    page.keyboard.type("spoken")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(":root[data-state=speaking]")
