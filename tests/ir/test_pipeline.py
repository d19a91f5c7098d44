import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import pytest

sys.path.insert(0, str(Path(__file__).parent / "passes"))
from harness import Net, context

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError, InternalError
from dlaconv.ir.graph import unique_name
from dlaconv.ir.pipeline import Pass, Pipeline, ir_pass, with_extra
from dlaconv.ir.stages import Stage


@ir_pass()
def nothing(model, context_):
    pass


@ir_pass()
def fails(model, context_):
    raise KeyError("oops")


@ir_pass()
def refuses(model, context_):
    raise ConversionError(Diagnostic("DLA399", "test", "no"))


@ir_pass()
def breaks(model, context_):
    for node in model.graph:
        node.op_type = "Dropout"


@pytest.fixture
def model():
    net = Net(x=[1, 4])
    net.quantize(net.op("Relu", "x"), out="y")
    return net.model("y")


def test_a_pass_is_named_after_its_function():
    assert nothing.name == "nothing"
    assert nothing.tolerance == 0.0


def test_our_own_exceptions_name_the_pass(model):
    with pytest.raises(InternalError, match=r"pass 'fails': KeyError: 'oops'.*report it") as caught:
        Pipeline([(Stage.CANONICAL, [nothing, fails])]).run(model, context())
    assert caught.value.pass_name == "fails"


def test_a_users_mistake_passes_through(model):
    with pytest.raises(ConversionError, match="DLA399"):
        Pipeline([(Stage.CANONICAL, [refuses])]).run(model, context())


def test_only_what_has_changed_is_checked_before_the_end_of_a_stage(model, monkeypatch):
    checked = []
    monkeypatch.setattr(
        "dlaconv.ir.pipeline.broken_invariants",
        lambda model, stage: iter(checked.append(stage) or ()),
    )
    idle = Pass("idle", lambda model, context: False)
    Pipeline([(Stage.CANONICAL, [idle, nothing, idle])]).run(model, context())
    assert checked == [Stage.IMPORTED, Stage.CANONICAL]


def test_a_broken_invariant_of_the_stage_names_pass_and_node():
    net = Net(x=[1, 4])
    net.op("Tanh", net.op("Relu", "x"), out="y")
    with pytest.raises(InternalError, match="pass 'breaks'") as caught:
        Pipeline([(Stage.CANONICAL, [nothing, breaks])]).run(net.model("y"), context())
    assert caught.value.node == "n0"


def test_an_invariant_of_the_stage_reached_before_is_checked_after_every_pass():
    net = Net(x=[1, 4])
    net.op("Tanh", net.op("Relu", "x"), out="y")
    stages = [(Stage.CANONICAL, [nothing]), (Stage.LEGAL, [breaks, nothing])]
    with pytest.raises(InternalError, match=r"pass 'breaks'.*at stage canonical"):
        Pipeline(stages).run(net.model("y"), context())


def test_dumps_are_one_executable_file_per_pass(model, tmp_path):
    Pipeline([(Stage.CANONICAL, [nothing, nothing])], dump=tmp_path / "dump").run(model, context())
    files = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert files == ["00-imported.onnx", "01-nothing.onnx", "02-nothing.onnx"]
    for name in files:
        onnx.checker.check_model(onnx.load(tmp_path / "dump" / name))
        onnxruntime.InferenceSession(tmp_path / "dump" / name, providers=["CPUExecutionProvider"])


def test_timings_cover_every_pass(model):
    pipeline = Pipeline([(Stage.CANONICAL, [nothing, nothing])])
    pipeline.run(model, context())
    assert list(pipeline.timings) == ["nothing"]


def test_extra_passes_come_last_in_their_stage():
    stages = [(Stage.CANONICAL, [nothing]), (Stage.LEGAL, [fails])]
    extended = with_extra(stages, lambda stage: [refuses] if stage is Stage.CANONICAL else [])
    assert extended == [(Stage.CANONICAL, [nothing, refuses]), (Stage.LEGAL, [fails])]


def test_unique_names_avoid_every_value_of_the_graph(model):
    assert unique_name(model.graph, "new") == "new"
    names = {unique_name(model.graph, stem) for stem in ("new", "new", "y", "x", "n1/step")}
    taken = {value.name for node in model.graph for value in node.outputs}
    taken |= {"x", *model.graph.initializers}
    assert len(names) == 5
    assert not names & (taken | {"new"})


def test_unique_names_of_two_graphs_are_independent(model):
    other = model.clone()
    assert unique_name(model.graph, "a") == unique_name(other.graph, "a") == "a"
    assert isinstance(other.graph, ir.Graph)
