"""doctor works where the package itself is broken: it says what is wrong and how to mend it.

Each test breaks a real installation: see tests/support/installation.py.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from msal_extensions._command import record
from tests.support import command
from tests.support.capability import cannot_exist_here, requires
from tests.support.installation import Site, mend, without_hashes
from tests.support.processes import python
from tests.support.reference import reference_site_packages

pytestmark = requires("fcntl")  # Python under Wine has neither links nor this layout

VERSION = importlib.metadata.version("msal-extensions")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def doctor(site: Site, home: Path) -> command.Said:
    said = command.run("doctor", "--json", environment=site.environment(home), python=site.python)
    assert said.errors == ""
    return said


def the_finding(said: command.Said, reference: str, status: int = command.PROBLEMS) -> str:
    """The words and the remedy of the only finding, which has this reference."""
    assert said.references == [reference], said.text
    assert said.status == status
    assert said.json["good_to_go"] is (status != command.PROBLEMS)
    (found,) = said.json["findings"]
    assert found["remedy"]
    return f"{found['words']} | {found['remedy']}"


def imported(site: Site, home: Path, code: str) -> str:
    return python(code, command=site.python, environment=site.environment(home), check=False).stdout


#: Imports the package, and then a name of each kind, which has to say what is wrong.
NAMES = """
import msal_extensions
names = ("FilePersistence", "LockError", "CrossPlatLock", "PersistedTokenCache", "persistence",
         "token_cache", "EncryptedFilePersistence")
assert set(names) <= set(dir(msal_extensions))
said = set()
for name in names:
    try:
        exec(f"from msal_extensions import {name}")
    except ImportError as error:
        said.add(str(error))
try:
    msal_extensions.no_such_name
except AttributeError as error:
    said.add("AttributeError")
print(*sorted(said), sep="\\n")
"""


def test_a_whole_installation_is_good_to_go(site: Site, home: Path) -> None:
    said = doctor(site, home)
    assert said.references == []
    assert (said.status, said.json["good_to_go"]) == (command.FINE, True)
    found = said.json["installation"]
    assert (found["version"], found["is_native"]) == (VERSION, True)
    assert found["msal"] == importlib.metadata.version("msal")
    assert found["directory"] == str(site.package)


# ---- the files of another package ----


@pytest.mark.parametrize("with_record", [True, False])
def test_the_pure_package_over_ours_is_named_and_ours_installed_again_mends_it(
    site: Site, home: Path, with_record: bool
) -> None:
    site.put_pure_over(with_record)
    said = doctor(site, home)
    words = the_finding(said, "MSX-71")
    assert "__init__.py, cache_lock.py, filelock.py and 5 more" in words
    assert "1.3.1" in words.replace(VERSION, "")
    assert "pip install --force-reinstall --no-deps" in words
    assert said.json["installation"]["is_native"] is False
    assert said.json["caches"] == said.json["checks"] == []  # theirs would be used for that
    mend(site)
    if with_record:  # two distributions have the same files now
        words = the_finding(doctor(site, home), "MSX-71", command.WARNINGS)
        assert "also belongs to msal-extensions 1.3.1" in words
    else:
        assert doctor(site, home).references == []


def test_another_distribution_with_the_same_import_is_named_before_it_does_harm(
    site: Site, home: Path
) -> None:
    ours = {"msal_extensions/__init__.py": (site.package / "__init__.py").read_text()}
    site.install_other("msal-extensions-native", "7", ours)
    words = the_finding(doctor(site, home), "MSX-71", command.WARNINGS)
    assert "also belongs to msal-extensions-native 7" in words
    assert "pip uninstall msal-extensions-native" in words


@pytest.mark.parametrize("recorded", ["hashes", "sizes", "names"])
def test_a_changed_and_a_missing_file_are_named(site: Site, home: Path, recorded: str) -> None:
    if recorded != "hashes":
        without_hashes(site.record, keeps_sizes=recorded == "sizes")
        assert doctor(site, home).references == []
    (site.package / "changes.py").unlink()
    with (site.package / "lock.py").open("a") as file:
        file.write("\n")
    words = the_finding(doctor(site, home), "MSX-71")
    assert "changes.py" in words
    assert ("lock.py" in words) is (recorded != "names")


def test_a_missing_file_is_named_by_a_python_that_lists_only_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Distribution.files`` of Python 3.12 and later."""
    (tmp_path / "msal_extensions").mkdir()
    (tmp_path / "msal_extensions" / "lock.py").touch()
    metadata = tmp_path / "msal_extensions-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: msal-extensions\nVersion: 1\n")
    lines = ["msal_extensions/lock.py,,0", "msal_extensions/gone.py,,7", '"msal_extensions/a,b.py"']
    (metadata / "RECORD").write_text("\n\n".join(lines))
    monkeypatch.setattr(importlib.metadata.Distribution, "files", [])
    found = record.altered(importlib.metadata.Distribution.at(metadata))
    assert list(found) == ["gone.py", "a,b.py"]


def test_files_that_pip_did_not_write_do_no_harm(site: Site, home: Path) -> None:
    (site.package / "_of_somebody.py").write_text("raise SystemExit('imported')")
    assert doctor(site, home).references == []


@pytest.mark.parametrize(
    "record", [None, "", "no list at all\0\n", "msal_extensions/__init__.py,md9=x,x\n"]
)
def test_a_record_that_is_missing_or_damaged_stops_nothing(
    site: Site, home: Path, record: str | None
) -> None:
    """Debian leaves it out."""
    site.record.unlink()
    if record is not None:
        site.record.write_text(record)
    said = doctor(site, home)
    assert said.references in ([], ["MSX-71"])
    assert said.json["installation"]["version"] == VERSION


def test_a_source_tree_that_runs_instead_of_what_pip_installed_is_a_warning(
    site: Site, home: Path
) -> None:
    metadata = site.record.with_name("METADATA")
    metadata.write_text(metadata.read_text().replace(f"Version: {VERSION}", "Version: 1.3.1"))
    site.record.unlink()
    words = the_finding(doctor(site, home), "MSX-71", command.WARNINGS)
    assert f"pip has installed 1.3.1, but {site.package} has {VERSION}" in words


# ---- some files of another package ----

#: A program that uses both packages alike, and says nothing by itself.
WORKS = """
from msal_extensions import FilePersistence, PersistedTokenCache, cache_lock
cache = PersistedTokenCache(FilePersistence("cache.bin"))
with cache_lock.CrossPlatLock("lockfile"):
    print(list(cache.search("AccessToken")))
"""


def put_pure(site: Site, *names: str) -> None:
    """Puts some files of the real msal-extensions 1.3.1 in the place of ours."""
    for name in names:
        # 1.3.1 locks by portalocker in cache_lock.py.
        theirs = reference_site_packages(portalocker=name == "cache_lock.py")
        shutil.copy(theirs / "msal_extensions" / name, site.package)
        if name == "cache_lock.py":
            shutil.copytree(theirs / "portalocker", site.directory / "portalocker")


@pytest.mark.parametrize("options", [[], ["-W", "error"]], ids=["as usual", "warnings are errors"])
@pytest.mark.parametrize("name", ["persistence.py", "token_cache.py", "cache_lock.py"])
def test_a_program_is_told_of_a_file_of_the_pure_package_and_goes_on(
    name: str, options: list[str], site: Site, home: Path
) -> None:
    put_pure(site, name)
    (home / "cache.bin").write_text("{}")
    code = f"import os; os.chdir({str(home)!r})\n{WORKS}"
    command = [*site.python, *options]
    told = python(code, command=command, environment=site.environment(home))
    assert told.stdout == "[]\n"
    [line] = told.stderr.splitlines()
    assert line.startswith(f"{name} of msal_extensions is the file of another package")
    assert "pip install --force-reinstall" in line
    assert line.endswith("[MSX-71]")


def test_a_program_is_told_nothing_of_a_whole_installation(site: Site, home: Path) -> None:
    (home / "cache.bin").write_text("{}")
    code = f"import os; os.chdir({str(home)!r})\n{WORKS}"
    told = python(code, command=site.python, environment=site.environment(home))
    assert (told.stdout, told.stderr) == ("[]\n", "")


SHARED = ["libsecret.py", "osx.py", "windows.py", "filelock.py", "persistence.py", "token_cache.py"]


@pytest.mark.parametrize("names", [[it] for it in SHARED] + [SHARED], ids=[*SHARED, "all"])
def test_doctor_names_each_file_of_the_pure_package(
    names: list[str], site: Site, home: Path
) -> None:
    put_pure(site, *names)
    environment = site.environment(home)
    said = command.run("doctor", "--json", environment=environment, python=site.python)
    words = the_finding(said, "MSX-71")
    assert ", ".join(sorted(names)[:3]) in words


def test_what_is_left_when_the_package_over_ours_is_removed_is_told(site: Site, home: Path) -> None:
    """Python imports a directory without __init__.py, too: as an empty package."""
    site.put_pure_over()
    theirs = reference_site_packages(portalocker=False) / "msal_extensions"
    for path in theirs.glob("*.py"):
        (site.package / path.name).unlink()
    shutil.rmtree(site.directory / "msal_extensions-1.3.1.dist-info")
    assert imported(site, home, "import msal_extensions; print(1)") == "1\n"
    words = the_finding(doctor(site, home), "MSX-71")
    assert "missing or are not those" in words
    assert "__init__.py" in words
    assert "What runs now does not say its version." in words


# ---- the native library ----


def test_a_native_library_of_an_earlier_installation_that_python_prefers_is_named(
    site: Site, home: Path
) -> None:
    foreign = site.package / f"_msalex{sysconfig.get_config_var('EXT_SUFFIX')}"
    if foreign == site.library:
        cannot_exist_here("a library that comes before ours: this Python has no stable ABI")
    shutil.copy(site.library, foreign)
    code = "from msal_extensions import _msalex; print(_msalex.__file__)"
    assert imported(site, home, code) == f"{foreign}\n"
    words = the_finding(doctor(site, home), "MSX-71")
    assert f"Python loads {foreign.name}" in words
    assert words.endswith(f"| Remove the file {foreign}")
    foreign.unlink()
    assert doctor(site, home).references == []


def test_a_native_library_that_lacks_a_function_is_told_by_each_name(
    site: Site, home: Path
) -> None:
    content = site.library.read_bytes()
    assert b"msalex_lock_acquire\0" in content
    site.library.write_bytes(content.replace(b"msalex_lock_acquire\0", b"msalex_lock_acquirX\0"))
    names = imported(site, home, NAMES)
    assert "has no function" in names
    assert "[MSX-71]" in names
    assert site.library.name in the_finding(doctor(site, home), "MSX-71")


def test_without_the_native_library_each_name_says_so_and_so_does_doctor(
    site: Site, home: Path
) -> None:
    site.library.unlink()
    without_hashes(site.record)
    site.record.write_text(re.sub(r".*_msalex.*\n", "", site.record.read_text()))
    words = the_finding(doctor(site, home), "MSX-70")
    assert "There is no file _msalex" in words
    assert "pip install --force-reinstall" in words
    names, attribute = imported(site, home, NAMES).splitlines()[::-1]
    assert attribute == "AttributeError"
    assert "_msalex" in names
    assert "python -m msal_extensions doctor" in names
    assert names.endswith("[MSX-70]")


def test_a_native_library_for_another_python_is_named(site: Site, home: Path) -> None:
    (site.record).unlink()
    site.library.rename(site.package / "_msalex.cpython-39-x86_64-linux-gnu.so")
    words = the_finding(doctor(site, home), "MSX-70")
    assert "_msalex.cpython-39-x86_64-linux-gnu.so is for another Python" in words
    assert ".".join(map(str, sys.version_info[:2])) in words


@pytest.mark.parametrize("machine", [b"\xb7", b"\xf3"], ids=["arm64", "riscv"])
def test_a_native_library_for_another_processor_is_told_in_the_words_of_the_loader(
    site: Site, home: Path, machine: bytes
) -> None:
    site.record.unlink()
    content = bytearray(site.library.read_bytes())
    content[18:19] = machine if content[18:19] != machine else b"\x3e"  # e_machine: see elf(5)
    site.library.write_bytes(content)
    words = the_finding(doctor(site, home), "MSX-70")
    assert f"{site.library.name} cannot be loaded: " in words


def test_a_c_library_that_is_too_old_is_told_and_how_to_build_for_it(
    site: Site, home: Path
) -> None:
    content = site.library.read_bytes()
    if b"GLIBC_2." not in content:
        cannot_exist_here("a library for glibc: this system has another C library")
    site.record.write_text(re.sub(r"(.*_msalex.*?),.*\n", r"\1,,\n", site.record.read_text()))
    site.library.write_bytes(content.replace(b"GLIBC_2.", b"GLIBC_9."))
    words = the_finding(doctor(site, home), "MSX-70")
    assert "The C library of this system is too old" in words
    assert "GLIBC_9." in words
    assert "--no-binary msal-extensions" in words


def test_a_damaged_native_library_is_told_by_its_hash_and_by_the_loader(
    site: Site, home: Path
) -> None:
    site.library.write_bytes(b"\x7fELF")
    said = doctor(site, home)
    assert said.references == ["MSX-71", "MSX-70"]
    assert site.library.name in said.json["findings"][0]["words"]


def test_a_missing_cffi_is_named(site: Site, home: Path) -> None:
    for binding in site.directory.glob("_cffi_backend*"):
        binding.unlink()
    words = the_finding(doctor(site, home), "MSX-70")
    assert "The package cffi is missing" in words
    assert 'pip install --force-reinstall "cffi>=1.16"' in words
    assert "[MSX-70]" in imported(site, home, NAMES)


# ---- MSAL and Python ----


def test_without_msal_each_name_says_so_and_so_does_doctor(site: Site, home: Path) -> None:
    site.remove("msal")
    words = the_finding(doctor(site, home), "MSX-72")
    assert words == 'The package msal is missing. | pip install "msal>=1.29,<2"'
    names, _ = imported(site, home, NAMES).splitlines()[::-1]
    assert "No module named 'msal'" in names
    assert names.endswith("[MSX-72]")


@pytest.mark.parametrize("version", ["1.28.0", "0.9", "2.0.0", "3.1rc1"])
def test_an_msal_that_is_not_allowed_is_a_problem_but_stops_nothing(
    site: Site, home: Path, version: str
) -> None:
    site.put_msal_version(version)
    words = the_finding(doctor(site, home), "MSX-72")
    assert f"MSAL {version} is installed, and this package needs msal>=1.29,<2" in words


def test_an_msal_that_cannot_be_imported_is_named(site: Site, home: Path) -> None:
    site.put("msal/__init__.py", "raise ZeroDivisionError('broken')")
    words = the_finding(doctor(site, home), "MSX-72")
    assert "cannot be imported: ZeroDivisionError: broken" in words
    assert "[MSX-7" in imported(site, home, NAMES)


def test_an_msal_without_what_we_need_of_it_is_told_once(site: Site, home: Path) -> None:
    site.put("msal/__init__.py", "__version__ = '0.1'\n")
    site.put_msal_version("0.1")
    assert "MSAL 0.1 is installed" in the_finding(doctor(site, home), "MSX-72")


def test_a_python_that_is_too_old_is_told(site: Site, home: Path) -> None:
    metadata = site.record.with_name("METADATA")
    text = metadata.read_text().replace("Requires-Python: >=3.10", "Requires-Python: >=3.99")
    metadata.write_text(text)
    words = the_finding(doctor(site, home), "MSX-70")
    assert words.endswith("the package needs >=3.99. | Use Python >=3.99.")


# ---- the other commands ----


@pytest.mark.parametrize("arguments", [["status"], ["clear", "az", "--yes"], ["prune", "az"]])
def test_no_command_touches_anything_with_the_files_of_another_package(
    site: Site, home: Path, arguments: list[str]
) -> None:
    (home / ".azure").mkdir()
    cache = home / ".azure" / "msal_token_cache.json"
    cache.write_text('{"AccessToken": {}}')
    site.put_pure_over()
    environment = site.environment(home)
    said = command.run(*arguments, "--json", environment=environment, python=site.python)
    the_finding(said, "MSX-71")
    assert cache.read_text() == '{"AccessToken": {}}'
    assert [path.name for path in home.iterdir()] == [".azure"]


def test_explain_works_with_no_other_package_at_all(site: Site, home: Path) -> None:
    for path in site.directory.iterdir():
        if path.is_symlink():
            path.unlink()
    site.library.unlink()
    environment = site.environment(home)
    said = command.run("explain", "MSX-70", environment=environment, python=site.python)
    assert (said.status, said.errors) == (command.FINE, "")
    assert "native library" in said.text
