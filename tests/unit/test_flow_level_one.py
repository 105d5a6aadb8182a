"""The comparison with a level-1 file: what is aligned, what is equal, what is refused."""

import gzip
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow.level_one import compare_level_one, read_level_one

A, B, C, D, E = ((100 + k, 10 * k + 10, 200 + k, 7) for k in range(5))  # bid, size, ask, size


@pytest.fixture
def compare(tmp_path: Path):
    def comparison(ours, theirs):
        path = tmp_path / "XYZ_orderbook_1.csv"
        path.write_text("".join(f"{ask},{asked},{bid},{bidden}\n" for bid, bidden, ask, asked in theirs))
        return compare_level_one(np.array(ours, np.int64), str(path))

    return comparison


def test_equal_sequences_agree_however_often_a_state_is_repeated(compare):
    agreement = compare([A, A, B, C, C, C], [A, B, B, C])
    assert (agreement.aligned, agreement.equal, agreement.equal_at_start) == (3, 3, 3)
    assert agreement.share == agreement.share_prices == 1.0


def test_the_states_before_the_first_common_one_do_not_count(compare):
    agreement = compare([D, E, A, B], [A, B])
    assert (agreement.aligned, agreement.equal) == (2, 2)


def test_the_file_may_go_on(compare):
    agreement = compare([A, B], [A, B, C, D, E, A, B])
    assert (agreement.aligned, agreement.equal) == (2, 2)


def test_a_difference_costs_one_state_and_does_not_shift_the_others(compare):
    agreement = compare([A, B, C, D], [A, B, E, D])
    assert (agreement.aligned, agreement.equal, agreement.equal_at_start) == (4, 3, 2)


def test_states_that_the_file_lacks_and_states_that_we_lack(compare):
    assert compare([A, B, C, D], [A, B, D]).equal == 3
    assert compare([A, B, D], [A, B, C, D]).equal == 3


def test_prices_are_compared_for_themselves(compare):
    other_size = (B[0], B[1] + 1, B[2], B[3])
    agreement = compare([A, B, C], [A, other_size, C])
    assert (agreement.equal, agreement.equal_prices, agreement.aligned_prices) == (2, 3, 3)


def test_states_with_an_empty_side_are_left_out(compare):
    agreement = compare([(100, 5, 0, 0), A, (0, 0, 200, 3), B], [A, B])
    assert (agreement.aligned, agreement.equal) == (2, 2)


def test_nothing_in_common(compare):
    agreement = compare([A, B], [C, D])
    assert (agreement.aligned, agreement.share, agreement.share_prices) == (0, 0.0, 0.0)


def test_no_states_at_all(compare):
    assert compare(np.zeros((0, 4)), [A]).aligned == 0


@pytest.mark.parametrize("seed", range(40))
def test_the_agreement_is_that_of_a_longest_common_subsequence(compare, seed):
    """Against a plain dynamic programme: the best over all beginnings of the file of 2 x common - lengths."""
    random = np.random.default_rng(seed)
    pool = [A, B, C, D, E]
    ours, theirs = ([A] + [pool[k] for k in random.integers(0, 5, random.integers(1, 14))] for _ in range(2))
    ours, theirs = (
        [s for s, before in zip(states, [None, *states], strict=False) if s != before]
        for states in (ours, theirs)
    )
    common = np.zeros((len(ours) + 1, len(theirs) + 1), int)
    for i, mine in enumerate(ours):
        for j, other in enumerate(theirs):
            common[i + 1, j + 1] = (
                common[i, j] + 1 if mine == other else max(common[i, j + 1], common[i + 1, j])
            )
    edits = len(ours) + np.arange(len(theirs) + 1) - 2 * common[-1]
    best = edits.min()
    assert compare(ours, theirs).equal in {int(common[-1, j]) for j in np.flatnonzero(edits == best)}


def test_it_finds_at_least_what_difflib_finds(compare):
    random = np.random.default_rng(3)
    theirs = [(100 + int(k), 1, 200, 1) for k in random.integers(0, 50, 2_000)]
    ours = [state for index, state in enumerate(theirs[:1_500]) if index % 97 or index == 0]
    agreement = compare(ours, theirs)
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    assert agreement.equal >= agreement.aligned - 40
    assert agreement.equal >= sum(block.size for block in blocks) - 40


def test_books_of_another_day_are_refused(compare):
    ours = [A, *((k, 1, 2 * k, 1) for k in range(1_000, 22_000))]
    theirs = [A, *((k, 2, 2 * k, 1) for k in range(1_000, 22_000))]
    with pytest.raises(UserError, match="another symbol or day"):
        compare(ours, theirs)


def test_the_first_level_of_a_deeper_file_is_read(tmp_path: Path):
    path = tmp_path / "orderbook_2.csv.gz"
    path.write_bytes(gzip.compress(b"201,7,101,20,202,1,100,1\n201,8,101,20,9999999999,0,-9999999999,0\n"))
    assert read_level_one(str(path)).tolist() == [[101, 20, 201, 7], [101, 20, 201, 8]]


@pytest.mark.parametrize(
    "text", ["1,2,3\n", "1,2,3,x\n", "1,2,3,4\n1,2,3\n", "\n", "1,2,3,99999999999999999999999\n"]
)
def test_other_files_are_refused(tmp_path: Path, text):
    path = tmp_path / "orderbook_1.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="order book file"):
        read_level_one(str(path))
