"""`nextmove doctor`: is everything there, and is everyone telling?

Imports of libraries that take seconds stand inside the command that needs them.
"""

import sys

import msgspec

from nextmove.console import next_command, out, print_json
from nextmove.options import AsJson, Dataset, now_utc, settings_of

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


def doctor(dataset: Dataset = None, as_json: AsJson = False) -> None:
    """Check ledger, hot state, features, catalogue, model and keys, and whether every source tells what it should.

    Exit code 1 if there is a warning or an error, 0 if there are notes alone.

    Example: nextmove doctor --json
    """
    from nextmove.doctor import findings

    found = []
    for finding in findings(settings_of(dataset), now=now_utc()):
        found.append(finding)
        if not as_json:
            out.print(f"{finding.level:8}", style=COLOURS[finding.level], end="")
            out.print(f"{finding.subject}: {finding.found}")
            if finding.to_do:
                out.print(f"        -> {finding.to_do}", style="dim")
    bad = sum(finding.level in ("warning", "error") for finding in found)
    if as_json:
        print_json({"healthy": not bad, "findings": msgspec.to_builtins(found)})
    else:
        next_command("nextmove doctor" if bad else "nextmove evaluate")
    if bad:
        sys.exit(1)
