"""Every error that a caller, a marketer or an operator can cause.

    NextmoveError
    |- SetupError             the installation or its settings are not usable
    |- CatalogError           the business content is wrong (all its mistakes at once)
    |- BundleError            a model bundle is damaged, foreign or does not score as it was built
    |- DataError              a file or table given to training is wrong
    |- StoreError             a store cannot be read or written now
    |  `- LeaseLost           this process stood still for so long that another one took over
    |- GateRefused            a model was not promoted, with the reasons
    `- RequestError           a call is wrong
       |- UnknownPlacement, UnknownAction, UnknownExperiment
       |- UnknownDecision     no decision has this id
       |- DecisionConflict    this decision id was used with another body
       |- UnknownMoment       no moment that could be delivered has this id
       |- StillPaused         an action is resumed in one market while it is paused in all
       `- OutcomeConflict     this outcome id was used with another body

Wrong input raises; "suppressed", "nothing eligible", "fallback" are values. HTTP statuses live in
`serving/http/problems.py`, keyed by these classes.
"""


class NextmoveError(Exception):
    """Base of all; `code` is stable and may be relied on, the message is for people."""

    code = "error"

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where


class SetupError(NextmoveError):
    """A setting, a port, a directory or a missing earlier step."""

    code = "setup"


class CatalogError(NextmoveError):
    """The catalogue cannot be used; `mistakes` holds every mistake found, one line each."""

    code = "catalog_invalid"

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        noun = "mistake" if len(mistakes) == 1 else "mistakes"
        super().__init__(f"the catalogue has {len(mistakes)} {noun}:\n" + "\n".join(mistakes))


class BundleError(NextmoveError):
    """A bundle that must not be served."""

    code = "bundle_invalid"


class DataError(NextmoveError):
    """Input data that cannot be learnt from, named by file, column and row."""

    code = "data_invalid"


class StoreError(NextmoveError):
    """A store that does not answer now."""

    code = "store_unavailable"


class LeaseLost(StoreError):
    """What only one process may do at a time is another's now."""

    code = "lease_lost"


class GateRefused(NextmoveError):
    """A promotion that the gate refused."""

    code = "gate_refused"


class RequestError(NextmoveError):
    """A call that cannot be answered as it is; `where` is its path in the body."""

    code = "invalid_request"


class UnknownPlacement(RequestError):
    """A placement that the catalogue does not have."""

    code = "unknown_placement"


class UnknownAction(RequestError):
    """An action that the catalogue, or the decision, does not have."""

    code = "unknown_action"


class UnknownExperiment(RequestError):
    """An experiment that the catalogue does not have."""

    code = "unknown_experiment"


class UnknownDecision(RequestError):
    """No decision has this id."""

    code = "unknown_decision"


class UnknownMoment(RequestError):
    """No moment that was handed out, or could be, has this id."""

    code = "unknown_moment"


class DecisionConflict(RequestError):
    """A decision id that was already used with another body; `first` is the record that stands."""

    code = "decision_id_reused"

    def __init__(self, message: str, *, first: object = None) -> None:
        super().__init__(message, where="decision_id")
        self.first = first


class OutcomeConflict(RequestError):
    """An outcome id that was already used with another body."""

    code = "outcome_id_reused"


class StillPaused(RequestError):
    """A resume in one market of an action that is paused in all of them."""

    code = "still_paused"
