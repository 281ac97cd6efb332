"""List and watch against a server that fails in every way a real one has been seen to."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest

from adapters.kubernetes.client import ApiServer, Limits
from adapters.kubernetes.listing import Resource
from adapters.kubernetes.objects import Pod
from adapters.kubernetes.watch import Batch, Lines, Pace, Reflector
from federation.domain.errors import Unavailable
from tests.integration.fake_api import (
    Answer,
    FakeApi,
    added,
    bookmark,
    deleted,
    error,
    failure,
    in_pieces,
    page,
    serving,
    stream,
    text,
)

PACE = Pace(
    watch_seconds=5, silence_seconds=0.3, first_pause_seconds=0.01, most_pause_seconds=0.05, absent_seconds=0.05
)
LISTED = (added("a", "1"), added("b", "2"), bookmark("5", ends=True))
REFUSED = failure(422, "Invalid")
Until = Callable[["Seen"], bool]


class Seen:
    """What the follower was told: the state that it folds to, and how often a listing began and was complete."""

    def __init__(self) -> None:
        self.pods: dict[str, str] = {}
        self.begun = 0
        self.complete = 0
        self.sights: list[bool] = []

    def fold(self, batch: Batch[Pod]) -> None:
        if batch.begins:
            self.begun += 1
            self.pods.clear()
        for kind, read in batch.told:
            if kind == "DELETED":
                self.pods.pop(read.metadata.name, None)
            else:
                self.pods[read.metadata.name] = read.metadata.resource_version
        self.complete += batch.complete
        if batch.sees is not None:
            self.sights.append(batch.sees)


async def follow(
    fake: FakeApi, until: Until, *, pace: Pace = PACE, limits: Limits | None = None, optional: bool = False
) -> Seen:
    """Follow the fake's pods until what was seen is as wanted."""
    api, seen = ApiServer(fake, limits), Seen()
    resource = Resource(path="/api/v1/pods", kind=Pod, optional=optional)
    try:
        async with asyncio.timeout(10), aclosing(Reflector(api, resource, pace).follow()) as batches:
            async for batch in batches:
                seen.fold(batch)
                if until(seen):
                    return seen
        raise AssertionError("the follower ended by itself")
    finally:
        await api.close()


def knows(**pods: str) -> Until:
    """The listing is complete and these pods stand at these versions, and no others."""
    return lambda seen: seen.complete > 0 and seen.pods == pods


# --- what it says of itself ----------------------------------------------------------------------------------------------


async def test_a_watch_that_is_lost_is_told_once_and_so_is_that_it_is_back() -> None:
    lost = (stream(*LISTED, reset=True), failure(503), failure(500), failure(503))
    async with serving(*lost, stream(added("c", "9"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="9"))

    assert seen.sights == [False, True]


async def test_a_watch_that_was_lost_is_back_with_the_listing_that_replaces_it() -> None:
    async with serving(REFUSED, failure(503), page(["a"], "5"), stream(added("b", "6"), hang=True)) as fake:
        seen = await follow(fake, knows(a="5", b="6"))

    assert seen.sights == [False, True]


async def test_pauses_begin_anew_once_a_server_that_was_away_answers_that_the_version_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.kubernetes.watch.random.uniform", lambda least, most: 1.0)
    pace = msgspec.structs.replace(PACE, first_pause_seconds=0.05, most_pause_seconds=20.0)
    away = [failure(503)] * 4
    async with serving(stream(*LISTED, reset=True), *away, failure(410), stream(*LISTED, hang=True)) as fake:
        began = time.monotonic()
        seen = await follow(fake, lambda seen: seen.complete == 2, pace=pace)

    assert seen.begun == 2
    assert time.monotonic() - began < 0.05 * (1 + 2 + 4 + 8 + 16) + 1


# --- how it goes when all is well ----------------------------------------------------------------------------------------


async def test_one_stream_tells_everything_and_then_what_changes() -> None:
    async with serving(stream(*LISTED, added("c", "6"), deleted("a", "7"), hang=True)) as fake:
        seen = await follow(fake, knows(b="2", c="6"))

    assert (seen.begun, seen.complete) == (1, 1)
    assert fake.requests[0]["sendInitialEvents"] == "true"
    assert fake.requests[0]["resourceVersionMatch"] == "NotOlderThan"
    assert "resourceVersion" not in fake.requests[0]


async def test_a_server_without_streaming_lists_is_read_page_by_page_and_not_asked_again() -> None:
    pages = (page(["a"], "5", "next"), page(["b"], "5"))
    async with serving(REFUSED, *pages, failure(410), page(["c"], "9"), stream(added("d", "10"), hang=True)) as fake:
        await follow(fake, knows(c="9", d="10"))

    assert [each.get("continue") for each in fake.requests[1:3]] == [None, "next"]
    assert [each.get("resourceVersion") for each in fake.requests] == [None, None, None, "5", None, "9"]
    assert sum("sendInitialEvents" in each for each in fake.requests) == 1


async def test_a_watch_that_ends_in_time_is_taken_up_where_it_was() -> None:
    async with serving(stream(*LISTED, bookmark("8")), stream(added("c", "9"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="9"))

    assert (seen.begun, fake.requests[1]["resourceVersion"]) == (1, "8")


async def test_lines_that_come_in_pieces_are_put_together() -> None:
    whole = b"".join(json.dumps(each).encode() + b"\n" for each in LISTED)

    async with serving(in_pieces(whole[:7], whole[7:150], whole[150:])) as fake:
        seen = await follow(fake, knows(a="1", b="2"))

    assert seen.complete == 1


@pytest.mark.parametrize("code", [403, 404])
async def test_what_is_optional_and_not_there_is_an_empty_listing_until_it_is(code: int) -> None:
    seen: list[dict[str, str]] = []

    def noted(now: Seen) -> bool:
        seen.append(dict(now.pods))
        return now.complete == 2

    async with serving(failure(code), page(["a"], "5")) as fake:
        await follow(fake, noted, optional=True)

    assert seen[-1] == {"a": "5"}
    assert {} in seen


# --- what is too old -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "too_old",
    [
        failure(410, "Expired"),
        stream(error(410, "Expired")),
        stream(error(410, "Gone")),
        stream(error(500, "Expired")),
        failure(504, "Timeout", "ResourceVersionTooLarge"),
        stream(error(504, "Timeout", "ResourceVersionTooLarge")),
        failure(400, "BadRequest"),
    ],
)
async def test_a_version_that_the_server_does_not_take_is_listed_again(too_old: Answer) -> None:
    again = stream(added("c", "20"), bookmark("20", ends=True), hang=True)
    async with serving(stream(*LISTED), too_old, again) as fake:
        seen = await follow(fake, knows(c="20"))

    assert (seen.begun, seen.complete) == (2, 2)


async def test_another_error_in_a_watch_goes_on_from_what_was_told_before_it() -> None:
    broken = stream(*LISTED, added("c", "6"), error(500, "InternalError"))
    async with serving(broken, stream(added("d", "7"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="6", d="7"))

    assert (seen.begun, fake.requests[1]["resourceVersion"]) == (1, "6")


async def test_a_listing_that_breaks_off_is_begun_again_and_was_never_complete() -> None:
    broken = (stream(added("old", "1")), page(["a"], "5", "more"), failure(410, "Expired"))
    async with serving(*broken, page(["b"], "9")) as fake:
        seen = await follow(fake, lambda seen: seen.complete > 0)

    assert (seen.begun, seen.complete, seen.pods) == (3, 1, {"b": "9"})


async def test_a_continue_token_that_repeats_begins_the_list_again() -> None:
    loop = (page(["a"], "5", "same"), page(["b"], "5", "same"))
    async with serving(REFUSED, *loop, page(["c"], "6")) as fake:
        seen = await follow(fake, knows(c="6"))

    assert seen.begun == 3


# --- nonsense ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonsense",
    [
        text("<html>a proxy's login page</html>"),
        text("", 200),
        failure(200, "InternalError"),
        page(None, "5"),
        page(["a"], ""),
        text("[" * 100_000),
        text('{"metadata": {"resourceVersion": 5}, "items": []}'),
        text('{"items": {}}'),
        text("<html></html>", 502),
        failure(503, "ServiceUnavailable"),
        failure(500, "InternalError"),
        failure(403, "Forbidden"),
        failure(404, "NotFound"),
    ],
)
async def test_a_list_that_makes_no_sense_is_asked_for_again(nonsense: Answer) -> None:
    async with serving(REFUSED, nonsense, page(["a"], "7")) as fake:
        seen = await follow(fake, knows(a="7"))

    assert seen.complete == 1


@pytest.mark.parametrize(
    "raw", [b"<html>\n", b"[]\n", b'{"type": 1}\n', b"[" * 100_000 + b"\n", b'{"type": "ADDED"}\n']
)
async def test_a_line_that_makes_no_sense_ends_the_watch_but_loses_nothing(raw: bytes) -> None:
    async with serving(stream(*LISTED, added("c", "6"), raw=raw), stream(added("d", "7"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="6", d="7"))

    assert (seen.begun, fake.requests[1]["resourceVersion"]) == (1, "6")


async def test_an_object_that_cannot_be_read_is_left_out_and_the_rest_goes_on() -> None:
    strange = {"type": "ADDED", "object": {"metadata": {"name": ["x"], "resourceVersion": "3"}}}
    bare = {"type": "ADDED", "object": {}}
    async with serving(stream(strange, bare, *LISTED, strange, added("c", "6"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="6"))

    assert seen.complete == 1


async def test_an_event_of_an_unknown_type_changes_no_version() -> None:
    unknown = {"type": "SOMETHING", "object": {"kind": "Other"}}
    async with serving(stream(*LISTED, unknown), stream(added("c", "6"), hang=True)) as fake:
        await follow(fake, knows(a="1", b="2", c="6"))

    assert fake.requests[1]["resourceVersion"] == "5"


async def test_a_line_without_end_is_given_up() -> None:
    pace = Pace(first_pause_seconds=0.01, most_pause_seconds=0.05, line_bytes=10_000)
    async with serving(stream(raw=b" " * 50_000, hang=True), page(["a"], "7")) as fake:
        seen = await follow(fake, knows(a="7"), pace=pace)

    assert seen.begun == 2


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    large, limits = page([f"pod-{n}" for n in range(500)], "5"), Limits(answer_bytes=20_000)
    async with serving(REFUSED, large, page(["a"], "7")) as fake:
        await follow(fake, knows(a="7"), limits=limits)

    assert [each.get("limit") for each in fake.requests[1:3]] == ["500", "125"]


# --- silence, resets, pressure -------------------------------------------------------------------------------------------


async def test_a_silent_watch_is_dropped_and_taken_up_at_the_last_bookmark() -> None:
    async with serving(stream(*LISTED, bookmark("30"), hang=True), stream(added("c", "31"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="31"))

    assert (seen.begun, fake.requests[1]["resourceVersion"]) == (1, "30")
    assert fake.times[1] - fake.times[0] >= 0.3


async def test_a_streaming_list_that_never_ends_is_given_up() -> None:
    drip = in_pieces(*[json.dumps(added(f"p{n}", str(n))).encode() + b"\n" for n in range(200)])
    pace = Pace(first_pause_seconds=0.01, most_pause_seconds=0.05, stream_list_seconds=0.2)
    async with serving(drip, page(["a"], "7")) as fake:
        seen = await follow(fake, knows(a="7"), pace=pace)

    assert seen.begun == 2


async def test_a_reset_in_the_middle_of_a_line_loses_nothing() -> None:
    half = json.dumps(added("c", "6")).encode()[:20]
    async with serving(stream(*LISTED, raw=half, reset=True), stream(added("c", "6"), hang=True)) as fake:
        seen = await follow(fake, knows(a="1", b="2", c="6"))

    assert (seen.begun, fake.requests[1]["resourceVersion"]) == (1, "5")


async def test_a_server_that_asks_for_time_is_given_it() -> None:
    async with serving(stream(*LISTED), failure(429, Retry_After="1"), stream(added("c", "6"), hang=True)) as fake:
        await follow(fake, knows(a="1", b="2", c="6"))

    assert fake.times[2] - fake.times[1] >= 1.0


async def test_the_pause_between_failures_grows_to_its_bound() -> None:
    pace = Pace(first_pause_seconds=0.04, most_pause_seconds=0.16)
    async with serving(*[failure(500)] * 8, page(["a"], "5")) as fake:
        await follow(fake, knows(a="5"), pace=pace)

    pauses = [later - earlier for earlier, later in zip(fake.times, fake.times[1:], strict=False)]
    assert pauses[0] < 0.1
    assert all(0.07 < pause < 0.6 for pause in pauses[3:7])


async def test_a_watch_that_always_ends_at_once_is_not_asked_for_without_pause() -> None:
    async with serving(stream(*LISTED), *[stream()] * 6, stream(added("c", "6"), hang=True)) as fake:
        await follow(fake, knows(a="1", b="2", c="6"), pace=Pace(first_pause_seconds=0.04, most_pause_seconds=0.08))

    assert fake.times[7] - fake.times[1] > 0.2


async def test_who_stops_listening_closes_the_connection() -> None:
    async with serving(stream(*LISTED, hang=True)) as fake:
        await follow(fake, lambda seen: seen.complete == 1)
        async with asyncio.timeout(5):
            while not fake.dropped:  # noqa: ASYNC110 - the fake counts, and has no event to wait for
                await asyncio.sleep(0.01)

    assert fake.dropped == 1


def test_lines_are_cut_at_every_newline_wherever_the_pieces_end() -> None:
    content = b"one\n\ntwo\nthree is longer\nfour"

    for cut in range(len(content) + 1):
        lines = Lines(100)
        assert lines.split(content[:cut]) + lines.split(content[cut:]) == [b"one", b"two", b"three is longer"]


def test_a_line_is_bounded_however_it_comes() -> None:
    lines = Lines(10)
    lines.split(b"12345678")

    with pytest.raises(Unavailable):
        lines.split(b"90ab\n")
