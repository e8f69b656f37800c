"""The command line: `python -m fastbp` and `fastbp`."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

import fastbp
from fastbp import __main__ as command_line
from fastbp._compile import cache
from fastbp.training import cpus


def run(*arguments, **environment):
    command = [sys.executable, "-m", "fastbp", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_info(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("FASTBP_NUM_THREADS", "1")
    folder = cache.folders()[0]
    cache.save(folder, "fastbp.kernel-stamp-key.nbc", bytes(2**20))
    assert command_line.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["fastbp"] == fastbp.__version__
    assert facts["versions"]["numba"] == metadata.version("numba")
    assert facts["processor"]["vector_bits"] in (128, 256, 512)
    assert facts["threads"]["default"] == cpus.default_threads() == 1
    assert facts["threads"]["limits"]["FASTBP_NUM_THREADS"] == 1
    expected = {"path": str(folder), "is_writable": True, "files": 1, "MB": 1.0}
    assert facts["cache"][0] == expected
    assert command_line.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert f"{folder}: 1 files, 1.0 MB; can be written" in printed
    assert "FASTBP_NUM_THREADS: 1" in printed


@pytest.mark.compiled
def test_what_is_warmed_up_is_not_compiled_again(tmp_path):
    arguments = "warmup", "functions", "--dtype", "float32"
    first, second = (run(*arguments, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    for done in (first, second):
        assert (done.returncode, done.stderr) == (0, "")
    compiled, found = (int(n) for n in re.findall(r"\d+", first.stdout.splitlines()[-1])[:2])
    assert compiled + found > 20  # some may lie with the package
    assert second.stdout.splitlines()[-1].startswith(f"0 compiled, {compiled + found} found, in ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "the following arguments are required: command"),
        (["bench"], 2, "invalid choice: 'bench'"),
        (["warmup", "regressor"], 2, "unknown part regressor; known: functions, network, bytes"),
        (["info", "--xml"], 2, "unrecognized arguments: --xml"),
        (["verify", "cosine"], 2, "unknown quantity cosine; known: exp"),
    ],
)
def test_wrong_usage(arguments, status, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)
    assert ended.value.code == status
    assert message in capsys.readouterr().err


def test_what_fails_is_one_line(capsys, monkeypatch):
    def fail(as_json):
        raise OSError("the disk has gone")

    monkeypatch.setattr(command_line, "info", fail)
    assert command_line.main(["info"]) == 1
    assert capsys.readouterr().err == "fastbp: the disk has gone\n"


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["-h"])
    printed = capsys.readouterr().out
    for command in ("info", "warmup", "verify"):
        assert command in printed
