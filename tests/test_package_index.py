"""The index and the constraints of a release say the same as its files, for each platform.

tests/test_install_ways.py shows what the installers make of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import tarfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from packaging.requirements import Requirement

from tests.support.capability import requires
from tools.release import index

pytestmark = requires("fcntl")  # a release is made on Linux

VERSION = importlib.metadata.version("msal-extensions")
URL = "https://packages.example.com/native"
METADATA = f"Metadata-Version: 2.4\nName: msal-extensions\nVersion: {VERSION}\n" + (
    "Requires-Python: >=3.10\n\nwords <&>\n"
)
#: The wheels of a release; {abi} and {platform} as cibuildwheel writes them.
WHEELS = (
    "cp310-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64",
    "cp310-abi3-manylinux2014_i686.manylinux_2_17_i686",
    "cp310-abi3-manylinux_2_31_armv7l",
    "cp310-abi3-manylinux_2_39_riscv64",
    "cp310-abi3-linux_s390x",
    "cp310-abi3-musllinux_1_2_x86_64",
    "cp310-abi3-macosx_11_0_arm64",
    "cp310-abi3-macosx_11_0_x86_64",
    "cp310-abi3-win_amd64",
    "cp310-abi3-win_arm64",
    "cp310-abi3-win32",
    "cp314-cp314t-manylinux_2_28_x86_64",
    "cp315-abi3.abi3t-manylinux_2_28_x86_64",
    "pp311-pypy311_pp73-manylinux_2_28_x86_64",
    "pp311-pypy311_pp73-win_amd64",
)


def wheel(
    directory: Path, tags: str, name: str = "msal_extensions", version: str = VERSION
) -> Path:
    """A wheel with nothing in it but its metadata, and its tags, so that no two are the same."""
    path = directory / f"{name}-{version}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", METADATA)
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", tags)
        archive.writestr(f"{name}/vendored-1.dist-info/METADATA", "of another")
    return path


def sdist(directory: Path) -> Path:
    path = directory / f"msal_extensions-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"msal_extensions-{VERSION}/PKG-INFO")
        member.size = len(METADATA)
        archive.addfile(member, io.BytesIO(METADATA.encode()))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "dist").mkdir()
    return [sdist(tmp_path / "dist"), *(wheel(tmp_path / "dist", tags) for tags in WHEELS)]


class Links(HTMLParser):
    """The links of a page, as an installer reads them: {text: attributes}."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self.last: dict[str, str] = {}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.last = {name: value or "" for name, value in attrs}

    def handle_data(self, data: str) -> None:
        if self.last:
            self.found[data], self.last = self.last, {}


def target(page: Path, href: str) -> tuple[Path, str]:
    """The file to which a link of the page leads, and the hash that it names."""
    address, fragment = urldefrag(urljoin(page.as_uri(), href))
    assert fragment.startswith("sha256=")
    return Path(unquote(address.removeprefix("file://"))), fragment.removeprefix("sha256=")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- the pages ----


def test_the_index_links_each_file_with_its_hash_also_after_it_was_moved(
    files: list[Path], tmp_path: Path
) -> None:
    index.write(files, tmp_path / "made", URL)
    site = Path(shutil.move(tmp_path / "made", tmp_path / "site"))
    page = site / "simple" / "msal-extensions" / "index.html"
    assert list(Links(site / "simple" / "index.html").found) == ["msal-extensions"]
    links = Links(page).found
    assert set(links) == {path.name for path in files}
    for original in files:
        path, digest = target(page, links[original.name]["href"])
        assert path == site / original.name
        assert path.read_bytes() == original.read_bytes()
        assert digest == sha256(path)
        assert links[original.name]["data-requires-python"] == ">=3.10"


def test_the_metadata_beside_a_wheel_is_that_in_the_wheel(
    files: list[Path], tmp_path: Path
) -> None:
    index.write(files, tmp_path / "site", URL)
    links = Links(tmp_path / "site" / "simple" / "msal-extensions" / "index.html").found
    for path in files:
        beside = tmp_path / "site" / f"{path.name}.metadata"
        assert beside.exists() == (path.suffix == ".whl")
        told = {links[path.name].get(f"data-{it}-metadata") for it in ("core", "dist-info")}
        if beside.exists():
            assert beside.read_text() == METADATA
            assert told == {f"sha256={sha256(beside)}"}
        else:
            assert told == {None}


def test_projects_have_the_names_under_which_installers_ask_for_them(tmp_path: Path) -> None:
    one, two = (wheel(tmp_path, "py3-none-any", name, "1") for name in ("Py_JWT", "a.b"))
    index.write_simple([two, one], tmp_path / "site")
    simple = tmp_path / "site" / "simple"
    assert sorted(Links(simple / "index.html").found) == ["a-b", "py-jwt"]
    assert list(Links(simple / "py-jwt" / "index.html").found) == [one.name]


def test_the_same_files_give_the_same_bytes_wherever_they_lie(
    files: list[Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "dist"
    index.write(files, first, URL)
    index.write(files[::-1], second, f"{URL}/")  # the files are in that directory already
    for name in {path.relative_to(first) for path in first.rglob("*") if path.is_file()}:
        assert (second / name).read_bytes() == (first / name).read_bytes()


# ---- the constraints ----


def lines(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if not line.startswith("#")]


def pinned(
    text: str, system: str, machine: str, python: str = "3.13", name: str = "CPython"
) -> str:
    """The tags of the wheel that the constraints give a platform; "": they allow no wheel there."""
    environment = {
        "sys_platform": system,
        "platform_machine": machine,
        "platform_python_implementation": name,
        "python_version": python,
    }
    fitting = [it for it in lines(text) if it.marker is None or it.marker.evaluate(environment)]
    assert [str(it.specifier) for it in fitting if it.url is None] == [f"=={VERSION}"]
    found = [unquote(it.url or "") for it in fitting if it.url]
    assert len(found) < 2
    return re.sub(r".*\+native1-(.*)\.whl#sha256=\w+", r"\1", "".join(found))


@pytest.mark.parametrize(
    ("platform", "tags"),
    [
        ("linux x86_64", WHEELS[0]),
        ("linux i686", WHEELS[1]),
        ("linux armv7l", WHEELS[2]),
        ("linux riscv64", WHEELS[3]),
        ("linux s390x", WHEELS[4]),
        ("linux aarch64", ""),
        ("darwin arm64", WHEELS[6]),
        ("darwin x86_64", WHEELS[7]),
        ("win32 AMD64", WHEELS[8]),
        ("win32 ARM64", WHEELS[9]),
        ("win32 x86", WHEELS[10]),
        ("linux x86_64 3.11 PyPy", WHEELS[13]),
        ("linux x86_64 3.12 PyPy", ""),
        ("linux armv7l 3.11 PyPy", ""),
        ("win32 AMD64 3.11 PyPy", WHEELS[14]),
        ("linux x86_64 3.10", WHEELS[0]),
        ("linux x86_64 3.16", WHEELS[0]),
        ("linux x86_64 3.12 GraalVM", ""),
        ("freebsd14 amd64", ""),
    ],
)
def test_each_platform_has_the_line_of_its_wheel_or_none(
    platform: str, tags: str, files: list[Path]
) -> None:
    assert pinned(index.constraints(files, URL), *platform.split()) == tags


def test_each_line_has_the_address_and_the_hash_of_its_wheel(files: list[Path]) -> None:
    hashes = {path.name: sha256(path) for path in files}
    found = [line for line in lines(index.constraints(files, f"{URL}/")) if line.url]
    assert len(found) == len(WHEELS) - 3  # musl, and two for free-threaded Pythons
    for line in found:
        address, fragment = urldefrag(line.url or "")
        assert address.startswith(f"{URL}/msal_extensions-1.3.1%2B")
        assert fragment == f"sha256={hashes[unquote(os.path.basename(address))]}"


def test_the_lines_of_people_are_no_longer_than_a_page(files: list[Path]) -> None:
    text = index.constraints(files, URL)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments
    assert max(map(len, comments)) <= 100


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (["py3-none-any"], "no marker is known for the platform any"),
        (["cp310-abi3-macosx_11_0_universal2"], "no marker is known for the platform macosx"),
        (["cp311-cp311-win32"], "no marker is known for the Pythons of cp311-cp311-win32"),
        (["cp310-abi3-linux_x86_64", WHEELS[0]], "two wheels are for the same platform"),
        (["cp310-abi3-musllinux_1_2_x86_64"], "none of these wheels"),
        ([], "one version of one project"),
    ],
)
def test_wheels_that_markers_do_not_tell_apart_are_refused(
    tags: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(index.CannotPin, match=re.escape(words)):
        index.constraints([wheel(tmp_path, it) for it in tags], URL)


def test_two_versions_and_no_address_are_refused(files: list[Path], tmp_path: Path) -> None:
    other = wheel(tmp_path, "cp310-abi3-win32", version="1.3.1+native2")
    with pytest.raises(index.CannotPin, match="one version of one project"):
        index.constraints([*files, other], URL)
    with pytest.raises(index.CannotPin, match="not the address of a site"):
        index.constraints(files, "packages.example.com")
