"""What its model said of a logged decision's candidates: from the record where it was asked, asked of it where not."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature, Scored
from decisioning.case import Case
from decisioning.catalog import Catalog
from decisioning.content import Action
from decisioning.content_types import NO_ACTION
from decisioning.decision import policy_version
from decisioning.encoding import RowEncoder
from decisioning.profile import Facts
from decisioning.record import DecisionRecord
from decisioning.replay import model_rows
from decisioning.scores import Scores, moved


class Model(Protocol):
    """What scored: its features, and the graph."""

    @property
    def features(self) -> Sequence[ModelFeature]:
        """Columns of its input."""
        ...

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        """What the graph gives for model input, `(n, n_features)`; members only `with_members`."""
        ...


class LeftOut(Exception):
    """This decision cannot be compared; the message says why."""


class ScoresAgain:
    """The scores of a logged decision's candidates, under a case that may be another than it was."""

    def __init__(
        self,
        record: DecisionRecord,
        case: Case,
        facts: Facts,
        old: Catalog,
        model: Callable[[], tuple[Model, RowEncoder]],
    ) -> None:
        """Nothing is asked yet.

        Args:
            record: The decision, which was scored.
            case: As it is decided again.
            facts: Likewise.
            old: The catalogue that it was made under.
            model: What scored it; LeftOut where it cannot be had.
        """
        self._record = record
        self._case = case
        self._facts = facts
        self._old = old
        self._model = model

    def of(self, actions: Sequence[Action]) -> Scores:
        """Of these.

        Raises:
            LeftOut: The model is needed, and cannot be had; or it lacks the ensemble that the policy goes by.
        """
        record = self._record
        known = {c.action_id: c.propensity for c in record.candidates if c.propensity is not None}
        if record.baseline is not None:
            known.setdefault(NO_ACTION, record.baseline)
        # A record with a baseline is of a model that has not learnt uplift; without one, the model may have.
        uplifts: dict[str, float] = {}
        if record.baseline is None:
            uplifts = {c.action_id: c.uplift for c in record.candidates if c.uplift is not None}
        by_uplift = {action.id for action in actions if action.rank_by == "uplift"}
        wanted = {action.id: action for action in actions}
        if by_uplift and not uplifts:
            wanted[NO_ACTION] = self._case.catalog.actions[NO_ACTION]
        unscored = {each.id for each in wanted.values() if each.id not in known or self._differs(each)}
        unknown = unscored | (by_uplift - uplifts.keys() if record.baseline is None else set())
        if unknown:
            asked = [each for each in wanted.values() if each.id in unknown]
            scored = self._asked(asked)
            for place, each in enumerate(asked):
                if each.id in unscored:
                    known[each.id] = float(scored.propensity[place])
                if scored.uplift is not None:
                    uplifts[each.id] = float(scored.uplift[place])
        learnt = by_uplift <= uplifts.keys()
        sds = {each.action_id: each.sd for each in record.candidates}
        return Scores(
            np.array([known[action.id] for action in actions], dtype=np.float64),
            known[NO_ACTION] if by_uplift and not learnt else None,
            np.array([uplifts.get(action.id, 0.0) for action in actions]) if by_uplift and learnt else None,
            sds=np.array([sds.get(action.id, 0.0) for action in actions]),
            members=self._members(actions),
        )

    def _members(self, actions: Sequence[Action]) -> NDArray[np.float64] | None:
        """Corrected as the decision's propensities were, `(n_actions, n_members)`; None: the policy goes by none."""
        record, placement = self._record, self._case.placement
        if not placement.exploration.by_members:
            return None
        if record.policy == policy_version(placement) and not any(each.members for each in record.candidates):
            return None  # the same policy had no ensemble then
        same = {each.id for each in actions if not self._differs(each)}
        logged = {each.action_id: each for each in record.candidates if each.action_id in same}
        said = {name: each.members for name, each in logged.items() if each.members}
        asked = [each for each in actions if each.id not in said]
        if asked:
            members = self._asked(asked, with_members=True).members
            if members is None:
                raise LeftOut("its model has no ensemble, by which the policy goes")
            said |= {each.id: tuple(own) for each, own in zip(asked, members.tolist(), strict=True)}
        shifts = np.array([logged[each.id].shift if each.id in logged else 0.0 for each in actions])
        return moved(np.array([said[each.id] for each in actions]).T, shifts).T

    def _asked(self, actions: Sequence[Action], *, with_members: bool = False) -> Scored:
        model, encoder = self._model()
        return model.score(model_rows(self._case, self._facts, encoder, actions), with_members=with_members)

    def _differs(self, action: Action) -> bool:
        """Whether the model is told something else of this action than it was."""
        before = self._old.actions.get(action.id)
        return before is None or before.scope() != action.scope()
