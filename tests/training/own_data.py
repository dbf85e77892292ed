"""Customers and decisions of a small shop of one's own, as files, and their mapping."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from nextmove.own_data import take_customers
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.database import migrate
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.domains.files import Files
from training.ingest_customers import IngestedCustomers

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
CUSTOMERS: dict[str, Any] = {"from": "customers.csv", "id": "client", "since": "2025-01-01"}
DECISIONS: dict[str, Any] = {
    "from": "decisions.csv", "id": "id", "customer": "client", "time": "at", "placement": "home", "action": "offer",
    "probability": {"column": "p"}, "reward": "paid",
}  # fmt: skip


class Shop:
    """A folder with a mapping, its files, and a state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.settings = Settings(home=folder / "state", domain="shop", mapping=folder / "my.yaml")
        migrate(self.settings)

    def mapping(self, *, decisions: dict[str, Any] | None = None, **customers: Any) -> None:
        said = {"name": "shop", "customers": {**CUSTOMERS, **customers}}
        if decisions is not None:
            said["decisions"] = {**DECISIONS, **decisions}
        (self.folder / "my.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")

    def customers(self, *lines: str, header: str = "client,age,city,email_ok") -> None:
        (self.folder / "customers.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    def decisions(self, *lines: str, header: str = "id,client,at,offer,p,paid") -> None:
        (self.folder / "decisions.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    def domain(self, *, now: datetime = NOW) -> Files:
        self.told.clear()
        return Files(self.settings, now=now, tell=self.told.append)

    def ingest(self, *, now: datetime = NOW, **given: Any) -> IngestedCustomers:
        return take_customers(self.settings, self.domain(now=now), now=now, **given)

    def consents(self) -> dict[tuple[str, str], bool]:
        """The last word of each customer on each channel, by the ledger."""
        with closing(LedgerReader(self.settings)) as reader:
            said = sorted(reader.consents("shop"), key=lambda change: change.at)
        return {(change.customer_id, change.channel): change.granted for change in said}

    def hot_state(self) -> Any:
        return open_hot_state(self.settings, now=NOW)
