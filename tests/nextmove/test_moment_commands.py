import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from decisioning.moments import awaited
from storage.ledger.moments import Decided, MomentStore, Settled
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import moment, release
from tests.nextmove.test_cli import Said, nextmove, refused
from tests.storage.kept import NOW, event

__all__ = ["nextmove"]
SHOP = release(moments=(moment(delay=timedelta(0)),), domain="simulated")


def dead_letter(settings: Settings) -> str:
    told = event(name="cart_added")
    with closing(Ledger(settings)) as ledger:

        async def keep() -> None:
            await ledger.append_events([(told, "same")], begun=awaited([told], SHOP))

        asyncio.run(keep())
    with closing(MomentStore(settings)) as store:
        [kept] = store.newest(state="waiting", moment="cart_abandoned", limit=1)
        answered = Decided(kept.moment_id, "c-1", "email", "crm", NOW + timedelta(days=1), kept.record)
        store.keep([answered, Settled(kept.moment_id, "dead", "answered 410 (attempt 1)")], now=NOW)
    return kept.moment_id


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "state")


def test_dead_letters_are_listed_and_tried_again(nextmove: Callable[..., Said], settings: Settings) -> None:
    moment_id = dead_letter(settings)
    listed = nextmove("moments", "list", "--state", "dead")
    assert moment_id in listed.out
    assert "answered 410" in listed.out
    assert "nextmove moments retry ID" in listed.err
    [found] = json.loads(nextmove("moments", "list", "--json").out)
    assert (found["moment_id"], found["webhook"], found["state"]) == (moment_id, "crm", "dead")
    assert "c-1" not in json.dumps(found)
    said = nextmove("moments", "retry", moment_id)
    assert "waits to be decided" in said.out
    assert "nextmove moments list" in said.err
    assert nextmove("moments", "list", "--state", "dead").out.strip() == "there are none"
    assert moment_id in nextmove("moments", "list", "--moment", "cart_abandoned").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--state", "lost"), "--state is 'lost', must be one of waiting, decided, delivered, dead, ended"),
        (("retry", "nothing"), "no moment has the id 'nothing'"),
    ],
)
def test_what_is_wrong_is_one_line(nextmove: Callable[..., Said], arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(nextmove("moments", *arguments))


def test_only_a_dead_letter_is_tried_again(nextmove: Callable[..., Said], settings: Settings) -> None:
    moment_id = dead_letter(settings)
    assert json.loads(nextmove("moments", "retry", moment_id, "--json").out)["state"] == "waiting"
    assert "is waiting, must be dead" in refused(nextmove("moments", "retry", moment_id))
