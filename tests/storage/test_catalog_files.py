"""A catalogue's files become one content; every mistake is named with its file and line."""

from pathlib import Path

import msgspec
import pytest

from decisioning.errors import CatalogError
from storage.catalog_files import decode_catalog, read_catalog

SHOP = """\
domain: shop
currency: EUR
groups: [cards]
goals: [sell]
channels:
  - {id: web}
placements:
  - id: home_hero
    channel: web
    reward: {click: 1}
    priority_scale: 10
actions:
  - id: gold_card
    name: Gold card
    group: cards
    goal: sell
    status: live
    treatments:
      - {id: gold_card_web, channel: web, content: {headline: Gold}}
"""
MORE = """\
actions:
  - id: silver_card
    name: Silver card
    group: cards
    goal: sell
"""


def folder(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "shop" / "global").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "shop" / "global" / f"{name}.yaml").write_text(text)
    return tmp_path / "shop"


def mistakes(tmp_path: Path, **files: str) -> list[str]:
    with pytest.raises(CatalogError) as raised:
        read_catalog(folder(tmp_path, **files))
    return raised.value.mistakes


def test_lists_are_joined_over_files(tmp_path: Path) -> None:
    _, catalog = read_catalog(folder(tmp_path, a=SHOP, b=MORE, c="", d="actions:\n  # none yet\n"))

    assert list(catalog.actions) == ["gold_card", "silver_card"]


def test_the_published_bytes_decode_to_the_same_catalogue(tmp_path: Path) -> None:
    blob, catalog = read_catalog(folder(tmp_path, a=SHOP))

    assert decode_catalog(blob).version == catalog.version
    assert decode_catalog(blob).content == catalog.content


def test_comments_and_the_split_into_files_do_not_change_the_version(tmp_path: Path) -> None:
    head, separator, actions = SHOP.partition("actions:\n")
    whole, _ = read_catalog(folder(tmp_path / "1", a=SHOP))
    split, _ = read_catalog(folder(tmp_path / "2", a="# Hello\n" + head, b=separator + actions))

    assert whole == split


def test_every_wrong_entry_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    wrong = MORE + "    value: much\n  - id: bronze\n    group: cards\n    goal: sell\n  - just_text\n"

    assert mistakes(tmp_path, a=SHOP.replace("priority_scale: 10", "priority_scale: 0"), b=wrong) == [
        "shop/global/a.yaml:11: placements[home_hero].priority_scale: expected `float` > 0.0",
        "shop/global/b.yaml:6: actions[silver_card].value: expected `float`, got `str`",
        "shop/global/b.yaml:7: actions[bronze]: object missing required field `name`",
        "shop/global/b.yaml:10: actions[2]: expected `object`, got `str`",
    ]


def test_a_misspelt_field_is_named_with_its_line(tmp_path: Path) -> None:
    assert mistakes(tmp_path, a=SHOP.replace("content: {head", "contents: {head"), b=MORE + "    vaule: 3\n") == [
        "shop/global/a.yaml:19: actions[gold_card].treatments[0]: object contains unknown field `contents`",
        "shop/global/b.yaml:6: actions[silver_card]: object contains unknown field `vaule`",
    ]


def test_a_misspelt_top_level_key_is_told_what_is_allowed(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, a=SHOP, b="action:\n  - id: x\n")

    assert mistake.startswith("shop/global/b.yaml:1: 'action' is not known, must be one of domain, currency")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, a=SHOP + "goals: [other]\n", b=MORE + "    name: Again\n") == [
        "shop/global/a.yaml:20: 'goals' stands twice, first in line 4",
        "shop/global/b.yaml:6: 'name' stands twice, first in line 3",
    ]


def test_files_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path, a=SHOP, b="domain: shop\ncurrency: USD\n") == [
        "shop/global/b.yaml:2: currency: is 'USD', but 'EUR' in shop/global/a.yaml:2"
    ]


def test_the_catalogues_own_checks_carry_the_line_too(tmp_path: Path) -> None:
    a = SHOP.replace("    group: cards", "    group: loans")
    b = MORE + "    eligibility: customer.age >\n    treatments:\n      - {id: t, channel: fax}\n"

    first, second, third = mistakes(tmp_path, a=a, b=b)

    assert first.startswith("shop/global/a.yaml:15: actions[gold_card].group: 'loans' is not defined")
    assert second.startswith("shop/global/b.yaml:8: actions[silver_card].treatments[t].channel: 'fax' is not defined")
    assert third.startswith("shop/global/b.yaml:6: actions[silver_card].eligibility: 'customer.age >' is not a CEL")


def test_what_no_file_says_is_named(tmp_path: Path) -> None:
    found = mistakes(tmp_path, a="domain: shop\n")

    assert [mistake.split(":")[0] for mistake in found] == [
        "currency", "groups", "goals", "channels", "placements", "actions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("actions: [", "a.yaml:1: is not YAML"),
        ("actions:\n\t- id: x", "a.yaml:2: is not YAML"),
        ("a: 1\n---\nb: 2", "a.yaml:2: is not YAML"),
        ("- id: x", "a.yaml:1: holds list, must hold keys like `actions:`"),
        ("just text", "a.yaml:1: holds str"),
        ("1: 2", "a.yaml:1: holds dict"),
        ("? [a, b]\n: 1", "a.yaml:1: is not YAML"),
        ("actions: !!python/object/apply:os.system [ls]", "a.yaml:1: is not YAML"),
        ("actions: &a [*a]", "a.yaml:1: actions[0]: "),
        ("actions: 3", "a.yaml:1: actions: is int, must be a list"),
        ("domain: 3", "a.yaml:1: domain: expected `str`, got `int`"),
        ("actions:\n  - {id: a, valid_from: 2026-99-99}", "a.yaml: cannot be read as YAML: month must be in 1..12"),
        ("domain: \x00", "a.yaml: cannot be read as YAML"),
    ],
)
def test_bad_yaml_is_a_mistake_and_never_a_traceback(text: str, expected: str, tmp_path: Path) -> None:
    [mistake, *_] = mistakes(tmp_path, a=text)

    assert mistake.startswith(f"shop/global/{expected}")


def test_a_file_in_another_encoding_is_a_mistake(tmp_path: Path) -> None:
    directory = folder(tmp_path, a=SHOP)
    (directory / "global" / "b.yaml").write_bytes("name: Zoë".encode("utf-16"))

    with pytest.raises(CatalogError, match=r"b\.yaml: cannot be read as YAML"):
        read_catalog(directory)


def test_a_missing_folder_an_empty_one_and_a_wrong_ending_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no such folder"):
        read_catalog(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match=r"holds no \.yaml file"):
        read_catalog(folder(tmp_path / "1"))
    directory = folder(tmp_path / "2", a=SHOP)
    (directory / "global" / "b.yml").write_text(MORE)
    with pytest.raises(CatalogError, match=r"b\.yml: the name ends in \.yml"):
        read_catalog(directory)


@pytest.mark.parametrize("blob", [b"", b"{}", b"\xff", msgspec.json.encode({"domain": "shop", "currency": "euro"})])
def test_bytes_that_hold_no_catalogue_are_refused(blob: bytes) -> None:
    with pytest.raises(CatalogError):
        decode_catalog(blob)
