"""The long forms of the tests, which may take hours: what CI tries a few times, many times.

    python3 dev.py prove                 all forms but those in another Debian
    python3 dev.py prove kills soak      some
    python3 dev.py prove --list          what there is, and how long each takes

    --seed N        chooses the same examples again; --examples N, how many of them
    MSALEX_CHROOT   where other Debians are kept, some 3 GB each (default: .venv)

FORMS is the table.  At the end another table says what was tried, in the unit of each form, and how
much of it was lost; then comes the command that repeats the run.  The exit status is 1 if anything
was lost, or if a form tried nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dev import WORKERS
from tests.support import debian
from tests.support.built import copy_of_the_tree

ROOT = Path(__file__).resolve().parents[1]
#: Seconds for one test, unless it has a limit of its own: it guards against a test that hangs.
TEST_S = 4 * 3600
#: Seconds in which an interrupted form may end by itself.
END_S = 60
EXAMPLES = "MSALEX_EXAMPLES"
#: The unit of a form whose tests do not count by themselves.
TESTS = "tests"
#: What runs in another Debian.  Arguments: those of pytest.
TWO_COMMANDS = """
uname -sr; ldd --version | head -n 1; python3 -VV
began=$(date +%s)
python3 dev.py quickstart || exit
echo "prove: quickstart took $(($(date +%s) - began)) s"
began=$(date +%s)
python3 dev.py test "$@"
status=$?
echo "prove: test took $(($(date +%s) - began)) s"
exit $status
"""


class Form(NamedTuple):
    """One long form of some tests."""

    name: str
    says: str  #: what it tries, in one sentence
    unit: str  #: what "tried" counts
    minutes: float  #: on two cores that do nothing else
    file: str  #: of the tests
    tests: Sequence[str] = ()  #: functions in it; none means all
    setting: Mapping[str, str] = MappingProxyType({})  #: for the environment
    reader: str = ""  #: another file that reads the setting, if there is one
    debian: str = ""  #: the release of Debian in which it runs; none means here

    @property
    def readers(self) -> list[str]:
        """The files that may read the setting."""
        return [self.file, *filter(None, [self.reader])]

    @property
    def node_ids(self) -> list[str]:
        """As pytest is told."""
        return [f"{self.file}::{test}" for test in self.tests] or [self.file]


FORMS = (
    Form(
        "model",
        "The cache over a file and over a dictionary does what a model of it says.",
        "examples",
        40,
        "tests/test_cache_model.py",
        setting={EXAMPLES: "10000"},
    ),
    Form(
        "saves",
        "Saves beside an open changes() leave nothing behind and are not told.",
        "saves",
        5,
        "tests/test_cache_endurance.py",
        setting={"MSALEX_CACHE_SAVES": "100000"},
    ),
    Form(
        "changes",
        "A change by another process is told within 100 ms.",
        "changes",
        10,
        "tests/test_changes.py",
        (
            "test_a_change_by_another_process_is_told_within_100_ms_and_found",
            "test_a_change_in_a_real_keyring_is_told_within_100_ms_and_ones_own_is_not",
        ),
        {"MSALEX_CHANGES": "1000"},
    ),
    Form(
        "sign-outs",
        "A sign-out beside a refresh leaves no live token; a purge leaves what was renewed.",
        "sign-outs and purges",
        2,
        "tests/test_sign_out.py",
        (
            "test_a_sign_out_beside_a_refresh_leaves_no_live_refresh_token",
            "test_a_purge_beside_a_renewal_leaves_what_was_renewed",
        ),
        {"MSALEX_SIGN_OUTS": "200"},
    ),
    Form(
        "stores",
        "Crowds lose nothing in a store that lacks a good lock, or that a program wrote.",
        "saves",
        1,
        "tests/test_border.py",
        (
            "test_threads_over_a_store_with_versions_lose_nothing_when_locks_are_stolen",
            "test_processes_over_a_persistence_of_ones_own_lose_nothing",
            "test_a_sealed_file_is_saved_under_the_lease_like_a_plain_one",
        ),
        {"MSALEX_BORDER_SIGN_INS": "60"},
    ),
    Form(
        "kernel-keys",
        "Of 16 processes that make a key of the kernel at once one does, and all find it.",
        "keys",
        1,
        "tests/test_kernel_key.py",
        ("test_of_many_processes_that_add_a_key_at_once_one_does_and_all_find_its_bytes",),
        {"MSALEX_KERNEL_KEYS": "1000"},
    ),
    Form(
        "flight",
        "One of many processes refreshes a token, and all others get the new one.",
        "processes",
        1,
        "tests/test_single_flight_processes.py",
        ("test_one_of_many_processes_refreshes_while_others_save",),
        {"MSALEX_FLIGHT_PROCESSES": "128"},
    ),
    Form(
        "handlers",
        "A change by a signal handler is on disk when the call it interrupted has returned.",
        "changes",
        2,
        "tests/test_nested_changes.py",
        (
            "test_changes_by_a_signal_handler_at_random_moments_are_on_disk_when_the_add_has_returned",
        ),
        {"MSALEX_SIGNALS": "2000"},
    ),
    Form(
        "cache-interrupts",
        "Ctrl-C at random moments beside other threads loses nothing and blocks nobody.",
        "interrupts",
        3,
        "tests/test_cache_interrupts.py",
        setting={"MSALEX_CACHE_INTERRUPTS": "4000"},
    ),
    Form(
        "interrupts",
        "Ctrl-C at every byte code and at random moments leaves no lock that nobody holds.",
        "interrupts",
        20,
        "tests/test_lock_interrupts.py",
        (
            "test_a_lock_made_for_its_with_is_free_after_an_interrupt_at_any_byte_code",
            "test_a_lock_that_the_program_keeps_says_honestly_whether_it_is_held",
            "test_an_interrupt_while_it_is_entered_again_changes_nothing_for_the_outer_one",
            "test_a_wait_that_is_interrupted_or_times_out_holds_nobody_up",
            "test_a_cache_saves_again_at_once_after_an_interrupt_at_any_byte_code",
            "test_the_program_may_save_while_it_handles_the_interrupt",
            "test_interrupts_at_random_moments_leave_nothing_behind",
            "test_a_handler_comes_in_between_at_any_byte_code_of_acquire",
        ),
        {"MSALEX_INTERRUPTS": "20000"},
    ),
    Form(
        "byte-codes",
        "A change made at any byte code of an add() is on disk when that has returned.",
        "changes",
        10,
        "tests/test_nested_changes.py",
        ("test_a_change_at_each_line_of_an_add_is_on_disk_when_that_has_returned",),
        {"MSALEX_INTERRUPTS": "all"},
    ),
    Form(
        "robbed",
        "A lock file deleted, or a directory moved away, during a save costs no change.",
        "saves",
        3,
        "tests/test_robbed_saves.py",
        (
            "test_a_directory_that_is_moved_away_and_made_anew_costs_no_change",
            "test_a_lock_file_that_is_deleted_during_a_save_costs_no_change",
            "test_a_lock_file_that_is_deleted_during_a_slow_rename_costs_no_change",
        ),
        {"MSALEX_ROBBED_SAVES": "200"},
    ),
    Form(
        "swaps",
        "A directory that another user exchanges for a link gives nothing of ours away.",
        "operations",
        15,
        "tests/test_swap_attack.py",
        setting={"MSALEX_SWAP_SAVES": "20000"},
    ),
    Form(
        "damage",
        "A damaged, mixed or planted encrypted file is refused with a typed error in 100 ms.",
        "files",
        1,
        "tests/test_envelope_damage.py",
        ("test_thousands_of_damaged_files_are_refused_with_a_typed_error_and_in_time",),
        {"MSALEX_DAMAGED_FILES": "200000"},
    ),
    Form(
        "fuzz",
        "No bytes make the reader of encrypted files do what it must not.",
        "executions",
        5,
        "tests/test_envelope_fuzzed.py",
        ("test_a_fuzzer_finds_no_bytes_that_the_reader_treats_wrongly",),
        {"MSALEX_FUZZ_S": "300"},
    ),
    Form(
        "fuzz-locks",
        "No bytes in a lock file do harm to the lock.",
        "executions",
        10,
        "tests/test_lock_fuzzed.py",
        ("test_a_fuzzer_finds_no_bytes_in_a_lock_file_that_do_harm",),
        {"MSALEX_FUZZ_S": "300"},
    ),
    Form(
        "kills",
        "After SIGKILL at any system call of the lock a newcomer enters and nothing is left.",
        "kills",
        10,
        "tests/test_lock_kills.py",
        setting={"MSALEX_KILLS": "all"},
    ),
    Form(
        "errnos",
        "The lock neither lies nor hangs when one of its system calls fails with any error.",
        "failing calls",
        15,
        "tests/test_lock_errnos.py",
        setting={"MSALEX_ERRNOS": "all"},
    ),
    Form(
        "faults",
        "A save or change that is killed, or fails, at any system call loses nothing.",
        "faults",
        15,
        "tests/test_file_faults.py",
        setting={"MSALEX_FAULTS": "all"},
    ),
    Form(
        "faults-elsewhere",
        "The same on tmpfs, overlayfs and bindfs.",
        "faults",
        40,
        "tests/test_faults_on_file_systems.py",
        setting={"MSALEX_FAULTS": "all"},
    ),
    Form(
        "forks",
        "A child forked beside threads that lock keeps no descriptor of a lock file.",
        "forks",
        1,
        "tests/test_lock_forks.py",
        ("test_no_child_forked_beside_threads_that_lock_keeps_a_descriptor",),
        {"MSALEX_FORKS": "10000"},
    ),
    Form(
        "mounts",
        "Through two mounts of one directory nobody is inside beside another.",
        "entries",
        10,
        "tests/test_lock_mounts.py",
        (
            "test_nobody_is_inside_beside_another_through_two_mounts",
            "test_nobody_is_inside_beside_another_through_a_mount_and_the_directory_below_it",
        ),
        {"MSALEX_MOUNT_ENTRIES": "5000"},
    ),
    Form(
        "keyrings",
        "A load beside a writer is a whole content in gnome-keyring, KWallet and KeePassXC.",
        "loads",
        4,
        "tests/test_keyrings.py",
        ("test_every_load_beside_a_writer_is_a_whole_content",),
        {"MSALEX_KEYRING_S": "60"},
    ),
    Form(
        "containers",
        "A living 1.3.1 in a container is respected, and a dead one blocks nobody.",
        "programs",
        1,
        "tests/test_lock_namespaces.py",
        setting={"MSALEX_NAMESPACE_TIMES": "100"},
    ),
    Form(
        "abandoned",
        "A wait that was given up robs neither a peer nor another waiter.",
        "waits",
        2,
        "tests/test_lock_peers.py",
        (
            "test_a_wait_that_was_given_up_leaves_a_peers_file_alone",
            "test_a_wait_that_was_given_up_robs_no_waiter_of_what_a_go_like_peer_left",
        ),
        {"MSALEX_ABANDONED": "200"},
    ),
    Form(
        "starvation",
        "1.3.1 is not refused twice in a row while six of ours keep the lock busy.",
        "waits",
        10,
        "tests/test_lock_starvation.py",
        ("test_1_3_1_is_not_refused_twice_in_a_row_while_six_of_ours_are_busy",),
        {"MSALEX_STARVATION_SECONDS": "600"},
    ),
    Form(
        "soak",
        "Among kills, stops, forks and 1.3.1 nobody is inside beside another.",
        "entries",
        20,
        "tests/test_lock_soak.py",
        setting={"MSALEX_SOAK_SECONDS": "1200"},
    ),
    Form(
        "moves",
        "A move of tokens that is killed, or fails, at any system call loses none of them.",
        "moves",
        15,
        "tests/test_command_migrate_killed.py",
        setting={"MSALEX_MOVES": "all"},
    ),
    Form(
        "keyring-counts",
        "Keyring calls, however they end, leave no descriptor, thread or memory behind.",
        "turns",
        10,
        "tests/test_keyring_counts.py",
        setting={"MSALEX_KEYRING_TURNS": "3000"},
    ),
    Form(
        "windows",
        "The whole suite passes under two Wines, where a crowd keeps the lock busy for a minute.",
        "tests under Wine",
        15,
        "tests/windows/test_under_wine.py",
        ("test_the_suite_passes_under_wine",),
        {"MSALEX_BUSY_S": "60", "MSALEX_WINE": "all"},
        reader="tests/windows/test_lock_on_windows.py",
    ),
    Form(
        "wine32",
        "The fakes show what Wine does not in a program of 32 bits.",
        TESTS,
        1,
        "tests/windows/test_under_wine.py",
        ("test_the_fakes_show_the_same_in_32_bits",),
        {"MSALEX_WINE": "all"},
    ),
    Form(
        "debian12",
        "The README's two commands work on a Debian 12 that has Python and nothing else.",
        TESTS,
        30,
        "tests",
        debian="bookworm",
    ),
    Form(
        "debian13",
        "The same on Debian 13, with its own Python, C library and programs.",
        TESTS,
        40,
        "tests",
        debian="trixie",
    ),
)


class Result(NamedTuple):
    """What came of a form."""

    form: Form
    tried: int
    lost: int
    seconds: float
    notes: Sequence[str]  #: a line about each test that failed or was skipped

    @property
    def failed(self) -> bool:
        return self.lost > 0 or self.tried == 0


def read(form: Form, report: Path, status: int, seconds: float) -> Result:
    """From pytest's own report; see support/tally.py."""
    tried, lost, notes = 0, 0, []
    skipped: Counter[str] = Counter()
    cases: Iterable[ET.Element] = ()
    with contextlib.suppress(OSError, ET.ParseError):
        cases = ET.parse(report).iter("testcase")
    for case in cases:
        told = {it.get("name"): it.get("value", "0") for it in case.iter("property")}
        name = f"{case.get('classname')}::{case.get('name')}"
        wrong = [it for it in case if it.tag in ("failure", "error")]
        if (skip := case.find("skipped")) is not None:
            skipped[skip.get("message", "")] += 1
            continue
        if wrong:
            first = (wrong[0].get("message") or "").partition("\n")[0]
            notes.append(f"lost: {name}: {first[:200]}")
        elif form.unit != TESTS and "tried" not in told:
            notes.append(f"{name} does not say what it tried")
        tried += 1 if form.unit == TESTS else int(told.get("tried", "0"))
        lost += max(0 if form.unit == TESTS else int(told.get("lost", "0")), bool(wrong))
    notes += [f"{count} skipped: {reason}" for reason, count in sorted(skipped.items())]
    if status not in (0, 1) or (status == 1 and not lost):
        lost = max(lost, 1)
        notes.append(f"lost: the run ended with status {status}")
    return Result(form, max(tried, lost), lost, seconds, notes)


# ---- one form ----------------------------------------------------------------------------

Running = Iterator[subprocess.Popen[bytes]]


def here(form: Form, settings: Mapping[str, str], report: Path) -> Running:
    """pytest with some tests in this environment; its output is the progress."""
    configuration = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    options = ["-v", "-s", "--show-capture=no", "-o", "faulthandler_timeout=0"]
    limit = [f"--timeout={TEST_S}", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", *configuration, *options, *limit, *form.node_ids]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}) as process:
        try:
            yield process
        finally:
            process.kill()


def in_debian(form: Form, settings: Mapping[str, str], report: Path) -> Running:
    """The README's two commands in another Debian: all tests in parallel, or some in order."""
    directory = Path(os.environ.get("MSALEX_CHROOT") or ROOT / ".venv") / form.name
    debian.make(form.debian, directory)
    copy_checkout(directory / "srv" / "checkout")
    there = directory / "srv" / "report.xml"
    there.unlink(missing_ok=True)
    workers = str(WORKERS * (os.cpu_count() or 1))
    some = ["-n", workers] if form.file == "tests" else form.node_ids
    command = ["sh", "-c", TWO_COMMANDS, "sh", "-v", "--junitxml=/srv/report.xml", *some]
    told = {**settings, "CI": "true"}
    with debian.running(directory, command, "/srv/checkout", told) as process:
        yield process
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(there, report)


def copy_checkout(to: Path) -> None:
    """What git knows here and what it could add, as it is now, committed or not.  Without a
    repository, all but what tools leave."""
    if not (ROOT / ".git").exists():
        shutil.rmtree(to, ignore_errors=True)
        copy_of_the_tree(to)
        return
    listing = ["git", "-C", str(ROOT), "ls-files", "-z"]
    options = ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run([*listing, *options], capture_output=True, text=True, check=True)
    to.mkdir(parents=True, exist_ok=True)
    for old in to.iterdir():
        if old.is_dir() and not old.is_symlink():
            if old.name != ".venv":  # dev.py knows when to make that anew
                shutil.rmtree(old)
        else:
            old.unlink()
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


class Interrupted(Exception):
    """By Ctrl-C; what the tests that had ended have tried is known."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


def run(form: Form, settings: Mapping[str, str]) -> Result:
    began = time.monotonic()
    interrupted, status = False, 0
    running = contextlib.contextmanager(in_debian if form.debian else here)
    with tempfile.TemporaryDirectory(prefix="msalex-prove-") as directory:
        report = Path(directory, "report.xml")
        try:
            with running(form, {**form.setting, **settings}, report) as process:
                try:
                    status = process.wait()
                except KeyboardInterrupt:  # pytest had it, too, and ends with a report
                    interrupted = True
                    process.wait(END_S)
        except (debian.CannotMake, OSError, subprocess.SubprocessError) as error:
            if not interrupted:
                return Result(form, 1, 1, time.monotonic() - began, [f"lost: {error}"])
        except KeyboardInterrupt:
            interrupted = True
        result = read(form, report, status, time.monotonic() - began)
    if interrupted:
        raise Interrupted(result._replace(notes=[*result.notes, "interrupted"]))
    return result


# ---- tables ------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]]) -> str:
    """Words to the left, numbers to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [all(cell[:1].isdigit() for cell in column[1:]) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def listing(forms: Sequence[Form]) -> str:
    lines = []
    for form in forms:
        settings = [f"{name}={value}" for name, value in form.setting.items()]
        where = [f"Debian {form.debian}: {form.file}" if form.debian else form.file]
        lines.append(f"{form.name:<16} {form.minutes:>3g} min  {form.says}")
        lines.append(f"{'':<25}{' '.join([*settings, *where])}")
    return "\n".join(lines)


def outcome(results: Sequence[Result]) -> str:
    rows = [["form", "of what", "tried", "survived", "lost", "seconds"]]
    for it in results:
        counts = (it.tried, it.tried - it.lost, it.lost, round(it.seconds))
        rows.append([it.form.name, it.form.unit, *(f"{count:,}" for count in counts)])
    notes = [f"{it.form.name}: {note}" for it in results for note in it.notes]
    return "\n".join([table(rows), *notes])


def main(arguments: Sequence[str], forms: Sequence[Form] = FORMS) -> int:
    examples = next((it.setting[EXAMPLES] for it in forms if EXAMPLES in it.setting), "0")
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="dev.py prove", description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a form; see --list")
    parser.add_argument("--list", action="store_true", help="the table of forms")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--examples", type=int, default=int(examples))
    told = parser.parse_args(arguments)
    if told.list:
        print(listing(forms))
        return 0
    known = {form.name: form for form in forms}
    if unknown := [name for name in told.names if name not in known]:
        parser.error(f"no such form: {' '.join(unknown)}; there are {' '.join(known)}")
    chosen = [known[name] for name in told.names] or [it for it in forms if not it.debian]
    options = ["--seed", str(told.seed), "--examples", str(told.examples)]
    again = shlex.join(["python3", "dev.py", "prove", *options, *told.names])
    results: list[Result] = []
    status = 0
    print(f"prove: to run the same again: {again}", flush=True)
    for number, form in enumerate(chosen, 1):
        print(f"\nprove: {number} of {len(chosen)}, {form.name}, about {form.minutes:g} minutes:")
        print(f"prove: {form.says}", flush=True)
        settings = {} if form.debian else {"MSALEX_SEED": str(told.seed)}
        if EXAMPLES in form.setting:
            settings[EXAMPLES] = str(told.examples)
        try:
            results.append(run(form, settings))
        except Interrupted as interrupted:
            results.append(interrupted.result)
            status = 130
            break
        print(f"\n{outcome(results[-1:])}", flush=True)
    print(f"\n{outcome(results)}\n\nseed {told.seed}; to run the same again: {again}")
    return status or int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
