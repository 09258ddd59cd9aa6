"""``python -m msal_extensions``: says where tokens are, what is wrong, and what to do about it.

    status [PLACE ...]     where the tokens are, and whether they are encrypted (the default)
    doctor [PLACE ...]     the same, and everything on this machine that they depend on
    clear PLACE ...        removes the tokens of these places
    migrate FROM TO        moves them: FROM goes when TO has been read back
    prune PLACE ...        removes tokens that nobody has used for long
    rekey PLACE            encrypts an encrypted file with a new key
    explain [MSX-nn ...]   what the reference of an error means

The exit status is 0 when everything is fine, 1 after warnings, 2 after problems.  This module and
what it imports at its head work without the native library, without MSAL and without a home.
"""

from __future__ import annotations

import argparse
import io
import logging
import math
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _references as references
from ._command import installation, show
from ._command.report import Report, Severity
from ._command.words import clean

if TYPE_CHECKING:
    from ._command.places import Options, Place

#: Columns, where the output is no terminal.
_WIDTH = 80

_DESCRIPTION = """\
Says where the tokens of MSAL are, whether they are encrypted, what is wrong,
and what to do about it.  It never shows a token."""
_EPILOG = """\
places:
  az                  the cache of Azure CLI, in plain text
  az:encrypted        its cache with core.encrypt_token_cache=true
  identity            the cache of azure-identity; identity:NAME for another
  plain:PATH          a plain file
  encrypted:PATH      a file that this package has encrypted
  keyring:PATH        the item of the keyring for which PATH is the signal file
  dpapi:PATH          a file that Windows has encrypted
  PATH                what the content of that file shows
status and doctor look at every cache of Azure CLI and azure-identity that is
there, unless places are given.

The exit status is 0 when everything is fine, 1 after warnings, 2 after
problems."""


def _options_of_all() -> argparse.ArgumentParser:
    # SUPPRESS, or a command would set an option that stands before it back to its default.
    made = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add = made.add_argument
    add("--json", action="store_true", help="print one JSON object (docs/status.schema.json)")
    add("-v", "--verbose", action="store_true", help="say more; never a secret")
    words = "for one call of a keyring, and for the lock (default: 15)"
    add("--timeout", type=_seconds, metavar="SECONDS", help=words)
    return made


def _options_of_places() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add = made.add_argument_group("places with a key or an item of their own").add_argument
    add("--key-file", metavar="FILE", help="the key of encrypted files")
    add("--schema", metavar="NAME", help="of the item in a Linux keyring")
    words = "of the item in a Linux keyring; may be repeated"
    add("--attribute", action="append", type=_pair, metavar="NAME=VALUE", help=words)
    add("--service", metavar="NAME", help="of the item in the keychain of macOS")
    add("--account", metavar="NAME", help="of the item in the keychain of macOS")
    return made


def _parser() -> argparse.ArgumentParser:
    sure = argparse.ArgumentParser(add_help=False)
    sure.add_argument("--yes", action="store_true", help="do not ask")

    parser = argparse.ArgumentParser(
        prog="python -m msal_extensions",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_options_of_all(), _options_of_places()],
    )
    parser.set_defaults(
        command="status", places=[], target=[], json=False, verbose=False, timeout=15.0
    )
    parser.set_defaults(key_file="", schema="", attribute=[], service="", account="")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    # Not those of above: set_defaults() has changed these.
    common, keys = _options_of_all(), _options_of_places()

    def command(
        name: str, words: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words, parents=[common, *parents])
        made.set_defaults(command=name)
        return made

    for name, words in (
        ("status", "Where tokens are, and whether they are encrypted."),
        ("doctor", "What is wrong on this machine, and the one thing to do about it."),
    ):
        command(name, words, keys).add_argument("places", nargs="*", metavar="PLACE")
    clear = command("clear", "Remove the tokens of these places.", keys, sure)
    clear.add_argument("places", nargs="+", metavar="PLACE")
    migrate = command("migrate", "Move tokens to another place.", keys, sure)
    migrate.add_argument("places", nargs=1, metavar="FROM")
    migrate.add_argument("target", nargs=1, metavar="TO")
    prune = command("prune", "Remove tokens that nobody has used for long.", keys, sure)
    prune.add_argument("places", nargs="+", metavar="PLACE")
    words = "since when nobody has used them (default: 90)"
    prune.add_argument("--older-than", type=_seconds, default=90.0, metavar="DAYS", help=words)
    rekey = command("rekey", "Encrypt an encrypted file with a new key.", keys)
    rekey.add_argument("places", nargs=1, metavar="PLACE")
    words = "the new key (default: a new one of the same source)"
    rekey.add_argument("--new-key-file", default="", metavar="FILE", help=words)
    explain = command("explain", "What the reference of an error means.")
    explain.add_argument("references", nargs="*", metavar="MSX-nn")
    return parser


def _seconds(text: str) -> float:
    """A number of seconds, or of days, that has an end."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError
    return name, value


def _explain(report: Report, wanted: Sequence[str]) -> None:
    for text in wanted:
        digits = text.upper().removeprefix("MSX").lstrip("-")
        found = references.REFERENCES.get(f"MSX-{digits:0>2}")
        if found is None:
            report.add(Severity.PROBLEM, references.UNKNOWN_REFERENCE, f"There is no {text!r}")
        else:
            report.explained.append(found)
    if not wanted:
        report.explained.extend(references.REFERENCES.values())


def _options(arguments: argparse.Namespace) -> Options:
    from ._command.places import Options

    return Options(
        timeout=arguments.timeout,
        key_file=arguments.key_file,
        schema=arguments.schema,
        attributes=dict(arguments.attribute),
        service=arguments.service,
        account=arguments.account,
    )


def _places(report: Report, names: Sequence[str], options: Options) -> list[Place] | None:
    """The places of these names; without names, the well-known ones that somebody has used.

    :returns: None: a name is wrong, so nothing must be touched.
    """
    from ._command import places

    if not names:
        return places.well_known(options)
    found: list[Place] = []
    for name in names:
        try:
            found.append(places.named(name, options))
        except places.BadPlace as error:
            report.add(Severity.PROBLEM, references.BAD_PLACE, str(error))
    return found if len(found) == len(names) else None


def _ask(question: str) -> bool:
    """Asks a person; False: nobody is there, or the answer was no."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    print(question, "[y/N]", end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _work(report: Report, arguments: argparse.Namespace) -> None:
    """Everything that needs the native library."""
    from ._command import actions, doctor, look
    from ._command.findings import add_error, within
    from .errors import PersistenceTimeout

    options, names = _options(arguments), arguments.places + arguments.target
    chosen: list[Place] | None = None
    try:  # a file system may hang
        chosen = within(options.timeout, lambda: _places(report, names, options), "~")
        if chosen and report.command not in ("status", "doctor"):
            for place in chosen:
                within(options.timeout, place.exists, place.location)
    except PersistenceTimeout as error:
        add_error(report, error, f"Nothing was done: {error.location}")
        return
    if chosen is None:
        return
    if report.command in ("status", "doctor"):
        for place in chosen:
            look.examine(report, place)
        if report.command == "doctor":
            doctor.check(report, chosen, options)
        return
    confirm = (lambda _: True) if getattr(arguments, "yes", False) else _ask
    if report.command == "migrate":
        source, target = chosen
        actions.migrate(report, source, target, confirm)
    elif report.command == "clear":
        actions.clear(report, chosen, confirm)
    elif report.command == "prune":
        actions.prune(report, chosen, arguments.older_than * 86400, confirm)
    else:
        actions.rekey(report, chosen[0], arguments.new_key_file)


class _Clean(logging.Formatter):
    """Messages have names of files, which may come from an attacker; see words.clean()."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(f"{record.name}: {record.getMessage()}", 1000)


def _log_to_stderr() -> None:
    """Shows what this package logs, and not what others do: they may log secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Clean())
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may have what it cannot show
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    if arguments.verbose:
        _log_to_stderr()
    report = Report(arguments.command, installation.look())
    if report.command == "explain":
        _explain(report, arguments.references)
    elif installation.check(report):
        _work(report, arguments)
    if arguments.json:
        print(show.as_json(report))
    else:
        width = shutil.get_terminal_size((_WIDTH, 24)).columns
        print(show.as_text(report, width, arguments.verbose))
    return int(report.status())


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()  # or the end of the interpreter would complain of a reader that has gone
        sys.exit(status)
    except BrokenPipeError:  # "... | head": its reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
