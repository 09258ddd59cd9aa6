"""The lock on Windows: in time, healed, and beside the other libraries as they are there."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock, LockError
from msal_extensions._native import lock as native_lock
from tests.support.capability import needs
from tests.support.processes import Member, crowd, python, together
from tests.support.reference import reference_python

GENEROUS = 60  # seconds, for a step that should take no time
LATE_S = 0.05  # the promise of the lock; Wine has no queue, so ours polls every 10 ms
OURS = [sys.executable]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin.lockfile"


@pytest.fixture
def dotnet() -> list[str]:
    """A program that takes the lock as MSAL.NET does: peer_lock.c."""
    program = os.environ.get("MSALEX_PEER_LOCK")
    needs(None if program else "MSALEX_PEER_LOCK names no program")
    return [str(program), "dotnet"]


@pytest.fixture
def golang(dotnet: list[str]) -> list[str]:
    """The same, as MSAL Go does."""
    return [dotnet[0], "go"]


@contextlib.contextmanager
def running(command: list[str], **options: str) -> Generator[subprocess.Popen[str]]:
    """A program that holds the lock once it has said so."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **options},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def holder(path: Path) -> list[str]:
    """Prints the time just before it releases."""
    code = (
        "import sys, time; from msal_extensions import CrossPlatLock\n"
        "with CrossPlatLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    print(time.time_ns(), flush=True)"
    )
    return [*OURS, "-c", code, str(path)]


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_eight_processes_increment_a_counter_without_losing_one(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    crowd(
        """
        import pathlib
        from msal_extensions import CrossPlatLock
        counter = pathlib.Path(sys.argv[2])
        ready()
        for _ in range(40):
            with CrossPlatLock(sys.argv[2] + ".lockfile", timeout=60):
                counter.write_text(str(int(counter.read_text()) + 1))
        """,
        8,
        str(counter),
    )
    print(f"{counter.read_text()} of 320 locked increments")
    assert counter.read_text() == "320"
    assert os.listdir(tmp_path) == ["counter"]


@pytest.mark.parametrize("timeout", [0.1, 0.5, 1.0])
def test_a_waiter_gives_up_at_its_deadline(timeout: float, path: Path) -> None:
    with running(holder(path)):
        before = time.monotonic()
        with pytest.raises(LockError):
            CrossPlatLock(path, timeout=timeout).acquire()
        late = time.monotonic() - before - timeout
    print(f"gave up {late * 1000:.1f} ms after its deadline of {timeout} s")
    assert -time.get_clock_info("monotonic").resolution <= late < LATE_S


@pytest.mark.parametrize("end", ["release", "TerminateProcess"])
def test_a_waiter_is_in_soon_after_the_holder_has_gone(end: str, path: Path) -> None:
    took = []
    for _ in range(7):
        with running(holder(path)) as process:
            entered: list[int] = []

            def wait(entered: list[int] = entered) -> None:
                with CrossPlatLock(path, timeout=GENEROUS):
                    entered.append(time.time_ns())

            waiter = threading.Thread(target=wait)
            waiter.start()
            time.sleep(0.2)
            if end == "release":
                tell(process)
                assert process.stdout is not None
                ended = int(process.stdout.readline())
            else:
                process.kill()
                process.wait()
                ended = time.time_ns()
            waiter.join()
            took.append((entered[0] - ended) / 1e9)
        assert not path.exists()
    print(
        f"in {statistics.median(took) * 1000:.1f} ms after {end} (median), {max(took):.3f} s most"
    )
    assert statistics.median(took) < LATE_S


def test_ctrl_c_is_seen_within_100_ms(path: Path) -> None:
    code = """
    import os, signal, sys, threading, time
    from msal_extensions import CrossPlatLock
    sent = []
    def interrupt():
        time.sleep(0.3)
        sent.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        CrossPlatLock(sys.argv[1], timeout=60).acquire()
    except KeyboardInterrupt:
        print(time.monotonic() - sent[0])
    """
    with running(holder(path)):
        took = float(python(code, str(path)).stdout)
    print(f"Ctrl-C was seen after {took * 1000:.0f} ms")
    assert took < 0.1


def test_a_held_lock_file_cannot_be_deleted_and_tells_its_holder(path: Path) -> None:
    with CrossPlatLock(path) as lock:
        with pytest.raises(PermissionError):
            path.unlink()
        with pytest.raises(PermissionError):
            path.rename(path.with_suffix(".moved"))
        with pytest.raises(FileExistsError):
            path.open("x")
        assert native_lock.holder(str(path)) == f"{os.getpid()} {sys.argv[0]}"
        assert lock.still_held()
    assert not path.exists()


def test_a_directory_as_lock_file_is_refused_at_once(tmp_path: Path) -> None:
    before = time.monotonic()
    with pytest.raises(LockError, match="regular file") as caught:
        CrossPlatLock(tmp_path, timeout=GENEROUS).acquire()
    assert isinstance(caught.value, OSError)
    assert time.monotonic() - before < GENEROUS / 2


def test_paths_may_be_long_and_of_any_script(tmp_path: Path) -> None:
    deep = tmp_path
    for part in ("Jürgen Müller", "токены", "x" * 100, "y" * 100):
        deep = Path("\\\\?\\" + str(deep / part).removeprefix("\\\\?\\"))
        deep.mkdir()
    path = str(deep / "🔑.lockfile").removeprefix("\\\\?\\")
    assert len(path) > 260
    with CrossPlatLock(path) as lock:
        assert lock.still_held()
        with pytest.raises(LockError):
            CrossPlatLock("\\\\?\\" + path, timeout=0).acquire()
    assert not os.path.exists("\\\\?\\" + path)


# ---- MSAL.NET ----------------------------------------------------------------------------


def test_dotnet_is_kept_out_while_we_hold_it(path: Path, dotnet: list[str]) -> None:
    with CrossPlatLock(path) as lock:
        once = subprocess.run([*dotnet, "once", str(path)], capture_output=True, text=True)
        assert once.stdout == "32\n"  # ERROR_SHARING_VIOLATION
        assert lock.still_held()


def test_we_wait_while_dotnet_holds_it(path: Path, dotnet: list[str]) -> None:
    with running([*dotnet, "hold", str(path)]) as process:
        for timeout in (0, 0.5):
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=timeout).acquire()
        threading.Timer(0.3, tell, (process,)).start()
        before = time.monotonic()
        with CrossPlatLock(path, timeout=GENEROUS):
            assert process.wait(GENEROUS) == 0
        print(f"in {(time.monotonic() - before - 0.3) * 1000:.0f} ms after it was told to let go")
    assert not path.exists()


@pytest.mark.parametrize("library", ["dotnet", "golang"])
def test_the_others_and_ours_lose_no_increment(
    library: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    program: list[str] = request.getfixturevalue(library)
    counter, path = tmp_path / "counter", tmp_path / "lockfile"
    counter.write_text("0")
    count = [*program, "count", str(path), str(counter), "20"]
    others = [subprocess.Popen(count) for _ in range(2)]
    crowd(
        """
        import pathlib, time
        from msal_extensions import CrossPlatLock
        counter = pathlib.Path(sys.argv[2])
        ready()
        for _ in range(20):
            with CrossPlatLock(sys.argv[3], timeout=60):
                counter.write_text(str(int(counter.read_text()) + 1))
            time.sleep(0.02)
        """,
        2,
        str(counter),
        str(path),
    )
    assert [other.wait(GENEROUS) for other in others] == [0, 0]
    print(f"{counter.read_text()} of 80 increments by two of each")
    assert counter.read_text() == "80"


# ---- MSAL Go -----------------------------------------------------------------------------


def test_go_is_kept_out_while_we_hold_it(path: Path, golang: list[str]) -> None:
    with CrossPlatLock(path) as lock:
        once = subprocess.run([*golang, "once", str(path)], capture_output=True, text=True)
        assert once.stdout == "33\n"  # ERROR_LOCK_VIOLATION
        assert lock.still_held()


def test_we_wait_while_go_holds_it(path: Path, golang: list[str]) -> None:
    with running([*golang, "hold", str(path)]) as process:
        for timeout in (0, 0.5):
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=timeout).acquire()
        threading.Timer(0.3, tell, (process,)).start()
        with CrossPlatLock(path, timeout=GENEROUS):
            assert process.wait(GENEROUS) == 0
    assert not path.exists()


def test_go_that_died_inside_does_not_block_us(path: Path, golang: list[str]) -> None:
    with running([*golang, "hold", str(path)]) as process:
        process.kill()
        process.wait()
        assert path.exists()
        with CrossPlatLock(path, timeout=2):
            pass
    assert not path.exists()


# ---- 1.3.1 -------------------------------------------------------------------------------

ENTER = (
    "import sys; from msal_extensions import CrossPlatLock\n"
    "with CrossPlatLock(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.readline()"
)


@pytest.mark.parametrize("portalocker", [True, False], ids=["with portalocker", "without"])
def test_the_reference_and_ours_keep_each_other_out(portalocker: bool, path: Path) -> None:
    command, env = reference_python(portalocker)
    with running([*command, "-c", ENTER, str(path)], PYTHONPATH=env["PYTHONPATH"]) as process:
        for timeout in (0, 0.5):
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=timeout).acquire()
        threading.Timer(0.3, tell, (process,)).start()
        with CrossPlatLock(path, timeout=GENEROUS):
            assert process.wait(GENEROUS) == 0
            refused = subprocess.run(
                [*command, "-c", ENTER, str(path)],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=GENEROUS,
            )
            assert "held" not in refused.stdout
            assert "LockError" in refused.stderr or "LockException" in refused.stderr
    assert not path.exists()


@pytest.mark.parametrize("portalocker", [True, False], ids=["with portalocker", "without"])
def test_the_reference_that_died_inside_does_not_block_us(portalocker: bool, path: Path) -> None:
    command, env = reference_python(portalocker)
    with running([*command, "-c", ENTER, str(path)], PYTHONPATH=env["PYTHONPATH"]) as process:
        process.kill()
        process.wait()
        assert path.exists()
        with CrossPlatLock(path, timeout=2):
            pass
    assert not path.exists()


# ---- peers that only poll ----------------------------------------------------------------

#: For how many seconds a crowd keeps the lock busy; a gap comes after 4.1.
BUSY_S = float(os.environ.get("MSALEX_BUSY_S", "9"))

BUSY = """
import os, time
from msal_extensions import CrossPlatLock
path, marker, end, refused, entered = sys.argv[2], sys.argv[3], sys.argv[4], 0, 0
ready()
end = time.monotonic() + float(end)
while time.monotonic() < end:
    try:
        with CrossPlatLock(path):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            time.sleep(0.01)
            os.remove(marker)
            entered += 1
    except Exception as error:
        if type(error).__name__ != "LockError":
            raise
        refused += 1
    time.sleep(float(sys.argv[5]))
print(entered, refused)
"""

POLLER = """
import os, time
path, marker, end, entered = sys.argv[2], sys.argv[3], sys.argv[4], 0
ready()
end = time.monotonic() + float(end)
while time.monotonic() < end:
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except OSError:
        time.sleep(0.1)
        continue
    os.write(file, str(os.getpid()).encode())
    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    time.sleep(0.01)
    os.remove(marker)
    os.close(file)
    os.remove(path)
    entered += 1
    time.sleep(0.1)
print(entered, 0)
"""


def test_peers_that_only_poll_get_in_beside_a_crowd_of_ours(tmp_path: Path) -> None:
    """Issue 10, part 3: on 8c14919 the poller never got in, and 1.3.1 not once ours were busy."""
    command, env = reference_python(portalocker=False)
    arguments = ("", str(tmp_path / "lockfile"), str(tmp_path / "inside"), str(BUSY_S))
    reference = {"PYTHONPATH": env["PYTHONPATH"]}
    members = [
        *(Member(BUSY, (*arguments, "0")) for _ in range(3)),
        Member(BUSY, (*arguments, "0.1"), command, reference),
        Member(POLLER, arguments),
    ]
    numbers = [tuple(map(int, output.split())) for output in together(members)]
    entered, refused = [one[0] for one in numbers], [one[1] for one in numbers]
    print(
        f"in {BUSY_S:g} s: ours in {entered[:3]} times, 1.3.1 {entered[3]} (refused {refused[3]}),"
        f" a poller {entered[4]}"
    )
    assert min(entered) > 0
    assert refused[:3] == [0, 0, 0]
    assert os.listdir(tmp_path) == []
