#!/usr/bin/env python3
"""The two commands of the README, and what contributors run.

    python3 dev.py quickstart [...]   install the package, run samples/quickstart.py
    python3 dev.py setup              install the system packages that are missing, and no more
    python3 dev.py test               install what the tests need, lint, run all tests in parallel
    python3 dev.py test [...]         the same for what the arguments name, in order (-n 4: in
                                      parallel)
    python3 dev.py test --quick       the same without the tests that are marked as slow
    python3 dev.py lint               the checks that run no test
    python3 dev.py fix                correct what ruff can, format the Python and C files
    python3 dev.py bench [lock|cache] measure both or one, write docs/*-benchmarks.md and .svg
    python3 dev.py compare            the README's figures: this package beside 1.3.1
    python3 dev.py versus COMMIT      files and locks beside an earlier commit, in one run
    python3 dev.py prove [NAME ...]   all long forms of tests, or some, which may take hours: --list
                                      says which there are, --seed N runs the same again
    python3 dev.py wheels             build the wheels that can be built here, check and try them
    python3 dev.py docs               build the pages into .venv/site and check their links; --look
                                      photographs them with chromium

Further arguments go to the program that is run. Needs Python 3.10 and nothing else. As root on
Debian or Ubuntu, quickstart, test and setup install the system packages that are missing, and say
so before; MSALEX_NO_APT=1 prevents it. The other commands, and other users, only get the names.
Virtual environments live under .venv and are made anew only when something they are made of has
changed. Downloads and the type checker's memory are kept in MSALEX_CACHE (default
~/.cache/msal-extensions-native), which may be removed at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "csrc", "python")
C_FOLDERS = ("csrc", "tests", "benchmarks")
C_WARNINGS = (
    *("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic"),
    "-Werror",
)


def is_debian_since(version: int) -> bool:
    """Is this that version of Debian, or a newer one?"""
    with contextlib.suppress(OSError, KeyError, ValueError):
        release = platform.freedesktop_os_release()
        return release["ID"] == "debian" and int(release["VERSION_ID"]) >= version
    return False


# libkf5wallet-bin brings the KWallet of KDE 5 or, since Debian 13, of KDE 6; it does not bring what
# that encrypts by.
QCA_PLUGINS = "libqca-qt6-plugins" if is_debian_since(13) else "libqca-qt5-2-plugins"
# clang's sanitizers and fuzzer have its number in their name, and `clang` is this one.
CLANG_RT = "libclang-rt-19-dev" if is_debian_since(13) else "libclang-rt-14-dev"
# What the tests use besides a compiler; without one of these some of them skip.
TEST_PACKAGES = (
    *("dbus", "gnome-keyring", "libsecret-1-0", "libsecret-1-dev", "libsecret-tools"),
    *("libkf5wallet-bin", QCA_PLUGINS),  # KWallet, which encrypts by the plugins
    *("keepassxc", "xvfb", "xdotool"),  # xdotool answers the dialogs of KeePassXC and KWallet
    *("python3-dev", "python3-gi", "gir1.2-secret-1"),  # /usr/bin/python3's
    *("acl", "inotify-tools", "pkg-config", "strace", "valgrind"),
    *("bindfs", "sshfs", "openssh-sftp-server"),  # file systems with two mounts
    *("debootstrap", "debian-archive-keyring"),  # for another Debian
    *("clang", CLANG_RT),  # fuzzers of C
    "systemd",  # systemd-analyze looks at the units of docs/headless.md
    *("gcc-mingw-w64-x86-64-win32", "gcc-mingw-w64-i686-win32", "mingw-w64-tools"),  # tests/windows
    *("wine", "wine64"),
)
# Programs that often come from elsewhere than Debian, and their packages there.
# node is another user of lock files; the workflow of docs/releasing.md calls curl.
TEST_PROGRAMS = {"git": "git", "node": "nodejs", "npm": "npm", "curl": "curl"}
# The commands that install system packages; the other ones name them.
INSTALLING = ("quickstart", "test", "setup")
# Commands that run a module in the environment of the tests.
MODULES = {
    "bench": "benchmarks.bench",
    "compare": "benchmarks.compare",
    "versus": "benchmarks.versus",
    "prove": "tests.prove",
    "wheels": "tools.wheels",
    "docs": "tools.docs",
}
# Workers of pytest for each processor: a test waits for half of its time.  With three a run on two
# cores took 1,339 s, with two 1,250 s.
WORKERS = 2
APT_UPDATE_S, APT_INSTALL_S, PIP_S = 300, 1200, 900
# A step that took longer says so: what of a run was the network's, and what the work's.
TELLING_S = 3


class Failure(Exception):
    """What went wrong and what to do about it, in one sentence."""


def say(text: str) -> None:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str], what: str, seconds: float, env: Mapping[str, str], remedy: str = ""
) -> None:
    """Run quietly; when it fails show the end of what it said, and the remedy or the command."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{what} took longer than {seconds:.0f} s: {shlex.join(command)}") from None
    except OSError as error:
        raise Failure(f"{what} failed: {error}") from None
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").splitlines()
        print("\n".join(said[-200:]), file=sys.stderr)
        end = remedy or shlex.join(command)
        raise Failure(f"{what} failed with status {done.returncode}: {end}")
    if (took := time.monotonic() - began) > TELLING_S:
        say(f"{what} took {took:.0f} s")


# ---- system packages --------------------------------------------------------------------


def compiler() -> str | None:
    """The C compiler that setuptools will use."""
    return shutil.which(os.environ.get("CC", "").split(" ")[0] or "cc") or shutil.which("gcc")


def has_c_library() -> bool:
    """Are the C library's headers here?  Debian's compiler comes without them."""
    cc = compiler()
    if cc is None:
        return False
    command = [cc, "-E", "-x", "c", "-o", os.devnull, "-"]
    program = "#include <stdio.h>\n"
    return subprocess.run(command, input=program, text=True, capture_output=True).returncode == 0


def missing_for_build() -> list[str]:
    """The packages without which nothing can be built here."""
    python = f"python3.{sys.version_info.minor}"
    missing = []
    if compiler() is None:
        missing += ["gcc"]
    if not has_c_library():
        missing += ["libc6-dev"]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing += [f"{python}-dev"]
    if importlib.util.find_spec("ensurepip") is None:
        missing += [f"{python}-venv"]
    return missing


def missing_for_tests() -> list[str]:
    """The packages without which some tests skip."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"]
    if shutil.which("dpkg-query") is None:
        return []
    known = subprocess.run([*query, *TEST_PACKAGES], capture_output=True, text=True, timeout=60)
    installed = known.stdout.split("\n")
    programs = [name for program, name in TEST_PROGRAMS.items() if shutil.which(program) is None]
    return [*programs, *(name for name in TEST_PACKAGES if f"{name} installed" not in installed)]


def may_install() -> bool:
    """Can apt-get install packages here, and is it welcome to?"""
    is_welcome = not os.environ.get("MSALEX_NO_APT")
    return is_welcome and os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(packages: Sequence[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]
    say(f"apt-get installs {' '.join(packages)} (MSALEX_NO_APT=1 prevents this)")
    with contextlib.suppress(Failure):  # an old list of packages may do
        run(["apt-get", *options, "update"], "apt-get update", APT_UPDATE_S, env)
    install = ["apt-get", *options, "install", "-y", "--no-install-recommends", *packages]
    run(install, "installing system packages", APT_INSTALL_S, env)


def advice(packages: Sequence[str]) -> str:
    """How the user can install them."""
    if shutil.which("apt-get") is None:
        return "this is not Debian or Ubuntu: install what these packages hold there"
    if os.geteuid() != 0:
        return f"run this once: sudo apt-get install {' '.join(packages)}"
    without = " without MSALEX_NO_APT" if os.environ.get("MSALEX_NO_APT") else ""
    return f"run python3 dev.py setup{without}"


def system_packages(for_tests: bool, install: bool) -> bool:
    """Is everything here?  If not, install it or say how: what is needed to build is a failure,
    what is needed for tests a warning."""
    needed, wanted = missing_for_build(), missing_for_tests() if for_tests else []
    reason = advice(needed + wanted)
    if install and may_install() and needed + wanted:
        reason = "apt-get did not bring it"
        try:
            apt_install(needed + wanted)
        except Failure as failure:
            reason = str(failure)
        needed, wanted = missing_for_build(), missing_for_tests() if for_tests else []
    if needed:
        raise Failure(f"{' '.join(needed)} missing; {reason}")
    if wanted:
        say(f"the tests that need {' '.join(wanted)} will skip; {reason}")
    return not wanted


def report_setup(is_complete: bool) -> int:
    if not is_complete:
        return 1
    if shutil.which("dpkg-query") is None:
        say(f"the tests also use what these packages of Debian hold: {' '.join(TEST_PACKAGES)}")
    else:
        say("all system packages are here")
    return 0


# ---- virtual environments ---------------------------------------------------------------


def cache_directory() -> Path:
    """Where heavy things are kept between checkouts; a place in this one when it cannot be."""
    chosen = os.environ.get("MSALEX_CACHE") or "~/.cache/msal-extensions-native"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        directory = Path(chosen).expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return directory
    directory = ROOT / ".venv" / "cache"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def environment() -> dict[str, str]:
    """The environment of all that runs in a virtual environment."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    env["MSALEX_CACHE"] = str(cache_directory())
    env.setdefault("PIP_CACHE_DIR", str(cache_directory() / "pip"))
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return env


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Keep two runs in one checkout from making the same environment at once."""
    with (ROOT / ".venv" / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run of dev.py to finish its installation")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copy_sources(to: Path) -> Path:
    """Copy what the package is built from: in place, setuptools would build stale files too."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.o", ".*")
    for source in (ROOT / name for name in SOURCES):
        if source.is_dir():
            shutil.copytree(source, to / source.name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, to)
    return to


def prepare(name: str, group: str | None, with_package: bool = True) -> Path:
    """A virtual environment with a dependency group and the package, as they are now: its Python.
    Without the package, what is there of it may be old."""
    directory = ROOT / ".venv" / name
    python, stamp = directory / "bin" / "python", directory / "stamp"
    settings = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "dev.py")]
    tools = digest(sys.version.encode(), bytes(Path(sys.executable).resolve()), *settings)
    env = environment()
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    directory.parent.mkdir(exist_ok=True)
    with one_at_a_time(name), tempfile.TemporaryDirectory(prefix="msalex-") as temporary:
        source = copy_sources(Path(temporary))
        files = sorted(path for path in source.rglob("*") if path.is_file())
        package = digest(*(bytes(f.relative_to(source)) + b"\0" + f.read_bytes() for f in files))
        made = stamp.read_text().split() if stamp.exists() else []
        if made == [tools, package] or (made[:1] == [tools] and not with_package):
            return python
        say(f"installing into {directory.relative_to(ROOT)}")
        stamp.unlink(missing_ok=True)  # until all is done, nothing is
        if made[:1] != [tools]:
            venv = [sys.executable, "-m", "venv", "--clear", str(directory)]
            run(venv, "making a virtual environment", PIP_S, env)
            if group:
                # Older ones know no dependency groups.
                run([*pip, "--upgrade", "pip>=25.1"], "updating pip", PIP_S, env)
                group_of = f"{ROOT / 'pyproject.toml'}:{group}"
                run([*pip, "--group", group_of], "installing the tools", PIP_S, env)
        stamp.write_text(tools)
        if not with_package:
            return python
        # pip installs a directory again even when that version is there.
        run([*pip, str(source)], "installing the package", PIP_S, env)
        stamp.write_text(f"{tools} {package}")
    return python


# ---- commands ---------------------------------------------------------------------------


def c_sources() -> list[Path]:
    """The C files that compile here: all but those of other systems."""
    found = sorted((ROOT / "csrc").glob("*.c"))
    return [path for path in found if not path.stem.endswith(("_windows", "_macos"))]


def c_files() -> list[Path]:
    """All C files of the tree, for whatever system."""
    return sorted(path for folder in C_FOLDERS for path in (ROOT / folder).rglob("*.[ch]"))


def clang_format(python: Path) -> list[str]:
    return [str(python.parent / "clang-format"), *map(str, c_files())]


def fix(python: Path) -> None:
    """Correct and format; what only a person can correct is a failure, after all else is done."""
    env = environment()
    ruff = [str(python), "-m", "ruff"]
    run([*ruff, "check", "--fix", "--exit-zero", str(ROOT)], "ruff check --fix", 300, env)
    run([*ruff, "format", str(ROOT)], "ruff format", 300, env)
    run([*clang_format(python), "-i"], "clang-format", 300, env)
    run([*ruff, "check", str(ROOT)], "ruff check", 300, env)
    say("what ruff and clang-format can correct is corrected")


def lint(python: Path) -> None:
    """All checks that run no test; the first that fails ends it."""
    env = environment()
    c_command = [compiler() or "cc", *C_WARNINGS, "-I", str(ROOT / "csrc"), "-o", os.devnull, "-c"]
    mypy = ["-m", "mypy", "--cache-dir", str(cache_directory() / "mypy"), "--no-error-summary"]
    run([str(python), "-m", "ruff", "check", str(ROOT)], "ruff check", 300, env)
    run([str(python), "-m", "ruff", "format", "--check", str(ROOT)], "ruff format", 300, env)
    check = [*clang_format(python), "--dry-run", "-Werror"]
    run(check, "clang-format", 300, env, remedy="run python3 dev.py fix")
    os.chdir(ROOT)
    run([str(python), *mypy], "mypy", 600, env)
    for path in c_sources():
        run([*c_command, str(path)], f"compiling {path.relative_to(ROOT)}", 120, env)
    say("ruff, clang-format, mypy and the C compiler find nothing")


def become(command: Sequence[str]) -> None:
    """Run it in this process: its exit status, its signals and its last line are ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(ROOT)
    os.execve(command[0], list(command), environment())


def pytest_arguments(arguments: Sequence[str]) -> list[str]:
    """What pytest gets: all tests run in parallel; with arguments they run in order."""
    chosen = [argument for argument in arguments if argument != "--quick"]
    chosen = chosen or ["-n", str(WORKERS * (os.cpu_count() or 1))]
    if any(argument.startswith(("-n", "--numprocesses")) for argument in chosen):
        chosen += ["--dist", "worksteal"]
    return [*(["-m", "not slow"] if "--quick" in arguments else []), *chosen]


def main(arguments: Sequence[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if command not in (*INSTALLING, "lint", "fix", *MODULES):
        print((__doc__ or "").strip(), file=sys.stderr)
        return 0 if command in ("-h", "--help") else 2
    for_tests = command in ("test", "setup", *MODULES)
    is_complete = system_packages(for_tests, install=command in INSTALLING)
    if command == "setup":
        return report_setup(is_complete)
    if command == "quickstart":
        become([str(prepare("quickstart", None)), "samples/quickstart.py", *rest])
    if command == "fix":
        fix(prepare("test", "test", with_package=False))
        return 0
    python = prepare("test", "test")
    if command in MODULES:
        become([str(python), "-m", MODULES[command], *rest])
    lint(python)
    if command == "test":
        become([str(python), "-m", "pytest", *pytest_arguments(rest)])
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - it is what tells an older Python's user
        sys.exit("dev.py: Python 3.10 or newer is needed; run dev.py with one, such as python3.12")
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, OSError) as failure:
        sys.exit(f"dev.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
