"""Which images a Dockerfile is built on."""

from __future__ import annotations

import pytest

from onward.sandbox.bases import bases


@pytest.mark.parametrize(
    ("dockerfile", "found"),
    [
        ("FROM debian:12\nRUN x\n", ["debian:12"]),
        ("# FROM a\nfrom --platform=linux/amd64 b@sha256:00 as c\nFROM c\nFROM C AS d\nFROM scratch", ["b@sha256:00"]),
        ("FROM python AS python\nFROM python\n", ["python"]),
        ("ARG V=12 W='x'\nARG U\nFROM debian:$V\nARG V=13\nFROM ${W}:${V}\nFROM ${U:-u}\n", ["debian:12", "x:12", "u"]),
        ("FROM a\nCOPY --chown=1:1 \\\n  # why\n  --from=b x /\nCOPY --from=0 x /\nCOPY x --from=no\n", ["a", "b"]),
        ("FROM a\nRUN --mount=type=bind,from=b,target=/b ls from=no\nRUN echo `x`\nFROM c", ["a", "b", "c"]),
        ("FROM $WHAT\nFROM\n\nARG\n", []),
    ],
)  # fmt: skip
def test_what_is_started_or_copied_from_but_its_own_stages(dockerfile: str, found: list[str]) -> None:
    assert list(bases(dockerfile)) == found
