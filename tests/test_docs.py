"""Every family has a page, all pages have the same order, and each names all arguments."""

import inspect
import re
from pathlib import Path

import pytest

from experiments.lib.diagrams import DIAGRAMS
from experiments.lib.tables import page_of
from graphseq.models import MODELS

PAGES = Path(__file__).parent.parent / "docs" / "models"

HEADINGS = [
    "Idea",
    "Equations",
    "Picture",
    "Arguments",
    "Differences from the paper and from the authors' code",
    "Cost",
    "When to use it",
    "Numbers",
]


def page(name):
    path = page_of(name)
    assert path is not None, f"{name} has no page in docs/models"
    return path.read_text()


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_has_all_headings_in_order(name):
    text = re.sub(r"```.*?```", "", page(name), flags=re.DOTALL)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert len(re.findall(r"^# .+$", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_explains_every_argument(name):
    (arguments,) = re.findall(r"^## Arguments$(.*?)^## ", page(name), re.MULTILINE | re.DOTALL)
    named = re.findall(r"^\| (.*?) \|", arguments, re.MULTILINE)
    listed = {argument for cell in named for argument in re.findall(r"`(\w+)`", cell)}
    parameters = list(inspect.signature(MODELS[name].__init__).parameters)[1:]
    assert [argument for argument in parameters if argument not in listed] == []


@pytest.mark.parametrize("name", MODELS)
def test_page_of_a_model_shows_a_diagram_that_a_script_draws(name):
    stem = page_of(name).stem
    assert f"](../images/models/{stem}.svg)" in page(name)
    assert (PAGES.parent / "images" / "models" / f"{stem}.svg").exists()
    assert stem in DIAGRAMS


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_links_of_model_pages_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (PAGES / link).exists()] == []
