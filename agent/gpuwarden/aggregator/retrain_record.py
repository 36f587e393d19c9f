"""What is kept of retraining, as a document of the store: JSON, read as strictly as anything from outside."""

import dataclasses
import json
from typing import Any

from gpuwarden.errors import Refused
from gpuwarden.model.retrain import RetrainRecord, RetrainState, Turn

KIND = "retrain"
RECORDS_MAX = 50
WHY_MAX_CHARS = 1000


def to_body(state: RetrainState) -> bytes:
    kept = dataclasses.replace(state, records=state.records[-RECORDS_MAX:])
    return json.dumps({"schema": 1, **dataclasses.asdict(kept)}, allow_nan=False).encode("ascii")


def from_body(body: bytes) -> RetrainState:
    """``Refused`` when it is none."""
    try:
        said: dict[str, Any] = json.loads(body)
        if said.pop("schema") != 1:
            raise ValueError("of another version")
        records = tuple(
            RetrainRecord(**{**each, "turn": Turn(each["turn"])}) for each in said.pop("records")
        )
        return RetrainState(records=records, **said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(f"what is kept of retraining cannot be read: {error}") from error
