"""What a child of this process finds: the variables that it needs, no key it was not handed, the user's import path."""

from __future__ import annotations

import os
import re
import site
import sys
from collections.abc import Iterable
from pathlib import Path

# not compiled here: a child imports this on its way and needs none of it
# what an interpreter and its libraries need to run at all; also for the process that reads strangers' files
_BARE = (
    r"LANG|LANGUAGE|LC_\w+|TZ|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|DYLD_FALLBACK_LIBRARY_PATH|SYSTEMROOT|WINDIR"
    r"|PYTHONHOME|PYTHONUTF8|PYTHONHASHSEED|PYTHONDONTWRITEBYTECODE|PYTHONPYCACHEPREFIX|PYTHONUSERBASE"
    r"|(OMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|GOMP|KMP)_\w+"
)
# what our own work needs besides: programs, caches, settings of GPUs and training libraries, proxies, certificates
_OWN = (
    # the names of proxies are written in small letters, too
    r"(?i:"
    r"PATH|PATHEXT|COMSPEC|HOME|HOMEDRIVE|HOMEPATH|USERPROFILE|APPDATA|LOCALAPPDATA|PROGRAMDATA|USER|USERNAME|LOGNAME"
    r"|TMPDIR|TEMP|TMP|XDG_CACHE_HOME|XDG_CONFIG_HOME|XDG_DATA_HOME|VIRTUAL_ENV|CONDA_PREFIX|CUBLAS_WORKSPACE_CONFIG"
    r"|LD_PRELOAD|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|TERM|COLUMNS|NO_COLOR|TOKENIZERS_PARALLELISM"
    r"|PYTHONUNBUFFERED|PYTHONWARNINGS|PYTHONFAULTHANDLER|PYTHONIOENCODING|MPLBACKEND|MPLCONFIGDIR"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY"
    r"|(CUDA|NVIDIA|NCCL|GLOO|HIP|ROCR|HSA|TORCH|TORCHINDUCTOR|PYTORCH|TRITON|HF|TRANSFORMERS|TRL|ACCELERATE|WANDB)_\w+)"
)
_SECRET = r"(?i:KEY|TOKEN|SECRET|PASSW|COOKIE|CREDENTIAL|AUTH|_PAT$)"
# https://somebody:password@proxy
_PASSWORD = r"://[^/@\s:]*:[^/@\s]*@"
_HARMLESS = "TOKENIZERS_PARALLELISM"
# numpy's threads begin with its import, and one that is there before a process confines itself stays free
_SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # somebody removed it
        return os.sep


# what a relative entry of PYTHONPATH is relative to
_STARTED_IN = _current_folder()


def environment(keys: Iterable[str] = (), *, confined: bool = False) -> dict[str, str]:
    """A child's environment: the names below, and the `keys` that it was handed by name. `confined`: of the process
    that reads strangers' files, which has neither a home nor the folders that only the parent's script put on its path.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if (re.fullmatch(_BARE, name) or (not confined and re.fullmatch(_OWN, name)))
        and (name == _HARMLESS or not re.search(_SECRET, name))
        and not re.search(_PASSWORD, value)
    }
    passed |= {name: os.environ[name] for name in keys if name in os.environ}
    if confined:
        passed |= _SINGLE
        if site.ENABLE_USER_SITE:
            # without a home it would look for its packages elsewhere
            passed["PYTHONUSERBASE"] = site.getuserbase()
    if path := _import_path(confined):
        passed["PYTHONPATH"] = os.pathsep.join(path)
    return {**passed, "PYTHONSAFEPATH": "1"}


def _import_path(confined: bool) -> list[str]:
    """What comes before the standard library: what the user put there, never the current folder for itself."""
    given = [] if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = [str(Path(_STARTED_IN, entry)) for entry in given if entry]
    before = [] if confined else [entry for entry in sys.path[: _standard_library()] if entry]
    here, script = {_STARTED_IN, _current_folder()}, _script_folder()
    resolved = {entry: str(Path(_STARTED_IN, entry).resolve()) for entry in before}
    before = [str(Path(_STARTED_IN, e)) for e, at in resolved.items() if at not in here or at == script]
    # this code and no other of its name; installed, it stands where every interpreter looks
    own = Path(__file__).resolve().parent.parent
    ours = [] if own.name in ("site-packages", "dist-packages") else [str(own)]
    return list(dict.fromkeys((*before, *named, *ours)))


def _standard_library() -> int:
    """Where it begins in sys.path."""
    library = str(Path(os.__file__).parent)
    first = sys.path.index(library) if library in sys.path else 0
    return first - (first > 0 and sys.path[first - 1].endswith(".zip"))


def _script_folder() -> str | None:
    """The folder of the program that the user named, `python FOLDER/script.py`: it may be the current one."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None:
        return None
    return str(Path(file).resolve().parent)
