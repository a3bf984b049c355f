"""Makes a site of these pages: pip install -e ".[docs]" && sphinx-build -W docs docs/_build."""

import pgevents

project = "pgevents"
copyright = "the pgevents authors"
release = version = pgevents.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_heading_anchors = 3
# A page's link to a file of the repository that is no page, as ../benchmarks/README.md.
suppress_warnings = ["myst.xref_missing"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"pgevents {release}"
