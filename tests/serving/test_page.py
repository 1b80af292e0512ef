"""The page in Chromium: a session is clicked together by keyboard and mouse, without an error."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from graphseq.serving import LiveSessions, Recommender
from graphseq.serving.service.app import Service, build_app
from graphseq.serving.service.run import on_loopback

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="no Chromium here: apt-get install chromium and pip install playwright bring it",
)


def test_session_is_clicked_together_and_three_models_answer(world: Any, tmp_path: Path) -> None:
    from playwright.sync_api import Request, expect, sync_playwright

    beside = {"rules": Recommender(world.counting), "exact": Recommender(world.neural)}
    service = Service(LiveSessions(Recommender(world.neural, index="exact")), beside=beside)
    wrong: list[str] = []

    def sent(request: Request) -> None:
        if not request.url.startswith((address, "data:")):
            wrong.append(request.url)

    with on_loopback(build_app(service)) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", sent)
        page.goto(address)
        first = page.locator("#models section").nth(0).locator("li")
        expect(page.locator("#models h2")).to_have_text(["gru4rec", "rules", "exact"])
        page.fill("#query", "i639")
        expect(page.locator("#found li")).to_have_text(["i639"])
        page.focus("#found li button")
        page.keyboard.press("Enter")
        clicked = ["i639"]
        for _ in range(3):
            wanted = [item for item, _ in world.neural.recommend([clicked], 10)[0]]
            expect(first.locator("span")).to_have_text(wanted)
            expect(page.locator("#session li")).to_have_text(clicked)
            expect(page.locator("#graph circle")).to_have_count(len(set(clicked)))
            first.nth(1).locator("button").click()
            clicked.append(wanted[1])
        expect(page.locator("#models .why")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # as wide as a phone
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        page.click("#clear")
        expect(page.locator("#session li")).to_have_count(0)
        browser.close()
    assert wrong == []
    assert (tmp_path / "page.png").stat().st_size > 10_000
