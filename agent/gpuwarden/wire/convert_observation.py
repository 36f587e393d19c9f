"""An observation that came as a message, as it would have come in JSON: what is judged is one and the same."""

from typing import Any

from gpuwarden.wire.v1 import evaluation_pb2 as pb

_PLAIN = (
    "ok",
    "segment",
    "arm",
    "unit_id",
    "prediction_id",
    "confidence",
    "score",
    "cost",
    "complaint",
    "opt_out",
)


def from_observation(message: pb.Observation) -> dict[str, Any]:
    """What was sent of it and nothing else; untrusted, as all of it."""
    said: dict[str, Any] = {
        name: getattr(message, name)
        for name in _PLAIN
        if message.HasField(name)  # type: ignore[arg-type]
    }
    if message.HasField("latency_s"):
        said["latency"] = message.latency_s
    for name in ("prediction", "label"):
        if message.HasField(name):
            said[name] = _answer(getattr(message, name))
    if message.features:
        said["features"] = {each.name: _feature(each) for each in message.features}
    return said


def _feature(message: pb.Feature) -> str | float | None:
    if message.HasField("value"):
        return message.value
    return message.text if message.HasField("text") else None


def _answer(message: pb.Answered) -> str | float | bool | None:
    kind = message.WhichOneof("value")
    return None if kind is None else getattr(message, kind)
