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
        "Give --border-channel where padding is the reason; or drop --fold-preprocess, and let the "
        "host do to pixels what the source wants; "
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
    Explanation(
        "DLA340",
        "qconfig-file",
        "A file of overrides is no plain YAML: syntax, encoding, size, tags, anchors, double keys.",
        "A file from elsewhere must not run anything nor grow without bounds.",
        "Write plain keys, lists, words and numbers; docs/calibration.md has examples.",
    ),
    Explanation(
        "DLA341",
        "qconfig-entry",
        "An override has an unknown key, or a value of the wrong kind or size.",
        "An override that is not understood would be missed without a word.",
        "Write what the message says; schemas/qconfig.schema.json has all keys.",
    ),
    Explanation(
        "DLA342",
        "override-unmatched",
        "An override matches nothing in the network, or layers without what it is about.",
        "It would be missed without a word.",
        "Use names of layers and tensors as `dlaconv show` and reports list them, or drop it.",
    ),
    Explanation(
        "DLA343",
        "override-impossible",
        "The hardware or the source leaves no room for an override.",
        "Integers of the source are kept, steps that are tied differ by powers of two or not at "
        "all, and weights have the bits that the hardware stores.",
        "Change or drop the entry as the message says.",
    ),
    Explanation(
        "DLA344",
        "override-skipped",
        "An override with a pattern matches also what cannot be overridden; that stays as it is.",
        "The source's integers are kept where it quantises.",
        "Nothing has to be done; a narrower pattern avoids the note.",
        Severity.NOTE,
    ),
    Explanation(
        "DLA345",
        "unfolded-pixels",
        "The calibration data are pixels of 0..255, and no preprocessing is folded.",
        "Maps with a sign hold 0..127 above zero, so a unit is two pixels.",
        "Fold it: --fold-preprocess --preset raw, with --border-channel where the first layer "
        "pads; the network takes pixels minus 128 then, all 8 bits of them.",
        Severity.WARNING,
    ),
)
