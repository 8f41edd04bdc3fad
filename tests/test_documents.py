"""What the README shows is what its code prints; tables of the documents are whole."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import re
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# What the build of the site writes is no page.
BUILT = {"_build", "_pictures", "recipes", "api", "source", "names.md", "history.md"}
PAGES = [
    README,
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not BUILT & {*path.parts}),
]

# Files that may tell a user what to install.
SPEAKING = {".md", ".py", ".toml", ".cff", ".yml", ".yaml", ".json", ".cfg", ".txt", ""}

FOLDERS = (".ci", "benchmarks", "docs", "examples", "fastnn")

# A requirement after "pip install" and its options: a path, or a name with extras and versions.
COMMAND = re.compile(r"""pip install\b((?:[ \t]+(?:"[^"\n]+"|'[^'\n]+'|[^\s"'`|;&]+))+)""")
WITH_VALUE = {"-r", "--index-url", "--extra-index-url", "-c", "--target"}
NAME = re.compile(r"[A-Za-z][\w.-]*")


def test_the_readme_prints_what_it_says() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```\s+```\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None
    code, expected = found.groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rows_of_a_table_have_the_cells_of_its_head(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    tables = re.findall(r"(?:^ *\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.splitlines()]
        assert len({len(row) for row in rows}) == 1, table
        assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in rows[1]), table


def test_the_security_page_and_the_citation_name_what_there_is() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f'version: "{fastnn.__version__}"\n' in citation
    assert all(f"{key}:" in citation for key in ("cff-version", "message", "title", "authors"))
    assert "fastnn.load" in (ROOT / "SECURITY.md").read_text("utf-8")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def spoken() -> Iterator[tuple[Path, str]]:
    """Go through every text of the repository but the tests."""
    left_out = {"__pycache__", *BUILT}
    for folder in (*(ROOT / name for name in FOLDERS), ROOT):
        found = folder.iterdir() if folder == ROOT else folder.rglob("*")
        for path in sorted(found):
            inside = path.relative_to(ROOT).parts
            if path.is_file() and path.suffix in SPEAKING and not left_out & set(inside):
                with contextlib.suppress(UnicodeDecodeError):
                    yield path, path.read_text("utf-8")


def required(text: str) -> list[str]:
    """Return what the commands of a text would install, options left out."""
    found: list[str] = []
    for command in COMMAND.findall(text):
        words = re.findall(r"""["']([^"']+)["']|([^\s"']+)""", command)
        skip = False
        for word in (quoted or bare for quoted, bare in words):
            if skip or word.startswith("-"):
                skip = word in WITH_VALUE
            else:
                found.append(word.rstrip(".,:)") or word)
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('python -m pip install ".[demo]" && python -m fastnn', [".[demo]"]),
        ("`pip install 'fastnn[sklearn]'`", ["fastnn[sklearn]"]),
        ("pip install fastnn", ["fastnn"]),
        ("pip install --upgrade fastnn>=1, then", ["fastnn>=1", "then"]),
        ("pip install -r extra.txt torch --index-url https://x.org y", ["torch", "y"]),
        ('"$work/python" -m pip install .', ["."]),
    ],
)
def test_instructions_are_found(text: str, found: list[str]) -> None:
    assert required(text) == found


def test_no_instruction_installs_another_project_s_package() -> None:
    given = project()
    listed = [*given["dependencies"], *itertools.chain(*given["optional-dependencies"].values())]
    # PyTorch stands in no extra: its build comes from an index of its own.
    known = {NAME.match(one)[0].lower() for one in listed} | {"torch"}
    # Of this project's own names one is another's, and the other on no index yet.
    known -= {"fastnn", "fastnn-numba"}
    told = [(path.name, one) for path, text in spoken() for one in required(text)]
    assert len(told) > 8
    for page, one in told:
        name = NAME.match(one)
        assert name is None or name[0].lower() in known, f"{page}: pip install {one}"


def test_the_distribution_s_name_is_used_throughout() -> None:
    assert project()["name"] == "fastnn-numba"
    for path, text in spoken():
        assert not re.search(r"\bfastnn\[", text), path
    itself = [one for extra in project()["optional-dependencies"].values() for one in extra]
    assert any(one.startswith("fastnn-numba[") for one in itself)
    for url in project()["urls"].values():
        assert project()["name"] in url


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples").glob("*.py")), ids=lambda it: it.stem)
def test_a_recipe_is_short_and_has_a_title(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    assert len(text.splitlines()) <= 60
    assert re.match(r'"""\n\S.*\n=+\n\n', text)


@pytest.mark.parametrize(("page", "least"), [("forward", 5), ("backward", 5), ("depth", 2)])
def test_lines_beside_the_equations_stand_in_the_reference(page: str, least: int) -> None:
    text = (ROOT / "docs" / "lesson" / f"{page}.md").read_text("utf-8")
    files = (ROOT / "fastnn").rglob("equations/*.py" if page == "depth" else "reference.py")
    lines = (line.strip() for path in files for line in path.read_text("utf-8").splitlines())
    known = "\n".join(lines)
    quoted = re.findall(r"^```py\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert len(quoted) >= least
    for block in quoted:
        assert f"\n{block}" in known, block


def test_recipes_are_run_again_where_what_they_use_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    cache = importlib.import_module("site_cache")
    runs = importlib.import_module("site_runs")
    (tmp_path / "recipes").mkdir()
    kept = tmp_path / "recipes" / "one.py.md5"
    app = types.SimpleNamespace(srcdir=tmp_path)
    seen = []
    for changed in ("at first", "at first", "later"):
        kept.touch()
        monkeypatch.setattr(cache, "surroundings", lambda changed=changed: changed)
        monkeypatch.setattr(runs, "surroundings", lambda changed=changed: changed)
        cache.forget(app)
        seen.append((kept.exists(), runs.kept(tmp_path, "a/page", "its text")))
    (first, here), (second, again), (third, there) = seen
    assert (first, second, third) == (False, True, False)
    assert here == again != there
    assert runs.kept(tmp_path, "a/page", "another text") != there


def test_lines_about_a_layer_stand_in_the_sources() -> None:
    text = (ROOT / "docs" / "adding-a-layer.md").read_text("utf-8")
    sources = (path.read_text("utf-8") for path in (ROOT / "fastnn").rglob("*.py"))
    known = [[line.strip() for line in source.splitlines()] for source in sources]
    quoted = re.findall(r"^```py\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert len(quoted) > 8
    for block in quoted:
        lines = [line.strip() for line in block.splitlines()]
        found = (
            lines == source[place : place + len(lines)]
            for source in known
            for place, line in enumerate(source)
            if line == lines[0]
        )
        assert any(found), block


def test_words_of_the_glossary_are_used() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    sources = " ".join(path.read_text("utf-8") for path in (ROOT / "fastnn").rglob("*.py"))
    used = set(re.findall(r"[a-z]+", sources.lower().replace("_", " ")))
    rows = re.findall(r"^\| (?!here |---)(.*?) \|", text, re.MULTILINE)
    words = re.findall(r"[a-z]+", " ".join(re.sub(r"\(.*?\)", "", row) for row in rows).lower())
    assert len(rows) > 50
    unused = [word for word in words if not {word, f"{word}s"} & used]
    assert not unused
    for word in ("panel", "tile", "unit", "band", "chunk", "group", "slice", "source", "stepper"):
        assert word in words
    for word in ("narrow", "matched", "phase", "span", "row", "kind", "crew", "team"):
        assert word in words


@pytest.mark.site
@pytest.mark.parametrize("name", ["first_look", "by_hand"])
def test_a_notebook_runs_and_shows_tables(name: str) -> None:
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    path = ROOT / "examples" / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pages = [output["data"].get("text/html", "") for output in shown if "data" in output]
    assert sum("<table" in page or "<svg" in page for page in pages) >= 3
