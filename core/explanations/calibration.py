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
)
