"""Who calls: what is taken for whom, and what nobody learns from being refused."""

import ast
import base64
import inspect
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from decisioning.errors import DecisionConflict
from serving.http import callers as module
from serving.http.callers import THIS_MACHINE, Caller, Callers
from serving.http.problems import Forbidden, Unauthorized
from serving.http.signing_keys import keys_in
from serving.http.tokens import Tokens
from storage.keys import ApiKey, hash_of
from tests.builders import NOW, request
from tests.serving.test_engine import Shop
from tests.serving.tokens import AUDIENCE, ISSUER, jwks, token

SECRET = "s3cret_-A" * 4


def key(key_id: str = "k1", **fields: Any) -> ApiKey:
    defaults: dict[str, Any] = {
        "key_id": key_id,
        "name": "shop",
        "sha256": hash_of(SECRET),
        "scopes": ("decide",),
        "market": None,
        "publishable": False,
        "created_at": NOW,
    }
    return ApiKey(**defaults | fields)


def callers_with(*keys: ApiKey, tokens: bool = False) -> Callers:
    callers = Callers()
    callers.take(keys)
    if tokens:
        callers.take_tokens(Tokens(issuer=ISSUER, audience=AUDIENCE, key_of=keys_in(jwks()).get))
    return callers


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


GOOD = f"nm_k1_{SECRET}"
GARBAGE = st.text(alphabet=st.characters(max_codepoint=255), max_size=80)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": GOOD},
        {"x-api-key": f" {GOOD} ", "authorization": "Bearer nonsense"},
        {"authorization": f"Bearer {GOOD}"},
        {"authorization": f"bearer   {GOOD}"},
        {"authorization": basic(f"{GOOD}:")},
    ],
)
@pytest.mark.parametrize("tokens", [False, True])
def test_a_key_is_taken_from_each_header_that_clients_send(headers: dict[str, str], tokens: bool) -> None:
    caller = callers_with(key(market="de", publishable=True), tokens=tokens).by_headers(Headers(headers))
    assert caller == Caller("shop", frozenset({"decide"}), "de", publishable=True)


def test_a_key_from_elsewhere_is_taken_too() -> None:
    assert callers_with(key()).by_key(GOOD).name == "shop"


def test_an_issuer_s_token_is_taken_beside_keys_and_without_any() -> None:
    for callers in (callers_with(tokens=True), callers_with(key(), tokens=True)):
        caller = callers.by_headers({"authorization": f"Bearer {token(scope='marketing', market='de')}"})
        assert caller == Caller("ann", frozenset({"marketing"}), "de")


def refusal(callers: Callers, headers: dict[str, str]) -> Unauthorized:
    with pytest.raises(Unauthorized) as raised:
        callers.by_headers(Headers(headers))
    return raised.value


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing"),
        ({"x-api-key": ""}, "malformed"),
        ({"x-api-key": SECRET}, "malformed"),
        ({"authorization": ""}, "malformed"),
        ({"authorization": GOOD}, "malformed"),
        ({"authorization": f"Digest {GOOD}"}, "malformed"),
        ({"authorization": "Bearer"}, "malformed"),
        ({"authorization": f"Bearer {token()}"}, "malformed"),  # no issuer is set
        ({"authorization": basic(GOOD)}, "malformed"),
        ({"authorization": basic(f"{GOOD}:password")}, "malformed"),
        ({"authorization": "Basic %%%"}, "malformed"),
        ({"authorization": "Basic /w=="}, "malformed"),
        ({"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}, "missing"),
        ({"x-api-key": f"{GOOD}x"}, "key"),
        ({"authorization": basic(f"nm_k2_{SECRET}:")}, "key"),
    ],
)
def test_who_cannot_be_told_is_refused_without_repeating_what_was_sent(headers: dict[str, str], reason: str) -> None:
    error = refusal(callers_with(key()), headers)
    assert error.reason == reason
    assert SECRET not in error.message
    assert token() not in error.message


def test_an_unknown_a_wrong_and_a_revoked_key_look_the_same() -> None:
    callers = callers_with(key(), key("k2", revoked_at=NOW + timedelta(days=1)))
    errors = [refusal(callers, {"x-api-key": sent}) for sent in ("nm_k1_wrong", f"nm_k2_{SECRET}", "nm_none_s")]
    assert len({(error.message, error.reason) for error in errors}) == 1


def test_the_secret_s_hash_is_compared_in_constant_time_whether_the_key_exists_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    callers = callers_with(key())
    assert callers.by_key(GOOD)
    for sent in ("nm_k1_wrong", f"nm_none_{SECRET}"):
        refusal(callers, {"x-api-key": sent})
    assert compared == [(64, 64)] * 3


def test_no_secret_is_compared_in_another_way() -> None:
    tree = ast.parse(inspect.getsource(Callers.by_key).lstrip().replace("\n    ", "\n"))
    compared = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)}
    assert compared == {"parts is None", "caller is None"}


@given(key_header=st.none() | GARBAGE, authorization=st.none() | GARBAGE, tokens=st.booleans())
def test_garbage_is_never_anything_but_unauthorized(
    key_header: str | None, authorization: str | None, tokens: bool
) -> None:
    sent = {"x-api-key": key_header, "authorization": authorization}
    refusal(callers_with(key(), tokens=tokens), {name: value for name, value in sent.items() if value is not None})


@given(
    scheme=st.sampled_from(["Bearer", "Basic", "bEARER"]),
    text=st.text(alphabet="nm_k1:.=+/AZ09-", max_size=60)
    | st.binary(max_size=60).map(lambda b: base64.b64encode(b).decode()),
)
def test_garbage_behind_a_scheme_is_never_anything_but_unauthorized(scheme: str, text: str) -> None:
    refusal(callers_with(key(), tokens=True), {"authorization": f"{scheme} {text}"})
    with pytest.raises(Unauthorized):
        callers_with(key()).by_key(text)


def test_without_keys_and_issuer_whoever_the_guard_lets_in_may_do_everything() -> None:
    callers = callers_with()
    assert not callers.must_say
    assert callers.by_headers({"x-api-key": "anything"}) is THIS_MACHINE
    assert callers.by_key("a segment client always sends one") is THIS_MACHINE
    assert THIS_MACHINE.may("decide")


def test_until_it_is_read_who_may_call_nobody_may() -> None:
    assert refusal(Callers(), {}).reason == "missing"


def test_the_first_key_asks_everyone_for_one_and_revoking_the_last_opens_nothing() -> None:
    callers = callers_with()
    callers.take([key()])
    assert callers.must_say
    callers.take([key(revoked_at=NOW)])
    assert refusal(callers, {"x-api-key": GOOD}).reason == "key"
    assert refusal(callers, {}).reason == "missing"


def test_an_issuer_alone_asks_everyone_for_a_token() -> None:
    assert callers_with(tokens=True).must_say


def caller(*scopes: str, **fields: Any) -> Caller:
    return Caller("ann", frozenset(scopes or ("decide",)), **fields)


def test_admin_implies_every_scope_and_no_other_implies_any() -> None:
    assert caller("admin").may("decide", "ingest")
    assert caller("admin").may("marketing")
    assert not caller("marketing").may("decide", "admin")
    with pytest.raises(Forbidden, match="needs the scope admin or marketing, the caller has decide, ingest"):
        caller("decide", "ingest").must("admin", "marketing")


def test_a_caller_of_a_market_asks_for_that_market_or_for_none() -> None:
    bound = caller(market="de")
    assert bound.request_of(request()).market == "de"
    assert bound.request_of(request(market="de")) == request(market="de")
    for other in ("ch", "global"):
        with pytest.raises(Forbidden, match=f"market is '{other}', must be 'de'") as raised:
            bound.request_of(request(market=other), where="requests[3]")
        assert raised.value.where == "requests[3].market"
    assert caller().request_of(request(market="ch")) == request(market="ch")
    assert caller().request_of(request()) == request()


@pytest.mark.parametrize("fields", [{"now": NOW}, {"mode": "preview"}, {"explain": True}])
def test_a_publishable_key_asks_for_nothing_that_a_page_need_not_know(fields: dict[str, Any]) -> None:
    [name] = fields
    with pytest.raises(Forbidden) as raised:
        caller(publishable=True).request_of(request(**fields))
    assert raised.value.where == name
    assert caller("admin").request_of(request(**fields)) == request(**fields)


def test_a_publishable_key_may_narrow_the_candidates_and_name_its_decision() -> None:
    asked = request(actions=("card",), exclude=("loan",), decision_id="d", context={"age": 3})
    assert caller(publishable=True).request_of(asked) == asked


def test_another_time_needs_admin_and_a_preview_or_an_explanation_does_not() -> None:
    with pytest.raises(Forbidden, match="now needs the scope admin"):
        caller().request_of(request(now=NOW))
    for fields in ({"mode": "preview"}, {"explain": True}):
        assert caller().request_of(request(**fields))


def test_a_conflict_shows_its_first_decision_to_those_who_may_see_it() -> None:
    first = msgspec.structs.replace(Shop().decide(), market="de")
    error = DecisionConflict("taken", first=first)
    for seeing in (caller(), caller(market="de")):
        assert seeing.error_of(error) is error
    for blind in (caller(publishable=True), caller(market="ch"), caller(market="de", publishable=True)):
        shown = blind.error_of(error)
        assert isinstance(shown, DecisionConflict)
        assert (shown.first, shown.message) == (None, "taken")
