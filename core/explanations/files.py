"""DLA40x, DLA41x, DLA43x and DLA44x: files that cannot be read, recognised or used."""

from __future__ import annotations

from dlaconv.explanations.explanation import Explanation

FILES = (
    Explanation(
        "DLA401",
        "unreadable-file",
        "A path leads to nothing that can be read.",
        "There is nothing to work on.",
        "Give the path of a file that exists and that you may read.",
    ),
    Explanation(
        "DLA402",
        "not-onnx",
        "The bytes of a file are no ONNX model.",
        "A file that is cut off or of another format would be misread.",
        "Export the network again, or copy the file again: it may be cut off.",
    ),
    Explanation(
        "DLA403",
        "unknown-version",
        "The model is written in a version of ONNX that is not known.",
        "Later versions may mean other things by the same fields.",
        "Export it with a version that the message names.",
    ),
    Explanation(
        "DLA404",
        "invalid-graph",
        "The graph contradicts itself: cycles, values defined twice or not at all.",
        "Such a graph has no order in which it could be computed.",
        "Export the network again; the file is damaged or was edited by hand.",
    ),
    Explanation(
        "DLA405",
        "external-data",
        "Weights beside the file are missing, cut off, or outside its folder.",
        "A file may not make dlaconv read what is none of its business, nor guess at weights.",
        "Keep the files with the weights in the folder of the model.",
    ),
    Explanation(
        "DLA406",
        "invalid-tensor",
        "A tensor's shape and type do not fit its data.",
        "Its numbers cannot be told.",
        "Export the network again; the file is damaged or was edited by hand.",
    ),
    Explanation(
        "DLA407",
        "too-large",
        "A model is larger than is reasonable for the accelerator.",
        "A damaged or malicious file could otherwise take all memory.",
        "Check the export; a network for the accelerator is far smaller.",
    ),
    Explanation(
        "DLA408",
        "set-shape",
        "A shape given with --set-shape does not fit the network.",
        "Every size that follows from it would be wrong.",
        "Name a graph input, and give a shape that agrees with its known sizes.",
    ),
    Explanation(
        "DLA409",
        "changed-source",
        "A source file was written to while it was converted.",
        "Its weights are read where they are used, so the result would mix two networks.",
        "Wait until whatever writes the file has ended, then convert again.",
    ),
    Explanation(
        "DLA410",
        "bad-target",
        "A file given with --target is no description of a target.",
        "Every limit of the hardware is taken from it.",
        "Write it as schemas/target.schema.json says; schemas/access-1.2.0.json is an example.",
    ),
    Explanation(
        "DLA411",
        "unknown-frontend",
        "There is no frontend of that name.",
        "A format is read by the frontend that knows it.",
        "Use one of those that the message lists; `dlaconv plugins` lists broken ones.",
    ),
    Explanation(
        "DLA412",
        "ambiguous-format",
        "More than one frontend recognises the file.",
        "They may read different networks out of it.",
        "Choose one with --from NAME.",
    ),
    Explanation(
        "DLA413",
        "unknown-format",
        "No frontend recognises the file.",
        "Nothing says what its bytes mean.",
        "Read it with --from NAME, which says what is wrong with it as that format.",
    ),
    Explanation(
        "DLA414",
        "frontend-arguments",
        "The files and arguments are not those that the frontend takes.",
        "Some formats need several files, or have options that change what the network is.",
        "`dlaconv from-NAME --help` lists the arguments of a frontend; other commands take its "
        "options with --source-option.",
    ),
    Explanation(
        "DLA415",
        "no-private-attributes",
        "A file that was to be stripped carries none of the compiler's attributes.",
        "It is plain ONNX already, or made for other hardware.",
        "Give a file that the compiler takes; --target names attributes other than the built-in "
        "ones.",
    ),
    Explanation(
        "DLA416",
        "invalid-onnx-inside",
        "A file is no valid ONNX even without the compiler's attributes.",
        "Stripping is for tools that refuse what ONNX does not allow.",
        "Mend what the message names; `dlaconv check` says more about the file.",
    ),
    Explanation(
        "DLA417",
        "no-report",
        "The file that should say how the parts of a network hang together is no such report.",
        "A network that was cut runs part by part; only the report knows their order and names.",
        "Give the .json that the conversion wrote, with all parts beside it.",
    ),
    Explanation(
        "DLA431",
        "unreadable-arrays",
        "A file of samples is no .npz of numbers.",
        "Calibration and comparison need numbers for every graph input.",
        'Write it with numpy.savez("x.npz", input=array).',
    ),
    Explanation(
        "DLA432",
        "input-missing",
        "A file of samples has no array for a graph input.",
        "The network needs all of its inputs to run.",
        "Name the arrays after the graph inputs.",
    ),
    Explanation(
        "DLA433",
        "input-array",
        "An array of samples has the wrong shape, type or values.",
        "It cannot be fed to the graph input of its name.",
        "Stack the samples along the first axis, each in the shape of the input without its batch.",
    ),
    Explanation(
        "DLA434",
        "sample-count",
        "The arrays of a file of samples differ in their number of samples.",
        "The first samples of all inputs belong together, and so on.",
        "Give every input the same number of samples.",
    ),
    Explanation(
        "DLA435",
        "labels",
        "A file of labels holds no class indices.",
        "Accuracy is counted against one right answer for each sample.",
        "Give one class index for each sample, counted from 0: as .npy or .npz, or as text with "
        "lines of 'name label'.",
    ),
    Explanation(
        "DLA436",
        "labels-misfit",
        "Labels, samples and the classes of a network do not fit each other.",
        "Labels of other samples, or counted from 1, make every network look wrong.",
        "Give the labels of these samples as indices into the network's classes; with several "
        "outputs, choose one with --output.",
    ),
    Explanation(
        "DLA441",
        "file-access",
        "The operating system refuses to read or write a file.",
        "Nothing was written in part.",
        "See to permissions and free space, then try again.",
    ),
    Explanation(
        "DLA442",
        "out-of-memory",
        "There is not enough memory for the network and the samples.",
        "Nothing was written in part.",
        "Use fewer samples, or --no-verify.",
    ),
)
