"""Settings of the documentation site: ``make docs`` builds it from the pages as GitHub shows them.

The source folder is the repository, so that links between docs, cards and other files are the same
here and there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "site" / "extensions")]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the notebooks: small work, slower on several
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

import graphseq  # noqa: E402

project = "graphseq"
author = "graphseq developers"
copyright = "graphseq developers"
release = version = graphseq.__version__

root_doc = "docs/index"
include_patterns = ["docs/**", "datasets/README.md", "datasets/*/README.md", "C*.md"]
exclude_patterns = [
    "docs/site",
    "**/.ipynb_checkpoints",
    "graphseq",
    "tests",
    "experiments",
    "build",
    "runs",
    ".venv",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

extensions = [
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]

# -- pages ---------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a card may begin below a heading of its own level
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_output_stderr = "remove"  # bars and remarks of the libraries beneath
copybutton_exclude = ".linenos, .gp, .go"

# -- reference -----------------------------------------------------------------------------------

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Shapes", "params_style")]
toc_object_entries = False

# -- looks ---------------------------------------------------------------------------------------

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"graphseq {release}"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_extra_path = ["site/index.html"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
