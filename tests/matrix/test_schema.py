"""The JSON Schema of a matrix file."""

from __future__ import annotations

import json
from pathlib import Path

from bootmatrix.matrix.expansion import json_schema


def test_the_exported_schema_is_current() -> None:
    exported = Path(__file__).parents[2] / "docs" / "matrix.schema.json"
    assert exported.read_text(encoding="utf-8") == json.dumps(json_schema(), indent=2) + "\n", (
        "write it anew: python -c 'import json, bootmatrix.matrix.expansion as m; "
        "print(json.dumps(m.json_schema(), indent=2))' > docs/matrix.schema.json"
    )
