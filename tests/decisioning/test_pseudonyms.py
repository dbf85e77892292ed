"""A pseudonym is the same for the same id, and tells nothing to who lacks the secret."""

from decisioning.pseudonyms import Pseudonyms

OURS, THEIRS = Pseudonyms(b"0123456789abcdef"), Pseudonyms(b"fedcba9876543210")


def test_one_id_has_one_pseudonym_and_another_secret_another() -> None:
    assert OURS.of("c-1") == OURS.of("c-1") != THEIRS.of("c-1")
    assert len({OURS.of(f"c-{number}") for number in range(10_000)}) == 10_000
    assert "c-1" not in OURS.of("c-1")


def test_what_bears_a_pseudonym_keeps_it() -> None:
    assert OURS.of(OURS.of("c-1")) == OURS.of("c-1")
    # What only looks like one is an id like others.
    assert OURS.of("nmp_c-1") != "nmp_c-1"


def test_a_visitors_unit_stays_a_visitors() -> None:
    assert OURS.of("anonymous:v-1") == f"anonymous:{OURS.of('v-1')}"


def test_without_a_secret_ids_stay_what_they_are() -> None:
    assert (Pseudonyms(None).of("c-1"), Pseudonyms(None).are_used) == ("c-1", False)
    assert (Pseudonyms(None).of_any(None), OURS.of_any(None)) == (None, None)


def test_an_id_that_is_no_text_has_a_pseudonym_too() -> None:
    assert OURS.of("\ud800") != OURS.of("\ud801")
