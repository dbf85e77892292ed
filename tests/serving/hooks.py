"""Calls of providers' hooks as they sign them, each with a secret of the tests."""

import base64
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from decisioning.event_content import Hook, HookEvent, HookSignature

_KEY = derive_private_key(20260302, SECP256R1())
_PUBLIC = _KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

SECRETS = {
    "sendgrid": base64.b64encode(_PUBLIC).decode(),
    "brevo": "hook:a-long-password",
    "segment": "shared-secret-of-segment",
    "crm": "shared-secret-of-the-crm",
}
CRM = Hook(
    id="crm",
    format="custom",
    verify=HookSignature(header="X-Crm-Signature"),
    decision_id="meta.nba.decision",
    event="kind",
    event_id="no",
    occurred_at="when",
    events={"signed": HookEvent(type="accept"), "returned": HookEvent(type="bounce", detail="soft")},
)
HOOKS = (
    Hook(id="sendgrid", format="sendgrid"),
    Hook(id="brevo", format="brevo"),
    Hook(id="segment", format="segment"),
    CRM,
    Hook(id="open", format="segment"),  # nobody gave it a secret
)


def body_of(items: Any) -> bytes:
    return json.dumps(items).encode()


def signed(source: str, content: bytes, *, now: datetime) -> dict[str, str]:
    """The headers with which the provider sends this body."""
    if source == "sendgrid":
        time = str(int(now.timestamp()))
        signature = _KEY.sign(time.encode() + content, ECDSA(SHA256()))
        proof = {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": time,
        }
    elif source == "brevo":
        proof = {"Authorization": f"Basic {base64.b64encode(SECRETS['brevo'].encode()).decode()}"}
    elif source == "segment":
        proof = {"X-Signature": hmac.new(SECRETS["segment"].encode(), content, hashlib.sha1).hexdigest()}
    else:
        proof = {"X-Crm-Signature": hmac.new(SECRETS["crm"].encode(), content, hashlib.sha256).hexdigest()}
    return {"content-type": "application/json", **proof}
