"""The worker's side of workers.py; it imports nothing that a measurement could feel."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping


def serve(version: str, commands: Mapping[str, Callable[..., object]]) -> None:
    """Tells the version of the library, then answers each order by a line of JSON."""
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(commands[order.pop("do")](**order)), flush=True)
