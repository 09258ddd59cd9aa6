"""The documentation is whole and true: it builds, its links lead somewhere, its code runs.

The contract for the writer of a page is at the top of tests/support/documents.py.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import msal_extensions
from tests.support.capability import requires
from tests.support.processes import finished
from tools.docs.links import fault_outside, faults_in_repository, faults_in_site, pages_of
from tools.docs.site import build

pytestmark = requires("fcntl", "os.fork")

ROOT = Path(__file__).resolve().parents[1]
#: Pages whose Python another test runs, in a world of its own.
ELSEWHERE = {
    "docs/asyncio.md": ("tests/test_asyncio.py", "test_the_examples_of_the_page_do_what_it_says"),
    "docs/encrypted-file.md": (
        "tests/test_envelope_vectors.py",
        "test_the_reader_in_the_document_reads_what_is_not_of_the_kernel",
    ),
    "docs/headless.md": ("tests/test_headless_docs.py", "test_the_examples_in_python_run"),
}
#: Blocks that do not run: {page: reasons, as the page gives them}.
SKIPPED: dict[str, list[str]] = {}
#: The classes of which programs use the methods.
CLASSES = (
    *("PersistedTokenCache", "CacheChanges", "CrossPlatLock", "FilePersistence"),
    *("EncryptedFilePersistence", "LibsecretPersistence", "KeychainPersistence"),
    "FilePersistenceWithDataProtection",
)
NAMES = [path.relative_to(ROOT).as_posix() for path in pages_of(ROOT)]


def page(name: str) -> Any:
    from tests.support.documents import Page

    return Page(ROOT / name)


# ---- the site ----


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The built site, and what Sphinx said of it; built once for all processes of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    place, said = root / "site", root / "site.txt"
    with msal_extensions.CrossPlatLock(root / "site.lock", timeout=300):
        if not said.exists():
            said.write_text(build(place), encoding="utf-8")
    return place, said.read_text("utf-8")


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site: tuple[Path, str]) -> None:
    place, said = site
    assert said == ""
    for name in NAMES:
        assert (place / name).with_suffix(".html").is_file()


@pytest.mark.slow
def test_each_link_of_the_site_leads_to_a_page_and_a_place_in_it(site: tuple[Path, str]) -> None:
    assert faults_in_site(site[0]) == []


@pytest.mark.slow
def test_each_page_is_in_the_navigation(site: tuple[Path, str]) -> None:
    begin = (site[0] / "docs" / "index.html").read_text("utf-8")
    sidebar = begin[begin.index("sidebar-tree") : begin.index("</aside>")]
    for name in NAMES:
        if name != "docs/index.md":
            path = f"../{name}" if "/" not in name else name.removeprefix("docs/")
            assert f'href="{Path(path).with_suffix(".html")}"' in sidebar, name


def public_names() -> Iterator[str]:
    """The ids that the page of the API has to have."""
    yield from (f"msal_extensions.{name}" for name in msal_extensions.__all__)
    yield "msal_extensions.persistence.BasePersistence"
    for module in ("libsecret", "osx", "windows"):
        names = getattr(__import__(f"msal_extensions.{module}"), module).__all__
        only_there = set(names) - set(msal_extensions.__all__)
        yield from (f"msal_extensions.{module}.{name}" for name in only_there)


def methods_of(found: type) -> Iterator[str]:
    """The public methods and properties that a class of ours defines itself."""
    for name, member in vars(found).items():
        if name[0] != "_" and (inspect.isfunction(member) or isinstance(member, property)):
            yield name


@pytest.mark.slow
def test_the_page_of_the_api_has_each_public_name(site: tuple[Path, str]) -> None:
    html = (site[0] / "docs" / "api.html").read_text("utf-8")
    for name in public_names():
        assert f'id="{name}"' in html, name


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_the_page_of_the_api_has_each_public_method(name: str, site: tuple[Path, str]) -> None:
    """Its words are there, or those of the base class that it implements."""
    html = (site[0] / "docs" / "api.html").read_text("utf-8")
    found = getattr(msal_extensions, name)
    for method in methods_of(found):
        own = getattr(vars(found)[method], "__doc__", None)
        home = name if own else "persistence.BasePersistence"
        if method != "store":  # for the token cache only
            assert f'id="msal_extensions.{home}.{method}"' in html, method


@pytest.mark.slow
def test_a_signature_has_types_and_defaults(site: tuple[Path, str]) -> None:
    from html.parser import HTMLParser

    class Text(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    parser = Text()
    parser.feed((site[0] / "docs" / "api.html").read_text("utf-8"))
    text = " ".join(parser.text.split())
    assert "lockfile_path: str | PathLike[str], timeout: float = 5.0" in text
    assert "on_unreadable: Literal" not in text  # short: 'raise' | 'quarantine'
    assert "on_unreadable: 'raise' | 'quarantine' = 'raise'" in text


def test_each_public_name_and_method_has_words() -> None:
    for name in msal_extensions.__all__:
        assert inspect.getdoc(getattr(msal_extensions, name)), name
    for found in (getattr(msal_extensions, name) for name in CLASSES):
        for method in methods_of(found):
            words = inspect.getdoc(getattr(found, method))
            assert words or method == "store", f"{found.__name__}.{method}"


# ---- links ----


def test_each_link_of_the_repository_leads_to_a_file_and_a_heading_in_it() -> None:
    assert faults_in_repository(ROOT) == []


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("docs/none.md", "is not in the checkout"),
        ("/docs/api.md", "is not in the checkout"),
        ("docs/api.md#none", "names no heading there"),
        ("#none", "names no heading there"),
        ("http://example.org", "is not https"),
        ("https://example", "is not well-formed"),
        ("docs/api.md#the-lock", None),
        ("docs", None),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "api.md").write_text("# API\n\n## The lock\n")
    for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"):
        (tmp_path / f"{name}.md").write_text("# Title\n")
    (tmp_path / "README.md").write_text(f"# Title\n\nA [link]({link}).\n")
    expected = [] if fault is None else [f"README.md: {link} {fault}"]
    assert faults_in_repository(tmp_path) == expected


def test_a_link_of_the_site_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"><a href="b.html#there">x</a><a href="#here">')
    (tmp_path / "b.html").write_text('<p id="their"><img src="c.png"><a href="a.html#here">')
    assert faults_in_site(tmp_path) == [
        "a.html: b.html#there names no place there",
        "b.html: c.png is not in the site",
    ]
    assert fault_outside("https://example.org/a#b") is None


# ---- code ----


@pytest.fixture(scope="module")
def provider() -> Iterator[Any]:
    from tests.support.documents import provider

    with provider() as running:
        yield running


RUN = [
    name
    for name in NAMES
    if name not in ELSEWHERE and "```python" in (ROOT / name).read_text("utf-8")
]


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_page_runs(name: str, tmp_path: Path) -> None:
    code = "from tests.support.documents import main; main()"
    said = finished([sys.executable, "-c", code, name, tmp_path], ROOT)
    ran, skipped = json.loads(said.splitlines()[-1])
    assert [reason for _, reason in skipped] == SKIPPED.get(name, [])
    lines = {*ran, *(line for line, _ in skipped)}
    assert {fence.line for fence in page(name).fences("python")} <= lines


def test_no_page_is_skipped_that_is_not_there() -> None:
    assert {*SKIPPED, *ELSEWHERE} <= set(NAMES)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_another_test_runs_is_run_by_a_test(name: str) -> None:
    file, test = ELSEWHERE[name]
    text = (ROOT / file).read_text("utf-8")
    defined = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert test in defined
    assert page(name).fences("python")


@pytest.mark.parametrize("name", NAMES)
def test_each_block_of_a_page_is_of_a_kind_that_some_test_looks_at(name: str) -> None:
    from tests.support.documents import LANGUAGES, parse, sybil_document

    parsed = page(name)
    for fence in parsed.fences():
        is_directive = fence.language.startswith("{") and name in ("docs/api.md",)
        assert is_directive or fence.language in LANGUAGES, fence
        parse(fence.language, fence.text)
    seen = {example.line for example in sybil_document(parsed).examples()}
    for fence in parsed.fences("python"):
        assert fence.line in seen, fence


@pytest.mark.parametrize("name", NAMES)
def test_each_command_of_a_page_is_one_that_exists(name: str) -> None:
    from tests.support.documents import fault_of

    for command in page(name).commands():
        assert fault_of(command) is None, command


@pytest.mark.parametrize(
    "command",
    [
        "python -m msal_extensions shwo",
        "sudo -E true | python -m msal_extensions --jsno",
        "python3 dev.py shwo",
        "X=1 dev.py none",
        "python3 -m tests.none",
        "python none.py",
        "shwo it",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    from tests.support.documents import commands_in, fault_of

    assert any(fault_of(each) for each in commands_in(command))


@pytest.mark.parametrize(
    "text",
    [
        "```sh\ntrue\npython3 -m msal_extensions \\\n    --none\n```",
        "```console\n$ python3 -m msal_extensions \\\n    --none\nsaid\n```",
        "    $ python3 -m msal_extensions \\\n        --none\n    said",
        "    python3 -m msal_extensions --none    what it does",
        "| a |\n|---|\n| say `X=1 python3 -m msal_extensions --none` |",
    ],
    ids=["sh", "console", "prompt", "indented", "inline"],
)
def test_a_command_is_found_wherever_it_stands(text: str) -> None:
    from tests.support.documents import Page

    made = Page(ROOT / "README.md", text=f"# Title\n\n{text}\n")
    assert ["python3", "-m", "msal_extensions", "--none"] in list(made.commands())


def test_a_block_that_fails_is_found_with_page_and_line(provider: Any, tmp_path: Path) -> None:
    from tests.support.documents import Page, World, run_blocks

    made = Page(ROOT / "docs" / "api.md", text="")
    made.path = tmp_path / "bad.md"
    made.path.write_text("# Title\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    (tmp_path / "world").mkdir()
    told = pytest.raises(AssertionError, match=r"docs/api\.md, line 7: AssertionError")
    with World(tmp_path / "world", provider).entered(), told:
        run_blocks(made)


def test_a_page_reaches_no_host_but_the_provider(provider: Any, tmp_path: Path) -> None:
    import requests

    from tests.support.documents import World

    token = "https://login.microsoftonline.com/tenant/oauth2/v2.0/token"
    with World(tmp_path, provider).entered():
        assert requests.post(token, timeout=60).json()["error_codes"] == [70003]
        with pytest.raises(requests.ConnectionError, match=r"example\.org"):
            requests.get("https://example.org", timeout=60)


def test_an_error_in_invisible_code_of_another_thread_is_found(
    provider: Any, tmp_path: Path
) -> None:
    from tests.support.documents import World, soon

    with pytest.raises(AssertionError, match="division"), World(tmp_path, provider).entered():
        soon(lambda: 1 // 0)
