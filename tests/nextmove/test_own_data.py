"""One's own data from nothing to a service, as `docs/bring_your_own_data.md` shows it."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decisioning.errors import DataError
from storage import data_mapping
from storage.data_mapping import read_data_mapping
from tests.nextmove.conftest import free_port
from tests.nextmove.test_cli import Said, nextmove, refused
from tests.training.own_data import Shop

__all__ = ["nextmove"]

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "bring_your_own_data.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
BANK = (
    Path(os.environ.get("NEXTMOVE_DATA", ROOT.parent / "shared" / "data"))
    / "bank_marketing"
    / "bank-additional-full.csv"
)
EVERY = 8  # rows of which the test takes one: the file has 41,188, in the order of their time


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.mapping()
    shop.customers("c-1,31,Bern,yes", "c-2,45,Basel,no")
    return shop


def decision_in(out: str) -> dict[str, Any]:
    text = out[out.index("{", out.index("One decision") + out[out.index("One decision") :].index("\n{")) :]
    decision: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    return decision


@pytest.mark.parametrize("block", BLOCKS)
def test_every_mapping_in_the_guide_can_be_read(block: str, tmp_path: Path) -> None:
    (tmp_path / "block.yaml").write_text(block, encoding="utf-8")
    assert read_data_mapping(tmp_path / "block.yaml").name


def test_the_mapping_in_the_readme_can_be_read(tmp_path: Path) -> None:
    [block] = [text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "customers:" in text]
    (tmp_path / "block.yaml").write_text(block, encoding="utf-8")
    assert read_data_mapping(tmp_path / "block.yaml").decisions is not None


def test_the_guide_names_every_key() -> None:
    for kind in ("DataMapping", "CustomerColumns", "DecisionColumns", "FeatureColumn", "ConsentColumn"):
        for field in msgspec.structs.fields(getattr(data_mapping, kind)):
            assert re.search(rf"[`{{ ]{field.encode_name}\b", GUIDE), f"{kind}.{field.encode_name}"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "name: shop\ncustomers: {id: a, colour: b}\n",
            r"my.yaml:2: customers: .*unknown field `colour`; known are from",
        ),
        ("name: hillstrom\ncustomers: {id: a}\n", "name is 'hillstrom', which is taken"),
        ("name: shop\ncustomers: {id: a, time: b, since: 2025-01-01}\n", "must say time .* or since"),
        (
            "name: s\ncustomers: {id: a}\ndecisions: {customer: a, time: t, action: b, reward: c, probability: 2}\n",
            "probability is 2, must be above 0 and at most 1",
        ),
        (
            "name: s\ncustomers: {id: a, file: {encoding: utf-9}}\n",
            r"my.yaml:2: customers.file.encoding: unknown encoding",
        ),
        (
            "name: s\ncustomers:\n  id: a\n  consents:\n    - {column: c, purpose: marketing, channel: e, source: s}\n",
            "must say time .* or since",
        ),
    ],
)
def test_a_mapping_that_cannot_be_says_why(tmp_path: Path, text: str, mistake: str) -> None:
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=mistake):
        read_data_mapping(tmp_path / "my.yaml")


def test_customers_are_taken_in_and_said_to_be(nextmove: Callable[..., Said], shop: Shop) -> None:
    said = nextmove("ingest", "customers", "--mapping", str(shop.settings.mapping))
    assert said.code == 0
    assert "2 rows, 2 new customers" in said.err
    assert "features, as their values tell: age (number), city (text), email_ok (text)" in said.err
    assert "next: nextmove catalog init" in said.err + said.out
    again = nextmove(
        "ingest", "customers", str(shop.folder / "customers.csv"), "--json", NEXTMOVE_MAPPING=str(shop.settings.mapping)
    )
    assert json.loads(again.out)["unchanged"] == 2


def test_mistakes_are_shown_and_fail_the_command_when_nothing_is_left(
    nextmove: Callable[..., Said], shop: Shop
) -> None:
    shop.mapping(features={"age": {"type": "number"}})
    shop.customers("c-1,old,Bern,yes", "c-2,45,Basel,no")
    command = ("ingest", "customers", "--mapping", str(shop.settings.mapping))
    said = nextmove(*command)
    assert said.code == 0
    assert "customers.csv row 2, column age: is 'old', must be a number" in said.err
    assert "1 of 2 rows of customers.csv could not be used" in refused(nextmove(*command, "--strict"))
    shop.customers("c-3,old,Bern,yes")
    assert "no row of customers.csv could be used" in refused(nextmove(*command))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("train", "--dataset", "files"), "--dataset files needs --mapping"),
        (("ingest", "customers"), "--mapping is missing"),
        (
            ("train", "--dataset", "hillstrom", "--mapping", "{mapping}"),
            "--mapping is of 'shop', --dataset is 'hillstrom'",
        ),
        (("ingest", "customers", "none.csv", "--mapping", "{mapping}"), "there is no file none.csv"),
        (("ingest", "--dataset", "files"), "--dataset files needs --mapping"),
        (("catalog", "init", "--mapping", "none.yaml"), "none.yaml"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    nextmove: Callable[..., Said], shop: Shop, command: tuple[str, ...], said: str
) -> None:
    words = [word.format(mapping=shop.settings.mapping) for word in command]
    assert said in refused(nextmove(*words))


def test_a_mapping_in_the_environment_leaves_other_data_sets_alone(nextmove: Callable[..., Said], shop: Shop) -> None:
    said = nextmove("catalog", "check", "--dataset", "simulated", NEXTMOVE_MAPPING=str(shop.settings.mapping))
    assert (said.code, said.err.count("error")) == (0, 0)


def test_without_a_log_a_first_model_explores(nextmove: Callable[..., Said], shop: Shop) -> None:
    command = ("quickstart", "--check", "--dataset", "files", "--mapping", str(shop.settings.mapping))
    said = nextmove(*command, "--port", str(free_port()))
    assert said.code == 0, said.err
    assert "version 1 knows nothing: there is no log of decisions to learn from" in said.err
    decision = decision_in(said.out)
    assert decision["reason"] == "RANKED"
    [chosen] = decision["actions"]
    # Two offers of equal value share what is not drawn.
    assert chosen["probability"] == pytest.approx(0.2 / 3 if chosen["action_id"] == "no_action" else 0.2 / 3 + 0.4)
    catalog = shop.folder / "catalog" / "shop" / "global" / "catalog.yaml"
    assert f"a first catalogue is in {catalog}" in said.err
    again = nextmove(*command, "--port", str(free_port()))
    assert "model version 1 is champion already" in again.err
    assert "a first catalogue" not in again.err


@pytest.mark.skipif(not BANK.is_file(), reason=f"{BANK} is not there; set NEXTMOVE_DATA")
def test_the_guide_s_bank_goes_from_its_file_to_a_service(nextmove: Callable[..., Said], tmp_path: Path) -> None:
    header, *rows = BANK.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / BANK.name).write_text(header + "".join(rows[::EVERY]), encoding="utf-8")
    [mapping] = [block for block in BLOCKS if block.startswith("# bank.yaml\n")]
    (tmp_path / "bank.yaml").write_text(mapping, encoding="utf-8")
    command = ("quickstart", "--check", "--dataset", "files", "--mapping", str(tmp_path / "bank.yaml"))
    said = nextmove(*command, "--data", str(tmp_path / "data"), "--port", str(free_port()))
    assert said.code == 0, said.err
    assert f"{len(rows[::EVERY]):,} new customers" in said.err
    assert "not evaluated: no decision says with which probability" in said.err
    assert "gate: nothing could be compared" in said.out
    decision = decision_in(said.out)
    assert decision["placement"] == "phone"
    [chosen] = decision["actions"]
    assert chosen["probability"] == pytest.approx(0.9 if chosen["action_id"] == "call" else 0.1)
    options = ("--dataset", "files", "--mapping", str(tmp_path / "bank.yaml"), "--data", str(tmp_path / "data"))
    assert "no decision says with which probability" in refused(nextmove("evaluate", *options))
