"""Operations that take parts of tensors, against NumPy's own indexing."""

import numpy as np
import pytest

from tests.frontends.keras.files import L, T, findings, given, outputs_of, save

RNG = np.random.default_rng(5)
SHAPE = (2, 6, 4, 8)
X = RNG.standard_normal(SHAPE).astype(np.float32)
OPS = "keras.src.ops.numpy"
ALL = slice(None)


def kept(part, generation):
    """An index as a file of Keras has it."""
    if part is Ellipsis:
        return {"class_name": "__ellipsis__", **({"config": {}} if generation == 3 else {})}
    if not isinstance(part, slice):
        return part
    bounds = {"start": part.start, "stop": part.stop, "step": part.step}
    return {"class_name": "__slice__", "config": bounds} if generation == 3 else bounds


def operation(kind, *arguments, keywords=None, **config):
    """An operation of keras.ops on the input."""
    calls = [([T("x"), *arguments], keywords or {})]
    return L(kind, "f", config=config, module=OPS, calls=calls)


def function(name, **keywords):
    """A function of TensorFlow on the input, as Keras 2 has it."""
    kind = "SlicingOpLambda" if name.endswith("getitem") else "TFOpLambda"
    return L(kind, "f", config={"function": name}, calls=[(["x"], keywords)])


def computed(tmp_path, layer, outputs=("f",), generation=3):
    path = save(tmp_path / "m.keras", [given("x", SHAPE[1:]), layer], [*outputs], generation)
    return outputs_of(path, x=X)


@pytest.mark.parametrize(
    "index",
    [
        (ALL, slice(1, -1), slice(None, None, 2)),
        (ALL, 0),
        (ALL, -1, slice(1, 3)),
        (Ellipsis, slice(None, 3)),
        (ALL, None, 2, Ellipsis, slice(1, 3)),
        (ALL, slice(None, None, -1), slice(3, 0, -2)),
        (slice(0, None, 1), slice(-100, 100)),
        (ALL, 1, 2, 3),
        (ALL,),
    ],
)
@pytest.mark.parametrize("generation", [2, 3])
def test_an_index_takes_what_numpy_takes(tmp_path, index, generation):
    parts = [kept(part, generation) for part in index]
    item = operation("GetItem", parts)
    if generation == 2:
        item = function("__operators__.getitem", slice_spec=parts)
    [found] = computed(tmp_path, item, generation=generation)
    np.testing.assert_array_equal(found, X[index])


@pytest.mark.parametrize(
    "index",
    [(0,), (slice(1, None),), (None, ALL), (ALL, 6), (ALL, slice(3, 3)), (ALL,) * 5, (ALL, True)],
)
def test_an_index_of_the_batch_or_of_nothing_is_refused(tmp_path, index):
    item = operation("GetItem", [kept(part, 3) for part in index])
    path = save(tmp_path / "m.keras", [given("x", SHAPE[1:]), item], ["f"])
    [(rule, _)] = findings(path)
    assert rule in {"DLA108", "DLA178"}


def reflected(x):
    return np.pad(x, [(0, 0), (1, 2), (0, 0), (0, 0)], mode="reflect")


def padded(x, value=0.0):
    return np.pad(x, [(0, 0), (1, 2), (0, 0), (0, 0)], constant_values=value)


def in_blocks(x, n):
    """``[N, H n, W n, C]``: the channels of a place are rows of blocks, each of C."""
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height, width, n, n, channels // n**2)
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * n, width * n, -1)


def out_of_blocks(x, n):
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height // n, n, width // n, n, channels)
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // n, width // n, -1)


WIDTHS = [[0, 0], [1, 2], [0, 0], [0, 0]]
CASES = [
    (operation("Pad", keywords={"constant_values": None}, pad_width=WIDTHS), padded(X)),
    (operation("Pad", keywords={"constant_values": 2}, pad_width=WIDTHS), padded(X, 2)),
    (operation("Pad", pad_width=WIDTHS, mode="reflect"), reflected(X)),
    (function("compat.v1.pad", paddings=WIDTHS, mode="CONSTANT", constant_values=0), padded(X)),
    (function("pad", paddings=WIDTHS, mode="REFLECT"), reflected(X)),
    (operation("Tile", repeats=[1, 2, 1, 3]), np.tile(X, [1, 2, 1, 3])),
    (function("tile", multiples=[1, 1, 2, 1]), np.tile(X, [1, 1, 2, 1])),
    (operation("Swapaxes", axis1=1, axis2=-1), X.swapaxes(1, -1)),
    (operation("Moveaxis", source=-1, destination=1), np.moveaxis(X, -1, 1)),
    (operation("Moveaxis", source=[3, 1], destination=[1, 2]), np.moveaxis(X, [3, 1], [1, 2])),
    (function("compat.v1.transpose", perm=[0, 3, 1, 2]), X.transpose(0, 3, 1, 2)),
    (operation("DepthToSpace", block_size=2, data_format="channels_last"), in_blocks(X, 2)),
    (function("nn.depth_to_space", block_size=2), in_blocks(X, 2)),
    (operation("SpaceToDepth", block_size=2), out_of_blocks(X, 2)),
    (function("nn.space_to_depth", block_size=2), out_of_blocks(X, 2)),
    (operation("Resize", size=[12, 4], interpolation="nearest"), X.repeat(2, 1)),
    (function("image.resize", size=[6, 12], method="nearest"), X.repeat(3, 2)),
    (operation("Power", 2), X**2),
    (operation("Power", 3), X**3),
    (function("math.pow", y=3), X**3),
    (L("Power", "f", module=OPS, calls=[([2, T("x")], {})]), 2**X),
    (operation("Min", axis=-1), X.min(-1)),
    (operation("Amax", axis=1, keepdims=True), X.max(1, keepdims=True)),
    (operation("Squeeze", axis=None), X),
    (operation("ExpandDims", axis=[1]), X[:, None]),
    (operation("Cast", dtype="float16"), X),
    (operation("HardTanh"), X.clip(-1, 1)),
    (function("keras.backend.batch_flatten"), X.reshape(2, -1)),
    (function("nn.bias_add", bias=[1.0] * 8), X + 1),
    (operation("MaxPool", pool_size=2, strides=None, padding="valid"), None),
    (function("nn.max_pool2d", ksize=[1, 2, 2, 1], strides=2, padding="VALID"), None),
]


@pytest.mark.parametrize(("layer", "wanted"), CASES, ids=range(len(CASES)))
def test_an_operation_moves_elements_as_numpy_does(tmp_path, layer, wanted):
    if wanted is None:
        wanted = X.reshape(2, 3, 2, 2, 2, 8).max(axis=(2, 4))
    old = layer.kind == "TFOpLambda"
    [found] = computed(tmp_path, layer, generation=2 if old else 3)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (operation("Split", indices_or_sections=2, axis=-1), np.split(X, 2, -1)),
        (operation("Split", indices_or_sections=[1, 5], axis=1), np.split(X, [1, 5], 1)),
        (function("split", num_or_size_splits=[1, 3], axis=2), np.split(X, [1], 2)),
        (function("unstack", axis=2), [X[:, :, index] for index in range(4)]),
    ],
)
def test_a_split_has_several_results(tmp_path, layer, wanted):
    old = layer.kind == "TFOpLambda"
    outputs = [T("f", 0, index) for index in range(len(wanted))]
    found = computed(tmp_path, layer, outputs, 2 if old else 3)
    for array, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(array, other)


def test_a_stack_adds_an_axis(tmp_path):
    stack = L("Stack", "f", config={"axis": 1}, module=OPS, calls=[([["x", "x"]], {})])
    np.testing.assert_array_equal(computed(tmp_path, stack)[0], np.stack([X, X], 1))


@pytest.mark.parametrize(
    "layer",
    [
        operation("Pad", pad_width=[[1, 0], [0, 0], [0, 0], [0, 0]]),
        operation("Pad", pad_width=WIDTHS, mode="symmetric"),
        operation("Pad", pad_width=3),
        operation("Tile", repeats=[2, 1, 1, 1]),
        operation("Split", indices_or_sections=3, axis=-1),
        operation("Split", indices_or_sections=[5, 3], axis=-1),
        operation("Split", indices_or_sections=2, axis=0),
        operation("Moveaxis", source=0, destination=1),
        operation("Moveaxis", source=[1, 2], destination=1),
        operation("DepthToSpace", block_size=3),
        operation("SpaceToDepth", block_size=4),
        operation("Resize", size=[7, 4]),
        operation("Resize", size=[3, 2]),
        operation("Cast", dtype="int32"),
        operation("Stack", axis=0),
    ],
    ids=lambda layer: layer.kind,
)
def test_what_does_not_fit_is_refused(tmp_path, layer):
    path = save(tmp_path / "m.keras", [given("x", SHAPE[1:]), layer], [T("f")])
    [(rule, _)] = findings(path)
    assert rule in {"DLA108", "DLA178"}
