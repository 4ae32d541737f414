"""Models on the Hugging Face Hub: hf://OWNER/NAME[@REVISION].

A repository holds what `weights_folder` and `jax_mspac.export` write. It is read with `snapshot_download` and not with
`ModelHubMixin`, which makes a config.json and a card of its own, and a class that loads the Hub's library for everyone.
"""

import contextlib
import pathlib
from collections.abc import Iterator

from jax_mspac.errors import UserError
from jax_mspac.models.weight_files import HUB
from jax_mspac.runs import config_file, provenance, weights_folder

CARD = "README.md"
# What is fetched of a repository, whatever else it holds.
FILES = (config_file.FILE, weights_folder.FILE, provenance.FILE, CARD)


def names_one(spec: object) -> bool:
    """Whether a model's name is one of the Hub's."""
    return isinstance(spec, str) and spec.startswith(HUB)


def fetched(spec: str) -> pathlib.Path:
    """The folder of a model of the Hub, downloaded to that library's cache if it is not there.

    Args:
      spec: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION with a branch, a tag or a commit.

    Raises:
      UserError: there is no such repository or revision, it is no model of jax_mspac, or it cannot be downloaded.
    """
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    repository, _, revision = spec.removeprefix(HUB).partition("@")
    with explained(spec):
        # Of a foreign repository, which may be of any size, no more than this.
        try:
            config = hf_hub_download(repository, config_file.FILE, revision=revision or None)
        except errors.EntryNotFoundError as error:
            if isinstance(error, errors.LocalEntryNotFoundError):
                raise
            raise UserError(_foreign(spec, f"it has no {config_file.FILE}")) from None
        try:
            config_file.load(config)
        except UserError as error:
            raise UserError(_foreign(spec, f"its {config_file.FILE} is not the config of a run")) from error
        # The same commit, though the branch may move meanwhile: the library's cache has a folder for each.
        commit = pathlib.Path(config).parent.name
        folder = snapshot_download(repository, revision=commit, allow_patterns=list(FILES))
    if not weights_folder.is_one(pathlib.Path(folder)):
        raise UserError(_foreign(spec, f"it has no {weights_folder.FILE}"))
    return pathlib.Path(folder)


@contextlib.contextmanager
def explained(spec: str) -> Iterator[None]:
    """Turns what the Hub refuses into `UserError`s that say what to do.

    Args:
      spec: hf://OWNER/NAME.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(f"{spec} is given on request only: ask for it on its page, then hf auth login") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{spec}: there is no such repository, or it is private and no token of yours may see it: check the name, "
            "or log in by hf auth login (or HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{spec}: the repository has no such branch, tag or commit") from error
    except errors.HFValidationError as error:
        raise UserError(f"{spec}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION ({_line(error)})") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise UserError(
                f"{spec}: the Hub refuses the token ({_line(error)}): log in with one that may do this, by "
                "hf auth login or HF_TOKEN"
            ) from error
        raise UserError(f"{spec}: the Hub answers with an error ({_line(error)}); try again later") from error
    except (errors.LocalEntryNotFoundError, ConnectionError, errors.HTTPError) as error:
        raise UserError(
            f"{spec}: the Hub cannot be reached, and the model is not in its cache on this machine ({_line(error)}): "
            "check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or copy the folder of the model and name that"
        ) from error
    except RuntimeError as error:  # what the library makes of all that fails while a large file goes up
        why = _line(error.__cause__ or error)
        raise UserError(
            f"{spec}: {_line(error)} ({why}): nothing was committed; start the same command again"
        ) from error


def _foreign(spec: str, why: str) -> str:
    return (
        f"{spec} is no model of jax_mspac: {why}. As weights to start a training from: --config.model.pretrained={spec}"
    )


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
