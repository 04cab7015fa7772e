"""From the shell: a mistake of the user is one line, a fault of the program shows where it happened."""

import os
import re
import subprocess
import sys

import pytest

from tfmtl2r import cli

RAISING = """
import sys
from tfmtl2r import cli, errors
from tfmtl2r.commands import list as command
def main(arguments):
    assert "--traceback" not in arguments
    raise {error}
command.main = main
sys.exit(cli.main(sys.argv[1:]))
"""


def shell(*arguments, code=None, **environment):
    start = ["-c", code] if code else ["-m", "tfmtl2r.cli"]
    environment = {**os.environ, "COLUMNS": "120", **environment}
    return subprocess.run([sys.executable, *start, *arguments], capture_output=True, text=True, timeout=120,
                          check=False, env=environment)


@pytest.mark.parametrize("error", ["KeyError('lost')", "TypeError('lost')", "ValueError('lost')", "IndexError('lost')"])
def test_a_fault_of_the_program_shows_its_traceback(error):
    done = shell("list", code=RAISING.format(error=error))
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "in main" in done.stderr
    assert "'lost'" in done.stderr or ": lost" in done.stderr


@pytest.mark.parametrize("error", ["InputError", "InputTypeError", "InputKeyError", "MissingFileError",
                                   "MissingPackageError", "WorkerError"])
def test_a_mistake_of_the_user_is_one_line(error):
    done = shell("list", "methods", code=RAISING.format(error=f"errors.{error}('no \"price\": name it')"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'tfmtl2r list: no "price": name it\n'


@pytest.mark.parametrize("arguments", [["--traceback", "list"], ["list", "--traceback"], ["list", "x", "--traceback"]])
def test_traceback_shows_where_a_mistake_was_noticed(arguments):
    done = shell(*arguments, code=RAISING.format(error="errors.InputKeyError('no price')"))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert done.stderr.endswith("tfmtl2r.errors.InputKeyError: no price\n")


def test_the_parser_names_a_wrong_flag_and_never_sees_traceback():
    for further in ((), ("--traceback",)):
        done = shell("list", "methods", "--markdwn", *further)
        assert done.returncode == 2
        assert "Unrecognized options: --markdwn" in done.stderr
        assert "--markdown" in done.stderr  # the nearest flag
        assert "--traceback" not in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_an_unknown_command():
    done = shell("tarin")
    assert done.returncode == 2
    first, blank, usage, *_ = done.stderr.split("\n")
    assert first == "tfmtl2r: there is no command 'tarin'; did you mean 'train'?"
    assert (blank, usage) == ("", "usage: tfmtl2r COMMAND [--help] ...")


def test_a_package_that_cannot_be_used_is_one_line():
    done = shell("bench", "methods", "--methods", "mgda", KERAS_BACKEND="numpy")
    assert done.returncode == 1
    assert done.stderr.startswith("tfmtl2r bench: tfmtl2r needs Keras on its TensorFlow backend")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_commands_fit_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = cli.usage().split("\n")
    assert all(len(line) <= columns for line in lines)
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in cli.commands())


@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_of_every_command_fits_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (*map(str.split, cli.commands()), ["bench", "methods"], ["pareto", "export"], []):
        try:
            cli.main([*command, "--help"])
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{command}: {stop}")
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= columns, command
        assert "usage:" in printed, command
        assert not re.search(r"\w\.\s*_\s*[a-z]", printed), f"{command}: a private name, which nobody can look up"
    flowing = " ".join(shown_help(["score"], capsys).split())
    assert "All rows are scored, also rows that only_where of [data] keeps out of the training." in flowing


def shown_help(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["list", "losses"]])
def test_a_reader_that_has_enough_ends_the_command_without_a_word(arguments, unbuffered):
    """As in ``tfmtl2r list | head``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "tfmtl2r", *arguments], stdout=write, stderr=subprocess.PIPE,
                          text=True, timeout=120, check=False, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_nothing_is_one_line(unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "tfmtl2r", "--version"], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=120, check=False, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert (done.returncode, done.stderr) == (1, "tfmtl2r: No space left on device\n")
