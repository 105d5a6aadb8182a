"""AF_XDP as a port: what is ours and what stays the kernel's, ARP, and that nothing is left behind."""

import shutil
from typing import Any

import pytest

from exchange.afxdp import libraries
from exchange.afxdp.libraries import PACKAGES, load_libraries
from exchange.datagrams.frames import ARP_SLOTS
from exchange.errors import UserError
from tests.dpdk_driver import Case, needs_afxdp, run_case, running
from tests.system.test_dpdk import check_kernel_is_answered, wire

__all__ = ["wire"]

MODULE = "tests.afxdp_cases"
MODES = ("native", "skb")


def afxdp_case(name: str, *arguments: str, **options: Any) -> Any:
    return run_case(name, *arguments, module=MODULE, in_namespace=True, **options)


@needs_afxdp
@pytest.mark.parametrize("mode", MODES)
def test_what_is_ours_is_judged_and_counted_and_the_rest_stays_the_kernels(mode: str) -> None:
    told = afxdp_case("wrong_frames", mode)
    assert told["payloads"] == ["right", "", "optional"]
    assert told["counted"] == told["expected"]
    assert set(told["counted"]) == {
        "DATAGRAM", "BAD_IPV4_CHECKSUM", "BAD_UDP_CHECKSUM", "OTHER_CARD", "BAD_IPV4", "FRAGMENT", "BAD_UDP",
        "BAD_ARP", "ARP_REQUEST", "ARP_REPLY",
    }  # fmt: skip
    assert told["is_kernels"], (
        "nobody else's frames are taken away from the kernel, and none of ours reach it"
    )
    assert told["answered"] == [1, 0]
    assert told["reply"]


@needs_afxdp
def test_the_program_agrees_with_the_oracle_about_any_frame() -> None:
    assert afxdp_case("filtered", "5000", "7") == {"passed": True, "redirected": True}


@needs_afxdp
def test_more_arp_requests_than_can_wait_are_forgotten() -> None:
    assert afxdp_case("asked_too_often") == {"answered": ARP_SLOTS}


@needs_afxdp
def test_its_descriptor_tells_that_something_has_come() -> None:
    assert afxdp_case("is_readable") == {"told": [False, True, True, False]}


@needs_afxdp
def test_two_processes_find_each_other_by_arp_and_talk(wire: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    left, right = wire
    with running("reflector", "left", prefix=left, module=MODULE) as server:
        told = run_case("client", "right", "2000", "200", prefix=right, module=MODULE)
        assert told["lost"] < 1000, "a busy machine may be late now and then"
        assert told["echoes"] > 0
        reflected = server.end()
    assert reflected["frames_arp_request"] > 0
    assert reflected["frames_datagram"] >= told["echoes"] + 1000
    assert reflected["system_calls_send"] <= reflected["frames_sent"]


@needs_afxdp
def test_the_kernel_finds_us_and_understands_us(wire: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    left, right = wire
    with running("reflector", "left", prefix=left, module=MODULE) as server:
        reflected = check_kernel_is_answered(server, right, "right")
    assert reflected["frames_datagram"] >= 50
    assert reflected["frames_arp_request"] > 0


def _program_is_on(inside: tuple[str, ...]) -> bool:
    return bool(run_case("program_on", "left", prefix=inside, module=MODULE))


@needs_afxdp
def test_a_process_that_was_killed_leaves_the_interface_as_it_was(
    wire: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    left, _ = wire
    for _ in range(3):
        with running("holds", "left", prefix=left, module=MODULE) as held:
            assert _program_is_on(left)
            held.kill()
        assert not _program_is_on(left)
    held = Case("holds", "left", prefix=left, module=MODULE)
    held.wait_until_ready()
    assert held.end() == {"has_ended": True}
    assert not _program_is_on(left)


@needs_afxdp
def test_what_cannot_be_had_is_refused_in_one_line() -> None:
    told = afxdp_case("refused", "right")
    key = "transport.interface = "
    assert told["nowhere"].startswith(f"{key}'nowhere': there is no interface nowhere; there are lo, ")
    assert told["not said"].startswith(f"{key}'': which interface it is has to be said; there are lo, ")
    assert told["no address"] == "transport.card_address = 'localhost': not a numeric IPv4 address"
    assert told["no port"].startswith("transport.port = 0: ")
    assert told["no queue"].startswith(f"{key}'left': the kernel would not bind a socket to its queue 900")
    assert told["zero-copy"] == (
        f"{key}'left': the kernel would not bind a socket to its queue 0 in mode zero-copy (Operation not supported)"
    )
    assert told["default route"].startswith(f"{key}'right': right carries this machine's default route")
    assert "forced" not in told
    assert told["busy"].startswith(f"{key}'left': somebody else has a program on it or has its queue 0")
    assert "afterwards" not in told
    assert not any("\n" in text for text in told.values())


@needs_afxdp
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv(1) here")
def test_who_may_not_is_told_what_it_takes() -> None:
    told = afxdp_case("without_privileges", prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert "it takes root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF" in told
    assert "\n" not in told


def test_without_the_libraries_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_libraries.cache_clear()
    monkeypatch.setattr(libraries, "_FILES", ("libbpf-nowhere.so.1",))
    with pytest.raises(UserError, match=r"libbpf-nowhere\.so\.1 was not found") as caught:
        load_libraries()
    assert PACKAGES in str(caught.value)
