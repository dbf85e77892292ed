"""The kinds of values of which the catalogue is made."""

from datetime import timedelta
from typing import Annotated, Literal, get_args

import msgspec

CONTACT_MEMORY = timedelta(days=30)  # hot state forgets older contacts
LONGEST_DELAY = timedelta(days=30)  # of a moment; hot state forgets older events
EVENT_MEMORY = timedelta(days=30)  # the longest window of a feature over events
BUCKETS = 10_000  # into which experiments and the holdout divide their units
NO_ACTION = "no_action"  # reserved id: the choice to show nothing, a candidate like any other
BLUEPRINT = "global"  # the market that every other market starts from

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
HookId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Person = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Cel = Annotated[str, msgspec.Meta(min_length=1)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
Locale = Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Scalar = bool | int | float | str | None
Value = Scalar | tuple[str, ...]  # of a feature: responsibilities, sites and the like are lists
PositiveNumber = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Purpose = Literal["personalisation", "marketing"]
PERSONALISATION: Purpose = "personalisation"
MARKETING: Purpose = "marketing"
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ShownBy = Literal["impression", "sent", "decision"]
Status = Literal["draft", "approved", "live", "retired"]
CountedPer = Literal["any", "channel", "group", "goal", "action"]
HookFormat = Literal["sendgrid", "brevo", "segment", "custom"]
FeatureKind = Literal["number", "text", "truth", "texts"]
TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
# Where in a provider's item: names with dots between them.
ItemPath = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^.]+(\.[^.]+)*$")]
HeaderName = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9-]+$")]
EndOfDay = Annotated[str, msgspec.Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
