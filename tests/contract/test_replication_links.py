"""What a link between a primary and its backup promises (``exchange/replication/protocol.py``), for every way."""

from tests.replication_driver import each_way, pair


@each_way
def test_frames_arrive_in_order_and_once(way: str) -> None:
    with pair(way) as (primary, backup):
        for count in (1, 3, 17, 1):
            assert primary.append(count)
            backup.take_all(primary)
        assert [len(frame) // 64 for frame in backup.taken[0]] == [1, 3, 17, 1]
        backup.check()
