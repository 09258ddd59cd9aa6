"""The figures of the README: this package beside the pure-Python 1.3.1, in one run.

    python3 dev.py compare

Prints a table in Markdown.  Everything is measured in fresh processes; medians, with the
quartiles where there is a spread to tell.  The Secret Service is a real gnome-keyring on a bus of
its own; 1.3.1 reaches it through PyGObject, so that part runs on the system's Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support import keyring
from tests.support.reference import (
    python_with_gi,
    reference_python,
    reference_site_packages,
)

ROOT = Path(__file__).parents[2]
KILLS = 60
READS = 10_000


class Row(NamedTuple):
    """One line of the table."""

    what: str
    theirs: str
    ours: str
    note: str = ""


class Library(NamedTuple):
    """How to run a Python that has one of the two packages."""

    command: list[str]
    environment: dict[str, str]

    def run(self, code: str, *arguments: str, **variables: str) -> str:
        return subprocess.run(
            [*self.command, "-c", textwrap.dedent(code), *arguments],
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=600,
        ).stdout

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, "-c", textwrap.dedent(code), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )


def spread(values: list[float], unit: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} {unit} ({low:.3g} to {high:.3g})"


def ratio(ours: list[float], theirs: list[float]) -> str:
    return f"ratio {statistics.median(ours) / statistics.median(theirs):.2f}"


# ---- files ----

WRITER = """
    import sys
    from msal_extensions import FilePersistence
    persistence, number = FilePersistence(sys.argv[1]), 0
    print("ready", flush=True)
    while True:
        number += 1
        persistence.save(f"{number % 10**8:08d}" * 37_500)
"""
READER = """
    import sys
    from msal_extensions import FilePersistence
    persistence, torn = FilePersistence(sys.argv[1]), 0
    for _ in range(int(sys.argv[2])):
        content = persistence.load()
        torn += len(content) != 300_000 or content != content[:8] * 37_500
    print(torn)
"""


def writing(library: Library, location: str) -> subprocess.Popen[str]:
    process = library.start(WRITER, location)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def torn_reads(library: Library, directory: str) -> str:
    writer = writing(library, directory + "/torn")
    try:
        torn = int(library.run(READER, directory + "/torn", str(READS)))
    finally:
        end(writer)
    return f"{torn} of {READS:,}"


def broken_by_kill(library: Library, directory: str) -> str:
    broken = 0
    for _ in range(KILLS):
        end(writing(library, directory + "/killed"))
        broken += library.run(READER, directory + "/killed", "1") != "0\n"
    return f"{broken} of {KILLS}"


# ---- the lock ----

LOCK = """
    import sys, time
    from msal_extensions import CrossPlatLock
    for _ in range(200):
        before = time.perf_counter()
        for _ in range(10):
            with CrossPlatLock(sys.argv[1]):
                pass
        print((time.perf_counter() - before) * 1e5)
"""


def floats(text: str) -> list[float]:
    return [float(line) for line in text.split()]


# ---- importing, and the Secret Service ----

IMPORT = """
    import msal, time
    before = time.perf_counter()
    import msal_extensions
    print((time.perf_counter() - before) * 1000)
"""
FRESH = """
    import msal, sys, time
    before = time.perf_counter()
    from msal_extensions import LibsecretPersistence
    persistence = LibsecretPersistence(sys.argv[1])
    persistence.load()
    print((time.perf_counter() - before) * 1000)
"""
SAVE = """
    import sys
    from msal_extensions import LibsecretPersistence
    LibsecretPersistence(sys.argv[1]).save("x" * 20_000)
"""
WARM = """
    import sys, time
    from msal_extensions import LibsecretPersistence
    persistence = LibsecretPersistence(sys.argv[1])
    for number in range(int(sys.argv[2])):
        content = f"{number:020d}" * 1000
        before = time.perf_counter(); persistence.save(content)
        middle = time.perf_counter(); persistence.load()
        print((middle - before) * 1e3, (time.perf_counter() - middle) * 1e3)
"""


def install_for(python: str, target: str) -> str:
    """Our package, as installed here, where another Python finds it (the extension is abi3)."""
    import msal_extensions

    source = Path(msal_extensions.__file__).parent
    shutil.copytree(source, Path(target, "msal_extensions"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--target", target, "msal", "cffi"], check=True)
    return target


def compile_baseline(directory: str) -> str | None:
    """The C program, or None where libsecret's headers are missing."""
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libsecret-1"], capture_output=True, text=True
    )
    if flags.returncode != 0:
        return None
    program = directory + "/baseline"
    source = str(ROOT / "tests/c/libsecret_baseline.c")
    subprocess.run(["cc", "-O2", source, *flags.stdout.split(), "-o", program], check=True)
    return program


def secret_service_rows(directory: str, report: Callable[[Row], None]) -> None:
    """Rounds of each, in turn, so that a noisy moment hits all of them."""
    if missing := keyring.missing():
        report(Row("Secret Service", "not measured", "not measured", missing))
        return
    python = python_with_gi()
    environment = dict(os.environ)
    ours = install_for(python, directory + "/ours")
    theirs = str(reference_site_packages(portalocker=False, python=python))
    with keyring.running(directory) as service:
        environment.update(service.variables)
        us = Library([python], {**environment, "PYTHONPATH": ours})
        them = Library([python], {**environment, "PYTHONPATH": theirs})
        item = directory + "/signal"
        us.run(SAVE, item)
        fresh: dict[Library | str, list[float]] = {}
        for _ in range(15):
            for name, library in (("theirs", them), ("ours", us)):
                fresh.setdefault(name, []).append(float(library.run(FRESH, item)))
        report(
            Row(
                "fresh process: import, construct, load from the Secret Service, beyond `import"
                " msal`",
                spread(fresh["theirs"], "ms"),
                spread(fresh["ours"], "ms"),
                ratio(fresh["ours"], fresh["theirs"]),
            )
        )
        baseline = compile_baseline(directory)
        saves: dict[str, list[float]] = {"theirs": [], "ours": [], "C": []}
        loads: dict[str, list[float]] = {"theirs": [], "ours": [], "C": []}
        for _ in range(10):
            for name, library in (("theirs", them), ("ours", us)):
                for line in library.run(WARM, item, "40").splitlines():
                    save, load = line.split()
                    saves[name].append(float(save))
                    loads[name].append(float(load))
            if baseline is not None:
                words = subprocess.run(
                    [baseline, "40", "20000"], env=environment, stdout=subprocess.PIPE, text=True
                ).stdout.split()
                saves["C"].append(float(words[3]) / 1000)
                loads["C"].append(float(words[5]) / 1000)
        for what, times in (("save", saves), ("load", loads)):
            note = "no C program: libsecret-1-dev is missing"
            if times["C"]:
                middle = statistics.median(times["C"])
                note = f"C program on libsecret {middle:.3g} ms; {ratio(times['ours'], times['C'])}"
            report(
                Row(
                    f"{what} 20 kB, Secret Service, warm",
                    spread(times["theirs"], "ms"),
                    spread(times["ours"], "ms"),
                    note,
                )
            )


def main() -> None:
    us = Library([sys.executable], dict(os.environ))
    portalocker = Library(*reference_python(portalocker=True))
    bare = Library(*reference_python(portalocker=False))
    print("| what | 1.3.1 | this package | |\n|---|---|---|---|", flush=True)

    def report(row: Row) -> None:
        print("| " + " | ".join(row) + " |", flush=True)

    with tempfile.TemporaryDirectory(dir=os.environ.get("MSALEX_BENCH_DIR")) as directory:
        report(
            Row(
                "torn reads beside a writer of 300 kB in a loop",
                torn_reads(bare, directory),
                torn_reads(us, directory),
            )
        )
        report(
            Row(
                "files broken by SIGKILL of such a writer",
                broken_by_kill(bare, directory),
                broken_by_kill(us, directory),
            )
        )
        lock = directory + "/lock"
        times: dict[str, list[float]] = {"theirs": [], "bare": [], "ours": []}
        for _ in range(5):
            times["theirs"] += floats(portalocker.run(LOCK, lock))
            times["bare"] += floats(bare.run(LOCK, lock))
            times["ours"] += floats(us.run(LOCK, lock))
        report(
            Row(
                "lock and unlock, nobody else there",
                f"{spread(times['theirs'], 'us')}; without portalocker"
                f" {spread(times['bare'], 'us')}",
                spread(times["ours"], "us"),
                f"{ratio(times['ours'], times['theirs'])} and"
                f" {statistics.median(times['ours']) / statistics.median(times['bare']):.2f}",
            )
        )
        imports: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(11):
            imports["theirs"].append(float(portalocker.run(IMPORT)))
            imports["ours"].append(float(us.run(IMPORT)))
        report(
            Row(
                "import, beyond `import msal`",
                spread(imports["theirs"], "ms"),
                spread(imports["ours"], "ms"),
                ratio(imports["ours"], imports["theirs"]),
            )
        )
        secret_service_rows(directory, report)


if __name__ == "__main__":
    main()
