"""Text files are UTF-8. Other encodings are recognised, so that a message can name the remedy."""

from __future__ import annotations

import codecs

BOM = codecs.BOM_UTF8
UTF16 = "the file is not UTF-8 but looks like UTF-16. Convert it: iconv -f UTF-16 -t UTF-8"


def is_utf16(content: bytes) -> bool:
    """Whether a text begins as UTF-16 does."""
    zeros = [not any(content[first:100:2]) for first in (0, 1)]  # of ASCII letters, one byte of two is 0
    return content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (len(content) > 3 and any(zeros))


def not_utf8(content: bytes) -> str:
    """What is wrong with the encoding of a text, with its remedy; empty if it is UTF-8.

    >>> not_utf8("Müller".encode("latin-1"))
    'the file is not UTF-8: line 1 has the byte 0xfc. Convert it, such as iconv -f LATIN1 -t UTF-8'
    >>> not_utf8("Müller".encode())
    ''
    """
    if is_utf16(content):
        return UTF16
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return (f"the file is not UTF-8: line {line} has the byte 0x{content[error.start]:02x}. Convert it, such as "
                "iconv -f LATIN1 -t UTF-8")
    return ""
