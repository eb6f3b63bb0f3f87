"""A real Open WebUI, driven through its page: it asks the bundled model about a picture, and shows steps and sources.

    python3 -m venv build/harness/open-webui
    build/harness/open-webui/bin/pip install -r requirements-slim.txt          # of the wheel open_webui 0.12.4
    build/harness/open-webui/bin/pip install --no-deps open-webui==0.12.4
    python tests/harness/open_webui.py --python build/harness/open-webui/bin/python --picture page.png

Needs chromium and playwright, as tests/test_page_browser.py does. Starts both servers on this machine and ends them.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

START_SECONDS = 240.0
ANSWER_SECONDS = 120_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], folder: Path, log: str, answers: str, **environment: str) -> Iterator[None]:
    """A process that answers at an address; it ends with the block."""
    with (folder / log).open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            until = time.monotonic() + START_SECONDS
            while not _answers(answers):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / log).read_text(errors="replace")[-3000:])
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait(20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def first_question(world: Path) -> tuple[str, Path, list[str]]:
    """One that several searches answer."""
    rows = [json.loads(line) for line in (world / "questions.jsonl").read_text().splitlines()]
    row = next(r for r in rows if r.get("image") and r["metadata"]["kind"] == "image_text")
    return row["question"], world / row["image"], row["answers"]


def ask(page: Page, address: str, question: str, picture: Path) -> None:
    page.goto(address)
    # what is new in this version stands above the page
    page.wait_for_selector("#chat-input", timeout=120_000)
    for name in ("Okay, Let's Go!", "Close"):
        found = page.get_by_role("button", name=name)
        if found.count():
            found.first.click()
    page.set_input_files("input[type=file]", str(picture))
    page.wait_for_timeout(3000)
    page.click("#chat-input")
    page.keyboard.type(question)
    page.keyboard.press("Enter")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", type=Path, required=True, help="of the environment that holds Open WebUI")
    parser.add_argument("--picture", type=Path, required=True, help="where to keep what the page shows")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder, ours, theirs = Path(made), free_port(), free_port()
        serve = [sys.executable, "-P", "-m", "deepmmsearch", "serve", "--port", str(ours)]
        stack.enter_context(started(serve, folder, "serve.log", f"http://127.0.0.1:{ours}/health"))
        settings = {
            "DATA_DIR": str(folder / "data"),
            "WEBUI_AUTH": "False",
            "WEBUI_SECRET_KEY": "for-this-run",
            "ENABLE_OLLAMA_API": "False",
            "OPENAI_API_BASE_URL": f"http://127.0.0.1:{ours}/v1",
            "OPENAI_API_KEY": "none",
            "DEFAULT_MODELS": "atlas-openwebui",
            "USE_SLIM_DOCKER": "true",
            "OFFLINE_MODE": "true",
            "HF_HUB_OFFLINE": "1",
        }
        program = [str(given.python.absolute().parent / "open-webui"), "serve", "--host", "127.0.0.1"]
        program += ["--port", str(theirs)]
        address = f"http://127.0.0.1:{theirs}"
        stack.enter_context(started(program, folder, "webui.log", f"{address}/health", **settings))
        question, picture, answers = first_question(folder / "serve-demo" / "world" / "world")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            try:
                ask(page, address, question, picture)
                page.wait_for_selector("text=/Sources?/", timeout=ANSWER_SECONDS)
                page.wait_for_timeout(2000)
            finally:
                page.screenshot(path=str(given.picture))
            shown = page.inner_text("#chat-container")
            browser.close()
    print(shown)
    seen = {"answer": any(answer in shown for answer in answers), "sources": "Source" in shown}
    seen["steps"] = "Found" in shown or "Thought" in shown
    print(seen)
    sys.exit(0 if all(seen.values()) else 1)


if __name__ == "__main__":
    main()
