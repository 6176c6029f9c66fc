"""Zip entries as inspect_ai packs them since 2026: with Zstandard, which Python's zipfile reads from 3.14 on."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

from promptlab.errors import SetupError

ZSTANDARD = 93  # PKWARE's APPNOTE 6.3.10, section 4.4.5


def entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """What an entry of a zip file holds, also where it is packed with Zstandard."""
    info = archive.getinfo(name)
    if info.compress_type != ZSTANDARD:
        return archive.read(name)
    try:
        return archive.read(name)
    except NotImplementedError:
        return _unpack()(_packed(archive, info))


def _packed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """An entry's bytes as they stand in the file, behind its local header (APPNOTE, section 4.3.7)."""
    file = archive.fp
    assert file is not None
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(name + extra, 1)
    return file.read(info.compress_size)


def _unpack() -> Callable[[bytes], bytes]:
    try:
        zstandard: Any = import_module("zstandard")
    except ImportError as error:
        raise SetupError(
            "This .eval is packed with Zstandard. Install promptlab[logs], or rewrite it with: "
            "inspect log convert LOG --to json --output-dir DIR"
        ) from error
    return lambda packed: zstandard.ZstdDecompressor().decompressobj().decompress(packed)
