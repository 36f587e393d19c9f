"""Predictions for people that nodes send, field by field. ``Refused`` names the field; it is of one, those beside it
are taken."""

from gpuwarden.errors import Refused
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.window_check import AHEAD_S, from_cohort

ITEMS_MAX = 64
"""In one message."""
PROBABILITIES_MAX = 100
OPINIONS_MAX = 16
PAYLOAD_MAX_CHARS = 1024
ANSWER_MAX_CHARS = 128
TIMES_MAX = 100.0
BEHIND_S = 7 * 86_400.0


def check_item(message: pb.ReviewItem, wall: float) -> None:
    """``Refused`` unless it is what a node may send."""
    from_cohort(message.cohort)
    if not message.prediction_id:
        raise Refused("review.prediction_id: empty")
    _word("review.prediction_id", message.prediction_id)
    _word("review.prediction", message.prediction)
    if message.HasField("confidence"):
        check.number("review.confidence", message.confidence, 0.0, 1.0)
    check.length("review.probabilities", message.probabilities, PROBABILITIES_MAX)
    for each in message.probabilities:
        check.number("review.probabilities", each, 0.0, 1.0)
    check.length("review.opinions", message.opinions, OPINIONS_MAX)
    for opinion in message.opinions:
        _word("review.opinions", opinion)
    check.number("review.wall", message.wall, wall - BEHIND_S, wall + AHEAD_S)
    check.text("review.payload", message.payload, PAYLOAD_MAX_CHARS)


def _word(what: str, value: str) -> None:
    if len(value) > ANSWER_MAX_CHARS or not value.isprintable():
        raise Refused(f"{what}: expected at most {ANSWER_MAX_CHARS} printable characters")
