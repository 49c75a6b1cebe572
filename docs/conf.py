"""Sphinx configuration; run by the target `docs`, which sets HALFULP_VERSION and HALFULP_DOXYGEN."""
import os

project = "halfulp"
author = "the halfulp authors"
copyright = "the halfulp authors"
version = release = os.environ["HALFULP_VERSION"]

extensions = ["myst_parser", "breathe", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["examples"]

breathe_projects = {"halfulp": os.environ["HALFULP_DOXYGEN"]}
breathe_default_project = "halfulp"
breathe_default_members = ("members",)
primary_domain = "cpp"
# Doxygen hands over indented blocks without a language: messages as often as C++.
highlight_language = "none"
# Attribute-like macro of the headers, see hd.hpp.
cpp_id_attributes = ["HALFULP_HD"]

html_theme = "furo"
html_title = f"halfulp {version}"
