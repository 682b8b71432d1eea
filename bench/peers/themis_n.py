"""Themis: N tasks of one zero-latency generation each, exact match, in its SQLite store.

    themis_n.py [N]

At its defaults (32 tasks at a time), with one explicit seed, and with the components that its own `evaluate` needs:
`json_identity` as parser, `exact_match` as metric, `majority_vote` over one sample. The store lies on the same disk as
everybody else's. Runs in a virtual environment of its own (`themis-eval==4.0.2`). The last line is JSON; `seconds` is
the call of `evaluate` alone. Fails unless the run is completed and every case scored 1.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


class Zero:
    """Answers `say X` with X at once."""

    component_id = "bench/zero"
    version = "1"

    def fingerprint(self) -> str:
        """What Themis knows it by."""
        return "bench-zero-1"

    async def generate(self, case: Any, ctx: Any) -> Any:
        """One candidate."""
        from themis.core.models import GenerationResult

        said = case.input.removeprefix("say ")
        return GenerationResult(candidate_id=f"{case.case_id}-{ctx.seed}", final_output=said)


def main() -> None:
    """Run it in a fresh folder and say what was found."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="bench-themis-") as folder:
        import themis
        from themis.core.config import StorageConfig
        from themis.core.models import Case, Dataset

        cases = [Case(case_id=f"t{i}", input=f"say {i}", expected_output=str(i)) for i in range(1, n + 1)]
        store = Path(folder) / "runs.sqlite3"
        started = time.perf_counter()
        found = themis.evaluate(
            model=Zero(),
            data=Dataset(dataset_id="bench", cases=cases),
            metric="builtin/exact_match",
            parser="builtin/json_identity",
            seeds=[7],
            storage=StorageConfig(store="sqlite", parameters={"path": str(store)}),
        )
        seconds = time.perf_counter() - started
        assert found.status == "completed", found.status
        scores = [score.value for case in found.cases for score in case.scores]
        assert scores == [1.0] * n, (len(scores), sum(scores))
        size = os.path.getsize(store)
    print(json.dumps({"n": n, "seconds": round(seconds, 3), "bytes": size}))


if __name__ == "__main__":
    main()
