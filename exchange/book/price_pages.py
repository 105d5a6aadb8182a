"""Which prices have orders, for any price and at a cost that does not depend on how many there are.

A side's prices, as keys, are cut into *pages* of 64. A page's word ``OCCUPIED`` has a bit for each price that
has orders: the best of them is one count of leading zeros away. Pages are found through a hash table by their
number (key / 64).

When a page runs empty, which page holds the next best price? Above the pages stand *summaries*: one word says
which of 64 neighbouring pages exist, one above it which of those words exist, and so on, up to a height that
covers the whole price band (5 for the default band of 2**36 prices). Going up until a lower bit is found and
down again along the highest bits finds the next page in at most twice that many steps, whether it is one tick
away or a billion. This is the van Emde Boas idea (1975) with 64-way nodes kept in a hash table, as in
Willard's x-fast trie (1983).

In a normal market the touch moves within one page and nothing but its word is read.
"""

from exchange.book.ladder_memory import (
    EMPTY,
    FREE_PAGE,
    FRESH_PAGE,
    GOLDEN_RATIO,
    LEVEL_SHIFT,
    NEXT,
    OCCUPIED,
    PAGE_NEXT_FREE,
    PAGE_NUMBER,
    PAGE_SHIFT,
    PAGE_SIDE,
    PREVIOUS,
    SLOT_MASK,
    SUMMARY_BITS,
    SUMMARY_NUMBER,
    SUMMARY_SHIFT,
    SUMMARY_TAG,
    LadderBook,
    link_of_level,
    mix,
)
from exchange.native import (
    add_wrapping,
    count_leading_zeros,
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint32,
    multiply_wrapping,
    shift_left_wrapping,
    shift_right_logical,
    store_int64,
    store_uint32,
)

NO_PAGE = -1


@inlined
def page_address(book: LadderBook, page: int) -> int:
    """Where a page's word stands."""
    return book.pages + (page << PAGE_SHIFT)


@inlined
def highest(bits: int) -> int:
    """The number of the highest set bit of a word that is not zero."""
    return 63 - count_leading_zeros(bits)


@inlined
def bits_below(bits: int, position: int) -> int:
    """The word without bit ``position`` and all above it."""
    return bits & add_wrapping(shift_left_wrapping(1, position), -1)


@inlined
def find_page(book: LadderBook, side_id: int, number: int) -> int:
    """The page of a side that holds the keys from 64 * number on, or ``NO_PAGE``."""
    mask = shift_right_logical(-1, book.page_hash_shift)
    slot = shift_right_logical(mix(number, side_id), book.page_hash_shift)
    while True:
        page = load_uint32(book.page_slots + (slot << 2)) - 1
        if page == NO_PAGE:
            return NO_PAGE
        address = page_address(book, page)
        if likely(load_int64(address + PAGE_NUMBER) == number) and load_int64(address + PAGE_SIDE) == side_id:
            return page
        slot = (slot + 1) & mask


@kernel
def make_page(book: LadderBook, side_id: int, number: int) -> int:
    """A new, empty page, entered in the hash table and in the summaries."""
    page = load_int64(book.header + FREE_PAGE) - 1
    if page != NO_PAGE:
        store_int64(book.header + FREE_PAGE, load_int64(page_address(book, page) + PAGE_NEXT_FREE))
    else:
        page = load_int64(book.header + FRESH_PAGE)
        store_int64(book.header + FRESH_PAGE, page + 1)
        # Each level is a circle of itself; a level that runs empty is one again, so this is done once for a page.
        for slot in range(64):
            link = link_of_level(book, page, slot)
            level = book.levels + (((page << 6) + slot) << LEVEL_SHIFT)
            store_uint32(level + NEXT, link)
            store_uint32(level + PREVIOUS, link)
    address = page_address(book, page)
    store_int64(address + OCCUPIED, 0)
    store_int64(address + PAGE_NUMBER, number)
    store_int64(address + PAGE_SIDE, side_id)
    mask = shift_right_logical(-1, book.page_hash_shift)
    slot = shift_right_logical(mix(number, side_id), book.page_hash_shift)
    while load_uint32(book.page_slots + (slot << 2)) != 0:
        slot = (slot + 1) & mask
    store_uint32(book.page_slots + (slot << 2), page + 1)
    _add_to_summaries(book, side_id, number)
    return page


@kernel
def release_page(book: LadderBook, page: int) -> None:
    """Take an empty page out of the hash table and the summaries and give it back to the pool."""
    address = page_address(book, page)
    side_id, number = load_int64(address + PAGE_SIDE), load_int64(address + PAGE_NUMBER)
    mask = shift_right_logical(-1, book.page_hash_shift)
    gap = shift_right_logical(mix(number, side_id), book.page_hash_shift)
    while load_uint32(book.page_slots + (gap << 2)) != page + 1:
        gap = (gap + 1) & mask
    following = (gap + 1) & mask
    entry = load_uint32(book.page_slots + (following << 2))
    while entry != 0:
        member = page_address(book, entry - 1)
        mixed = mix(load_int64(member + PAGE_NUMBER), load_int64(member + PAGE_SIDE))
        home = shift_right_logical(mixed, book.page_hash_shift)
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_uint32(book.page_slots + (gap << 2), entry)
            gap = following
        following = (following + 1) & mask
        entry = load_uint32(book.page_slots + (following << 2))
    store_uint32(book.page_slots + (gap << 2), 0)
    store_int64(address + PAGE_NEXT_FREE, load_int64(book.header + FREE_PAGE))
    store_int64(book.header + FREE_PAGE, page + 1)
    _remove_from_summaries(book, side_id, number)


@inlined
def next_best_key(book: LadderBook, side_id: int, key: int) -> int:
    """The best key below ``key`` that has orders, or ``EMPTY``."""
    page = find_page(book, side_id, key >> 6)
    if page != NO_PAGE:
        bits = bits_below(load_int64(page_address(book, page) + OCCUPIED), key & SLOT_MASK)
        if likely(bits != 0):
            return (key & ~SLOT_MASK) + highest(bits)
    return _best_key_below_page(book, side_id, key >> 6)


@kernel
def _best_key_below_page(book: LadderBook, side_id: int, number: int) -> int:
    """The best key of the next lower page, or ``EMPTY``: up to the first lower bit, then down along the highest."""
    for height in range(1, book.summary_height + 1):
        slot = _find_summary(book, _tag(side_id, height), number >> (6 * height))
        bits = load_int64(slot + SUMMARY_BITS)
        if load_int64(slot + SUMMARY_TAG) != 0:
            bits = bits_below(bits, (number >> (6 * (height - 1))) & SLOT_MASK)
            if bits != 0:
                lower = ((number >> (6 * height)) << 6) + highest(bits)
                for down in range(height - 1, 0, -1):
                    slot = _find_summary(book, _tag(side_id, down), lower)
                    lower = (lower << 6) + highest(load_int64(slot + SUMMARY_BITS))
                page = find_page(book, side_id, lower)
                return (lower << 6) + highest(load_int64(page_address(book, page) + OCCUPIED))
    return EMPTY


@inlined
def _tag(side_id: int, height: int) -> int:
    """What a summary belongs to; never zero, which marks a free slot."""
    return (side_id << 4) + height


@inlined
def _summary_home(book: LadderBook, tag: int, number: int) -> int:
    mixed = multiply_wrapping(add_wrapping(mix(number, 0), tag), GOLDEN_RATIO)
    return shift_right_logical(mixed, book.summary_hash_shift)


@inlined
def _find_summary(book: LadderBook, tag: int, number: int) -> int:
    """The slot's address of a summary; a free slot (tag 0, no bits) if it does not exist."""
    mask = shift_right_logical(-1, book.summary_hash_shift)
    index = _summary_home(book, tag, number)
    while True:
        slot = book.summaries + (index << SUMMARY_SHIFT)
        found = load_int64(slot + SUMMARY_TAG)
        if found == 0 or (found == tag and load_int64(slot + SUMMARY_NUMBER) == number):
            return slot
        index = (index + 1) & mask


@kernel
def _add_to_summaries(book: LadderBook, side_id: int, number: int) -> None:
    for height in range(1, book.summary_height + 1):
        slot = _find_summary(book, _tag(side_id, height), number >> (6 * height))
        bits = load_int64(slot + SUMMARY_BITS)
        bit = shift_left_wrapping(1, (number >> (6 * (height - 1))) & SLOT_MASK)
        store_int64(slot + SUMMARY_BITS, bits | bit)
        store_int64(slot + SUMMARY_NUMBER, number >> (6 * height))
        store_int64(slot + SUMMARY_TAG, _tag(side_id, height))
        if bits != 0:
            return  # the summaries above know already that this one exists


@kernel
def _remove_from_summaries(book: LadderBook, side_id: int, number: int) -> None:
    for height in range(1, book.summary_height + 1):
        slot = _find_summary(book, _tag(side_id, height), number >> (6 * height))
        bit = shift_left_wrapping(1, (number >> (6 * (height - 1))) & SLOT_MASK)
        bits = load_int64(slot + SUMMARY_BITS) & ~bit
        store_int64(slot + SUMMARY_BITS, bits)
        if bits != 0:
            return
        _free_summary(book, slot)


@inlined
def _free_summary(book: LadderBook, slot: int) -> None:
    """Empty a slot and close the gap in its run."""
    mask = shift_right_logical(-1, book.summary_hash_shift)
    gap = (slot - book.summaries) >> SUMMARY_SHIFT
    following = (gap + 1) & mask
    source = book.summaries + (following << SUMMARY_SHIFT)
    while load_int64(source + SUMMARY_TAG) != 0:
        home = _summary_home(book, load_int64(source + SUMMARY_TAG), load_int64(source + SUMMARY_NUMBER))
        if ((following - home) & mask) >= ((following - gap) & mask):
            target = book.summaries + (gap << SUMMARY_SHIFT)
            store_int64(target + SUMMARY_BITS, load_int64(source + SUMMARY_BITS))
            store_int64(target + SUMMARY_NUMBER, load_int64(source + SUMMARY_NUMBER))
            store_int64(target + SUMMARY_TAG, load_int64(source + SUMMARY_TAG))
            gap = following
        following = (following + 1) & mask
        source = book.summaries + (following << SUMMARY_SHIFT)
    target = book.summaries + (gap << SUMMARY_SHIFT)
    store_int64(target + SUMMARY_BITS, 0)
    store_int64(target + SUMMARY_TAG, 0)
