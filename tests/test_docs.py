"""Every family has a page, and all pages have one order."""

import re
from pathlib import Path

import pytest

from graphseq.models import MODELS

PAGES = Path(__file__).parent.parent / "docs" / "models"

HEADINGS = [
    "Idea",
    "Equations",
    "Picture",
    "Arguments",
    "Differences from the paper and from the authors' program",
    "Cost",
    "When to use it",
    "Numbers",
]

WRITTEN = [name for name in MODELS if (PAGES / f"{name}.md").exists()]


@pytest.mark.parametrize("name", WRITTEN)
def test_page_of_a_model_has_all_headings_in_order(name):
    page = re.sub(r"```.*?```", "", (PAGES / f"{name}.md").read_text(), flags=re.DOTALL)
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    assert len(re.findall(r"^# .+$", page, re.MULTILINE)) == 1
