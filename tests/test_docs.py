"""What README and docs name exists: links, files, tools and their flags, config keys, tests."""

import ast
import dataclasses
import re
import shlex
import tomllib
import typing
from pathlib import Path

import pytest

from helpers.places import ROOT
from mesh_graphormer_hand import assembly, config
from mesh_graphormer_hand.data.transforms import Augmentation
from mesh_graphormer_hand.generation.kinds import SCHEMAS

PAGES = [ROOT / "README.md", ROOT / "mano_assets" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted((ROOT / "mesh_graphormer_hand").rglob("*.md"))
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
PLACEHOLDERS = {
    "configs/baselines/NAME.yaml",
    "mano_assets/MANO_RIGHT.pkl",
    "mesh_graphormer_hand/models/baselines/my_model.py",
}  # a user's own
PLACEHOLDERS |= {f"mesh_graphormer_hand/data/datasets/{name}.py" for name in ("my_data", "NAME")}
PROSE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)  # all that is not
FOLDERS = "configs|tools|tests|docs|mesh_graphormer_hand|mano_assets"


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> list[str]:
    """The fenced commands of a page. All fences are paired: else the end of one in another language would open one."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in fenced if language in ("", "bash")]


def code(text: str) -> list[str]:
    """Everything on a page that is typed: lines of fenced code, and code within lines."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", PROSE.sub("", text))


def calls(text: str) -> list[list[str]]:
    """The words of every call of one of our commands."""
    found = []
    for line in code(text):
        match = re.search(r"(?:python )?(?<![\w/])tools/(\w+)\.py|(?<![\w-])(hand-[a-z-]+)(?![\w-])", line)
        if match:
            try:
                found.append(shlex.split(line[match.start() :].replace("\n", " "), comments=True))
            except ValueError:  # a quote that goes on elsewhere
                continue
    return [words[1:] if words[:1] == ["python"] else words for words in found]


def module_of(command: str) -> Path | None:
    """The module behind a tool or a console command."""
    if command in COMMANDS:
        return ROOT / (COMMANDS[command].partition(":")[0].replace(".", "/") + ".py")
    tool = ROOT / command
    names = re.findall(r"from ([\w.]+) import main", tool.read_text()) if tool.is_file() else []
    return ROOT / f"{names[0].replace('.', '/')}.py" if names else tool


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_are_named_are_there(page):
    named = re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w/.-]+\.(?:py|yaml|md|npz|jpg|png|json))\b", page.read_text())
    for name in set(named) - PLACEHOLDERS:
        assert (ROOT / name).is_file(), f"{relative(page)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_flags_are_known(page):
    for command, *words in calls(page.read_text()):
        module = module_of(command)
        assert module is not None and module.is_file(), f"{relative(page)}: {command}"
        source = module.read_text()
        if "--serve" in words:
            source += (module.parent / "serve.py").read_text()
        if ".add_options" in source:  # options that commands share
            source += (module.parent / "detector_args.py").read_text()
        for word in words:
            flag = re.match(r"\[?(--[a-z][a-zA-Z-]*)", word)
            assert flag is None or f'"{flag[1]}"' in source, f"{relative(page)}: {command} knows no {flag[1]}"


def check_key(key: str) -> None:
    """
    Raises:
        AssertionError: no config has the dotted `key`.
    """
    owner, parts = config.Experiment, key.split(".")
    while parts:
        name = parts.pop(0)
        assert name in {f.name for f in dataclasses.fields(owner)}, f"{key}: {owner.__name__} has no {name}"
        kind = typing.get_type_hints(owner)[name]
        if dataclasses.is_dataclass(kind):
            owner = kind
        elif name in ("train", "test") and owner is config.DataConfig and parts:
            plugin = assembly.plugin("datasets", parts.pop(0)).Config
            if parts[:1] == ["weight"]:
                return
            owner = plugin
        elif name == "augment" and parts:
            owner = Augmentation
        elif name == "losses":
            return
        elif name == "model" and parts:
            if parts == ["name"]:
                return
            owner = assembly.plugin("models", "mesh_graphormer").Config
        else:
            assert not parts, f"{key}: {name} has no parts"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_config_keys_are_known(page):
    keys = re.findall(r"(?<![\w.])((?:train|data|model)(?:\.[a-z_0-9]+)+)=", page.read_text())
    for key in set(keys):
        check_key(key)


def test_an_unknown_key_is_noticed():
    for key in (
        "train.stps",
        "data.train.freihand.rot",
        "model.camera.rotatoin",
        "data.augment.blurr",
        "train.steps.x",
    ):
        with pytest.raises(AssertionError, match="has no"):
            check_key(key)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_options_of_data_sets_and_of_the_generator_are_known(page):
    for command, *words in calls(page.read_text()):
        pairs = [w.partition("=")[0] for w in words if re.match(r"[a-z_]+=", w)]
        if command.endswith(("evaluate.py", "hand-evaluate")) and "--data" in words and pairs:
            name = words[words.index("--data") + 1]
            known = {f.name for f in dataclasses.fields(assembly.plugin("datasets", name).Config)}
        elif command.endswith(("generate.py", "hand-generate")):
            what = words[words.index("--kind") + 1] if "--kind" in words else "crops"
            known = {f.name for f in dataclasses.fields(SCHEMAS[what])}
        else:
            continue
        assert set(pairs) <= known | {"key"}, f"{relative(page)}: {command} {words}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_tests_that_are_named_are_there(page):
    for file, pattern in re.findall(r"pytest (tests/\w+\.py)(?: -k (\w+))?", page.read_text()):
        names = [n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)]
        assert any(n.startswith("test_") and pattern in n for n in names), f"{relative(page)}: {file} -k {pattern}"


def test_python_of_the_generators_page_runs(capsys):
    """With the shapes that its comments tell."""
    page = (ROOT / "docs" / "virtual_data.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    told = [re.findall(r"\b(?:\d+ x )+\d+\b", line) for line in block.splitlines() if line.startswith("print")]
    exec(compile(block, "docs/virtual_data.md", "exec"), {})
    said = re.findall(r"torch.Size\(\[([\d, ]+)\]\)", capsys.readouterr().out)
    assert said == [shape.replace(" x ", ", ") for line in told for shape in line] and len(said) == 9


def test_commands_are_found_at_all():
    """A pattern that matches nothing would let everything pass."""
    found = [call for page in PAGES for call in calls(page.read_text())]
    assert len(found) > 60 and {c[0] for c in found} > {"tools/train.py", "tools/evaluate.py", "hand-demo"}
