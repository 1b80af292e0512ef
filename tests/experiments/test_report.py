"""The report: one file that asks no network; its tables sort, and it runs nothing it shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

import graphseq as gs
from experiments.lib.html_report import html_of, sessions_of, table_of
from experiments.report import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>alert(1)</script> & \"quoted\" 'title'"

in_chromium = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="no Chromium here: apt-get install chromium and pip install playwright bring it",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gs.Split]:
    """A finished comparison of three lines, and its split; every title is hostile."""
    sessions = gs.generate_sessions(150, 30, num_categories=3, seed=0, mean_length=5)
    titles = pd.DataFrame({"title": [f"{HOSTILE} {n}" for n in range(sessions.num_items)]})
    split = gs.session_split(replace(sessions, item_features=titles), test_fraction=0.2, seed=0)
    folder = tmp_path_factory.mktemp("run")
    models = {
        "markov": "markov",
        "<b>popularity</b>": "popularity",
        "srgnn": ("srgnn", {"hidden_channels": 4, "max_epochs": 1}),
    }
    gs.compare(split, models, out=folder, progress=False, name="an <i>odd</i> shop", seeds=1)
    return folder, split


@pytest.fixture(scope="module")
def page(world: tuple[Path, gs.Split]) -> str:
    folder, split = world
    return html_of([gs.Comparison.load(folder)], [folder], split.test, sessions=2)


def test_page_holds_every_part_and_asks_no_network(page: str) -> None:
    for part in ("Paired tests", "Learning curves", "Strata", "Sessions", "fingerprints"):
        assert part in page
    assert not re.findall(r"""(?:src|href)=['"](?!data:)""", page)
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_everything_shown_is_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "<b>popularity" not in page
    assert "<i>odd" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot;" in page


def test_sessions_show_graph_lists_and_attention(
    page: str, world: tuple[Path, gs.Split], tmp_path: Path
) -> None:
    assert len(re.findall("<article>", page)) == 2
    assert len(re.findall("alt='Graph of session", page)) == 2
    assert len(re.findall("alt='Attention of srgnn'", page)) == 2
    article = page[page.index("<article>") : page.index("</article>")]
    assert len(re.findall("<section", article)) == 3
    folder, split = world
    comparison = gs.Comparison.load(folder)
    without = sessions_of([comparison], [folder], None, 2, "No <data> here.")
    assert "No &lt;data&gt; here." in without
    elsewhere = sessions_of([comparison], [tmp_path], split.test, 2, "")
    assert "These runs hold no saved models." in elsewhere


def test_table_joins_intervals_and_sorts_by_numbers() -> None:
    frame = pd.DataFrame(
        {"hr": [0.25, 1234.0], "hr low": [0.1, float("nan")], "hr high": [0.4, float("nan")]},
        index=["a", "b"],
    )
    text = table_of(frame, "caption")
    assert "0.2500 <small>0.1000 to 0.4000</small>" in text
    assert "data-key='1234.0'>1,234<" in text
    assert text.count("<button>") == 2


def test_script_writes_one_file(
    world: tuple[Path, gs.Split], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "report.html"
    main([str(world[0]), "--out", str(out)])
    assert "is no data set known by name" in out.read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == str(out)
    with pytest.raises(SystemExit, match=r"results\.json"):
        main([str(tmp_path)])


@contextmanager
def opened(path: Path, scheme: Literal["light", "dark"], width: int) -> Iterator[Any]:
    """A file in Chromium, which must not complain and must ask nobody."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.on("console", lambda line: wrong.append(line.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("data:", "file:")) or wrong.append(r.url))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert wrong == []


@in_chromium
def test_report_sorts_filters_fits_a_phone_and_prints(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    with opened(path, "dark", 390) as shown:
        width = shown.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(20, 25, 30)"
        table = shown.locator("table.sorts").first
        cells = table.locator("tbody tr td:nth-child(2)")

        def keys() -> list[float]:
            found = cells.evaluate_all("all => all.map(each => Number(each.dataset.key))")
            return [float(key) for key in found]

        button = table.locator("thead button").nth(1)
        button.click()
        assert keys() == sorted(keys(), reverse=True)
        assert table.locator("th[aria-sort=descending]").count() == 1
        button.press("Enter")  # by keyboard
        assert keys() == sorted(keys())
        assert len(set(keys())) > 1
        shown.fill("#filter", "SRGNN")
        visible = "all => all.filter(e => !e.hidden).map(e => e.dataset.model)"
        names = shown.locator("[data-model]").evaluate_all(visible)
        assert set(names) == {"srgnn"}
        shown.fill("#filter", "")
        names = shown.locator("[data-model]").evaluate_all(visible)
        assert set(names) == {"srgnn", "markov", "<b>popularity</b>"}
        images = shown.locator("img").evaluate_all("all => all.map(each => each.naturalWidth)")
        assert min(images) > 0
        assert shown.pdf()[:5] == b"%PDF-"
        shown.emulate_media(media="print")
        assert not shown.locator("#filter").is_visible()
        shown.set_viewport_size({"width": 720, "height": 1000})  # A4 without its margins
        ends = "all => all.map(each => each.getBoundingClientRect().right)"
        assert max(shown.locator("table").evaluate_all(ends)) <= 720
