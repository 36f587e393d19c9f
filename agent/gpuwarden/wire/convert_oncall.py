"""On-call as messages and back."""

from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Matcher, OncallState, Silence, SinkState
from gpuwarden.wire.fields import known, text
from gpuwarden.wire.v1 import oncall_pb2 as pb


def to_matcher(matcher: Matcher) -> pb.Matcher:
    return pb.Matcher(
        tenant=text(matcher.tenant),
        device=text(matcher.device),
        rule=text(matcher.rule),
        incident=text(matcher.incident),
    )


def from_matcher(message: pb.Matcher) -> Matcher:
    return Matcher(
        tenant=message.tenant,
        device=message.device,
        rule=message.rule,
        incident=message.incident,
    )


def to_silence(silence: Silence) -> pb.Silence:
    return pb.Silence(
        id=text(silence.id),
        matcher=to_matcher(silence.matcher),
        author=text(silence.author),
        reason=text(silence.reason),
        since_wall=silence.since_wall,
        until_wall=silence.until_wall,
    )


def from_silence(message: pb.Silence) -> Silence:
    return Silence(
        id=message.id,
        matcher=from_matcher(message.matcher),
        author=message.author,
        reason=message.reason,
        since_wall=message.since_wall,
        until_wall=message.until_wall,
    )


def to_oncall(state: OncallState) -> pb.OncallState:
    return pb.OncallState(
        sinks=[
            pb.SinkState(
                name=text(sink.name),
                kind=text(sink.kind),
                due=sink.due,
                ok_wall=sink.ok_wall,
                failing_wall=sink.failing_wall,
                detail=text(sink.detail),
            )
            for sink in state.sinks
        ],
        silences=[to_silence(silence) for silence in state.silences],
        unreached=[text(incident) for incident in state.unreached],
        dropped=state.dropped,
    )


def from_oncall(message: pb.OncallState) -> OncallState:
    return OncallState(
        sinks=tuple(
            SinkState(
                name=sink.name,
                kind=sink.kind,
                due=sink.due,
                ok_wall=known(sink, "ok_wall"),
                failing_wall=known(sink, "failing_wall"),
                detail=sink.detail,
            )
            for sink in message.sinks
        ),
        silences=tuple(from_silence(silence) for silence in message.silences),
        unreached=tuple(IncidentId(incident) for incident in message.unreached),
        dropped=message.dropped,
    )
