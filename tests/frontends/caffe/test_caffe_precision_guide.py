"""The fragments of CHaiDNN's guide, in the formatting that they have there."""

import struct

import pytest

from tests.frontends.caffe.files import load
from tests.frontends.caffe.precisions import DYNAMIC, XILINX, QFormat, filters, read, threshold

CONVOLUTION = """layer {
  name: "conv1/7x7_s2"
  type: "Convolution"
  bottom: "data"
  top: "conv1/7x7_s2"
  convolution_param {
    num_output: 4
    pad: 3
    kernel_size: 7
    stride: 2
  }
  precision_param {
%s
  }
}
"""
ELTWISE = """layer {
\tbottom: "group3/block1/conv3"
\tbottom: "group3/block0/eltwise"
\ttop: "group3/block1/eltwise"
\tname: "group3/block1/eltwise"
\ttype: "Eltwise"
    precision_param {
%s
\t}  \n}
"""
NORMALISATION = """layer {
\tbottom: "conv0"
\ttop: "conv0/bn"
\tname: "conv0/bn"
\ttype: "%s"
    precision_param {
      bw_layer_in: 8
      bw_layer_out: 8
      fl_layer_in: 3
      fl_layer_out: 3
%s
    }
}
"""
FIXED_CONVOLUTION = CONVOLUTION % (
    """    quant_type: "DynamicFixed"
    bw_layer_in: 6
    bw_layer_out: 6
    bw_params: 6
    fl_layer_in: 2
    fl_layer_out: 2
    fl_params: 5"""
)
XILINX_CONVOLUTION = CONVOLUTION % (
    """    quant_type: "Xilinx"
    bw_layer_in: 8
    bw_layer_out: 8
    bw_params: 8
    th_layer_in: 150.866221005
    th_layer_out: 752.14132257
    th_params: 0.63660389185
    th_params: 0.37376704812
    th_params: 0.594033837318
    th_params: 0.400175541639"""
)
FIXED_ELTWISE = ELTWISE % (
    """        quant_type: "DynamicFixed"
\t\tbw_layer_in: 8
\t\tbw_layer_out: 8
\t\tfl_layer_in: 3
\t\tfl_layer_out: 3"""
)
XILINX_ELTWISE = ELTWISE % (
    """         quant_type: "Xilinx"
\t bwlayer_in: 8
\t bw_layer_out: 8
         th_layer_in: 752.14132257
         th_layer_out: 1106.06941786"""
)
BATCH_NORM = NORMALISATION % (
    "BatchNorm",
    """      batchnorm_mean_fl: 4
      batchnorm_variance_fl: 3
      batchnorm_mean_bw: 8
      batchnorm_variance_bw: 8""",
)
SCALE = NORMALISATION % (
    "Scale",
    """      scale_gamma_fl: 5
      scale_beta_fl: 5
      scale_gamma_bw: 8
      scale_beta_bw: 8
      scale_gamma_by_std_bw: 8
      scale_gamma_by_std_fl: 2  """,
)


def kept(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


@pytest.fixture(params=["\n", "\r\n"], ids=["LF", "CRLF"])
def only(request):
    """Reads the only layer of a fragment, with one kind of line ends or the other."""

    def read_only(text):
        precisions, found = read(text.replace("\n", request.param))
        assert not found.errors, found
        [precision] = precisions.values()
        return precision, found

    return read_only


def test_a_convolution_in_dynamic_fixed_mode(only):
    found, findings = only(FIXED_CONVOLUTION)
    assert found.mode is DYNAMIC
    assert (found.maps_in, found.maps_out) == (QFormat(6, 2), QFormat(6, 2))
    assert (found.weights, found.bias) == (QFormat(6, 5), QFormat(6, 2))
    assert not len(findings)


def test_a_convolution_in_xilinx_mode(only):
    found, findings = only(XILINX_CONVOLUTION)
    assert found.mode is XILINX
    assert found.maps_in == threshold(kept(150.866221005))
    assert found.bias == found.maps_out == threshold(kept(752.14132257))
    values = (0.63660389185, 0.37376704812, 0.594033837318, 0.400175541639)
    assert found.weights == filters(*map(kept, values))
    assert not len(findings)


def test_an_eltwise_in_dynamic_fixed_mode(only):
    found, findings = only(FIXED_ELTWISE)
    assert (found.maps_in, found.maps_out) == (QFormat(8, 3), QFormat(8, 3))
    assert not len(findings)


def test_an_eltwise_in_xilinx_mode_with_the_misprint(only):
    found, findings = only(XILINX_ELTWISE)
    assert found.maps_in == threshold(kept(752.14132257))
    assert found.maps_out == threshold(kept(1106.06941786))
    [item] = findings
    assert (str(item.severity), item.rule, item.location.line) == ("warning", "DLA130", 9)
    assert "bwlayer_in" in item.message


def test_a_batch_norm(only):
    found, findings = only(BATCH_NORM)
    assert found.mode is DYNAMIC
    assert found.statistics == {
        "batchnorm_mean": QFormat(8, 4),
        "batchnorm_variance": QFormat(8, 3),
    }
    assert not len(findings)


def test_a_scale(only):
    found, findings = only(SCALE)
    assert found.statistics == {
        "scale_gamma": QFormat(8, 5),
        "scale_beta": QFormat(8, 5),
        "scale_gamma_by_std": QFormat(8, 2),
    }
    assert not len(findings)


def test_several_mistakes_are_named_with_their_lines(tmp_path):
    text = FIXED_CONVOLUTION.replace("fl_layer_out: 2", "fl_layer_out: 9")
    text += XILINX_CONVOLUTION.replace("conv1", "conv2").replace(
        "th_layer_in: 150", "th_layer_in: -1"
    )
    found = load(tmp_path, text.replace("\n", "\r\n"), shape=(1, 3, 16, 16)).diagnostics.errors
    places = [(item.rule, item.location.line) for item in found]
    assert ("DLA142", 19) in places
    assert ("DLA141", 39) in places
