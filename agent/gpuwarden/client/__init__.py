"""What a service tells gpuwarden of its own requests: ``observe(latency=0.12, ok=True)``.

Never blocks, never raises, never waits for the agent: observations go to a bounded buffer and a thread sends them to
the agent's socket; what does not fit is counted (``lost``) and told. Python 3.9 and newer, standard library only.

    from gpuwarden.client import observe
    observe(latency=0.12, ok=True, features={"age": 41}, prediction=1, prediction_id="r-1", segment="old-scanner")
    observe(prediction_id="r-1", label=0)        # later, from wherever the truth became known
"""

from gpuwarden.client.sender import Client

__all__ = ["Client", "observe"]

_client = Client()
observe = _client.observe
