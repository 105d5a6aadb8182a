"""``exchange profile list | show | diff | check``, the texts they print, and the page that documents them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.cli_profile import missing, profile
from exchange.errors import UserError
from exchange.replication.config import FABRIC_PACKAGES
from exchange.settings import diff, list_profiles, load_profile
from exchange.settings_text import settings_reference

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "profiles.md"
EXAMPLE = "docs/examples/small-queue.toml"

DOCUMENTED_MISTAKES = (
    '[queue]\nkind = "spcs"',
    '[queue]\nkind = "spsc"\ncapacity_slots = 1000',
    '[queue]\ncapacity_slots = "4MiB"',
    '[idle]\nkind = "park"\npark_us = 50',
    '[idle]\nkind = "busy-spin"\nspins = 200',
    '[book]\nkind = "file:./my_book.py:MyBook"',
    '[shards]\ncount = 2\nthreads = [["ingress", "egress"], ["shard.0"]]',
    'extends = "lockfre"',
    'extends = "./mine.toml"',
)
"""The page lists what each of these says."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(profile, arguments)


def output_of(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


def documented(name: str) -> str:
    """The text of the page between the two markers called ``name``, without the fence of a code block."""
    _, _, rest = PAGE.read_text().partition(f"<!-- {name}: begin -->\n")
    inside, end, _ = rest.partition(f"<!-- {name}: end -->")
    assert end, f"{PAGE} has no markers called {name}"
    lines = [line for line in inside.strip().splitlines() if not line.startswith("```")]
    return "\n".join(lines)


def test_list_names_every_profile_with_its_chain_and_whether_it_runs_here() -> None:
    printed = output_of("list")
    names = [line for line in printed.splitlines() if line and not line.startswith(" ")]
    assert names == list(list_profiles())
    assert "extends: lockfree → locked-sharded → compiled → textbook" in printed
    assert printed.count("this machine: ") == len(names)


def test_list_names_a_broken_profile_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.toml").write_text("")
    (tmp_path / "bad.toml").write_text("[queue]\nkind = 3")
    (tmp_path / "worse.toml").write_text("[queue")
    monkeypatch.setattr("exchange.profile_files.builtin_folder", lambda: tmp_path)
    printed = output_of("list")
    assert printed.count("broken: ") == 2
    assert "\ngood\n" in printed
    assert printed.index("bad\n") < printed.index("good\n") < printed.index("worse\n")


def test_list_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    textbook, rdma = load_profile("textbook"), load_profile("rdma")
    assert missing(textbook) == ()
    monkeypatch.setattr("exchange.cli_profile.package_version", lambda name: None)
    assert missing(textbook) == ()
    assert missing(rdma) == (f"libfabric is not installed (sudo apt-get install {FABRIC_PACKAGES})",)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    assert missing(textbook) == (
        "it needs a processor of x86_64 or aarch64, and this is s390x",
        "numba is not installed (pip install numba)",
    )
    assert "this machine: cannot run it; it needs a processor" in output_of("list")
    assert "this machine cannot run it: numba is not installed" in output_of("check", "textbook")


@pytest.mark.parametrize("name", list_profiles())
def test_what_show_prints_is_the_same_profile(name: str, tmp_path: Path) -> None:
    saved = tmp_path / "saved.toml"
    saved.write_text(output_of("show", name))
    assert diff(load_profile(saved), load_profile(name)) == ()
    assert load_profile(saved).description == load_profile(name).description


def test_show_says_where_each_value_came_from() -> None:
    lines = output_of("show", "lockfree", "--set", "queue.capacity_slots=4096").splitlines()
    assert lines[0] == "# lockfree → locked-sharded → compiled → textbook"
    (kind,) = [line for line in lines if line.startswith('kind = "spsc"')]
    assert "# lockfree.toml:" in kind
    (capacity,) = [line for line in lines if line.startswith("capacity_slots")]
    assert capacity.split() == ["capacity_slots", "=", "4096", "#", "--set"]


def test_show_names_a_user_queue_by_its_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "my_queue.py").write_text("class MyQueue: ...")
    (tmp_path / "mine.toml").write_text('queue.kind = "file:my_queue.py:MyQueue"')
    assert f'kind = "file:{tmp_path}/my_queue.py:MyQueue"' in output_of("show", str(tmp_path / "mine.toml"))


def test_diff_prints_only_what_differs() -> None:
    printed = [line.split() for line in output_of("diff", "locked-sharded", "lockfree").splitlines()]
    assert printed == [["key", "locked-sharded", "lockfree"], ["queue.kind", '"locked"', '"spsc"']]
    assert output_of("diff", "lockfree", "lockfree") == "lockfree and lockfree do not differ\n"


def test_diff_shows_what_options_change_in_the_second() -> None:
    printed = output_of("diff", "lockfree", "lockfree", "--set", "idle.kind=busy-spin")
    assert [line.split() for line in printed.splitlines()[1:]] == [
        ["idle.kind", '"spin-then-yield"', '"busy-spin"'],
        ["idle.spins", "200", "-"],
    ]


def test_check_sums_a_profile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.cli_profile.available_cores", lambda: 1)
    printed = output_of("check", "textbook", "--set", "idle.kind=busy-spin")
    assert printed.startswith("ok: textbook\n")
    layers = (
        "transport memory, risk none, market_data none, admin none, queue python, book naive, placement none,"
        " idle busy-spin"
    )
    assert f"layers: {layers}" in " ".join(printed.split())
    assert "threads with 1 core: ingress + egress | shard.0" in printed
    assert "note: idle.kind = busy-spin with 2 threads on 1 core" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "textbook", "--set", "queue.kind=spcs"),
        ("show", "textbook", "--set", "queue.kind=spcs"),
        ("diff", "textbook", "textbook", "--set", "queue.kind=spcs"),
        ("check", "./no-such-file.toml"),
    ],
)
def test_a_mistake_leaves_as_a_user_error_of_one_line(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UserError)
    assert len(str(result.exception).splitlines()) == 1
    assert result.stdout == ""


def test_a_mistake_ends_the_command_with_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from exchange.cli import run_command

    monkeypatch.setattr("sys.argv", ["exchange", "profile", "check", "textbook", "--set", "queue.kind=spcs"])
    assert run_command() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert '--set: queue.kind = "spcs": unknown kind (did you mean spsc?); allowed: python' in line


def test_the_page_lists_every_key_as_the_code_has_it() -> None:
    assert documented("settings reference") == settings_reference().strip(), (
        "docs/profiles.md is behind the code: `python -m exchange.settings_text` prints what it must say"
    )


def test_the_page_shows_what_the_example_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert f'--8<-- "{EXAMPLE}"' in PAGE.read_text()
    assert documented("example diff") == output_of("diff", "lockfree", EXAMPLE).strip()


def test_the_page_shows_what_mistakes_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    messages = []
    for text in DOCUMENTED_MISTAKES:
        Path("mine.toml").write_text(text)
        with pytest.raises(UserError) as caught:
            load_profile("./mine.toml")
        messages.append(str(caught.value))
    assert documented("mistakes").split("\n\n") == messages
