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
    """Return the header of a file, as a dict, and the bytes that follow it."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def checksum(header, data):
    """The sha256 of all names, settings, dtypes and shapes, then of the arrays by their names."""
    metadata = {k: v for k, v in header["__metadata__"].items() if k != "checksum"}
    arrays = {k: v for k, v in header.items() if k != "__metadata__"}
    kinds = {name: [place["dtype"], place["shape"]] for name, place in arrays.items()}
    text = json.dumps([metadata, kinds], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        start, end = arrays[name]["data_offsets"]
        digest.update(data[start:end])
    return digest.hexdigest()


def pack(header, data, *, padding=b""):
    """Return the file with this header, its checksum put right if there can be one."""
    try:
        header = {
            **header,
            "__metadata__": {**header["__metadata__"], "checksum": checksum(header, data)},
        }
    except (TypeError, KeyError, ValueError, AttributeError):
        pass
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
