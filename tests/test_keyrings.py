"""The keyrings that users have: gnome-keyring, KWallet and KeePassXC, each a real one.

tests/test_secret_service.py has what is the same for one program and one item; this file has
crowds, items of other programs, KDE as 1.3.1's users meet it, and services that end.

MSALEX_KEYRING says which keyring the acceptance tests use inside their own process; a test here
runs them once for each of the others.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import keyring, tally
from tests.support.capability import needs
from tests.support.keyring_programs import AZURE, PRELUDE, SECRET, living, run
from tests.support.keyrings import kwallet, person
from tests.support.keyrings.keepassxc import KeePassXC
from tests.support.keyrings.kwallet import KWallet
from tests.support.processes import GENEROUS, Member, eventually, python, together
from tests.support.reference import python_with_gi, reference_site_packages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
#: Seconds in which a reader and a writer work side by side.
SECONDS = float(os.environ.get("MSALEX_KEYRING_S", "4"))
CROWD = 8
TURNS = 10
#: Programs may have dialogs; nothing is on this display.
DESKTOP = {"DISPLAY": ":99"}
ACCEPTANCE = ("contract", "border", "border_leases", "store_of", "timeouts")


@pytest.fixture(params=keyring.PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    needs(keyring.missing(request.param))
    return str(request.param)


@pytest.fixture
def service(provider: str, tmp_path: Path) -> Iterator[keyring.Keyring]:
    """A keyring that no other test uses."""
    with keyring.running(tmp_path / "keyring", provider) as running:
        yield running


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "signal")


@pytest.fixture
def screen() -> Iterator[person.Screen]:
    needs(person.missing())
    with person.screen() as found:
        yield found


def schema_of(location: str) -> str:
    """What identifies the item of a location by default."""
    return hashlib.sha256(location.encode()).hexdigest()


@pytest.mark.parametrize("other", [it for it in keyring.PROVIDERS if it != "gnome-keyring"])
def test_the_acceptance_tests_of_a_store_pass_on_the_other_keyrings(other: str) -> None:
    needs(keyring.missing(other))
    files = [f"tests/test_{name}.py" for name in ACCEPTANCE]
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-q"]
    foreign = ("PYTEST_", "MSALEX_SHARE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", "libsecret or keyring", *files],
        cwd=ROOT,
        env={**environment, "MSALEX_KEYRING": other},
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout[-10000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    print(f"{other}: {passed[0]}")
    assert int(passed[1]) > 50


# ---- many programs -----------------------------------------------------------------------


def test_a_crowd_on_one_item_loads_only_what_was_saved_and_leaves_one_item(
    service: keyring.Keyring, provider: str, location: str
) -> None:
    if provider == "keepassxc":
        # When two programs make the same item at once, it asks a person about the second one.
        run("make().save('before')", service.environment, location)
    code = """
    here, turns = make(), int(sys.argv[3])
    ready()
    for turn in range(turns):
        here.save(f"{sys.argv[2]} {turn} " + "x" * 2000)
        print(here.load())
    """
    said = in_a_crowd(service, code, lambda number: (location, str(number), str(TURNS)))
    possible = {f"{n} {turn} " + "x" * 2000 for n in range(CROWD) for turn in range(TURNS)}
    loaded = [line for lines in said for line in lines.splitlines()]
    assert len(loaded) == CROWD * TURNS
    assert set(loaded) <= possible
    assert len(service.items()) == 1
    assert service.secrets()[0].decode() in possible


def test_a_crowd_in_which_each_has_an_item_of_its_own_loads_what_it_saved(
    service: keyring.Keyring, location: str
) -> None:
    code = """
    here, turns = make(), int(sys.argv[2])
    ready()
    for turn in range(turns):
        here.save(f"{sys.argv[1]} {turn}")
        assert here.load() == f"{sys.argv[1]} {turn}"
    """
    in_a_crowd(service, code, lambda number: (f"{location}{number}", str(TURNS)))
    places = [f"{location}{number}" for number in range(CROWD)]
    schemas = sorted(attributes["xdg:schema"] for _, attributes in service.items())
    assert schemas == sorted(map(schema_of, places))
    assert sorted(service.secrets()) == sorted(f"{it} {TURNS - 1}".encode() for it in places)


def in_a_crowd(
    service: keyring.Keyring, code: str, arguments: Callable[[int], tuple[str, ...]]
) -> list[str]:
    """What each process of a crowd prints."""
    code = PRELUDE + textwrap.dedent(code)
    return together(
        [Member(code, arguments(it), environment=service.environment) for it in range(CROWD)]
    )


def test_every_load_beside_a_writer_is_a_whole_content(
    service: keyring.Keyring, provider: str, location: str
) -> None:
    run("make().save('0 ' + '0' * 1000)", service.environment, location)
    writer = f"""
here, number = make(), 0
ready()
end = time.monotonic() + {SECONDS}
while time.monotonic() < end:
    number += 1
    here.save(f"{{number}} " + str(number) * 1000)
print(number)
"""
    reader = f"""
here, good, bad, last = make(), 0, [], 0
ready()
end = time.monotonic() + {SECONDS}
while time.monotonic() < end:
    try:
        number, rest = here.load().split()
    except PersistenceError as error:
        bad.append(f"{{type(error).__name__}}: {{error}}")
        continue
    if rest != number * 1000 or int(number) < last: bad.append("content")
    good, last = good + 1, int(number)
print(good, len(bad), bad[:3])
"""
    environment = service.environment
    saves, said = together(
        [Member(PRELUDE + code, (location,), environment=environment) for code in (writer, reader)]
    )
    good, bad, words = said.split(maxsplit=2)
    print(f"{provider}: {saves.strip()} saves, {good} loads, {bad} failures")
    tally.tried(int(good) + int(bad))
    tally.lost(int(bad))
    assert int(bad) == 0, words
    assert int(good) > 0
    assert int(saves) > 0
    assert len(service.items()) == 1


# ---- items of 1.3.1 and of other programs ------------------------------------------------


def of_1_3_1(
    service: keyring.Keyring, code: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs a snippet with 1.3.1."""
    command = python_with_gi()
    site = reference_site_packages(portalocker=False, python=command)
    environment = {**service.environment, "PYTHONPATH": str(site)}
    return python(code, *arguments, command=[command], environment=environment, check=False)


def test_an_item_of_1_3_1_is_found_and_replaced_and_not_doubled(
    service: keyring.Keyring, location: str
) -> None:
    schema, attributes, label = AZURE.values()
    agent = (
        "from msal_extensions.libsecret import LibSecretAgent\n"
        f"agent = LibSecretAgent({schema!r}, {attributes!r}, label={label!r})\n"
    )
    done = of_1_3_1(service, agent + f"agent.save({SECRET!r})")
    assert done.returncode == 0, done.stderr
    before = service.items()
    assert len(before) == 1
    ours = f"""
here = make(schema_name={schema!r}, attributes={attributes!r})
outcome(here.load)
outcome(here.save, "from us " + "é" * 100000)
"""
    loaded, saved = run(ours, service.environment, location)
    assert loaded.endswith(f" ok {SECRET}")
    assert saved.endswith(" ok None")
    assert service.items() == before, "the item was doubled, or its label changed"
    done = of_1_3_1(service, agent + "print(agent.load() == 'from us ' + 'é' * 100000)")
    assert done.stdout == "True\n", done.stderr


def test_an_item_with_an_empty_label_has_one_after_the_next_save(
    provider: str, service: keyring.Keyring, location: str
) -> None:
    if provider == "kwallet":
        return  # it refuses an empty label
    service.add("", {"xdg:schema": schema_of(location)}, b"without a label")
    loaded, saved = run(
        "here = make()\noutcome(here.load)\noutcome(here.save, 'x')", service.environment, location
    )
    assert loaded.endswith(" ok without a label")
    assert saved.endswith(" ok None")
    [(label, attributes)] = service.items()
    assert "MSAL" in label
    assert attributes == {"xdg:schema": schema_of(location)}


def test_a_label_that_exists_is_never_changed(service: keyring.Keyring, location: str) -> None:
    service.add("as the user likes it", {"xdg:schema": schema_of(location)}, b"x")
    for save in ("make().save('y')", "make(label='another').save('z')"):
        run(save, service.environment, location)
        assert service.items() == [("as the user likes it", {"xdg:schema": schema_of(location)})]
    assert service.secrets() == [b"z"]


def test_every_new_item_has_a_label(service: keyring.Keyring, location: str) -> None:
    run("make().save('x')", service.environment, location)
    [(label, _)] = service.items()
    assert "MSAL" in label


@pytest.mark.parametrize("first", ["more attributes", "exactly ours"])
def test_an_item_with_more_attributes_keeps_them_when_ours_is_saved(
    first: str, service: keyring.Keyring, location: str
) -> None:
    ours = {"xdg:schema": "s", "a": "1"}
    items = {"exactly ours": ours, "more attributes": {**ours, "of": "another"}}
    for label in sorted(items, key=lambda label: label != first):
        service.add(label, items[label], label.encode())
    made = "here = make(schema_name='s', attributes={'a': '1'})\n"
    code = f"{made}outcome(here.save, 'new')\noutcome(here.load)"
    saved, loaded = run(code, service.environment, location)
    assert saved.endswith(" ok None")
    assert loaded.endswith(" ok new")
    assert dict(service.items()) == items
    assert len(service.items()) == 2


def test_other_programs_read_what_was_saved(service: keyring.Keyring, location: str) -> None:
    needs(None if shutil.which("secret-tool") else "secret-tool is not installed (libsecret-tools)")
    attributes = {"service": "of a test", "username": "somebody"}
    code = f"make(attributes={attributes!r}, label='of a test').save({SECRET!r})"
    run(code, service.environment, location)
    words = [word for pair in attributes.items() for word in pair]
    said = [
        subprocess.run(
            ["secret-tool", *command, *words],
            env=service.environment,
            capture_output=True,
            text=True,
            timeout=GENEROUS,
        ).stdout
        for command in (["lookup"], ["search", "--all"])
    ]
    assert said[0] == SECRET
    assert f"secret = {SECRET}\n" in said[1]
    assert "label = of a test\n" in said[1]


def test_the_package_keyring_reads_what_was_saved(service: keyring.Keyring, location: str) -> None:
    attributes = {"service": "of a test", "username": "somebody"}
    code = f"make(attributes={attributes!r}, label='of a test').save({SECRET!r})"
    run(code, service.environment, location)
    reader = """
from keyring.backends.SecretService import Keyring
print(ascii(Keyring().get_password("of a test", "somebody")))
"""
    done = python(reader, environment=service.environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ascii(SECRET)


# ---- KDE, as users of 1.3.1 meet it ------------------------------------------------------

#: What the README tells programs to do.
BUILD = """
from msal_extensions import build_encrypted_persistence
kind(lambda: type(build_encrypted_persistence(sys.argv[1])).__name__)
"""
DISPLAYS = pytest.mark.parametrize("desktop", [{}, DESKTOP], ids=["no display", "display"])


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[Callable[..., KWallet]]:
    """Starts KWallet in a state, perhaps with a screen for its dialogs."""
    needs(KWallet.missing())
    started: list[KWallet] = []

    def start(state: str, display: str = "") -> KWallet:
        started.append(KWallet(tmp_path / "kwallet", state, display))
        started[-1].start()
        return started[-1]

    yield start
    for running in started:
        running.close()


@DISPLAYS
@pytest.mark.parametrize("state", [kwallet.OPEN, kwallet.AT_LOGIN])
def test_on_kde_the_encrypted_persistence_works_with_an_open_wallet(
    state: str, desktop: dict[str, str], wallet: Callable[..., KWallet], location: str
) -> None:
    service = wallet(state)
    code = f"""{BUILD}
here = build_encrypted_persistence(sys.argv[1])
kind(here.save, "x")
kind(here.load)
kind(here.verify)
"""
    said = run(code, {**service.environment, **desktop}, location)
    assert said == ["ok LibsecretPersistence", "ok None", "ok x", "ok None"]


@DISPLAYS
def test_on_kde_without_a_wallet_the_constructor_says_that_it_is_unavailable(
    desktop: dict[str, str],
    wallet: Callable[..., KWallet],
    screen: person.Screen,
    location: str,
) -> None:
    service = wallet(kwallet.NO_WALLET, screen.display)
    [line] = run(BUILD, {**service.environment, **desktop}, location)
    assert line.startswith("PersistenceUnavailable True "), line
    assert not screen.windows(), "a person was asked"


def test_a_closed_wallet_is_locked_for_a_constructor_without_display_and_asks_nobody(
    wallet: Callable[..., KWallet], screen: person.Screen, location: str
) -> None:
    service = wallet(kwallet.CLOSED, screen.display)
    [line] = run(BUILD, service.environment, location)
    assert line.startswith("KeyringLocked True "), line
    time.sleep(0.5)  # a dialog would have some time to appear
    assert not screen.windows(), "a person was asked"
    # It is seen when there is one.
    with service.client() as client:
        path = service.collection(client)
        _, prompt = client.call(keyring.ROOT, keyring.SERVICE, "Unlock", "ao", [path])
        client.call(prompt, keyring.PROMPT, "Prompt", "s", "")
        assert eventually(lambda: "KDE Wallet Service" in " ".join(screen.windows().values()))


def test_a_person_who_types_the_password_of_a_closed_wallet_lets_the_program_go_on(
    wallet: Callable[..., KWallet], screen: person.Screen, location: str
) -> None:
    service = wallet(kwallet.CLOSED, screen.display)
    keys = [{" ": "space"}.get(letter, letter) for letter in keyring.PASSWORD.decode()]
    code = f"{BUILD}\nhere = make(label='x')\nkind(here.save, 'x')\nkind(here.load)"
    with screen.person("KDE Wallet Service", *keys, "Return") as answered:
        said = run(code, {**service.environment, **DESKTOP}, location)
    assert said == ["ok LibsecretPersistence", "ok None", "ok x"]
    assert answered


def test_1_3_1_cannot_construct_on_kde(wallet: Callable[..., KWallet], location: str) -> None:
    """So there is no item of 1.3.1 there but those of programs that pass a label."""
    service = wallet(kwallet.OPEN)
    done = of_1_3_1(
        service,
        "import sys\nfrom msal_extensions import build_encrypted_persistence\n"
        "build_encrypted_persistence(sys.argv[1])",
        location,
    )
    assert "RuntimeError" in done.stderr


# ---- KeePassXC asks a person -------------------------------------------------------------


@pytest.mark.parametrize("answer", ["Return", "Escape", "none"])
def test_a_person_may_allow_or_deny_an_item_and_neither_reads_as_nothing_stored(
    answer: str, screen: person.Screen, tmp_path: Path, location: str
) -> None:
    needs(KeePassXC.missing())
    with KeePassXC(tmp_path / "keepassxc", True, screen.display) as service:
        run("make(label='x').save('x')", service.environment, location)
        title = "Access Request" if answer != "none" else "no window has this title"
        with screen.person(title, answer) as answered:
            timeout = 3 if answer == "none" else GENEROUS
            code = f"here = make(label='x', timeout={timeout})\nkind(here.load)"
            [line] = run(code, {**service.environment, **DESKTOP}, location)
    expected = {"Return": "ok x", "Escape": "KeyringLocked True", "none": "KeyringTimeout True"}
    assert line.startswith(expected[answer]), line
    assert bool(answered) == (answer != "none")


def test_an_item_of_another_program_is_saved_without_asking_a_person(
    screen: person.Screen, tmp_path: Path, location: str
) -> None:
    """KeePassXC would ask about CreateItem, whatever its settings are (its bug 7623)."""
    needs(KeePassXC.missing())
    with KeePassXC(tmp_path / "keepassxc", False, screen.display) as service:
        for number in range(3):
            [line] = run(f"kind(make(label='x').save, '{number}')", service.environment, location)
            assert line == "ok None"
        assert "Access Request" not in " ".join(screen.windows().values())
        assert service.secrets() == [b"2"]


# ---- services that end -------------------------------------------------------------------


@pytest.mark.parametrize("call", ["load", "save, 'y'", "delete"])
def test_a_service_that_dies_during_a_call_is_an_error_at_once(
    call: str, service: keyring.Keyring, location: str
) -> None:
    code = f"""
here = make(label="x")
here.save("x")
step(); print("saved", flush=True)
step(); print("calling", flush=True); outcome(here.{call})
step()
"""
    environment = {**service.environment, **DESKTOP}  # a call may take minutes
    with living(code, environment, location) as proceed:
        assert proceed() == "saved"
        service.signal_service(signal.SIGSTOP)  # so that the call is under way
        assert proceed() == "calling"
        time.sleep(0.5)
        service.kill_service()
        line = proceed()
    print(line)
    assert " RuntimeError: " in line, line
    assert float(line.split()[0]) < GENEROUS


def test_a_service_that_was_restarted_is_found_again_by_a_living_process(
    service: keyring.Keyring, location: str
) -> None:
    code = """
here = make(label="x")
here.save("0")
step(); print("saved", flush=True)
while True:
    step(); outcome(here.save, "again")
    step(); outcome(here.load)
"""
    with living(code, service.environment, location) as proceed:
        assert proceed() == "saved"
        for end in (service.stop_service, service.kill_service, service.stop_service):
            end()
            service.start_service()
            # KWallet may have lost what was saved just before; so the first call is a save.
            assert proceed().endswith(" ok None")
            assert proceed().endswith(" ok again")
    assert service.secrets() == [b"again"]


def test_a_keyring_that_is_locked_never_reads_as_nothing_stored(
    service: keyring.Keyring, location: str
) -> None:
    code = f"""
here = make(label="x", timeout=3)
here.save({SECRET!r})
step(); print("saved", flush=True)
step(); outcome(here.load)
step(); outcome(here.save, "lost?")
step(); outcome(here.delete)
step(); outcome(here.load)
"""
    with living(code, service.environment, location) as proceed:
        assert proceed() == "saved"
        service.lock_collection()
        for _ in ("load", "save", "delete"):
            line = proceed()
            assert " RuntimeError: " in line, line
            assert SECRET not in line
        service.stop_service()  # a dialog that nobody answers ends with it
        service.start_service()
        assert proceed().endswith(f" ok {SECRET}")
