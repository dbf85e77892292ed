"""One-click unsubscribe (RFC 8058): a signed link, without a key, that nobody can make for somebody else."""

import base64
from typing import Any

import pytest

from decisioning.catalog import Release
from decisioning.content import Channel
from decisioning.profile import Consent
from serving.http.customer_routes import FIELD
from serving.unsubscribe_links import Meant, UnknownLink, UnsubscribeLinks
from tests.builders import CONSENTED, action, catalog, content
from tests.serving.test_access import KEYS, Site
from tests.serving.test_access import _counting_in_this_process as _counting_in_this_process
from tests.serving.test_engine import Shop
from tests.serving.test_http import problem

SECRET = b"a secret of the service"
LINKS = UnsubscribeLinks(SECRET, domain="shop")
FORM = {"content-type": "application/x-www-form-urlencoded"}
ONE_CLICK = "List-Unsubscribe=One-Click"
MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
)  # fmt: skip


@pytest.fixture
def site() -> Site:
    free = catalog(action("card"), channels=(Channel("web"), Channel("email")))
    return Site(*KEYS, shop=Shop(free, hot=CONSENTED))


def mail(site: Site) -> dict[str, Any]:
    answer: dict[str, Any] = site.decide("decide", placement="newsletter").json()
    return answer


def press(site: Site, path: str, body: Any = ONE_CLICK, headers: Any = FORM) -> Any:
    return site.call("POST", path, content=body, headers=headers, follow_redirects=False)


def test_what_is_sent_carries_its_link_and_what_is_shown_does_not(site: Site) -> None:
    link = mail(site)["unsubscribe"]
    assert link.startswith("/v1/unsubscribe/1.")
    assert "unsubscribe" not in site.decide("decide").json()
    assert site.shop.engine.links.read(link.rpartition("/")[2]) == Meant("c-1", "email")


def test_a_first_answer_outlives_its_market(site: Site) -> None:
    site.shop.engine.release = Release({"global": content(), "de": content(market="de")}, version="sha256:two")
    asked = {"placement": "newsletter", "market": "de", "decision_id": "d-1"}
    assert "unsubscribe" in site.decide("decide", **asked).json()
    site.shop.engine.release = Release({"global": content()}, version="sha256:three")
    assert site.decide("decide", **asked).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [(ONE_CLICK, FORM), (MULTIPART, {"content-type": "multipart/form-data; boundary=x"})],
)
def test_one_click_holds_at_the_next_decision_whatever_the_channel_requires(
    site: Site, body: Any, headers: Any
) -> None:
    first = mail(site)
    assert [each["action_id"] for each in first["actions"]] == ["card"]
    done = press(site, first["unsubscribe"], body, headers)
    assert (done.status_code, done.history) == (200, [])
    after = site.decide("decide", placement="newsletter", explain=True).json()
    assert [drop["reason"] for drop in after["dropped"]] == ["OBJECTED"]
    assert site.decide("decide").json()["actions"]  # the website goes on
    [kept] = site.shop.ledger.consents
    assert (kept.purpose, kept.channel, kept.granted, kept.source) == (
        "marketing", "email", False, "one-click unsubscribe",
    )  # fmt: skip


def test_again_changes_nothing_until_the_customer_consents_anew(site: Site) -> None:
    link = mail(site)["unsubscribe"]
    for _ in range(3):
        assert press(site, link).status_code == 200
    assert len(site.shop.ledger.consents) == len(site.shop.ledger.audits) == 1
    body = {"purpose": "marketing", "channel": "email", "granted": True}
    assert site.call("PUT", "/v1/customers/c-1/consent", "agent", json=body).status_code == 200
    assert mail(site)["actions"]
    assert press(site, link).status_code == 200
    assert site.shop.hot_state.profile.withdrawn == (Consent("marketing", "email"),)


def test_the_audit_says_what_was_done_and_no_more_of_the_customer_than_the_id(site: Site) -> None:
    press(site, mail(site)["unsubscribe"])
    [entry] = site.shop.ledger.audits
    assert (entry.what, entry.subject, entry.reason, entry.actor) == (
        "customer.unsubscribe", "c-1", "email", "one-click unsubscribe",
    )  # fmt: skip


def test_opening_the_page_changes_nothing_and_tells_nothing_of_the_customer(site: Site) -> None:
    link = mail(site)["unsubscribe"]
    for method in ("GET", "HEAD"):
        page = site.call(method, link)
        assert page.status_code == 200
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
    shown = site.call("GET", link).text
    assert '<form method="post">' in shown
    assert "c-1" not in shown
    assert "<script" not in shown
    assert (site.shop.ledger.consents, site.shop.hot_state.profile) == ([], CONSENTED)


@pytest.mark.parametrize("channel", ["<script>alert(1)</script>", '"><img src=x>'])
def test_a_channel_s_name_is_text(site: Site, channel: str) -> None:
    shown = site.call("GET", site.shop.engine.links.path("c-1", channel)).text
    assert channel not in shown


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ("", FORM, (400, "invalid_request", FIELD)),
        ("List-Unsubscribe=Two-Clicks", FORM, (400, "invalid_request", FIELD)),
        ("x=1", {"content-type": "multipart/form-data"}, (400, "invalid_request", FIELD)),
        (b"\xff" * 9, {"content-type": "multipart/form-data; boundary=\xff"}, (400, "invalid_request", FIELD)),
        ("x" * 5000, FORM, (413, "body_too_large", None)),
    ],
)
def test_what_is_not_one_click_changes_nothing(site: Site, body: Any, headers: Any, expected: Any) -> None:
    headers = {name: value.encode("latin-1") for name, value in headers.items()}
    assert problem(press(site, mail(site)["unsubscribe"], body, headers)) == expected
    assert site.shop.ledger.consents == []


def forged() -> list[str]:
    good = LINKS.token("c-1", "email")
    version, said, signature = good.split(".")
    other = LINKS.token("c-2", "email").split(".")
    return [
        "", ".", "..", "1", "1..", version + "." + said, f"{version}.{said}.", f"{version}.{other[1]}.{signature}",
        f"2.{said}.{signature}", f".{said}.{signature}", f"{version}.{said}.{signature[:-4]}", good + "A", good[1:],
        f"{version}.{said}.{base64.urlsafe_b64encode(bytes(16)).decode().rstrip('=')}",
        UnsubscribeLinks(b"another secret there is", domain="shop").token("c-1", "email"),
        UnsubscribeLinks(SECRET, domain="other").token("c-1", "email"),
        "1.é.é", "%2e%2e", "\ud800", "A" * 10_000,
    ]  # fmt: skip


@pytest.mark.parametrize("token", forged(), ids=range(len(forged())))
def test_a_link_that_is_not_ours_is_refused_and_does_not_say_why(token: str) -> None:
    with pytest.raises(UnknownLink, match="not one of ours; copy all of it") as refused:
        LINKS.read(token)
    assert refused.value.where == "token"


def test_every_changed_character_breaks_a_link() -> None:
    good = LINKS.token("c-1", "email")
    for place in range(len(good) - 1):  # the last one has bits that say nothing
        changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        with pytest.raises(UnknownLink):
            LINKS.read(changed)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_over_http_a_forged_link_is_not_found(site: Site, method: str) -> None:
    path = "/v1/unsubscribe/" + LINKS.token("c-1", "email")
    call = {"content": ONE_CLICK, "headers": FORM} if method == "POST" else {}
    assert problem(site.call(method, path, **call)) == (404, "unknown_link", "token")
    assert site.shop.ledger.consents == []


@pytest.mark.parametrize("tail", ["?next=https://evil.example", "?url=//evil.example&redirect=https://evil.example"])
def test_it_leads_nowhere_else(site: Site, tail: str) -> None:
    link = mail(site)["unsubscribe"]
    headers = FORM | {"x-forwarded-host": "evil.example", "referer": "https://evil.example"}
    for answer in (press(site, link + tail, headers=headers), site.call("GET", link + tail, headers=headers)):
        assert (answer.status_code, "location" in answer.headers) == (200, False)
        assert "evil.example" not in answer.text


@pytest.mark.parametrize("customer_id", ["c-1", "ünï/çode & more", "anonymous:v-7", "x" * 256])
def test_whoever_it_is_the_link_means_them(customer_id: str) -> None:
    path = LINKS.path(customer_id, "email")
    assert LINKS.read(path.rpartition("/")[2]) == Meant(customer_id, "email")
    assert all(letter.isascii() and (letter.isalnum() or letter in "/._-") for letter in path)
