"""The compliance rules of the ACCESS guide, one file per rule or tight family.

`RULES` is the table of all of them. Ids follow the guide: GR general, IO inputs and maps, CV
convolution, DW depth-wise convolution, AC activation, PL pooling, FC fully connected, EL
element-wise, CT concatenation, BN batch norm, MM matrix multiplication, RS ReduceSum, TR reshaping,
SC scales, AT attributes. SC-11 is about calibration data, which a file does not hold: conversions
report clipped inputs as DLA211.
"""

from dlaconv.backends.access.rules.check import CheckResult, check_model, check_view
from dlaconv.backends.access.rules.rule import NodeRule, Rule
from dlaconv.backends.access.rules.table import RULES

__all__ = ["RULES", "CheckResult", "NodeRule", "Rule", "check_model", "check_view"]
