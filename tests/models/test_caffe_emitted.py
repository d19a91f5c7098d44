"""Prototxts of the collection, written and read back."""

import re

import numpy as np
import pytest

from dlaconv.frontends.caffe import load_caffe
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import parse_text
from dlaconv.ir.calibration.observe import model_digest
from dlaconv.ir.execution import Executor
from tests.frontends.caffe.files import caffemodel
from tests.frontends.caffe.test_caffe_emission import Samples
from tests.frontends.caffe.test_caffe_printing import content, read_back
from tests.models.collection import FOLDER, needs_models
from tests.models.test_caffe_imported import REAL

pytestmark = needs_models

CAFFE = FOLDER / "caffe"
RNG = np.random.default_rng(1)


def names(pattern):
    return sorted(str(path.relative_to(CAFFE)) for path in CAFFE.glob(pattern))


def emitted(folder, prototxt, weights, **options):
    """Both networks: as imported where a prototxt is written, and as read from that one."""
    path = folder / "out.prototxt"
    imported = load_caffe(prototxt, weights, emit_prototxt=path, **options)
    assert not imported.diagnostics.errors, list(imported.diagnostics.errors)[:3]
    path.write_text(imported.files[path], "utf-8")
    again = load_caffe(path, weights)
    assert not again.diagnostics.errors, list(again.diagnostics.errors)[:3]
    return imported, again


@pytest.mark.parametrize("name", names("**/*.prototxt"))
def test_every_prototxt_prints_as_it_was_read(name):
    text = (CAFFE / name).read_text("utf-8")
    net, _ = parse_text(text, caffe_schema(), "NetParameter", name)
    assert content(read_back(net)) == content(net)


def weights_for(net):
    """Random blobs for the layers of a network of inputs with three channels."""
    blobs, channels = {}, {"data": 3}
    for layer in net.messages("layer"):
        bottoms, kind = layer.texts("bottom"), layer.text("type")
        known = [channels.get(name, 0) for name in bottoms]
        count = sum(known) if kind == "Concat" else known[0] if known else 3
        if kind == "Convolution":
            param = layer.message("convolution_param")
            size = (param.integers("kernel_size") or [1])[0]
            outputs = param.integer("num_output")
            shape = (outputs, count // param.integer("group"), size, size)
            blobs[layer.text("name")] = [RNG.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)]
            if param.flag("bias_term"):
                blobs[layer.text("name")].append(RNG.normal(0, 0.1, outputs))
            count = outputs
        elif kind == "BatchNorm":
            blobs[layer.text("name")] = [RNG.normal(size=count), RNG.uniform(1, 2, count), [1.0]]
        elif kind == "Scale":
            blobs[layer.text("name")] = [RNG.uniform(0.5, 1.5, count), RNG.normal(size=count)]
        elif kind == "InnerProduct":
            outputs = layer.message("inner_product_param").integer("num_output")
            blobs[layer.text("name")] = [RNG.normal(0, 0.03, (outputs, count)), np.zeros(outputs)]
            count = outputs
        channels.update(dict.fromkeys(layer.texts("top"), count))
    return blobs


@pytest.mark.parametrize("name", names("chai/*.prototxt"))
def test_networks_for_chaidnn_are_the_same_when_read_again(name, tmp_path):
    source = CAFFE / name
    text = source.read_text("utf-8")
    net, _ = parse_text(text, caffe_schema(), "NetParameter", name)
    weights = tmp_path / "net.caffemodel"
    weights.write_bytes(caffemodel(weights_for(net)))
    plain = load_caffe(source, weights)
    for mode in ("Xilinx", "DynamicFixed"):
        imported, again = emitted(tmp_path, source, weights, quant_type=mode)
        assert model_digest(imported.model) == model_digest(again.model)
        written = set(re.findall(r'quant_type: "(\w+)"', (tmp_path / "out.prototxt").read_text()))
        assert written == {mode}
        same = model_digest(imported.model) == model_digest(plain.model)
        assert same == (mode in name)


@pytest.mark.parametrize("mode", ["Xilinx", "DynamicFixed"])
@pytest.mark.parametrize("name", REAL)
def test_real_networks_are_calibrated_and_the_same_when_read_again(name, mode, tmp_path):
    prototxt = CAFFE / "real" / f"{name}.prototxt"
    weights = CAFFE / "real" / f"{REAL[name]}.caffemodel"
    if not weights.is_file():
        pytest.skip("not in the collection")
    plain = load_caffe(prototxt, weights)
    [fed] = plain.model.graph.inputs
    shape = tuple(fed.shape)

    class Data(Samples):
        def reaches(self, model, names, largest):
            feeds = {fed.name: np.float32(RNG.normal(0, 50, shape))}
            found = Executor(model, list(dict.fromkeys(names))).run(feeds)
            return {key: float(np.abs(array).max()) for key, array in found.items()}

    samples = Data(None)
    imported, again = emitted(tmp_path, prototxt, weights, quant_type=mode, calibration=samples)
    assert model_digest(imported.model) == model_digest(again.model)


@pytest.mark.parametrize("mode", ["Xilinx", "DynamicFixed"])
@pytest.mark.parametrize("name", names("sem/*.prototxt"))
def test_a_network_of_one_feature_is_calibrated_and_near_what_caffe_computes(name, mode, tmp_path):
    prototxt = CAFFE / name
    arrays = dict(np.load(prototxt.with_suffix(".npz")))
    feeds = {key[3:]: array for key, array in arrays.items() if key.startswith("in:")}

    class Data(Samples):
        def reaches(self, model, names, largest):
            fed = {value.name: feeds[value.name] for value in model.graph.inputs}
            found = Executor(model, list(dict.fromkeys(names))).run(fed)
            return {key: float(np.abs(array).max()) for key, array in found.items()}

    weights = prototxt.with_suffix(".caffemodel")
    options = {"quant_type": mode, "calibration": Data(None)}
    imported, again = emitted(tmp_path, prototxt, weights, **options)
    assert model_digest(imported.model) == model_digest(again.model)
    fed = {value.name: feeds[value.name] for value in imported.model.graph.inputs}
    for key, found in Executor(imported.model).run(fed).items():
        wanted = arrays[f"out:{key}"].astype(np.float64)
        noise = np.square(found - wanted).sum()
        assert noise <= np.square(wanted).sum() * 10**-2.5
