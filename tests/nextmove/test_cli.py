import fcntl
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.main import get_command

from nextmove.cli import app, main

README = Path(__file__).parents[2] / "README.md"


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def nextmove(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    """The command line in this process: importing what it needs takes seconds."""

    def run(*arguments: str, home: Path = tmp_path / "state", **environment: str) -> Said:
        for name, value in {"NEXTMOVE_HOME": str(home), **environment}.items():
            monkeypatch.setenv(name, value)
        code = 0
        try:
            main(lambda: app(list(arguments), standalone_mode=False))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Said(code, *capfd.readouterr())

    return run


def commands() -> list[tuple[str, ...]]:
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        children = getattr(command, "commands", None)
        found += [(name, child) for child in children or ()]
        if not children or command.invoke_without_command:
            found.append((name,))
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    group = get_command(app)
    for name in command:
        group = group.commands[name]  # type: ignore[attr-defined]
    assert f"Example: nextmove {' '.join(command)}" in (group.help or "")


def refused(said: Said) -> str:
    """The last line, which is the error."""
    assert said.code == 1
    assert "Traceback" not in said.err
    *_, last = said.err.strip().splitlines()
    assert last.startswith("error")
    return last


def test_an_unknown_domain_is_one_clear_line(nextmove: Callable[..., Said]) -> None:
    said = refused(nextmove("ingest", "--dataset", "moon"))
    assert "'moon'" in said
    assert "hillstrom, simulated" in said


def test_a_missing_file_is_one_clear_line(nextmove: Callable[..., Said]) -> None:
    said = refused(nextmove("quickstart", "--dataset", "hillstrom", "--data", "nowhere.csv", "--port", "3998"))
    assert "nowhere.csv" in said


def test_a_taken_port_is_one_clear_line(nextmove: Callable[..., Said]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(nextmove("quickstart", "--port", str(port)))
    assert f"port {port}" in said
    assert "--port" in said


def test_an_address_beyond_this_machine_is_refused(nextmove: Callable[..., Said]) -> None:
    assert "no keys are configured" in refused(nextmove("serve", "--host", "0.0.0.0"))


def test_a_state_directory_that_is_a_file_is_one_clear_line(nextmove: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert "NEXTMOVE_HOME" in refused(nextmove("quickstart", "--check", home=tmp_path / "file"))


def test_a_misspelt_setting_is_one_clear_line(nextmove: Callable[..., Said]) -> None:
    assert "NEXTMOVE_HOEM" in refused(nextmove("catalog", "check", NEXTMOVE_HOEM="x"))


def test_a_second_quickstart_at_the_same_time_is_refused(nextmove: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with (tmp_path / "state" / "quickstart.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another quickstart" in refused(nextmove("quickstart", "--check", "--port", "3998"))


def test_training_before_a_catalogue_is_released_says_what_to_run(nextmove: Callable[..., Said]) -> None:
    assert "nextmove catalog release --dataset simulated" in refused(nextmove("train"))


def test_promoting_nothing_says_what_to_run(nextmove: Callable[..., Said]) -> None:
    assert nextmove("catalog", "release").code == 0
    assert "nextmove train" in refused(nextmove("promote"))


def test_a_catalogue_is_released_once(nextmove: Callable[..., Said]) -> None:
    assert nextmove("catalog", "release").out.startswith("released: sha256:")
    assert nextmove("catalog", "release").out.startswith("already released: sha256:")


@pytest.mark.parametrize("name", ["simulated", "hillstrom"])
def test_the_catalogues_check(nextmove: Callable[..., Said], name: str) -> None:
    assert nextmove("catalog", "check", "--dataset", name).code == 0


def test_a_wrong_catalogue_is_refused_with_every_mistake(nextmove: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "catalog" / "simulated" / "global"
    folder.mkdir(parents=True)
    (folder / "shop.yaml").write_text(
        "domain: simulated\ncurrency: euro\ncolour: red\nactions: [{id: coat, value: x}]\n"
    )
    said = nextmove("catalog", "check", NEXTMOVE_CATALOG_DIR=str(tmp_path / "catalog"))
    assert said.code == 1
    for named in ("currency", "colour", "actions[coat]", "shop.yaml:4"):
        assert named in said.err


def test_the_readme_names_only_commands_that_exist() -> None:
    known = {(*command, "")[:2] for command in commands()}
    named = re.findall(r"(?:^|[`(])nextmove ([a-z]+)(?: ([a-z]+))?", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    groups = {command[0] for command in commands() if len(command) == 2}
    assert not [words for words in named if (words if words[0] in groups else (words[0], "")) not in known]


def test_the_readme_has_no_gap_left() -> None:
    assert not re.findall(r"^[A-Z_]{5,}$", README.read_text(encoding="utf-8"), re.MULTILINE)
