"""What is in the checkout is in the package."""

import re
import tomllib
from importlib.metadata import entry_points, metadata, requires
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def packages_in_tree():
    for package, folder in SETUPTOOLS["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            yield ".".join([package, *init.parent.relative_to(ROOT / folder).parts])


def test_every_package_is_listed():
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_in_tree())


def test_every_module_is_in_a_package():
    lost = [
        str(path.relative_to(ROOT))
        for folder in SETUPTOOLS["package-dir"].values()
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert lost == []


def test_data_files_are_installed():
    assert files("dlaconv").joinpath("py.typed").is_file()
    patterns = SETUPTOOLS["package-data"]["dlaconv.schemas"]
    data = [path for path in (ROOT / "schemas").iterdir() if path.suffix not in {".py", ""}]
    assert data
    for path in data:
        assert any(path.match(pattern) for pattern in patterns), path.name
        installed = files("dlaconv.schemas").joinpath(path.name)
        assert installed.read_bytes() == path.read_bytes()


def test_the_package_is_the_checkout():
    """A stale install would let every other test pass or fail for the wrong reason."""
    for package, folder in SETUPTOOLS["package-dir"].items():
        for path in (ROOT / folder).glob("*.py"):
            installed = files(package).joinpath(path.name)
            assert installed.read_bytes() == path.read_bytes(), f"{package}/{path.name}"


def test_the_command_is_installed():
    [script] = [s for s in entry_points(group="console_scripts") if s.name == "dlaconv"]
    assert script.value == PROJECT["project"]["scripts"]["dlaconv"] == "dlaconv.cli:main"


def test_the_metadata_is_that_of_the_project():
    project = PROJECT["project"]
    assert metadata("dlaconv")["Version"] == project["version"]
    wanted = {parts(line.split(";")[0]) for line in requires("dlaconv") or ()}
    assert {parts(item) for item in project["dependencies"]} <= wanted


def parts(requirement: str) -> tuple[str, frozenset[str]]:
    """Name and version bounds of a requirement; builders put the bounds in another order."""
    name = re.match(r"[\w-]+", requirement.strip())[0]
    bounds = requirement.strip()[len(name) :].replace(" ", "")
    return name, frozenset(bounds.split(","))


def test_the_version_has_an_entry_in_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{PROJECT['project']['version']}]" in text
