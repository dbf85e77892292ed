"""The way back: the champion before this one is served again."""

from datetime import datetime

import msgspec

from decisioning.errors import SetupError, StoreError
from storage.blobs import BlobStore, Pointing
from storage.bundles import bundle_pointer, load_bundle
from storage.promotion_lease import moving_pointer
from storage.settings import Settings
from training.graph_scorer import verified_scorer
from training.tracking import CHAMPION, ROLLED_BACK_TAG, Tracking

ROLLBACK = "rollback: "  # begins the pointer's reason, so that history can tell the two apart
MOST_REASON = 1000


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """Which version is served again, and which one no longer."""

    domain: str
    version: str
    bundle_sha256: str
    left_version: str | None
    left_sha256: str


def rollback(settings: Settings, domain: str, *, now: datetime, reason: str) -> Rollback:
    """Serve the champion before this one again; a second time, the one before that.

    The pointer moves first: in an incident, what customers get matters more than MLflow's alias.
    The version that was left is marked, and the gate refuses it from then on.

    Raises:
        SetupError: There is no earlier champion, or another promotion is running.
        BundleError: The earlier bundle is damaged; nothing was moved.
        StoreError: The pointer moved, but MLflow could not be told.
    """
    with moving_pointer(settings, domain):
        blobs = BlobStore(settings)
        try:
            stack = _champions(blobs.history(bundle_pointer(domain)))
            if len(stack) < 2:
                raise SetupError(
                    f"domain '{domain}' has no earlier champion to go back to;"
                    + (" only one was ever promoted" if stack else " none was ever promoted: nextmove promote")
                )
            left, back = stack[-1], stack[-2]
            bundle = load_bundle(blobs, back)
            verified_scorer(bundle)
            blobs.point(bundle_pointer(domain), back, now=now, reason=(ROLLBACK + reason)[:MOST_REASON])
        finally:
            blobs.close()
        try:
            tracking = Tracking(settings)
            restored = tracking.version_by_bundle(domain, back)
            if restored is not None:
                tracking.point_alias(domain, CHAMPION, restored.version)
            gone = tracking.version_by_bundle(domain, left)
            if gone is not None:
                tracking.tag_version(
                    domain, gone.version, {ROLLED_BACK_TAG: f"{now.isoformat()} {reason}"[:MOST_REASON]}
                )
        except Exception as error:  # MLflow's, or its database's
            raise StoreError(
                f"version {bundle.manifest.version} is served again, but MLflow's aliases could not be moved: {error}"
            ) from error
    return Rollback(
        domain=domain,
        version=bundle.manifest.version,
        bundle_sha256=back,
        left_version=gone.version if gone else None,
        left_sha256=left,
    )


def _champions(history: list[Pointing]) -> list[str]:
    """Champions that stand, oldest first: a promotion adds one, a rollback takes the last away."""
    stack: list[str] = []
    for entry in history:
        if entry.reason.startswith(ROLLBACK) and len(stack) > 1 and stack[-2] == entry.sha256:
            stack.pop()
        elif not stack or stack[-1] != entry.sha256:
            stack.append(entry.sha256)
    return stack
