"""The token cache among processes, ours and 1.3.1's: no change is lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from samples.local_identity_provider import LocalIdentityProvider
from tests.support.arena import (
    REFRESH_TOKEN,
    ROUNDS,
    Arena,
    loaded,
    missed_by,
    named,
    written_by,
)
from tests.support.capability import LOCK_QUEUE, needs, requires
from tests.support.fakes import assert_met, faked
from tests.support.fakes import fakes_fixture as fakes_fixture
from tests.support.fakes import logs_fixture as logs_fixture
from tests.support.processes import PATIENCE, Member, crowd, together
from tests.support.provider import provider_fixture as provider_fixture
from tests.support.reference import reference_python
from tests.support.sign_in import sign_in_event

pytestmark = [
    pytest.mark.slow,
    requires(LOCK_QUEUE),  # more processes than polling can serve within 5 seconds
]

#: Seconds after which 1.3.1 gives up or, with portalocker, enters without the lock.
REFERENCE_PATIENCE_S = 5.0


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path)


def test_a_sign_in_is_one_lock_and_one_rename(
    provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    needs(None if shutil.which("strace") else "strace is not installed")
    cache, lock = tmp_path / "cache.bin", tmp_path / "cache.bin.lockfile"
    snippet = """
        import json, os, sys
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache, event = PersistedTokenCache(FilePersistence(sys.argv[1])), json.load(sys.stdin)
        cache.add({**event, "client_id": "an earlier one"})
        os.getppid()  # which nobody else calls: a mark
        cache.add(event)
        os.getppid()
    """
    log = tmp_path / "strace"
    calls = "trace=getppid,openat,open,creat,link,linkat,unlink,unlinkat,rename,renameat,renameat2"
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-e", calls, "-o", str(log)),
            *(sys.executable, "-c", textwrap.dedent(snippet), str(cache)),
        ],
        input=sign_in_event(provider),
        capture_output=True,
        text=True,
        timeout=100,
    )
    needs("strace is not allowed to trace" if "ptrace" in done.stderr else None)
    assert done.returncode == 0, done.stderr
    stored = json.loads(cache.read_text())
    assert {kind: len(entries) for kind, entries in stored.items()} == {
        **dict.fromkeys(("AccessToken", "RefreshToken", "IdToken", "AppMetadata"), 2),
        "Account": 1,
    }

    _, traced, _ = re.split(r"getppid\(\).*\n", log.read_text())
    lines = [line for line in traced.splitlines() if " = -1 " not in line]

    def count(pattern: str) -> int:
        return sum(1 for line in lines if re.search(pattern, line))

    created = rf'\blinkat\(.*"{lock.name}"|openat\(.*"{lock.name}", .*O_CREAT'
    print("\n".join(lines))
    assert count(created) == 1
    assert count(rf'unlink(at)?\(.*"{lock.name}"') == 1
    assert count(rf'rename\w*\(.*, "{cache.name}"') == 1
    assert count(r"rename\w*\(") == 1


def test_32_processes_modify_and_4_search_and_nothing_is_lost_or_missed(arena: Arena) -> None:
    writers = named("ours", 32)
    outputs = together(arena.writers(writers) + arena.readers(len(writers)))
    expected = arena.seeded | written_by(writers)
    assert arena.stored == expected
    assert missed_by(loaded(outputs[32:])) == {}
    assert {reader["seen"] for reader in loaded(outputs[32:])} == {len(expected)}
    assert sorted(path.name for path in arena.directory.iterdir()) == ["cache.bin", "done"]


@pytest.mark.parametrize("engine", ["portalocker", "bare"])
def test_beside_4_writers_of_1_3_1_nothing_of_ours_is_lost_or_missed(
    tmp_path: Path, engine: str
) -> None:
    ours, theirs = named("ours", 28), named("reference", 4)
    reference = reference_python(portalocker=engine == "portalocker")
    for attempt in range(4):
        arena = Arena(tmp_path / f"{attempt}")
        outputs = together(
            # The pauses leave the lock free now and then when 1.3.1 tries; a machine that is busy
            # with something else needs longer ones.
            arena.writers(ours, pause=0.3 * 2**attempt)
            + arena.writers(theirs, start=reference)
            + arena.readers(len(ours) + len(theirs), pause=0.005)
        )
        of_theirs = loaded(outputs[len(ours) : len(ours) + len(theirs)])
        longest = max(writer["longest"] for writer in of_theirs)
        if engine == "bare" or longest < REFERENCE_PATIENCE_S:
            break
        # This one was inside without the lock, so it may have caused any loss of that time.
    else:
        pytest.fail("1.3.1 lost its patience four times")
    kept = arena.stored
    print(
        f"1.3.1 lost {len(written_by(theirs) - kept)} of its own {len(written_by(theirs))}, gave up"
        f" {sum(writer['gave_up'] for writer in of_theirs)} times, waited {longest:.1f} s at most"
    )
    expected = arena.seeded | written_by(ours)
    assert expected - kept == set()
    missed = missed_by(loaded(outputs[len(ours) + len(theirs) :]))
    assert {name: times for name, times in missed.items() if name in expected} == {}


@pytest.mark.parametrize("engine", ["portalocker", "bare"])
def test_1_3_1_sees_a_change_of_ours_in_the_same_tick_of_the_kernels_clock(
    tmp_path: Path, fakes: Path, logs: Path, engine: str
) -> None:
    """1.3.1 only reloads a file that is younger, by its clock, than its own last save; otherwise it
    would undo our change."""
    location = tmp_path / "cache.bin"
    program = """
        import sys
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
        for name in map(str.strip, sys.stdin):
            entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
            cache.modify("RefreshToken", entry, {"secret": name})
            print("saved", flush=True)
    """
    starts = {
        "reference": reference_python(portalocker=engine == "portalocker"),
        "ours": ([sys.executable], {**os.environ, **faked(fakes, "clock=coarse", logs)}),
    }
    with contextlib.ExitStack() as stack:
        processes = {
            who: stack.enter_context(
                subprocess.Popen(
                    [*command, "-c", textwrap.dedent(program), str(location)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for who, (command, environment) in starts.items()
        }
        for number, (who, process) in itertools.product(range(50), processes.items()):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{who}.{number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "saved\n"
    assert_met("clock=coarse", logs)
    stored = json.loads(location.read_text())[REFRESH_TOKEN].values()
    expected = {f"{who}.{number}" for who in starts for number in range(50)}
    assert {entry["secret"] for entry in stored} == expected


def test_beside_a_process_that_unlinks_the_lock_file_in_a_loop_nothing_of_ours_is_lost(
    arena: Arena,
) -> None:
    """Node does so when it did not get the lock, but far less often."""
    unlinker = """
        import os, pathlib, random, time
        lock, done, writers = sys.argv[1] + ".lockfile", sys.argv[2], int(sys.argv[3])
        ready()
        deleted = 0
        while len(os.listdir(done)) < writers:
            try:
                os.unlink(lock)
                deleted += 1
            except FileNotFoundError:
                pass
            time.sleep(random.uniform(0, 0.003))
        print(deleted)
    """
    writers = named("ours", 8)
    arguments = (str(arena.location), str(arena.done), str(len(writers)))
    *_, deleted = together([*arena.writers(writers), Member(unlinker, arguments)])
    print(f"{int(deleted)} lock files deleted under {8 * ROUNDS} changes")
    assert int(deleted) > 0
    assert arena.stored == arena.seeded | written_by(writers)


def test_of_processes_killed_while_they_write_everything_they_had_written_is_there(
    arena: Arena,
) -> None:
    program = """
        import itertools, sys
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
        for number in itertools.count():
            name = f"{sys.argv[2]}.{number}"
            entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
            cache.modify("RefreshToken", entry, {"secret": name})
            print(name, flush=True)
    """
    said = set()
    for generation in range(3):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(program), str(arena.location), name],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in named(f"killed{generation}.", 8)
        ]
        for process in processes:
            assert process.stdout is not None
            said.add(process.stdout.readline().strip())
        for process in processes:
            process.kill()
        for process in processes:
            said |= set(process.communicate(timeout=PATIENCE)[0].split())
    print(f"{len(said)} changes by 24 processes that were killed")
    assert arena.stored >= arena.seeded | said
    with arena.cache.transaction(timeout=0):
        pass


def test_of_8_processes_that_meet_a_damaged_cache_exactly_one_puts_it_aside(
    tmp_path: Path,
) -> None:
    location, damaged = tmp_path / "cache.bin", b'{"AccessToken": {}} {"extra'
    location.write_bytes(damaged)
    outputs = crowd(
        """
        import json, warnings
        from msal_extensions import FilePersistence, PersistedTokenCache
        warnings.simplefilter("ignore")  # it says so
        cache = PersistedTokenCache(FilePersistence(sys.argv[2]), on_unreadable="quarantine")
        ready()
        if int(sys.argv[1]) % 2:
            found = [entry["secret"] for entry in cache.search("RefreshToken")]
        name = sys.argv[1]
        entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
        cache.modify("RefreshToken", entry, {"secret": name})
        """,
        8,
        str(location),
    )
    assert len(outputs) == 8
    aside = [path for path in tmp_path.iterdir() if path != location]
    assert [path.read_bytes() for path in aside] == [damaged]
    cache = PersistedTokenCache(FilePersistence(location))
    assert {it["secret"] for it in cache.search(REFRESH_TOKEN)} == {str(n) for n in range(8)}


def test_a_subclass_that_locks_for_itself_works_under_msals_operations(
    provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    """Runs in a process, so that a deadlock is a failure and does not stop the tests."""
    provider.token_lifetime = -10
    crowd(
        """
        import os
        import msal
        from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache

        class Cautious(PersistedTokenCache):
            def modify(self, credential_type, old_entry, new_key_value_pairs=None):
                with CrossPlatLock(self._lock_location):
                    super().modify(credential_type, old_entry, new_key_value_pairs)

        app = msal.ConfidentialClientApplication(
            os.environ["CLIENT_ID"], client_credential=os.environ["CLIENT_SECRET"],
            authority=os.environ["AUTHORITY"], instance_discovery=False,
            token_cache=Cautious(FilePersistence(sys.argv[2])))
        ready()
        for _ in range(5):  # expired when it arrives: searched, purged, and added again
            result = app.acquire_token_for_client(["https://graph.microsoft.com/.default"])
            assert result["token_source"] == "identity_provider", result
        """,
        4,
        str(tmp_path / "cache.bin"),
        environment={
            "CLIENT_ID": provider.client_id,
            "CLIENT_SECRET": provider.client_secret,
            "AUTHORITY": provider.authority,
        },
    )
    assert provider.token_requests == {"client_credentials": 20}
