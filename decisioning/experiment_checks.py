"""What is wrong with experiments, holdouts and metrics; and what must not change while an experiment runs."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import combinations

from msgspec.structs import replace

from decisioning.catalog_findings import Findings
from decisioning.content import Content
from decisioning.content_types import BUCKETS
from decisioning.experiment_content import UNSUBSCRIBES, Experiment, Metric, Variant, variant_ends
from decisioning.exploration import BootstrapThompson

LONGEST = timedelta(days=365)


def experiment_mistakes(f: Findings) -> None:
    """Add what is wrong."""
    content = f.content
    _salts(f)
    for holdout in content.holdouts:
        for group in holdout.groups:
            f.refer(f"holdouts[{holdout.id}].groups", group, content.groups)
    for metric in content.metrics:
        _metric(f, metric)
    for experiment in content.experiments:
        _experiment(f, experiment)
    for one, other in combinations([each for each in content.experiments if each.status == "running"], 2):
        _pair(f, one, other)


def moved(old: Content, new: Content, *, now: datetime) -> list[str]:
    """What a release would change of experiments that have begun: it would move their units, and is refused.

    A new version of the experiment may differ in anything, since it begins anew.
    """
    before = {each.id: each for each in old.experiments if _has_begun(each, now)}
    salts = [{each.id: each.salted for each in content.layers} for content in (old, new)]
    found = []
    for experiment in new.experiments:
        was = before.get(experiment.id)
        if was is None or experiment.status != "running" or experiment.version > was.version:
            continue
        layers = salts[0].get(was.layer or ""), salts[1].get(experiment.layer or "")
        found += [
            f"experiments[{experiment.id}].{what}: {said} after it began: units would move, or be measured under two"
            f" treatments; raise `version` to {was.version + 1}, with which it begins anew"
            for what, said in _moves(was, experiment, layers)
        ]
    return found


def _has_begun(experiment: Experiment, now: datetime) -> bool:
    return experiment.status != "draft" and (experiment.starts is None or experiment.starts <= now)


def _moves(was: Experiment, now: Experiment, layers: tuple[str | None, str | None]) -> Iterator[tuple[str, str]]:
    """What differs, and how; `layers` are the salts of its layer."""
    if now.version < was.version:
        yield "version", f"falls from {was.version} to {now.version}"
        return
    if _parts(was) != _parts(now):
        yield "variants", "ids, order or weights change"
    for variant, other in zip(was.variants, now.variants, strict=False):
        if variant.id == other.id and variant != replace(other, weight=variant.weight):
            yield f"variants[{variant.id}]", "what it does changes"
    if was.salted != now.salted:
        yield "salt", f"changes from '{was.salted}' to '{now.salted}'"
    if was.unit != now.unit:
        yield "unit", f"changes from {was.unit} to {now.unit}"
    if layers[0] != layers[1]:
        yield "layer", f"changes from {_called(was, layers[0])} to {_called(now, layers[1])}"
    if was.slice[0] < now.slice[0] or was.slice[1] > now.slice[1]:
        yield "slice", f"becomes narrower, from {list(was.slice)} to {list(now.slice)},"
    if now.traffic < was.traffic:
        yield "traffic", f"falls from {was.traffic:g} to {now.traffic:g}"
    if was.eligibility != now.eligibility:
        yield "eligibility", "changes"


def _parts(experiment: Experiment) -> list[tuple[str, int]]:
    """Its variants, each with the bucket at which it ends: weights in the same proportion move nobody."""
    return list(zip((variant.id for variant in experiment.variants), variant_ends(experiment), strict=True))


def _called(experiment: Experiment, salt: str | None) -> str:
    return "none" if salt is None else f"'{experiment.layer}' (salt '{salt}')"


def _salts(f: Findings) -> None:
    """What is hashed with the same salt falls together."""
    content = f.content
    salts = [("holdout", content.holdout.salt)]
    salts += [(f"experiments[{each.id}]", each.salted) for each in content.experiments]
    salts += [(f"layers[{each.id}]", each.salted) for each in content.layers]
    salts += [(f"holdouts[{each.id}]", each.salted) for each in content.holdouts]
    taken = {f"{each.salted}:traffic": f"experiments[{each.id}]" for each in content.experiments}
    for path, salt in salts:
        first = taken.setdefault(salt, path)
        if first != path:
            f.add(f"{path}.salt", f"'{salt}' is that of {first} too: who is in one would hang on the other")


def _metric(f: Findings, metric: Metric) -> None:
    path = f"metrics[{metric.id}]"
    if (metric.per is not None) != (metric.measure == "ratio"):
        f.add(f"{path}.per", "belongs to `measure: ratio`, which needs it; what the ratio is divided by")
    if metric.cap is not None and metric.measure not in ("sum", "count"):
        f.add(f"{path}.cap", f"is not for `measure: {metric.measure}`; take it out")
    if metric.within is not None:
        f.longer_than_nothing(f"{path}.within", metric.within, at_most=LONGEST)


def _experiment(f: Findings, experiment: Experiment) -> None:
    path = f"experiments[{experiment.id}]"
    ids = [variant.id for variant in experiment.variants]
    f.unique(f"{path}.variants", ids)
    ends = (0, *variant_ends(experiment))
    for variant, begin, end in zip(experiment.variants, ends[:-1], ends[1:], strict=True):
        if begin == end:
            f.add(f"{path}.variants[{variant.id}].weight", f"is less than 1 in {BUCKETS:,} of all")
        _variant(f, f"{path}.variants[{variant.id}]", experiment, variant)
    for placement_id in experiment.placements:
        f.refer(f"{path}.placements", placement_id, f.ids["placements"])
    if experiment.layer is not None:
        f.refer(f"{path}.layer", experiment.layer, f.ids["layers"])
    elif experiment.slice != (0.0, 1.0):
        f.add(f"{path}.slice", "is a part of a layer's units, and there is no layer; name it, or use traffic")
    if experiment.slice[0] >= experiment.slice[1]:
        f.add(f"{path}.slice", f"is {list(experiment.slice)}, must be two shares, the first below the second")
    for unit, variant_id in experiment.testers.items():
        f.refer(f"{path}.testers[{unit}]", variant_id, ids)
    metrics = (*f.ids["metrics"], UNSUBSCRIBES)
    for where, names in (
        ("metric", [experiment.metric] if experiment.metric else []),
        ("guardrails", experiment.guardrails),
    ):
        for name in names:
            f.refer(f"{path}.{where}", name, metrics)
    f.zoned(f"{path}.starts", experiment.starts)
    if experiment.length is not None:
        f.longer_than_nothing(f"{path}.length", experiment.length, at_most=LONGEST)
    _factors(f, path, experiment)


def _variant(f: Findings, path: str, experiment: Experiment, variant: Variant) -> None:
    content = f.content
    actions = {action.id: action for action in content.actions}
    places = [each for each in content.placements if each.id in (experiment.placements or f.ids["placements"])]
    if isinstance(variant.exploration, BootstrapThompson) and not all(place.is_push for place in places):
        f.add(f"{path}.exploration", "is bootstrap_thompson, whose ensemble takes too long while somebody waits")
    for action_id in variant.levers:
        f.refer(f"{path}.levers", action_id, actions)
    for action_id, treatment_id in variant.treatments.items():
        f.refer(f"{path}.treatments", action_id, actions)
        if action_id not in actions:
            continue
        shown = [
            each.id
            for each in actions[action_id].treatments
            if any(place.id in (each.placements or (place.id,)) and place.channel == each.channel for place in places)
        ]
        f.refer(f"{path}.treatments[{action_id}]", treatment_id, shown)
    policies = {policy.id: policy for policy in content.contact_policies}
    for policy_id in variant.limits:
        f.refer(f"{path}.limits", policy_id, policies)
        if policy_id in policies and policies[policy_id].of == "account" and experiment.unit != "account":
            f.add(f"{path}.limits[{policy_id}]", "counts an account's contacts; the experiment's unit must be account")


def _factors(f: Findings, path: str, experiment: Experiment) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for variant in experiment.variants:
        where = f"{path}.variants[{variant.id}].levels"
        for factor in sorted(variant.levels.keys() ^ experiment.factors.keys()):
            f.add(where, f"and the experiment's factors must name the same; '{factor}' is in one of them only")
        for factor, level in variant.levels.items():
            if factor in experiment.factors:
                f.refer(f"{where}[{factor}]", level, experiment.factors[factor])
        if experiment.factors:
            levels = tuple(variant.levels.get(factor, "") for factor in experiment.factors)
            first = seen.setdefault(levels, variant.id)
            if first != variant.id:
                f.add(where, f"are those of {first} too; each combination is one variant")
    control = experiment.variants[0]
    for factor, levels in experiment.factors.items():
        if control.levels.get(factor, levels[0]) != levels[0]:
            f.add(
                f"{path}.factors[{factor}]",
                f"begins with '{levels[0]}', and the control, {control.id}, has '{control.levels[factor]}'; the first"
                " level must be the control's",
            )
        f.unique(f"{path}.factors[{factor}]", levels)


def _pair(f: Findings, one: Experiment, other: Experiment) -> None:
    """Two that run: they must not overlap in their layer, nor change the same thing of one decision."""
    if one.layer is not None and one.layer == other.layer:
        if one.unit != other.unit:
            f.add(
                f"experiments[{other.id}].unit",
                f"is {other.unit}, and that of experiments[{one.id}] in the same layer is {one.unit}: a decision would"
                " meet both; they must be the same",
            )
        if one.slice[0] < other.slice[1] and other.slice[0] < one.slice[1]:
            f.add(
                f"experiments[{other.id}].slice",
                f"is {list(other.slice)}, which overlaps {list(one.slice)} of experiments[{one.id}] in the same layer",
            )
        return
    if one.placements and other.placements and not set(one.placements) & set(other.placements):
        return
    for what in sorted(set(_changed(one.variants)) & set(_changed(other.variants))):
        f.add(
            f"experiments[{other.id}].variants",
            f"change {what}, and so do those of experiments[{one.id}], which the same units meet; put both into one"
            " layer",
        )


def _changed(variants: Iterable[Variant]) -> Iterator[str]:
    for variant in variants:
        for what in ("exploration", "model"):
            if getattr(variant, what) is not None:
                yield what
        for what in ("levers", "treatments", "limits"):
            for name in getattr(variant, what):
                yield f"{what}[{name}]"
