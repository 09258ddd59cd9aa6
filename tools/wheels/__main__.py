"""Builds the wheels that can be built on this machine, checks them and tries them.

    python3 dev.py wheels                         all
    python3 dev.py wheels manylinux-x86_64 ...    some
    python3 dev.py wheels --list                  what there is, and what tries each

    --out DIR     where the source distribution and the wheels go (default: dist)
    --twice       builds all of them a second time elsewhere, and compares the bytes

A source distribution is made first.  From it setuptools builds each wheel for Linux, where zig
compiles for every processor and C library.  The wheels for macOS and Windows are compiled as those
of the tests are, over stub frameworks and by mingw, from the C files of this checkout.  They show
that these files compile and link: what is published is built by wheels.yml on these systems.

Nothing is installed on this machine.  Interpreters of other Debians, and QEMU for other processors,
are downloaded and unpacked below MSALEX_CACHE (some 1.5 GB for all).  What cannot be built or run
here is named at the end, with the reason.  The exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.wheels import building, checking, trying
from tools.wheels.showing import Display, Outcome, listing, table
from tools.wheels.targets import BASE, TARGETS, Target

#: Builds at the same time.
JOBS = min(2, os.cpu_count() or 1)


class Run:
    """One run of the command."""

    def __init__(self, targets: Sequence[Target], out: Path, work: Path, twice: bool) -> None:
        self.targets, self.out, self.work, self.twice = targets, out, work, twice
        steps = sum(2 + len(trying.tries(target)) + twice for target in targets)
        self.display = Display(steps + 1 + twice)
        self.sources: list[building.Source] = []

    def step(self, name: str, what: str, do: Callable[[], object]) -> float:
        """Do it, and show it: the seconds that it took."""
        self.display.begin(name, what)
        began = time.monotonic()
        said = what
        try:
            do()
        except Exception as error:
            said = f"{what}: not done: {last_line(error)}"
            raise
        finally:
            self.display.end(name, said, time.monotonic() - began)
        return time.monotonic() - began

    def run(self) -> list[Outcome]:
        self.out.mkdir(parents=True, exist_ok=True)
        with self.display.shown(), ThreadPoolExecutor(JOBS) as pool:
            for number in range(1 + self.twice):
                where = self.work / str(number)
                what = "the source distribution" + (", again" if number else "")

                def make(where: Path = where) -> None:
                    self.sources.append(building.Source.make(where))

                self.step("sdist", what, make)
            shutil.copyfile(self.sources[0].sdist, self.out / self.sources[0].sdist.name)
            futures: dict[str, Future[Outcome]] = {}
            # Those that others are packed from come first.
            for target in sorted(
                self.targets, key=lambda it: (it.needs is not None, it.name != BASE)
            ):
                bases = {name: futures[name].result() for name in filter(None, [target.needs])}
                futures[target.name] = pool.submit(self.one, target, bases)
            return [futures[target.name].result() for target in self.targets]

    def one(self, target: Target, bases: Mapping[str, Outcome]) -> Outcome:
        """Build, compare, check and try one."""
        wheels: list[Path] = []
        done = Outcome(target, None, 0, (), (), (), ())
        try:
            for number, source in enumerate(self.sources):

                def build(source: building.Source = source, number: int = number) -> None:
                    base = bases[target.needs].wheel if target.needs else None
                    if target.needs and base is None:
                        raise building.CannotBuild(f"{target.needs} was not built")
                    directory = self.work / str(number) / target.name
                    wheels.append(building.build(target, source, directory, base))

                spent = self.step(target.name, "built again" if number else "built", build)
                done = done._replace(seconds=done.seconds or spent)
        except (building.CannotBuild, pytest.skip.Exception) as missing:
            return done._replace(notes=[f"not built: {missing}"])
        except Exception as error:
            return done._replace(wrong=[f"building: {short(error)}"])
        wheel = Path(shutil.copy(wheels[0], self.out))
        digests = [hashlib.sha256(one.read_bytes()).hexdigest() for one in wheels]
        done = done._replace(wheel=wheel, digest=digests[0])
        if len(set(digests)) > 1:
            done = done._replace(wrong=["two builds differ: " + " ".join(d[:16] for d in digests)])
        return self.tried(self.checked(done))

    def checked(self, done: Outcome) -> Outcome:
        passed: list[str] = []
        assert done.wheel is not None
        try:
            check = functools.partial(checking.apply, done.wheel, done.target, passed)
            self.step(done.target.name, "checked", check)
        except Exception as error:
            return done._replace(wrong=[*done.wrong, short(error)])
        return done._replace(checks=passed)

    def tried(self, done: Outcome) -> Outcome:
        tried, notes, wrong = list(done.tried), list(done.notes), list(done.wrong)
        assert done.wheel is not None
        for number, one in enumerate(trying.tries(done.target)):
            directory = self.work / "tries" / done.target.name / str(number)
            attempt = functools.partial(trying.attempt, one, done.wheel, directory)
            try:
                self.step(done.target.name, f"tried on {one.name}", attempt)
                tried.append(one.name)
            except trying.CannotTry as missing:
                notes.append(f"built, not run on {one.name}: {missing}")
            except Exception as error:
                wrong.append(f"{one.name}: {short(error)}")
        if reason := trying.why_not(done.target):
            notes.append(reason)
        return done._replace(tried=tried, notes=notes, wrong=wrong)


def last_line(error: Exception) -> str:
    return short(error).splitlines()[-1][-200:]


def short(error: Exception) -> str:
    """The end of what a program said."""
    text = str(error).strip() or type(error).__name__
    return text if len(text) < 1500 else f"... {text[-1500:]}"


def hashes(outcomes: Sequence[Outcome], sources: Sequence[building.Source]) -> str:
    digests = [hashlib.sha256(source.sdist.read_bytes()).hexdigest() for source in sources]
    lines = [f"{digests[0]}  {sources[0].sdist.name}"]
    lines += [f"{it.digest}  {it.wheel.name}" for it in outcomes if it.wheel]
    if len(set(digests)) > 1:
        lines.append(f"FAILED: two builds of {sources[0].sdist.name} differ")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py wheels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", type=Path, default=building.ROOT / "dist")
    parser.add_argument("--twice", action="store_true")
    told = parser.parse_args(arguments)
    known = {target.name: target for target in TARGETS}
    if unknown := [name for name in told.names if name not in known]:
        parser.error(f"no such target: {' '.join(unknown)}; --list says which there are")
    # Others are packed from the base.
    more = [known[name].needs for name in told.names if known[name].needs]
    names = dict.fromkeys([*filter(None, more), *told.names])
    targets = [known[name] for name in names] or list(TARGETS)
    if told.list:
        print(listing(targets))
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="msalex-wheels-") as work:
        run = Run(targets, told.out, Path(work), told.twice)
        ours = sys.stdout
        with contextlib.redirect_stdout(io.StringIO()):  # cffi prints each step
            outcomes = run.run()
        sys.stdout = ours  # several threads may have redirected it
        print(f"\n{table(outcomes)}\n")
        print(hashes(outcomes, run.sources))
        same = len({source.sdist.read_bytes() for source in run.sources}) == 1
    failed = sum(outcome.failed for outcome in outcomes) + (not same)
    twice = "each built twice with equal bytes, " if told.twice and not failed else ""
    built = sum(outcome.wheel is not None for outcome in outcomes)
    seconds = time.monotonic() - began
    print(f"\n{built} wheels in {told.out}, {twice}{failed} failed, {seconds:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
