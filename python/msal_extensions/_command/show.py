"""A report as text for people, and as JSON for programs.

Every string of a report is cleaned here, whatever made it: see words.clean().
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import os
from typing import Any

from .._references import Reference
from .layout import Page, ago, expires
from .report import SCHEMA_VERSION, Cache, Finding, Lock, Report, Severity, Tokens
from .words import clean, number

#: Of one string.  Longer ones are cut.
_LONGEST = 4000
#: Fields that are seconds since 1970; in JSON they are times of RFC 3339.
_TIMES = {"saved_at", "since", "next_expiry", "expires_at"}
_MARKS = {Severity.FINE: " ", Severity.WARNING: "!", Severity.PROBLEM: "x"}
_FEW = 20  # entries of a list in -v


def as_json(report: Report) -> str:
    """One JSON object; docs/status.schema.json describes it."""
    fields = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    said = {
        "schema_version": SCHEMA_VERSION,
        **fields,
        "good_to_go": _is_good(report),
        "exit_status": int(report.status()),
    }
    return json.dumps(_plain(said), indent=2)


def _plain(value: Any, name: str = "") -> Any:
    """The same of dictionaries, lists, numbers and cleaned strings."""
    if isinstance(value, Finding):
        return {**_plain_fields(value), "reference": value.reference.code}
    if isinstance(value, Reference):
        return {key: clean(each, _LONGEST) for key, each in value._asdict().items()}
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, dict):
        return {key: _plain(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if name in _TIMES and isinstance(value, int | float):
        return _rfc_3339(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean(value, _LONGEST)


def _plain_fields(value: Any) -> dict[str, Any]:
    return {
        field.name: _plain(getattr(value, field.name), field.name)
        for field in dataclasses.fields(value)
    }


def _rfc_3339(seconds: float) -> str | None:
    """Such as "2026-11-30T19:16:22Z"; None: Python has no such date."""
    try:
        found = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return found.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def _is_good(report: Report) -> bool:
    return report.status() < Severity.PROBLEM


# ---- text ----


def as_text(report: Report, width: int, verbose: bool) -> str:
    """Text for a terminal of that many columns.  Its last line says whether all is good to go."""
    page = Page(width)
    shown: list[Finding] = []
    if report.command == "explain":
        for reference in report.explained:
            _explain(page, reference)
    else:
        page.add(_installation(report))
        shown = _caches(page, report, verbose)
    if report.checks:
        page.gap()
        for check in report.checks:
            page.add(f"{check.name}: {check.words}", indent=0, hanging=4)
    rest = [each for each in report.findings if all(each is not other for other in shown)]
    if rest:
        page.gap()
        for finding in rest:
            _finding(page, finding, verbose, bool(finding.about))
    if report.done:
        page.gap()
        for line in report.done:
            page.add(line.replace(f"({_home()}{os.sep}", f"(~{os.sep}"))
    if report.command != "explain" or report.findings:
        page.gap()
        page.line(_verdict(report))
    return page.text()


def _installation(report: Report) -> str:
    found = report.installation
    native = {True: " (native)", False: " (damaged)", None: ""}[found.is_native]
    system = f"{found.system.split()[0]} {found.system.split()[-1]}"
    return f"msal-extensions {found.version or '?'}{native}, {found.python}, {system}"


def _verdict(report: Report) -> str:
    counts = [
        number(found, noun)
        for severity, noun in ((Severity.PROBLEM, "problem"), (Severity.WARNING, "warning"))
        if (found := sum(each.severity is severity for each in report.findings))
    ]
    start = ", ".join(counts) + ". " if counts else ""
    worst = [each.reference.code for each in report.findings if each.severity is report.status()]
    names = ", ".join(dict.fromkeys(worst))
    if not _is_good(report):
        return f"{start}Not good to go: {names}."
    return f"{start}Good to go, but see {names}." if counts else "Good to go."


def _explain(page: Page, reference: Reference) -> None:
    page.gap()
    page.add(f"{reference.code}  {reference.title}")
    page.add(reference.cause, indent=4)
    page.remedy(reference.remedy, indent=4)
    if reference.page:
        page.add(f"more: {reference.page}", indent=4)


def _finding(page: Page, finding: Finding, verbose: bool, names_place: bool = False) -> None:
    about = f"{finding.about}: " if names_place else ""
    mark, code = _MARKS[finding.severity], finding.reference.code
    page.add(f"{mark} {about}{finding.words} [{code}]", indent=2, hanging=2)
    if verbose:
        page.add(finding.reference.cause, indent=4)
    page.remedy(finding.remedy, indent=4, name=finding.about)


# ---- caches ----


def _caches(page: Page, report: Report, verbose: bool) -> list[Finding]:
    """Shows the caches, each with what is wrong with it, and returns these findings."""
    shown: list[Finding] = []
    if not report.caches and report.command in ("status", "doctor") and not report.findings:
        page.gap()
        page.add("Nothing is stored by Azure CLI or azure-identity. The command looked in:")
        for directory in _looked_in():
            page.add(directory, indent=4)
        page.add("For another cache: python -m msal_extensions status PATH")
    last = {cache.name: cache for cache in reversed(report.caches)}  # the first of each name
    for cache in report.caches:
        page.gap()
        _cache(page, cache, verbose)
        if last.get(cache.name) is cache:
            own = [each for each in report.findings if each.about == cache.name]
            shown += own
            for finding in own:
                _finding(page, finding, verbose)
    return shown


def _looked_in() -> list[str]:
    from .places import az_directory, identity_directory

    return [_short(az_directory()), _short(identity_directory())]


def _short(path: str) -> str:
    is_below = path.startswith(_home() + os.sep)
    return "~" + path[len(_home()) :] if is_below else path


def _home() -> str:
    return os.path.expanduser("~").rstrip(os.sep) or "/no home"


def _cache(page: Page, cache: Cache, verbose: bool) -> None:
    page.add(f"{cache.name}  {_short(cache.location)}", hanging=4)
    page.add(_state(cache, verbose), indent=4)
    if cache.state != "nothing" and cache.kind == "encrypted":
        page.add(cache.protection, indent=4)
    if cache.state == "stored":
        page.add(_counts(cache), indent=4)
    elif cache.state == "other":
        count = cache.tokens.other
        size = f" It has {number(count, 'entry')}." if count else ""
        page.add(f"It is no token cache.{size}", indent=4)
    for note in cache.notes:
        page.add(note, indent=4)
    if cache.lock is not None and (verbose or cache.lock.state != "free"):
        page.add(_lock(cache.lock), indent=4)
    if verbose:
        _details(page, cache)


def _state(cache: Cache, verbose: bool) -> str:
    if cache.state == "nothing":
        return "nothing is stored"
    parts = [
        {"unreadable": "CANNOT BE READ", "damaged": "DAMAGED"}.get(cache.state, ""),
        _protection(cache),
        f"mode {cache.mode}" if cache.mode and cache.kind != "keyring" else "",
        f"owner {cache.owner}" if cache.owner and verbose else "",
        f"saved {ago(cache.saved_at)}" if cache.saved_at is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _protection(cache: Cache) -> str:
    if cache.kind == "plain":
        return "PLAIN TEXT"
    if cache.kind == "encrypted":
        return "encrypted" if cache.is_encrypted else "NOT PROTECTED"
    return cache.protection[:1].lower() + cache.protection[1:].rstrip(".")


def _counts(cache: Cache) -> str:
    found = cache.tokens
    parts = [
        number(len(cache.accounts), "account"),
        number(found.access, "access token") + _expiry(found),
        number(found.refresh, "refresh token"),
    ]
    return ", ".join(parts + ([number(found.other, "other entry")] if found.other else []))


def _expiry(found: Tokens) -> str:
    parts = [f"{found.expired:,} expired"] if found.expired else []
    if found.next_expiry is not None:
        it = "" if found.access == 1 else "the next "
        parts.append(it + expires(found.next_expiry))
    return f" ({'; '.join(parts)})" if parts else ""


def _lock(lock: Lock) -> str:
    holder = f" by {lock.holder}" if lock.holder else ""
    when = f", {ago(lock.since)}" if lock.since is not None else ""
    if lock.state == "held":
        return f"lock: held{holder}, taken{when[1:]}"
    if lock.state == "left":
        return f"lock: left behind{holder}{when}; the next program takes it over [MSX-66]"
    if lock.state == "free":
        return "lock: free"
    return f"lock: there is a lock file{holder}{when}; whether the lock is held is unknown"


def _details(page: Page, cache: Cache) -> None:
    if cache.generation is not None:
        page.add(f"saved {number(cache.generation, 'time')}", indent=4)
    for account in cache.accounts[:_FEW]:
        page.add(
            f"account: {account.username}, tenant {account.tenant}, {account.environment}",
            indent=4,
            hanging=4,
        )
    for entry in cache.entries[:_FEW]:
        expiry = "" if entry.expires_at is None else f", {expires(entry.expires_at)}"
        scopes = f", for {entry.scopes}" if entry.scopes else ""
        words = f"{entry.kind} token: client {entry.client_id}{scopes}{expiry}"
        page.add(words, indent=4, hanging=4)
    if max(len(cache.accounts), len(cache.entries)) > _FEW:
        page.add("and more: see --json", indent=4)
