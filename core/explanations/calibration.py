"""DLA33x: calibration data that cannot be used, or of which something must be known."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

CALIBRATION = (
    Explanation(
        "DLA330",
        "no-images",
        "A folder given for calibration holds no picture that can be read.",
        "Ranges of maps are measured on what the network will see.",
        "Give a folder of PNG, JPEG or other pictures, or an .npz of samples.",
    ),
    Explanation(
        "DLA331",
        "skipped-files",
        "Some files of a folder are no pictures, or cannot be read, and are left out.",
        "Fewer samples measure the ranges of maps less well.",
        "Take them out of the folder, or mend them.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA332",
        "pixel-values",
        "It is not said how pixels become the values that the network takes.",
        "Other values than in training lead to other ranges of every map, and so to lost accuracy.",
        "Give --preset, or --scale, --mean and --std, as in training.",
    ),
    Explanation(
        "DLA333",
        "image-input",
        "The network does not take pictures, or not of this size.",
        "Pictures become arrays of 1 or 3 channels, height and width.",
        "Give the samples as an .npz with an array for each graph input.",
    ),
    Explanation(
        "DLA334",
        "random-calibration",
        "The ranges of maps are measured on random inputs, as --calibrate random asks for.",
        "Real inputs use other ranges; the file is marked as calibrated at random.",
        "Give real inputs: a folder of pictures or an .npz.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA335",
        "calibration-items",
        "A Python iterable given for calibration does not yield samples of the graph inputs.",
        "Ranges of maps are measured on samples, one at a time.",
        "Yield arrays, or mappings from graph inputs to arrays, and end.",
    ),
    Explanation(
        "DLA336",
        "calibration-option",
        "The value of an option for pictures cannot be read.",
        "Pixels would get values that were not asked for.",
        "Write numbers with commas between them, 224 or 224x320 for sizes, 1/255 for a ratio.",
    ),
    Explanation(
        "DLA337",
        "inexact-fold",
        "With --fold-preprocess the network would not compute the same: its first layer pads with "
        "zeros that stand for other pixels than the hardware's, the source quantises its input or "
        "weights on a grid that folding leaves, or no layer with weights comes first.",
        "The hardware pads with the integer 0, and takes bytes as they are minus 128 where maps "
        "have a sign.",
        "Drop --fold-preprocess, and let the host do to pixels what the source wants; "
        "docs/preprocessing.md lists what is exact.",
    ),
    Explanation(
        "DLA338",
        "no-pixels",
        "A network that takes pixels is given values that are none: not whole, below 0 or above "
        "255.",
        "What was done to pixels before is in its weights, and would be done twice.",
        "Give pictures as they are, in bytes.",
    ),
    Explanation(
        "DLA339",
        "unknown-preprocessing",
        "It is not said what is done to pixels, so there is nothing to fold.",
        "The first layer's weights take over what the host does to pixels otherwise.",
        "Give --preset, or --scale, --mean and --std; --preset raw where nothing is done.",
    ),
)
