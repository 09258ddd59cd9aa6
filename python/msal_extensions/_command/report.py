"""What the command has found and done: plain data, which show.py makes into text or JSON.

docs/status.schema.json describes the JSON.  Every report has the same fields.  None of them ever
holds a token, a key or another secret.  This module imports nothing that needs the native library.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .._references import Reference

#: Of the JSON.  Fields may be added under the same number; a field that goes or changes its meaning
#: needs the next one.
SCHEMA_VERSION = 1


class Severity(enum.IntEnum):
    """How bad a finding is.  The worst one of a report is the exit status of the command."""

    FINE = 0
    WARNING = 1
    PROBLEM = 2


@dataclass
class Finding:
    """One thing that is wrong, and the one thing to do about it."""

    severity: Severity
    reference: Reference
    about: str  # the name of the place, such as "az"; "" for the machine or the installation
    words: str  # what is wrong: a sentence, which may name files and people, and no secret
    remedy: str  # what to do: a sentence, or a command line


@dataclass
class Account:
    """An account of a cache, as far as its entry tells."""

    username: str
    tenant: str  # its realm
    environment: str  # such as "login.microsoftonline.com"


@dataclass
class Tokens:
    """How many entries a cache has.  Times are seconds since 1970."""

    access: int = 0
    expired: int = 0  # of these access tokens
    refresh: int = 0
    id: int = 0
    other: int = 0
    next_expiry: float | None = None  # of the access tokens that have not expired


@dataclass
class Entry:
    """A token of a cache, without the token."""

    kind: str  # "access", "refresh" or "id"
    client_id: str
    tenant: str
    environment: str
    scopes: str  # separated by spaces
    expires_at: float | None  # seconds since 1970


@dataclass
class Lock:
    """The lock file of a cache."""

    location: str
    state: str = "free"  # "free", "held", "left" (its holder has died) or "unknown"
    holder: str = ""  # by its own record: the number and the name of a process
    since: float | None = None  # seconds since 1970


@dataclass
class Cache:
    """One place where tokens are, or could be."""

    name: str  # how the command line calls it: "az", "identity:msal.cache.nocae", "plain:/x"
    location: str  # the file; for a keyring the file that signals a change
    kind: str  # a ``places.Kind`` by its value
    #: "stored"; "nothing"; "unreadable": a keyring or a key does not answer, so nobody knows;
    #: "damaged"; "other": it is no token cache, such as az's service principals.
    state: str = "nothing"
    is_encrypted: bool | None = None  # None: unknown
    protection: str = ""  # by what it is encrypted, and what that is worth: a sentence
    mode: str = ""  # such as "0600"; "" where there is no file, and on Windows
    owner: str = ""
    size: int | None = None  # of the file, in bytes
    saved_at: float | None = None  # seconds since 1970
    generation: int | None = None  # of an encrypted file: how often it was saved
    accounts: list[Account] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    entries: list[Entry] = field(default_factory=list)  # the first thousand of its tokens
    lock: Lock | None = None
    notes: list[str] = field(default_factory=list)  # what else there is to know: sentences


@dataclass
class Installation:
    """Which package this is, and what it runs on."""

    version: str  # of this package
    is_native: bool | None  # whether all files are ours, and the library loads; None: not tried
    directory: str
    python: str  # such as "CPython 3.13.1"
    system: str  # such as "Linux 6.1 x86_64"
    msal: str  # its version; "" when it is missing
    cryptography: str


@dataclass
class Check:
    """One thing that doctor has looked at, apart from the caches."""

    name: str  # such as "keyring"
    words: str  # what it saw: "answers within 0.1 s"


@dataclass
class Report:
    """Everything that one call of the command has to say."""

    command: str  # "status", "doctor", ...
    installation: Installation
    caches: list[Cache] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    done: list[str] = field(default_factory=list)  # what the command has changed: sentences
    explained: list[Reference] = field(default_factory=list)

    def status(self) -> Severity:
        """The exit status."""
        return max((finding.severity for finding in self.findings), default=Severity.FINE)

    def add(
        self,
        severity: Severity,
        reference: Reference,
        words: str,
        remedy: str = "",
        about: str = "",
    ) -> None:
        """Adds a finding; without a remedy of its own it has that of the reference."""
        self.findings.append(Finding(severity, reference, about, words, remedy or reference.remedy))
