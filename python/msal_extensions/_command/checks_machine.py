"""What doctor looks at on this machine: keyring, keys, settings, home, the package cryptography."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Sequence

from .. import _references as references
from .._stores.kernel_key import KEY_FILE_VARIABLE
from ..errors import KeyringTimeout, PersistenceError, PersistenceUnavailable
from ..persistence import WITHOUT_KEYRING_VARIABLE
from . import record
from . import words as say
from .findings import add_error, add_once, within
from .paths import is_there
from .places import Kind, Options, Place
from .report import Check, Report, Severity

_PREFIX = "MSAL_EXTENSIONS_"
_KNOWN = (WITHOUT_KEYRING_VARIABLE, KEY_FILE_VARIABLE)
_POLICIES = ("", "raise", "encrypted_file")
#: A value or a name that can be shown: short, and neither a secret nor a sequence for a terminal.
_SIMPLE = re.compile(r"[A-Za-z_]{1,40}")


def keyring(report: Report, places: Sequence[Place], options: Options) -> None:
    """The Secret Service of Linux.  It is a problem only where a cache is in it."""
    from .._stores.libsecret import LibSecretAgent

    in_use = any(each.kind == "keyring" and each.state == "unreadable" for each in report.caches)
    try:
        LibSecretAgent("", {}, timeout=options.timeout).connect()
    except PersistenceError as error:
        _, words, _ = say.of(error)
        is_none = isinstance(error, PersistenceUnavailable)
        report.checks.append(Check("keyring", f"none: {words}" if is_none else words))
        if in_use:
            add_error(report, error, "The keyring")
        elif isinstance(error, KeyringTimeout):  # each program that tries it waits in vain
            add_error(report, error, "The keyring", severity=Severity.WARNING)
    else:
        report.checks.append(Check("keyring", "It answers."))


def keys(report: Report, places: Sequence[Place], options: Options) -> None:
    """The keys of encrypted files: of a key file, of systemd, of the kernel."""
    from ..encrypted import CredentialKey

    has_other = False
    for name, path in (
        (KEY_FILE_VARIABLE, os.environ.get(KEY_FILE_VARIABLE)),
        ("--key-file", options.key_file),
    ):
        if path:
            has_other = True
            _key_file(report, name, path, options)
    credential = CredentialKey()
    if credential.is_there():
        has_other = True
        try:
            within(options.timeout, credential.check, credential.path)
            report.checks.append(Check("credential of systemd", "It has a key."))
        except PersistenceError as error:
            add_error(report, error, "The credential of systemd")
    if sys.platform.startswith("linux"):
        _kernel_key(report, has_other)


def _key_file(report: Report, name: str, path: str, options: Options) -> None:
    from ..encrypted import KeyFile

    try:
        within(options.timeout, KeyFile(path).check, path)
        report.checks.append(Check("key file", f"{name}: it has a key."))
    except PersistenceError as error:
        # The path is not shown where nothing has that name: it may be the key itself.
        where = f"The key file {path}" if os.path.lexists(path) else f"The key file of {name}"
        add_error(report, error, where)


def _kernel_key(report: Report, has_other: bool) -> None:
    from .._native.kernelkey import expires_after
    from ..encrypted import KernelKey

    try:
        count = len(KernelKey().ring())
    except PersistenceError as error:
        _, words, _ = say.of(error)
        report.checks.append(Check("kernel key", f"none can be kept: {words}"))
        if os.environ.get(WITHOUT_KEYRING_VARIABLE) == "encrypted_file" and not has_other:
            add_error(report, error, f"{WITHOUT_KEYRING_VARIABLE} asks for encrypted files")
    else:
        days = expires_after() / 86400
        kept = f"kept until a reboot, or {days:g} days without use"
        words = f"{count} keys, {kept}." if count != 1 else f"1 key, {kept}."
        report.checks.append(Check("kernel key", words if count else "none is needed so far."))


def settings(report: Report, places: Sequence[Place], options: Options) -> None:
    """The environment variables of this package, and no other."""
    for name in sorted(os.environ):
        if not name.startswith(_PREFIX) or name in _KNOWN:
            continue
        shown = name if _SIMPLE.fullmatch(name) else f"{_PREFIX}..."
        near = difflib.get_close_matches(name, _KNOWN, 1)
        remedy = f"Unset it, or set {near[0]}." if near else f"Unset it: {' and '.join(_KNOWN)}"
        remedy += "" if near else " are the only ones."
        words = f"There is no setting {shown}, so it does nothing."
        report.add(Severity.WARNING, references.SETTING, words, remedy)
    value = os.environ.get(WITHOUT_KEYRING_VARIABLE, "")
    if value not in _POLICIES:
        shown = f" {value}" if _SIMPLE.fullmatch(value) else ""
        words = f"{WITHOUT_KEYRING_VARIABLE} has the value{shown}, which has no meaning."
        remedy = "Set it to raise or to encrypted_file, or unset it."
        report.add(Severity.PROBLEM, references.SETTING, words, remedy)
    named = [name for name in _KNOWN if os.environ.get(name)]
    report.checks.append(Check("settings", f"{', '.join(named) or 'none'}."))


def home(report: Report, places: Sequence[Place], options: Options) -> None:
    """The home directory, in which programs keep their caches."""
    found = os.path.expanduser("~")
    if found.startswith("~"):
        words = "This user has no home directory, where programs keep their caches."
        add_once(report, Severity.PROBLEM, references.NO_HOME, words)
    elif not within(options.timeout, lambda: os.path.isdir(found), found):
        words = f"The home directory {found} does not exist, so programs cannot keep caches there."
        remedy = "Make it, or set HOME to a directory that exists."
        add_once(report, Severity.WARNING, references.DIRECTORY_MISSING, words, remedy)
    else:
        report.checks.append(Check("home", found))


def cryptography(report: Report, places: Sequence[Place], options: Options) -> None:
    """The package that encrypted files need.  It is a problem only where there is one."""
    wanted = record.needed(record.ours(), "cryptography")
    version = report.installation.cryptography
    try:
        importlib.import_module("msal_extensions._stores.primitives")
        words = ""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Rust panics are no Exception
        words = (
            f"The package cryptography {version} does not work: {type(error).__name__}: {error}."
        )
        if not version:
            words = "The package cryptography is missing."
    if not words and version and not record.fits(version, wanted):
        words = f"cryptography {version} is installed, and this package needs {wanted}."
    if not words:
        report.checks.append(Check("cryptography", "It works."))
        return
    in_use = any(
        place.kind is Kind.ENCRYPTED or (place.kind is Kind.KEYRING and is_there(place.sealed()))
        for place in places
    )
    severity = Severity.PROBLEM if in_use else Severity.WARNING
    remedy = f'pip install --force-reinstall "cryptography{wanted}"'
    add_once(report, severity, references.NO_CRYPTOGRAPHY, words, remedy)
