"""What the README shows is what its code prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_prints_what_it_says() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```\s+```\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None
    code, expected = found.groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected
