"""Model files that are none, made by hand from a good one; none of them may be believed."""

import copy
import json
import struct

import model_files
from model_files import frame, pack, parse

LONG = 1 << 40


def of(content):
    """Names, and the hostile files that a good file of a network with a velocity leads to."""
    good, data = parse(content)
    text = content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip()
    files = {}

    def header(name, change, new_data=data, lay_out=False):
        """The file after a change of its header, with a checksum that is right for it."""
        changed = copy.deepcopy(good)
        result = change(changed)
        changed = changed if result is None else result
        files[name] = pack(model_files.lay_out(changed) if lay_out else changed, new_data)

    def setting(name, key, value):
        def change(changed):
            if value is None:
                del changed["__metadata__"][key]
            else:
                changed["__metadata__"][key] = value

        header(f"{key} {name}", change)

    def place(name, array, fields):
        header(f"{array} {name}", lambda changed: changed[array].update(fields))

    # What is no file of this kind at all
    files |= {
        "empty": b"",
        "one byte": b"x",
        "only a length": (0).to_bytes(8, "little"),
        "zeros": b"\0" * 1000,
        "text": b"This is no model.\n" * 50,
        "a pickle": b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
        "a zip": b"PK\x03\x04" + b"\0" * 200,
        "JSON without a length": text,
        "length of 2^64 - 1": struct.pack("<Q", 2**64 - 1) + text,
        "length of 100 MB": struct.pack("<Q", 10**8) + text,
        "length one too long": struct.pack("<Q", len(text) + len(data) + 1) + text + data,
        "length one less": struct.pack("<Q", len(text) - 1) + text + data,
        "length big-endian": struct.pack(">Q", len(text)) + text + data,
        "length of zero": struct.pack("<Q", 0) + text + data,
    }

    # Headers that are no JSON object
    for name, header_text in {
        "nothing": b"",
        "null": b"null",
        "a list": b"[]",
        "an empty object": b"{}",
        "single quotes": text.replace(b'"', b"'"),
        "text behind it": text + b"{}",
        "a byte order mark": b"\xef\xbb\xbf" + text,
        "UTF-16": text.decode().encode("utf-16"),
        "bytes that are no UTF-8": text.replace(b"weights", b"w\xff\xfeghts"),
        "a NUL": text + b"\0",
        "deep lists": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "many lists": b'{"a":[' + (b"[" * 500 + b"]" * 500 + b",") * 520 + b"[]]}",
        "a comment": b"/* */" + text,
        "settings twice": text[:-1] + b',"__metadata__":{}}',
        "a number of 5000 digits": text.replace(
            b'"shape":[2,3]', b'"shape":[' + b"9" * 5000 + b"]"
        ),
    }.items():
        files[f"header: {name}"] = frame(header_text, data)

    # Settings
    header("no settings", lambda changed: changed.pop("__metadata__") and None)
    for name, metadata in {
        "null": None,
        "a list": [],
        "a string": "x",
        "empty": {},
        "a number": {"fastbp": 0},
        "a list of texts": {"fastbp": ["{}"]},
        "of others": {"format": "pt"},
        "no JSON": {"fastbp": "{"},
        "no object": {"fastbp": "[]"},
        "deep": {"fastbp": "[" * 100_000},
    }.items():
        files[f"settings {name}"] = frame(
            json.dumps({**good, "__metadata__": metadata}).encode(), data
        )
    for key in ("kind", "version", "layer_sizes", "activation", "seed", "epoch", "n_steps"):
        setting("missing", key, None)
        setting("empty", key, "")
        setting("null", key, "null")
        setting("deep", key, "[" * 5000)
        setting("an object", key, '{"a": 1}')
        setting("true", key, "true")
    for key in ("seed", "epoch", "n_steps", "version"):
        for name, value in {
            "negative": "-1",
            "a float": "1.0",
            "NaN": "NaN",
            "infinite": "Infinity",
            "huge": str(2**64),
            "of 5000 digits": "9" * 5000,
            "a string": '"0"',
        }.items():
            setting(name, key, value)
    setting("of a later version", "version", "2")
    setting("of nobody", "kind", '"else"')
    setting("unknown", "activation", '"softplus"')
    setting("a number", "activation", "0")
    for name, sizes in {
        "of one layer": [2],
        "of no layer": [],
        "with zero": [2, 0, 2],
        "negative": [-2, -3, 2],
        "floats": [2.0, 3.0, 2.0],
        "booleans": [True, True],
        "strings": ["2", "3", "2"],
        "nested": [[2, 3, 2]],
        "huge": [2, 2**62, 2],
        "beyond 64 bits": [2, 2**70, 2],
        "turned round": [3, 2, 3],
        "one layer more": [2, 3, 2, 2],
        "one layer less": [2, 3],
        "many": [1] * 100_000,
    }.items():
        setting(name, "layer_sizes", json.dumps(sizes))

    # Arrays
    for array in ("weights.0", "weights.1", "biases.0", "biases.1"):
        header(f"{array} missing", lambda changed, a=array: changed.pop(a) and None)
    header(
        "weights.1 missing, no gap",
        lambda changed: changed.pop("weights.1") and None,
        data[:-24],
        lay_out=True,
    )
    for name, fields in {
        "BF16": {"dtype": "BF16", "shape": [2, 6]},
        "F64": {"dtype": "F64"},
        "F16": {"dtype": "F16"},
        "I32": {"dtype": "I32"},
        "of no dtype": {"dtype": None},
        "of a dtype that is a list": {"dtype": ["F32"]},
        "of a flat shape": {"shape": [6]},
        "of a turned shape": {"shape": [3, 2]},
        "of another shape": {"shape": [1, 6]},
        "of a shape of floats": {"shape": [2.0, 3.0]},
        "of a shape of booleans": {"shape": [True, 6]},
        "of a negative shape": {"shape": [-2, -3]},
        "of a huge shape": {"shape": [LONG, LONG]},
        "of a shape that overflows to its size": {"shape": [2**63, 2**63, 6]},
        "of a shape with zero": {"shape": [0, 2**62]},
        "of 100 dimensions": {"shape": [2, 3] + [1] * 98},
        "of 20000 large dimensions": {"shape": [2**62] * 20_000},
        "of one offset": {"data_offsets": [0]},
        "of negative offsets": {"data_offsets": [-24, 0]},
        "of turned offsets": {"data_offsets": [24, 0]},
        "behind the end": {"data_offsets": [LONG, LONG + 24]},
        "of float offsets": {"data_offsets": [0.0, 24.0]},
        "of the place of another": {"data_offsets": good["weights.1"]["data_offsets"]},
    }.items():
        place(name, "weights.0", fields)
    for key in ("dtype", "shape", "data_offsets"):
        header(
            f"weights.0 without {key}", lambda changed, k=key: changed["weights.0"].pop(k) and None
        )
    for value in (None, 0, "F32", [], {}):
        header(f"weights.0 {value!r}", lambda changed, v=value: {**changed, "weights.0": v})
    place("too short", "velocity", {"shape": [16]})
    place("a matrix", "velocity", {"shape": [1, 17]})
    header(
        "a second moment without velocity",
        lambda changed: {
            ("second_moment" if k == "velocity" else k): v for k, v in changed.items()
        },
    )
    last = max(good, key=lambda name: good[name].get("data_offsets", [0, 0])[1])
    start, end = good[last]["data_offsets"]
    for name, offsets in {
        "a gap before the last array": [start + 4, end + 4],
        "more room than numbers": [start, end + 4],
    }.items():
        header(
            name, lambda changed, o=offsets: changed[last].update(data_offsets=o), data + b"\0" * 4
        )
    header("bytes behind the arrays", lambda changed: None, data + b"\0")
    header("a byte missing", lambda changed: None, data[:-1])
    header("no bytes at all", lambda changed: None, b"")
    header(
        "a gap",
        lambda changed: changed["weights.0"].update(
            data_offsets=[n + 4 for n in changed["weights.0"]["data_offsets"]]
        ),
        data + b"\0" * 4,
    )

    # Checksums
    right = json.loads(good["__metadata__"]["checksum"])
    for name, value in {
        "empty": "",
        "of nothing": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "in capitals": right.upper(),
        "cut short": right[:-1],
        "a number": 1,
        "null": None,
    }.items():
        settings = {**good["__metadata__"], "checksum": json.dumps(value)}
        changed = {**good, "__metadata__": settings}
        files[f"checksum {name}"] = pack(changed, data, with_checksum=False)
    settings = {key: text for key, text in good["__metadata__"].items() if key != "checksum"}
    files["checksum missing"] = pack({**good, "__metadata__": settings}, data, with_checksum=False)
    files["numbers exchanged"] = content[:-8] + content[-4:] + content[-8:-4]
    return files
