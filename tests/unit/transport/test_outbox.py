"""One queue, one writer, named limits."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from swarmd.errors import ResourceExhausted
from swarmd.transport.outbox import (
    BATCH_BYTES,
    POST_BYTES_MAX,
    POST_FRAME_BYTES,
    POST_MESSAGES_MAX,
    QUEUE_BYTES_MAX,
    QUEUE_FRAMES_MAX,
    ROOM_BYTES,
    ROOM_FRAMES,
    Outbox,
    PostQueue,
)


def _posts() -> PostQueue:
    return PostQueue(lambda messages: b"|".join(messages))


async def test_frames_leave_in_order_and_in_batches() -> None:
    outbox = Outbox()
    frames = [bytes([n]) * (BATCH_BYTES // 3) for n in range(6)]
    for frame in frames:
        outbox.append(frame)
    batches = []
    while len(outbox):
        batches.append(outbox.take())
    assert [frame for batch in batches for frame in batch] == frames
    assert len(batches) == 2


async def test_small_frames_leave_together() -> None:
    outbox = Outbox()
    for _ in range(100):
        outbox.append(b"x")
    assert len(outbox.take()) == 100


async def test_posts_take_their_turn_among_frames() -> None:
    outbox, posts = Outbox(), _posts()
    outbox.append(b"first")
    assert posts.offer(b"a")
    outbox.append_posts(posts)
    outbox.append(b"last")
    assert posts.offer(b"b")
    outbox.append_posts(posts)
    assert outbox.take() == [b"first", b"a|b", b"last"]
    assert posts.offer(b"c")
    outbox.append_posts(posts)
    assert outbox.take() == [b"c"]


async def test_a_long_queue_of_posts_is_cut_into_frames() -> None:
    outbox, posts = Outbox(), _posts()
    for _ in range(10):
        posts.offer(bytes(POST_FRAME_BYTES // 2))
    outbox.append_posts(posts)
    outbox.append(b"between")
    first = outbox.take()
    second = outbox.take()
    assert len(first[0]) == POST_FRAME_BYTES + 1
    assert second[0] == b"between"


async def test_posts_are_bounded_by_count_and_bytes() -> None:
    posts = _posts()
    assert all(posts.offer(b"x") for _ in range(POST_MESSAGES_MAX))
    assert not posts.offer(b"x")
    posts = _posts()
    big = bytes(POST_BYTES_MAX // 4 - 100)
    assert [posts.offer(big) for _ in range(5)] == [True, True, True, True, False]


async def test_a_message_that_no_frame_can_hold_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert not _posts().offer(bytes(4 << 20))
    assert "never fit" in caplog.text


async def test_posts_of_a_finished_stream_are_dropped() -> None:
    outbox, posts = Outbox(), _posts()
    posts.offer(b"x")
    outbox.append_posts(posts)
    posts.is_over = True
    assert outbox.take() == []


@pytest.mark.parametrize(("size", "count"), [(1, ROOM_FRAMES), (ROOM_BYTES // 4, 4)])
async def test_senders_wait_for_room(size: int, count: int) -> None:
    outbox = Outbox()
    for _ in range(count):
        outbox.append(bytes(size))
    assert not outbox.has_room()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        outbox.take()


async def test_a_peer_that_never_reads_is_given_up() -> None:
    outbox = Outbox()
    for _ in range(QUEUE_FRAMES_MAX):
        outbox.append(b"x")
    with pytest.raises(ResourceExhausted):
        outbox.append(b"x")
    outbox = Outbox()
    outbox.append(bytes(QUEUE_BYTES_MAX))
    with pytest.raises(ResourceExhausted):
        outbox.append(b"x")


async def test_the_last_frame_replaces_what_waits_and_ends_the_writer() -> None:
    outbox = Outbox()
    outbox.append(b"late")
    outbox.append_last(b"bye")
    outbox.finish()
    assert await outbox.wait_work()
    assert outbox.take() == [b"bye"]
    assert not await outbox.wait_work()


async def test_closing_wakes_whoever_waits_and_takes_nothing_more() -> None:
    outbox = Outbox()
    outbox.append(bytes(ROOM_BYTES))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        outbox.close()
    outbox.append(b"x")
    assert len(outbox) == 0
