"""Package indexes on loopback, and the real installers, which see nothing else.

    index.write([our_wheel(directory)], site / "native", url)
    with serving(site) as address: ...
    installers = Installers(directory, f"{address}/public")
    installers.run("pip install azure-identity", project)

Ours is the installed package under test, as a wheel again.  What is public was downloaded once,
from wherever pip of this machine gets packages, and is kept in MSALEX_CACHE; so are the installers.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.server
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.cached import cached
from tests.support.capability import needs
from tests.support.foreign_suites import AZURE_IDENTITY
from tests.support.processes import PATIENCE

OURS = importlib.metadata.version("msal-extensions")
PURE = "1.3.1"
AZ = "azure-cli-core==2.91.0"
#: What stands on the public index, with all that it needs here.
PUBLIC = (AZURE_IDENTITY, AZ, f"msal-extensions=={PURE}", "pip==26.3")
#: The installers and their versions: docs/install.md tells what these do.
PIP, UV, POETRY, PIPX = "pip==26.3", "uv==0.13.9", "poetry==2.5.1", "pipx==1.18.4"


def _calling(module: str, function: str) -> str:
    code = f"import sys; sys.path.insert(0, '{{directory}}'); from {module} import {function};"
    return f'{{python}} -S -c "{code} sys.exit({function}())" "$@"'


#: How an installer is started that lies in a directory of its own, and sees no other packages.
STARTS = {
    PIP: '{python} -S {directory}/pip "$@"',
    UV: '{directory}/bin/uv "$@"',
    POETRY: _calling("poetry.console.application", "main"),
    PIPX: _calling("pipx.main", "cli"),
}
PIP_S, INSTALL_S = 600, 5 * PATIENCE
_FACTS = f"{sys.version} {sysconfig.get_platform()}"


# ---- what stands on the indexes ----------------------------------------------------------


def _pip(*arguments: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", *map(str, arguments)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=PIP_S)
    if done.returncode != 0:
        needs(f"packages for the index of the test cannot be had: {done.stderr[-500:]}")


def public_wheels() -> list[Path]:
    """The wheels of the public index: the real ones."""

    def make(directory: Path) -> None:
        _pip("download", "--only-binary", ":all:", "--dest", directory, *PUBLIC)

    directory = cached("index", "public", f"{PUBLIC} {_FACTS}", make)
    return sorted(directory.glob("*.whl"))


def pure_wheel() -> Path:
    [found] = [path for path in public_wheels() if path.name.startswith("msal_extensions-")]
    return found


def our_wheel(to: Path) -> Path:
    """The wheel from which the package under test was installed, made again of its files."""
    distribution = importlib.metadata.distribution("msal-extensions")
    tag = re.findall(r"^Tag: (.*)$", distribution.read_text("WHEEL") or "", re.MULTILINE)
    folder = f"msal_extensions-{OURS}"
    written_by_pip = {f"{folder}.dist-info/{it}" for it in ("INSTALLER", "REQUESTED", "RECORD")}
    written_by_pip |= {f"{folder}.dist-info/direct_url.json"}
    files = {
        file.as_posix(): Path(str(file.locate())).read_bytes()
        for file in distribution.files or ()
        if "__pycache__" not in file.parts and file.as_posix() not in written_by_pip
    }
    return pack(to / f"{folder}-{tag[0]}.whl", files)


def published_later(to: Path, version: str) -> Path:
    """The pure package as its owners may publish it some day, under a higher version."""
    return _changed(to, "msal_extensions", version, {PURE: version})


def under_another_name(to: Path, name: str) -> Path:
    """The files of the pure package, as a package of another name has them."""
    names = {"Name: msal-extensions": f"Name: {name}"}
    return _changed(to, name.replace("-", "_"), PURE, names)


def _changed(to: Path, name: str, version: str, words: Mapping[str, str]) -> Path:
    """The pure wheel with another name or version, and with other words in its files."""
    files = {}
    with zipfile.ZipFile(pure_wheel()) as archive:
        for member in archive.namelist():
            content = archive.read(member)
            for old, new in words.items():
                content = content.replace(old.encode(), new.encode())
            if not member.endswith("/RECORD"):
                old = f"msal_extensions-{PURE}.dist-info/"
                files[member.replace(old, f"{name}-{version}.dist-info/")] = content
    return pack(to / f"{name}-{version}-py3-none-any.whl", files)


def pack(wheel: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel with these files, and the list of them."""
    [metadata] = [name for name in files if name.endswith(".dist-info/METADATA")]
    record = metadata.replace("METADATA", "RECORD")
    lines = []
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            lines.append(f"{name},sha256={digest.rstrip('=')},{len(content)}\n")
            archive.writestr(name, content)
        archive.writestr(record, "".join([*lines, f"{record},,\n"]))
    return wheel


# ---- the server --------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # an installer that has read enough closes its connection


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[str]:
    """The address of a web server on loopback that shows the files of this directory."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


# ---- the installers ----------------------------------------------------------------------


def _installer(requirement: str) -> Path:
    def make(directory: Path) -> None:
        _pip("install", "--only-binary", ":all:", "--target", directory, requirement)

    return cached("installers", requirement, f"{requirement} {_FACTS}", make)


class Installers:
    """The commands pip, uv and poetry of a person with an empty home.

    :param public: The index that is in the place of the usual one.
    """

    def __init__(self, directory: Path, public: str) -> None:
        self.commands, home = directory / "bin", directory / "home"
        for path in (self.commands, home):
            path.mkdir(parents=True)
        for requirement, start in STARTS.items():
            installer = str(_installer(requirement))
            words = start.format(python=shlex.quote(sys.executable), directory=installer)
            command = self.commands / requirement.partition("==")[0]
            command.write_text(f"#!/bin/sh\nexec {words}\n")
            command.chmod(0o755)
        kept = ("LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
        nowhere = "http://127.0.0.1:9"  # the port "discard": every other address fails at once
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(home),
            "http_proxy": nowhere,
            "https_proxy": nowhere,
            "no_proxy": "127.0.0.1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": f"{public}/simple/",
            "PIP_NO_COMPILE": "1",
            "UV_DEFAULT_INDEX": f"{public}/simple/",
            "UV_PYTHON_DOWNLOADS": "never",
            "POETRY_VIRTUALENVS_IN_PROJECT": "true",
            "POETRY_KEYRING_ENABLED": "false",
        }

    def run(
        self, script: str, project: Path, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs lines of a shell in a directory, in whose environment .venv they install."""
        venv = project / ".venv"
        path = [str(venv / "bin"), str(self.commands), os.defpath]
        return subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=project,
            env={
                **self.environment,
                "PATH": os.pathsep.join(path),
                "PIP_PYTHON": str(venv / "bin" / "python"),
                "VIRTUAL_ENV": str(venv),
                **(variables or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_S,
        )
