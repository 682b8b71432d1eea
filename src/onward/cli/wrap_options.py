"""What `wrap` can be told, apart from its doing: help and the other verbs need no gateway."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onward.cli import options as o

__all__ = ["Agent", "Command", "KeyName", "Miss", "Name", "New", "OnDivergence", "Resume", "Upstream"]

_IT, _OURS = "The program", "Its model calls"


def _option(panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=False, **more)


Command = Annotated[list[str], typer.Argument(metavar="-- COMMAND", show_default=False)]
Name = Annotated[o.Text, _option(_IT, "--name", help="Know it again by this name, not by its folder and words.")]
Resume = Annotated[
    o.Yes, _option(_IT, "--resume", help="It had ended by itself: serve its record, and go on after it.")
]
New = Annotated[o.Yes, _option(_IT, "--new", help="It was stopped: begin anew all the same.")]
Upstream = Annotated[
    o.Texts,
    _option(
        _OURS, "--upstream", metavar="[FORMAT=]URL",
        help="Send calls to this base URL: all, or those in chat, responses, messages or gemini; repeatable.",
    ),
]  # fmt: skip
KeyName = Annotated[
    o.Text, _option(_OURS, "--key-name", metavar="VARIABLE", help="NAME of the variable with the key for it.")
]
Agent = Annotated[
    o.Text, _option(_OURS, "--agent", metavar="NAME", help="What differs between its requests is this agent's.")
]
Miss = Annotated[
    o.Text, _option(_OURS, "--miss", metavar="live|fail", help="What is not recorded: ask the model, or fail.")
]
OnDivergence = Annotated[
    o.Text,
    _option(
        _OURS, "--on-divergence", metavar="warn|strict|fork",
        help="What is recorded otherwise: ask and count it, stop, or give the rest of that record up.",
    ),
]  # fmt: skip
