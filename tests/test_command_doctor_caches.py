"""doctor on a machine that is broken in one way: files, directories, disks, locks.

Each test breaks something for real, and where that can be done follows the remedy.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from msal_extensions import EncryptedFilePersistence, KeyFile
from tests.support import file_systems
from tests.support.capability import needs, requires
from tests.support.command import WARNINGS, session
from tests.support.doctor import Both, doctor, doctor_here, is_fine, the_finding, warned
from tests.support.doctor import home as home
from tests.support.key_sources import new_key
from tests.support.processes import saying
from tests.support.users import THEM, US, as_user, directory, file, link
from tests.support.users import shared as shared

pytestmark = requires("fcntl", "os.geteuid")

KEY_FILE = "MSAL_EXTENSIONS_KEY_FILE"
CONTENT = '{"AccessToken": {}}'
CANARY = "canary-a0c3"


@pytest.fixture
def cache(home: Path) -> Path:
    """A plain file with a token cache that has no tokens, so that nothing warns of them."""
    made = home / "cache.json"
    made.touch(0o600)
    made.write_text(CONTENT)
    return made


def tree(top: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory."""
    return {
        str(path.relative_to(top)): (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(top.rglob("*"))
    }


def test_a_healthy_cache_is_tried_and_nothing_of_the_trial_stays(home: Path, cache: Path) -> None:
    before = tree(home)
    said = doctor(f"plain:{cache}", environment=session(home))
    assert is_fine(said)
    assert "read back" in said.check(f"saving to plain:{cache}")
    assert re.match(r"writable, \d+ [kMGT]?B free", said.check(f"directory {home}"))
    assert tree(home) == before


def test_a_place_that_is_not_there_is_looked_at_where_it_would_be(home: Path) -> None:
    said = doctor(f"plain:{home}/a/b/cache.json", environment=session(home))
    assert is_fine(said)
    assert said.check(f"directory {home}").startswith("writable")
    assert list(home.iterdir()) == []


# ---- disks ----


def on_a_disk(top: Path, *commands: str) -> list[str]:
    """Runs a program with a small disk of its own at this directory, after these commands."""
    needs(file_systems.missing("tmpfs"))
    mount = 'mount -t tmpfs -o size=64k,mode=700 none "$0"; cd "$0"; mountpoint -q .'
    script = "; ".join([mount, *commands, 'cd /; exec "$@"'])
    return ["unshare", "--mount", "sh", "-ec", script, str(top)]


#: More than the small disk has, and no more: a mistake here must not fill a real disk.
FILL = "dd if=/dev/zero of=filler bs=4k count=32 2>/dev/null || true"
MAKE = f"umask 077; echo '{CONTENT}' > cache.json"


def test_a_read_only_disk_is_told(home: Path) -> None:
    place, environment = f"plain:{home}/cache.json", session(home.parent)
    around = on_a_disk(home, MAKE, "mount -o remount,ro .")
    said = doctor(place, environment=environment, around=around)
    the_finding(said, "MSX-26", "read-only", str(home))
    around = on_a_disk(home, MAKE, "mount -o remount,ro .", "mount -o remount,rw .")
    assert is_fine(doctor(place, environment=environment, around=around))


def test_a_full_disk_is_told_and_free_space_mends_it(home: Path) -> None:
    place, environment = f"plain:{home}/cache.json", session(home.parent)
    around = on_a_disk(home, MAKE, FILL)
    said = doctor(place, environment=environment, around=around)
    the_finding(said, "MSX-28", "No space is left", str(home))
    around = on_a_disk(home, MAKE, FILL, "rm filler")
    assert is_fine(doctor(place, environment=environment, around=around))


def test_a_disk_that_can_have_no_more_files_is_told(home: Path) -> None:
    many = "mount -o remount,nr_inodes=3 ."
    around = on_a_disk(home, MAKE, "touch other", many)
    said = doctor(f"plain:{home}/cache.json", environment=session(home.parent), around=around)
    the_finding(said, "MSX-28", "can have no more files")


def test_a_save_that_fails_is_told_where_nothing_else_shows_it(home: Path, cache: Path) -> None:
    around = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]
    said = doctor(f"plain:{cache}", environment=session(home), around=around)
    the_finding(said, "MSX-30", "A trial to save failed")
    assert os.listdir(home) == [cache.name]
    assert is_fine(doctor(f"plain:{cache}", environment=session(home)))


def test_a_network_file_system_is_named_and_no_problem(home: Path) -> None:
    needs(file_systems.missing("bindfs"))
    make = ["sh", "-ec", f'{MAKE}; exec "$@"', "sh"]
    around = file_systems.on("bindfs", home, make, home / "here")
    said = doctor(f"plain:{home}/here/cache.json", environment=session(home.parent), around=around)
    assert is_fine(said)
    assert "network file system or FUSE" in said.check(f"directory {home}/here")


# ---- files ----


def test_a_damaged_cache_is_told_and_shows_nothing_of_it(home: Path) -> None:
    (home / ".azure").mkdir(mode=0o700)
    cache = home / ".azure" / "msal_token_cache.json"
    cache.touch(0o600)
    cache.write_text('{"AccessToken": {"' + CANARY)
    environment = session(home)
    said = doctor(environment=environment)
    found = the_finding(said, "MSX-41")
    assert found["about"] == "az"
    assert CANARY not in said.text + str(said.json)
    cache.unlink()
    assert is_fine(doctor(environment=environment))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"msalex-enc/1", b"msalex-enc/9", 1))


@pytest.mark.parametrize(
    ("change", "reference"), [(flip, "MSX-56"), (newer, "MSX-57")], ids=["changed", "newer"]
)
def test_an_encrypted_file_that_cannot_be_opened_is_told_and_kept(
    home: Path, change: Callable[[Path], None], reference: str
) -> None:
    key, path = new_key(home.parent / "key"), home / "cache.bin"
    EncryptedFilePersistence(path, KeyFile(key)).save(CONTENT)
    environment = {**session(home), KEY_FILE: str(key)}
    backup = path.read_bytes()
    change(path)
    before = tree(home)
    found = the_finding(doctor(str(path), environment=environment), reference)
    assert found["about"] == str(path)
    assert tree(home) == before
    path.write_bytes(backup)  # as the remedy says
    assert is_fine(doctor(str(path), environment=environment))


def test_a_key_beside_the_file_is_a_warning(home: Path) -> None:
    key, path = new_key(home / "key"), home / "cache.bin"
    EncryptedFilePersistence(path, KeyFile(key)).save(CONTENT)
    warned(doctor(str(path), environment={**session(home), KEY_FILE: str(key)}), "MSX-59")
    elsewhere = key.replace(home.parent / "key")
    assert is_fine(doctor(str(path), environment={**session(home), KEY_FILE: str(elsewhere)}))


def test_a_directory_at_the_location_is_told(home: Path) -> None:
    place = f"plain:{home}/cache.json"
    (home / "cache.json").mkdir(mode=0o700)
    the_finding(doctor(place, environment=session(home)), "MSX-24", "directory")
    (home / "cache.json").rmdir()
    assert is_fine(doctor(place, environment=session(home)))


def test_a_mode_that_lets_others_read_is_a_warning_that_names_the_command(
    home: Path, cache: Path
) -> None:
    cache.chmod(0o644)
    found = warned(doctor(f"plain:{cache}", environment=session(home)), "MSX-34", "0644")
    assert found["remedy"] == f"chmod go-rwx {cache}"
    cache.chmod(0o600)
    assert is_fine(doctor(f"plain:{cache}", environment=session(home)))


def test_a_directory_where_everybody_may_write_is_a_problem(home: Path, cache: Path) -> None:
    home.chmod(0o777)
    the_finding(doctor(f"plain:{cache}", environment=session(home)), "MSX-34")
    home.chmod(0o700)
    assert is_fine(doctor(f"plain:{cache}", environment=session(home)))


def test_a_file_from_the_future_is_a_warning(home: Path, cache: Path) -> None:
    later = time.time() + 7200
    os.utime(cache, (later, later))
    warned(doctor(f"plain:{cache}", environment=session(home)), "MSX-36", "in the future")
    os.utime(cache)
    assert is_fine(doctor(f"plain:{cache}", environment=session(home)))


# ---- other users ----


def look_as_us(place: str, home: Path) -> Both:
    """doctor, run by a user that is not root."""

    def look() -> Both:
        os.environ["HOME"] = str(home)
        return doctor_here(place)

    return as_user(US, look)


def test_a_link_of_another_user_in_the_way_is_told_and_not_followed(shared: Path) -> None:
    home = directory(shared / "home", US, 0o700)
    precious = file(home / "precious", CANARY, US, 0o600)
    public = directory(shared / "public", 0, 0o1777)
    planted = link(public / "cache.json", precious, THEM)
    said = look_as_us(f"plain:{planted}", home)
    found = the_finding(said, "MSX-27")
    assert found["remedy"].startswith("Remove it")
    assert CANARY not in said.text + str(said.json)
    planted.unlink()
    assert is_fine(look_as_us(f"plain:{planted}", home))


def test_a_directory_that_this_user_may_not_write_to_is_told(shared: Path) -> None:
    home = directory(shared / "home", US, 0o700)
    place = f"plain:{directory(shared / 'theirs', THEM, 0o755)}/cache.json"
    the_finding(look_as_us(place, home), "MSX-25", "may not write")


# ---- locks ----

HOLD = """
import sys
from msal_extensions import CrossPlatLock
with CrossPlatLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_a_live_process_holds_for_long_is_told_with_its_holder(
    home: Path, cache: Path
) -> None:
    lock = Path(f"{cache}.lockfile")
    environment = session(home)
    with saying("held", [sys.executable, "-c", HOLD, str(lock)], environment) as holder:
        long_ago = time.time() - 600
        os.utime(lock, (long_ago, long_ago))
        said = doctor(f"plain:{cache}", environment=environment)
        warned(said, "MSX-60", str(holder.pid))
        assert stat.S_ISREG(lock.lstat().st_mode)
    said = doctor(f"plain:{cache}", environment=environment)
    assert said.status <= WARNINGS
    assert "MSX-60" not in said.references
