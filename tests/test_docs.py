"""The documents are true: what they name exists, and what exists is named."""

import re
import shlex
import types
from pathlib import Path

import pytest

from dlaconv.cli import built_in_commands
from dlaconv.hookspecs import HOOKS, Hooks
from dlaconv.manual import manual
from dlaconv.plugins import Plugin, Plugins

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PLUGINS = (ROOT / "docs" / "plugins.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
COMMANDS = {item.name: item for item in built_in_commands(Plugins(third_parties=False))}


def test_the_manual_is_that_of_the_commands():
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert written == manual(), "run: python -m dlaconv.manual > docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_the_manual(name):
    assert f"dlaconv {name}" in README
    assert f"### dlaconv {name}\n" in manual()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name):
    command = COMMANDS[name]
    assert command.summary.endswith(".")
    for parameter in command.parameters:
        [info] = parameter.annotation.__metadata__
        assert info.help, f"{name}: {parameter.name}"


def commands_in(text):
    """The command lines of dlaconv in the code of a page, as lists of words."""
    text = text.replace("\\\n", " ")
    fenced = "".join(re.findall(r"^```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE))
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))
    for line in [*fenced.splitlines(), *(" ".join(span.split()) for span in spans)]:
        for part in line.split("&&"):
            if found := re.match(r"\s*(?:\.venv/bin/)?dlaconv (.+)", part):
                yield shlex.split(found[1])


def is_placeholder(name):
    return "<" in name or name.isupper() or name.startswith("-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_a_page_exist_with_their_options(page):
    for name, *words in commands_in(page.read_text("utf-8")):
        if is_placeholder(name.removeprefix("from-")) or name == "from-tiny":
            continue
        assert name in COMMANDS, f"dlaconv {name}"
        known = " ".join(spelling(item) for item in COMMANDS[name].parameters)
        known = known.replace("/", " ").split()
        options = {word for word in words if word.startswith("-")}
        assert options <= {*known, "--help", "-v", "-q"}, f"dlaconv {name}"


def test_commands_are_found_in_pages():
    text = "a `dlaconv\nplugins` b\n```sh\nx && dlaconv check a \\\n  -q\n```\n"
    assert list(commands_in(text)) == [["check", "a", "-q"], ["plugins"]]
    assert len(list(commands_in(README))) > 8


def spelling(parameter):
    [info] = parameter.annotation.__metadata__
    names = [getattr(info, "default", ...), *(info.param_decls or ())]
    names = [name for name in names if isinstance(name, str)]
    return " ".join(names or [f"--{parameter.name.replace('_', '-')}"])


def test_the_readme_names_the_files_that_its_commands_need():
    for path in re.findall(r"examples/[\w./-]+", README):
        assert (ROOT / path).exists(), path


def test_the_readmes_commands_are_those_of_the_continuous_integration():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert ".venv/bin/python -m pytest" in README
    assert '"$venv/bin/python" -m pytest\n' in script
    assert "dlaconv from-qonnx examples/digits/digits.onnx -o" in README
    assert 'dlaconv" from-qonnx examples/digits/digits.onnx -o' in script
    assert script.count('install -qq ".[dev]"') == README.count('install ".[dev]"') == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text("utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(hook):
    found = re.search(rf"^## {hook}\((.*?)\)\n(.*?)(?=^## |\Z)", PLUGINS, re.DOTALL | re.MULTILINE)
    assert found, f"docs/plugins.md has no section {hook}"
    return found[1], found[2]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_parameters(hook):
    arguments, _ = section(hook)
    code = getattr(Hooks, hook).__code__
    assert arguments.split(", ") == list(code.co_varnames[1 : code.co_argcount]) or arguments == ""
    assert (arguments == "") == (code.co_argcount == 1)
    assert getattr(Hooks, hook).__doc__


@pytest.fixture
def documented():
    """Every example of docs/plugins.md, registered as a plugin."""
    plugins = Plugins(third_parties=False)
    for hook in HOOKS:
        _, text = section(hook)
        [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        module = types.ModuleType(f"example_{hook}")
        exec(compile(code, f"docs/plugins.md {hook}", "exec"), vars(module))
        plugins.add(module, Plugin(hook, "docs 1.0"))
    return plugins


def test_the_examples_implement_their_hooks(documented):
    assert [item.hooks for item in documented.all if not item.built_in] == [(h,) for h in HOOKS]
    assert documented.broken == []


def test_the_example_of_a_frontend_reads_a_file(documented, tmp_path):
    import dlaconv

    file = tmp_path / "net.toy"
    file.write_text("16")
    imported = dlaconv.load(file, plugins=documented, step=0.5)
    [node] = imported.model.graph
    assert node.op_type == "QuantizeHalfEven"


def test_the_example_of_a_layer_lowers_its_operator(documented):
    import numpy as np
    import onnx_ir as ir

    from dlaconv.frontends.handlers import Import
    from dlaconv.ir.execution import run

    x = ir.val("x", ir.DataType.FLOAT, ir.Shape([1, 2]))
    node = ir.node("Twice", [x], domain="my.domain", name="twice")
    node.outputs[0].name = "y"
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 18}, name="net")
    model = ir.Model(graph, ir_version=10)
    documented.layers("qonnx")["my.domain::Twice"](node, Import(model))
    assert documented.layers("caffe") == {}
    np.testing.assert_array_equal(run(model, {"x": np.float32([[1, -3]])})["y"], [[2, -6]])


def test_the_example_of_a_pass_removes_what_it_says(documented):
    import onnx_ir as ir

    from dlaconv.ir.pipeline import Context
    from dlaconv.ir.stages import Stage
    from dlaconv.ir.target import Target

    x = ir.val("x", ir.DataType.FLOAT, ir.Shape([1, 2]))
    nodes = [ir.node("Relu", [x], name="a")]
    nodes.append(ir.node("Relu", nodes[0].outputs, name="b"))
    nodes.append(ir.node("Neg", nodes[1].outputs, name="c"))
    graph = ir.Graph([x], nodes[2].outputs, nodes=nodes, opset_imports={"": 18}, name="net")
    context = Context(Target.load())
    [step] = documented.passes(Stage.CANONICAL)
    assert documented.passes(Stage.LEGAL) == []
    step(ir.Model(graph, ir_version=10), context)
    assert [node.name for node in graph] == ["a", "c"]
    assert [rewrite.layer for rewrite in context.rewrites] == ["b"]


@pytest.mark.parametrize(("parts", "found"), [(4, 0), (5, 1)])
def test_the_example_of_a_rule_finds_what_it_says(documented, parts, found):
    import onnx_ir as ir

    from dlaconv.backends.access.model import AccessModel
    from dlaconv.ir.target import Target

    x = ir.val("x", ir.DataType.FLOAT, ir.Shape([1, 16, 4, 4]))
    node = ir.node("Concat", [x] * parts, {"axis": 1}, name="cat")
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 12}, name="net")
    [rule] = documented.rules()
    assert rule.documentation.summary
    view = AccessModel(ir.Model(graph, ir_version=7), Target.load(), "guide")
    assert len(list(rule.check(view))) == found


def test_the_example_of_a_command_runs(documented, capsys):
    from dlaconv.cli import run

    assert run(["flash", "net.onnx"], documented) == 0
    assert capsys.readouterr().out == "sending net.onnx\n"
