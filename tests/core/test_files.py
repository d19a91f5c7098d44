import os

import pytest

from dlaconv.errors import UnreadableError, UsageError
from dlaconv.files import replacing, require_conversion_output, require_file, require_output


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failed_write(tmp_path, failure):
    path = tmp_path / "net.onnx"

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableError, match="no such file"):
        require_file(tmp_path / "net.onnx")
    with pytest.raises(UnreadableError, match="this is a folder"):
        require_file(tmp_path)


def test_an_output_must_have_a_folder_and_not_be_an_input(tmp_path):
    source = tmp_path / "net.onnx"
    source.write_text("")
    require_output(tmp_path / "new.onnx", [source])
    with pytest.raises(UsageError, match="is a folder"):
        require_output(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        require_output(tmp_path / "missing" / "new.onnx")
    with pytest.raises(UsageError, match="overwrite"):
        require_output(tmp_path / "." / "net.onnx", [source])


def test_a_pipe_or_device_is_no_output(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="no ordinary file"):
        require_output(pipe)
    link = tmp_path / "link.onnx"
    link.symlink_to(pipe)
    with pytest.raises(UsageError, match="no ordinary file"):
        require_output(link)


def test_the_report_overwrites_neither_an_input_nor_the_output(tmp_path):
    target = tmp_path / "net.json"
    target.write_text("a target description")
    require_conversion_output(tmp_path / "other.onnx", [target])
    with pytest.raises(UsageError, match="overwrite an input"):
        require_conversion_output(tmp_path / "net.onnx", [target])
    with pytest.raises(UsageError, match="same name"):
        require_conversion_output(tmp_path / "new.json", [])
    with pytest.raises(UsageError, match="same name"):
        require_conversion_output(tmp_path / "new.weights", [])
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        require_conversion_output(tmp_path / "folder.onnx", [])
