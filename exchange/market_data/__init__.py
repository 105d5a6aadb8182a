"""The market-data layer: what the world may know of the books, made from the events and nothing else.

* :mod:`~exchange.market_data.top_of_book` - a subscriber's book: the best prices, built from events
"""
