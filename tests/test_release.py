"""python -m tools.release makes a release of a complete and consistent set of files only."""

from __future__ import annotations

import base64
import hashlib
import http.server
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import msal_extensions
from tests.support.capability import needs
from tools.release import checks
from tools.release.selection import ABIS, ALL, identifier_of, wanted

ROOT = Path(__file__).resolve().parents[1]
VERSION = msal_extensions.__version__
URL = "https://packages.example.com/native"
METADATA = f"""\
Metadata-Version: 2.4
Name: msal-extensions
Version: {VERSION}
Summary: A summary.
License-Expression: MIT
Description-Content-Type: text/plain
Requires-Dist: msal<2,>=1.29
Requires-Dist: cffi>=1.16; platform_python_implementation != "PyPy"

A description.
""".encode()
PYTHON = {"msal_extensions/__init__.py": b"one = 1\n", "msal_extensions/py.typed": b""}
#: The name of the platform in a wheel, where it is not the end of the identifier.
PLATFORMS = {
    "manylinux": "manylinux_2_17_{0}.manylinux2014_{0}",
    "musllinux": "musllinux_1_2_{0}",
    "macosx": "macosx_11_0_{0}",
}


def tags(identifier: str) -> str:
    """The end of the wheel's name."""
    python = identifier.partition("-")[0]
    _, abi, system, machine = wanted(identifier)
    abi = "abi3.abi3t" if abi == "abi3t" else abi
    platform = PLATFORMS.get(system, identifier.partition("-")[2]).format(machine)
    return f"{ABIS[python][0]}-{abi}-{platform}"


def library(identifier: str) -> bytes:
    """The beginning of one, as linkers write it for that processor."""
    _, _, system, machine = wanted(identifier)
    header = bytearray(256)
    if system.endswith("linux"):
        number, order = checks.ELF[machine]
        header[:6] = b"\x7fELF" + bytes([1 if machine in ("i686", "armv7l") else 2, 1])
        header[18:20] = number.to_bytes(2, "big" if order == "big" else "little")
    elif system == "macosx":
        header[:8] = checks.MACH_O_64 + checks.MACH_O[machine].to_bytes(4, "little")
    else:
        header[:2], header[0x3C] = b"MZ", 0x80
        header[0x80:0x86] = b"PE\0\0" + checks.PE[machine].to_bytes(2, "little")
    return bytes(header)


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_wheel(
    directory: Path,
    tag: str,
    content: dict[str, bytes],
    metadata: bytes = METADATA,
    record: Callable[[str], str] = str,
    version: str = VERSION,
) -> Path:
    info = f"msal_extensions-{version}.dist-info"
    python, abis, platforms = tag.split("-")
    lines = [f"Tag: {python}-{a}-{p}" for a in abis.split(".") for p in platforms.split(".")]
    files = {
        **content,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "\n".join(["Wheel-Version: 1.0", *lines, ""]).encode(),
    }
    rows = [f"{name},sha256={digest(data)},{len(data)}\n" for name, data in files.items()]
    files[f"{info}/RECORD"] = record("".join([*rows, f"{info}/RECORD,,\n"])).encode()
    path = directory / f"msal_extensions-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)
    return path


def wheel_for(directory: Path, identifier: str, **changes: Any) -> Path:
    content = {**PYTHON, "msal_extensions/_msalex.so": library(identifier)}
    return make_wheel(directory, tags(identifier), changes.pop("content", content), **changes)


def make_sources(directory: Path, python: dict[str, bytes], metadata: bytes = METADATA) -> Path:
    top = f"msal_extensions-{VERSION}"
    path = directory / f"{top}.tar.gz"
    files = {f"{top}/PKG-INFO": metadata, **{f"{top}/python/{n}": d for n, d in python.items()}}
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All files of a release, in a directory for each job. The libraries in the wheels are headers
    only, so abi3audit is not asked about them."""
    directory = tmp_path / "dist"
    for identifier in ALL:
        below = directory / f"wheels-{identifier.partition('-')[2]}"
        below.mkdir(parents=True, exist_ok=True)
        wheel_for(below, identifier)
    make_sources(directory, PYTHON)
    monkeypatch.setattr(checks, "objections", lambda files: [])
    return directory


def refusal(dist: Path, kind: type[checks.Refused], tag: str | None = None) -> list[str]:
    with pytest.raises(checks.Refused) as caught:
        checks.check(checks.files_below(dist), VERSION, tag)
    assert caught.type is kind
    return caught.value.faults


def the_wheel(dist: Path, identifier: str) -> Path:
    [path] = dist.rglob(f"*-{tags(identifier)}.whl")
    return path


def test_a_complete_set_of_one_source_is_a_release(dist: Path) -> None:
    files = checks.files_below(dist)
    assert len(files) == len(ALL) + 1
    checks.check(files, VERSION, f"v{VERSION}")


@pytest.mark.parametrize("identifier", sorted(ALL))
def test_each_wheel_is_known_by_its_tags_and_by_nothing_else(identifier: str) -> None:
    name = f"msal_extensions-{VERSION}-{tags(identifier)}.whl"
    assert identifier_of(checks.tags_of(name)) == identifier
    assert checks.is_for(library(identifier), *wanted(identifier)[2:])
    alike = {other for other in ALL if checks.is_for(library(other), *wanted(identifier)[2:])}
    assert {wanted(other)[2:] for other in alike} <= {
        (system, wanted(identifier).machine)
        for system in ("manylinux", "musllinux", wanted(identifier).system)
    }


# ---- the set -----------------------------------------------------------------------------


def test_a_release_without_one_of_its_wheels_is_refused(dist: Path) -> None:
    the_wheel(dist, "cp310-manylinux_s390x").unlink()
    assert refusal(dist, checks.Incomplete) == ["there is no wheel for cp310-manylinux_s390x"]


def test_two_wheels_for_one_platform_are_refused(dist: Path) -> None:
    make_wheel(dist, "cp310-abi3-manylinux_2_28_x86_64", PYTHON)
    [fault] = refusal(dist, checks.Incomplete)
    assert fault.startswith("there are 2 wheels for cp310-manylinux_x86_64: ")


@pytest.mark.parametrize(
    "tag", ["cp310-abi3-linux_x86_64", "py3-none-any", "cp311-cp311-win_amd64", "cp310-cp310-win32"]
)
def test_a_wheel_that_nobody_asked_for_is_refused(dist: Path, tag: str) -> None:
    wheel = make_wheel(dist, tag, PYTHON)
    assert refusal(dist, checks.Incomplete) == [
        f"{wheel.name} is none of the wheels in selection.py"
    ]


def test_a_release_without_its_source_is_refused(dist: Path) -> None:
    next(dist.glob("*.tar.gz")).unlink()
    assert refusal(dist, checks.Incomplete) == ["there is not one source distribution: none"]


# ---- one source --------------------------------------------------------------------------


def test_a_wheel_of_another_version_is_refused(dist: Path) -> None:
    the_wheel(dist, "cp310-win32").unlink()
    wheel_for(dist, "cp310-win32", version="1.3.1+native0")
    [named, *_] = refusal(dist, checks.Inconsistent)
    assert named.endswith("-win32.whl is not named for msal_extensions 1.3.1+native1")


def test_a_wheel_whose_metadata_has_another_version_is_refused(dist: Path) -> None:
    other = METADATA.replace(VERSION.encode(), b"1.3.1")
    wheel_for(the_wheel(dist, "cp310-win32").parent, "cp310-win32", metadata=other)
    faults = refusal(dist, checks.Inconsistent)
    assert faults[0].endswith("-win32.whl holds msal-extensions 1.3.1")


def test_a_wheel_with_other_requirements_than_the_source_is_refused(dist: Path) -> None:
    other = METADATA.replace(b"msal<2", b"msal<3")
    wheel_for(the_wheel(dist, "cp310-win32").parent, "cp310-win32", metadata=other)
    [fault] = refusal(dist, checks.Inconsistent)
    assert fault.endswith("-win32.whl has not the metadata of the source distribution")


@pytest.mark.parametrize(
    "changes",
    [
        {"msal_extensions/__init__.py": b"one = 1\r\n"},  # as git on Windows may check it out
        {"msal_extensions/more.py": b""},
        {"msal_extensions/py.typed": None},
    ],
    ids=["other-line-ends", "one-more", "one-less"],
)
def test_a_wheel_with_other_python_files_than_the_source_is_refused(
    dist: Path, changes: dict[str, bytes | None]
) -> None:
    content = {**PYTHON, "msal_extensions/_msalex.so": library("cp310-win32"), **changes}
    kept = {name: data for name, data in content.items() if data is not None}
    wheel_for(the_wheel(dist, "cp310-win32").parent, "cp310-win32", content=kept)
    [fault] = refusal(dist, checks.Inconsistent)
    assert fault.endswith(f"has not the Python files of the source: {next(iter(changes))}")


def test_a_tag_of_another_version_is_refused(dist: Path) -> None:
    assert refusal(dist, checks.Inconsistent, "v1.3.2") == [
        f"the tag is v1.3.2, and pyproject.toml has the version {VERSION}"
    ]


# ---- one wheel ---------------------------------------------------------------------------


def test_a_library_for_another_processor_is_refused(dist: Path) -> None:
    content = {**PYTHON, "msal_extensions/_msalex.so": library("cp310-manylinux_aarch64")}
    target = "cp310-manylinux_riscv64"
    wheel_for(the_wheel(dist, target).parent, target, content=content)
    [fault] = refusal(dist, checks.Broken)
    assert fault.endswith("_msalex.so is not a library for cp310-manylinux_riscv64")


def test_a_wheel_without_its_library_is_refused(dist: Path) -> None:
    wheel_for(the_wheel(dist, "cp310-win32").parent, "cp310-win32", content=PYTHON)
    [fault] = refusal(dist, checks.Broken)
    assert fault.endswith("holds 0 libraries in place of one")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (lambda text: text.replace("sha256=", "sha256=x"), "is not the file that RECORD describes"),
        (lambda text: text.partition("\n")[2], "RECORD does not name msal_extensions/__init__.py"),
        (lambda text: text + "gone.py,sha256=x,1\n", "RECORD names gone.py, which is not there"),
    ],
    ids=["wrong-hash", "not-named", "not-there"],
)
def test_a_wheel_with_a_wrong_record_is_refused(
    dist: Path, record: Callable[[str], str], said: str
) -> None:
    wheel_for(the_wheel(dist, "cp310-win32").parent, "cp310-win32", record=record)
    assert refusal(dist, checks.Broken)[0].endswith(said)


def test_a_wheel_with_another_name_than_it_was_built_with_is_refused(dist: Path) -> None:
    """As if the wheel of musl were called one of glibc."""
    musl, glibc = (the_wheel(dist, f"cp314t-{libc}linux_x86_64") for libc in ("musl", "many"))
    glibc.write_bytes(musl.read_bytes())
    assert refusal(dist, checks.Broken) == [f"{glibc.name}: its WHEEL file has other tags"]


@pytest.mark.parametrize("identifier", ["cp310-win32", None], ids=["wheel", "sources"])
def test_a_damaged_file_is_refused_by_name(dist: Path, identifier: str | None) -> None:
    path = the_wheel(dist, identifier) if identifier else next(dist.glob("*.tar.gz"))
    path.write_bytes(path.read_bytes()[:100])
    [fault] = refusal(dist, checks.Broken)
    assert fault.startswith(f"{path.name} cannot be read: ")


def test_what_twine_and_abi3audit_object_to_is_refused(tmp_path: Path) -> None:
    """Asked about the library that is installed here, and about one that is not of the ABI."""
    for tool in ("twine", "abi3audit"):
        needs(None if importlib.util.find_spec(tool) else f"{tool} is not installed")
    spec = importlib.util.find_spec("msal_extensions._msalex")
    other = importlib.util.find_spec("_cffi_backend")
    assert spec is not None
    assert spec.origin is not None
    needs(None if spec.origin.endswith(".abi3.so") else "this Python has no library of the ABI")
    needs(None if other is not None and other.origin else "cffi is not installed as a library")
    assert other is not None
    tag = "cp310-abi3-manylinux_2_17_x86_64"
    name = "msal_extensions/_msalex.abi3.so"
    (tmp_path / "bad").mkdir()
    good = make_wheel(tmp_path, tag, {name: Path(spec.origin).read_bytes()})
    assert checks.objections([good]) == []
    bad = make_wheel(tmp_path / "bad", tag, {name: Path(str(other.origin)).read_bytes()})
    [fault] = checks.objections([bad])
    assert fault.startswith("abi3audit --strict --verbose: status 1")
    mute = METADATA.replace(b"text/plain", b"text/x-rst").replace(b"A description.", b"`a\n==")
    bad = make_wheel(tmp_path / "bad", tag, {name: Path(spec.origin).read_bytes()}, metadata=mute)
    [fault] = checks.objections([bad])
    assert fault.startswith("twine check --strict: status 1")


# ---- what is made ------------------------------------------------------------------------


@pytest.fixture
def main(dist: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, with DIST."""
    for module in ("cyclonedx", "jsonschema"):
        needs(None if importlib.util.find_spec(module) else f"{module} is not installed")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")

    def run(out: Path, *options: str) -> int:
        from tools.release.__main__ import main

        return main([str(dist), str(out), "--url", URL, *options])

    return run


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_release_is_the_files_with_index_constraints_and_lists(
    main: Callable[..., int], dist: Path, tmp_path: Path
) -> None:
    assert main(tmp_path / "out", "--tag", f"v{VERSION}") == 0
    made = content(tmp_path / "out")
    for path in checks.files_below(dist):
        assert made[path.name] == path.read_bytes()
    page = made["simple/msal-extensions/index.html"].decode()
    assert page.count("<a ") == len(ALL) + 1
    assert URL in made["constraints.txt"].decode()
    assert f"msal_extensions-{VERSION}.cdx.json" in made


def test_sha256sum_finds_each_file_as_it_was_made(main: Callable[..., int], tmp_path: Path) -> None:
    needs(None if shutil.which("sha256sum") else "sha256sum is not installed")
    out = tmp_path / "out"
    assert main(out) == 0
    lines = [line[66:] for line in (out / "SHA256SUMS").read_text().splitlines()]
    assert lines == sorted(lines)
    named = set(lines)
    made = content(out).keys()
    assert made - named == {
        "SHA256SUMS",
        "simple/index.html",
        "simple/msal-extensions/index.html",
    }
    assert named <= made
    check = ["sha256sum", "--strict", "--check", "SHA256SUMS"]
    assert subprocess.run(check, cwd=out, capture_output=True, timeout=60).returncode == 0
    (out / "constraints.txt").write_text("other\n")
    assert subprocess.run(check, cwd=out, capture_output=True, timeout=60).returncode == 1


def test_the_list_of_contents_is_cyclonedx_with_the_hash_of_each_file(
    main: Callable[..., int], dist: Path, tmp_path: Path
) -> None:
    """A validator of its own looks at it, with the schema that CycloneDX publishes."""
    assert main(tmp_path / "out") == 0
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (tmp_path / "out" / f"msal_extensions-{VERSION}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    wrong = text.replace('"type": "library"', '"type": "wheel"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(wrong) is not None
    hashes = {
        one["name"]: one["hashes"][0]["content"] for one in told["components"] if "hashes" in one
    }
    assert hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in checks.files_below(dist)
    }
    assert told["metadata"]["timestamp"].startswith("2026-01-01T00:00:00")  # SOURCE_DATE_EPOCH
    assert told["metadata"]["component"]["purl"] == f"pkg:pypi/msal-extensions@{quote(VERSION)}"
    by_scope: dict[str, set[str]] = {}
    for one in told["components"]:
        by_scope.setdefault(one.get("scope", "file"), set()).add(one["name"])
    assert by_scope["required"] == {"msal", "cffi"}
    assert {"setuptools", "cffi"} <= by_scope["excluded"]


def test_the_same_files_make_the_same_release(
    main: Callable[..., int], dist: Path, tmp_path: Path
) -> None:
    assert main(tmp_path / "one") == 0
    for path in dist.glob("wheels-*"):
        path.rename(dist / f"other-{path.name}")
    assert main(tmp_path / "two") == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_what_is_refused_makes_nothing_and_says_why(
    main: Callable[..., int], dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    the_wheel(dist, "cp310-win32").unlink()
    assert main(tmp_path / "out") == 1
    assert capsys.readouterr().out == "NOT TO BE PUBLISHED: there is no wheel for cp310-win32\n"
    assert not (tmp_path / "out").exists()


def test_earlier_versions_stay_in_the_index(main: Callable[..., int], tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    before = make_wheel(
        earlier,
        "cp310-abi3-win32",
        PYTHON,
        METADATA.replace(VERSION.encode(), b"1.3.1+native0"),
        version="1.3.1+native0",
    )
    assert main(tmp_path / "out", "--earlier", str(earlier)) == 0
    page = (tmp_path / "out" / "simple" / "msal-extensions" / "index.html").read_text()
    assert len(re.findall(r"<a ", page)) == len(ALL) + 2
    assert before.name in page
    constraints = (tmp_path / "out" / "constraints.txt").read_text()
    assert "native0" not in constraints


def test_a_file_that_was_published_with_other_bytes_is_refused(
    main: Callable[..., int], dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same bytes it is not: a run that broke off can be done again."""
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    shutil.copy(the_wheel(dist, "cp310-win32"), earlier)
    assert main(tmp_path / "one", "--earlier", str(earlier)) == 0
    capsys.readouterr()
    wheel_for(earlier, "cp310-win32", metadata=METADATA + b"\n")
    assert main(tmp_path / "two", "--earlier", str(earlier)) == 1
    assert "-win32.whl was published with other bytes" in capsys.readouterr().out
    assert not (tmp_path / "two").exists()


def test_the_command_in_the_documentation_yanks_one_version(
    main: Callable[..., int], tmp_path: Path
) -> None:
    needs(None if shutil.which("sed") else "sed is not installed")
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    longer = f"{VERSION}0"
    other = METADATA.replace(VERSION.encode(), longer.encode())
    make_wheel(earlier, "cp310-abi3-win32", PYTHON, other, version=longer)
    assert main(tmp_path / "out", "--earlier", str(earlier)) == 0
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    [command] = [line for line in page.splitlines() if line.startswith("    sed -i ")]
    directory = tmp_path / "out" / "simple" / "msal-extensions"
    command = command.replace(r"1\.3\.1+native1", VERSION.replace(".", r"\."))
    subprocess.run(shlex.split(command), cwd=directory, check=True, timeout=60)
    links = (directory / "index.html").read_text().splitlines()
    yanked = [line for line in links if re.match('<a data-yanked="[^"]+" href=', line)]
    assert len(yanked) == len(ALL) + 1
    [kept] = [line for line in links if line.startswith("<a href=")]
    assert f"{longer}-" in kept


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address at which a web server on this machine shows it."""
    directory = tmp_path / "out"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield directory, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_workflow_in_the_documentation_takes_the_approved_files_and_no_others(
    main: Callable[..., int], site: tuple[Path, str], dist: Path, tmp_path: Path
) -> None:
    """Its script is run, up to the action that publishes."""
    for program in ("bash", "curl", "sed", "grep", "sha256sum"):
        needs(None if shutil.which(program) else f"{program} is not installed")
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    found = re.search(r"^ +run: \|\n((?: {14}.*\n)+)", page, re.MULTILINE)
    assert found is not None
    script = textwrap.dedent(found[1])
    out, address = site
    assert main(out) == 0

    def run(name: str, sums: bytes) -> int:
        (tmp_path / name).mkdir()
        env = {**os.environ, "ADDRESS": address, "SUMS": hashlib.sha256(sums).hexdigest()}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        done = subprocess.run(
            command, cwd=tmp_path / name, env=env, capture_output=True, timeout=120
        )
        return done.returncode

    approved = (out / "SHA256SUMS").read_bytes()
    assert run("good", approved) == 0
    assert content(tmp_path / "good" / "dist") == {
        path.name: path.read_bytes() for path in checks.files_below(dist)
    }
    assert run("other-sums", approved + b"\n") != 0
    next(out.glob("*.tar.gz")).write_bytes(b"other")
    assert run("other-file", approved) != 0
