"""What the emulated machine runs: a primary here, its backup in another process, and libfabric's verbs between them."""

import json
import sys
import time

from tests.contract.test_replication_links import egress_of
from tests.journal_driver import make_records
from tests.replication_driver import Primary, until
from tests.replication_processes import Side, connect_to, digest

SIZES = [1, 40, 3, 7] * 250
"""Of the frames: more than ten thousand records, many times round the ring."""
SECONDS = 600.0


def main(way: str) -> None:
    """Ship them, compare, and see that a backup that has closed its end is out of reach."""
    changes = {"backup_timeout_ns": 60_000_000_000}
    with Primary(way, **changes) as primary, Side("backup", way, **changes) as backup, egress_of(primary):
        connect_to(primary, backup)
        assert primary.replica.hold(SECONDS), primary.replica.failure
        assert primary.append_frames(SIZES) == len(SIZES)
        progress = primary.replica.progress
        until(lambda: progress().streams[0].received_sequence == sum(SIZES) or progress().failure, SECONDS)
        until(lambda: backup.step()["next"] == 1 + sum(SIZES) or progress().failure, SECONDS)
        found = backup.step()
        closed = backup.step(close=True)
        primary.append_frames([7] * 10)
        time.sleep(1)
        later = backup.step()
        print(
            json.dumps(
                {
                    "records": sum(SIZES),
                    "rounds": progress().streams[0].appended_position // primary.replica.config.ring_bytes,
                    "is_equal": found["digest"] == digest(make_records(1, sum(SIZES)).tobytes()),
                    "is_revoked": closed["ring"] == later["ring"] and later["next"] == 1 + sum(SIZES),
                    "failure": found["failure"],
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1])
