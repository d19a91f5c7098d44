"""Names of maps in another layout are read back."""

import pytest

from dlaconv.ir.layout_names import Turned, own_layout, plain_name, turned


@pytest.mark.parametrize(
    "made",
    [Turned("x", (0, 3, 1, 2)), Turned("a/b", (0, 2, 1)), Turned("f", (0, 3, 1, 2), (8, 4, 2))],
)
def test_a_name_says_what_it_was_made_of(made):
    assert turned(made.name) == made


@pytest.mark.parametrize(
    "name", ["x", "x/layout_", "x/layout_0_3", "x/layout_a_b", "x/layout_2x3", "x/layout_0_1_1"]
)
def test_other_names_are_of_no_layout(name):
    assert turned(name) is None


def test_a_map_in_another_layout_knows_the_tensor_that_it_is_named_after():
    assert own_layout(Turned("x", (0, 3, 1, 2)).name, (1, 3, 8, 9)) == ("x", (1, 8, 9, 3))
    for name in ("x", "x/layout_0_1", "x/layout_0_1_1", "x/layout_a_b_c", "/layout_"):
        assert own_layout(name, (1, 3, 8)) == (name, (1, 3, 8))


def test_messages_name_the_tensor_and_not_its_layout():
    assert plain_name("x/layout_0_3_1_2") == plain_name("x/layout_8x8x16_0_3_1_2") == "x"
    assert plain_name("x/layout") == "x/layout"
