"""DLA42x, DLA45x and DLA490: options, plugins, and bugs of our own."""

from __future__ import annotations

from dlaconv.explanations.explanation import Explanation

USAGE = (
    Explanation(
        "DLA421",
        "output-path",
        "The output cannot be written where it was asked for.",
        "This is said before any work is spent on its content.",
        "Name an ordinary file in a folder that exists, which is none of the inputs.",
    ),
    Explanation(
        "DLA422",
        "shape-option",
        "The value of --set-shape is no shape.",
        "A shape is a name and positive sizes.",
        "Write --set-shape NAME=1,3,224,224.",
    ),
    Explanation(
        "DLA423",
        "options-conflict",
        "Two options contradict each other.",
        "Whichever one were ignored, the result would not be what was asked for.",
        "Drop one of them.",
    ),
    Explanation(
        "DLA424",
        "unknown-rule",
        "There is no rule or diagnostic of that id.",
        "Ids are never used again, so an old one may have gone.",
        "`dlaconv rule` lists them all.",
    ),
    Explanation(
        "DLA425",
        "usage",
        "The command line cannot be understood.",
        "A command, argument or option is unknown or missing.",
        "`dlaconv COMMAND --help` explains the usage.",
    ),
    Explanation(
        "DLA426",
        "option-value",
        "An option has a value that it cannot have.",
        "The Python API takes the same values as the command line.",
        "Choose one of those that the message lists.",
    ),
    Explanation(
        "DLA451",
        "frontend-claimed-twice",
        "Two plugins claim one frontend.",
        "They may read a file differently.",
        "Uninstall one of them, or name the plugins to load in DLACONV_PLUGINS.",
    ),
    Explanation(
        "DLA452",
        "layer-claimed-twice",
        "Two plugins claim one layer of a frontend.",
        "They may give it different meanings.",
        "Name the plugins to load in DLACONV_PLUGINS.",
    ),
    Explanation(
        "DLA453",
        "frontend-failed",
        "A plugin's frontend failed.",
        "What it has read so far cannot be trusted.",
        "Report it to the authors of the plugin.",
    ),
    Explanation(
        "DLA490",
        "internal-error",
        "An invariant of dlaconv does not hold: a bug.",
        "Nothing was written, since the result could be wrong.",
        "Run it again with --debug and send the traceback with your report.",
    ),
)
