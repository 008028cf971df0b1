"""``~/.ssh/config``, by paramiko's reader, with what that leaves out.

These are included files, the tokens of commands, and what a caller knows better than the file, as with options of
the command ``ssh``, or only where the file says nothing.
"""

from __future__ import annotations

import glob
import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import paramiko

DIRECTORY = "~/.ssh"
DEEPEST = 16

LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*\S)")
TOKEN = re.compile("%(.?)")

# What is true of every host says nothing more behind other conditions.
ALWAYS = {"all": "", "canonical all": "canonical", "final all": "final"}


class _Config(paramiko.SSHConfig):
    # It would fill them with the file's user and port, whoever logs in where.
    TOKENS_BY_CONFIG_KEY: ClassVar = {
        name: tokens
        for name, tokens in paramiko.SSHConfig.TOKENS_BY_CONFIG_KEY.items()
        if name not in ("proxycommand", "proxyjump")
    }


def read_config(file: Path) -> list[str]:
    """Return the lines of a file, with those of included files in place of each ``Include``.

    Raises
    ------
    OSError, ValueError
        If one of them cannot be read.
    """
    return list(_lines(file, (), 0)) if file.is_file() else []


def look_up(name: str, lines: Sequence[str], known: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for a host.

    Parameters
    ----------
    name : str
        The host.
    lines : sequence of str
        From `read_config`.
    known : mapping
        Options that go before those.
    default : mapping
        Options where those say nothing.
    """
    config = _Config()
    above, below = ([f"{option} {value}" for option, value in given.items()] for given in (known, default))
    for text in (above, lines, below):
        config.parse(io.StringIO("\n".join(text)))  # each begins with what is for all hosts
    return dict(config.lookup(name))


def fill_tokens(text: str, **tokens: object) -> str:
    """Return a command with its tokens filled in.

    Raises
    ------
    ValueError
        If there is another one.
    """

    def value(match: re.Match[str]) -> str:
        try:
            return str({**tokens, "%": "%"}[match[1]])
        except KeyError:
            known = " ".join(f"%{token}" for token in ("%", *tokens))
            raise ValueError(f"{match[0]} in {text!r} is none of {known}") from None

    return TOKEN.sub(value, text)


def _lines(file: Path, around: tuple[str, ...], depth: int) -> Iterator[str]:
    """Yield the lines of a file which is included where these conditions hold."""
    if depth > DEEPEST:
        raise ValueError(f"{file} is included by itself, or too deep")
    block = around
    for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        match = LINE.match(line)
        keyword, value = (match[1].lower(), match[2]) if match else ("", "")
        if keyword == "include":
            for found in _included(value):
                yield from _lines(found, block, depth + 1)
                yield _header(block)  # it goes on, whatever that file ended with
        elif keyword in ("host", "match"):
            own = f"originalhost {','.join(shlex.split(value))}" if keyword == "host" else ALWAYS.get(value, value)
            block = (*around, own) if own else around
            yield _header(block) if around else line
        else:
            yield line


def _header(conditions: tuple[str, ...]) -> str:
    return f"Match {' '.join(conditions)}" if conditions else "Host *"


def _included(patterns: str) -> Iterator[Path]:
    for pattern in shlex.split(patterns):
        path = Path(DIRECTORY).expanduser() / Path(pattern).expanduser()
        found = sorted(glob.glob(str(path)))  # noqa: PTH207 - Path.glob finds hidden files as well, ssh does not
        yield from (file for file in map(Path, found) if file.is_file())
