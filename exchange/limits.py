"""Every bound of the system, each with its reason.

Nothing in the exchange grows without end: memory is laid out before the first command and running out is an
answer (a reject, back-pressure), never a crash. The bounds stand here, in one place, because a bound that is
only implied by a constant somewhere in a loop cannot be questioned.

Rules: a layer that checks a bound imports it from here; the settings (:mod:`exchange.settings`) refuse values
outside; a bound is changed together with its reason. Those that follow from the records of
:mod:`exchange.messages` are held against them by ``tests/unit/test_settings.py``.
"""

from typing import Final

# What the 64-byte records can carry.

SYMBOLS_MAX: Final = 0xFFFF
"""``symbol_id`` has 16 bits and its last value, 0xFFFF, means "every symbol" in a mass cancel."""

SESSIONS_MAX: Final = 1 << 16
"""``session_id`` has 16 bits."""

QUANTITY_LOTS_MAX: Final = (1 << 32) - 1
"""``quantity_lots`` has 32 bits; zero is refused, so every order has from 1 to this many lots."""

PRICE_TICKS_LOWEST: Final = -(1 << 60)
PRICE_TICKS_HIGHEST: Final = 1 << 60
"""The widest price band that a book can be given: any price of any market, negative ones (spreads, power) included,
with room to add and subtract two of them in 64 bits."""

PRICE_TICKS_MIN: Final = 1
"""Default of a band's lower end. Zero is what a market order carries in the price field, and a forgotten field; no
order rests there unless a profile says so."""

PRICE_TICKS_MAX: Final = (1 << 36) - 1
"""Default of a band's upper end. A page of 4,096 prices under four heights of 64-way nodes covers 36 bits. At
NASDAQ's tick of 1/10,000 dollar that is over 6.8 million dollars, more than any share has cost."""

# Queues.

QUEUE_CAPACITY_SLOTS_MIN: Final = 2
"""One slot could not tell full from empty. Two are of use to tests: every second push wraps."""

QUEUE_CAPACITY_SLOTS_MAX: Final = 1 << 24
"""One GiB of 64-byte records in one ring. A queue that deep hides an overload for seconds instead of
reporting it."""

QUEUE_MEMORY_BYTES_MAX: Final = 1 << 36
"""64 GiB for all queues together: beyond it the numbers of shards, lanes and slots were hardly meant as they
stand, and a clear refusal is better than the kernel's out-of-memory killer."""

INGRESS_LANES_MAX: Final = 16
"""A lane is a producer of commands with a ring of its own into every shard, and each poll of a shard looks at
every lane: cost grows with lanes times shards, and 16 producers outrun any number of shards that they could
feed."""

# Shards.

SHARDS_MAX: Final = 64
"""A shard wants a core. 64 is a large socket, and a set of shards fits the bits of one word."""

BATCH_COMMANDS_MAX: Final = 4096
"""256 KiB of commands: a batch is to stay in the core's second-level cache, and the longest batch is the
longest time that a stop request waits."""

# Books.

BOOK_CAPACITY_ORDERS_MAX: Final = 15_000_000
"""The ladder book's links have 32 bits and count units of 8 bytes, so they reach 32 GiB; in the worst case, each
order alone in its row of 64 price levels and in its page, an order takes up to 2,282 bytes of that."""

# Idle strategies.

IDLE_SPINS_MAX: Final = 1_000_000
"""At some nanoseconds a spin that is milliseconds: who wants to spin longer wants ``busy-spin``."""

PARK_NS_MIN: Final = 1_000
"""A system call costs about this much. Linux adds its timer slack (50 microseconds by default) to every
sleep, so that asking for less than that gets little less."""

PARK_NS_MAX: Final = 100_000_000
"""0.1 s: every thread must see the stop flag within a second of Ctrl-C, with room for a loaded machine."""

WAKE_NS_MIN: Final = 1_000_000
"""A millisecond, the unit in which epoll_wait counts."""

# Order flow.

FLOW_SYMBOLS_MAX: Final = 1 << 13
"""The synthetic model draws a symbol with 16 bits. By Zipf's law the last of 8,192 symbols has 0.8 of these 65,536
chances; of twice as many symbols most of the lower half would never trade. The model's own book takes 64 KiB for each
symbol, half a GiB for all."""

# The network.

PORT_MAX: Final = (1 << 16) - 1
"""A TCP port has 16 bits."""

INTERFACE_QUEUES_MAX: Final = 1024
"""No card has more, and what tells sockets by their queues has an entry for each."""

# The gateway.

GATEWAY_SYMBOLS_MAX: Final = 1 << 13
"""As many as the synthetic flow can draw; more than NASDAQ lists."""

GATEWAY_SESSIONS_MAX: Final = 1 << 12
"""A session is a user, with memory of its own for orders and for its log. 4,096 logs of the default size are 256 GiB of
addresses, which cost nothing until they are written to, and every scan over the sessions stays below a millisecond."""

SESSION_ORDERS_MIN: Final = 8
"""One set of the order table."""

SESSION_ORDERS_MAX: Final = 1 << 20
"""128 MiB for the orders of one session."""

SESSION_LOG_BYTES_MIN: Final = 1 << 12
"""Room for some tens of messages: of use to tests that want to see a log fill up."""

SESSION_LOG_BYTES_MAX: Final = 1 << 31
"""Offsets into a log have 32 bits, and a sign would not be of use."""

HEARTBEAT_NS_MIN: Final = 10_000_000
"""10 ms. SoupBinTCP says one second; tests are in more of a hurry."""

HEARTBEAT_NS_MAX: Final = 60_000_000_000
"""A minute. SoupBinTCP 3.00 says one second, and a client gives a link up after some fifteen."""

LOGONS_MAX: Final = 1 << 9
"""Connections that are logging on at a time. Each holds a descriptor and some kilobytes for as long as it likes to say
nothing, up to ``gateway.logon_timeout_ns``; more wait in the kernel's queue."""

CONNECTIONS_PER_SECOND_MAX: Final = 100_000
"""More than one core of Python can accept: no limit."""

LOGON_FAILURES_MAX: Final = 1_000
"""Guesses before the first wait. Ten-character passwords stand that, and nobody mistypes so often."""

LOCKOUT_NS_MIN: Final = 1_000_000
"""1 ms: no wait to speak of."""

LOCKOUT_NS_MAX: Final = 600_000_000_000
"""Ten minutes. A longer one would be of more use to those who lock others out than against those who guess."""

SILENCE_NS_MIN: Final = 50_000_000
"""50 ms: below that a busy machine's scheduler looks like a dead link."""

SILENCE_NS_MAX: Final = 3_600_000_000_000
"""An hour: longer than any router keeps a silent connection."""

# Risk.

RISK_ORDER_LOTS_MAX: Final = 999_999
"""OUCH has no larger order, so a higher limit would limit nothing."""

RISK_NOTIONAL_MAX: Final = 1 << 62
"""Price in ticks times lots, with a bit to spare for one order more: at NASDAQ's tick 461 trillion dollars. No
session's exposure may be above it, limit or not, for it is counted in 64 bits."""

RISK_ORDERS_PER_SECOND_MAX: Final = 1_000_000
"""More than one session can send."""

RISK_ORDERS_BURST_MAX: Final = 1_000_000
"""A second of the highest rate. In billionths of an order, as buckets count, it fits 64 bits with room to spare."""

RISK_COLLAR_BASIS_POINTS_MAX: Final = 1_000_000
"""A hundred times the reference price: further away is no typing error any more."""

RISK_OWN_LIMITS_MAX: Final = 1 << 12
"""One for each session; a profile has 64 KiB for all of its lines anyway."""

# Market data.

FEED_SYMBOLS_DEFAULT: Final = 1 << 14
"""How many symbols a book that is built from a feed has room for: NASDAQ names some 11,000 on a day."""

FEED_ORDERS_DEFAULT: Final = 1 << 20
"""How many orders of a feed may rest at once. The index of their numbers takes 16 bytes for each, touched at random, so
that room for more than there will be costs time; a whole day of NASDAQ wants twice as many."""

FEED_STORE_MESSAGES_DEFAULT: Final = 1 << 20
"""How many messages of our own feed can be asked for again: 64 MiB, some seconds of the busiest market."""

FEED_STORE_MESSAGES_MAX: Final = 1 << 26
"""4 GiB: who lost more than that is better off with a snapshot."""

FEED_STORE_MESSAGES_MIN: Final = 1 << 10
"""Below that the opening of a day with some hundred symbols would not stay in the store until it has been sent."""

REQUEST_BYTES_PER_SECOND_MIN: Final = 1 << 14
"""Ten full datagrams: a requester that gets less than that falls behind the quietest market."""

REQUEST_BYTES_PER_SECOND_MAX: Final = 1 << 32
"""More than a line of 10 Gbit/s carries: no limit."""

REQUEST_BYTES_PER_SECOND_DEFAULT: Final = 1 << 23
"""8 MiB/s, some 200,000 messages: answering them takes the control plane about a tenth of a core, and the whole of a
store of the default size takes longer than a snapshot does."""

FEED_WAITING_MESSAGES_MAX: Final = 1 << 16
"""How many messages a subscriber keeps that came too early: a request packet can ask for no more at once."""

# The journal.

SEGMENT_BYTES_MIN: Final = 1 << 16
"""64 KiB: some hundreds of commands, so that tests see many segments. Each costs a file, its zeros and a rename."""

SEGMENT_BYTES_MAX: Final = 1 << 32
"""4 GiB: two of them are laid out before the first command, and zeroing that much takes a disk seconds."""

SNAPSHOT_EVERY_NS_MAX: Final = 86_400_000_000_000
"""A day. What a restart replays grows with it, and what the journal keeps of old segments."""

SYNC_EVERY_NS_MIN: Final = 1_000_000
"""A millisecond, about what a good disk takes for one sync: who wants less wants ``gate = "synced"``."""

SYNC_EVERY_NS_MAX: Final = 10_000_000_000
"""Ten seconds: so much is lost if the machine loses power. The kernel itself waits no longer than thirty."""

# Replication.

REPLICA_RING_BYTES_MIN: Final = 1 << 12
"""4 KiB: sixty records, so that tests go round often."""

REPLICA_RING_BYTES_MAX: Final = 1 << 30
"""1 GiB for each stream, which a card for RDMA has to lock in memory on both machines. A backup that is further behind
reads the journal."""

LEASE_NS_MIN: Final = 10_000_000
"""10 ms: a lease store answers in about one, and a busy machine's scheduler keeps a thread waiting for several."""

LEASE_NS_MAX: Final = 60_000_000_000
"""A minute: so long nobody answers a client after the primary has died."""

LEASE_RENEW_NS_MIN: Final = 1_000_000
"""A millisecond: what the lease store takes for an answer."""

BACKUP_TIMEOUT_NS_MIN: Final = 10_000_000
"""10 ms: below that a busy machine's scheduler looks like a dead backup."""

BACKUP_TIMEOUT_NS_MAX: Final = 60_000_000_000
"""A minute: so long events wait for a backup that has died, under the gates that wait."""

# Leases.

EPOCH_MAX: Final = (1 << 62) - 1
"""A frame of the journal has 8 bytes for it; an epoch is one more at each change of the primary."""

NODE_CHARACTERS_MAX: Final = 64
"""Names of nodes stand in logs and in the store's record."""

LINK_CHARACTERS_MAX: Final = 64
"""A word that nobody else makes up takes 16 to 32."""

ADDRESS_CHARACTERS_MAX: Final = 512
"""A host's name may have 253, and a primary may have an address in more than one network."""

# Benchmarks.

BENCH_ROUNDS_MAX: Final = 1_000
"""The interval of a ratio narrows with the square root of the rounds: beyond this only the patience goes."""

BENCH_COMMANDS_MAX: Final = 1 << 27
"""A flow is held in memory while it is measured, 64 bytes a command: 8 GiB."""

BENCH_SATURATION_COMMANDS_MIN: Final = 1_000
"""Fewer commands measure how threads start, not how they match."""

BENCH_POINTS_MAX: Final = 64
"""Points of offered load in one curve: more than a plot can tell apart."""

BENCH_LOAD_FRACTION_MIN: Final = 0.001
"""A thousandth of saturation is an idle exchange already."""

BENCH_LOAD_FRACTION_MAX: Final = 2.0
"""Above 1 the queues only fill and latency is the time since the overload began; twice saturation shows
that."""

BENCH_POINT_NS_MIN: Final = 10_000_000
"""10 ms: the machine's own hiccups last milliseconds, and a shorter point measures one of them or none."""

BENCH_POINT_NS_MAX: Final = 600_000_000_000
"""Ten minutes at one load."""

# Load over the network.

LOAD_SESSIONS_MAX: Final = 128
"""They log on one after the other, and a password takes tens of milliseconds: the first must not be silent for long."""

LOAD_SECONDS_MIN: Final = 0.01
"""10 ms, as for a point of load."""

LOAD_SECONDS_MAX: Final = 600.0
"""Ten minutes at one load."""

LOAD_REQUESTS_MAX: Final = 1 << 22
"""All requests of a run are made before it, some 120 bytes each: 500 MB."""

LOAD_REQUESTS_PER_SECOND_MAX: Final = 4_000_000
"""More than one thread can send over sockets, many in each packet, which is what a run without a rate must have
ready."""

LOAD_WINDOW_MAX: Final = 1 << 12
"""Requests of one session without an answer: 200 KiB on the line."""

LOAD_ORDERS_MAX: Final = 1 << 13
"""Orders that a session keeps in the book: half of what a session may have by default."""

# Profiles.

PROFILE_BYTES_MAX: Final = 1 << 16
"""A profile is a page of text. 64 KiB keep a wrong file (a capture, a log) from being parsed for minutes."""

PROFILE_CHAIN_MAX: Final = 32
"""How many files one profile may build on. A reader must be able to follow the chain."""
