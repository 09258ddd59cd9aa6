"""The figures of the README: this package beside the pure-Python 1.3.1, in one run.

    python3 dev.py compare

Prints a table in Markdown.  Everything is measured in fresh processes; the figures are medians,
with the quartiles where there are several samples.  The Secret Service is a real gnome-keyring on a
bus of its own; 1.3.1 reaches it through PyGObject, so that part runs on the system's Python.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.workers import ROOT
from tests.support import keyring
from tests.support.processes import finished, python, saying
from tests.support.reference import (
    python_with_gi,
    reference_python,
    reference_site_packages,
)

KILLS = 60
READS = 10_000

#: The command of a Python that has one of the two packages, and its environment.
Library = tuple[list[str], Mapping[str, str]]
#: Name -> one column of samples for each number in a line that its snippet printed.
Samples = dict[str, list[tuple[float, ...]]]


def run(library: Library, code: str, *arguments: str) -> str:
    command, environment = library
    return python(code, *arguments, command=command, environment=environment).stdout


def in_turn(rounds: int, **programs: Callable[[], str]) -> Samples:
    """What the programs printed; they take turns, so that a noisy moment hits all of them."""
    lines: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            lines[name] += [[float(it) for it in line.split()] for line in program().splitlines()]
    return {name: list(zip(*found, strict=True)) for name, found in lines.items()}


def spread(values: Sequence[float], unit: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} {unit} ({low:.3g} to {high:.3g})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def line(what: str, theirs: str, ours: str, note: str = "") -> None:
    print(f"| {what} | {theirs} | {ours} | {note} |", flush=True)


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


@contextmanager
def writing(library: Library, location: str) -> Generator[None]:
    """A process writes there in a loop, until SIGKILL ends it."""
    command, environment = library
    with saying("ready", [*command, "-c", textwrap.dedent(WRITER), location], environment):
        time.sleep(0.05)
        yield


def torn_reads(library: Library, directory: str) -> str:
    with writing(library, directory + "/torn"):
        torn = int(run(library, READER, directory + "/torn", str(READS)))
    return f"{torn} of {READS:,}"


def broken_by_kill(library: Library, directory: str) -> str:
    broken = 0
    for _ in range(KILLS):
        with writing(library, directory + "/killed"):
            pass
        broken += run(library, READER, directory + "/killed", "1") != "0\n"
    return f"{broken} of {KILLS}"


# ---- the lock, importing, and the Secret Service ----

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
    finished([*pip, "--target", target, "msal", "cffi"])
    return target


def compile_baseline(directory: str) -> str | None:
    """The C program, or None where libsecret's headers are missing."""
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libsecret-1"], capture_output=True, text=True
    )
    if flags.returncode != 0:
        return None
    program = directory + "/baseline"
    source = str(ROOT / "tests/native/linux/libsecret_baseline.c")
    finished(["cc", "-O2", source, *flags.stdout.split(), "-o", program], seconds=60)
    return program


def secret_service(directory: str) -> None:
    """The lines about the Secret Service."""
    if missing := keyring.missing():
        line("Secret Service", "not measured", "not measured", missing)
        return
    interpreter = python_with_gi()
    site = install_for(interpreter, directory + "/ours")
    reference = str(reference_site_packages(portalocker=False, python=interpreter))
    with keyring.running(directory) as service:
        us: Library = [interpreter], {**service.variables, "PYTHONPATH": site}
        them: Library = [interpreter], {**service.variables, "PYTHONPATH": reference}
        item = directory + "/signal"
        run(us, SAVE, item)
        fresh = in_turn(
            15, theirs=lambda: run(them, FRESH, item), ours=lambda: run(us, FRESH, item)
        )
        programs: dict[str, Callable[[], str]] = {
            "theirs": lambda: run(them, WARM, item, "40"),
            "ours": lambda: run(us, WARM, item, "40"),
        }
        if baseline := compile_baseline(directory):
            environment = {**os.environ, **service.variables}

            def in_c() -> str:
                words = finished([baseline, "40", "20000"], environment=environment).split()
                return f"{float(words[3]) / 1000} {float(words[5]) / 1000}"

            programs["C"] = in_c
        warm = in_turn(10, **programs)
    what = "fresh process: import, construct, load from the Secret Service, beyond `import msal`"
    times_line(what, "ms", fresh)
    for number, what in enumerate(("save", "load")):
        theirs, ours = warm["theirs"][number], warm["ours"][number]
        note = "no C program: libsecret-1-dev is missing"
        if "C" in warm:
            middle = statistics.median(warm["C"][number])
            note = f"C program on libsecret {middle:.3g} ms; ratio {ratio(ours, warm['C'][number])}"
        columns = spread(theirs, "ms"), spread(ours, "ms")
        line(f"{what} 20 kB, Secret Service, warm", *columns, note)


def times_line(what: str, unit: str, samples: Samples) -> None:
    (theirs,), (ours,) = samples["theirs"], samples["ours"]
    line(what, spread(theirs, unit), spread(ours, unit), f"ratio {ratio(ours, theirs)}")


def main() -> None:
    us: Library = [sys.executable], {}
    portalocker = reference_python(portalocker=True)
    bare = reference_python(portalocker=False)
    print("| what | 1.3.1 | this package | |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=os.environ.get("MSALEX_BENCH_DIR")) as directory:
        for what, count in (
            ("torn reads beside a writer of 300 kB in a loop", torn_reads),
            ("files broken by SIGKILL of such a writer", broken_by_kill),
        ):
            line(what, count(bare, directory), count(us, directory))
        lock = directory + "/lock"
        locks = in_turn(
            5,
            theirs=lambda: run(portalocker, LOCK, lock),
            bare=lambda: run(bare, LOCK, lock),
            ours=lambda: run(us, LOCK, lock),
        )
        theirs, without, ours = (locks[name][0] for name in ("theirs", "bare", "ours"))
        line(
            "lock and unlock, nobody else there",
            f"{spread(theirs, 'us')}; without portalocker {spread(without, 'us')}",
            spread(ours, "us"),
            f"ratio {ratio(ours, theirs)} and {ratio(ours, without)}",
        )
        imports = in_turn(11, theirs=lambda: run(portalocker, IMPORT), ours=lambda: run(us, IMPORT))
        times_line("import, beyond `import msal`", "ms", imports)
        secret_service(directory)


if __name__ == "__main__":
    main()
