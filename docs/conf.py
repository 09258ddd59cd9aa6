"""Sphinx's settings for the site; `python3 dev.py docs` builds it.

The source directory is the whole checkout, and not docs/.  So README.md and SECURITY.md are pages
of the site without a copy, and a link in a page means the same in the site and in the repository.
"""

from __future__ import annotations

import re
from abc import ABC
from enum import Enum
from typing import Any

import msal_extensions
from msal_extensions import persistence
from msal_extensions._without_keyring import Policy
from msal_extensions.encrypted import Key

project = "msal-extensions, native"
version = release = msal_extensions.__version__
html_title = f"{project} {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
# Whole directories, so that Sphinx does not walk through them.
exclude_patterns = [".*", "build", "dist", "benchmarks", "csrc", "python", "samples", "tests"]
exclude_patterns += ["tools", "**/__pycache__", "**/node_modules"]

highlight_language = "none"  # of what says no language: output, layouts, charts

# ---- Markdown ---------------------------------------------------------------------------

myst_heading_anchors = 4  # named as the repository's web view names them

# ---- the docstrings ---------------------------------------------------------------------

nitpicky = True
# The types of others have no inventory offline, private ones have no place.
nitpick_ignore_regex = [(r"py:.*", r"(?!msal_extensions\.).*"), (r"py:.*", r".*\._.*")]
add_module_names = False
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False  # a method that only does what its base says is shown there
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
python_maximum_signature_line_length = 72

# Names that the module imports for type checkers only.
vars(persistence).update(Policy=Policy, Key=Key)

#: The public classes that are bases, and the modules under which the page of the API has them.
PUBLIC = dict.fromkeys(msal_extensions.__all__, "msal_extensions")
PUBLIC |= {"BasePersistence": "msal_extensions.persistence"}
PUBLIC |= {"DataProtectionError": "msal_extensions.errors"}

# ---- the look ---------------------------------------------------------------------------

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None  # two builds of one checkout are the same
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"font-stack": "system-ui, sans-serif"},
}


def public_bases(found: type) -> list[Any]:
    """The bases of a class by their public names; a private class stands for its own bases."""
    bases: list[Any] = []
    for base in found.__bases__:
        if not base.__module__.startswith("msal_extensions"):
            bases += [base] if base not in (object, ABC) else []
        elif base.__name__ in PUBLIC:
            bases.append(f":class:`~{PUBLIC[base.__name__]}.{base.__name__}`")
        else:
            bases += public_bases(base)
    return bases


def name_bases(_: Any, name: str, found: Any, options: Any, bases: list[Any]) -> None:
    bases[:] = public_bases(found) or [object]


def shorten_signature(
    _: Any, what: str, name: str, found: Any, options: Any, arguments: str, returns: str
) -> tuple[str, str] | None:
    """What no program calls by itself has no arguments: exceptions, enums, CacheChanges."""
    is_made_by_us = isinstance(found, type) and (
        issubclass(found, BaseException | Enum) or found.__name__ == "CacheChanges"
    )
    return ("", "") if is_made_by_us and arguments else None


def add_links(_: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Makes links of the pages that a docstring names; below an exception, one to its reference."""
    for number, line in enumerate(lines):
        line = re.sub(r"(?<!`)docs/([\w-]+)\.md", r"`docs/\1.md <\1.html>`__", line)
        lines[number] = re.sub(r"(?<!`)SECURITY\.md", "`SECURITY.md <../SECURITY.html>`__", line)
    code = getattr(found, "reference", "")
    if what == "exception" and re.fullmatch(r"MSX-\d\d", code):
        lines += ["", f"Reference: `{code} <errors.html#{code.lower()}>`__", ""]


def add_navigation(_: Any, name: str, source: list[str]) -> None:
    """The lists of index.md are the navigation, too: one toctree for each heading."""
    if name != root_doc:
        return
    for heading, text in re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", source[0], re.MULTILINE):
        links = re.findall(r"^- \[(.+?)\]\((.+?)\.md\)", text, re.MULTILINE)
        entries = [f"{title} <{target}>" for title, target in links]
        lines = ["```{toctree}", ":hidden:", f":caption: {heading}", "", *entries, "```"]
        source[0] += "\n".join(["", *lines, ""])


def setup(app: Any) -> None:
    app.connect("autodoc-process-bases", name_bases)
    app.connect("autodoc-process-docstring", add_links)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("source-read", add_navigation)
