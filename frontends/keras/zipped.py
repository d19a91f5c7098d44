"""Members of a zip file, as views of the mapped file where they are stored as they are.

Nothing is unpacked beside the file: compressed members go to an anonymous temporary file, up to a
size that is known beforehand.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UnreadableError
from dlaconv.frontends.keras import problems
from dlaconv.frontends.problems import too_large

MOST_MEMBERS = 4096
_MOST_DIRECTORY = 1 << 22
_FREE = 1 << 26
"""What a member may inflate to, however small it is."""
_MOST_RATIO = 100
_BLOCK = 1 << 20
_END, _END_SIZE = b"PK\x05\x06", 22
_LOCAL_SIZE = 30


class ZippedFile:
    """A zip file whose directory was checked."""

    def __init__(self, path: Path, data: memoryview) -> None:
        """Reads the directory.

        Args:
            path: the file.
            data: its mapped bytes.

        Raises:
            UnreadableError: if it is damaged, too large, or no archive that Keras could have
                written.
        """
        self._file, self._path, self._data = str(path), path, data
        self._members = self._directory()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def view(self, name: str, most: int | None = None) -> memoryview:
        """The bytes of a member, checked against their checksum.

        Args:
            name: the member.
            most: the most bytes that it may have.

        Raises:
            UnreadableError: if it is missing, damaged or too large.
        """
        info = self._members.get(name)
        if info is None:
            self._damaged(f"the archive has no {name}")
        allowed = max(_FREE, _MOST_RATIO * info.compress_size)
        allowed = allowed if most is None else min(allowed, most)
        if info.file_size > allowed:
            self._refuse(
                too_large(
                    self._file,
                    f"{name} would unpack {info.compress_size} bytes to {info.file_size}; at most "
                    f"{allowed} are read",
                )
            )
        begin = self._begin(info)
        if info.compress_type == zipfile.ZIP_STORED:
            self._check_sum(info, begin)
            return self._data[begin : begin + info.file_size]
        return self._inflated(info)

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        tail = bytes(self._data[-(_END_SIZE + 0xFFFF) :])
        at = tail.rfind(_END)
        if at < 0 or at + _END_SIZE > len(tail):
            self._damaged("the archive has no end; it is cut off")
        count, size = struct.unpack("<HI", tail[at + 10 : at + 16])
        if count > MOST_MEMBERS or size > _MOST_DIRECTORY:
            self._refuse(too_large(self._file, f"the archive has {count} members or more"))
        try:
            with zipfile.ZipFile(self._path) as archive:
                found = archive.infolist()
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            NotImplementedError,
            struct.error,
        ) as error:
            self._damaged(f"the archive is damaged: {error}")
        if len(found) > MOST_MEMBERS:
            self._refuse(too_large(self._file, f"the archive has {len(found)} members"))
        members: dict[str, zipfile.ZipInfo] = {}
        for info in found:
            parts = info.orig_filename.replace("\\", "/").split("/")
            if parts[0] == "" or ".." in parts or parts[0].endswith(":") or "\0" in parts[-1]:
                self._unsafe(f"the archive's {info.orig_filename!r} lies outside of it")
            if info.filename in members:
                self._unsafe(f"the archive has several {info.filename!r}")
            if info.flag_bits & 1:
                self._unsafe(f"{info.filename!r} is encrypted")
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                self._unsafe(f"{info.filename!r} is compressed by method {info.compress_type}")
            members[info.filename] = info
        return members

    def _begin(self, info: zipfile.ZipInfo) -> int:
        """Where the bytes of a member begin."""
        at = info.header_offset
        header = bytes(self._data[at : at + _LOCAL_SIZE]) if at >= 0 else b""
        if len(header) < _LOCAL_SIZE or header[:4] != b"PK\x03\x04":
            self._damaged(f"{info.filename} is not where the archive says")
        name, extra = struct.unpack("<HH", header[26:30])
        begin = int(at + _LOCAL_SIZE + name + extra)
        if begin + info.compress_size > len(self._data):
            self._damaged(f"{info.filename} is cut off")
        return begin

    def _check_sum(self, info: zipfile.ZipInfo, begin: int) -> None:
        found, left = 0, info.file_size
        if info.compress_size != info.file_size:
            self._damaged(f"{info.filename} has two sizes")
        with self._path.open("rb") as stream:  # not the mapping: it would stay in memory
            stream.seek(begin)
            while left and (block := stream.read(min(left, _BLOCK))):
                found, left = zlib.crc32(block, found), left - len(block)
        if found != info.CRC:
            self._damaged(f"{info.filename} is damaged: its checksum differs")

    def _inflated(self, info: zipfile.ZipInfo) -> memoryview:
        try:
            with (
                tempfile.TemporaryFile() as spool,
                zipfile.ZipFile(self._path) as archive,
                archive.open(info) as stream,
            ):
                while block := stream.read(_BLOCK):
                    spool.write(block)
                    if spool.tell() > info.file_size:
                        self._damaged(f"{info.filename} is larger than the archive says")
                spool.flush()
                if os.fstat(spool.fileno()).st_size == 0:
                    return memoryview(b"")
                return memoryview(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ))
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            self._damaged(f"{info.filename} is damaged: {error}")
        except OSError as error:
            self._damaged(f"{info.filename} cannot be unpacked: {error}")

    def _damaged(self, why: str) -> NoReturn:
        self._refuse(problems.not_keras(self._file, why))

    def _unsafe(self, what: str) -> NoReturn:
        self._refuse(problems.unsafe(self._file, what))

    def _refuse(self, diagnostic: Diagnostic) -> NoReturn:
        raise UnreadableError(diagnostic)
