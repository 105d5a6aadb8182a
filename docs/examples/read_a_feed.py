"""The best prices at the end of an ITCH 5.0 file: ``python docs/examples/read_a_feed.py FILE [SYMBOL ...]``."""

import sys

from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_file import read_day


def best_prices(path: str, symbols: list[str]) -> None:
    """Read a day and print a line for each symbol; no symbols means all of them."""
    book = FeedBook(symbols)
    read_day(path, book)
    for number, name in enumerate(book.symbols):
        top = book.top(number)
        bid, ask = top.bid_price_ticks / 10_000, top.ask_price_ticks / 10_000
        print(f"{name:8} {top.bid_quantity_lots:>8} x {bid:.4f}   {ask:.4f} x {top.ask_quantity_lots}")
    print(book.counts())


if __name__ == "__main__":
    best_prices(sys.argv[1], sys.argv[2:])
