"""A hook believes its provider, and nobody else: not a changed body, not an old call, not another's key."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurve, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from decisioning.errors import SetupError
from decisioning.event_content import Hook, HookSignature
from serving.http.problems import Unauthorized
from serving.http.signatures import check_signature
from tests.builders import NOW
from tests.serving.hooks import HOOKS, SECRETS, signed

BODY = b'[{"event":"open"}]\r\n'  # SendGrid ends its bodies so
WITH_SECRETS = [hook for hook in HOOKS if hook.id in SECRETS]
MINUTE = timedelta(minutes=1)


def check(hook: Hook, headers: dict[str, str], content: bytes = BODY, *, at: timedelta = timedelta(), **given: Any):
    return check_signature(hook, given.get("secret", SECRETS[hook.id]), Headers(headers), content, now=NOW + at)


def refused(hook: Hook, headers: dict[str, str], content: bytes = BODY, **given: Any) -> str:
    with pytest.raises(Unauthorized) as raised:
        check(hook, headers, content, **given)
    assert raised.value.reason == "signature"
    assert SECRETS[hook.id] not in raised.value.message
    return raised.value.message


@pytest.mark.parametrize("hook", WITH_SECRETS, ids=lambda hook: hook.id)
def test_what_the_provider_signed_is_taken(hook: Hook) -> None:
    check(hook, signed(hook.id, BODY, now=NOW))


@pytest.mark.parametrize("hook", WITH_SECRETS, ids=lambda hook: hook.id)
def test_nothing_is_taken_without_a_proof_or_with_a_changed_one(hook: Hook) -> None:
    refused(hook, {})
    headers = signed(hook.id, BODY, now=NOW)
    for name, value in headers.items():
        if name != "content-type":
            for wrong in ("", value[:-1], value[:-4] + "AAAA", "é", "Basic é", "Bearer "):
                refused(hook, headers | {name: wrong})


@pytest.mark.parametrize("hook", [hook for hook in WITH_SECRETS if hook.id != "brevo"], ids=lambda hook: hook.id)
def test_a_changed_body_is_not_the_one_that_was_signed(hook: Hook) -> None:
    headers = signed(hook.id, BODY, now=NOW)
    for wrong in (b"", BODY[:-1], BODY + b" ", BODY.replace(b"open", b"oper")):
        refused(hook, headers, wrong)


@pytest.mark.parametrize("hook", WITH_SECRETS, ids=lambda hook: hook.id)
def test_another_s_secret_signs_nothing(hook: Hook) -> None:
    refused(hook, signed(hook.id, BODY, now=NOW), secret=public(SECP256R1()))


@pytest.mark.parametrize(
    ("minutes", "is_taken"), [(-6, False), (-5, True), (0, True), (5, True), (6, False), (60 * 24 * 365, False)]
)
def test_an_old_call_of_sendgrid_is_a_replay_and_one_of_the_future_too(minutes: int, is_taken: bool) -> None:
    sendgrid = WITH_SECRETS[0]
    headers = signed("sendgrid", BODY, now=NOW)
    if is_taken:
        check(sendgrid, headers, at=minutes * MINUTE)
    else:
        assert "must be within 0:05:00" in refused(sendgrid, headers, at=minutes * MINUTE)


def test_the_catalogue_may_say_how_old_a_call_may_be() -> None:
    patient = Hook(id="sendgrid", format="sendgrid", verify=HookSignature(tolerance=timedelta(hours=24)))
    check(patient, signed("sendgrid", BODY, now=NOW), at=timedelta(hours=23))
    refused(patient, signed("sendgrid", BODY, now=NOW), at=timedelta(hours=25))


def test_a_new_time_does_not_make_an_old_signature_new() -> None:
    time = "X-Twilio-Email-Event-Webhook-Timestamp"
    headers = signed("sendgrid", BODY, now=NOW - timedelta(days=1)) | {time: str(int(NOW.timestamp()))}
    assert "not that of" in refused(WITH_SECRETS[0], headers)


def test_brevo_sends_a_token_or_user_and_password() -> None:
    brevo = WITH_SECRETS[1]
    check(brevo, {"authorization": f"bearer {SECRETS['brevo']}"})
    refused(brevo, {"authorization": SECRETS["brevo"]})
    refused(brevo, {"authorization": f"Digest {SECRETS['brevo']}"})


def test_segment_signs_of_a_batch_the_first_event_alone_so_a_batch_is_refused() -> None:
    first = b'{"event":"Unsubscribed"}'
    segment = WITH_SECRETS[2]
    headers = signed("segment", first, now=NOW)
    check(segment, headers, first)
    assert "turn batching off" in refused(segment, headers, b"[" + first + b"]")


@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_hexadecimal_may_be_large_and_say_what_it_is(prefix: str) -> None:
    crm = WITH_SECRETS[3]
    value = signed("crm", BODY, now=NOW)["X-Crm-Signature"]
    check(crm, {"X-CRM-SIGNATURE": prefix + value.upper()})


def public(curve: EllipticCurve) -> str:
    key = generate_private_key(curve).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(key).decode()


@pytest.mark.parametrize(
    "wrong", ["no key at all, but long", "AAAA" * 30, SECRETS["sendgrid"][:-4], public(SECP384R1())]
)
def test_a_secret_that_is_no_key_is_the_operator_s_mistake_and_not_said(wrong: str) -> None:
    with pytest.raises(SetupError, match="the secret of 'sendgrid' in the file of the setting hook_secrets") as raised:
        check(WITH_SECRETS[0], signed("sendgrid", BODY, now=NOW), secret=wrong)
    assert wrong not in raised.value.message


@settings(max_examples=100, deadline=None)
@given(
    hook=st.sampled_from(WITH_SECRETS),
    value=st.text(alphabet=st.characters(max_codepoint=255), max_size=80),
    time=st.text(alphabet="0123456789-_ ", max_size=30),
    content=st.binary(max_size=50),
)
def test_garbage_is_refused_and_breaks_nothing(hook: Hook, value: str, time: str, content: bytes) -> None:
    headers = dict.fromkeys(signed(hook.id, b"", now=NOW), value)
    headers["X-Twilio-Email-Event-Webhook-Timestamp"] = time
    refused(hook, headers, content)
