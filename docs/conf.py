"""How Sphinx builds the site: ``python -m sphinx -W -b html docs docs/_build/html``.

Pages are Markdown and stay readable where a code host shows them.  What is written by the build
(recipes from ``examples/``, pages of the API, pictures) is listed in ``.gitignore``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE / "_extensions"))

import fastnn  # noqa: E402

project = "fastnn"
author = "The fastnn developers"
copyright = "The fastnn developers"
version = release = fastnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "site_api",
    "site_cache",
    "site_history",
    "site_links",
    "site_math",
    "site_runs",
    "site_tables",
]
exclude_patterns = ["_build", "_extensions", "README.md", "**/*.ipynb", "recipes/*.py"]
templates_path = []
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = False

# Markdown.
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

# Docstrings.  Single backticks name an object where there is one of that name.
default_role = "obj"
autodoc_typehints = "none"
autosummary_generate = False
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"

# Recipes.
sphinx_gallery_conf = {
    "examples_dirs": [str(HERE.parent / "examples")],
    "gallery_dirs": ["recipes"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "plot_gallery": "True",
    "doc_module": ("fastnn",),
    "write_computation_times": False,
    "backreferences_dir": None,
    "parallel": os.cpu_count() or 1,
}
os.environ.setdefault("MPLBACKEND", "agg")
# Recipes run side by side, so that the threads of other packages would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The look.
html_theme = "pydata_sphinx_theme"
html_title = "fastnn"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "fastnn"},
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"index": [], "start": []}


def setup(app: Any) -> None:
    """Read and write pages with all cores, as ``-j auto`` does."""
    app.parallel = max(app.parallel, os.cpu_count() or 1)
