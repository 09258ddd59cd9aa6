"""Where there is no desktop, or the Secret Service goes wrong: what a program is told, and when.

ROWS is the table.  Each row is a situation in which a program constructs a persistence, loads and
saves.  A call ends by its deadline with the right exception, whose words say what helps.  Another
thread goes on meanwhile, Ctrl-C is seen, and a call leaves no thread and no descriptor behind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support import keyring
from tests.support import situations as s
from tests.support.capability import needs
from tests.support.keyring_turns import Turn
from tests.support.processes import PATIENCE, eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
#: Seconds of a call that should end by itself, and of one that nobody ends.
LONG, SHORT = 20.0, 2.0
#: Seconds that connecting may take, whatever the timeout.
CONNECTING = 5.0
#: Seconds that a busy machine may add to a deadline.
SLACK = 2.0
#: Seconds.  Only shows that Ctrl-C did not wait for the call's own deadline, a minute.
INTERRUPTED = 20.0
#: Seconds.  Only shows that no call keeps other threads from running.
LONGEST_GAP = 1.0
#: Repetitions, and seconds for each of their calls.
REPEAT, REPEATED = 5, 3.0


class Expected(NamedTuple):
    """What becomes of a call."""

    #: "ok", "error" (not "nothing stored"), "any" (of these two), or the name of a class.
    kind: str
    #: Are in the result, or in the words of the exception.
    words: tuple[str, ...] = ()
    #: Are not in them.
    absent: tuple[str, ...] = ()
    #: Seconds; None: the timeout of the call.
    within: float | None = None


OK, ANY, NO = Expected("ok"), Expected("any"), Expected("error")
STOCKED = Expected("ok", ("stocked",))
#: Nobody is asked for a password before the program has a connection.
HANGS = Expected("KeyringTimeout", ("hangs",), ("waits for your password",), CONNECTING)
WAITS = Expected("KeyringTimeout", ("password", "permission"))
LOCKED = Expected("KeyringLocked", ("locked",))


def unavailable(*words: str) -> Expected:
    return Expected("PersistenceUnavailable", words)


class Row(NamedTuple):
    """A situation, and what becomes of the calls there."""

    name: str
    enter: s.Enter
    #: Of construct, load and save, in this order.
    expected: tuple[Expected, Expected, Expected]
    #: Seconds for load and save.
    timeout: float = LONG
    #: The methods that the service must have been asked for.
    called: tuple[str, ...] = ()
    #: For the persistence and the agent.
    options: Mapping[str, Any] = MappingProxyType({})


def all_of(name: str, enter: s.Enter, expected: Expected, timeout: float = LONG) -> Row:
    return Row(name, enter, (expected, expected, expected), timeout)


def closed(**settings: Any) -> s.Enter:
    """A locked keyring with an item, and a desktop."""
    return s.fake(desktop=True, locked=True, stocked=True, **settings)


def asking(**settings: Any) -> s.Enter:
    """A keyring that asks before it makes an item, and a desktop."""
    return s.fake(desktop=True, asks=["CreateItem"], **settings)


def homeless(**settings: Any) -> s.Enter:
    """A service without a collection, and a desktop."""
    return s.fake(desktop=True, empty=True, **settings)


def vanishing(error: str, times: int) -> s.Enter:
    """What a search has found is gone when it is used, so many times; -1: for ever."""
    return s.fake(stocked=True, errors={it: [error, times] for it in ("GetSecret", "SetSecret")})


def forgetful(times: int) -> s.Enter:
    """The service does not know the session, as after its restart."""
    methods = ("GetSecret", "SetSecret", "CreateItem")
    return s.fake(stocked=True, errors={it: [NO_SESSION, times] for it in methods})


NOT_HERE = GONE = unavailable("[MSX-04]", "MSAL_EXTENSIONS_WITHOUT_KEYRING")
GONE_EARLY = GONE._replace(within=LONG / 2)
NO_LIBRARY = unavailable("libsecret-1-0")
OTHER_USER = unavailable("another user")
DISMISSED = ("Unlock", "Prompt", "Dismiss")
#: Errors of services, for objects that do not exist: by the specification, KWallet, gnome-keyring.
NO_OBJECT = {
    "NoSuchObject": "org.freedesktop.Secret.Error.NoSuchObject",
    "UnknownObject": "org.freedesktop.DBus.Error.UnknownObject",
    "UnknownMethod": "org.freedesktop.DBus.Error.UnknownMethod",
}
NO_SESSION = "org.freedesktop.Secret.Error.NoSession"
INVALID = "org.freedesktop.DBus.Error.InvalidArgs"

#: Nothing to talk to.
NOWHERE = [
    all_of("no variables", s.no_variables, NOT_HERE),
    all_of("address: empty", s.address(""), NOT_HERE),
    all_of("address: garbage", s.address("garbage"), NOT_HERE),
    all_of("address: disabled", s.address("disabled:"), NOT_HERE),
    all_of("address: missing path", s.address("unix:path=/nonexistent/bus"), NOT_HERE),
    all_of("dead socket", s.dead_socket, NOT_HERE),
    all_of("silent socket", s.silent_socket, HANGS, SHORT),
    all_of("bus without the service", s.no_service, NOT_HERE),
    all_of("activation: no such program", s.activated("/nonexistent/program"), NOT_HERE),
    all_of("activation: exits 1", s.activated("/bin/false"), NOT_HERE),
    all_of("activation: never takes the name", s.activated("never"), HANGS, SHORT),
    all_of("unreachable bus of another user", s.unreachable_bus, OTHER_USER),
    all_of("refusing bus of another user", s.refusing_bus, OTHER_USER),
    all_of("root on the bus of a user", s.bus_of_somebody, OTHER_USER),
    all_of("libsecret cut", s.cut("libsecret-1.so.0"), NO_LIBRARY),
    all_of("libsecret missing", s.without("libsecret-1.so.0"), NO_LIBRARY),
    all_of("GLib cut", s.cut("libglib-2.0.so.0"), NO_LIBRARY),
    all_of("GLib missing", s.without("libglib-2.0.so.0"), NO_LIBRARY),
    all_of("Flatpak", s.flatpak, unavailable("Flatpak", keyring.NAME)),
    all_of("Snap", s.snap, unavailable("snap connect", "password-manager-service")),
]
#: A service that does not answer, or not in time.
SLOW = [
    all_of("silent", s.fake(silent=True), HANGS, SHORT),
    all_of("silent, desktop", s.fake(desktop=True, silent=True), HANGS, SHORT),
    all_of("late 0.5 s", s.fake(late=0.5), OK),
    all_of("late 6 s", s.fake(late=CONNECTING + 1), HANGS, SHORT),
    Row("silent at SearchItems", s.fake(ignores=["SearchItems"]), (OK, WAITS, ANY), SHORT),
    Row("silent at CreateItem", s.fake(ignores=["CreateItem"]), (OK, OK, WAITS), SHORT),
    Row("silent at GetSecret", s.fake(ignores=["GetSecret"], stocked=True), (OK, WAITS, OK), SHORT),
]
#: A service that is locked, or asks a person for something else.
PROMPTS = [
    Row(
        "locked, alone", s.fake(locked=True, stocked=True, prompt="never"), (LOCKED, NO, NO), SHORT
    ),
    Row("prompt: never completed", closed(prompt="never"), (OK, WAITS, WAITS), SHORT, DISMISSED),
    Row("prompt: spoofed", closed(prompt="spoofed"), (OK, WAITS, WAITS), SHORT, DISMISSED),
    Row("prompt: Completed is garbage", closed(prompt="garbage"), (OK, NO, NO), SHORT),
    Row("prompt: completed", closed(), (OK, STOCKED, OK)),
    *(
        Row(
            f"prompt: dismissed ({it})", closed(prompt="dismissed", result=it), (OK, LOCKED, LOCKED)
        )
        for it in ("ao", "o", "s", "b")
    ),
    Row("prompt: the service vanishes", closed(prompt="vanishes"), (OK, GONE_EARLY, GONE)),
    Row("new item: allowed", asking(), (OK, OK, OK), called=("Prompt",)),
    Row("new item: refused", asking(prompt="dismissed"), (OK, OK, NO)),
    Row("new item: nobody there", asking(prompt="never"), (OK, OK, WAITS), SHORT, ("Dismiss",)),
    Row("new item: spoofed", asking(prompt="spoofed"), (OK, OK, WAITS), SHORT, ("Dismiss",)),
]
#: A service without the collection.
HOMELESS = [
    Row(
        "no collection, alone",
        s.fake(empty=True, prompt="never"),
        (unavailable("[MSX-05]", "Make a keyring"), OK, NO),
        SHORT,
    ),
    Row("no collection: made", homeless(), (OK, OK, OK), called=("CreateCollection",)),
    Row("no collection: refused", homeless(prompt="dismissed"), (OK, OK, NO)),
    Row("no collection: refused (ao)", homeless(prompt="dismissed", result="ao"), (OK, OK, NO)),
    Row(
        "no collection: nobody there",
        homeless(prompt="never"),
        (OK, OK, WAITS),
        SHORT,
        ("Dismiss",),
    ),
    *(
        Row(
            f"no such collection ({name}){', desktop' * desktop}",
            s.fake(desktop=desktop, unknown=error, prompt="never"),
            (ANY, ANY, unavailable("no such collection")),
            SHORT,
            options={"collection": "nosuch"},
        )
        for name, error in NO_OBJECT.items()
        for desktop in (False, True)
    ),
]
#: A service that dies, or lies.
BROKEN = [
    all_of("dies at OpenSession", s.fake(dies_at=["OpenSession"]), GONE),
    Row("dies at SearchItems", s.fake(dies_at=["SearchItems"]), (OK, GONE, GONE)),
    Row("dies at GetSecret", s.fake(dies_at=["GetSecret"], stocked=True), (OK, GONE, GONE)),
    Row("dies at CreateItem", s.fake(dies_at=["CreateItem"]), (OK, OK, GONE)),
    Row("dies at SetSecret", s.fake(dies_at=["SetSecret"], stocked=True), (OK, STOCKED, GONE)),
    Row("dies at Prompt", closed(dies_at=["Prompt"]), (OK, GONE, GONE)),
    all_of("wrong type: OpenSession", s.fake(wrong=["OpenSession"]), NO),
    all_of("wrong type: ReadAlias", s.fake(wrong=["ReadAlias"]), ANY),
    all_of("wrong type: Get", s.fake(wrong=["Get"]), ANY),
    all_of("wrong type: GetAll", s.fake(wrong=["GetAll"]), ANY),
    Row("wrong type: SearchItems", s.fake(wrong=["SearchItems"], stocked=True), (OK, NO, ANY)),
    Row("wrong type: GetSecret", s.fake(wrong=["GetSecret"], stocked=True), (OK, NO, OK)),
    Row("wrong type: CreateItem", s.fake(wrong=["CreateItem"]), (OK, OK, NO)),
    Row("wrong type: SetSecret", s.fake(wrong=["SetSecret"], stocked=True), (OK, STOCKED, ANY)),
    Row("wrong type: Unlock", closed(wrong=["Unlock"]), (OK, NO, NO)),
    Row("wrong type: Prompt", closed(wrong=["Prompt"]), (OK, NO, NO), SHORT),
    Row("wrong type: CreateCollection", homeless(wrong=["CreateCollection"]), (OK, OK, NO)),
    Row("NoSession once", forgetful(1), (OK, STOCKED, OK)),
    Row("NoSession for ever", forgetful(-1), (OK, NO, NO)),
    *(
        Row(f"searched, gone {times} times ({name})", vanishing(error, times), (OK, STOCKED, OK))
        for name, error in NO_OBJECT.items()
        for times in (1, 3)
    ),
    *(
        Row(f"searched, gone for ever ({name})", vanishing(error, -1), (OK, NO, ANY))
        for name, error in NO_OBJECT.items()
    ),
]
ROWS = [*NOWHERE, *SLOW, *PROMPTS, *HOMELESS, *BROKEN]


@contextmanager
def home(situation: s.Situation) -> Iterator[str]:
    """Where the program may have its signal file."""
    with tempfile.TemporaryDirectory(prefix="kr", dir="/tmp") as directory:
        if situation.user is not None:
            os.chown(directory, situation.user, situation.user)
        yield os.path.join(directory, "signal")


class Told(NamedTuple):
    """What the program said."""

    turns: list[Turn]
    before: list[int]  #: threads and descriptors
    after: list[int]
    complaints: str  #: on stderr


def use(situation: s.Situation, **plan: Any) -> Told:
    """Runs tests/support/keyring_turns.py in this situation."""
    with home(situation) as location:
        told = json.dumps({"location": location, "user": situation.user, **plan})
        done = subprocess.run(
            situation.command([sys.executable, "-m", "tests.support.keyring_turns", told]),
            cwd=ROOT,
            env={**situation.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    turns = [Turn(**line) for line in lines if line["operation"] != "rest"]
    before, after = next(
        ((it["before"], it["after"]) for it in lines if it["operation"] == "rest"), ([], [])
    )
    return Told(turns, before, after, done.stderr)


def is_as(turn: Turn, kind: str) -> bool:
    if turn.kinds == ["ok"] or kind == "ok":
        # "Nothing stored" of an item that is there would be a silent sign-out.
        return turn.kinds == ["ok"] and kind in ("ok", "any")
    if kind in ("any", "error"):
        return bool({"KeyringError", "PersistenceUnavailable"} & {*turn.kinds})
    return kind in turn.kinds


def has_advice(turn: Turn) -> bool:
    """Does a sentence follow after what happened and the call, "No answer (GetSecret)."?"""
    return re.search(r"\)\. [A-Z].*\.$", turn.advice, re.DOTALL) is not None


def judge(turn: Turn, expected: Expected, timeout: float) -> list[str]:
    """What is wrong, in words."""
    wrong = []
    limit = timeout if expected.within is None else min(expected.within, timeout)
    if not is_as(turn, expected.kind):
        wrong.append(f"is {turn.kinds[0]}, not {expected.kind}")
    wrong += [f"does not say {word!r}" for word in expected.words if word not in turn.text]
    wrong += [f"says {word!r}" for word in expected.absent if word in turn.text]
    if turn.kinds != ["ok"] and not has_advice(turn):
        wrong.append("has no advice")
    if turn.seconds > limit + SLACK:
        wrong.append(f"took {turn.seconds:.1f} s instead of {limit}")
    if turn.gap > LONGEST_GAP:
        wrong.append(f"kept another thread waiting for {turn.gap:.1f} s")
    return [f"{turn.operation} {it}: {turn.text}" for it in wrong]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_call_ends_in_time_says_what_helps_and_leaves_nothing_behind(
    row: Row, tmp_path: Path
) -> None:
    needs(keyring.missing())
    expected = dict(zip(("construct", "load", "save"), row.expected, strict=True))
    timeouts = {"construct": LONG, "load": row.timeout, "save": row.timeout}
    interrupt = [name for name, it in expected.items() if it.kind == "KeyringTimeout"]
    with row.enter(tmp_path) as situation:
        told = use(
            situation,
            turns=[*expected],
            timeouts=timeouts,
            options=dict(row.options),
            repeat=REPEAT,
            repeated_timeout=REPEATED if row.timeout == LONG else 0.2,
            interrupt=interrupt,
        )
        calls = situation.service.calls() if situation.service else []
    wrong = []
    for turn in told.turns:
        gap = f"longest gap {turn.gap * 1000:.0f} ms"
        print(f"{turn.operation}: {turn.seconds * 1000:.0f} ms, {gap}, {turn.kinds[0]}")
        if turn.operation in expected:
            wrong += judge(turn, expected[turn.operation], timeouts[turn.operation])
        elif turn.kinds[0] != "KeyboardInterrupt" or turn.seconds > INTERRUPTED:
            wrong.append(f"{turn.operation} after {turn.seconds:.1f} s is {turn.kinds[0]}")
    if not all(after <= before for before, after in zip(told.before, told.after, strict=True)):
        wrong.append(f"threads and descriptors: {told.before} before, {told.after} after")
    if "CRITICAL" in told.complaints:  # a mistake in the use of GLib
        wrong.append(told.complaints.strip())
    wrong += [f"{method} was not called" for method in row.called if method not in calls]
    assert not wrong, "\n".join(wrong)


# ---- what the service is asked for -------------------------------------------------------


@pytest.mark.parametrize("desktop", [False, True])
@pytest.mark.parametrize("trouble", [{"locked": True}, {"empty": True}], ids=str)
def test_the_constructor_shows_no_prompt_and_unlocks_and_creates_nothing(
    trouble: dict[str, bool], desktop: bool, tmp_path: Path
) -> None:
    needs(keyring.missing())
    with s.fake(desktop=desktop, prompt="never", **trouble)(tmp_path) as situation:
        (turn,) = use(situation, turns=["construct"], timeouts={"construct": LONG}).turns
        assert situation.service is not None
        called = {*situation.service.calls()}
    print(f"{turn.seconds * 1000:.0f} ms")
    assert not called & {"Unlock", "Prompt", "CreateCollection", "CreateItem", "SetSecret"}
    if desktop:
        assert turn.kinds == ["ok"]
    else:
        assert (
            "KeyringLocked" in turn.kinds if "locked" in trouble else "RuntimeError" in turn.kinds
        )


def test_a_save_in_place_of_an_item_sets_its_secret_and_creates_none(tmp_path: Path) -> None:
    """Some services ask for permission before they replace an item, or give it another path."""
    needs(keyring.missing())
    with s.fake(stocked=True)(tmp_path) as situation:
        turns = use(situation, turns=["save", "load"], timeouts={"save": LONG, "load": LONG}).turns
        assert situation.service is not None
        called = situation.service.calls()
    assert [turn.text for turn in turns] == ["True", "'saved'"]
    assert "SetSecret" in called
    assert "CreateItem" not in called


def test_a_prompt_is_dismissed_when_ctrl_c_ends_its_call(tmp_path: Path) -> None:
    needs(keyring.missing())
    with closed(prompt="never")(tmp_path) as situation:
        service = situation.service
        assert service is not None
        (turn,) = use(situation, turns=[], timeouts={}, interrupt=["load"]).turns
        assert turn.kinds[0] == "KeyboardInterrupt"
        assert eventually(lambda: "Dismiss" in service.calls())


#: Another part of the program, which uses GLib as well, asks for the session bus and gives up.
ANOTHER_GIVES_UP = """
import ctypes, sys, threading, time
from msal_extensions.libsecret import LibSecretAgent

gio = ctypes.CDLL("libgio-2.0.so.0")
gio.g_cancellable_new.restype = ctypes.c_void_p
gio.g_cancellable_cancel.argtypes = [ctypes.c_void_p]
gio.g_bus_get_sync.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
cancellable = gio.g_cancellable_new()
other = threading.Thread(target=gio.g_bus_get_sync, args=(2, cancellable, None))
other.start()
time.sleep(0.5)
threading.Timer(0.5, gio.g_cancellable_cancel, [cancellable]).start()
begin = time.monotonic()
try:
    LibSecretAgent("org.example.turns", {}, timeout=4).load()
except Exception as error:
    print(type(error).__name__, time.monotonic() - begin)
other.join()
"""


def test_a_call_is_not_ended_when_another_part_of_the_program_gives_up(tmp_path: Path) -> None:
    """GIO has one connection for a program, and hands its failure to all that wait for it."""
    needs(keyring.missing())
    with s.silent_socket(tmp_path) as situation:
        done = subprocess.run(
            situation.command([sys.executable, "-c", ANOTHER_GIVES_UP]),
            env=situation.environment, capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
    kind, seconds = done.stdout.split()
    print(done.stdout)
    assert kind == "KeyringTimeout"
    assert float(seconds) > 3.5


# ---- words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "enter", [s.no_service, s.fake(locked=True), s.fake(wrong=["OpenSession"])],
    ids=["bus without the service", "locked", "wrong type"],
)  # fmt: skip
def test_the_message_ends_in_a_sentence_and_not_in_a_digest(enter: s.Enter, tmp_path: Path) -> None:
    needs(keyring.missing())
    with enter(tmp_path) as situation:
        (turn,) = use(situation, turns=["construct"], timeouts={"construct": LONG}).turns
    print(turn.text)
    assert has_advice(turn)
    assert not re.search("[0-9a-f]{64}", turn.text)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, 15),
        ({"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, 15),
        ({"DISPLAY": ":99"}, 300),
        ({"WAYLAND_DISPLAY": "wayland-0"}, 300),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, 60),
        ({"WAYLAND_DISPLAY": "wayland-0", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, 60),
    ],
    ids=str,
)
def test_the_default_timeout_is_long_only_where_a_person_is_likely_to_see_the_prompt(
    variables: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msal_extensions.libsecret import LibSecretAgent

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert LibSecretAgent("schema", {}).timeout == seconds
