"""Looks at this package itself: whether its files are ours, whole, and can be loaded.

It imports nothing of ours but the report and what pip has written down, because everything else may
be what is broken: the files of the pure-Python package may be in the place of ours.
"""

from __future__ import annotations

import glob
import importlib
import importlib.machinery
import os
import platform
import sys
from importlib.metadata import Distribution

from .. import _references as references
from .._import_errors import reference_of
from . import record
from .report import Installation, Report, Severity

#: How many files a sentence names.
_NAMED = 3


def look() -> Installation:
    """What is installed.  Raises nothing."""
    return Installation(
        version=record.version_of(record.NAME) or _running_version(),
        is_native=None,
        directory=record.DIRECTORY,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        msal=record.version_of("msal"),
        cryptography=record.version_of("cryptography"),
    )


def check(report: Report) -> bool:
    """Adds what is wrong with the installation.

    :returns: Whether the package can be used: the files are ours, and they can be imported.
    """
    try:
        distribution = record.ours()
        is_whole = _check_files(report, distribution)
    except Exception as error:  # the record itself is damaged
        words = f"What pip wrote down of this package cannot be read: {_words_of(error)}"
        report.add(Severity.PROBLEM, references.OVERWRITTEN, words)
        distribution, is_whole = None, False
    _check_python(report, distribution)
    loads = _check_library(report, distribution)
    report.installation.is_native = loads and is_whole
    has_msal = _check_msal(report, distribution)
    return loads and has_msal and is_whole and _check_import(report)


def _words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _running_version() -> str:
    return str(getattr(sys.modules.get(record.PACKAGE), "__version__", ""))


def _check_files(report: Report, distribution: Distribution | None) -> bool:
    others = record.others(distribution)
    if distribution is None:
        return True  # a source tree; nobody has written down how it should be
    version, running = distribution.version, _running_version()
    wrong = sorted(record.altered(distribution), key=lambda name: (name.count("/"), name))
    if wrong:
        names = ", ".join(wrong[:_NAMED])
        rest = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        words = f"These files are missing or are not those of {version}: {names}{rest}."
        if running != version:
            says = f"says that it is {running}" if running else "does not say its version"
            words += f" What runs now {says}."
        if others:
            words += f" The package also belongs to {', '.join(others)}."
        report.add(Severity.PROBLEM, references.OVERWRITTEN, words)
        return False
    if foreign := _foreign_library(distribution):
        words = f"Python loads {foreign}, which is no file of {version}, before the one that is."
        remedy = f"Remove the file {os.path.join(record.DIRECTORY, foreign)}"
        report.add(Severity.PROBLEM, references.OVERWRITTEN, words, remedy)
        return False
    if running != version:
        words = f"pip has installed {version}, but {record.DIRECTORY} has {running}."
        remedy = f"Remove one of the two: pip uninstall {record.NAME}; or that directory."
        report.add(Severity.WARNING, references.OVERWRITTEN, words, remedy)
    elif others:
        names = ", ".join(others)
        words = f"The package also belongs to {names}. To remove one of them breaks both."
        remedy = f"pip uninstall {others[0].split()[0]}; and then: {_again(distribution)}"
        report.add(Severity.WARNING, references.OVERWRITTEN, words, remedy)
    return True


def _foreign_library(distribution: Distribution) -> str:
    """The file that Python takes for the native library, if it is not the one that was installed.

    A library that was built for this Python alone, by an earlier installation, comes before one of
    the stable ABI; to install again does not remove it.
    """
    names = [f"_msalex{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    taken = (it for it in names if os.path.exists(os.path.join(record.DIRECTORY, it)))
    first = next(taken, "")
    ours = {file.path.name for file in record.files_of(distribution)}
    return first if ours & set(names) and first not in ours else ""


def _again(distribution: Distribution | None, options: str = "--no-deps") -> str:
    version = f"=={distribution.version}" if distribution else ""
    return f'pip install --force-reinstall {options} "{record.NAME}{version}"'


def _check_python(report: Report, distribution: Distribution | None) -> None:
    wanted = str(distribution.metadata["Requires-Python"] or "") if distribution else ""
    if not record.fits(platform.python_version(), wanted):
        words = f"This is Python {platform.python_version()}, and the package needs {wanted}."
        report.add(Severity.PROBLEM, references.NATIVE_MISSING, words, f"Use Python {wanted}.")


def _check_library(report: Report, distribution: Distribution | None) -> bool:
    try:
        importlib.import_module(f"{record.PACKAGE}._msalex")
    except Exception as error:
        words, remedy = _why_not_loaded(error, distribution)
        report.add(Severity.PROBLEM, references.NATIVE_MISSING, words, remedy)
        return False
    return True


def _why_not_loaded(error: Exception, distribution: Distribution | None) -> tuple[str, str]:
    """The cause, and what to do about it; "": what the reference says."""
    if isinstance(error, ImportError) and error.name == "_cffi_backend":
        wanted = record.needed(distribution, "cffi")
        remedy = f'pip install --force-reinstall "cffi{wanted}"'
        return f"The package cffi is missing or does not work: {error}.", remedy
    found = sorted(glob.glob(os.path.join(glob.escape(record.DIRECTORY), "_msalex.*")))
    names = [os.path.basename(path) for path in found]
    if not names:
        return f"There is no file _msalex in {record.DIRECTORY}.", ""
    suffixes = {name.removeprefix("_msalex") for name in names}
    if not suffixes & set(importlib.machinery.EXTENSION_SUFFIXES):
        this = f"{platform.python_implementation()} {platform.python_version()}"
        return f"{', '.join(names)} is for another Python or system than this {this}.", ""
    if "GLIBC_" in str(error):
        words = f"The C library of this system is too old for {names[0]}: {error}."
        return words, _again(distribution, f"--no-deps --no-binary {record.NAME}")
    return f"{names[0]} cannot be loaded: {error}.", ""


def _check_msal(report: Report, distribution: Distribution | None) -> bool:
    wanted, version = record.needed(distribution, "msal"), report.installation.msal
    remedy = f'pip install "msal{wanted}"'
    try:
        importlib.import_module("msal")
    except Exception as error:
        words = f"MSAL {version} cannot be imported: {_words_of(error)}."
        if not version:
            words = "The package msal is missing."
        elif record.fits(version, wanted):
            remedy = f'pip install --force-reinstall "msal{wanted}"'
        report.add(Severity.PROBLEM, references.OTHER_MSAL, words, remedy)
        return False
    if not record.fits(version, wanted):
        words = f"MSAL {version} is installed, and this package needs msal{wanted}."
        report.add(Severity.PROBLEM, references.OTHER_MSAL, words, remedy)
    return True


def _check_import(report: Report) -> bool:
    """Whether the modules of this package fit together, and those of MSAL."""
    try:
        importlib.import_module(f"{record.PACKAGE}.token_cache")
    except Exception as error:
        words = f"The package cannot be imported: {_words_of(error)}."
        if not any(each.reference is references.OTHER_MSAL for each in report.findings):
            report.add(Severity.PROBLEM, reference_of(error), words)
        return False
    return True
