"""A data domain whose customers are named by pseudonyms alone, as the service names them."""

import hashlib

import msgspec
import pandas as pd

from decisioning.profile import ConsentChange
from decisioning.pseudonyms import Pseudonyms
from training.domains import TabledDomain


class Pseudonymised:
    """Another domain's data; no id in it leaves here."""

    def __init__(self, domain: TabledDomain, pseudonyms: Pseudonyms) -> None:
        self._domain = domain
        self._pseudonyms = pseudonyms

    @property
    def name(self) -> str:
        """See `Domain.name`."""
        return self._domain.name

    @property
    def data_sha256(self) -> str:
        """See `Domain.data_sha256`; of another secret, another."""
        return hashlib.sha256(f"{self._domain.data_sha256}/{self._pseudonyms.of('')}".encode()).hexdigest()

    def tables(self) -> dict[str, pd.DataFrame]:
        """See `Domain.tables`."""
        return {name: self._renamed(table) for name, table in self._domain.tables().items()}

    def consents(self) -> list[ConsentChange]:
        """See `Domain.consents`."""
        return [
            msgspec.structs.replace(change, customer_id=self._pseudonyms.of(change.customer_id))
            for change in self._domain.consents()
        ]

    def log(self) -> pd.DataFrame:
        """See `Domain.log`."""
        return self._renamed(self._domain.log())

    def _renamed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table under pseudonyms; one of accounts has no customers."""
        if "customer_id" not in table.columns:
            return table
        names = {each: self._pseudonyms.of(str(each)) for each in table["customer_id"].unique()}
        return table.assign(customer_id=table["customer_id"].map(names))
