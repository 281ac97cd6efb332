"""Resource vectors: read with the right rounding and bounds, added and compared without surprises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.domain.resources import (
    MAX_AMOUNT,
    MAX_NAMES,
    InvalidAmounts,
    add,
    amount,
    fits_in,
    format_amount,
    format_amounts,
    largest,
    parse_needed,
    parse_offered,
    scale,
    shortfall,
    subtract,
)

NAMES = st.sampled_from(
    ["cpu", "memory", "pods", "ephemeral-storage", "hugepages-2Mi", "nvidia.com/gpu", "requests.cpu"]
)
VECTORS = st.dictionaries(NAMES, st.integers(1, 2**40))


def test_cpu_counts_in_millicores_and_the_rest_in_units():
    amounts = parse_needed({"cpu": "1.5", "memory": "1Gi", "nvidia.com/gpu": "2", "requests.cpu": "1"})

    assert amounts == {"cpu": 1500, "memory": 2**30, "nvidia.com/gpu": 2, "requests.cpu": 1000}


def test_what_is_needed_is_rounded_up_and_what_is_offered_down():
    quantities = {"cpu": "1500u", "memory": "1500m"}

    assert parse_needed(quantities) == {"cpu": 2, "memory": 2}
    assert parse_offered(quantities) == {"cpu": 1, "memory": 1}


def test_a_vector_keeps_no_zeros():
    assert parse_needed({"cpu": "0", "pods": "3"}) == {"pods": 3}
    assert parse_offered({"cpu": "1n"}) == {}
    assert subtract({"cpu": 5, "pods": 1}, {"cpu": 5}) == {"pods": 1}


@pytest.mark.parametrize(
    ("quantities", "message"),
    [
        ({"cpu": "-1"}, "cpu: '-1' is negative"),
        ({"memory": "lots"}, "memory: not a quantity: 'lots'"),
        ({"memory": "2Pi"}, "memory: more than 1Pi"),
        ({"cpu/\n": "1"}, r"not a resource name: 'cpu/\n'"),
        ({"-cpu": "1"}, "not a resource name: '-cpu'"),
        ({"": "1"}, "not a resource name: ''"),
        ({"c" * 254: "1"}, f"not a resource name: '{'c' * 64}...'"),
        ({f"r{at}": "1" for at in range(MAX_NAMES + 1)}, "65 resources, at most 64 are taken"),
    ],
)
def test_a_vector_out_of_bounds_is_refused_by_name(quantities: dict[str, str], message: str):
    for read in (parse_needed, parse_offered):
        with pytest.raises(InvalidAmounts) as refusal:
            read(quantities)
        assert str(refusal.value) == message


def test_the_bounds_themselves_are_taken():
    assert parse_needed({"memory": "1Pi"}) == {"memory": MAX_AMOUNT}
    assert len(parse_needed({f"r{at}": "1" for at in range(MAX_NAMES)})) == MAX_NAMES
    assert parse_needed({"c" * 253: "1"}) == {"c" * 253: 1}


def test_a_total_may_be_given_a_wider_bound():
    assert parse_needed({"memory": "4Ei"}, most=2**62) == {"memory": 2**62}


def test_one_request_is_read_like_those_of_a_vector():
    assert amount("cpu", "1500u") == 2
    with pytest.raises(InvalidAmounts, match="negative"):
        amount("cpu", "-1m")


def test_two_readings_do_not_share_one_dictionary():
    first = parse_needed({"cpu": "1"})
    first["cpu"] = 0

    assert parse_needed({"cpu": "1"}) == {"cpu": 1000}


def test_what_is_left_may_be_less_than_nothing():
    assert subtract({"cpu": 100}, {"cpu": 300, "pods": 1}) == {"cpu": -200, "pods": -1}


def test_the_larger_of_each_resource_is_taken():
    assert largest({"cpu": 5, "pods": 1}, {"cpu": 2, "memory": 7}) == {"cpu": 5, "pods": 1, "memory": 7}


def test_a_need_without_room_is_short_by_the_difference():
    need, free = {"cpu": 500, "memory": 10, "gpu": 1}, {"cpu": 200, "memory": 10}

    assert not fits_in(need, free)
    assert shortfall(need, free) == {"cpu": 300, "gpu": 1}


def test_no_need_fits_even_where_nothing_is_free():
    assert fits_in({}, {"cpu": -5})
    assert shortfall({"cpu": 0}, {"cpu": -5}) == {}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cpu", 500, "500m"),
        ("cpu", 2000, "2"),
        ("cpu", -500, "-500m"),
        ("cpu", 0, "0"),
        ("memory", 2**30, "1Gi"),
        ("memory", 3 * 2**29, "1536Mi"),
        ("memory", 1000, "1000"),
        ("memory", -(2**20), "-1Mi"),
        ("memory", 2**70, "1024Ei"),
        ("memory", 0, "0"),
        ("pods", 1024, "1024"),
        ("hugepages-2Mi", 2**21, "2Mi"),
        ("requests.memory", 2**10, "1Ki"),
    ],
)
def test_an_amount_is_written_shortest_and_exact(name: str, value: int, text: str):
    assert format_amount(name, value) == text


@given(VECTORS)
def test_what_is_written_reads_back_the_same(amounts: dict[str, int]):
    written = format_amounts(amounts)

    assert list(written) == sorted(amounts)
    assert parse_needed(written) == parse_offered(written) == amounts


@given(VECTORS, VECTORS)
def test_adding_and_subtracting_undo_each_other(left: dict[str, int], right: dict[str, int]):
    assert subtract(add(left, right), right) == left
    assert add(left, left) == scale(left, 2)


@given(VECTORS, VECTORS)
def test_a_need_fits_exactly_where_nothing_is_short(need: dict[str, int], free: dict[str, int]):
    assert fits_in(need, free) == (shortfall(need, free) == {})
    assert fits_in(need, add(free, shortfall(need, free)))
