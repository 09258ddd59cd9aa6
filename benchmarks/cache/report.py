"""The cache benchmark's rows as a page of Markdown and a chart."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import figures
from benchmarks.cache.contents import TOKENS_OF_A_USER
from benchmarks.cache.measure import CROWDED, MEMORY, SEARCHED, TOKENS, sign_in_at
from benchmarks.chart import bars, render
from benchmarks.figures import MS, US, Aim, middle, name, spread, table, times
from benchmarks.libraries import BARE, FLOOR, OURS, PORTALOCKER
from benchmarks.rows import Results, Row

#: Quartiles of the bare writing that are so far apart say that the ratios mean little.
NOISY = 2.0


def _median(rows: Mapping[str, Row], library: str) -> float:
    return middle(rows[library]["samples"]) or float("nan")


def aims(results: Results) -> str:
    """What this package set out to reach, and whether it did in this run."""
    found = []
    for tokens in TOKENS:
        rows = results[sign_in_at(tokens)]
        ours = _median(rows, OURS)
        for key in (PORTALOCKER, BARE):
            label, theirs = rows[key]["label"], _median(rows, key)
            what = sign_in_at(tokens)
            if tokens >= 1_000:
                found.append(Aim(f"{what}: times faster than {label}", theirs / ours, at_least=5))
            elif tokens <= 10:
                found.append(Aim(f"{what}: x {label}", ours / theirs, at_most=1))
    hit, crowd = results["hit"], results["crowd"]
    in_memory = _median(hit, OURS) / _median(hit, MEMORY.key)
    found.append(Aim("search, a hit: x MSAL in memory and a stat", in_memory, at_most=1.3))
    ours_p99 = middle(crowd[OURS]["p99"]) or float("nan")
    for key in (PORTALOCKER, BARE):
        theirs_p99 = middle(crowd[key]["p99"]) or float("nan")
        what = f"{crowd[OURS]['processes']} processes: p99 of a change, x {crowd[key]['label']}"
        found.append(Aim(what, ours_p99 / theirs_p99, at_most=0.1))
    wrong = sum(crowd[OURS]["lost"]) + sum(crowd[OURS]["errors"])
    found.append(Aim("... changes lost, and errors", wrong, at_most=0))
    return figures.aims_table(found)


def noise(results: Results) -> str:
    """A warning when the disk itself was not steady."""
    unsteady = {
        it: figures.unsteadiness(results[sign_in_at(it)][FLOOR]["samples"]) for it in TOKENS
    }
    return "".join(
        f"**A noisy disk** at {tokens:,} tokens: the quartiles of writing the bytes once are"
        f" {apart:.1f} x apart.\n\n"
        for tokens, apart in unsteady.items()
        if apart >= NOISY
    )


def sign_ins(results: Results) -> str:
    lines = []
    for tokens in TOKENS:
        rows = results[sign_in_at(tokens)]
        floor, theirs = _median(rows, FLOOR), _median(rows, PORTALOCKER)
        for row in rows.values():
            at = _median(rows, row["library"])
            lines.append(
                [
                    f"{tokens:,}",
                    name(row),
                    spread(row["samples"], MS),
                    times(at, floor),
                    times(theirs, at),
                    f"{len(row['samples'])}",
                ]
            )
    return table(
        [
            *("tokens", "", "ms (quartiles)", "x the bytes written once"),
            *("times faster than 1.3.1 with portalocker", "sign-ins"),
        ],
        lines,
    )


def searches(results: Results) -> str:
    lines = []
    for what, label in (("hit", "one access token"), ("scan", "one refresh token")):
        rows = results[what]
        for row in rows.values():
            at = _median(rows, row["library"])
            ratio = times(at, _median(rows, MEMORY.key))
            lines.append([label, name(row), spread(row["samples"], US), ratio])
    return table(["looked for", "", "us (quartiles)", "x MSAL in memory"], lines)


def crowd(rows: Mapping[str, Row]) -> str:
    mean, p99 = (middle(rows[PORTALOCKER][key]) for key in ("mean", "p99"))
    return table(
        [
            *("", "mean, ms", "p99, ms", "of 1.3.1 with portalocker", "changes"),
            *("errors", "lost"),
        ],
        [
            [
                name(row),
                spread(row["mean"], MS),
                spread(row["p99"], MS),
                f"{times(middle(row['mean']), mean)} and {times(middle(row['p99']), p99)}",
                f"{sum(row['stored']):,} of {sum(row['wanted']):,}",
                str(sum(row["errors"])),
                str(sum(row["lost"])),
            ]
            for row in rows.values()
        ],
    )


def page(results: Results, about: Mapping[str, str]) -> str:
    largest = results[sign_in_at(TOKENS[-1])][OURS]["bytes"]
    many = results["crowd"][OURS]
    return f"""# The token cache, measured

Made by `{about["Command"]}`; do not edit. Ratios hold within this run only.

![Bars: a sign-in by size of the cache, a search, a change among many](cache-benchmarks.svg)

{figures.facts(about)}

{noise(results)}{aims(results)}

## One sign-in

One `add()` of what a user gets, an access token, a refresh token and an ID token, with account and
app metadata; the user was there before, so the cache keeps its size. {TOKENS_OF_A_USER} tokens
belong to a user; {TOKENS[-1]:,} tokens are {largest / 1e6:.1f} MB. Each library has a file of its
own. pytest-benchmark measured sign-ins and searches (`benchmarks/cache/test_cache.py`). Each 1.3.1
had a process of pytest to itself, because its import name is that of this package; the rest shared
a third one. These processes took turns. This package writes durably (temporary file, fdatasync,
rename); 1.3.1 does not: it overwrites in place, five times.
"{_label(results)}" writes what is in the file in the same durable way, and
does nothing else.

{sign_ins(results)}

## One search

In a cache of {SEARCHED:,} tokens, with a file that nobody changes. An access token is found by its
key when all parts of the key are known; for a refresh token MSAL looks at all of them.
MSAL in memory is `SerializableTokenCache`, and one `os.stat()` before each search.

{searches(results)}

## {many["processes"]} processes change one cache

Each stores {many["wanted"][0] // many["processes"]} refresh tokens, one by one, without a pause, in
a cache of {CROWDED} tokens. Worker processes measured (`benchmarks/cache/worker.py`) how long each
`modify()` took, also when it failed; of each run the mean and the 99th percentile, here the median
of all runs, and the lowest and highest. Lost: changes that were stored without an error and are not
there at the end.

{crowd(results["crowd"])}
"""


def _label(results: Results) -> str:
    return str(results[sign_in_at(TOKENS[0])][FLOOR]["label"])


def summary(results: Results) -> str:
    """What the command prints at the end."""
    return noise(results) + aims(results)


def chart(results: Results, about: Mapping[str, str]) -> str:
    sign_ins = [
        bars(
            f"A sign-in, {tokens:,} tokens in the cache (median)", "ms", results[sign_in_at(tokens)]
        )
        for tokens in TOKENS
    ]
    hit, crowd = results["hit"], results["crowd"]
    searches = f"A search that finds its access token among {SEARCHED:,} tokens (median)"
    changes = f"Longest change but 1 %: {crowd[OURS]['processes']} processes at once"
    panels = [*sign_ins, bars(searches, "us", hit), bars(changes, "ms", crowd, "p99")]
    return render(panels, about)
