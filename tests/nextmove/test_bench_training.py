"""Training from a ledger of any size, in short; the command takes a million."""

from pathlib import Path

from nextmove.bench_training import NUMBERS, TEXTS, measured, write_ledger


def test_a_ledger_is_learnt_from_with_all_its_columns(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_ledger(home, 4_000, seed=1)
    cost = measured(home, 4_000)
    assert cost.columns > NUMBERS + TEXTS
    assert cost.auc > 0.55  # what the ledger hides is found
    assert cost.total_cpu > 0.0
    assert 0.0 < cost.idle_gib < cost.peak_gib < 4.0
