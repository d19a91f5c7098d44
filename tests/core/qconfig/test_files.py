"""``--qconfig``: files that are none, and the command line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlaconv
from dlaconv.cli import run
from dlaconv.driver.qconfig import read_overrides
from dlaconv.errors import UnreadableError, UsageError, UserError
from dlaconv.options import Options
from tests.core.qconfig.networks import bad_file


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version: 1\nnodes: [\xff]", "UTF-8"),
        (b"# " + b"x" * (1 << 18), "more than 262,144 bytes"),
        (b"version: [", "not YAML"),
        (b"", "empty"),
        (b"a: &a [*a]", "the alias *a"),
        (b"a: !!python/object/apply:os.system ['exit 1']", "the tag"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_unreadable(tmp_path, data, words):
    with pytest.raises(UnreadableError) as caught:
        read_overrides(bad_file(tmp_path, data))
    found = list(caught.value.diagnostics)
    assert any(item.rule == "DLA340" and words in item.message for item in found)


def test_all_problems_of_a_file_are_listed(tmp_path):
    text = b"version: 1\nversion: 1\nnodes:\n- match: &x a\n  output: {step: -1}\n- wieghts: 1\n"
    with pytest.raises(UnreadableError) as caught:
        read_overrides(bad_file(tmp_path, text))
    found = [(item.rule, item.location.line) for item in caught.value.diagnostics]
    assert found == [("DLA340", 2), ("DLA340", 4), ("DLA341", 5), ("DLA341", 6), ("DLA341", 6),
                     ("DLA341", 6)]  # fmt: skip


def test_a_folder_a_device_and_nothing_are_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "missing.yaml", "/dev/null"):
        with pytest.raises(UnreadableError):
            read_overrides(type(tmp_path)(path))


def test_the_command_line_takes_it(source, data, tmp_path, capsys):
    path = tmp_path / "net.yaml"
    path.write_text("version: 1\nnodes:\n  - match: conv1\n    output: {threshold: 3}\n")
    target = tmp_path / "net.dla.onnx"
    call = ["from-onnx", str(source), "-o", str(target), "--calibrate", str(data), "-q"]
    assert run([*call, "--qconfig", str(path)]) == 0
    report = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert report["options"]["qconfig"] == str(path)
    [row] = [row for row in report["tensors"] if "override" in row]
    assert row["override"] == {"file": str(path), "line": 3, "text": "threshold 3"}
    path.write_text("version: 1\nnodes:\n  - match: conv1\n    output: {treshold: 3}\n")
    capsys.readouterr()
    assert run([*call, "--qconfig", str(path)]) == 2
    shown = capsys.readouterr().err
    assert f"--> {path}:4" in shown
    assert "did you mean 'threshold'?" in shown
    assert run([*call[:3], str(path.with_suffix(".json")), "--qconfig", str(path)]) == 2


def test_the_output_may_not_overwrite_it(source, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("version: 1\nnodes:\n  - match: conv1\n    output: {threshold: 3}\n")
    with pytest.raises(UsageError) as caught:
        dlaconv.convert(source, path, options=Options(qconfig=path))
    assert [item.rule for item in caught.value.diagnostics] == ["DLA421"]


@given(
    st.binary(max_size=80)
    | st.text("versionmatch_output[]{}:,-?&*!|'\"#\n 1.", max_size=80).map(str.encode)
    | st.lists(
        st.sampled_from(
            [
                "version: 1", "nodes:", "- match: a", "  op: b", "  output:", "    step: 1e-3",
                "    threshold: -1", "  weights: {bits: 4}", "  output: {ranges: kl}", "- {}", "&a",
            ]
        )
    ).map(lambda lines: "\n".join(lines).encode())
)  # fmt: skip
def test_any_file_is_read_or_refused_with_reasons(tmp_path_factory, data):
    entries, rules = [], set()
    try:
        entries = read_overrides(bad_file(tmp_path_factory.getbasetemp(), data)).entries
    except UserError as error:
        rules = {item.rule for item in error.diagnostics}
    assert bool(entries) != bool(rules)
    assert rules <= {"DLA340", "DLA341"}
