import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales.groups import Group, MapVariable, StepClass
from dlaconv.ir.scales.solver import GroupPlan, allowed
from dlaconv.ir.target import Target


@pytest.mark.parametrize(("exponent", "sensible"), [(-5, False), (-4, True), (0, True), (3, False)])
def test_a_low_bit_map_may_not_saturate_below_the_source_s_clip(exponent, sensible):
    source = Quantisation.of(np.float32(1 / 2), 4, signed=False)  # clips at 7.5, 127 units at 2^-4
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, 4])
    item = StepClass([MapVariable(dialect.quantize(x, source, name="q"), source, False)])
    plan = GroupPlan(1.0, {item: exponent}, 0.0)
    assert allowed(plan, Group([item]), Target.load()) is sensible
