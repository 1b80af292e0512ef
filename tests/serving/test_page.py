"""The page in Chromium: a session is clicked together by keyboard and mouse, without an error."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import graphseq as gs
from graphseq.serving import LiveSessions, Recommender
from graphseq.serving.service.app import Service, build_app
from graphseq.serving.service.reasons import reasons_of
from graphseq.serving.service.run import on_loopback

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="no Chromium here: apt-get install chromium and pip install playwright bring it",
)


@contextmanager
def opened(service: Service, scheme: Literal["light", "dark"] = "light") -> Iterator[Any]:
    """The page of a service in Chromium, as wide as a phone; it must ask nobody else."""
    from playwright.sync_api import Request, expect, sync_playwright

    expect.set_options(timeout=20_000)
    wrong: list[str] = []

    def sent(request: Request) -> None:
        if not request.url.startswith((address, "data:")):
            wrong.append(request.url)

    with on_loopback(build_app(service)) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", sent)
        page.goto(address)
        yield page
        browser.close()
    assert wrong == []


def test_session_is_clicked_together_and_three_models_answer(world: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    beside = {"rules": Recommender(world.counting), "exact": Recommender(world.neural)}
    service = Service(LiveSessions(Recommender(world.neural, index="exact")), beside=beside)
    with opened(service, "dark") as page:
        first = page.locator("#models section").nth(0).locator("li.answer")
        names = page.locator("#models h2")
        expect(names).to_have_count(3)
        for place, name in enumerate(["gru4rec", "rules", "exact"]):
            expect(names.nth(place)).to_contain_text(re.compile(rf"^{name} [\d.]+ ms, over HTTP"))
        page.keyboard.press("/")  # by keyboard alone
        page.keyboard.type("i639")
        expect(page.locator("#found li")).to_have_text(["i639"])
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        clicked = ["i639"]
        for _ in range(3):
            wanted = [item for item, _ in world.neural.recommend([clicked], 10)[0]]
            expect(first.locator(".title")).to_have_text(wanted)
            expect(page.locator("#session li span")).to_have_text(clicked)
            expect(page.locator("#graph circle")).to_have_count(len(set(clicked)))
            first.nth(1).locator(".add").click()
            clicked.append(wanted[1])
        expect(page.locator("#models .why h3")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        page.click("#undo")
        expect(page.locator("#session li span")).to_have_text(clicked[:-1])
        page.click("#clear")
        expect(page.locator("#session li")).to_have_count(0)
        expect(page.locator("#undo")).to_be_disabled()
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_graph_has_an_arrow_and_a_count_per_transition_and_says_why() -> None:
    from playwright.sync_api import expect

    torch.manual_seed(0)
    model = gs.models.SRGNN(30, hidden_channels=8).eval()
    torch.nn.init.normal_(model.items.weight)
    model.attach(gs.generate_sessions(60, 30, seed=0).catalog())
    clicks = [3, 5, 3, 5, 5]
    best = model.recommend([clicks], 1)[0][0][0]
    reasons = reasons_of(model, clicks, best)
    with opened(Service(LiveSessions(Recommender(model)))) as page:
        for number, item in enumerate(clicks, start=1):
            page.fill("#query", str(item))
            expect(page.locator("#found button").first).to_have_text(str(item))
            page.keyboard.press("Enter")
            expect(page.locator("#session li")).to_have_count(number)
        expect(page.locator("#graph .edge text")).to_have_text(["2", "1", "1"])
        expect(page.locator("#graph .edge title")).to_have_text(
            ["3 to 5: 2 times", "5 to 3: once", "5 to 5: once"], use_inner_text=False
        )
        expect(page.locator("#graph .edge path.head")).to_have_count(3)
        expect(page.locator("#graph")).to_have_attribute(
            "aria-label", "2 items and 3 transitions: 3 to 5, 2 times; 5 to 3; 5 to 5"
        )
        expect(page.locator("#models .why h3")).to_contain_text(f"Why {best}?")
        named = [(f"click {place + 1}: {clicks[place]}", loss) for place, loss in reasons.clicks]
        named += [(f"{source} → {target}", loss) for source, target, loss in reasons.edges]
        wanted = max(named, key=lambda each: each[1])[0]
        expect(page.locator("#models .reason span").first).to_have_text(wanted)
        expect(page.locator("#legend")).to_contain_text(f"what counts most for {best} (srgnn)")
        other = page.locator("#models .ask").nth(3)
        other.click()
        expect(other).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#models .ask[aria-pressed=true]")).to_have_count(1)
        style = "getComputedStyle(document.querySelector('#found li')).listStyleType"
        assert page.evaluate(style) == "none"
