"""Quantities: read exactly, rounded as Kubernetes rounds, and bounded before any arithmetic."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.domain.quantities import MAX_LENGTH, InvalidQuantity, millis, parse, units

DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


@pytest.mark.parametrize(
    ("text", "value", "form"),
    [
        ("100m", "0.1", "DecimalSI"),
        ("1.5Gi", "1610612736", "BinarySI"),
        ("2e3", "2E+3", "DecimalExponent"),
        ("12E", "1.2E+19", "DecimalSI"),
        ("+5", "5", "DecimalSI"),
        ("-1Ki", "-1024", "BinarySI"),
        (".5", "0.5", "DecimalSI"),
        ("5.", "5", "DecimalSI"),
        ("007", "7", "DecimalSI"),
    ],
)
def test_a_quantity_has_its_exact_value_and_its_format(text: str, value: str, form: str):
    quantity = parse(text)

    assert (quantity.value, quantity.format) == (value, form)


def test_what_is_finer_than_a_nano_goes_away_from_zero():
    assert parse("3.001n").nanos == 4
    assert parse("-3.001n").nanos == -4
    assert parse("1e-100").nanos == 1


def test_a_binary_suffix_stops_at_the_largest_int64():
    assert parse("9Ei").value == parse("9223372036854775807Ki").value == str(2**63 - 1)
    assert parse("-9Ei").value == str(1 - 2**63)


def test_a_fraction_of_one_loses_its_binary_format():
    assert parse("0.000000000001Ki").format == "DecimalSI"


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1\n", "1i", "1ki", "1mi", "1.1.M", "1+1", "--1", "e3", "1e", "1e+", "1e1.5", ".", "+", "Ki", "0x1", "nan",
     "1_000", "١", "1,5", "inf"],
)  # fmt: skip
def test_anything_else_is_refused(text: str):
    with pytest.raises(InvalidQuantity, match=r"^not a quantity: '"):
        parse(text)


@pytest.mark.parametrize("text", ["1e101", "1e-101", "1E999999999999999999"])
def test_an_exponent_out_of_bounds_is_refused(text: str):
    with pytest.raises(InvalidQuantity, match=rf"^exponent beyond 100: '{text}'$"):
        parse(text)


def test_a_text_that_is_too_long_is_refused_and_shown_cut():
    assert parse("0" * (MAX_LENGTH - 1) + "1").nanos == 10**9

    with pytest.raises(InvalidQuantity) as refusal:
        parse("0" * MAX_LENGTH + "1")

    assert str(refusal.value) == f"not a quantity: '{'0' * MAX_LENGTH}...'"


def test_a_message_cannot_forge_a_line_of_a_log():
    with pytest.raises(InvalidQuantity) as refusal:
        parse("1\n2026-01-01 INFO \x1b[2Jall is well")

    assert str(refusal.value).isprintable()
    assert len(str(refusal.value).splitlines()) == 1


def test_millis_and_units_are_rounded_up():
    assert (millis("1500u"), millis("1"), millis("-1500u")) == (2, 1000, -1)
    assert (units("1500m"), units("1Ki"), units("100m")) == (2, 1024, 1)


@given(st.decimals(0, 10**6, places=6), st.sampled_from(sorted(DECIMAL)))
def test_a_decimal_quantity_is_its_number_times_its_power_of_ten(number: Decimal, suffix: str):
    exact = Fraction(number) * Fraction(10) ** (DECIMAL[suffix] + 9)

    assert parse(f"{number}{suffix}").nanos == -(-exact.numerator // exact.denominator)


@given(st.integers(0, 10**6), st.sampled_from(sorted(BINARY)))
def test_a_binary_quantity_is_its_number_times_its_power_of_two_or_the_cap(number: int, suffix: str):
    assert parse(f"{number}{suffix}").nanos == min(number << BINARY[suffix], 2**63 - 1) * 10**9


@given(st.text(max_size=80))
def test_any_text_is_a_quantity_or_is_refused(text: str):
    try:
        quantity = parse(text)
    except InvalidQuantity:
        return

    assert Fraction(quantity.value) * 10**9 == quantity.nanos
