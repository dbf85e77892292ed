"""A domain under pseudonyms is the same domain, and names nobody."""

from decisioning.pseudonyms import Pseudonyms
from training.domains.pseudonymised import Pseudonymised
from training.domains.simulated import Simulated

PLAIN = Simulated(seed=3, customers=200, decisions=500)
PSEUDONYMS = Pseudonyms(b"0123456789abcdef")
OURS = Pseudonymised(PLAIN, PSEUDONYMS)


def test_every_customer_is_named_by_the_pseudonym_and_all_else_stays() -> None:
    for name, table in PLAIN.tables().items():
        ours = OURS.tables()[name]
        if "customer_id" in table.columns:
            assert ours["customer_id"].tolist() == [PSEUDONYMS.of(each) for each in table["customer_id"]]
            ours, table = ours.drop(columns="customer_id"), table.drop(columns="customer_id")
        assert ours.equals(table)
    assert OURS.log()["customer_id"].tolist() == [PSEUDONYMS.of(each) for each in PLAIN.log()["customer_id"]]
    assert [each.customer_id for each in OURS.consents()] == [
        PSEUDONYMS.of(each.customer_id) for each in PLAIN.consents()
    ]


def test_with_another_secret_it_is_other_data() -> None:
    theirs = Pseudonymised(PLAIN, Pseudonyms(b"fedcba9876543210"))
    assert len({PLAIN.data_sha256, OURS.data_sha256, theirs.data_sha256}) == 3
