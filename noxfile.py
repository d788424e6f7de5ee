"""Other Pythons and versions, one command each: nox -s oldest newest colab kaggle

Each session makes an environment of its own (several GB, a few minutes). `oldest` and `newest` run
plain pytest, warnings as errors, at both ends of what the course supports; `colab` and `kaggle`
run each of the eight notebooks alone in an empty folder with those platforms' versions.
"""

import nox

nox.options.default_venv_backend = "uv|virtualenv"  # uv installs faster, where it is
nox.options.sessions = ["oldest", "newest", "colab", "kaggle"]


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """Python 3.10 and every floor of pyproject.toml.

    Without the browser: ipywidgets 7.7 is Colab's, and JupyterLab 4 cannot show its widgets.
    """
    session.install("-r", "requirements.txt", "-c", "constraints-oldest.txt")
    chosen = "not slow and not peer and not browser"
    session.run("python", "-m", "pytest", "-m", chosen, *session.posargs)


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """Python 3.13 and the newest of everything."""
    session.install("-r", "requirements.txt")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.13")
def colab(session: nox.Session) -> None:
    """Google Colab's versions."""
    session.install("-r", "constraints-colab.txt")
    session.run("python", "-m", "tools.course.alone", "--as", "colab", *session.posargs)


@nox.session(python="3.12")
def kaggle(session: nox.Session) -> None:
    """Kaggle's versions."""
    session.install("-r", "constraints-kaggle.txt")
    session.run("python", "-m", "tools.course.alone", "--as", "kaggle", *session.posargs)
