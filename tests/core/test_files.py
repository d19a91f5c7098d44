import pytest

from dlaconv.errors import UnreadableError, UsageError
from dlaconv.files import replacing, require_file, require_output


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
