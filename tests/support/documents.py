"""The pages of the documentation, and the world in which their code runs.

THE CONTRACT with the writer of a page (README.md and docs/**/*.md):

*Python.*  The ```python fences of a page run in order, in one namespace, in a process of their
own.  HOME, TMPDIR and the working directory are empty directories, new for each page.  There is
no keyring; MSAL_EXTENSIONS_KEY_FILE names a key file.  https://login.microsoftonline.com is the
provider of samples/local_identity_provider.py: write real calls of MSAL, with the client id
"client_id", the secret "secret", and the tenant "tenant" ("common" and its kin work, too).  A
device code is allowed at once, for ann@example.org.  What that provider has not: a browser, the
authorization code grant, passwords.  No other host answers.

*Invisible code.*  What a block needs and a reader does not goes into a comment before it, and
what shows that the block has worked into one after it:

    <!--- invisible-code-block: python
    from tests.support.documents import other_program, soon
    soon(lambda: other_program(persistence))
    --->

*A block that cannot run*: ``<!--- skip: next "why" --->`` before it, and the same words in SKIPPED
of tests/test_docs.py.

*Other fences.*  sh, and console with "$ " before each command: every command of ours is parsed as
our programs parse it, every other program is one of PROGRAMS below.  The same holds for lines of
indented blocks and for `inline code` that begin as a command of ours.  json, yaml, ini, toml:
must parse.  text, or no language: output, layouts, diagrams.  Nothing else.
"""

from __future__ import annotations

import configparser
import contextlib
import importlib
import importlib.util
import json
import os
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest, mock
from urllib.parse import urlsplit, urlunsplit

import msal
import requests

import dev
from msal_extensions import PersistedTokenCache
from msal_extensions.__main__ import _parser
from samples.local_identity_provider import LocalIdentityProvider
from tests.support.key_sources import new_key

ROOT = Path(__file__).resolve().parents[2]

#: Programs of others in the commands of the pages.  What they do is not ours to check.
PROGRAMS = {
    *("az", "docker", "kubectl", "pip", "uv", "poetry", "pipx", "gh", "apt-get", "sudo"),
    *("systemctl", "systemd-creds", "loginctl", "journalctl", "security", "codesign"),
    *("openssl", "umask", "mkdir", "rm", "chmod", "chown", "export", "ls", "cat", "cd", "jq"),
    *(
        "/opt/az/bin/python3",
        "echo",
        "delocate-merge",
        "git",
        "sha256sum",
        "secret-tool",
        "busctl",
        "lsof",
        "stat",
    ),
}
#: The languages of fences, beside the directives of Sphinx.
LANGUAGES = ("python", "sh", "console", "json", "yaml", "ini", "toml", "text", "")

_MICROSOFT = "login.microsoftonline.com"
#: Microsoft's names for "any tenant".
_ANY_TENANT = ("common", "organizations", "consumers")
#: What Microsoft says of its hosts: the part of it that MSAL reads.
_DISCOVERY = {
    "tenant_discovery_endpoint": (
        f"https://{_MICROSOFT}/common/v2.0/.well-known/openid-configuration"
    ),
    "metadata": [
        {
            "preferred_network": _MICROSOFT,
            "preferred_cache": "login.windows.net",
            "aliases": [_MICROSOFT, "login.windows.net", "login.microsoft.com", "sts.windows.net"],
        }
    ],
}


# ---- reading pages -----------------------------------------------------------------------


class Fence(NamedTuple):
    """A block of code, and the number of its first line."""

    language: str
    text: str
    line: int


class Page:
    """A page, parsed as Markdown; a test may give it another text."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        from markdown_it import MarkdownIt

        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.tokens = (
            MarkdownIt("commonmark")
            .enable("table")
            .parse(path.read_text("utf-8") if text is None else text)
        )

    def fences(self, *languages: str) -> list[Fence]:
        found = [
            Fence(token.info.strip(), token.content, (token.map or [0])[0] + 1)
            for token in self.tokens
            if token.type == "fence"
        ]
        return [fence for fence in found if not languages or fence.language in languages]

    def commands(self) -> Iterator[list[str]]:
        """The commands of the page, as words; of indented and inline code only ours."""
        for fence in self.fences("sh"):
            yield from commands_in(fence.text)
        for fence in self.fences("console"):
            lines = re.findall(r"^\$ ((?:[^\\\n]|\\(?s:.))*)$", fence.text, re.MULTILINE)
            yield from commands_in("\n".join(lines))
        for token in self.tokens:
            if token.type == "code_block":
                # CONTRIBUTING.md says behind some blanks what each command is for.
                whole = re.sub(r"\\\n\s*", " ", token.content).split("\n")
                lines = [re.split(r"\s{3,}", line.strip())[0] for line in whole]
            else:
                children = token.children or []
                lines = [child.content for child in children if child.type == "code_inline"]
            for line in lines:
                if re.match(r"(\$ )?(\w+=\S+ )*(python3? (-m )?\w|dev\.py )", line):
                    yield from commands_in(line.removeprefix("$ "))


def commands_in(text: str) -> Iterator[list[str]]:
    """The commands of a piece of shell, each without what it sets for itself."""
    for line in text.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();|&"):
                command.append(word)
                continue
            while command and re.match(r"\w+=", command[0]):
                del command[0]
            if command:
                yield command
            command = []


def fault_of(command: list[str]) -> str | None:
    """What is wrong with a command of a page, or None."""
    program, *arguments = command
    if program == "dev.py":
        program, arguments = "python3", command
    if program not in ("python", "python3"):
        return None if program in PROGRAMS else f"{program} is not in PROGRAMS"
    match arguments:
        case ["-m", "msal_extensions", *rest]:
            try:
                with contextlib.redirect_stderr(None):
                    _parser().parse_args(rest)
            except SystemExit as end:
                return "the command does not take these arguments" if end.code else None
            return None
        case ["-m", "pip", *_] | ["-c", *_]:
            return None
        case ["-m", module, *_]:
            return None if importlib.util.find_spec(module) else f"there is no module {module}"
        case ["dev.py", *rest]:
            known = (*dev.INSTALLING, "lint", "fix", *dev.MODULES)
            return None if rest and rest[0] in known else f"dev.py has no command {rest[:1]}"
        case [file, *_] if (ROOT / file).is_file():
            return None
    return "there is no such file or form"


def parse(language: str, text: str) -> None:
    """:raises Exception: when this is not of that language."""
    if language == "json":
        json.loads(text)
    elif language == "yaml":
        from ruamel.yaml import YAML

        assert list(YAML(typ="safe").load_all(text))
    elif language == "ini":
        made = configparser.RawConfigParser(strict=False)
        made.read_string(text)
        assert made.sections()
    elif language == "toml":
        # Before 3.11 Sphinx brings the other one.
        name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
        importlib.import_module(name).loads(text)


# ---- the world ---------------------------------------------------------------------------


class _Provider(LocalIdentityProvider):
    """Allows each device at once."""

    user = "ann@example.org"

    def answer(self, request: str, form: dict[str, str]) -> dict[str, Any] | str:
        answered = super().answer(request, form)
        if isinstance(answered, dict) and "user_code" in answered:
            self.approve_device(answered["user_code"], self.user)
        return answered


class _Internet(requests.adapters.HTTPAdapter):
    """Microsoft's host is the provider on loopback.  There is no other one."""

    def __init__(self, provider: LocalIdentityProvider) -> None:
        super().__init__()
        self._provider = provider

    def send(self, request: Any, *_: Any, **options: Any) -> requests.Response:
        url = urlsplit(request.url)
        if url.hostname != _MICROSOFT:
            raise requests.ConnectionError(f"a page of the documentation asks {url.hostname}")
        if url.path.endswith("/discovery/instance"):
            return self._answer(request, json.dumps(_DISCOVERY))
        asked, _, rest = url.path.lstrip("/").partition("/")
        tenant = self._provider.tenant if asked in _ANY_TENANT else asked
        here = urlsplit(self._provider.authority)
        request.url = urlunsplit((*here[:2], f"/{tenant}/{rest.lstrip('/')}", url.query, ""))
        options.update(verify=self._provider.certificate, proxies={})
        response = super().send(request, **options)
        base, public = f"{here.scheme}://{here.netloc}/{tenant}", f"https://{_MICROSOFT}/{asked}"
        return self._answer(request, response.text.replace(base, public), response.status_code)

    def _answer(self, request: Any, text: str, status: int = 200) -> requests.Response:
        made = requests.Response()
        made.status_code, made._content = status, text.encode()
        made.headers["Content-Type"] = "application/json"
        made.request, made.url = request, request.url
        return made


class World:
    """Where the blocks of one page run; see the contract above."""

    now: World | None = None

    def __init__(self, directory: Path, provider: _Provider) -> None:
        self.provider = provider
        self._internet = _Internet(provider)
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        places = {name: directory / name for name in ("home", "work", "tmp")}
        for place in places.values():
            place.mkdir(mode=0o700)
        self._work = places["work"]
        self._settings = {
            "HOME": str(places["home"]),
            "TMPDIR": str(places["tmp"]),
            "MSAL_EXTENSIONS_KEY_FILE": str(new_key(directory / "key")),
        }

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MSAL_EXTENSIONS_", "XDG_", "AZURE_", "IDENTITY_"))
        }
        before = Path.cwd()
        session = requests.sessions.Session
        adapter = mock.Mock(return_value=self._internet)
        with (
            mock.patch.dict(os.environ, {**kept, **self._settings}, clear=True),
            mock.patch.object(tempfile, "tempdir", None),
            mock.patch.object(session, "get_adapter", adapter),
            mock.patch.object(World, "now", self),
        ):
            os.chdir(self._work)
            try:
                yield
            finally:
                os.chdir(before)
                for thread in self._threads:
                    thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self._errors, self._errors

    def soon(self, function: Callable[[], object]) -> None:
        def work() -> None:
            try:
                function()
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Timer(0.2, work)
        thread.start()
        self._threads.append(thread)


def _world() -> World:
    assert World.now is not None, "only a page of the documentation has a world"
    return World.now


def soon(function: Callable[[], object]) -> None:
    """For invisible code: calls the function in another thread, a moment later."""
    _world().soon(function)


def other_program(persistence: Any, user: str = "ben@example.org") -> None:
    """For invisible code: signs a user in through another cache object of that place."""
    provider = _world().provider
    app = msal.PublicClientApplication("client_id", token_cache=PersistedTokenCache(persistence))
    flow = app.initiate_device_flow(["User.Read"])
    provider.approve_device(flow["user_code"], user)
    assert "access_token" in app.acquire_token_by_device_flow(flow)


# ---- running -----------------------------------------------------------------------------


def provider() -> _Provider:
    """The provider of all worlds, as a context manager."""
    return _Provider(tenant="tenant", client_id="client_id", client_secret="secret")


def sybil_document(page: Page) -> Any:
    """The page as sybil reads it."""
    from sybil import Sybil
    from sybil.evaluators.python import PythonEvaluator
    from sybil.parsers.markdown import CodeBlockParser, SkipParser

    sybil = Sybil([CodeBlockParser("python", PythonEvaluator()), SkipParser()])
    return sybil.parse(page.path)


def run_blocks(page: Page) -> tuple[set[int], dict[int, str]]:
    """Runs the Python of a page: the lines of the blocks that ran, and why others did not.

    :raises AssertionError: with page and line, when a block fails.
    """
    ran, skipped = set(), {}
    for example in sybil_document(page).examples():
        try:
            example.evaluate()
        except SkipTest as skip:
            skipped[example.line] = str(skip)
        except Exception as error:
            where = f"{page.name}, line {example.line}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        else:
            ran.add(example.line)
    return ran, skipped


def main() -> None:
    """Arguments: a page, and an empty directory for its world.  The last line of the output is
    JSON: the lines of the blocks that ran, and lines and reasons of those that did not.

    In a process of its own, because what other tests have left in theirs could get in.
    """
    name, directory = sys.argv[1:]
    running = provider()
    with running, World(Path(directory), running).entered():
        ran, skipped = run_blocks(Page(ROOT / name))
    print(json.dumps([sorted(ran), sorted(skipped.items())]))
