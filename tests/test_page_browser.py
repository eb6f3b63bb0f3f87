"""The page in a real browser: the system's chromium, driven by playwright."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.compose.serving import CallerLimits, PageSettings, UploadSettings
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.callers import read_callers
from deepmmsearch.serve.examples import MOST
from deepmmsearch.serve.history import History
from deepmmsearch.serve.room import on_text
from deepmmsearch.types import Box, Completion, Hit, Question, Trajectory
from serving import KNOW, READ, Scripted, house, running

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install-dev")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium")

CROP = "<reason>I look at the flag.</reason><img_search>the flag</img_search>"
# what a page reports of its own policy, and what it is asked to load, is counted
COUNTING = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
window.alert = () => window.violations.push("alert");
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


class Gated(Scripted):
    """Ends no more than `allowed` turns; of the next one half is written."""

    allowed = 0

    async def act(self, trajectory: Trajectory) -> Completion:
        text = self.texts[len(trajectory.turns)]
        on_text(text[: len(text) // 2])
        while self.allowed <= len(trajectory.turns):
            await asyncio.sleep(0.01)
        return Completion(text)


class Finder:
    """A box for the flag."""

    async def locate(self, image: Any, phrase: str) -> list[Box]:
        return [Box(100, 30, 300, 180, 0.9)]


@contextmanager
def opened(
    browser: Any, folder: Path, policy: Any = None, *, path: str = "/", context: Any = None, **settings: Any
) -> Iterator[Any]:
    """A page of the server, `origin` as its address; nothing but the server is reached, and no script fails."""
    served = house(folder, policy, **settings)
    object.__setattr__(served.models["m"].workflow.tools_for(None), "grounder", Finder())
    with running(served) as url:
        made = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **(context or {})})
        made.set_default_timeout(10_000)
        page = made.new_page()
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(COUNTING)
        page.goto(url + path)
        page.wait_for_selector("body:not([hidden])")
        try:
            yield page
            assert page.evaluate("window.violations") == [] and errors == []
            assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []
        finally:
            made.close()


def picture(color: str = "orange", size: tuple[int, int] = (400, 300)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def until(page: Any, holds: str) -> None:
    """Playwright's own waiting evaluates text within the page, which the page's policy forbids."""
    end = time.monotonic() + 10
    while not page.evaluate(holds):
        assert time.monotonic() < end, f"{holds}: {page.inner_text('body')[-800:]}"
        page.wait_for_timeout(30)


def choose(page: Any, *files: tuple[str, str, bytes]) -> None:
    page.set_input_files("#files", [{"name": n, "mimeType": t, "buffer": b} for n, t, b in files])


def ask(page: Any, text: str = "What is its capital?") -> None:
    page.fill("#text", text)
    page.click("#send")


def answered(page: Any, text: str = "What is its capital?", count: int = 1) -> None:
    ask(page, text)
    until(page, f"document.querySelectorAll('.said').length === {count}")


GIVE = """([kind, files]) => {
  const given = new DataTransfer();
  for (const [name, type, content] of files)
    given.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type }));
  const how = { clipboardData: given, dataTransfer: given, bubbles: true, cancelable: true };
  const event = kind === "paste" ? new ClipboardEvent("paste", how) : new DragEvent("drop", how);
  document.getElementById("text").dispatchEvent(event);
}"""


def give(page: Any, kind: str, *files: tuple[str, str, bytes]) -> None:
    page.evaluate(GIVE, [kind, [[name, type, base64.b64encode(content).decode()] for name, type, content in files]])


# Ask


def test_pictures_are_pasted_dropped_chosen_and_taken_off(browser: Any, tmp_path: Path) -> None:
    policy = Scripted()
    with opened(browser, tmp_path, policy) as page:
        give(page, "paste", ("a.png", "image/png", picture("red", (40, 30))))
        give(page, "drop", ("b.png", "image/png", picture("blue", (50, 30))), ("c.png", "image/png", picture()))
        page.wait_for_selector("#pictures li:nth-child(3)")
        choose(page, ("d.png", "image/png", picture("green", (60, 30))))
        page.click("[aria-label='Remove c.png']")
        until(page, "document.querySelectorAll('#pictures img').length === 3")
        assert page.evaluate("[...document.querySelectorAll('#pictures img')].every((i) => i.naturalWidth > 0)")
        answered(page)
        assert [image.size for image in policy.asked[0].question.images] == [(40, 30), (50, 30), (60, 30)]
        assert page.locator(".scenes img").count() == 3 and page.locator("#pictures li").count() == 0
        # none at all
        page.click("#new")
        answered(page, "And without?")
        assert policy.asked[-1].question.images == ()


def test_what_cannot_be_asked_is_told_and_nothing_is_lost(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path) as page:
        choose(page, ("notes.txt", "text/plain", b"x"))
        assert "notes.txt is not a picture" in page.inner_text("#problem")
        page.click("#send")
        assert "Write a question" in page.inner_text("#problem")
        choose(page, ("bad.png", "image/png", b"\x89PNG\r\n\x1a\nxx"))
        ask(page, "Which?")
        until(page, "document.getElementById('problem').textContent.includes('icture 1')")
        assert page.input_value("#text") == "Which?" and page.locator("#pictures li").count() == 1
        page.click("[aria-label='Remove bad.png']")
        page.click("#open-address")
        page.keyboard.type("ftp://x")
        page.keyboard.press("Enter")
        assert "begins with https" in page.inner_text("#problem")
        page.fill("#address", "http://127.0.0.1:1/x.png")
        page.keyboard.press("Enter")
        ask(page, "Which?")
        until(page, "document.getElementById('problem').textContent.includes('could not be fetched')")


def test_a_page_of_a_pdf_is_chosen(browser: Any, tmp_path: Path) -> None:
    import pypdf

    writer, buffer = pypdf.PdfWriter(), io.BytesIO()
    for width in (200, 600):
        writer.add_blank_page(width, 300)
    writer.write(buffer)
    policy = Scripted()
    with opened(browser, tmp_path, policy) as page:
        choose(page, ("paper.pdf", "application/pdf", buffer.getvalue()))
        page.fill("#pictures input", "2")
        page.keyboard.press("Tab")
        until(page, "document.querySelector('#pictures img').naturalWidth === 2000")
        answered(page)
        assert policy.asked[0].question.images[0].size == (2000, 1000)


def test_examples_are_for_a_first_visit(browser: Any, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{n}", "question": f"Which bird is number {n}?", "image": "i.png", "answers": ["x"], "metadata": {}}
        for n in range(9)
    ]
    (tmp_path / "i.png").write_bytes(picture())
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with opened(browser, tmp_path, examples=tmp_path) as page:
        page.wait_for_selector("#examples button")
        assert page.locator("#examples button").count() == MOST
        text = page.inner_text("#examples button >> nth=1")
        page.click("#examples button >> nth=1")
        page.wait_for_selector("#pictures img")
        assert page.input_value("#text") == text
        answered(page, text)


# Watch


def test_each_turn_is_watched_with_its_box_crop_and_hits(browser: Any, tmp_path: Path) -> None:
    policy = Gated((CROP, READ, KNOW))
    with opened(browser, tmp_path, policy) as page:
        choose(page, ("a.png", "image/png", picture()))
        ask(page)
        page.wait_for_selector(".writing:has-text('I look')")
        policy.allowed = 1
        page.wait_for_selector(".box")
        share = page.evaluate(
            "(() => { const b = document.querySelector('.box').getBoundingClientRect(),"
            " i = document.querySelector('.scenes img').getBoundingClientRect();"
            " return [(b.left - i.left) / i.width, (b.top - i.top) / i.height,"
            " b.width / i.width, b.height / i.height] })()"
        )
        assert [round(each, 2) for each in share] == [0.25, 0.1, 0.5, 0.5]
        page.wait_for_selector(".crop img")
        assert page.locator(".hits img").count() == 2 and "Veld" in page.inner_text(".hits")
        assert "I look at the flag." in page.inner_text(".reason >> nth=0") and "Shelf" in page.inner_text(".turns")
        # after a reload it goes on, each turn once
        page.reload()
        page.wait_for_selector(".writing:has-text('I read')")
        policy.allowed = 3
        page.wait_for_selector(".said")
        assert page.locator(".turns > li").count() == 3 and page.locator(".box").count() == 1
        assert "Orm" in page.inner_text(".said")


def test_a_question_is_stopped_and_what_failed_is_said(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, Scripted(seconds=30)) as page:
        ask(page)
        page.click("text=Stop")
        page.wait_for_selector(".said.wrong")
        assert "No answer. Stopped" in page.inner_text(".said")
        page.wait_for_selector("#conversations .note:text('no answer')")
        page.reload()
        page.wait_for_selector(".said.wrong")


def test_two_tabs_watch_one_question(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, Scripted(seconds=0.5)) as page:
        ask(page)
        until(page, "location.hash.length > 1")
        other = page.context.new_page()
        other.goto(page.url)
        for each in (page, other):
            each.wait_for_selector(".said")
            assert each.locator(".turns > li").count() == 3


# Read


def test_a_citation_opens_its_sentence_and_its_source(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path) as page:
        choose(page, ("a.png", "image/png", picture()))
        answered(page)
        assert not page.locator(".sources q >> nth=0").is_visible()
        page.click(".cite")
        assert "Its capital is Orm" in page.inner_text(".sources q >> nth=0")
        assert page.locator("a[href='https://veld.example/'] >> visible=true").count() >= 1
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert "Other" in page.inner_text("ul.sources") and "Other" not in page.inner_text("ol.sources")


def test_in_a_longer_answer_each_sentence_has_its_citation(browser: Any, tmp_path: Path) -> None:
    said = "It is old. The capital of Veld is Orm. Something else was read besides."
    with opened(browser, tmp_path, Scripted([READ, f"<reason>x</reason><answer>{said}</answer>"])) as page:
        answered(page)
        assert page.inner_text(".said") == said.replace("Orm.", "Orm. 1")
        page.click(".cite")
        assert "Its capital is Orm" in page.inner_text(".sources q >> nth=0")


def test_tools_are_chosen_and_stay_chosen(browser: Any, tmp_path: Path) -> None:
    policy = Scripted()
    with opened(browser, tmp_path, policy) as page:
        page.click("#open-settings")
        assert page.locator("#tool-choice input:checked").count() == 3
        page.uncheck("#tool-choice input[value=text_search]")
        page.keyboard.press("Escape")
        page.reload()
        page.wait_for_selector("#send")
        answered(page)
        page.click(".steps > summary")
        assert "not available" in page.inner_text(".turns") and policy.asked[-1].prompt.user.endswith("text search.")
        page.click("#open-settings")
        assert page.locator("#tool-choice input:checked").count() == 2


def test_older_conversations_are_one_press_away(browser: Any, tmp_path: Path) -> None:
    history = History(tmp_path / "store" / "local")
    for n in range(103):
        asked = Trajectory(Question(f"q{n}", f"Question {n}"), load_prompt("atlas")).failed("x")
        history.keep(asked, {"date": f"2026-01-01T00:{n // 60:02}:{n % 60:02}+00:00"})
    history.close()
    with opened(browser, tmp_path) as page:
        until(page, "document.querySelectorAll('#conversations li').length === 100")
        page.click("#more")
        until(page, "document.querySelectorAll('#conversations li').length === 103")
        assert not page.is_visible("#more") and page.evaluate("document.activeElement.innerText").startswith(
            "Question 2"
        )


def test_a_follow_up_stays_in_its_conversation(browser: Any, tmp_path: Path) -> None:
    policy = Scripted()
    with opened(browser, tmp_path, policy) as page:
        choose(page, ("a.png", "image/png", picture()))
        answered(page, "Which country?")
        address = page.url
        answered(page, "And its flag?", 2)
        assert page.url == address and page.locator("#conversations li").count() == 1
        assert policy.asked[-1].question.history[0].question == "Which country?"
        page.reload()
        until(page, "document.querySelectorAll('.said').length === 2")


# Keep


def test_history_is_searched_renamed_saved_and_deleted(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, page=PageSettings(share=True)) as page:
        answered(page, "Which country?")
        page.click("#new")
        page.wait_for_selector("#welcome")
        answered(page, "Which bird?")
        until(page, "document.querySelectorAll('#conversations li').length === 2")
        page.fill("#search", "bird")
        until(page, "document.querySelectorAll('#conversations li').length === 1")
        page.fill("#search", "")
        page.once("dialog", lambda dialog: dialog.accept("Veld"))
        page.click("[aria-label='Rename Which country?']")
        page.wait_for_selector("#conversations b:text('Veld')")
        page.click("#conversations b:text('Veld')")
        page.wait_for_selector("h2:text('Which country?')")
        page.go_back()
        page.wait_for_selector("h2:text('Which bird?')")
        page.go_forward()
        page.wait_for_selector("h2:text('Which country?')")
        assert page.locator("article").count() == 1
        for kind in ("Markdown", "JSON", "HTML"):
            with page.expect_download() as saved:
                page.click(f"#tools >> text={kind}")
            assert "Orm" in Path(saved.value.path()).read_text()
        page.click("#share")
        with page.context.expect_page() as shared:
            page.click("#tools a[href*='/shared/']", modifiers=["Control"])
        assert "Orm" in shared.value.inner_text("main")
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("#tools >> text=Delete")
        page.wait_for_selector("#welcome")
        until(page, "document.querySelectorAll('#conversations li').length === 1")


# Everybody


def test_a_telephone_shows_everything(browser: Any, tmp_path: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
    fits = "document.documentElement.scrollWidth <= innerWidth"
    with opened(browser, tmp_path, Scripted((CROP, READ, KNOW)), context=phone) as page:
        assert page.evaluate(fits) and not page.is_visible("#kept") and page.is_visible("text=Take a photo")
        choose(page, *[(f"{'long-name' * 9}{n}.png", "image/png", picture(size=(900, 200))) for n in range(4)])
        answered(page, "Whatisthis" * 30)
        page.click(".steps > summary")
        page.click(".cite")
        page.click("#toggle")
        page.wait_for_selector("#conversations li")
        assert page.evaluate(fits)
        page.click("#open-settings")
        assert page.evaluate(fits) and page.is_visible("#language")


def test_the_keyboard_alone_is_enough(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path) as page:

        def reach(what: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate(f"document.activeElement.matches({what!r})"):
                    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                    return
            raise AssertionError(f"{what} is not reached")

        reach("#text")
        page.keyboard.type("What is its capital?\n")
        page.wait_for_selector(".said")
        reach(".cite")
        page.keyboard.press("Enter")
        assert page.is_visible("ol.sources q")
        reach("#open-settings")
        page.keyboard.press("Enter")
        assert page.is_visible("#settings")
        page.keyboard.press("Escape")
        assert not page.is_visible("#settings")
        assert page.evaluate("document.activeElement.id") == "open-settings"
        reach("#conversations button")
        page.once("dialog", lambda dialog: dialog.dismiss())
        page.keyboard.press("Enter")


NAMES = """[...document.querySelectorAll("button, a, input, select, textarea, img, summary, aside, dialog")]
  .filter((e) => e.checkVisibility() && !(e.tagName === "IMG" ? e.hasAttribute("alt")
    : e.getAttribute("aria-label") || e.labels?.[0]?.textContent.trim() || e.textContent.trim()
      || document.getElementById(e.getAttribute("aria-labelledby")))).map((e) => e.outerHTML)"""


def test_a_screen_reader_is_told_what_there_is_and_what_happens(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path) as page:
        choose(page, ("a.png", "image/png", picture()))
        page.click("#open-address")
        assert page.evaluate(NAMES) == []
        answered(page)
        page.click(".steps > summary")
        page.click("#open-settings")
        assert page.evaluate(NAMES) == []
        assert page.locator("[role=status]").inner_text().startswith("Orm")
        assert page.locator("[role=alert]").count() == 2
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(ids) == len(set(ids))


CONTRAST = """(() => {
  const light = (rgb) => rgb.map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const read = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = read(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  return [...document.querySelectorAll("p, a, button, summary, h2, h3, span, q, b, li, textarea")]
    .filter((e) => e.checkVisibility() && !e.disabled && e.textContent.trim()).map((e) => {
      const [a, b] = [light(read(getComputedStyle(e).color).slice(0, 3)), light(ground(e))].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), e.outerHTML.slice(0, 80)]; }).filter(([ratio]) => ratio < 4.5);
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_in_light_and_in_the_dark(browser: Any, tmp_path: Path, scheme: str) -> None:
    with opened(browser, tmp_path, context={"color_scheme": scheme}) as page:
        choose(page, ("a.png", "image/png", picture()))
        answered(page)
        page.click(".steps > summary")
        page.click(".cite")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 26)"
        assert dark == (scheme == "dark") and page.evaluate(CONTRAST) == []


def test_it_speaks_the_language_of_the_browser_or_the_one_chosen(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, context={"locale": "de-DE"}) as page:
        assert page.inner_text("#send") == "Fragen"
        page.click("#open-settings")
        page.select_option("#language", "zh")
        page.wait_for_selector("#send:text('提问')", state="attached")
        assert page.evaluate("document.documentElement.lang") == "zh"
        page.reload()
        page.wait_for_selector("#send:text('提问')")


def test_what_is_wrong_is_said_in_the_language_of_the_page(browser: Any, tmp_path: Path) -> None:
    settings = {"context": {"locale": "de-DE"}, "uploads": UploadSettings(characters=30)}
    with opened(browser, tmp_path, Scripted(seconds=30), **settings) as page:
        ask(page, "x" * 31)
        page.wait_for_selector("#problem:text('länger als 30 Zeichen')")
        choose(page, ("a.png", "image/png", b"no picture"))
        ask(page, "Was?")
        page.wait_for_selector("#problem:text('Bild 1 lässt sich nicht verwenden')")
        page.goto(page.url.partition("#")[0] + "#nothing")
        page.wait_for_selector("#problem:text('nicht im Verlauf')")
        page.reload()
        ask(page, "Was?")
        page.click("text=Anhalten")
        page.wait_for_selector(".said:text('Keine Antwort. Sie wurde angehalten.')")


def test_a_key_is_asked_for_where_one_is_needed(browser: Any, tmp_path: Path) -> None:
    known = read_callers(None, CallerLimits(), {"DEEPMMSEARCH_SERVE_KEYS": "anna:0123456789abcdef"})
    with opened(browser, tmp_path, known=known) as page:
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login-problem:text('not known')")
        page.fill("#key", "0123456789abcdef")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login", state="hidden")
        answered(page)
        assert page.evaluate("document.cookie") == ""
        page.click("#open-settings")
        page.click("#logout")
        page.wait_for_selector("#login")


# What strangers wrote

SCRIPT = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)><svg onload=alert(1)>"


class HostileShelf:
    """Hits that would run a script, or load something, if they could."""

    async def search(self, query: Any, k: int) -> list[Hit]:
        return [
            Hit(f"Orm {SCRIPT}", "javascript:alert(1)", SCRIPT, 3.0, None, True),
            Hit("Orm \u202egnp.exe", f"https://evil.example/{SCRIPT}", f"Orm {SCRIPT}", 2.0),
            Hit(f"Orm {SCRIPT}", "data:text/html,<script>alert(1)</script>", "Orm", 1.0),
        ]


def test_what_strangers_wrote_runs_no_script_and_loads_nothing(browser: Any, tmp_path: Path) -> None:
    texts = (
        f"<reason>{SCRIPT}</reason><text_search>{SCRIPT}</text_search>",
        f"{SCRIPT} no action",
        f"<reason>x</reason><answer>Orm{SCRIPT}</answer>",
        "<answer>Orm</answer>",
    )
    for number, policy in enumerate((Scripted(texts), Scripted((texts[0], texts[3])))):
        tools = Toolbox(HostileShelf(), HostileShelf())
        with opened(browser, tmp_path / str(number), policy, tools=tools) as page:
            choose(page, (f"{SCRIPT.replace('/', ':')}.png", "image/png", picture()))
            answered(page, SCRIPT)
            page.click(".steps > summary")
            page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
            assert page.locator("article script, article svg, a[href^='javascript'], a[href^='data']").count() == 0
            assert page.locator("article img:not([src^='api/'])").count() == 0
            assert "\u202e" not in page.inner_text("body")
            page.fill("#search", "script")
            page.wait_for_timeout(100)
            assert SCRIPT in page.inner_text("#conversations b")


def test_the_policy_would_have_counted_a_script(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path) as page:
        page.evaluate(
            "(() => { const made = document.createElement('div');"
            " made.innerHTML = '<img src=x onerror=alert(1)><p style=\"color: red\">';"
            " document.body.append(made); const script = document.createElement('script');"
            " script.textContent = 'alert(1)'; document.body.append(script); })()"
        )
        until(page, "window.violations.length >= 3")
        assert "alert" not in page.evaluate("window.violations")
        page.evaluate("window.violations = []")
