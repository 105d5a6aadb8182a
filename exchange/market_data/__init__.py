"""The market-data layer: what the world may know of the books, made from the events and nothing else.

=========================================================== ==========================================================
module                                                      what it is
=========================================================== ==========================================================
:mod:`~exchange.market_data.feed_book`                      the books of an ITCH 5.0 feed, compiled; their questions
:mod:`~exchange.market_data.plain_feed_book`                the same in plain Python
:mod:`~exchange.market_data.feed_file`                      the file of a day, read into a book or made from a flow
:mod:`~exchange.market_data.subscriber`                     MoldUDP64 datagrams into a book, in order and without gaps
:mod:`~exchange.market_data.missing`                        what a subscriber lacks, and when it asks for what
:mod:`~exchange.market_data.snapshot`                       what a book holds, for who joins late
:mod:`~exchange.market_data.publisher`                      the exchange's own feed, from its events
:mod:`~exchange.market_data.plain_publisher`                the same in plain Python
:mod:`~exchange.market_data.datagram_store`                 the numbered messages, sent live and sent again
:mod:`~exchange.market_data.displayed`                      a publisher's displayed orders, out of its book and back in
:mod:`~exchange.market_data.first_spin`                     what a GLIMPSE server begins with after a restart
:mod:`~exchange.market_data.feed_server`                    the feed of a served exchange: its day, its socket, requests
:mod:`~exchange.market_data.feed_sender`                    from the store into the socket, compiled
:mod:`~exchange.market_data.request_limits`                 what one requester may have sent again
:mod:`~exchange.market_data.feed_receiver`                  a subscriber with sockets
:mod:`~exchange.market_data.glimpse_client`                 getting a snapshot while the feed goes on
:mod:`~exchange.market_data.glimpse_server`                 a subscriber that serves snapshots
:mod:`~exchange.market_data.glimpse_process`                that server beside an exchange, as a process
:mod:`~exchange.market_data.top_of_book`                    best prices from events, by which a replay is judged
=========================================================== ==========================================================
"""
