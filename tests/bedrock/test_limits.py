"""What bounds requests: rates, idempotency keys, signatures, ids; on clocks of our own."""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.bedrock.idempotency import Answer, Answers, Attempt, KeyInUse, KeyReused, is_key
from examples.bedrock.ids import new_id, timestamp, with_prefix
from examples.bedrock.rate_limit import RateLimiter
from examples.bedrock.shared import Shared, open_shared
from examples.bedrock.signing import Signer

from ..processes import ROOT
from .service import places

OK = Answer(status=202, body=b'{"job_id":"job_1"}')


@attrs.define
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def nanoseconds(self) -> int:
        return round(self.now * 1e9)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    """Give what is shared in an empty directory."""
    with open_shared(tmp_path) as shared:
        yield shared


async def test_a_minute_of_requests_may_come_at_once_and_then_evenly(shared: Shared) -> None:
    """The bucket is full at first, empty after its limit, and gains a token in its time."""
    clock = Clock()
    limiter = RateLimiter(shared, 60, clock.nanoseconds)
    remaining = [(await limiter.take("key")).remaining for _ in range(60)]
    assert remaining == list(range(59, -1, -1))
    refused = await limiter.take("key")
    assert (refused.retry_after, refused.remaining, refused.full_in) == (1, 0, 60)
    clock.now += 1
    allowed = await limiter.take("key")
    assert (allowed.retry_after, allowed.limit, allowed.remaining) == (None, 60, 0)
    clock.now += 3600
    assert (await limiter.take("key")).remaining == 59


async def test_one_request_a_minute_waits_for_sixty_seconds(shared: Shared) -> None:
    """The wait is until the next token, and it is enough."""
    clock = Clock()
    limiter = RateLimiter(shared, 1, clock.nanoseconds)
    assert (await limiter.take("key")).retry_after is None
    assert (await limiter.take("key")).retry_after == 60
    clock.now += 59.5
    assert (await limiter.take("key")).retry_after == 1
    clock.now += 0.5
    assert (await limiter.take("key")).retry_after is None


async def test_keys_have_buckets_of_their_own(shared: Shared) -> None:
    """One key that is used up leaves another alone."""
    limiter = RateLimiter(shared, 1, Clock().nanoseconds)
    assert (await limiter.take("one")).retry_after is None
    assert (await limiter.take("one")).retry_after is not None
    assert (await limiter.take("other")).retry_after is None


async def test_all_processes_take_from_one_bucket(shared: Shared, tmp_path: Path) -> None:
    """Two that are asked at once give as many as one, and one that is started later has them."""
    clock = Clock()
    allowances = []
    with open_shared(tmp_path) as also_shared:
        limiters = [RateLimiter(each, 7, clock.nanoseconds) for each in (shared, also_shared)]

        async def take(limiter: RateLimiter) -> None:
            allowances.append(await limiter.take("key"))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(take, limiters[number % 2])
    allowed = [each.remaining for each in allowances if each.retry_after is None]
    assert sorted(allowed, reverse=True) == list(range(6, -1, -1))
    with open_shared(tmp_path) as again:
        assert (await RateLimiter(again, 7, clock.nanoseconds).take("key")).retry_after == 9


async def test_a_clock_that_is_set_costs_a_bucket_at_most(shared: Shared) -> None:
    """Set back, it is empty and fills up as ever; set forward, it is full."""
    clock = Clock()
    limiter = RateLimiter(shared, 60, clock.nanoseconds)
    for _ in range(30):
        await limiter.take("key")
    clock.now -= 500
    refused = await limiter.take("key")
    assert (refused.retry_after, refused.full_in) == (1, 60)
    clock.now += 1
    allowed = await limiter.take("key")
    assert (allowed.retry_after, allowed.remaining) == (None, 0)
    clock.now += 30
    assert (await limiter.take("key")).remaining == 29
    clock.now += 10_000
    assert (await limiter.take("key")).remaining == 59


async def test_a_limit_is_at_least_one(shared: Shared) -> None:
    """Zero would let nobody in."""
    with pytest.raises(ValueError, match="at least one"):
        RateLimiter(shared, 0)


@given(
    st.integers(1, 500) | st.integers(1, 10**12),
    st.lists(st.integers(0, 90 * 10**9), min_size=1, max_size=60),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_minute_holds_more_than_twice_the_limit_and_waiting_is_enough(
    tmp_path: Path, limit: int, pauses: list[int]
) -> None:
    """However requests are spaced: what is allowed is bounded, and who waits as told gets in."""

    async def main() -> None:
        now = 1_795_000_000 * 10**9
        limiter = RateLimiter(shared, limit, lambda: now)
        allowed: list[int] = []
        for pause in pauses:
            now += pause
            said = await limiter.take(key)
            if said.retry_after is not None:
                now += said.retry_after * 10**9
                said = await limiter.take(key)
            assert said.retry_after is None
            assert 0 <= said.remaining < limit
            allowed.append(now)
        for start in allowed:
            assert sum(start <= at < start + 60 * 10**9 for at in allowed) <= 2 * limit

    key = secrets.token_hex(8)  # whose bucket is full
    with open_shared(tmp_path) as shared:
        trio.run(main)


async def begun(answers: Answers, key: str, fingerprint: bytes, who: str = "org") -> Attempt:
    """Begin a request that is to be carried out."""
    attempt = await answers.begin(who, key, fingerprint)
    assert isinstance(attempt, Attempt)
    return attempt


async def answered(answers: Answers, attempt: Attempt, answer: Answer = OK) -> None:
    """Carry an attempt to its end."""
    await answers.keep(attempt, answer)
    attempt.end()


async def test_an_answer_is_given_again(shared: Shared, tmp_path: Path) -> None:
    """To the same request with the same key, of the same sender, by every process."""
    answers = Answers(shared)
    await answered(answers, await begun(answers, "key", b"request"))
    with open_shared(tmp_path) as also_shared:
        for each in (answers, Answers(also_shared)):
            assert await each.begin("org", "key", b"request") == OK
    for who, key in (("other", "key"), ("org", "another")):
        (await begun(answers, key, b"request", who)).end()
    assert places(tmp_path) == []


async def test_a_key_is_for_one_request(shared: Shared, tmp_path: Path) -> None:
    """Another request with it is refused, before and after the answer, by every process."""
    with open_shared(tmp_path) as also_shared:
        answers, others = Answers(shared), Answers(also_shared)
        attempt = await begun(answers, "key", b"request")
        for each in (answers, others):
            with pytest.raises(KeyReused):
                await each.begin("org", "key", b"another")
            with pytest.raises(KeyInUse):
                await each.begin("org", "key", b"request")
        await answered(answers, attempt)
        for each in (answers, others):
            with pytest.raises(KeyReused):
                await each.begin("org", "key", b"another")
    assert places(tmp_path) == []


@pytest.mark.parametrize(
    "answer", [None, Answer(status=500, body=b""), Answer(status=503, body=b"")]
)
async def test_a_failure_of_the_server_frees_the_key(shared: Shared, answer: Answer | None) -> None:
    """So does a request that never came to an answer. A mistake of the client's is kept."""
    answers = Answers(shared)
    attempt = await begun(answers, "key", b"request")
    if answer is not None:
        await answers.keep(attempt, answer)
    attempt.end()
    mistake = Answer(status=404, body=b"{}")
    await answered(answers, await begun(answers, "key", b"another"), mistake)
    assert await answers.begin("org", "key", b"another") == mistake


async def test_attempts_at_one_request_make_one_thing(shared: Shared) -> None:
    """So what an attempt had done before it broke off is found by the next; another's is not."""
    answers = Answers(shared)
    seen = []
    for fingerprint in (b"request", b"request", b"another", b"another"):
        attempt = await begun(answers, "key", fingerprint)
        seen.append(attempt.made_as)
        attempt.end()
    assert seen[0] == seen[1] != seen[2] == seen[3]


async def test_a_killed_process_frees_its_keys(shared: Shared, tmp_path: Path) -> None:
    """The next attempt makes the same thing, and nothing is left of the first."""
    script = """
import os, signal, sys, trio
from pathlib import Path
from examples.bedrock.idempotency import Answers
from examples.bedrock.shared import open_shared

async def main():
    with open_shared(Path(sys.argv[1])) as shared:
        answers = Answers(shared)
        await answers.begin("org", "another", b"request")
        attempt = await answers.begin("org", "key", b"request")
        print(attempt.made_as, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    assert len(places(tmp_path)) == 2
    clock = Clock(time.time())
    answers = Answers(shared, clock)
    attempt = await begun(answers, "key", b"request")
    assert attempt.made_as == killed.stdout.strip()
    await answered(answers, attempt)
    assert await answers.begin("org", "key", b"request") == OK
    clock.now += 90_000
    await answered(answers, await begun(answers, "a third", b"request"))
    assert places(tmp_path) == []


async def test_answers_are_forgotten_after_a_day(shared: Shared) -> None:
    """Then the request is carried out anew."""
    clock = Clock()
    answers = Answers(shared, clock)
    await answered(answers, await begun(answers, "key", b"request"))
    clock.now += 86_399
    assert await answers.begin("org", "key", b"request") == OK
    clock.now += 1
    (await begun(answers, "key", b"request")).end()


async def test_the_table_of_answers_is_bounded(shared: Shared, tmp_path: Path) -> None:
    """The oldest makes room, even if its answer is still to come, or the clock was set back."""
    clock = Clock()
    answers = Answers(shared, clock, limit=2)
    first = await begun(answers, "first", b"1")
    for key in ("second", "third"):
        clock.now -= 100
        await answered(answers, await begun(answers, key, b"1"))
    await answered(answers, first)
    assert await answers.begin("org", "second", b"1") == OK
    assert await answers.begin("org", "third", b"1") == OK
    await answered(answers, await begun(answers, "first", b"1"))
    assert await answers.begin("org", "third", b"1") == OK
    assert places(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "is_good"),
    [("a", True), ("A-z_9" * 51, True), ("a" * 256, True), ("a" * 257, False)]
    + [(text, False) for text in ("", "a b", "ä", "a\n", "a.b", "٣")],
)
def test_what_an_idempotency_key_may_be(text: str, is_good: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """1 to 256 letters, digits, hyphens and underscores."""
    assert is_key(text) is is_good


def test_a_signature_is_good_for_one_method_and_path_until_it_expires() -> None:
    """Whatever is changed, or too late, is not good."""
    clock = Clock()
    signer = Signer(b"secret", clock)
    path, _, query = signer.sign("PUT", "/uploads/file_1", seconds=900).partition("?")
    signed = dict(pair.split("=") for pair in query.split("&"))
    assert path == "/uploads/file_1"
    assert signed["expires"] == "1900"
    assert signer.is_good("PUT", path, signed)
    assert not signer.is_good("GET", path, signed)
    assert not signer.is_good("PUT", "/uploads/file_2", signed)
    assert not signer.is_good("PUT", path, signed | {"expires": "1901"})
    assert not signer.is_good("PUT", path, signed | {"signature": "0" * 64})
    assert not Signer(b"other", clock).is_good("PUT", path, signed)
    clock.now = 1899.9
    assert signer.is_good("PUT", path, signed)
    clock.now = 1900
    assert not signer.is_good("PUT", path, signed)


@pytest.mark.parametrize("expires", ["", "x", "-1", "1e9", "9" * 5000, "٣٣٣٣"])
@pytest.mark.parametrize("signature", ["", "ä", "\udcff", "0" * 64])
def test_nonsense_is_no_signature(expires: str, signature: str) -> None:
    """It is refused, and is no error."""
    signer = Signer(b"secret")
    assert not signer.is_good("GET", "/x", {"expires": expires, "signature": signature})
    assert not signer.is_good("GET", "/x", {})


def test_ids_are_ulids_that_sort_by_age() -> None:
    """26 digits of Crockford's base 32 behind a prefix; no two are the same."""
    ids = [new_id("job") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"job_0[0-9A-HJKMNP-TV-Z]{25}", id) for id in ids)
    assert [id[:14] for id in ids] == sorted(id[:14] for id in ids)
    assert with_prefix(ids[0], "blk") == "blk" + ids[0][3:]


def test_times_are_utc_with_milliseconds() -> None:
    """As in 2026-01-01T12:00:00.000Z."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp())
