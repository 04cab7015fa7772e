"""Settings of the documentation site. ``make docs`` builds it."""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import tfmtl2r

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # one trace for each method is meant

project = "tfmtl2r"
author = "the authors of tfmtl2r"
version = release = tfmtl2r.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_registry"]
exclude_patterns = ["_build", "not_here.md"]  # papers.md contains it
html_theme = "furo"
html_title = "tfmtl2r"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "github-dark"
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # tests: comments stand above a page's title
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Class attributes", "Attributes")]
napoleon_use_rtype = False
