"""What the C library frees holds no secret any more, whatever failed before.

tests/native/linux/wiped.c looks into each block at the moment when it is freed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import keyring, native
from tests.support.capability import needs, requires
from tests.support.native import CSRC, LINUX, PLAIN

pytestmark = [pytest.mark.slow, requires("fcntl")]

#: The linker's options; -U: with fortified calls the functions would have other names.
WRAP = (
    "-Wl,--wrap=free,--wrap=malloc,--wrap=realloc,--wrap=read,--wrap=pwrite,--wrap=openat",
    "-U_FORTIFY_SOURCE",
)
SERVICE = "A secret of the Secret Service is wiped"


class Wipe(NamedTuple):
    """A wipe of the library, and the same place without it."""

    file: str
    text: str
    without: str
    broken: set[str]  #: the properties that need it; others may need it, too


WIPES = {
    "buffer_free": Wipe(
        "buffer.c",
        "    msalex__wipe(buffer->data, buffer->size);\n",
        "",
        {"What was loaded is wiped", "A copy that is made or not leaves nothing"},
    ),
    "a smaller block": Wipe(
        "content_posix.c",
        "            msalex_buffer_free(content);\n",
        "            free(content->data);\n",
        {"A load of a file that grows wipes its smaller blocks"},
    ),
    "a load that fails": Wipe(
        "content_posix.c",
        "        msalex_buffer_free(content);\n    return code;\n",
        "        free(content->data), *content = (msalex_buffer){0};\n    return code;\n",
        {
            "A load that fails half-way wipes what it has",
            "A load that gets no larger block wipes the small one",
        },
    ),
    "the old content": Wipe(
        "content_posix.c",
        "    msalex_buffer_free(&content);\n",
        "    free(content.data);\n",
        {"A write in place wipes the old content"},
    ),
    "a call that is dropped": Wipe(
        "libsecret_linux.c",
        "    msalex_buffer_free(&call->secret);\n    if",
        "    free(call->secret.data);\n    if",
        {SERVICE},
    ),
    "a call in a child": Wipe(
        "libsecret_linux.c",
        "        msalex_buffer_free(&call->secret);\n        (void)close",
        "        free(call->secret.data);\n        (void)close",
        {SERVICE},
    ),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a session with a real Secret Service."""
    needs(keyring.missing())
    with keyring.running(tmp_path_factory.mktemp("keyring")) as service:
        yield dict(service.environment)


def build(directory: Path, wipe: Wipe | None = None) -> Path:
    """The program, with the library as it is, or without that wipe."""
    files = native.library()
    if wipe is not None:
        changed, text = directory / wipe.file, (CSRC / wipe.file).read_text(encoding="utf-8")
        assert text.count(wipe.text) == 1, "the test does not know this place of the library"
        changed.write_text(text.replace(wipe.text, wipe.without), encoding="utf-8")
        files = [changed if file.name == wipe.file else file for file in files]
        assert changed in files
    program = [LINUX / "wiped.c", *native.HARNESS, *files]
    return native.build(directory / "wiped", program, *PLAIN, *WRAP)


def run(program: Path, session: dict[str, str]) -> tuple[int, list[str]]:
    """Its status, and the lines that it printed."""
    done = subprocess.run(
        [program],
        env=native.environment(**session, TMPDIR=str(program.parent)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    print(done.stdout)
    return done.returncode, done.stdout.splitlines()


def test_no_block_that_the_library_frees_holds_a_secret(
    session: dict[str, str], tmp_path: Path
) -> None:
    status, said = run(build(tmp_path), session)
    assert status == 0
    assert f"ok: {SERVICE}" in said


@pytest.mark.parametrize("wipe", WIPES.values(), ids=WIPES)
def test_the_search_notices_a_wipe_that_is_missing(
    wipe: Wipe, session: dict[str, str], tmp_path: Path
) -> None:
    status, said = run(build(tmp_path, wipe), session)
    assert status == 1
    failed = {line.removeprefix("FAILED: ") for line in said if line.startswith("FAILED: ")}
    assert failed >= wipe.broken
    assert wipe.file == "buffer.c" or failed == wipe.broken
