"""OUCH 5.0 and 4.2 against the sizes and offsets of the specifications, and against bytes written by hand."""

from struct import pack

import pytest

from exchange.wire import ouch42, ouch50
from exchange.wire.fields import WireError
from exchange.wire.layout import Message, MessageTable
from exchange.wire.ouch50_options import OPTION_FIELDS, Option, OptionTag, find_option

SIZES = {
    "OUCH 5.0 inbound": "O47 U40 X9 M10 C19 D11 E11 Q1",
    "OUCH 5.0 outbound": "S10 A64 U68 C18 D31 E36 B36 F49 J29 P13 I13 T30 M18 R16 X27 G19 K19 Q13",
    "OUCH 4.2 inbound": "O49 U47 X19 M20 N15",
    "OUCH 4.2 outbound": "S10 A66 U80 C28 D37 E40 B32 G45 F41 J24 P23 I23 N23 T36 M28",
}
TABLES = [
    ouch50.INBOUND_MESSAGES,
    ouch50.OUTBOUND_MESSAGES,
    ouch42.INBOUND_MESSAGES,
    ouch42.OUTBOUND_MESSAGES,
]

ENTER = ouch50.EnterOrder(7, "B", 100, "AAPL", 1_912_500, "0", "Y", "P", "N", "N", "mine")
ENTER_BYTES = (
    b"O" + pack(">I", 7) + b"B" + pack(">I", 100) + b"AAPL    " + pack(">Q", 1_912_500) + b"0YPNN" + b"mine".ljust(14)
)  # fmt: skip


@pytest.mark.parametrize("table", TABLES, ids=list(SIZES))
def test_sizes_are_those_of_the_specification(table: MessageTable) -> None:
    assert (
        " ".join(f"{letter}{cls.layout.size_bytes}" for letter, cls in table.items()) == SIZES[table.protocol]
    )


@pytest.mark.parametrize(
    ("cls", "field", "offset"),
    [
        (ouch50.EnterOrder, "price", 18),
        (ouch50.EnterOrder, "client_order_id", 31),
        (ouch50.EnterOrder, "appendage_length", 45),
        (ouch50.ReplaceOrder, "time_in_force", 21),
        (ouch50.CancelOrder, "appendage_length", 9),
        (ouch50.OrderAccepted, "order_reference_number", 36),
        (ouch50.OrderAccepted, "client_order_id", 48),
        (ouch50.OrderReplaced, "order_state", 51),
        (ouch50.OrderExecuted, "match_number", 26),
        (ouch50.AiqCanceled, "aiq_strategy", 31),
        (ouch50.TradeCorrection, "client_order_id", 35),
        (ouch50.Rejected, "client_order_id", 15),
        (ouch50.OrderPriorityUpdate, "order_reference_number", 22),
        (ouch50.MassCancelResponse, "symbol", 17),
        (ouch42.EnterOrder, "minimum_quantity", 43),
        (ouch42.EnterOrder, "customer_type", 48),
        (ouch42.ReplaceOrder, "minimum_quantity", 43),
        (ouch42.Accepted, "bbo_weight_indicator", 65),
        (ouch42.Replaced, "previous_order_token", 65),
        (ouch42.Replaced, "bbo_weight_indicator", 79),
        (ouch42.ExecutedWithReferencePrice, "reference_price", 40),
        (ouch42.TradeCorrection, "reason", 40),
        (ouch42.OrderPriorityUpdate, "order_reference_number", 28),
    ],
)
def test_offsets_are_those_of_the_specification(cls: type[Message], field: str, offset: int) -> None:
    assert cls.layout.offset(field) == offset


def test_an_order_without_options() -> None:
    assert ENTER.encode() == ENTER_BYTES + b"\0\0"
    assert ouch50.INBOUND_MESSAGES.decode(ENTER_BYTES + b"\0\0") == ENTER.check()


def test_an_order_with_options_in_any_order() -> None:
    options = (
        Option(OptionTag.USER_REFERENCE_INDEX, 3),
        Option(OptionTag.PEG_OFFSET, -100),
        Option(OptionTag.FIRM, "LIME"),
    )
    appendage = b"\0\x0f" + b"\2\x1c\3" + b"\5\7\xff\xff\xff\x9c" + b"\5\2LIME"
    order = ouch50.EnterOrder(7, "B", 100, "AAPL", 1_912_500, "0", "Y", "P", "N", "N", "mine", options)
    assert order.encode() == ENTER_BYTES + appendage
    decoded = ouch50.INBOUND_MESSAGES.decode(ENTER_BYTES + appendage)
    assert decoded == order.check()
    assert find_option(order.options, OptionTag.FIRM) == "LIME"
    assert find_option(order.options, OptionTag.ROUTE) is None
    assert find_option(None, OptionTag.ROUTE) is None


def test_an_option_that_is_not_known_passes_and_is_refused_when_checked() -> None:
    appendage = b"\0\x08" + b"\4\xc8abc" + b"\2\x1c\3"
    order = ouch50.EnterOrder.decode(ENTER_BYTES + appendage)
    assert order.options == (Option(200, b"abc"), Option(OptionTag.USER_REFERENCE_INDEX, 3))
    assert order.encode() == ENTER_BYTES + appendage
    with pytest.raises(
        WireError, match=r"^Enter Order Request \(O\): options has tag 200, allowed are 2, 3, 4"
    ):
        order.check()


@pytest.mark.parametrize(
    ("appendage", "text"),
    [
        (b"\0", "46 bytes, allowed are 47 or more"),
        (b"\0\1", "appendage_length is 1, but 0 bytes follow it"),
        (b"\0\1\1", "options element of length 1 at byte 0, allowed is 1 to 0"),
        (b"\0\0\2\x1c\3", "appendage_length is 0, but 3 bytes follow it"),
        (b"\0\2\0\0", "options element of length 0 at byte 0, allowed is 1 to 1"),
        (b"\0\4\2\x1c\3\5", "options element of length 5 at byte 3, allowed is 1 to 0"),
        (b"\0\4\3\x1c\3\4", "options tag 28 (user_reference_index) has 2 bytes, allowed are 1"),
        (b"\0\6\2\x1c\3\2\x1c\4", "options has tag 28 twice, allowed is once"),
        (b"\0\6\5\2LIM\0", r"options tag 2 (firm) is b'LIM\x00', allowed is printable ASCII"),
    ],
)
def test_an_appendage_that_is_none_is_named(appendage: bytes, text: str) -> None:
    with pytest.raises(WireError) as refusal:
        ouch50.EnterOrder.decode(ENTER_BYTES + appendage)
    assert str(refusal.value) == f"Enter Order Request (O): {text}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((Option(OptionTag.FIRM, "TOOLONG"),), "options tag 2 (firm) is 'TOOLONG', allowed are at most 4"),
        ((Option(OptionTag.FIRM, 5),), "options tag 2 (firm) is 5, allowed are at most 4"),
        ((Option(200, "text"),), "options tag 200 is 'text', allowed are at most 254 bytes"),
        ((Option(200, bytes(255)),), "options tag 200 is b'"),
        ((Option(256, b""),), "options tag is 256, allowed is 0 to 255"),
        ((Option(28, 1), Option(28, 1)), "options has tag 28 twice"),
        (((28, 1),), "options is ((28, 1),), allowed is a tuple of Option"),
        (None, "options is None, allowed is a tuple of Option"),
    ],
)
def test_options_that_no_bytes_can_carry(options: tuple[Option, ...], text: str) -> None:
    with pytest.raises(WireError) as refusal:
        ouch50.EnterOrder(7, "B", 1, "A", 1, "0", "Y", "P", "N", "N", "", options).encode()
    assert str(refusal.value).startswith(f"Enter Order Request (O): {text}")


def test_the_codes_of_options_are_checked() -> None:
    order = ouch50.EnterOrder(7, "B", 1, "A", 1, "0", "Y", "P", "N", "N", "", (Option(12, "X"),))
    with pytest.raises(WireError, match=r"options tag 12 \(post_only\) is 'X', allowed is one of P, N"):
        order.check()
    assert set(OPTION_FIELDS) == set(range(1, 31)) - {8, 21}


def test_a_short_form_and_a_long_one() -> None:
    short = b"X" + pack(">II", 7, 0)
    for data, options in [
        (short, None),
        (short + b"\0\0", ()),
        (short + b"\0\3\2\x1c\1", (Option(OptionTag.USER_REFERENCE_INDEX, 1),)),
    ]:
        cancel = ouch50.CancelOrder(7, 0, options)
        assert cancel.encode() == data
        assert ouch50.INBOUND_MESSAGES.decode(data) == cancel.check()
    with pytest.raises(WireError, match=r"appendage_length has 1 bytes, allowed are 2$"):
        ouch50.CancelOrder.decode(short + b"\0")


def test_the_three_sizes_of_aiq_canceled() -> None:
    fields = (1, 7, 100, "Q", 100, 5, "A")
    for extra, size in [((), 31), (("O",), 32), (("O", ()), 34), (("d", (Option(28, 1),)), 37)]:
        message = ouch50.AiqCanceled(*fields, *extra)
        assert len(message.encode()) == size
        assert ouch50.OUTBOUND_MESSAGES.decode(message.encode()) == message.check()
    with pytest.raises(WireError, match="appendage_length has 1 bytes"):
        ouch50.AiqCanceled.decode(ouch50.AiqCanceled(*fields, "O").encode() + b"\0")
    tokens = (1, "token", 100, "Q", 100, 5, "W")
    assert [len(ouch42.AiqCanceled(*tokens, *extra).encode()) for extra in ((), ("O",))] == [37, 38]


def test_messages_that_look_alike_are_not_the_same() -> None:
    pending, reject = ouch50.CancelPending(1, 2), ouch50.CancelReject(1, 2)
    assert pending != reject
    assert (pending.encode(), reject.encode()) == (b"P" + pack(">QI", 1, 2), b"I" + pack(">QI", 1, 2))
    assert not isinstance(ouch50.EnableOrderEntry(1, "F"), ouch50.DisableOrderEntry)


def test_codes_of_the_two_versions_are_kept_apart() -> None:
    executed = ouch42.Executed(1, "token", 5, 6, "W", 7)
    assert executed.check() is executed
    with pytest.raises(WireError, match="liquidity_flag is 'W'"):
        ouch50.OrderExecuted(1, 2, 5, 6, "W", 7).check()
    accepted = {
        "display": "Z", "timestamp": 1, "user_reference_number": 2, "side": "B", "quantity": 1, "symbol": "A",
        "price": 1, "time_in_force": "0", "order_reference_number": 1, "capacity": "A",
        "intermarket_sweep_eligibility": "N", "cross_type": "N", "order_state": "L", "client_order_id": "",
    }  # fmt: skip
    ouch50.OrderAccepted(**accepted).check()
    with pytest.raises(WireError, match="display is 'Z', allowed is one of Y, N, A"):
        ouch50.EnterOrder(7, "B", 1, "A", 1, "0", "Z", "P", "N", "N", "").check()


def test_reject_reasons_have_the_numbers_of_the_specification() -> None:
    rejected = ouch50.Rejected(1, 7, ouch50.RejectReason.INVALID_SYMBOL, "mine")
    assert rejected.encode() == b"J" + pack(">QIH", 1, 7, 0x0017) + b"mine".ljust(14)
    assert len(ouch50.RejectReason) == 0x33 + 1
    assert (ouch50.RejectReason.OTHER, ouch50.RejectReason.INVALID_AIQ) == (0x0F, 0x40)
    with pytest.raises(WireError, match="reason is 52, allowed is one of 1, 2, 3"):
        ouch50.Rejected(1, 7, 52, "").check()


def test_an_order_of_version_4_2() -> None:
    order = ouch42.EnterOrder("tok 1", "S", 999_999, "MSFT", 305_000, 99_998, "", "Y", "A", "N", 0, "N", " ")
    data = (
        b"O" + b"tok 1".ljust(14) + b"S" + pack(">I", 999_999) + b"MSFT    " + pack(">II", 305_000, 99_998)
        + b"    YAN" + pack(">I", 0) + b"N "
    )  # fmt: skip
    assert order.encode() == data
    assert ouch42.INBOUND_MESSAGES.decode(data) == order.check()
