"""Which prices have orders, for any price and at a cost that does not depend on how many there are.

A side's prices, as keys, are cut into *rows* of 64, and 64 rows make a *page*: 4,096 prices. A page has one word
for each row, in which each price that has orders has a bit, and one word that says which rows have any. So the
best price of a page is two counts of leading zeros away. The levels themselves stand with their row, which is
made when its first order comes.

Above the pages stand *inner nodes*: one says which of 64 neighbouring pages have orders, one above it which of 64
such nodes have any, and so on up to a root that covers the whole price band (4 heights for the default band of
2**36 prices). Going up until a lower bit is found and down again along the highest bits finds the next best price
in at most twice that many steps, whether it is a page away or a billion ticks. This is the van Emde Boas idea
(1975) with 64-way nodes; as in Willard's x-fast trie (1983) a node is found by its number through a hash table.

What keeps it quick:

* Each side remembers the eight pages that were found last in a *window*, a table indexed by the last bits of a
  page's number. In a market that stays within 32,768 ticks this is where every page is found.
* Rows and pages that run empty stay where they are, with no bits. An order at a price where there was one before
  finds its level, and nothing is made or taken apart while a thin market flickers.
* Setting a price's bit sets its row's bit in the page as well, whether it was set or not, and clearing it does
  likewise: two stores cost less than a branch that nobody can foretell.
* Above the page, a bit is set when the first order comes and stays when the last one goes. The search clears it
  when it meets a node without bits. So each clearing is paid for by a setting, and most are never needed.
* A side's best price is not looked for when it goes, only when somebody asks: until then there is a bound, and
  nearly every new order can be seen not to reach even that. When the orders at the bound go, a second bound, of all
  the others, takes its place: the best price that came for a moment and went has left the old one behind.

Empty rows are used again, the next around the *clock hand* (Corbató 1968), when there are more than ``SPARE_ROWS``
and four times the orders. A page goes with its last row, an inner node with its last child.

``page`` and ``node`` are addresses here; where memory holds one it is a *handle*, the distance from the first node
in units of 32 bytes, and handle 0 is a node that has no number, so that looking at it answers "not this one"."""

from exchange.book.ladder_memory import (
    BEST_BOUND,
    BITS,
    CAPACITY_ROWS,
    CHILDREN,
    CLOCK_HAND,
    EMPTY,
    FREE_INNER,
    FREE_PAGE,
    FRESH_INNER,
    FRESH_PAGE,
    FRESH_ROW,
    HEIGHT_BITS,
    HEIGHT_MASK,
    INNER_BYTES,
    LEVEL_LINK_SHIFT,
    LEVELS_LINK,
    LISTED,
    LIVE_ORDERS,
    NEXT,
    NODE_HASH_SHIFT,
    NODE_SLOTS,
    NODE_SLOTS_MASK,
    NOTHING,
    NUMBER,
    PAGE_BYTES,
    PAGE_SHIFT,
    PARENT,
    PREVIOUS,
    ROW_BITS,
    ROW_KEY,
    ROW_LINK_SHIFT,
    ROW_LINKS,
    ROW_PAGE,
    ROW_PLACE,
    ROW_SHIFT,
    SECOND_BOUND,
    SLOT_MASK,
    SPARE_ROWS,
    TAG,
    TREE_HEIGHT,
    WINDOW,
    WINDOW_MASK,
    LadderBook,
    address_of_handle,
    address_of_link,
    handle_of,
    mix,
    row_of_level,
    side_address,
    side_id_at,
    word,
)
from exchange.native import (
    add_wrapping,
    choose,
    count_leading_zeros,
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint32,
    prefetch_for_write,
    shift_left_wrapping,
    shift_right_logical,
    store_int64,
    store_uint32,
    unlikely,
)


@inlined
def bit(position: int) -> int:
    """The word with one bit set; only the lower six bits of ``position`` count."""
    return shift_left_wrapping(1, position & SLOT_MASK)


@inlined
def highest(bits: int) -> int:
    """The number of the highest set bit of a word that is not zero."""
    return 63 - count_leading_zeros(bits)


@inlined
def _bits_below(bits: int, position: int) -> int:
    """The word without bit ``position`` and all above it."""
    return bits & add_wrapping(bit(position), -1)


@inlined
def row_bits_address(page: int, row: int) -> int:
    """Where a page keeps which prices of a row (0 to 63) have orders."""
    return page + ROW_BITS + (row << 3)


@inlined
def row_link_address(page: int, key: int) -> int:
    """Where a page keeps the link of the first level of a key's row; ``NOTHING`` stands there if there is no row."""
    return page + ROW_LINKS + (((key >> ROW_SHIFT) & SLOT_MASK) << 2)


@inlined
def window_entry(side: int, number: int) -> int:
    """Where a side remembers the page of that number, or one whose number is a multiple of 8 away."""
    return side + WINDOW + ((number & WINDOW_MASK) << 2)


@inlined
def find_page(book: LadderBook, side_id: int, key: int) -> int:
    """The page of a side that holds ``key``, or ``NOTHING``."""
    number = key >> PAGE_SHIFT
    page = address_of_handle(book, load_uint32(window_entry(side_address(book, side_id), number)))
    if likely(load_int64(page + NUMBER) == number):
        return page
    return _recall_page(book, side_id, number)


@inlined
def prefetch_level(book: LadderBook, side_id: int, key: int) -> None:
    """Bring the level of a price nearer, if the side remembers its page; ``side_id`` must exist, ``key`` need not."""
    page = address_of_handle(book, load_uint32(window_entry(side_address(book, side_id), key >> PAGE_SHIFT)))
    prefetch_for_write(address_of_link(book, level_of_key(page, key)))


@kernel
def _recall_page(book: LadderBook, side_id: int, number: int) -> int:
    """A page from the hash table, or ``NOTHING``; the side's window remembers it from now on."""
    page = find_node(book, tag_of(side_id, 0), number)
    if page != NOTHING:
        store_uint32(window_entry(side_address(book, side_id), number), handle_of(book, page))
    return page


@inlined
def level_of_key(page: int, key: int) -> int:
    """The link of a price's level, whose row exists."""
    return load_uint32(row_link_address(page, key)) + ((key & SLOT_MASK) << LEVEL_LINK_SHIFT)


@inlined
def find_or_make_page(book: LadderBook, side: int, key: int) -> int:
    """The page that holds ``key``, of the side whose state stands at ``side``."""
    number = key >> PAGE_SHIFT
    page = address_of_handle(book, load_uint32(window_entry(side, number)))
    if unlikely(load_int64(page + NUMBER) != number):
        page = _recall_or_make_page(book, side_id_at(book, side), key)
    return page


@inlined
def find_or_make_level(book: LadderBook, side: int, page: int, key: int) -> int:
    """The link of a price's level, in a page that holds its key."""
    if unlikely(load_uint32(row_link_address(page, key)) == NOTHING):
        _make_row(book, side_id_at(book, side), page, key)
    return level_of_key(page, key)


@kernel
def _recall_or_make_page(book: LadderBook, side_id: int, key: int) -> int:
    page = _recall_page(book, side_id, key >> PAGE_SHIFT)
    return page if page != NOTHING else _make_page(book, side_id, key)


@inlined
def occupy_price(book: LadderBook, page: int, key: int) -> None:
    """A price has orders now, perhaps it had some before."""
    row_bits = row_bits_address(page, (key >> ROW_SHIFT) & SLOT_MASK)
    store_int64(row_bits, load_int64(row_bits) | bit(key))
    store_int64(page + BITS, load_int64(page + BITS) | bit(key >> ROW_SHIFT))
    if unlikely(load_uint32(page + LISTED) == 0):
        _list_in_parents(book, page)


@kernel
def _list_in_parents(book: LadderBook, node: int) -> None:
    """Set the node's bit in its parent, and so on as far as it is not set yet."""
    while load_uint32(node + LISTED) == 0:
        store_uint32(node + LISTED, 1)
        number = load_int64(node + NUMBER)
        node = address_of_handle(book, load_uint32(node + PARENT))
        store_int64(node + BITS, load_int64(node + BITS) | bit(number))


@inlined
def vacate_price(page: int, key: int) -> None:
    """A price has no orders any more."""
    row = (key >> ROW_SHIFT) & SLOT_MASK
    row_bits = row_bits_address(page, row)
    bits = load_int64(row_bits) & ~bit(key)
    store_int64(row_bits, bits)
    store_int64(page + BITS, load_int64(page + BITS) & ~shift_left_wrapping(int(bits == 0), row))


@inlined
def _best_key_of_page(page: int, rows: int) -> int:
    """The best key of a page among some of its rows, a word that is not zero."""
    row = highest(rows)
    best = highest(load_int64(row_bits_address(page, row)))
    return (load_int64(page + NUMBER) << PAGE_SHIFT) + (row << ROW_SHIFT) + best


@inlined
def raise_bounds(side: int, key: int) -> None:
    """An order at ``key`` has come."""
    bound = load_int64(side + BEST_BOUND)
    lower = EMPTY if key == bound else min(key, bound)
    store_int64(side + SECOND_BOUND, max(load_int64(side + SECOND_BOUND), lower))
    store_int64(side + BEST_BOUND, max(bound, key))


@inlined
def lower_bounds(side: int, key: int) -> None:
    """The last order at ``key`` has gone."""
    bound = load_int64(side + BEST_BOUND)
    store_int64(side + BEST_BOUND, choose(key == bound, load_int64(side + SECOND_BOUND), bound))


@inlined
def best_key(book: LadderBook, side_id: int) -> int:
    """The best key of a side, or ``EMPTY``; the side's bound is exact from now on."""
    side = side_address(book, side_id)
    bound = load_int64(side + BEST_BOUND)
    if bound == EMPTY:
        return EMPTY
    page = find_page(book, side_id, bound)
    rows = load_int64(page + BITS) if likely(page != NOTHING) else 0
    best = _best_key_of_page(page, rows) if likely(rows != 0) else _best_key_elsewhere(book, side_id, page)
    store_int64(side + BEST_BOUND, best)
    store_int64(side + SECOND_BOUND, min(load_int64(side + SECOND_BOUND), best))
    return best


@kernel
def _best_key_elsewhere(book: LadderBook, side_id: int, page: int) -> int:
    """The best key of a side that is not in the page of its bound, if there still is one."""
    if page != NOTHING:
        return _best_key_from(book, page, 0)
    # That page's last row has been released since then: down from the root.
    root = find_node(book, tag_of(side_id, word(book, TREE_HEIGHT)), 0)
    return EMPTY if root == NOTHING else _best_key_from(book, root, load_int64(root + BITS))


@kernel
def next_best_key(book: LadderBook, side_id: int, key: int) -> int:
    """The best key below ``key`` that has orders, or ``EMPTY``; ``key`` itself has orders."""
    page = find_page(book, side_id, key)
    row = (key >> ROW_SHIFT) & SLOT_MASK
    bits = _bits_below(load_int64(row_bits_address(page, row)), key)
    if bits != 0:
        return (key & ~SLOT_MASK) + highest(bits)
    return _best_key_from(book, page, _bits_below(load_int64(page + BITS), row))


@kernel
def _best_key_from(book: LadderBook, node: int, bits: int) -> int:
    """The best key below a node's children ``bits`` or, if there are none, below all lower nodes; or ``EMPTY``.

    Up to the first node that has a lower bit, then down along the highest bits; bits of nodes that have run empty are
    cleared on the way.
    """
    side_id = load_uint32(node + TAG) >> HEIGHT_BITS
    height = load_uint32(node + TAG) & HEIGHT_MASK
    while height > 0 or bits == 0:
        number = load_int64(node + NUMBER)
        if bits == 0:
            if height == word(book, TREE_HEIGHT):
                return EMPTY
            node = address_of_handle(book, load_uint32(node + PARENT))
            height += 1
            bits = _bits_below(load_int64(node + BITS), number)
            continue
        best = highest(bits)
        number = (number << 6) + best
        if height == 1:
            child = find_page(book, side_id, number << PAGE_SHIFT)
        else:
            child = find_node(book, tag_of(side_id, height - 1), number)
        if load_int64(child + BITS) == 0:
            store_uint32(child + LISTED, 0)
            store_int64(node + BITS, load_int64(node + BITS) & ~bit(best))
            bits &= ~bit(best)
        else:
            node, bits = child, load_int64(child + BITS)
            height -= 1
    return _best_key_of_page(node, bits)


# Making and releasing: seldom, and the same for pages and inner nodes.


@inlined
def tag_of(side_id: int, height: int) -> int:
    """What a node belongs to: a side, and the height above its pages."""
    return (side_id << HEIGHT_BITS) + height


@inlined
def _home(book: LadderBook, tag: int, number: int) -> int:
    """The slot where the search for a node begins."""
    return shift_right_logical(mix(number, tag), word(book, NODE_HASH_SHIFT))


@inlined
def _slot_address(book: LadderBook, slot: int) -> int:
    return word(book, NODE_SLOTS) + (slot << 2)


@inlined
def find_node(book: LadderBook, tag: int, number: int) -> int:
    """The node of that tag and number, or ``NOTHING``."""
    slot = _home(book, tag, number)
    while True:
        handle = load_uint32(_slot_address(book, slot))
        if handle == NOTHING:
            return NOTHING
        node = address_of_handle(book, handle)
        if likely(load_int64(node + NUMBER) == number) and load_uint32(node + TAG) == tag:
            return node
        slot = (slot + 1) & word(book, NODE_SLOTS_MASK)


@kernel
def _make_page(book: LadderBook, side_id: int, key: int) -> int:
    """A page for ``key``, which has none yet, and the nodes above it that are missing."""
    number = key >> PAGE_SHIFT
    page = _take_node(book, FREE_PAGE, FRESH_PAGE, PAGE_BYTES)
    _enter(book, page, tag_of(side_id, 0), number)
    store_uint32(window_entry(side_address(book, side_id), number), handle_of(book, page))
    child = page
    for height in range(1, word(book, TREE_HEIGHT) + 1):
        number >>= 6
        tag = tag_of(side_id, height)
        parent = find_node(book, tag, number)
        is_new = parent == NOTHING
        if is_new:
            parent = _take_node(book, FREE_INNER, FRESH_INNER, INNER_BYTES)
            _enter(book, parent, tag, number)
        store_uint32(child + PARENT, handle_of(book, parent))
        store_uint32(parent + CHILDREN, load_uint32(parent + CHILDREN) + 1)
        if not is_new:
            break
        child = parent
    return page


@kernel
def _make_row(book: LadderBook, side_id: int, page: int, key: int) -> None:
    """The levels of a key's row, in its page."""
    store_int64(
        page + CHILDREN, load_int64(page + CHILDREN) + 1
    )  # before anything is released: the page stays
    levels = _take_row(book)
    row, place = row_of_level(book, levels), (key >> ROW_SHIFT) & SLOT_MASK
    store_int64(row + ROW_KEY, key & ~SLOT_MASK)
    store_uint32(row + ROW_PAGE, handle_of(book, page))
    store_uint32(row + ROW_PLACE, (side_id << ROW_SHIFT) + place)
    store_uint32(row_link_address(page, key), levels)


@inlined
def _levels_of_row(book: LadderBook, number: int) -> int:
    """The link of the first level of the row that came out of the pool as number ``number``."""
    return word(book, LEVELS_LINK) + (number << ROW_LINK_SHIFT)


@inlined
def _take_row(book: LadderBook) -> int:
    """The levels of a row that was never used, or of an empty one, which then leaves its page."""
    fresh = word(book, FRESH_ROW)
    wanted = word(book, SPARE_ROWS) + 4 * word(book, LIVE_ORDERS)
    if fresh < min(wanted, word(book, CAPACITY_ROWS)):
        store_int64(book.base + FRESH_ROW, fresh + 1)
        levels = _levels_of_row(book, fresh)
        # a level is a circle of itself; when it runs empty it is one again
        for link in range(levels, levels + (1 << ROW_LINK_SHIFT), 1 << LEVEL_LINK_SHIFT):
            store_uint32(address_of_link(book, link) + NEXT, link)
            store_uint32(address_of_link(book, link) + PREVIOUS, link)
        return levels
    number = word(book, CLOCK_HAND)
    while _bits_of_row(book, row_of_level(book, _levels_of_row(book, number))) != 0:
        number = number + 1 if number + 1 < fresh else 0
    store_int64(book.base + CLOCK_HAND, number + 1 if number + 1 < fresh else 0)
    levels = _levels_of_row(book, number)
    _release_row(book, row_of_level(book, levels))
    return levels


@inlined
def _bits_of_row(book: LadderBook, row: int) -> int:
    page = address_of_handle(book, load_uint32(row + ROW_PAGE))
    return load_int64(row_bits_address(page, load_uint32(row + ROW_PLACE) & SLOT_MASK))


@kernel
def _release_row(book: LadderBook, row: int) -> None:
    """Take an empty row out of its page, and the nodes above it that have no other child out of the tree."""
    place = load_uint32(row + ROW_PLACE)
    node = address_of_handle(book, load_uint32(row + ROW_PAGE))
    store_uint32(node + ROW_LINKS + ((place & SLOT_MASK) << 2), NOTHING)
    entry = window_entry(side_address(book, place >> ROW_SHIFT), load_int64(node + NUMBER))
    for height in range(word(book, TREE_HEIGHT) + 1):
        children = load_uint32(node + CHILDREN) - 1
        store_uint32(node + CHILDREN, children)
        if children != 0:
            return
        _remove(book, node)
        parent, number = address_of_handle(book, load_uint32(node + PARENT)), load_int64(node + NUMBER)
        if height == 0 and load_uint32(entry) == handle_of(book, node):
            store_uint32(entry, NOTHING)
        _give_node(book, FREE_PAGE if height == 0 else FREE_INNER, node)
        if height < word(book, TREE_HEIGHT):
            store_int64(parent + BITS, load_int64(parent + BITS) & ~bit(number))
        node = parent


@inlined
def _take_node(book: LadderBook, free: int, fresh: int, size_bytes: int) -> int:
    """A node from a pool: the one given back last, or one never used. Free ones are chained through ``PARENT``."""
    handle = word(book, free)
    if handle != NOTHING:
        store_int64(book.base + free, load_uint32(address_of_handle(book, handle) + PARENT))
        return address_of_handle(book, handle)
    node = word(book, fresh)
    store_int64(book.base + fresh, node + size_bytes)
    return node


@inlined
def _give_node(book: LadderBook, free: int, node: int) -> None:
    store_int64(node + NUMBER, -1)
    store_uint32(node + PARENT, word(book, free))
    store_int64(book.base + free, handle_of(book, node))


@inlined
def _enter(book: LadderBook, node: int, tag: int, number: int) -> None:
    """Begin a node without bits and without children, and put it into the hash table."""
    store_int64(node + BITS, 0)
    store_int64(node + NUMBER, number)
    store_uint32(node + TAG, tag)
    store_uint32(node + CHILDREN, 0)
    store_uint32(node + LISTED, int(tag & HEIGHT_MASK == word(book, TREE_HEIGHT)))
    slot = _home(book, tag, number)
    while load_uint32(_slot_address(book, slot)) != NOTHING:
        slot = (slot + 1) & word(book, NODE_SLOTS_MASK)
    store_uint32(_slot_address(book, slot), handle_of(book, node))


@kernel
def _remove(book: LadderBook, node: int) -> None:
    """Take a node out of the hash table and close the gap, as :func:`exchange.book.id_index.remove_id` does."""
    mask = word(book, NODE_SLOTS_MASK)
    gap = _home(book, load_uint32(node + TAG), load_int64(node + NUMBER))
    while load_uint32(_slot_address(book, gap)) != handle_of(book, node):
        gap = (gap + 1) & mask
    following = (gap + 1) & mask
    handle = load_uint32(_slot_address(book, following))
    while handle != NOTHING:
        member = address_of_handle(book, handle)
        home = _home(book, load_uint32(member + TAG), load_int64(member + NUMBER))
        if ((following - home) & mask) >= ((following - gap) & mask):
            store_uint32(_slot_address(book, gap), handle)
            gap = following
        following = (following + 1) & mask
        handle = load_uint32(_slot_address(book, following))
    store_uint32(_slot_address(book, gap), NOTHING)
