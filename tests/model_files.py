"""Model files as others would write them: straight from the format, without fastbp.

`parse` and `pack` take a file apart and put it together again; what is put together has the right
checksum unless it is given, so that what else is wrong is looked at.
"""

import hashlib
import json
import math

SIZES = {
    **dict.fromkeys(["BOOL", "U8", "I8"], 1),
    **dict.fromkeys(["U16", "I16", "F16"], 2),
    **dict.fromkeys(["U32", "I32", "F32"], 4),
    **dict.fromkeys(["U64", "I64", "F64"], 8),
}


def parse(content):
    """Return the header of a file, as a dict, and the bytes that follow it.

    The settings, one JSON text in the file, are a dict of texts under ``__metadata__``.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    settings = json.loads(header["__metadata__"]["fastbp"])
    header["__metadata__"] = {name: json.dumps(value) for name, value in settings.items()}
    return header, content[8 + length :]


def checksum(header, data):
    """The sha256 of all names, settings, dtypes and shapes, then of the arrays by their names."""
    settings = {k: json.loads(v) for k, v in header["__metadata__"].items() if k != "checksum"}
    arrays = {k: v for k, v in header.items() if k != "__metadata__"}
    kinds = {name: [place["dtype"], place["shape"]] for name, place in arrays.items()}
    text = json.dumps([settings, kinds], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        start, end = arrays[name]["data_offsets"]
        digest.update(data[start:end])
    return digest.hexdigest()


def pack(header, data, *, padding=b"", with_checksum=True):
    """Return the file with this header, its checksum put right if there can be one."""
    settings = header.get("__metadata__")
    if with_checksum:
        try:
            settings = {**settings, "checksum": json.dumps(checksum(header, data))}
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError):
            pass
    if isinstance(settings, dict):
        texts = (f"{json.dumps(name)}: {text}" for name, text in settings.items())
        header = {**header, "__metadata__": {"fastbp": "{" + ", ".join(texts) + "}"}}
    return frame(json.dumps(header).encode() + padding, data)


def frame(text, data):
    """Return the file with this header, whatever it says."""
    return len(text).to_bytes(8, "little") + text + data


def lay_out(header):
    """Give the arrays of a header their places, one after the other."""
    end = 0
    placed = {"__metadata__": header["__metadata__"]}
    for name, place in header.items():
        if name != "__metadata__":
            n = math.prod(int(length) for length in place["shape"])
            start, end = end, end + n * SIZES[place["dtype"]]
            placed[name] = {**place, "data_offsets": [start, end]}
    return placed
