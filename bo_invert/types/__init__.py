"""Frozen value types (numpy only)."""

from bo_invert.types.arrays import (
    JSON as JSON,
    Array as Array,
    Design as Design,
    Designs as Designs,
    Indices as Indices,
    Mask as Mask,
    frozen as frozen,
)
from bo_invert.types.evaluation import (
    Cost as Cost,
    Descent as Descent,
    Outcome as Outcome,
    Query as Query,
    State as State,
)
from bo_invert.types.trial import (
    INTERVALS as INTERVALS,
    Amendment as Amendment,
    Attempt as Attempt,
    Trial as Trial,
)
