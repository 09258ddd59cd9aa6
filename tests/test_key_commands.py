"""A command that prints the key: what it may print, how long it may take, what is left of it."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest

from msal_extensions import CommandKey, EncryptedFilePersistence, KeyUnavailable
from msal_extensions._stores import command
from msal_extensions.errors import PersistenceError
from tests.support.capability import requires
from tests.support.key_sources import COMMAND_S, text_of
from tests.support.leftovers import left_behind
from tests.support.processes import eventually, python

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
#: A secret that a program prints where it should not.
CANARY = "canary-of-the-command"
ROOT = Path(__file__).resolve().parents[1]


def printing(text: str, then: str = "") -> list[str]:
    code = f"import sys; sys.stdout.write({text!r}); sys.stdout.flush()\n" + textwrap.dedent(then)
    return [sys.executable, "-c", code]


def refused(key: CommandKey) -> KeyUnavailable:
    """The error of a command; it holds nothing that the command said."""
    with pytest.raises(KeyUnavailable) as caught:
        key.ring()
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
    assert CANARY not in said
    assert CANARY.encode() not in pickle.dumps(caught.value)
    assert text_of(KEY) not in said
    return caught.value


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def children() -> set[str]:
    """The processes that this one has started and not waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_command_prints_what_a_key_file_contains(end: str) -> None:
    assert [*CommandKey(printing(text_of(KEY) + end), COMMAND_S).ring().values()] == [KEY]
    two = CommandKey(printing(text_of(OTHER) + "\n" + text_of(KEY) + end), COMMAND_S)
    assert [*two.ring().values()] == [OTHER, KEY]


def test_a_command_may_print_32_bytes_as_they_are() -> None:
    code = f"import sys; sys.stdout.buffer.write({KEY!r})"
    assert [*CommandKey([sys.executable, "-c", code], COMMAND_S).ring().values()] == [KEY]


def test_a_command_may_print_4096_bytes_and_no_more() -> None:
    whole, more = (printing(text_of(KEY).ljust(size)) for size in (4096, 4097))
    assert [*CommandKey(whole, COMMAND_S).ring().values()] == [KEY]
    assert "more than a key" in str(refused(CommandKey(more, COMMAND_S)))


def test_a_command_that_prints_its_key_in_parts_is_heard_to_the_end() -> None:
    then = f"""
        import time
        for part in {text_of(KEY)[20:]!r}:
            time.sleep(0.01)
            print(part, end="", flush=True)
        """
    key = CommandKey(printing(text_of(KEY)[:20], then), COMMAND_S)
    assert [*key.ring().values()] == [KEY]


@pytest.mark.parametrize("argv", ["pass show x", b"pass", [], ()])
def test_a_command_that_is_no_list_of_arguments_is_a_value_error(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="as a list"):
        CommandKey(argv)


def test_a_missing_program_is_told_when_the_persistence_is_made(tmp_path: Path) -> None:
    for program in ("no-such-program-here", str(tmp_path / "no-such-program")):
        with pytest.raises(KeyUnavailable, match="no such program") as caught:
            EncryptedFilePersistence(tmp_path / "cache", CommandKey([program]))
        assert caught.value.location == program
        assert "full path" in str(caught.value)


def test_a_program_that_went_away_later_is_told_with_the_words_of_the_system() -> None:
    assert refused(CommandKey(["no-such-program-here"])).errno == 2


@requires("os.fork")
def test_a_file_that_is_no_program_is_told_with_the_words_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(CANARY)
    (tmp_path / "text").chmod(0o755)
    error = refused(CommandKey([str(tmp_path / "text")]))
    assert error.errno is not None
    assert "full path of a program" in str(error)


def test_a_command_that_fails_is_refused_even_if_it_printed_a_key() -> None:
    error = refused(CommandKey(printing(text_of(KEY), "sys.exit(3)"), COMMAND_S))
    assert "failed: 3" in str(error)
    assert "Run it by hand" in str(error)


@pytest.mark.parametrize("output", ["", "\n", CANARY, "00" * 32, text_of(KEY) + "\n" + CANARY])
def test_a_command_that_prints_no_key_is_refused(output: str) -> None:
    assert "Base64 of 32 bytes" in str(refused(CommandKey(printing(output), COMMAND_S)))


def test_a_command_that_prints_for_ever_is_ended() -> None:
    then = f"""
        while True:
            sys.stdout.write({CANARY!r} * 100)
        """
    assert "more than a key" in str(refused(CommandKey(printing("", then), COMMAND_S)))


def test_a_command_that_prints_slowly_for_ever_is_ended_when_its_time_is_over() -> None:
    then = """
        import time
        while True:
            print(flush=True)
            time.sleep(0.005)
        """
    assert "did not end within 1 s" in str(refused(CommandKey(printing("", then), 1)))


def test_what_a_command_says_beside_is_in_no_message_and_no_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    then = f"sys.stderr.write({CANARY!r}); sys.stderr.flush(); sys.exit(1)"
    key = CommandKey(printing(CANARY, then), COMMAND_S)
    refused(key)
    output = capfd.readouterr()
    assert CANARY not in caplog.text + output.out + output.err
    assert CANARY not in str(refused(CommandKey(printing(CANARY), COMMAND_S)))


def test_a_command_has_no_input_that_it_could_wait_for() -> None:
    code = f"""
        from msal_extensions import CommandKey
        argv = {[sys.executable, "-c", f"print({text_of(KEY)!r} + open(0).read())"]!r}
        print(len(CommandKey(argv, {COMMAND_S}).ring()))
        """
    program = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == [b"1"]  # and the input is still open


def test_what_a_program_prints_just_before_its_end_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy() -> float:
        time.sleep(1)  # in which the program ends
        return time.monotonic()

    then = f"import time; time.sleep(0.1); print({text_of(KEY)[20:]!r})"
    clock = SimpleNamespace(monotonic=busy, sleep=time.sleep)
    monkeypatch.setattr(command, "time", clock)
    assert [*CommandKey(printing(text_of(KEY)[:20], then), 1000).ring().values()] == [KEY]


# ---- a program that does not end ----------------------------------------------------------


@requires("os.fork")
def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! $$ > {pids}; echo {CANARY}; sleep 1000"
    before = children()
    error = refused(CommandKey(["sh", "-c", script], timeout=5))
    assert "did not end within 5 seconds" in str(error)
    assert eventually(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))
    assert children() == before


@requires("os.fork")
@pytest.mark.parametrize("start", ["sleep 1000 &", "setsid sleep 1000 &"])
def test_a_program_left_behind_does_not_hold_the_key_up(tmp_path: Path, start: str) -> None:
    """A password manager may start a daemon that keeps the pipe open."""
    pid = tmp_path / "pid"
    argv = ["sh", "-c", f"{start} echo $! > {pid}; echo {text_of(KEY)}"]
    try:
        assert [*CommandKey(argv, timeout=COMMAND_S).ring().values()] == [KEY]
        if "setsid" not in start:
            assert eventually(lambda: not is_alive(int(pid.read_text())))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


@requires("os.fork")
def test_a_command_that_closes_its_output_has_to_end_as_well() -> None:
    argv = ["sh", "-c", f"echo {text_of(KEY)}; exec >&-; sleep 1000"]
    assert "did not end within 1 s" in str(refused(CommandKey(argv, timeout=1)))
    argv = ["sh", "-c", f"echo {text_of(KEY)}; exec >&-; sleep 0.3"]
    assert [*CommandKey(argv, timeout=COMMAND_S).ring().values()] == [KEY]


@requires("os.fork")
def test_ctrl_c_ends_the_wait_and_the_command(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = """
        import os, signal, sys, threading, time
        from msal_extensions import CommandKey
        def interrupt():
            while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read().strip():
                time.sleep(0.01)
            interrupt.at = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            CommandKey(["sh", "-c", "echo $$ > " + sys.argv[1] + "; sleep 1000"], 900).ring()
        except KeyboardInterrupt:
            print(time.monotonic() - interrupt.at)
        """
    assert float(python(code, str(pid)).stdout) < 5  # it takes some milliseconds
    number = int(pid.read_text())

    def is_gone() -> bool:
        try:  # another process may have its number by now
            return (
                not is_alive(number) or b"sleep" not in Path(f"/proc/{number}/cmdline").read_bytes()
            )
        except OSError:
            return True

    assert eventually(is_gone)


@pytest.mark.slow
@requires("os.fork")
@pytest.mark.parametrize(
    ("script", "timeout"),
    [
        (f"echo {text_of(KEY)}", COMMAND_S),
        (f"sleep 1000 & echo {text_of(KEY)}", COMMAND_S),
        ("exit 3", COMMAND_S),
        ("yes", COMMAND_S),
        ("sleep 1000", 0.02),
        ("exec no-such-program", COMMAND_S),
    ],
)
def test_no_thread_descriptor_or_process_is_left_of_a_command(script: str, timeout: float) -> None:
    def ask() -> None:
        with contextlib.suppress(PersistenceError):
            CommandKey(["sh", "-c", script], timeout).ring()

    before = children()
    left = left_behind(ask, turns=30)
    assert (left["threads"], left["descriptors"]) == (0, 0)
    assert children() == before


@requires("os.fork")
def test_a_hanging_command_does_not_keep_other_threads_from_running() -> None:
    code = """
        import threading, time
        from msal_extensions import CommandKey, KeyUnavailable
        def ask():
            try:
                CommandKey(["sleep", "1000"], 2).ring()
            except KeyUnavailable:
                pass
        thread, turns = threading.Thread(target=ask), 0
        thread.start()
        while thread.is_alive():
            time.sleep(0.01)
            turns += 1
        print(turns)
        """
    assert int(python(code).stdout) > 10


def test_a_negative_time_waits_for_ever() -> None:
    then = f"import time; time.sleep(0.3); print({text_of(KEY)!r})"
    assert [*CommandKey(printing("", then), -1).ring().values()] == [KEY]


@requires("os.fork")
def test_the_command_gets_no_descriptor_of_this_process(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        argv = ["sh", "-c", f"ls -l /proc/self/fd > {tmp_path / 'seen'}; echo {text_of(KEY)}"]
        CommandKey(argv, COMMAND_S).ring()
    assert str(tmp_path / "open") not in (tmp_path / "seen").read_text()
