import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from nextmove.cli import app

README = Path(__file__).parents[2] / "README.md"


def nextmove(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nextmove.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NEXTMOVE_HOME": str(home), **environment},
    )


def commands() -> list[tuple[str, ...]]:
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        children = getattr(command, "commands", None)
        found += [(name, child) for child in children] if children else [(name,)]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    group = get_command(app)
    for name in command:
        group = group.commands[name]  # type: ignore[attr-defined]
    assert f"Example: nextmove {' '.join(command)}" in (group.help or "")


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error")
    return result.stderr


def test_an_unknown_domain_is_one_clear_line(tmp_path: Path) -> None:
    said = refused(nextmove("ingest", "--dataset", "moon", home=tmp_path))
    assert "'moon'" in said
    assert "hillstrom, simulated" in said


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    said = refused(nextmove("quickstart", "--dataset", "hillstrom", "--data", "nowhere.csv", home=tmp_path))
    assert "nowhere.csv" in said


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(nextmove("quickstart", "--port", str(port), home=tmp_path))
    assert f"port {port}" in said
    assert "--port" in said


def test_an_address_beyond_this_machine_is_refused(tmp_path: Path) -> None:
    assert "no keys are configured" in refused(nextmove("serve", "--host", "0.0.0.0", home=tmp_path))


def test_a_state_directory_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    assert "NEXTMOVE_HOME" in refused(nextmove("quickstart", "--check", home=tmp_path / "state"))


def test_a_misspelt_setting_is_one_clear_line(tmp_path: Path) -> None:
    said = refused(nextmove("catalog", "check", home=tmp_path, NEXTMOVE_HOEM="x"))
    assert "NEXTMOVE_HOEM" in said


def test_training_before_ingesting_says_what_to_run(tmp_path: Path) -> None:
    said = refused(nextmove("train", "--dataset", "simulated", home=tmp_path))
    assert "nextmove" in said


def test_promoting_nothing_says_what_to_run(tmp_path: Path) -> None:
    assert "nextmove train" in refused(nextmove("promote", home=tmp_path))


def test_both_catalogues_check(tmp_path: Path) -> None:
    for name in ("simulated", "hillstrom"):
        assert nextmove("catalog", "check", "--dataset", name, home=tmp_path).returncode == 0


def test_the_readme_names_only_commands_that_exist() -> None:
    known = {" ".join(command) for command in commands()} | {"catalog", "state", "bench"}
    text = README.read_text(encoding="utf-8")
    named = {
        part.split("`")[0].split("\n")[0].split("  ")[0].strip()
        for part in text.replace("(nextmove", "( nextmove").split("nextmove ")[1:]
    }
    unknown = {
        name
        for name in named
        if name and name[0].islower() and " ".join(name.split()[:2]) not in known and name.split()[0] not in known
    }
    assert not unknown
