"""What every latest value promises, on both variants: a read is whole, and never older than the one before."""

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.latest_value import (
    LatestValueConfig,
    LockedValueConfig,
    SeqlockValueConfig,
    build_latest_value,
)
from exchange.latest_value.protocol import publish, read, try_read
from exchange.latest_value.value_memory import SEQUENCE
from exchange.native import (
    Arena,
    address_of,
    kernel,
    load_int64,
    load_relaxed,
    store_int64,
    store_release,
    yield_core,
)

CONFIGS: dict[str, LatestValueConfig] = {"seqlock": SeqlockValueConfig(), "locked": LockedValueConfig()}
WORDS = 12

every_variant = pytest.mark.parametrize("variant", CONFIGS)


@every_variant
def test_before_the_first_publication_all_words_are_zero(variant: str) -> None:
    value = build_latest_value(CONFIGS[variant], 3)
    out = np.full(3, 7, np.int64)
    assert try_read(value.reader(), address_of(out))
    assert out.tolist() == [0, 0, 0]


@every_variant
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_read_gives_the_last_publication(variant: str, data: st.DataObject) -> None:
    word_count = data.draw(st.integers(1, 20))
    word = st.integers(-(1 << 63), (1 << 63) - 1)
    value = build_latest_value(CONFIGS[variant], word_count)
    # One word more than the record has: it must stay as it is.
    out = np.full(word_count + 1, 99, np.int64)
    for words in data.draw(st.lists(st.lists(word, min_size=word_count, max_size=word_count), max_size=5)):
        source = np.array(words, np.int64)
        publish(value.writer(), address_of(source))
        for _ in range(2):
            assert read(value.reader(), address_of(out), 3) == 1
            assert out.tolist() == [*words, 99]


def test_a_seqlock_reader_notices_a_publication_in_progress_and_gives_up_in_the_end() -> None:
    owner: Any = build_latest_value(SeqlockValueConfig(), 2)
    source, out = np.array([1, 2], np.int64), np.zeros(2, np.int64)
    publish(owner.writer(), address_of(source))
    sequence = load_int64(owner.base + SEQUENCE)
    store_int64(owner.base + SEQUENCE, sequence + 1)  # as a writer that was suspended, or killed, leaves it
    assert not try_read(owner.reader(), address_of(out))
    assert read(owner.reader(), address_of(out), 10) == 0
    store_int64(owner.base + SEQUENCE, sequence + 2)
    assert read(owner.reader(), address_of(out), 10) == 1
    assert out.tolist() == [1, 2]


@every_variant
@pytest.mark.parametrize("word_count", [0, -3, 513])
def test_a_word_count_out_of_range_is_refused(variant: str, word_count: int) -> None:
    with pytest.raises(
        UserError, match=f"latest value '{variant}': word_count = {word_count}: must be 1 to 512"
    ):
        build_latest_value(CONFIGS[variant], word_count)


@kernel
def publish_numbers(writer: Any, words_address: int, word_count: int, first: int, last: int) -> None:
    """Publish records whose words are all the same number, from ``first`` to ``last``."""
    for number in range(first, last + 1):
        for word in range(word_count):
            store_int64(words_address + 8 * word, number)
        publish(writer, words_address)
        if number & 255 == 0:
            yield_core()


@kernel
def read_numbers(reader: Any, out_address: int, word_count: int, last: int, stop_address: int) -> int:
    """Read until the number ``last`` is there; returns how many reads were whole, or minus how many were so before a
    torn or an older record came."""
    whole = 0
    newest = 0
    while newest < last and load_relaxed(stop_address) == 0:
        if not try_read(reader, out_address):
            continue
        number = load_int64(out_address)
        if number < newest:
            return -whole - 1
        for word in range(1, word_count):
            if load_int64(out_address + 8 * word) != number:
                return -whole - 1
        newest = number
        whole += 1
        if whole & 255 == 0:
            yield_core()
    return whole


@every_variant
def test_no_reader_ever_sees_a_torn_or_an_older_record(variant: str) -> None:
    value = build_latest_value(CONFIGS[variant], WORDS)
    arena = Arena.private(1 << 16, huge_pages="never")
    stop, words = arena.allocate(8), arena.allocate(8 * WORDS)
    last = 300_000
    results = [0, 0]

    def work(index: int, out_address: int) -> None:
        results[index] = read_numbers(value.reader(), out_address, WORDS, last, stop)

    threads = [threading.Thread(target=work, args=(index, arena.allocate(8 * WORDS))) for index in range(2)]
    for thread in threads:
        thread.start()
    publish_numbers(value.writer(), words, WORDS, 1, last)
    for thread in threads:
        thread.join(timeout=30)
    store_release(stop, 1)
    assert min(results) > 0


def _read_in_another_process(variant: str, name: str, last: int) -> None:
    value = build_latest_value(CONFIGS[variant], WORDS, Arena.attach_shared(name))
    arena = Arena.private(1 << 12, huge_pages="never")
    whole = read_numbers(value.reader(), arena.allocate(8 * WORDS), WORDS, last, arena.allocate(8))
    raise SystemExit(0 if whole > 0 else 1)


@every_variant
def test_another_process_reads_what_this_one_publishes(variant: str, shared_name: str) -> None:
    arena = Arena.create_shared(shared_name, 8192)
    value = build_latest_value(CONFIGS[variant], WORDS, arena)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_read_in_another_process, args=(variant, shared_name, 100_000))
    process.start()
    ours = Arena.private(4096, huge_pages="never")
    publish_numbers(value.writer(), ours.allocate(8 * WORDS), WORDS, 1, 100_000)
    process.join()
    assert process.exitcode == 0
    with pytest.raises(UserError, match="shared latest value: its word_count is 12, but 4 was asked for"):
        build_latest_value(CONFIGS[variant], 4, Arena.attach_shared(shared_name))
