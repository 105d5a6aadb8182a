"""The same second of standstill, as a closed loop and as an open loop see it."""

SERVICE_MS = 1  # what one request takes
STALL_MS = range(5000, 6000)  # in the middle of ten seconds the server stands still for one
END_MS = 10_000


def answer_time_ms(begin_ms: int) -> int:
    """When a request is answered that the server could begin at ``begin_ms``."""
    return (STALL_MS.stop if begin_ms in STALL_MS else begin_ms) + SERVICE_MS


def closed_loop_latencies_ms() -> list[int]:
    """The next request is sent when the last one is answered, and its clock starts then."""
    latencies, now_ms = [], 0
    while now_ms < END_MS:
        answered_ms = answer_time_ms(now_ms)
        latencies.append(answered_ms - now_ms)
        now_ms = answered_ms
    return latencies


def open_loop_latencies_ms(interval_ms: int = 10) -> list[int]:
    """A request is due every ``interval_ms``, come what may, and its clock starts when it is due."""
    latencies, server_free_ms = [], 0
    for due_ms in range(0, END_MS, interval_ms):
        server_free_ms = answer_time_ms(max(due_ms, server_free_ms))
        latencies.append(server_free_ms - due_ms)
    return latencies


def percentile_ms(latencies: list[int], percent: float) -> int:
    """The latency that ``percent`` % of the requests did not exceed."""
    return sorted(latencies)[round(len(latencies) * percent / 100) - 1]


if __name__ == "__main__":
    for name, latencies in (("closed", closed_loop_latencies_ms()), ("open", open_loop_latencies_ms())):
        shown = ", ".join(
            f"p{percent} {percentile_ms(latencies, percent)} ms" for percent in (50, 90, 99, 99.9)
        )
        print(f"{name} loop: {len(latencies):,} requests, {shown}, max {max(latencies):,} ms")
