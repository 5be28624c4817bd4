"""What bounds requests: rates, idempotency keys, signatures, ids; on clocks of our own."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.bedrock.idempotency import Answer, Answers, KeyInUse, KeyReused, is_key
from examples.bedrock.ids import is_id, new_id, timestamp, with_prefix
from examples.bedrock.rate_limit import RateLimiter
from examples.bedrock.signing import Signer

OK = Answer(status=202, body=b'{"job_id":"job_1"}')


@attrs.define
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_of_requests_may_come_at_once_and_then_evenly() -> None:
    """The bucket is full at first, empty after its limit, and gains a token in its time."""
    clock = Clock()
    limiter = RateLimiter(60, clock)
    remaining = [limiter.take("key").remaining for _ in range(60)]
    assert remaining == list(range(59, -1, -1))
    refused = limiter.take("key")
    assert (refused.retry_after, refused.remaining, refused.full_in) == (1, 0, 60)
    clock.now += 1
    allowed = limiter.take("key")
    assert (allowed.retry_after, allowed.limit, allowed.remaining) == (None, 60, 0)
    clock.now += 3600
    assert limiter.take("key").remaining == 59


def test_one_request_a_minute_waits_for_sixty_seconds() -> None:
    """The wait is until the next token, and it is enough."""
    clock = Clock()
    limiter = RateLimiter(1, clock)
    assert limiter.take("key").retry_after is None
    assert limiter.take("key").retry_after == 60
    clock.now += 59.5
    assert limiter.take("key").retry_after == 1
    clock.now += 0.5
    assert limiter.take("key").retry_after is None


def test_keys_have_buckets_of_their_own() -> None:
    """One key that is used up leaves another alone."""
    limiter = RateLimiter(1, Clock())
    assert limiter.take("one").retry_after is None
    assert limiter.take("one").retry_after is not None
    assert limiter.take("other").retry_after is None


def test_a_limit_is_at_least_one() -> None:
    """Zero would let nobody in."""
    with pytest.raises(ValueError, match="at least one"):
        RateLimiter(0, Clock())


@given(
    st.integers(1, 500),
    st.lists(st.floats(0, 90), min_size=1, max_size=60),
)
def test_no_minute_holds_more_than_twice_the_limit_and_waiting_is_enough(
    limit: int, pauses: list[float]
) -> None:
    """However requests are spaced: what is allowed is bounded, and who waits as told gets in."""
    clock = Clock()
    limiter = RateLimiter(limit, clock)
    allowed: list[float] = []
    for pause in pauses:
        clock.now += pause
        said = limiter.take("key")
        if said.retry_after is None:
            allowed.append(clock.now)
        else:
            clock.now += said.retry_after
            assert limiter.take("key").retry_after is None
            allowed.append(clock.now)
    for start in allowed:
        assert sum(start <= at < start + 60 for at in allowed) <= 2 * limit


def test_an_answer_is_given_again() -> None:
    """To the same request with the same key, of the same sender."""
    answers = Answers(Clock())
    assert answers.begin("org", "key", b"request") is None
    answers.end("org", "key", OK)
    assert answers.begin("org", "key", b"request") == OK
    assert answers.begin("other", "key", b"request") is None
    assert answers.begin("org", "another", b"request") is None


def test_a_key_is_for_one_request() -> None:
    """Another request with it is refused, before and after the answer."""
    answers = Answers(Clock())
    answers.begin("org", "key", b"request")
    with pytest.raises(KeyReused):
        answers.begin("org", "key", b"another")
    with pytest.raises(KeyInUse):
        answers.begin("org", "key", b"request")
    answers.end("org", "key", OK)
    with pytest.raises(KeyReused):
        answers.begin("org", "key", b"another")


@pytest.mark.parametrize(
    "answer", [None, Answer(status=500, body=b""), Answer(status=503, body=b"")]
)
def test_a_failure_of_the_server_frees_the_key(answer: Answer | None) -> None:
    """So does a request that never came to an answer. A mistake of the client's is kept."""
    answers = Answers(Clock())
    answers.begin("org", "key", b"request")
    answers.end("org", "key", answer)
    assert answers.begin("org", "key", b"another") is None
    mistake = Answer(status=404, body=b"{}")
    answers.end("org", "key", mistake)
    assert answers.begin("org", "key", b"another") == mistake


def test_answers_are_forgotten_after_a_day() -> None:
    """Then the request is carried out anew."""
    clock = Clock()
    answers = Answers(clock)
    answers.begin("org", "key", b"request")
    answers.end("org", "key", OK)
    clock.now += 86_399
    assert answers.begin("org", "key", b"request") == OK
    clock.now += 1
    assert answers.begin("org", "key", b"request") is None


def test_the_table_of_answers_is_bounded() -> None:
    """The oldest makes room, even if its answer is still to come."""
    answers = Answers(Clock(), limit=2)
    answers.begin("org", "first", b"1")
    for key in ("second", "third"):
        answers.begin("org", key, b"1")
        answers.end("org", key, OK)
    answers.end("org", "first", OK)
    assert answers.begin("org", "second", b"1") == OK
    assert answers.begin("org", "third", b"1") == OK
    assert answers.begin("org", "first", b"1") is None
    assert answers.begin("org", "third", b"1") == OK


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


@pytest.mark.parametrize(
    "text", ["", "job_", "../../etc/passwd", "job_" + "0" * 25 + "/", "0" * 26]
)
def test_only_ids_are_ids(text: str) -> None:
    """What could be a path is none."""
    assert is_id(new_id("file"))
    assert not is_id(text)


def test_times_are_utc_with_milliseconds() -> None:
    """As in 2026-01-01T12:00:00.000Z."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp())
