"""DLA3xx: operators and shapes that have no place on the hardware."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

OPERATORS = (
    Explanation(
        "DLA301",
        "unconvertible-operator",
        "The network has an operator that the hardware lacks and that nothing replaces.",
        "Every operator runs on a fixed unit of the accelerator; there is no processor to fall "
        "back on.",
        "Remove the operator, or end the network before it and run the rest on the host. `dlaconv "
        "ops` lists what there is.",
    ),
    Explanation(
        "DLA302",
        "computed-weights",
        "The weights of a layer are computed by the network.",
        "The compiler packs weights into the file; they cannot change at run time.",
        "Fold the computation before export, or multiply two maps with MatMul.",
    ),
    Explanation(
        "DLA303",
        "unfolded-constant",
        "A constant that no neighbouring layer could absorb is added, multiplied or joined.",
        "Add, Div, MatMul and Concat read two stored maps; a constant has no map to be stored in.",
        "Fold it into the bias or the weights of the layer before it.",
    ),
    Explanation(
        "DLA304",
        "malformed-operator",
        "An element-wise operator or matrix product does not have two operands.",
        "The hardware defines these operators on two maps.",
        "Export the network again; more than two maps are added in a chain.",
    ),
    Explanation(
        "DLA305",
        "not-runnable",
        "A fixed-point file cannot be read as the layers of the hardware.",
        "Only a network of those layers has integers that can be simulated.",
        "Run `dlaconv check` on it, which names everything that is wrong.",
    ),
    Explanation(
        "DLA306",
        "batch-size",
        "A graph input takes several samples at once.",
        "The hardware runs one sample at a time.",
        "Give --set-shape with a batch of one.",
    ),
    Explanation(
        "DLA307",
        "constant-output",
        "A graph output depends on no input.",
        "There is no layer that could compute it, and its value never changes.",
        "Remove the output.",
    ),
    Explanation(
        "DLA308",
        "map-without-channels",
        "A stored map that is quantised again, or of which the sign is taken, has one axis only.",
        "The layer that does so works on channels: its maps have the shape [1, C] or [1, C, H, W].",
        "Give it the shape [1, C].",
    ),
    Explanation(
        "DLA309",
        "unusable-constant",
        "Weights, biases or slopes hold infinite values or no numbers, or none at all.",
        "The hardware computes with integers, and none of them stands for such a value.",
        "Look for a division by zero in training or export, or for a layer without channels.",
    ),
    Explanation(
        "DLA310",
        "contradicting-shapes",
        "The shapes of the network do not fit each other.",
        "Sizes decide buffers, tiles and what is padded; a network with contradictions cannot run.",
        "Check the exported network, and any shape given with --set-shape.",
    ),
    Explanation(
        "DLA311",
        "open-input-shape",
        "The shape of a graph input is not static.",
        "The accelerator runs a network for one fixed input size.",
        "Give it with --set-shape NAME=1,C,H,W.",
    ),
    Explanation(
        "DLA312",
        "data-dependent-shape",
        "The shape of a value depends on the data.",
        "The accelerator runs a network for one fixed input size.",
        "Replace the operator by one whose result has a fixed shape.",
    ),
    Explanation(
        "DLA313",
        "approximate-rewrite",
        "Only a rewrite that changes integers would make an operator fit the hardware.",
        "A rewrite that rounds once more, or rounds weights anew, moves some values by a unit.",
        "Accept it with --legalise all and look at the verification, change the layer, or give it "
        "to the host with --partition.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA320",
        "nothing-left",
        "After giving the host what the hardware cannot run, nothing is left for the accelerator.",
        "A part is worth the accelerator only if it holds a layer with weights that fits.",
        "Change the layers that the message names, or look at `dlaconv ops` for what there is.",
    ),
)
