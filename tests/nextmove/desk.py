"""A marketer's desk: the command line, over a small catalogue of the simulated domain."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nextmove.cli import app, main

SHOP = """\
domain: simulated
currency: EUR
rates: {CHF: 1.05}
groups: [cards]
goals: [sell]
channels: [{id: web}, {id: email, requires_consent: marketing}]
placements: [{id: hero, channel: web, reward: {click: 1}, priority_scale: 10}]
actions:
  - id: loan
    name: Loan
    group: cards
    goal: sell
    status: live
    value: 10
    eligibility: customer.age != null && customer.age > 30
    treatments: [{id: loan_web, channel: web}]
journeys:
  - id: life
    stages: [{id: new, name: 'New; "fresh"', entry: "customer.age == null"}, {id: end, name: End}]
    transitions: [{source: new, target: end, "on": "accept:loan"}]
audiences:
  - {id: adult, rule: "customer.age > 18", minimum_size: {web: 2, email: 2}}
  - {id: nobody, rule: "customer.age > 200"}
"""
CH = "currency: CHF\nactions: [{id: loan, value: 12}]\n"


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Desk(NamedTuple):
    """A marketer's desk: the command line, and the folder with the files."""

    run: Callable[..., Said]
    folder: Path
    home: Path


def desk_in(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The desk in this folder, whose command line says what it prints."""
    folder = tmp_path / "catalog" / "simulated"
    for name, text in {"global": SHOP, "markets/ch": CH}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "all.yaml").write_text(text)
    monkeypatch.setenv("NEXTMOVE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NEXTMOVE_CATALOG_DIR", str(tmp_path / "catalog"))

    def run(*arguments: str) -> Said:
        code = 0
        try:
            main(lambda: app(list(arguments), standalone_mode=False))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Said(code, *capfd.readouterr())

    return Desk(run, folder, tmp_path / "state")
