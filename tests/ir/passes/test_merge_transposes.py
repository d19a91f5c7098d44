import itertools

import pytest
from harness import Net, ops, run_pass

from dlaconv.ir.passes.merge_transposes import merge_transposes


@pytest.mark.parametrize("first", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("second", [*itertools.permutations(range(3)), None])
def test_two_transposes_are_one_or_none(first, second):
    net = Net(x=[2, 3, 4])
    value = net.op("Transpose", net.op("Relu", "x"), perm=first)
    value = net.op("Transpose", value, **({"perm": second} if second else {}))
    after = ops(run_pass(merge_transposes, net.model(net.op("Relu", value))))
    second = second or (2, 1, 0)
    cancel = [first[axis] for axis in second] == [0, 1, 2]
    assert after == ["Relu", *([] if cancel else ["Transpose"]), "Relu"]


def test_a_transpose_that_others_read_stays():
    net = Net(x=[2, 3])
    turned = net.op("Transpose", "x", perm=[1, 0])
    back = net.op("Transpose", turned, perm=[1, 0])
    after = run_pass(merge_transposes, net.model(net.op("Relu", back), turned))
    assert sorted(ops(after)) == ["Relu", "Transpose"]


def test_five_in_a_row_are_one():
    net = Net(x=[2, 3, 4])
    value = "x"
    for _ in range(5):
        value = net.op("Transpose", value, perm=[1, 2, 0])
    assert ops(run_pass(merge_transposes, net.model(net.op("Relu", value)))) == [
        "Transpose",
        "Relu",
    ]


def test_an_output_of_the_graph_is_named_as_before():
    net = Net(x=[2, 3])
    value = net.op("Transpose", net.op("Transpose", net.op("Relu", "x"), perm=[1, 0]), perm=[1, 0])
    assert ops(run_pass(merge_transposes, net.model(value))) == ["Relu"]
    net = Net(x=[2, 3])
    value = net.op("Transpose", net.op("Transpose", "x", perm=[1, 0]), perm=[1, 0])
    assert ops(run_pass(merge_transposes, net.model(value))) in (["Transpose"], ["Identity"])
