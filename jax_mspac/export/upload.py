"""Uploads the folder of a model to the Hugging Face Hub."""

import pathlib

from jax_mspac.errors import UserError
from jax_mspac.models.weight_files import HUB
from jax_mspac.runs import hub


def check(repository: str, *, overwrite: bool) -> None:
    """Checks that a model may go to a repository, before any work is done for it.

    Raises:
      UserError: there is no token, the name is none, the repository holds a model and `overwrite` is not set, or the
        Hub cannot be reached.
    """
    import huggingface_hub

    spec = HUB + repository
    if huggingface_hub.get_token() is None:
        raise UserError(
            f"{spec}: no token of the Hugging Face Hub on this machine: log in by hf auth login, or set HF_TOKEN to a "
            "token that may write"
        )
    if repository.count("/") != 1:
        raise UserError(f"--repo is {repository}; expected OWNER/NAME")
    api = huggingface_hub.HfApi()
    with hub.explained(spec):
        there = set(api.list_repo_files(repository)) if api.repo_exists(repository) else set()
    if (held := sorted(there & set(hub.FILES))) and not overwrite:
        raise UserError(f"{spec} exists and holds {', '.join(held)}: name another --repo, or replace them: --overwrite")


def upload(folder: pathlib.Path, repository: str, *, private: bool) -> str:
    """Makes a repository, if there is none, and commits the files of a folder to it.

    Args:
      folder: see `weights.write`.
      repository: OWNER/NAME.
      private: whether a new repository is; else it is as the owner has set. One that is there stays as it is.

    Returns:
      The address of the commit.

    Raises:
      UserError: the Hub refuses, or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    with hub.explained(HUB + repository):
        api.create_repo(repository, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="A model of jax_mspac",
            allow_patterns=list(hub.FILES),
        )
    return str(commit.commit_url)
