"""Tokens in the Secret Service: real keyrings, each on a D-Bus of its own.

A test with the argument ``each`` runs on every keyring, the others on gnome-keyring.  GLib keeps
some things for a whole process (the bus, the session), so each scenario is a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import CrossPlatLock
from tests.support import keyring, situations
from tests.support.capability import needs
from tests.support.keyring_programs import AT_ONCE, AZURE, PRELUDE, SECRET, living, run
from tests.support.processes import PATIENCE, eventually, python
from tests.support.reference import python_with_gi, reference_site_packages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
KeyringOf = Callable[[str], keyring.Keyring]


@pytest.fixture
def service(keyring_of: KeyringOf) -> keyring.Keyring:
    return keyring_of("gnome-keyring")


@pytest.fixture(params=keyring.PROVIDERS)
def each(request: pytest.FixtureRequest, keyring_of: KeyringOf) -> keyring.Keyring:
    return keyring_of(request.param)


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "signal")


def test_200_kilobytes_of_text_come_back_as_they_were(each: keyring.Keyring, location: str) -> None:
    lines = run(
        """
text = "ä€𝄞\\n\\r\\n" * 20000
assert len(text.encode()) > 200_000
make().save(text)
assert make().load() == text
make().save("")
assert make().load() == ""
print("same", "gi" in sys.modules)
""",
        each.environment,
        location,
    )
    assert lines == ["same False"]


def test_nothing_stored_is_not_found_and_deleting_is_idempotent(
    each: keyring.Keyring, location: str
) -> None:
    lines = run(
        """
here = make()
outcome(here.load)
here.save("x")
here.delete()
here.delete()
outcome(here.load)
""",
        each.environment,
        location,
    )
    assert all(" PersistenceNotFound: " in line for line in lines), lines
    assert len(lines) == 2


def test_constructing_and_loading_write_nothing_into_the_keyring(
    each: keyring.Keyring, location: str
) -> None:
    before = each.items()
    run("here = make()\noutcome(here.load)", each.environment, location)
    assert each.items() == before


def test_text_with_an_embedded_nul_is_refused_and_what_was_stored_stays(
    each: keyring.Keyring, location: str
) -> None:
    lines = run(
        f"""
here = make()
here.save({SECRET!r})
outcome(here.save, "cut" + chr(0) + "short")
print(here.load() == {SECRET!r})
""",
        each.environment,
        location,
    )
    assert " RuntimeError: " in lines[0]
    assert "cut" not in lines[0]
    assert lines[1] == "True"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="defaults"),
        pytest.param(AZURE, id="azure-identity"),
        pytest.param({"schema_name": "s", "attributes": {"a": "1", "b": "ü"}}, id="attributes"),
        pytest.param({"schema_name": "n", "collection": "session"}, id="session-collection"),
    ],
)
def test_an_item_of_one_is_found_and_replaced_by_the_other(
    service: keyring.Keyring, location: str, arguments: dict[str, Any]
) -> None:
    theirs = [python_with_gi()]
    site = reference_site_packages(portalocker=False, python=theirs[0])
    environment = {**service.environment, "PYTHONPATH": str(site)}

    def say(command: list[str], code: str, variables: dict[str, str]) -> str:
        code = (
            "import sys\nfrom msal_extensions import LibsecretPersistence\n"
            f"here = LibsecretPersistence(sys.argv[1], **{arguments!r})\n{code}"
        )
        done = python(code, location, command=command, environment=variables, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    ours = [sys.executable]
    say(theirs, f"here.save({SECRET!r})", environment)
    assert say(ours, "print(ascii(here.load()))", service.environment) == ascii(SECRET)
    before = [attributes for _, attributes in service.items()]
    say(ours, "here.save('from us ' + 'é' * 100000)", service.environment)
    after = [attributes for _, attributes in service.items()]
    assert after == before, "the item was not replaced but doubled"
    assert say(theirs, "print(here.load() == 'from us ' + 'é' * 100000)", environment) == "True"
    say(ours, "here.delete()", service.environment)
    assert say(theirs, "print(here._agent.load())", environment) == "None"


def test_attributes_have_types_and_one_that_does_not_fit_is_an_error(
    service: keyring.Keyring, location: str
) -> None:
    lines = run(
        """
kw = {"schema_name": "typed", "attribute_types": {"n": 1, "b": 2}}
good = make(attributes={"n": "12", "b": "true"}, **kw)
good.save("x")
outcome(good.load)
outcome(make(attributes={"n": "twelve", "b": "true"}, **kw).save, "y")
good.delete()
""",
        service.environment,
        location,
    )
    assert lines[0].endswith(" ok x")
    assert " RuntimeError: " in lines[1]


def test_an_item_has_32_attributes_at_most(service: keyring.Keyring, location: str) -> None:
    lines = run(
        """
for count in (32, 33):
    attributes = {f"name{number}": "value" for number in range(count)}
    outcome(lambda: make(schema_name="of many", attributes=attributes).save("x"))
make(schema_name="of many", attributes={f"name{number}": "value" for number in range(32)}).delete()
""",
        service.environment,
        location,
    )
    assert lines[0].endswith(" ok None")
    assert " RuntimeError: " in lines[1]
    assert "32 attributes at most" in lines[1]


def test_the_socket_of_another_user_is_no_session_bus(tmp_path: Path, location: str) -> None:
    needs(keyring.missing())
    needs(None if os.geteuid() == 0 else "only root can give files away")
    environment = keyring.no_bus(tmp_path)
    bus = tmp_path / "bus"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bus))
        server.listen()
        os.chown(bus, 12001, 12001)
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + "outcome(make)", location],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    assert "RuntimeError: " in done.stdout
    assert "no session bus" in done.stdout


@pytest.mark.parametrize("trouble", ["no bus", "dead socket", "bus without the service"])
def test_without_a_service_the_constructor_raises_at_once(
    trouble: str, tmp_path: Path, location: str
) -> None:
    needs(keyring.missing())
    with contextlib.ExitStack() as stack:
        if trouble == "no bus":
            environment = keyring.no_bus(tmp_path)
        elif trouble == "dead socket":
            environment = stack.enter_context(keyring.dead_socket(tmp_path))
        else:
            environment = stack.enter_context(keyring.bus_only(tmp_path)).environment
        # Not through run(), which would add the variables that no_bus() removed.
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + "outcome(make)", location],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    seconds, words = done.stdout.split(" ", 1)
    assert words.startswith("RuntimeError: "), words
    assert "MSAL_EXTENSIONS_WITHOUT_KEYRING" in words
    print(f"{trouble}: {float(seconds) * 1000:.0f} ms")
    assert float(seconds) < AT_ONCE


def test_a_locked_keyring_never_reads_as_nothing_stored(tmp_path: Path, location: str) -> None:
    needs(keyring.missing())
    code = f"""
here = make()
here.save({SECRET!r})
step(); print("saved", flush=True)
while True:
    step(); outcome(here.load)
    step(); outcome(here.save, "lost?")
    step(); outcome(here.delete)
"""
    with (
        keyring.running(tmp_path / "k") as service,
        living(code, service.environment, location) as proceed,
    ):
        assert proceed() == "saved"
        service.lock_collection()
        for _ in ("load", "save", "delete"):
            line = proceed()
            assert " RuntimeError: " in line, line
            assert "locked" in line
            assert SECRET not in line
        # A process that begins now finds no service, and its constructor says so.
        (line,) = run("outcome(make)", service.environment, location)
        assert " RuntimeError: " in line
        assert "locked" in line
        service.unlock_collection()
        assert proceed().endswith(f" ok {SECRET}")
        assert proceed().endswith(" ok None")
        assert service.secrets() == [b"lost?"]


@pytest.fixture(params=["service", "bus"])
def restart(request: pytest.FixtureRequest) -> Any:
    def restart(running: keyring.Keyring) -> None:
        if request.param == "bus":
            running.restart()
        else:
            running.stop_service()
            running.start_service()

    return restart


def test_what_was_restarted_is_found_again_by_a_living_process(
    tmp_path: Path, location: str, restart: Any
) -> None:
    needs(keyring.missing())
    code = """
here = make()
here.save("0")
step(); print("saved", flush=True)
while True:
    step(); outcome(here.load)
    step(); outcome(here.save, str(time.monotonic()))
"""
    with (
        keyring.running(tmp_path / "k") as service,
        living(code, service.environment, location) as proceed,
    ):
        assert proceed() == "saved"
        for _ in range(5):
            restart(service)
            assert " ok " in proceed()
            restart(service)
            assert proceed().endswith(" ok None")
            restart(service)  # so that each is at times the first after a restart
            assert " ok " in proceed()
            assert proceed().endswith(" ok None")


def test_a_bus_that_dies_is_an_error_and_does_not_kill_the_program(
    tmp_path: Path, location: str
) -> None:
    needs(keyring.missing())
    code = "here = make()\nstep(); print('up', flush=True)\nwhile True: step(); outcome(here.load)"
    with (
        keyring.running(tmp_path / "k") as service,
        living(code, service.environment, location) as proceed,
    ):
        assert proceed() == "up"
        service.stop_bus()
        for _ in range(3):
            assert " RuntimeError: " in proceed()


def test_a_forked_child_gets_an_error_at_once(each: keyring.Keyring, location: str) -> None:
    lines = run(
        """
here = make()
here.save("parent")
if os.fork() == 0:
    outcome(here.load)
    outcome(make)
    os._exit(0)
os.wait()
outcome(here.load)
""",
        each.environment,
        location,
    )
    for line in lines[:2]:
        assert " RuntimeError: " in line
        assert "fresh process" in line
        assert float(line.split()[0]) < AT_ONCE
    assert lines[2].endswith(" ok parent")


#: Uses the agent, because a persistence whose constructor hangs has no methods yet.
AGENT = """
from msal_extensions.libsecret import LibSecretAgent
agent = LibSecretAgent("schema", {}, timeout=0.5)
"""


@pytest.mark.parametrize("operation", ["agent.load", "agent.save, 's3cr3t'", "agent.connect"])
@pytest.mark.parametrize("mode", ["silent", "prompt"])
def test_a_deadline_is_kept_when_nobody_answers(
    mode: str, operation: str, tmp_path: Path, location: str
) -> None:
    needs(keyring.missing())
    if mode == "prompt" and operation == "agent.connect":
        return  # it shows no prompt
    with keyring.silent(tmp_path, mode) as hanging:
        desktop = {**hanging.environment, "DISPLAY": ":99"}  # so that prompts may appear
        (line,) = run(f"{AGENT}outcome({operation})", desktop, location)
    assert 0.45 < float(line.split()[0]) < 0.5 + AT_ONCE, line
    assert "PersistenceNotFound" not in line
    assert " ok " not in line
    assert "s3cr3t" not in line


def test_an_unlock_prompt_that_the_user_dismisses_is_a_denial_at_once(
    tmp_path: Path, location: str
) -> None:
    needs(keyring.missing())
    with keyring.silent(tmp_path, "dismiss") as refusing:
        desktop = {**refusing.environment, "DISPLAY": ":99"}
        code = f"{AGENT}outcome(agent.connect)\noutcome(agent.load)\noutcome(agent.save, 's3cr3t')"
        connected, *refused = run(code, desktop, location)
    assert " ok " in connected, "connecting asks nobody"
    for line in refused:
        assert " RuntimeError: " in line
        assert "locked" in line
        assert "s3cr3t" not in line
        assert float(line.split()[0]) < AT_ONCE


def test_a_change_asks_a_person_while_the_lock_of_the_cache_is_free(
    tmp_path: Path, location: str
) -> None:
    """Others wait for that lock for five seconds, and a person may need minutes."""
    needs(keyring.missing())
    code = f"""
from msal_extensions import LibsecretPersistence, PersistedTokenCache
cache = PersistedTokenCache(LibsecretPersistence({location!r}, "schema", {{}}, timeout=60))
entry = {{"home_account_id": "1", "environment": "e", "client_id": "c"}}
cache.modify("RefreshToken", entry, {{"secret": "s"}})
"""
    closed = situations.fake(desktop=True, locked=True, stocked=True, prompt="never")
    with (
        closed(tmp_path) as situation,
        subprocess.Popen([sys.executable, "-c", code], env=situation.environment) as process,
    ):
        assert situation.service is not None
        calls = situation.service.calls
        assert eventually(lambda: "Prompt" in calls())
        with CrossPlatLock(location + ".lockfile", timeout=0):
            assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("mode", ["silent", "prompt"])
def test_ctrl_c_is_seen_while_nobody_answers(mode: str, tmp_path: Path) -> None:
    needs(keyring.missing())
    code = """
import sys, time
from msal_extensions.libsecret import LibSecretAgent
agent = LibSecretAgent("schema", {}, timeout=60)
print("waiting", flush=True)
try:
    agent.load()
except KeyboardInterrupt:
    print(time.monotonic())
"""
    with (
        keyring.silent(tmp_path, mode) as hanging,
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**hanging.environment, "DISPLAY": ":99"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        seen = float(process.communicate(timeout=PATIENCE)[0])
        print(f"Ctrl-C was seen after {(seen - sent) * 1000:.0f} ms")
        assert seen - sent < AT_ONCE


def test_threads_use_the_service_at_once(each: keyring.Keyring, location: str) -> None:
    lines = run(
        """
import threading
def work(number):
    here = LibsecretPersistence(f"{sys.argv[1]}{number}", schema_name=f"thread {number}")
    for turn in range(20):
        here.save(f"{number} {turn}")
        assert here.load() == f"{number} {turn}"
    here.delete()
    done.append(number)
done = []
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(done))
""",
        each.environment,
        location,
    )
    assert lines == ["8"]


def test_our_declarations_are_those_of_the_real_headers() -> None:
    compiler = shutil.which("cc")
    needs(None if compiler else "there is no C compiler (cc)")
    flags = _flags_of_libsecret()
    source = ROOT / "tests/native/linux/libsecret_declarations.c"
    command = [str(compiler), "-std=c11", "-Werror", "-fsyntax-only", f"-I{ROOT / 'csrc'}"]
    done = subprocess.run([*command, *flags, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _flags_of_libsecret() -> list[str]:
    needs(None if shutil.which("pkg-config") else "pkg-config is not installed")
    command = ["pkg-config", "--cflags", "--libs", "libsecret-1"]
    done = subprocess.run(command, capture_output=True, text=True)
    needs("libsecret-1-dev is not installed" if done.returncode else None)
    return done.stdout.split()


def test_loading_over_and_over_does_not_pile_up_memory(
    each: keyring.Keyring, location: str
) -> None:
    """libsecret's own look-up leaks each reply: 300 times 20 kB would be 6 MB."""
    lines = run(
        """
here = make()
here.save("x" * 20000)
def size():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
for turn in range(50): here.load()
before = size()
for turn in range(300): here.load()
print(size() - before)
here.delete()
""",
        each.environment,
        location,
    )
    assert int(lines[0]) < 3_000_000


def test_loading_and_saving_over_and_over_leaves_no_descriptor_open(
    each: keyring.Keyring, location: str
) -> None:
    """GLib ends the program when it can open no more descriptors."""
    lines = run(
        """
here = make()
def both():
    here.save("x")
    here.load()
def descriptors():
    return len(os.listdir("/proc/self/fd"))
both()
before = descriptors()
for turn in range(500): both()
import time
end = time.monotonic() + 20  # GLib's worker thread may still be closing the last calls
while descriptors() - before > 2 and time.monotonic() < end: time.sleep(0.05)
print(descriptors() - before)
here.delete()
""",
        each.environment,
        location,
    )
    assert int(lines[0]) <= 2


def test_no_secret_is_in_the_label_or_the_attributes(each: keyring.Keyring, location: str) -> None:
    run(f"make(**{AZURE!r}).save({SECRET!r})", each.environment, location)
    found = [item for item in each.items() if item[0] == AZURE["label"]]
    assert found == [
        ("MSALCache", {**AZURE["attributes"], "xdg:schema": AZURE["schema_name"]})  # type: ignore[dict-item]
    ]
    run(f"make(**{AZURE!r}).delete()", each.environment, location)
