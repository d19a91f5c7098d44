"""``--ranges xilinx`` from the command line to the step of a map."""

import json

import numpy as np
import pytest

from dlaconv.cli import main
from tests.frontends.caffe.files import INPUT, caffemodel, numbers
from tests.ir.test_cumulative import transcribed

TEXT = (
    INPUT.format("dim: 1 dim: 8 dim: 12 dim: 12")
    + """
    layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c'
      convolution_param { num_output: 16 kernel_size: 1 bias_term: false } }
    layer { name: 'r' type: 'ReLU' bottom: 'c' top: 'c' }
    layer { name: 'd' type: 'Convolution' bottom: 'c' top: 'd'
      convolution_param { num_output: 16 kernel_size: 1 bias_term: false } }
    """
)


@pytest.mark.parametrize("option", ["--ranges", "--range"])
@pytest.mark.parametrize("override", [False, True])
def test_the_step_of_a_map_is_that_of_the_search_on_all_samples(tmp_path, option, override):
    weights = numbers(16, 8, 1, 1)
    (tmp_path / "net.prototxt").write_text(TEXT)
    blobs = {"c": [weights], "d": [numbers(16, 16, 1, 1)]}
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(blobs))
    data = numbers(20, 8, 12, 12, seed=5) ** 3 * 0.875
    np.savez(tmp_path / "x.npz", data=data)
    given = [tmp_path / "net.prototxt", tmp_path / "net.caffemodel", "-o", tmp_path / "net.onnx"]
    given += ["--calibrate", tmp_path / "x.npz", "--optimise", "0", "--no-verify"]
    if override:
        entry = "version: 1\nnodes: [{match: c, output: {ranges: xilinx}}]\n"
        (tmp_path / "q.yaml").write_text(entry)
        given += ["--qconfig", tmp_path / "q.yaml"]
    else:
        given += [option, "xilinx"]
    with pytest.raises(SystemExit) as ended:
        main(["from-caffe", *map(str, given)])
    assert ended.value.code == 0
    rows = json.loads((tmp_path / "net.json").read_text())["tensors"]
    [row] = [row for row in rows if row["name"] == "c"]
    maps = np.maximum(np.einsum("oc,nchw->nohw", weights[:, :, 0, 0], data), 0)
    wanted = transcribed(maps, 8)
    assert wanted < 0.9 * maps.max()
    assert row["target"]["real_step"] * 127 == pytest.approx(wanted, rel=1e-3)
