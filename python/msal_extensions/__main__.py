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
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _references as references
from ._command import installation, show
from ._command.report import Report, Severity

if TYPE_CHECKING:
    from ._command.places import Options, Place

#: Columns, where the output is no terminal.
_WIDTH = 80


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--json", action="store_true", help="print one JSON object (docs/status.schema.json)")
    add("-v", "--verbose", action="store_true", help="say more; never a secret")
    add(
        "--timeout",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="for one call of a keyring, and for the lock (default: 15)",
    )
    keys = argparse.ArgumentParser(add_help=False)
    add = keys.add_argument
    add("--key-file", default="", metavar="FILE", help="the key of encrypted files")
    add("--schema", default="", help="of the item in a Linux keyring")
    add(
        "--attribute",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the item in a Linux keyring; may be repeated",
    )
    add("--service", default="", help="of the item in the keychain of macOS")
    add("--account", default="", help="of the item in the keychain of macOS")
    sure = argparse.ArgumentParser(add_help=False)
    sure.add_argument("--yes", action="store_true", help="do not ask")

    parser = argparse.ArgumentParser(
        prog="python -m msal_extensions",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, keys],
    )
    parser.set_defaults(command="status", places=[])
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

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
    command("clear", "Remove the tokens of these places.", keys, sure).add_argument(
        "places", nargs="+", metavar="PLACE"
    )
    migrate = command("migrate", "Move tokens to another place.", keys, sure)
    migrate.add_argument("places", nargs=1, metavar="FROM")
    migrate.add_argument("target", metavar="TO")
    prune = command("prune", "Remove tokens that nobody has used for long.", keys, sure)
    prune.add_argument("places", nargs="+", metavar="PLACE")
    prune.add_argument("--older-than", type=float, default=90.0, metavar="DAYS", help="default: 90")
    rekey = command("rekey", "Encrypt an encrypted file with a new key.", keys)
    rekey.add_argument("places", nargs=1, metavar="PLACE")
    rekey.add_argument(
        "--new-key-file", default="", metavar="FILE", help="default: a new key of the same source"
    )
    explain = command("explain", "What the reference of an error means.")
    explain.add_argument("references", nargs="*", metavar="MSX-nn")
    return parser


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

    pairs = [pair.partition("=") for pair in arguments.attribute]
    return Options(
        timeout=arguments.timeout,
        key_file=arguments.key_file,
        schema=arguments.schema,
        attributes={name: value for name, _, value in pairs},
        service=arguments.service,
        account=arguments.account,
    )


def _places(report: Report, names: Sequence[str], options: Options) -> list[Place]:
    from ._command import places

    found = []
    for name in names:
        try:
            found.append(places.named(name, options))
        except places.BadPlace as error:
            report.add(Severity.PROBLEM, references.BAD_PLACE, str(error))
    return found


def _ask(question: str) -> bool:
    """Asks a person; False: nobody is there, or the answer was no."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    print(question, "[y/N]", end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _work(report: Report, arguments: argparse.Namespace) -> None:
    """Everything that needs the native library."""
    from ._command import actions, doctor, look, places

    options = _options(arguments)
    chosen = _places(report, arguments.places, options)
    if report.findings:  # a place has a wrong name: touch nothing
        return
    if report.command in ("status", "doctor"):
        for place in chosen if arguments.places else places.well_known(options):
            look.examine(report, place)
        if report.command == "doctor":
            doctor.check(report, chosen, options)
        return
    confirm = (lambda _: True) if getattr(arguments, "yes", False) else _ask
    if report.command == "migrate":
        targets = _places(report, [arguments.target], options)
        if targets:
            actions.migrate(report, chosen[0], targets[0], confirm)
    elif report.command == "clear":
        actions.clear(report, chosen, confirm)
    elif report.command == "prune":
        actions.prune(report, chosen, arguments.older_than * 86400, confirm)
    else:
        actions.rekey(report, chosen[0], arguments.new_key_file)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(name)s: %(message)s")
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
        sys.exit(main())
    except BrokenPipeError:  # "... | head": its reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
