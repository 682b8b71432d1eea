"""One item to solve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onward.fingerprint import digest_of

__all__ = ["Attachment", "Task"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that belongs to a task. `digest` names its content in the run; `path` is where a source found it."""

    name: str
    digest: str
    """32 hex characters: the first 128 bits of SHA-256 over the content."""
    size: int
    media_type: str = "application/octet-stream"
    path: Path | None = None
    data: bytes | None = None
    """The content itself, where a source generated it."""

    def read(self) -> bytes:
        """The content, from where the source has it. Raises OSError; ValueError for one that only a run holds."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ValueError(f"the content of {self.name} is in the run, by its digest {self.digest}")
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Task:
    """One item: `id` unique in its source, `input` text or JSON, `target` the answer, None where it is not known."""

    id: str
    input: Any
    target: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Attachment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form in which it is frozen into a run: content only, no paths."""
        form: dict[str, Any] = {"id": self.id, "input": self.input, "target": self.target}
        if self.metadata:
            form["metadata"] = dict(self.metadata)
        if self.files:
            form["files"] = [
                {"name": f.name, "digest": f.digest, "size": f.size, "media_type": f.media_type} for f in self.files
            ]
        return form

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Task:
        """The inverse of `to_json`."""
        files = tuple(Attachment(**file) for file in form.get("files", ()))
        return cls(form["id"], form["input"], form.get("target"), form.get("metadata", {}), files)

    @property
    def digest(self) -> str:
        """32 hex characters over all of its content."""
        return digest_of(self.to_json())
