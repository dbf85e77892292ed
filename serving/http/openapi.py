"""The OpenAPI 3.1 document, made from the wire types themselves, and a page that shows it.

The page is plain HTML from this process: it works on machines without internet.
"""

import json
import re
from functools import cache
from html import escape
from typing import Any, NamedTuple

import msgspec

from decisioning.answer import DecisionAnswer, DecisionAnswers
from decisioning.replay import Replayed
from decisioning.request import AssignmentRequest, DecisionRequest, OutcomeReport
from serving.customer_view import CustomerView
from serving.customers import ConsentStatement, PreferencesStatement, Standing
from serving.http.assignment_routes import AssignmentsAnswer
from serving.http.customer_routes import FIELD, ONE_CLICK
from serving.http.ofrep import EvaluationRequest, Failure, Flag
from serving.http.problems import Problem, problem_codes
from serving.moments import Acknowledgement, DeliveredMoment, MomentState
from serving.pauses import PauseAnswer, PauseRequest
from serving.privacy import PrivacyAnswer

REQUEST_EXAMPLE: dict[str, Any] = {
    "customer_id": "c-00123",
    "placement": "home_hero",
    "limit": 3,
    "context": {"device": "mobile"},
}
OUTCOME_EXAMPLE: dict[str, Any] = {
    "outcome_id": "o-1",
    "decision_id": "01KANTX7M0D4Q3V3Z0V6S2D6QJ",
    "action_id": "sneaker_drop",
    "type": "accept",
    "value": 49.9,
    "occurred_at": "2026-11-21T18:00:09Z",
}
ANSWER_EXAMPLE: dict[str, Any] = {
    "decision_id": "01KANTX7M0D4Q3V3Z0V6S2D6QJ",
    "decided_at": "2026-11-21T18:00:00Z",
    "customer_id": "c-00123",
    "anonymous_id": None,
    "placement": "home_hero",
    "actions": [
        {
            "action_id": "sneaker_drop",
            "treatment_id": "sneaker_drop_web",
            "slot": 1,
            "priority": 2.31,
            "propensity": 0.1833,
            "value": 12.6,
            "context_weight": 1.0,
            "lever": 1.0,
            "probability": 0.62,
            "content": {"headline": "New this week"},
            "content_ref": None,
        }
    ],
    "experiments": [{"experiment": "hero_copy", "variant": "b", "reason": "SPLIT", "payload": {"tone": "bold"}}],
    "reason": "RANKED",
    "reason_detail": "",
    "exploration": {"policy": "squarecb", "version": "1"},
    "model": {"name": "simulated-propensity", "version": "7"},
    "catalog_version": "sha256:5d0e...",
    "features_as_of": "2026-11-21T17:59:58Z",
    "expires_at": "2026-11-21T18:30:00Z",
}
EXPLAINED_EXAMPLE: dict[str, Any] = ANSWER_EXAMPLE | {
    "dropped": [
        {"action_id": "loan", "step": "engagement_policy", "reason": "ELIGIBILITY", "detail": "customer.age >= 18"}
    ],
    "explanation": {
        "how": "squarecb (gamma 10.0) drew the order among 2 candidates",
        "shown": [
            {
                "action_id": "sneaker_drop",
                "slot": 1,
                "rank": 1,
                "formula": "0.1833 x 1.0 x 12.6 x 1.0 = 2.31",
                "terms": "propensity x context weight x value x lever",
                "probability": 0.62,
                "goes_on": False,
                "why": "drawn with probability 0.62",
            }
        ],
        "losers": [
            {
                "action_id": "winter_coat",
                "priority": 1.54,
                "over": "sneaker_drop",
                "needed": 2.31,
                "propensity": 0.165,
                "value": 21.0,
                "lever": 1.5,
                "chance": 0.21,
                "why": "level with sneaker_drop in slot 1 at priority 2.31:"
                " propensity 0.165 instead of 0.11, value 21.0 instead of 14.0 or lever 1.5 instead of 1.0",
            }
        ],
    },
}
ASSIGNMENTS_EXAMPLE: dict[str, Any] = {
    "customer_id": "c-00123",
    "anonymous_id": None,
    "experiments": [{"experiment": "hero_copy", "variant": "b", "reason": "SPLIT", "payload": {"tone": "bold"}}],
    "catalog_version": "sha256:5d0e...",
}
FLAG_EXAMPLE: dict[str, Any] = {
    "key": "hero_copy",
    "reason": "SPLIT",
    "variant": "b",
    "metadata": {"version": 1},
    "value": {"tone": "bold"},
}
MOMENT_EXAMPLE: dict[str, Any] = {
    "moment_id": "384544ed65690a34c17f51b7803f6fe9",
    "moment": "cart_abandoned",
    "customer_id": "c-00123",
    "anonymous_id": None,
    "market": None,
    "due_at": "2026-11-21T18:00:00Z",
    "expires_at": "2026-11-22T18:00:00Z",
    "event": {
        "name": "cart_added",
        "occurred_at": "2026-11-21T17:00:00Z",
        "properties": {"product_id": "sneaker", "value": 49.9},
    },
    "decision": ANSWER_EXAMPLE | {"placement": "newsletter", "unsubscribe": "/v1/unsubscribe/1.WyJz..."},
}
STANDING_EXAMPLE: dict[str, Any] = {
    "customer_id": "c-00123",
    "consents": [{"purpose": "marketing", "channel": "email"}],
    "withdrawn": [],
    "suppressed": [],
    "preferences": {
        "topics": {"include": None, "exclude": ["services"]},
        "frequency": {"limit": 2, "within": "P7D"},
    },
}
PRIVACY_EXAMPLE: dict[str, Any] = {
    "request_id": "01KANTX7M0D4Q3V3Z0V6S2D6QJ",
    "kind": "erasure",
    "status": "pending",
    "requested_at": "2026-11-21T18:00:00Z",
    "completed_at": None,
    "counts": {"decisions": 12, "events": 40},
    "problem": None,
}
VIEW_EXAMPLE: dict[str, Any] = {
    "customer_id": "c-00123",
    "ids": ["c-00123", "anonymous:v-7"],
    "features": {"age": 41.0},
    "features_as_of": "2026-11-21T00:00:00Z",
    "account_id": None,
    "consents": [
        {
            "customer_id": "c-00123",
            "purpose": "marketing",
            "channel": "email",
            "granted": True,
            "at": "2026-11-01T09:00:00Z",
            "source": "sign-up",
            "legal_basis": "consent",
        }
    ],
    "preferences": None,
    "suppressed": [],
    "contacts": [],
    "purchases": [{"product": "sneakers", "at": "2026-11-20T12:00:00Z"}],
    "stages": [],
    "events": [],
    "decisions": [],
}
PROBLEM_EXAMPLE: dict[str, Any] = {
    "type": "urn:nextmove:problem:unknown_placement",
    "title": "Unknown placement",
    "status": 422,
    "code": "unknown_placement",
    "detail": "placement is 'hero', must be one of home_hero, newsletter",
    "where": "placement",
}


class _Route(NamedTuple):
    method: str
    path: str
    summary: str
    status: int
    answer: Any
    answer_example: Any
    body: Any = None
    body_example: Any = None
    problems: tuple[int, ...] = ()
    failures: tuple[tuple[int, str], ...] = ()  # statuses and codes of a protocol with errors of its own
    query: tuple[tuple[str, str], ...] = ()  # optional parameters, each with what it is
    body_required: bool = True
    body_type: str = "application/json"
    media_type: str = "application/json"
    scopes: tuple[str, ...] = ()  # of which a caller needs one; none where everyone may call


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": 1000}


# As long as there are no keys, callers on the service's own machine need none.
_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "From `nextmove keys create`."},
    "Bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a token of the issuer that is set."},
    "Basic": {"type": "http", "scheme": "basic", "description": "A key as user, without a password."},
}
_OBJECT = {"type": "object"}
_OUTCOME_ANSWER = {
    "type": "object",
    "properties": {
        "status": {"enum": ["accepted", "duplicate", "rejected"]},
        "outcome_id": {"type": "string"},
        "problem": _reference("Problem"),
    },
}
_TEXT = {"type": "string"}
_NESTED = ("properties", "traits", "context")
_COMMON = ("userId", "anonymousId", "messageId", "timestamp", "sentAt", "context")
_TRACKED = {"event": "Order Completed", "properties": {"revenue": 49.9, "products": [{"product_id": "sneaker"}]}}
_EVENT_CALLS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    ("track", "What a customer did.", (*_COMMON, "event", "properties"), _TRACKED),
    ("identify", "Who a customer is.", (*_COMMON, "traits"), {"traits": {"city": "Ulm"}}),
    ("page", "A page that a customer saw.", (*_COMMON, "name", "properties"), {"name": "Home"}),
    ("screen", "A screen that a customer saw.", (*_COMMON, "name", "properties"), {"name": "Home"}),
    ("group", "The account of a customer.", (*_COMMON, "groupId", "traits"), {"groupId": "acme"}),
    ("alias", "What a customer was called before.", (*_COMMON, "previousId"), {"previousId": "visitor-7"}),
)
_EVENTS_ANSWER = {
    "type": "object",
    "properties": {
        "success": {"type": "boolean"},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "status": {"enum": ["accepted", "duplicate", "ignored", "rejected"]},
                    "message_id": _TEXT,
                    "problem": _reference("Problem"),
                },
            },
        },
    },
}
_HOOK_ANSWER = {
    "type": "object",
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "status": {"enum": ["accepted", "duplicate", "ignored", "rejected", "unjoined"]},
                    "outcome_id": _TEXT,
                    "problem": _reference("Problem"),
                },
            },
        },
        "unjoined": {"type": "integer"},
    },
}
_HOOK_ITEM = {
    "event": "open",
    "sg_event_id": "b3BlbmVk",
    "sg_machine_open": True,
    "timestamp": 1774094400,
    "decision_id": "01KANTX7M0D4Q3V3Z0V6S2D6QJ",
}
_EVALUATION = {"context": {"targetingKey": "c-00123", "device": "mobile"}}
_ROUTES = (
    _Route(
        "post",
        "/v1/decisions",
        "Ranked next best actions and A/B assignments for one customer and placement, or several `placements`."
        " With `explain`, also every dropped action, and an `explanation` of those shown and of the three best losers.",
        200,
        {"oneOf": [_reference("DecisionAnswer"), _reference("DecisionAnswers")]},
        EXPLAINED_EXAMPLE,
        _reference("DecisionRequest"),
        REQUEST_EXAMPLE | {"explain": True},
        (400, 409, 413, 415, 422, 503),
        scopes=("decide",),
    ),
    _Route(
        "post",
        "/v1/decisions/batch",
        "Up to 1,000 requests, answered in order, each with its own decision or problem.",
        200,
        {"type": "object", "properties": {"results": _array(_OBJECT)}},
        {"results": [{"decision": ANSWER_EXAMPLE}, {"problem": PROBLEM_EXAMPLE}]},
        {"type": "object", "properties": {"requests": _array(_reference("DecisionRequest"))}, "required": ["requests"]},
        {"requests": [REQUEST_EXAMPLE]},
        (400, 413, 415, 503),
        scopes=("decide",),
    ),
    _Route(
        "post",
        "/v1/assignments",
        "The variants alone that a decision would have for a customer or visitor: in one placement or in all, of the"
        " `experiments` that are named or of all. Nothing is ranked or kept: report an `Experiment Viewed` once the"
        " customer meets the variant.",
        200,
        _reference("AssignmentsAnswer"),
        ASSIGNMENTS_EXAMPLE,
        _reference("AssignmentRequest"),
        {"customer_id": "c-00123", "placement": "home_hero", "context": {"device": "mobile"}},
        (400, 413, 415, 422, 503),
        scopes=("decide",),
    ),
    _Route(
        "post",
        "/ofrep/v1/evaluate/flags/{key}",
        "An experiment as a flag of OpenFeature's remote evaluation protocol (OFREP 0.3.0): `value` is the payload of"
        " the variant, and absent for who takes no part. `targetingKey` is a customer's id, or `anonymous:` and a"
        " visitor's; `market` is the market.",
        200,
        _reference("Flag"),
        FLAG_EXAMPLE,
        _reference("EvaluationRequest"),
        _EVALUATION,
        failures=(
            (400, "PARSE_ERROR, TARGETING_KEY_MISSING, INVALID_CONTEXT"),
            (404, "FLAG_NOT_FOUND"),
            (500, "without a code"),
        ),
        scopes=("decide",),
    ),
    _Route(
        "post",
        "/ofrep/v1/evaluate/flags",
        "All experiments but drafts as flags. With `If-None-Match` and the `ETag` of an earlier answer, 304 where the"
        " answer is the same.",
        200,
        {"type": "object", "properties": {"flags": {"type": "array", "items": _reference("Flag")}}},
        {"flags": [FLAG_EXAMPLE]},
        _reference("EvaluationRequest"),
        _EVALUATION,
        failures=((400, "PARSE_ERROR, TARGETING_KEY_MISSING, INVALID_CONTEXT"), (500, "without a code")),
        scopes=("decide",),
    ),
    _Route(
        "get",
        "/v1/decisions/{decision_id}",
        "A decision's answer and its full record, with every dropped action and why.",
        200,
        {"type": "object", "properties": {"answer": _reference("DecisionAnswer"), "record": _OBJECT}},
        {"answer": ANSWER_EXAMPLE, "record": {}},
        problems=(404, 503),
        scopes=("admin", "marketing"),
    ),
    _Route(
        "post",
        "/v1/decisions/{decision_id}/replay",
        "Computes a decision again from its record, and says whether it is the same to the last bit.",
        200,
        _reference("Replayed"),
        {"decision_id": "01KANTX7M0D4Q3V3Z0V6S2D6QJ", "identical": True, "differences": [], "changed_meanwhile": False},
        problems=(404, 503),
        scopes=("admin",),
    ),
    _Route(
        "post",
        "/v1/outcomes",
        "What the customer did: one outcome, or a list of up to 1,000. Under the scope agent, accept and reject alone.",
        202,
        {"oneOf": [_OUTCOME_ANSWER, {"type": "object", "properties": {"results": _array(_OUTCOME_ANSWER)}}]},
        {"status": "accepted", "outcome_id": "o-1"},
        {"oneOf": [_reference("OutcomeReport"), _array(_reference("OutcomeReport"))]},
        OUTCOME_EXAMPLE,
        (400, 409, 413, 415, 422, 503),
        scopes=("decide", "ingest", "agent"),
    ),
    *(
        _Route(
            "post",
            f"/v1/{kind}",
            f"{summary} As in the Segment specification; answered with 200 and what became of it.",
            200,
            _EVENTS_ANSWER,
            {"success": True, "results": [{"status": "accepted", "message_id": "m-1"}]},
            {"type": "object", "properties": {name: _OBJECT if name in _NESTED else _TEXT for name in fields}},
            {"userId": "c-00123", "messageId": "m-1", **example},
            (400, 415, 503),
            scopes=("ingest",),
        )
        for kind, summary, fields, example in _EVENT_CALLS
    ),
    _Route(
        "post",
        "/v1/batch",
        "Up to 2,500 events of any type, 32 KiB each and 500 KiB together. The good ones are kept, each bad one is"
        " named in its result.",
        200,
        _EVENTS_ANSWER,
        {"success": True, "results": [{"status": "accepted", "message_id": "m-1"}]},
        {"type": "object", "properties": {"batch": _array(_OBJECT), "sentAt": _TEXT}, "required": ["batch"]},
        {"batch": [{"type": "track", "userId": "c-00123", "messageId": "m-1", **_TRACKED}]},
        (400, 415, 503),
        scopes=("ingest",),
    ),
    _Route(
        "put",
        "/v1/customers/{customer_id}/consent",
        "What a customer consents to, or no longer: one statement or a list of up to 100, kept all or none. Without a"
        " `channel`, every channel is meant. True at the next decision; the answer says what holds then.",
        200,
        _reference("Standing"),
        STANDING_EXAMPLE,
        {"oneOf": [_reference("ConsentStatement"), _array(_reference("ConsentStatement"))]},
        {"purpose": "marketing", "channel": "email", "granted": True, "source": "sign-up", "legal_basis": "consent"},
        (400, 413, 415, 503),
        scopes=("agent", "ingest"),
    ),
    _Route(
        "put",
        "/v1/customers/{customer_id}/preferences",
        "What a customer wishes to hear of (`topics` are groups of the catalogue; `include: null` is all of them) and"
        " how often messages may be sent. Replaces what was said before.",
        200,
        _reference("Standing"),
        STANDING_EXAMPLE,
        _reference("PreferencesStatement"),
        STANDING_EXAMPLE["preferences"],
        (400, 413, 415, 503),
        scopes=("agent", "ingest"),
    ),
    _Route(
        "get",
        "/v1/customers/{customer_id}",
        "One view of a customer: ids, stored features, consents with their source, wishes, contacts, purchases, stages,"
        " the newest 20 events and decisions with their outcomes. A key of a market sees what was decided there.",
        200,
        _reference("CustomerView"),
        VIEW_EXAMPLE,
        problems=(400, 404, 503),
        scopes=("admin", "agent"),
    ),
    _Route(
        "get",
        "/v1/customers/{customer_id}/export",
        "Everything that is held on the person, by all their ids, from every store, with where, what for and how long.",
        200,
        _OBJECT,
        {"exported_at": "2026-11-21T18:00:00Z", "domain": "simulated", "ids": ["c-00123"], "parts": []},
        problems=(400, 404, 503),
        scopes=("admin",),
    ),
    _Route(
        "delete",
        "/v1/customers/{customer_id}",
        "Erases the person, by all their ids. From the next call on nothing is known or kept of them; what is stored"
        " is deleted in the background, and the request says when that is done.",
        202,
        _reference("PrivacyAnswer"),
        PRIVACY_EXAMPLE,
        problems=(400, 503),
        scopes=("admin",),
    ),
    _Route(
        "get",
        "/v1/privacy/requests/{request_id}",
        "How far a request for erasure is, and how much was deleted where. It names nobody.",
        200,
        _reference("PrivacyAnswer"),
        PRIVACY_EXAMPLE,
        problems=(404, 503),
        scopes=("admin",),
    ),
    _Route(
        "get",
        "/v1/unsubscribe/{token}",
        "A page with a button, for whoever follows the link of a message. Changes nothing. No key is needed.",
        200,
        _TEXT,
        "",
        problems=(404,),
        media_type="text/html",
    ),
    _Route(
        "post",
        "/v1/unsubscribe/{token}",
        "One-click unsubscribe (RFC 8058): no more messages to this customer by this channel, from the next decision"
        " on. The link is signed, so no key is needed; the answer to a push placement carries it as `unsubscribe`.",
        200,
        _TEXT,
        "",
        {"type": "object", "properties": {FIELD: {"const": ONE_CLICK}}, "required": [FIELD]},
        {FIELD: ONE_CLICK},
        (400, 404, 413, 503),
        body_type="application/x-www-form-urlencoded",
        media_type="text/html",
    ),
    _Route(
        "post",
        "/v1/hooks/{source}",
        "What an e-mail or other provider reports, in its own words: one event, or a list of up to 5,000 in 1 MiB. Let"
        " in by the provider's signature, not by a key; answered with 200 and what became of each, once all is kept.",
        200,
        _HOOK_ANSWER,
        {"results": [{"status": "accepted", "outcome_id": "sendgrid/b3BlbmVk"}], "unjoined": 0},
        {"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]},
        [_HOOK_ITEM],
        (400, 401, 404, 413, 415, 503),
    ),
    _Route(
        "get",
        "/v1/moments",
        "Decisions that events asked for, for a channel to deliver, those due for the longest first. What is handed out"
        " is not handed out again for 5 minutes, then again until it is acknowledged or its `expires_at` has passed.",
        200,
        {"type": "object", "properties": {"moments": {"type": "array", "items": _reference("DeliveredMoment")}}},
        {"moments": [MOMENT_EXAMPLE]},
        problems=(400, 503),
        query=(
            ("channel", "Only this channel's."),
            ("limit", "How many at most, 1 to 1000; 100 when absent."),
            ("market", "Only this market's."),
        ),
        scopes=("ingest",),
    ),
    _Route(
        "post",
        "/v1/moments/{moment_id}/ack",
        "The channel has it: it is not handed out again. Again changes nothing. With `status`, what became of the"
        " message, as the outcome `sent` or `not_sent` would say it.",
        200,
        _reference("MomentState"),
        {"moment_id": MOMENT_EXAMPLE["moment_id"], "state": "delivered", "reason": None},
        _reference("Acknowledgement"),
        {"status": "sent"},
        (400, 404, 409, 413, 415, 503),
        body_required=False,
        scopes=("ingest",),
    ),
    _Route(
        "get",
        "/v1/catalog",
        "The catalogue that is served now, in one market, and what is paused (null where that cannot be read).",
        200,
        _OBJECT,
        {"version": "sha256:5d0e...", "market": "de", "markets": ["ch", "de", "global"], "paused": ["ch/sneaker_drop"]},
        problems=(400,),
        query=(("market", "Whose catalogue; the blueprint's (`global`) when absent."),),
        scopes=("decide", "marketing"),
    ),
    _Route(
        "get",
        "/v1/catalog/schema.json",
        "The JSON Schema of a catalogue file, for editors.",
        200,
        _OBJECT,
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    ),
    *(
        _Route(
            "post",
            f"/v1/actions/{{action_id}}/{what}",
            summary,
            200,
            _reference("PauseAnswer"),
            {
                "action_id": "sneaker_drop",
                "market": None,
                "markets": ["ch", "de", "global"],
                "status": f"{what}d",
                "at": "2026-11-21T18:00:00Z",
                "reason": "wrong price",
            },
            _reference("PauseRequest"),
            {"reason": "wrong price"},
            problems,
            body_required=False,
            scopes=("marketing",),
        )
        for what, problems, summary in (
            (
                "pause",
                (400, 404, 413, 415, 503),
                "Stops an action from the next decision on, on every replica, in one market or in all of them."
                " The market `global` is the blueprint: requests that name no market. It is kept who did it and why.",
            ),
            (
                "resume",
                (400, 404, 409, 413, 415, 503),
                "Lets a paused action go on. Without a market, every pause of it ends, also those of single markets."
                " In one market it cannot go on while it is paused in all.",
            ),
        )
    ),
    _Route("get", "/livez", "Whether the process lives.", 200, {"type": "string"}, ""),
    _Route(
        "get",
        "/readyz",
        "Whether model, catalogue and stores are loaded, and which.",
        200,
        _OBJECT,
        {"status": "ready", "model": "7"},
        problems=(503,),
    ),
    _Route("get", "/metrics", "Metrics for Prometheus.", 200, {"type": "string"}, ""),
)


@cache
def openapi_document() -> dict[str, Any]:
    """The whole document."""
    _, schemas = msgspec.json.schema_components(
        (
            *(DecisionRequest, DecisionAnswer, DecisionAnswers, OutcomeReport, PauseRequest, PauseAnswer, Problem),
            *(AssignmentRequest, AssignmentsAnswer, EvaluationRequest, Flag, Failure),
            *(Replayed, ConsentStatement, PreferencesStatement, Standing),
            *(DeliveredMoment, Acknowledgement, MomentState),
            *(CustomerView, PrivacyAnswer),
        ),
        ref_template="#/components/schemas/{name}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in _ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nextmove", "version": "1", "description": "Next-best-action decisions and their outcomes."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }


def _operation(route: _Route) -> dict[str, Any]:
    def content(schema: Any, example: Any, media_type: str = "application/json") -> dict[str, Any]:
        return {media_type: {"schema": schema, "example": example}}

    problems = sorted({*route.problems, *((401, 403) if route.scopes else ())})
    codes = {status: problem_codes(status) for status in problems}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "responses": {
            str(route.status): {
                "description": "The answer.",
                "content": content(route.answer, route.answer_example, route.media_type),
            },
            **{
                str(status): {
                    "description": f"A problem: {', '.join(names)}.",
                    "content": content(_reference("Problem"), PROBLEM_EXAMPLE, "application/problem+json"),
                }
                for status, names in codes.items()
            },
            **{
                str(status): {
                    "description": f"A failure: {names}.",
                    "content": content(_reference("Failure"), {"errorDetails": "context.targetingKey is missing"}),
                }
                for status, names in route.failures
            },
        },
    }
    if route.scopes:
        operation["security"] = [{scheme: [scope]} for scope in route.scopes for scheme in _SCHEMES]
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": content(route.body, route.body_example, route.body_type),
        }
    schema = {"type": "string", "maxLength": 256}
    named = re.findall(r"{(\w+)}", route.path)
    parameters: list[dict[str, Any]] = [
        *({"name": name, "in": "path", "required": True, "schema": schema} for name in named),
        *(
            {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
            for name, description in route.query
        ),
    ]
    if parameters:
        operation["parameters"] = parameters
    return operation


def docs_page(document: dict[str, Any]) -> str:
    """The document as a page: every route with its examples, then every schema."""
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            parts.append(
                f"<section><h2><b>{method.upper()}</b> {escape(path)}</h2><p>{escape(operation['summary'])}</p>"
            )
            scopes = dict.fromkeys(scope for each in operation.get("security", ()) for [scope] in each.values())
            if scopes:
                parts.append(f"<p class=text>Scope: {' or '.join(scopes)}</p>")
            if body is not None:
                sent = "" if method == "post" else f"-X {method.upper()} "
                command = (
                    f"curl -s {sent}localhost:3000{path} -H 'content-type: application/json' -d '{json.dumps(body)}'"
                )
                parts.append(f"<h3>Request</h3><pre>{escape(command)}</pre>")
            for status, response in operation["responses"].items():
                [media] = response["content"].values()
                if status.startswith("2") and media["example"]:
                    example = escape(json.dumps(media["example"], indent=2))
                    parts.append(f"<h3>Answer {status}</h3><pre>{example}</pre>")
                elif not status.startswith("2"):
                    parts.append(f"<p class=problem><b>{status}</b> {escape(response['description'])}</p>")
            parts.append("</section>")
    parts.append("<section><h2>Schemas</h2>")
    for name, schema in document["components"]["schemas"].items():
        rows = "".join(
            f"<tr><td><code>{escape(field)}</code></td><td>{escape(_type_of(spec))}</td></tr>"
            for field, spec in schema.get("properties", {}).items()
        )
        parts.append(
            f"<h3>{escape(name)}</h3><p class=text>{escape(schema.get('description', ''))}</p><table>{rows}</table>"
        )
    parts.append("</section>")
    return _PAGE.replace("{{content}}", "\n".join(parts))


def _type_of(spec: dict[str, Any]) -> str:
    if "$ref" in spec:
        return str(spec["$ref"].rpartition("/")[2])
    if "anyOf" in spec:
        return " | ".join(_type_of(option) for option in spec["anyOf"])
    if "enum" in spec:
        return " | ".join(json.dumps(option) for option in spec["enum"])
    if spec.get("type") == "array":
        return f"list of {_type_of(spec.get('items', {})) if isinstance(spec.get('items'), dict) else 'values'}"
    return str(spec.get("type", "any"))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Nextmove API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1d2530; }
h1 { margin-bottom: 0 } section { border-top: 1px solid #d8dee6; margin-top: 1.5rem }
h2 { font: 600 1.1rem ui-monospace, monospace } h2 b { color: #0b62c4 } h3 { margin: .8rem 0 .2rem; font-size: .95rem }
pre { background: #f4f6f9; padding: .8rem; border-radius: .4rem; font-size: .85rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
.problem { margin: .1rem 0; color: #7a4a00; font-size: .9rem } .text { white-space: pre-line; color: #4a5564 }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; font-size: .9rem }
@media (prefers-color-scheme: dark) {
  body { background: #12161c; color: #dfe5ec }
  pre { background: #1b222b } section { border-color: #2c3540 }
  .problem { color: #e0b060 } .text { color: #a9b4c0 } h2 b { color: #6db1ff }
}
</style></head><body>
<h1>Nextmove API</h1>
<p>The machine-readable form is <a href="/v1/openapi.json">/v1/openapi.json</a>.</p>
{{content}}
</body></html>
"""
