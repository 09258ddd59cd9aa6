"""Which lines of the C files ran, over several runs of instrumented builds.

Programs write gcov's counters beside their objects, also under Wine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import finished

#: For a build that counts, and in which the optimizer joins no lines.
FLAGS = ("--coverage", "-O0", "-g")


def lines(directories: Sequence[Path]) -> dict[str, dict[int, int]]:
    """File name -> line -> how often it ran, over all builds in these directories."""
    ran: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for directory in directories:
        for data in directory.rglob("*.gcda"):
            command = ["x86_64-w64-mingw32-gcov", "--json-format", "--stdout", str(data)]
            report = json.loads(finished(command, directory))
            for file in report["files"]:
                for line in file["lines"]:
                    ran[Path(file["file"]).name][line["line_number"]] += line["count"]
    return ran


def percentage(counts: dict[int, int]) -> float:
    return 100 * sum(count > 0 for count in counts.values()) / len(counts)


def missed(counts: dict[int, int]) -> list[int]:
    return sorted(line for line, count in counts.items() if count == 0)
