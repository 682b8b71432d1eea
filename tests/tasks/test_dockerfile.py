"""What a Dockerfile copies where: what is known without its image, and what is not guessed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onward.tasks.dockerfile import ignoring, workspace

CONTEXT = ["Dockerfile", "a.txt", "b.txt", "src/main.py", "src/deep/c.txt", "data-1.csv", "data-2.csv", "two words"]
TOP = "FROM python:3.12-slim\nWORKDIR /app\n"


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("COPY a.txt .", {"/app/a.txt": "a.txt"}),
        ("COPY a.txt ./", {"/app/a.txt": "a.txt"}),
        ("COPY a.txt /app", {"/app/a.txt": "a.txt"}),
        ("COPY a.txt other", {"/app/other": "a.txt"}),
        ("COPY a.txt other/", {"/app/other/a.txt": "a.txt"}),
        ("COPY /a.txt ./../app//x", {"/app/x": "a.txt"}),
        ("COPY a.txt b.txt in/", {"/app/in/a.txt": "a.txt", "/app/in/b.txt": "b.txt"}),
        ("COPY data-?.csv in", {"/app/in/data-1.csv": "data-1.csv", "/app/in/data-2.csv": "data-2.csv"}),
        ("COPY data-[!2].* one", {"/app/one": "data-1.csv"}),
        ("COPY src .", {"/app/main.py": "src/main.py", "/app/deep/c.txt": "src/deep/c.txt"}),
        ("COPY src/ code", {"/app/code/main.py": "src/main.py", "/app/code/deep/c.txt": "src/deep/c.txt"}),
        ("COPY src/*.py .", {"/app/main.py": "src/main.py"}),
        ("COPY . /opt/all\nWORKDIR all", {f"/opt/all/{name}": name for name in CONTEXT}),
        ('COPY ["two words", "a.txt", "in/"]', {"/app/in/two words": "two words", "/app/in/a.txt": "a.txt"}),
        ('COPY "two words" in/', {"/app/in/two words": "two words"}),
        ("COPY --chown=1000:1000 --link a.txt b.txt ./", {"/app/a.txt": "a.txt", "/app/b.txt": "b.txt"}),
        ("ADD a.txt .", {"/app/a.txt": "a.txt"}),
        ("ENV DIR=/data\nCOPY a.txt ${DIR}/", {"/data/a.txt": "a.txt"}),
        ("ARG N=1\nCOPY data-$N.csv .", {"/app/data-1.csv": "data-1.csv"}),
        ("COPY ${NAME:-a.txt} .", None),
        ("ARG NAME\nCOPY $NAME .", None),
        ("COPY a.txt x\nCOPY b.txt x", {"/app/x": "b.txt"}),
        ("COPY a.txt new/x\nCOPY b.txt new", {"/app/new/x": "a.txt", "/app/new/b.txt": "b.txt"}),
        ("WORKDIR sub\nCOPY a.txt .", {"/app/sub/a.txt": "a.txt"}),
        ("COPY a.txt \\\n  # a comment\n\n  b.txt \\\n  in/", {"/app/in/a.txt": "a.txt", "/app/in/b.txt": "b.txt"}),
        ("copy a.txt /root", {"/root/a.txt": "a.txt"}),
    ],
)
def test_what_is_copied(lines: str, files: dict[str, str] | None) -> None:
    made = workspace(TOP + lines, CONTEXT)
    if files is None:
        assert "is not set before" in made.obstacle
    else:
        assert (made.files, made.obstacle, made.base) == (files, "", "python:3.12-slim")


@pytest.mark.parametrize(
    ("lines", "obstacle"),
    [
        ("RUN apt-get update", "line 3: RUN apt-get update"),
        ("\n# why\nRUN a && \\\n  b", "line 5: RUN a &&   b"),
        ("FROM debian", "line 3: FROM debian (a second stage)"),
        ("COPY --from=0 /x .", "line 3: COPY --from=0 /x ."),
        ("COPY --chmod=755 a.txt .", "line 3: COPY --chmod=755"),
        ("COPY <<EOF /app/x\nhello\nEOF", "line 3: COPY <<EOF /app/x"),
        ("ADD https://example.org/x .", "line 3: ADD https"),
        ("ADD layers.tar.gz .", "line 3: ADD layers.tar.gz"),
        ("ENTRYPOINT /run.sh", "line 3: ENTRYPOINT"),
        ("VOLUME /data", "line 3: VOLUME"),
        ('SHELL ["/bin/bash"]', "line 3: SHELL"),
        ("HEALTHCHECK CMD true", "line 3: HEALTHCHECK"),
        ("ENV PATH=/app/bin:$PATH", "$PATH is not set before"),
        ("COPY a.txt /etc/a", "/etc/a is among the system's files"),
        ("COPY a.txt /a.txt", "/a.txt is among the system's files"),
        ("COPY . /", "is among the system's files"),
        ("WORKDIR /usr/src/app", "/usr/src/app is the system's"),
        ("WORKDIR /", "/ is the system's"),
    ],
)
def test_what_needs_a_container_says_so(lines: str, obstacle: str) -> None:
    assert obstacle in workspace(TOP + lines, [*CONTEXT, "layers.tar.gz"]).obstacle


def test_without_a_working_folder_nothing_relative_is_known() -> None:
    assert "the base image's working folder is not known" in workspace("FROM x\nCOPY a.txt .", CONTEXT).obstacle
    assert workspace("FROM x\nCOPY a.txt /srv/a", CONTEXT).files == {"/srv/a": "a.txt"}
    assert workspace("FROM x", []).workdir == ""


def test_what_does_nothing_to_files_is_no_obstacle() -> None:
    text = (
        "# syntax=docker/dockerfile:1\nARG BASE=debian:12\nFROM --platform=linux/amd64 ${BASE} AS one\n"
        'LABEL a="b"\nMAINTAINER me\nUSER nobody\nEXPOSE 80\nWORKDIR /app\nCMD ["sh"]\nSTOPSIGNAL SIGINT\n'
        "ENV A=1 B=\"two words\"\nENV C='$x' D=$A\\$A\nENV E the rest  of it\nCOPY . .\n"
    )
    made = workspace(text, [])
    assert (made.base, made.workdir, made.files, made.obstacle) == ("debian:12", "/app", {}, "")
    assert made.env == {"A": "1", "B": "two words", "C": "$x", "D": "1$A", "E": "the rest  of it"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no FROM"),
        ("# nothing\n", "there is no FROM"),
        ("WORKDIR /app\n", "line 1: WORKDIR stands before FROM"),
        ("FROM\n", "line 1: FROM names no image"),
        (TOP + "COPY nothing.txt .", "line 3: nothing.txt is not in the build context"),
        (TOP + "COPY no*.txt .", r"line 3: no\*.txt is not in the build context"),
        (TOP + "COPY ../up .", "line 3: ../up lies outside the build context"),
        (TOP + "COPY a.txt", "line 3: COPY needs a source and a target"),
        (TOP + "COPI a.txt .", "line 3: COPI is no instruction"),
        (TOP + "WORKDIR", "line 3: WORKDIR names no folder"),
        (TOP + "ENV", "line 3: it names nothing"),
    ],
)
def test_what_no_build_could_do_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        workspace(text, CONTEXT)


def test_another_escape_character() -> None:
    made = workspace("# escape=`\nFROM x\nWORKDIR /app\nCOPY a.txt `\n  b.txt in/\n", CONTEXT)
    assert sorted(made.files) == ["/app/in/a.txt", "/app/in/b.txt"]


@pytest.mark.parametrize(
    ("patterns", "left_out"),
    [
        ("", set()),
        ("# a.txt\n\n", set()),
        ("a.txt", {"a.txt"}),
        ("/a.txt", {"a.txt"}),
        ("*.txt", {"a.txt"}),
        ("**/*.txt", {"a.txt", "d/b.txt", "d/e/c.txt"}),
        ("d", {"d/b.txt", "d/e/c.txt"}),
        ("d/", {"d/b.txt", "d/e/c.txt"}),
        ("d/**", {"d/b.txt", "d/e/c.txt"}),
        ("d/*/c.txt", {"d/e/c.txt"}),
        ("*", {"a.txt", "d/b.txt", "d/e/c.txt", "f"}),
        ("*\n!d/b.txt", {"a.txt", "d/e/c.txt", "f"}),
        ("!a.txt\na.txt", {"a.txt"}),
        ("?.txt", {"a.txt"}),
        ("[a-c].txt", {"a.txt"}),
        ("[^a].txt", set()),
    ],
)
def test_what_a_dockerignore_leaves_out(patterns: str, left_out: set[str]) -> None:
    ignored = ignoring(patterns)
    assert {path for path in ("a.txt", "d/b.txt", "d/e/c.txt", "f") if ignored(path)} == left_out


def test_what_is_ignored_is_not_copied() -> None:
    assert workspace(TOP + "COPY . .", ["a", "b"], "b\n").files == {"/app/a": "a"}
    with pytest.raises(ValueError, match="not in the build context"):
        workspace(TOP + "COPY b .", ["a", "b"], "b\n")


_WORDS = st.sampled_from(
    ["FROM x", "WORKDIR /app", "COPY a.txt .", "COPY", "RUN", "ENV", "ARG", "\\", "\n", "#", '"', "[", "$", "${", " "]
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(_WORDS, max_size=20).map("".join)), st.text(max_size=50))
@example("FROM x\nWORKDIR /a\nCOPY [ .", "[")
@example("FROM x\nENV A=${A:-${B}}", "**[")
def test_any_text_is_read_or_wrong(text: str, ignored: str) -> None:
    try:
        made = workspace(text, CONTEXT, ignored)
    except ValueError:
        return
    assert all(inside.startswith("/") and path in CONTEXT for inside, path in made.files.items())
