"""What is checked, and how: `nox` runs it all, `nox -s tests-3.12` one session, `nox -l` lists them.

Two kinds of environment keep the run short. `tests`, `conformance` and `wheel` get one each per Python version; every
other session shares one development environment, made for the Python that runs nox.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"  # uv is faster, but ignores pip's configuration: -db uv asks for it
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))
nox.options.sessions = [
    "lint", "layers", "typing", "tests", "conformance", "durable", "webtransport", "faults", "browser", "coverage", "docs",
    "notebooks", "wheel", "bench",
]  # fmt: skip

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "trio_streams"
DEV = ROOT / ".nox" / "dev"
PYTHONS = ["3.11", "3.12", "3.13"]
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PURE = ("core", "wire", "durable/protocol", "webtransport/protocol")
SUITES = (  # minutes, for one Python, or judged by a session of their own
    "interop/durable/test_server_suite.py", "interop/durable/test_client_suite.py", "interop/webtransport",
)  # fmt: skip
SHARED = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")  # among processes, a file to each
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


def _find_pyenv_versions() -> None:
    """Let nox find the Pythons that are installed under pyenv and selected nowhere.

    pyenv's own `python3.12` on PATH is a shim that fails for a version that is not selected; nox passes over it.
    """
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in PYTHONS:
        for folder in sorted(versions.glob(f"{version}.*/bin"), key=_patch_level, reverse=True):
            if (folder / f"python{version}").exists():
                os.environ["PATH"] += f"{os.pathsep}{folder}"
                break


def _patch_level(folder: Path) -> int:
    patch = folder.parent.name.split(".")[2]
    return int(patch) if patch.isdigit() else -1


_find_pyenv_versions()


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PYPROJECT, name))


def _install(session: nox.Session, *requirements: str) -> None:
    session.env.update(QUIET)
    session.install("-q", *requirements)


class _Dev:
    """The shared development environment, made once in a run of nox."""

    is_ready = False

    @classmethod
    def run(cls, session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
        """Run `python -m command` in the environment."""
        cls.prepare(session)
        path = f"{cls.python().parent}{os.pathsep}{os.environ['PATH']}"  # pyright asks the first Python on it
        session.run(str(cls.python()), "-m", *command, external=True, env=QUIET | {"PATH": path} | (env or {}))

    @staticmethod
    def python() -> Path:
        return DEV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @classmethod
    def prepare(cls, session: nox.Session) -> None:
        if cls.is_ready:
            return
        if not cls._is_usable():
            session.run(sys.executable, "-m", "virtualenv", "-q", "--clear", str(DEV), external=True)
        pip = [str(cls.python()), "-m", "pip", "install", "-q", "-e", ".[all]", *_group("dev")]
        session.run(*pip, external=True, env=QUIET)
        cls.is_ready = True

    @classmethod
    def _is_usable(cls) -> bool:
        """Whether the environment exists and belongs to the Python version that runs nox."""
        ask = "import sys; print(sys.version)"
        if not cls.python().exists():
            return False
        answer = subprocess.run([cls.python(), "-c", ask], capture_output=True, text=True, check=False)
        return answer.returncode == 0 and answer.stdout.strip() == sys.version.strip()


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test that is not another session's, warnings as errors."""
    _install(session, "-e", ".[all]", *_group("test"))
    others = ("conformance", "faults", "benchmarks", "browser", "test_notebooks.py", "test_stubs.py", "typing", *SUITES)
    session.run("python", "-m", "pytest", *SHARED, *(f"--ignore=tests/{name}" for name in others), *session.posargs)


@nox.session(python=PYTHONS)
def conformance(session: nox.Session) -> None:
    """One suite over every transport."""
    _install(session, "-e", ".[quic,testing,demo,metrics]", *_group("test"))
    session.run("python", "-m", "pytest", *SHARED, "tests/conformance", *session.posargs)


@nox.session(python=False)
def durable(session: nox.Session) -> None:
    """Durable Streams by what its authors publish: their suites, clients and server, on the Python that runs nox.

    The packages from npm are pinned beside the tests and installed below `.nox`. The client suite is in no registry:
    `DURABLE_STREAMS_SUITE=…/packages/client-conformance-tests nox -s durable` runs it from a checkout, beside our own.
    """
    _Dev.run(session, "pytest", "-q", "-rP", "tests/interop/durable", *session.posargs)


@nox.session(python=["3.11", "3.12"])
def webtransport(session: nox.Session) -> None:
    """WebTransport with peers from the package index, both ways: aioquic, and the pywebtransport that each Python can run.

    pywebtransport has environments of its own, pinned beside the tests and made below `.nox`. Chromium's part is in
    `browser`, bad visitors and bad networks are in `faults`.
    """
    _install(session, "-e", ".[quic]", *_group("test"))
    session.run("python", "-m", "pytest", "-q", "tests/interop/webtransport", *session.posargs)


@nox.session(python=False)
def faults(session: nox.Session) -> None:
    """Stalls, cuts and kills, with their figures; `nox -s faults -- --seed 7` lets others vanish at other moments.

    The long soak has 1,000 connections with 10 streams each for two minutes, the others are short.
    """
    _Dev.run(session, "pytest", "-q", "-rP", "tests/faults")
    short = ("--connections", "100", "--seconds", "8")
    for transport, size in (("tcp", ()), ("ws", short), ("http-lean", short), ("ws-lean", short)):
        _Dev.run(session, "tests.faults.soak", "--transport", transport, *size, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The live page and the client for browsers in a real Chromium; `-- --screenshots` renews those in the documentation.

    Where no Chromium can be had the tests are skipped and say so, except with CI set, where that is an error.
    """
    _install(session, "-e", ".[demo]", *_group("test"), *_group("browser"))
    _install_chromium(session)
    session.run("python", "-m", "pytest", "tests/browser", *session.posargs)


def _install_chromium(session: nox.Session) -> None:
    """Install Debian's package, if there is no Chromium and we may."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    if os.environ.get("CHROMIUM") or any(map(shutil.which, names)):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.log("there is no Chromium, and nobody here may install one")
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "chromium"]):
        # Without a network there is none; the tests say what that means.
        session.run("apt-get", *command, external=True, env=quiet, success_codes=range(256))


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Ruff's rules and format."""
    _Dev.run(session, "ruff", "check", ".")
    _Dev.run(session, "ruff", "format", "--check", ".")


@nox.session(python=False)
def layers(session: nox.Session) -> None:
    """Imports run one way; files, names and exports keep the house's rules."""
    names = ("layers", "structure", "exports")
    _Dev.run(session, "pytest", "-q", *(f"tests/test_{name}.py" for name in names), *session.posargs)


@nox.session(python=False)
def typing(session: nox.Session) -> None:
    """Mypy's strict mode, and pyright's claim that everything public is typed."""
    _Dev.run(session, "mypy")
    _Dev.run(session, "pyright", "--ignoreexternal", "--verifytypes", "trio_streams")
    _Dev.run(session, "pytest", "-q", "tests/test_stubs.py", "tests/typing")


@nox.session(python=False)
def coverage(session: nox.Session) -> None:
    """Every branch of every sans-IO module, from the module's own test file alone; declarations have no branch."""
    _Dev.prepare(session)
    files = [path for folder in PURE for path in sorted((PACKAGE / folder).glob("*.py"))]
    modules = [path for path in files if "def " in path.read_text(encoding="utf-8")]
    failures: list[str] = []
    # Each takes most of its time to start, and they have nothing in common.
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for output, failure in workers.map(_uncovered, modules):
            session.log(output)
            if failure is not None:
                failures.append(failure)
    if failures:
        session.error("\n  ".join(["not fully covered by its own test file:", *failures]))
    session.log(f"{len(modules)} modules, every branch of each covered by its own test file")


def _uncovered(module: Path) -> tuple[str, str | None]:
    """What coverage says of a module's own test file, and what is wrong with that, if anything is."""
    name = module.relative_to(PACKAGE)
    test = Path("tests") / name.parent / f"test_{name.name}"
    if not (ROOT / test).exists():
        return "", f"{name}: {test} is missing"
    data = {"COVERAGE_FILE": str(DEV / ".".join(["coverage", *name.with_suffix("").parts]))}
    quiet = ("pytest", "-q", "-p", "no:cacheprovider", str(test))
    run = _coverage(data, "run", "--branch", f"--include={module}", "-m", *quiet)
    if run.returncode != 0:
        return run.stdout + run.stderr, f"{test} fails"
    report = _coverage(data, "report", "--fail-under=100")
    return report.stdout + report.stderr, None if report.returncode == 0 else f"{name} by {test}"


def _coverage(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(_Dev.python()), "-m", "coverage", *arguments]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False, cwd=ROOT)


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """The documentation builds without a warning, and its code blocks run."""
    target = ROOT / ".nox" / "docs"
    _Dev.run(session, "sphinx", "-q", "-W", "--keep-going", "-d", f"{target}/doctrees", "docs", f"{target}/html")
    _Dev.run(session, "pytest", "-q", "tests/test_docs.py", *session.posargs)
    session.log(f"built {target}/html/index.html")


@nox.session(python=False)
def notebooks(session: nox.Session) -> None:
    """Every notebook runs from top to bottom and stores no output."""
    _Dev.run(session, "pytest", "-q", "tests/test_notebooks.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel, alone in an environment, installs and shows the demo streaming."""
    folder = Path(session.create_tmp()) / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    session.env.update(QUIET)
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), ".")
    (built,) = folder.glob("*.whl")
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "trio_streams", silent=True)
    _install(session, f"{built}[demo]")
    with session.chdir(folder):  # so that the source tree cannot be imported
        session.run("python", "-c", "import trio_streams; assert 'site-packages' in trio_streams.__file__")
        output = session.run("trio-streams", "demo", "--duration", "2", "--plain", silent=True)
    if not isinstance(output, str) or len(output.splitlines()) < 5:
        session.error(f"the demo streamed too little: {output!r}")
    session.log("the demo streamed:\n" + "\n".join(output.splitlines()[:10]))


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """Shows that the benchmarks run; `nox -s bench -- --full` measures."""
    arguments = [argument for argument in session.posargs if argument != "--full"]
    quick = [] if "--full" in session.posargs else ["--quick"]
    for path in sorted((ROOT / "tests" / "benchmarks").glob("bench_*.py")):
        _Dev.run(session, f"tests.benchmarks.{path.stem}", *quick, *arguments)
