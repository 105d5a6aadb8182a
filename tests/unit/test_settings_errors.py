"""The errors of the settings: every way in which a profile can be wrong, with what its author reads then.

Each wrong profile must leave as a UserError of one line that names file, line, key, value and what is
allowed; the expected texts stand here in full, because the text is what a user has.
"""

from pathlib import Path

import pytest

from exchange import limits
from exchange.errors import UserError
from exchange.profile_files import line_numbers, read_chain
from exchange.settings import load_profile

ALLOWED_TABLES = (
    "[transport], [gateway], [risk], [market_data], [admin], [queue], [book], [shards], [placement], [idle],"
    " [bench], [journal], [replication]"
)


@pytest.fixture(autouse=True)
def _in_tmp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "mine.toml") -> str:
    Path(name).write_text(text)
    return f"./{name}"


def message_of(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_profile(write(text), overrides)
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


WRONG_VALUES = [
    (
        '[queue]\nkind = "spcs"',
        '2: queue.kind = "spcs": unknown kind (did you mean spsc?); allowed: python, locked, '
        "spsc, mpsc, disruptor, file:PATH:NAME",
    ),
    (
        "[idle]\nkind = 3",
        "2: idle.kind = 3: must be a string; allowed: busy-spin, spin-then-yield, park, block",
    ),
    (
        'book.kind = "file:./b.py:B"',
        '1: book.kind = "file:./b.py:B": [book] cannot be loaded from a file; allowed: naive, ladder',
    ),
    (
        '[queue]\nkind = "file:q.py"',
        '2: queue.kind = "file:q.py": must be file:PATH:NAME, a Python file and its class, as in '
        "file:./my_queue.py:MyQueue",
    ),
    (
        '[queue]\nkind = "file:q.txt:Q"',
        '2: queue.kind = "file:q.txt:Q": PATH must end in .py, not "q.txt"',
    ),
    (
        "[queue]\ncapacity_slots = 1000",
        "2: queue.capacity_slots = 1000: must be a power of two from 2 to 16777216; the nearest "
        "are 512 and 1024",
    ),
    (
        "[queue]\ncapacity_slots = 1",
        "2: queue.capacity_slots = 1: out of range; must be a power of two from 2 to 16777216",
    ),
    (
        "[queue]\ncapacity_slots = 33554432",
        "2: queue.capacity_slots = 33554432: out of range; must be a power of two from 2 to 16777216",
    ),
    (
        "[queue]\ncapacity_slots = 8.0",
        "2: queue.capacity_slots = 8.0: must be a power of two from 2 to 16777216",
    ),
    (
        "[shards]\ncount = true",
        "2: shards.count = true: must be an integer from 1 to 64",
    ),
    (
        "[shards]\ncount = 2\nassign = { AAPL = 64 }",
        "3: shards.assign = {AAPL = 64}: must be a table of integers from 0 to 63, such as { NAME = 0 }",
    ),
    (
        "[shards]\nassign = { AAPL = true }",
        "2: shards.assign = {AAPL = true}: must be a table of integers from 0 to 63, such as { NAME = 0 }",
    ),
    (
        '[queue]\ncapacity_slots = "4MiB"',
        '2: queue.capacity_slots = "4MiB": wrong unit "MiB": capacity_slots counts slots and '
        "takes a plain integer",
    ),
    (
        '[idle]\nspins = "5us"',
        '2: idle.spins = "5us": wrong unit "us": spins takes a plain integer',
    ),
    (
        '[idle]\nkind = "park"\npark_ns = "5KiB"',
        '3: idle.park_ns = "5KiB": wrong unit "KiB": park_ns is in nanoseconds and takes ns, us, ms, s',
    ),
    (
        '[idle]\nkind = "park"\npark_ns = "50"',
        '3: idle.park_ns = "50": must be an integer from 1000 to 100000000 (nanoseconds, or a '
        'string such as "50us")',
    ),
    (
        '[idle]\nkind = "park"\npark_ns = "1.00001us"',
        '3: idle.park_ns = "1.00001us": must be a whole number of nanoseconds',
    ),
    (
        '[idle]\nkind = "park"\npark_ns = "2s"',
        '3: idle.park_ns = "2s": out of range; must be an integer from 1000 to 100000000 '
        '(nanoseconds, or a string such as "50us")',
    ),
    (
        '[queue]\nkind = "spsc"\nhuge_pages = "no"',
        '3: queue.huge_pages = "no": must be "advise" or "never"',
    ),
    (
        '[placement]\nkind = "pinned"\nreserve_os_core = 1',
        "3: placement.reserve_os_core = 1: must be true or false",
    ),
    (
        '[shards]\nthreads = "four"',
        '2: shards.threads = "four": must be "auto" or a list of lists of strings',
    ),
    (
        '[shards]\nthreads = ["ingress"]',
        '2: shards.threads = ["ingress"]: must be "auto" or a list of lists of strings',
    ),
    (
        "[bench]\noffered_load_fractions = [0.5, 5]",
        "2: bench.offered_load_fractions = [0.5, 5]: 5 is out of range; must be a list of 1 to "
        "64 numbers, each from 0.001 to 2.0",
    ),
    (
        "[bench]\noffered_load_fractions = [nan]",
        "2: bench.offered_load_fractions = [nan]: nan is out of range; must be a list of 1 to 64 "
        "numbers, each from 0.001 to 2.0",
    ),
    (
        "[bench]\noffered_load_fractions = []",
        "2: bench.offered_load_fractions = []: has 0 numbers; must be a list of 1 to 64 numbers, "
        "each from 0.001 to 2.0",
    ),
    (
        '[bench]\noffered_load_fractions = ["all"]',
        '2: bench.offered_load_fractions = ["all"]: "all" is no number; must be a list of 1 to '
        "64 numbers, each from 0.001 to 2.0",
    ),
    (
        "[bench]\noffered_load_fractions = 1",
        "2: bench.offered_load_fractions = 1: must be a list of 1 to 64 numbers, each from 0.001 to 2.0",
    ),
    (
        'queue = "spsc"',
        '1: queue = "spsc": must be a table: a line [queue] and its keys below',
    ),
    (
        '[[queue]]\nkind = "spsc"',
        '1: queue = [{kind = "spsc"}]: must be a table: a line [queue] and its keys below',
    ),
    (
        '[journal]\nkind = "maped"',
        '2: journal.kind = "maped": unknown kind (did you mean mapped?); allowed: none, file, mapped',
    ),
    (
        '[journal]\nkind = "file:./my.py:Mine"',
        '2: journal.kind = "file:./my.py:Mine": [journal] cannot be loaded from a file; allowed: '
        "none, file, mapped",
    ),
    (
        '[journal]\nkind = "file"\ngate = "flushed"',
        '3: journal.gate = "flushed": must be "none" or "synced" or "written"',
    ),
    (
        '[journal]\nkind = "mapped"\nsegment_bytes = "32KiB"',
        '3: journal.segment_bytes = "32KiB": out of range; must be a power of two from 65536 to '
        '4294967296 (bytes, or a string such as "2MiB")',
    ),
    (
        '[journal]\nkind = "file"\nsegment_bytes = 65536\n[shards]\nbatch_commands = 480',
        "3: journal.segment_bytes = 65536: a batch of 480 commands with their details needs 65600 bytes, "
        "and a segment has 65536",
    ),
    (
        '[shards]\nbatch_commands = 4096\n[journal]\nkind = "mapped"\nsegment_bytes = "256KiB"',
        "5: journal.segment_bytes = 262144: a batch of 4096 commands with their details needs 528448 "
        "bytes, and a segment has 262144",
    ),
    (
        '[journal]\nkind = "none"\ngate = "written"',
        '3: journal.gate = "written": not a key of kind "none", only of file, mapped',
    ),
    (
        "description = 3",
        "1: description = 3: must be a string",
    ),
    (
        "extends = 3",
        "1: extends = 3: must be a string, the name of one profile or the path of its file",
    ),
]


@pytest.mark.parametrize(("text", "problem"), WRONG_VALUES, ids=[text for text, _ in WRONG_VALUES])
def test_a_wrong_value_is_told_with_what_is_allowed(text: str, problem: str) -> None:
    assert message_of(text) == f"mine.toml:{problem}"


def test_a_user_queue_without_a_file_is_told(tmp_path: Path) -> None:
    expected = f'mine.toml:1: queue.kind = "file:./q.py:Q": there is no file "{tmp_path}/q.py"'
    assert message_of('queue.kind = "file:./q.py:Q"') == expected


UNKNOWN_KEYS = [
    (
        "[idle]\nkind = 'park'\npark_us = 50",
        "3: idle.park_us = 50: unknown key (did you mean park_ns (nanoseconds)?); allowed: kind, "
        "spins, park_ns",
    ),
    (
        "[queue]\ncapacity = 4",
        "2: queue.capacity = 4: unknown key (did you mean capacity_slots (slots)?); allowed: "
        "kind, capacity_slots",
    ),
    (
        "[idle]\nspin = 4",
        "2: idle.spin = 4: unknown key (did you mean spins?); allowed: kind, spins",
    ),
    (
        "[shards]\nkind = 'x'",
        '2: shards.kind = "x": unknown key; allowed: count, threads, run_as, batch_commands, assign',
    ),
    (
        "[queue]\nspins = 4",
        "2: queue.spins = 4: unknown key of [queue] (did you mean idle.spins?)",
    ),
    (
        "[idle]\nkind = 'busy-spin'\nspins = 4",
        '3: idle.spins = 4: not a key of kind "busy-spin", only of spin-then-yield, park, block',
    ),
    (
        "[queues]\nkind = 'x'",
        f'1: queues = {{kind = "x"}}: unknown table (did you mean [queue]?); allowed: {ALLOWED_TABLES}',
    ),
    (
        "extend = 'x'",
        '1: extend = "x": unknown key (did you mean extends?); allowed: extends, description, '
        f"{ALLOWED_TABLES}",
    ),
    (
        "park_ns = 4",
        "1: park_ns = 4: unknown key outside of a table (did you mean idle.park_ns?); allowed: "
        "extends, description, "
        f"{ALLOWED_TABLES}",
    ),
    (
        "name = 'x'",
        '1: name = "x": unknown key; a profile is called what its file is called',
    ),
    (
        '"a\\nb" = 1',
        f'1: "a\\nb" = 1: unknown key; allowed: extends, description, {ALLOWED_TABLES}',
    ),
]


@pytest.mark.parametrize(("text", "problem"), UNKNOWN_KEYS, ids=[text for text, _ in UNKNOWN_KEYS])
def test_an_unknown_key_is_told_with_what_was_probably_meant(text: str, problem: str) -> None:
    assert message_of(text) == f"mine.toml:{problem}"


IMPOSSIBLE = [
    (
        "[book]\nprice_min_ticks = 9\nprice_max_ticks = 8",
        "2: book.price_min_ticks = 9: price_min_ticks = 9 is above price_max_ticks = 8: no price "
        "would be accepted",
    ),
    (
        "[bench]\noffered_load_fractions = [0.5, 0.5]",
        "2: bench.offered_load_fractions = [0.5, 0.5]: must ascend, each number once",
    ),
    (
        '[shards]\nthreads = [["ingress", "egress"], ["shard0"]]',
        '2: shards.threads = [["ingress", "egress"], ["shard0"]]: threads name an unknown agent '
        '"shard0" (did you mean shard.0?); each of ingress, shard.0, egress must be in exactly '
        "one list",
    ),
    (
        '[shards]\nthreads = [["ingress", "ingress"]]',
        '2: shards.threads = [["ingress", "ingress"]]: threads name ingress twice; each of '
        "ingress, shard.0, egress must be in exactly one list",
    ),
    (
        '[shards]\nthreads = [["ingress", "shard.0"]]',
        '2: shards.threads = [["ingress", "shard.0"]]: threads leave out egress; each of '
        "ingress, shard.0, egress must be in exactly one list",
    ),
    (
        '[shards]\nthreads = [["ingress", "egress", "shard.0"], []]',
        '2: shards.threads = [["ingress", "egress", "shard.0"], []]: threads have an empty list: '
        "a thread without an agent",
    ),
    (
        '[transport]\nkind = "udp"\ningress_lanes = 2',
        '2: transport.kind = "udp": all sessions of udp and afxdp share one port, which one ingress reads, and there '
        "are 2 ingress lanes; several take tcp, and dpdk with as many receiving queues",
    ),
    (
        '[transport]\nkind = "dpdk"\ningress_lanes = 2\n[queue]\nkind = "spsc"',
        '5: queue.kind = "spsc": a client of dpdk that comes back may come to another ingress lane, and spsc has a '
        "ring for each lane, in which newer requests could overtake older ones; several lanes of dpdk take mpsc or "
        "locked",
    ),
    (
        '[idle]\nkind = "block"',
        '2: idle.kind = "block": block sleeps until a socket has something, and transport.kind = memory has '
        "none",
    ),
    (
        '[transport]\nkind = "tcp"\n[idle]\nkind = "block"',
        '4: idle.kind = "block": block sleeps until a client says something, which is right where one thread '
        'runs all agents; shards.threads = [["ingress", "shard.0", "egress"]] is such a layout, and others '
        "take park",
    ),
    (
        '[transport]\nkind = "tcp"\ningress_lanes = 2\n[queue]\nkind = "mpsc"\n[idle]\nkind = "block"\n[shards]\n'
        'threads = [["ingress.0", "ingress.1", "shard.0", "egress"]]',
        '7: idle.kind = "block": block watches one ingress lane; transport.ingress_lanes must be 1',
    ),
    (
        '[queue]\nkind = "disruptor"\n[transport]\ningress_lanes = 2',
        '2: queue.kind = "disruptor": a disruptor has one producer, and there are 2 ingress '
        "lanes; several take spsc, mpsc or locked",
    ),
    (
        "transport.ingress_lanes = 16\nqueue.kind = 'spsc'\nshards.count = 64\n"
        "queue.capacity_slots = 16777216",
        "4: queue.capacity_slots = 16777216: 1088 queues of 16777216 slots need 1088 GiB; at "
        "most 64 GiB are allowed",
    ),
    (
        '[gateway]\nsymbols = ["A", "B"]\n[shards]\nassign = { C = 0 }',
        '4: shards.assign = {C = 0}: "C" is none of gateway.symbols, which has ["A", "B"]',
    ),
    (
        "[shards]\nassign = { AAPL = 2 }\ncount = 2",
        "2: shards.assign = {AAPL = 2}: AAPL is on shard 2, and shards.count = 2: shards are 0 to 1",
    ),
]


@pytest.mark.parametrize(("text", "problem"), IMPOSSIBLE, ids=[text for text, _ in IMPOSSIBLE])
def test_an_impossible_combination_is_refused(text: str, problem: str) -> None:
    assert message_of(text) == f"mine.toml:{problem}"


def test_an_impossible_combination_is_blamed_on_what_was_written_last() -> None:
    write('[shards]\nthreads = [["ingress", "shard.0", "egress"]]', "parent.toml")
    assert message_of('extends = "./parent.toml"\n[shards]\ncount = 2').startswith(
        "mine.toml:3: shards.count = 2:"
    )
    assert message_of('extends = "./parent.toml"', "shards.count=2").startswith("--set: shards.count = 2:")


def test_a_mistake_in_a_parent_is_told_there_even_if_a_child_hides_it() -> None:
    write("[shards]\ncount = 0", "parent.toml")
    assert message_of('extends = "./parent.toml"\n[shards]\ncount = 2').startswith(
        "parent.toml:2: shards.count = 0:"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("queue", '--set "queue": must be TABLE.KEY=VALUE, as in queue.kind=spsc'),
        ("queue.kind", '--set "queue.kind": must be TABLE.KEY=VALUE, as in queue.kind=spsc'),
        ("extends.x=1", '--set "extends.x=1": must be TABLE.KEY=VALUE, as in queue.kind=spsc'),
        ("shards.threads=[[a", '--set "shards.threads=[[a": the value is not valid TOML'),
        ("shards.count=0", "--set: shards.count = 0: out of range; must be an integer from 1 to 64"),
        (
            "shard.count=2",
            "--set: shard = {count = 2}: unknown table (did you mean [shards]?); allowed: "
            f"{ALLOWED_TABLES}",
        ),
    ],
)
def test_a_wrong_option_is_told(option: str, message: str) -> None:
    assert message_of("", option) == message


# Files.


def test_a_missing_profile_is_told_with_the_nearest_name() -> None:
    with pytest.raises(
        UserError, match=r'^no profile is called "lockfre" \(did you mean lockfree\?\); there are'
    ):
        load_profile("lockfre")
    with pytest.raises(UserError, match=r"^no such profile file: lockfree.toml$"):
        load_profile("lockfree.toml")


def test_a_missing_parent_is_told_where_it_is_named() -> None:
    assert message_of('\nextends = "texbook"').startswith(
        'mine.toml:2: extends = "texbook": no profile is called'
    )
    assert message_of('extends = "../x.toml"').startswith(
        'mine.toml:1: extends = "../x.toml": no such profile file'
    )


def test_a_cycle_is_told_with_its_members() -> None:
    write('extends = "./b.toml"', "a.toml")
    write('extends = "folder/../a.toml"', "b.toml")
    Path("folder").mkdir()
    with pytest.raises(UserError) as caught:
        load_profile(write('extends = "a.toml"'))
    assert str(caught.value) == 'b.toml:1: extends = "folder/../a.toml": a cycle: a → b → a'


def test_a_chain_has_a_bound() -> None:
    write("", "p0.toml")
    for number in range(limits.PROFILE_CHAIN_MAX):
        write(f'extends = "./p{number}.toml"', f"p{number + 1}.toml")
    assert len(read_chain(f"./p{limits.PROFILE_CHAIN_MAX - 1}.toml")) == limits.PROFILE_CHAIN_MAX
    with pytest.raises(UserError, match=f"at most {limits.PROFILE_CHAIN_MAX} profiles"):
        read_chain(f"./p{limits.PROFILE_CHAIN_MAX}.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"[queue\n",
            "mine.toml:1: not valid TOML: Expected ']' at the end of a table declaration (column 7)",
        ),
        (b'\n\na = "b', "mine.toml:3: not valid TOML: Unterminated string (the end of the file)"),
        (b"ok = 1\n\n\xff", "mine.toml:3: not TOML: byte 8 is not UTF-8"),
        (b"a = " + b"[" * 20_000, "mine.toml: not a profile: its values are nested too deeply"),
        (b"a = " + b"9" * 5_000, "mine.toml: not a profile: an integer has too many digits"),
        (b"#" * 70_000, "mine.toml: too large for a profile: more than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_profile_is_told_with_the_position(content: bytes, message: str) -> None:
    Path("mine.toml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_profile("mine.toml")
    assert str(caught.value) == message


def test_lines_are_found_after_values_of_several_lines() -> None:
    text = 'a = """\n[x]\n"""\r\n\n[shards] # comment\nthreads = [\n  ["a"],\n]\ncount = 1\n'
    text += "[idle]\nx.y = { z = 1 }\n"
    assert line_numbers(text) == {
        ("a",): 1,
        ("shards",): 5,
        ("shards", "threads"): 6,
        ("shards", "count"): 9,
        ("idle",): 10,
        ("idle", "x"): 11,
        ("idle", "x", "y"): 11,
    }
