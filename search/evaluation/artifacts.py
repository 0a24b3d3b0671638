"""Where artefacts are kept that several machines need: a folder that all share, or any URL that fsspec knows."""

import os
import uuid
from dataclasses import dataclass

import fsspec

from space.errors import RunError
from space.paths import expanded

VARIABLE = "MOBILENAS_ARTIFACTS"


@dataclass(frozen=True, slots=True)
class ArtifactStore:
    """Files by name; each appears whole or not at all. Credentials are fsspec's business."""

    url: str

    def put(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            RunError: it cannot be written.
        """
        try:
            files, root = fsspec.core.url_to_fs(self.url)
            path = f"{root}/{name}"
            draft = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
            try:
                files.pipe_file(draft, content)
            except FileNotFoundError:  # not asked before: object stores have no folders, and may let nobody look
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                files.pipe_file(draft, content)
            files.mv(draft, path)
        except Exception as error:
            raise self._failed("written", name, error) from error

    def get(self, name: str) -> bytes | None:
        """The content of a file, None where there is none.

        Raises:
            RunError: it cannot be read.
        """
        try:
            files, root = fsspec.core.url_to_fs(self.url)
            content: bytes = files.cat_file(f"{root}/{name}")
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed("read", name, error) from error
        return content

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            RunError: it cannot be removed.
        """
        try:
            files, root = fsspec.core.url_to_fs(self.url)
            if files.exists(f"{root}/{name}"):
                files.rm_file(f"{root}/{name}")
        except Exception as error:
            raise self._failed("removed", name, error) from error

    def _failed(self, what: str, name: str, error: Exception) -> RunError:
        # Backends raise whatever they like; the URL may hold a password.
        return RunError(f"artefact {name} cannot be {what} ({type(error).__name__}: {error}); look at {VARIABLE}")


def artifact_store() -> ArtifactStore | None:
    """The artefact store that `MOBILENAS_ARTIFACTS` names."""
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    return ArtifactStore(url if "://" in url else str(expanded(url).absolute()))


def weights_name(evaluation_key: str) -> str:
    """The weights that an evaluation left: equal evaluations have equal ones, whichever search they are of."""
    return f"weights/{evaluation_key}.safetensors"
