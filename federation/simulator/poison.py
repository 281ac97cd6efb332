"""Records that cannot be folded: each is parked with a reason, and none stands in the way of the others (F14)."""

import random
from typing import Final

from federation.domain.cloudevents import encode_headers
from federation.domain.events import Envelope, Stamp

Headers = tuple[tuple[str, bytes], ...]
_VALUES: Final = (b"", b"{", b"\xff\xfe", b"[]", b'{"cluster": 7}', b'{"cluster": "m0", "node": "\x00"}', b"[" * 5_000)
_TYPES: Final = ("federation.node.observed.v1", "federation.no.such.v1", "", "x" * 10_000)


def poisoned(rng: random.Random, clusters: list[str]) -> tuple[str, Headers, bytes]:
    """Key, headers and value of a record that is no event."""
    key = rng.choice([*clusters, "", "nobody", "a b\n"])
    if rng.random() < 0.3:
        return key, (("garbage", rng.randbytes(8)),), rng.choice(_VALUES)
    stamp = (
        Stamp("00000000-0000-0000-0000-000000000000", rng.randint(0, 3), rng.randint(1, 9))
        if rng.random() < 0.5
        else None
    )
    source = f"/clusters/{rng.choice([*clusters, 'nobody'])}/agent"
    envelope = Envelope(id=f"poison-{rng.random()}", type=rng.choice(_TYPES), source=source, stamp=stamp)
    return key, encode_headers(envelope), rng.choice(_VALUES)
