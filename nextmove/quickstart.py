"""From nothing to a service that answers and learns, in one command.

Every step can be done again over its own result, so a second run reuses what is there and a run
that was cut off is simply run again.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from decisioning.catalog import Catalog
from decisioning.errors import SetupError
from nextmove import steps
from nextmove.console import err, out, step
from nextmove.customer_commands import ingest_with_bar
from nextmove.own_data import make_starter
from nextmove.reports import print_evaluation, print_verdict
from nextmove.serve import Service, callers_must_say, check_address
from storage.keys import KeyStore
from storage.settings import Settings, prepare_home
from training.domains.files import Files
from training.evaluation_report import NOTHING_DRAWN
from training.evaluation_run import evaluate_run
from training.example_sources import examples_of
from training.first_model import promote_first_model
from training.promotion import promote
from training.training_run import train


def run(settings: Settings, *, host: str, port: int, check: bool) -> None:
    """Set up what is missing, serve, check the service, and go on serving unless `check`.

    Raises:
        SetupError: The port is taken, the state directory cannot be used, or another run is at it.
    """
    began = time.monotonic()
    check_address(settings, host, port)
    prepare_home(settings)
    with _alone(settings):
        catalog = _set_up(settings)
    with ExitStack() as running:
        with _own_key(settings) as headers:
            with step("serve") as progress:
                service = Service(settings, host=host, port=port)
                running.callback(service.stop)
                ready = service.wait_until_ready()
                progress.result = f"{service.url}, model version {ready['model']}"
            _check_service(service, settings, catalog, headers)
        err.print(f"ready after {time.monotonic() - began:.0f} s", style="green")
        out.print(f"\nruns, models and figures:  mlflow ui --backend-store-uri {settings.mlflow_uri} --port 5000")
        out.print(f"the API:                   {service.url}/v1/docs")
        if check:
            return
        err.print("serving until Ctrl-C")
        service.process.wait()
        raise SetupError(f"the service ended; its log is {service.log_path}")


def _set_up(settings: Settings) -> Catalog:
    now = datetime.now(UTC)
    steps.open_home(settings)
    domain = steps.domain_of(settings)
    if isinstance(domain, Files):  # only its data tell which features the catalogue's rules may name
        reused = _take_own_data(settings, domain, now)
        catalog = _release(settings, now)
    else:
        catalog = _release(settings, now)
        with step("ingest") as progress:
            ingested = steps.ingest_domain(settings, domain, now=now, progress=progress)
            progress.result = f"{ingested.customers:,} customers, {ingested.features} features"
        reused = ingested.reused
    champion = steps.champion_version(settings)
    if champion is not None and (reused or domain.log().empty):
        err.print(f"ok model version {champion} is champion already")
        return catalog
    if domain.log().empty:
        with step("first model") as progress:
            version = promote_first_model(settings, settings.domain, now=now)
            progress.result = f"version {version} knows nothing: there is no log of decisions to learn from"
        err.print("the catalogue's values rank until enough was decided; then: nextmove train")
        return catalog
    with step("train") as progress:
        examples = examples_of(domain, settings, catalog, now=now, progress=progress)
        trained = train(examples, settings, catalog=catalog, now=now, seed=1, progress=progress)
        progress.result = f"version {trained.version}, AUC {trained.metrics['auc']:.3f} on later decisions"
    report = None
    if examples["drawn"].any():
        with step("evaluate") as progress:
            report = evaluate_run(
                examples, settings, catalog=catalog, now=now, run_id=trained.run_id, progress=progress
            )
        print_evaluation(report)
    else:
        err.print(f"not evaluated: {NOTHING_DRAWN}", style="yellow")
    with step("promote") as progress:
        promotion = promote(
            examples, settings, catalog=catalog, now=now, run_id=trained.run_id, report=report, progress=progress
        )
        progress.result = f"version {promotion.version} is champion"
    print_verdict(promotion)
    return catalog


def _release(settings: Settings, now: datetime) -> Catalog:
    with step("catalogue") as progress:
        release = steps.release_catalog(settings, now=now, reason="nextmove quickstart").release
        progress.result = f"{len(release.everywhere.actions)} actions"
    return release.everywhere


def _take_own_data(settings: Settings, domain: Files, now: datetime) -> bool:
    """Customers, and a first catalogue where there is none; whether all of it was there before."""
    report = ingest_with_bar(settings, domain, now=now)
    starter = make_starter(steps.catalog_folder(settings), domain)
    if starter is not None:
        err.print(f"a first catalogue is in {starter}; it is yours to change", style="yellow")
    return starter is None and report.new + report.changed == 0


@contextmanager
def _own_key(settings: Settings) -> Iterator[dict[str, str]]:
    """Headers for the self-check: where callers need a key, of one that lasts as long as the check."""
    if not callers_must_say(settings):
        yield {}
        return
    with closing(KeyStore(settings)) as store:
        who = "nextmove quickstart"
        key, token = store.create(who, scopes=("decide",), now=datetime.now(UTC), actor=who)
        try:
            yield {"X-API-Key": token}
        finally:
            store.revoke(key.key_id, now=datetime.now(UTC), actor=who)


def _check_service(service: Service, settings: Settings, catalog: Catalog, headers: dict[str, str]) -> None:
    """One decision and one outcome over HTTP, printed with the commands that repeat them."""
    placement = steps.example_placement(catalog)
    [customer] = steps.example_customers(settings, 1)
    request = {"customer_id": customer, "placement": placement.id}
    decision = _post(service, "/v1/decisions", request, headers)
    out.print("\nOne decision", style="bold")
    out.print(_curl(service, "/v1/decisions", request, headers))
    out.print_json(data=decision)
    if not decision["actions"]:
        raise SetupError(f"the service has no action for {request}: {decision['reason']} {decision['reason_detail']}")
    outcome = {
        "decision_id": decision["decision_id"],
        "action_id": decision["actions"][0]["action_id"],
        "type": "sent" if placement.shown_by == "sent" else "impression",
    }
    answer = _post(service, "/v1/outcomes", outcome, headers)
    out.print("\nOne outcome", style="bold")
    out.print(_curl(service, "/v1/outcomes", outcome, headers))
    out.print_json(data=answer)


def _post(service: Service, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    response = httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=10.0)
    if not response.is_success:
        raise SetupError(f"the service answered {response.status_code} to {path}: {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


def _curl(service: Service, path: str, body: dict[str, Any], headers: dict[str, str]) -> str:
    """The command, with a place for the reader's own key where one is needed."""
    keys = "".join(f' -H "{name}: $API_KEY"' for name in headers)
    return f"curl -s {service.url}{path}{keys} -H 'content-type: application/json' -d '{json.dumps(body)}'"


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the state directory for this run; the system lets go of it however the run ends."""
    with (settings.home / "quickstart.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SetupError(f"another quickstart is setting up {settings.home}; wait for it, or end it") from error
        yield
