"""Where the checkpoints of a run lie, and their end. Knows nothing of torch.

    checkpoints/<pipeline>/<training set>-<recipe>/

Only runs that would make the same model share a folder, and those of other code: a retry clears what it passes over.
"""

from __future__ import annotations

from evergreen.artifacts import Model
from evergreen.lake.lake import Lake
from evergreen.training.recipe import Recipe


def checkpoint_folder(training_set: str, recipe: Recipe) -> str:
    """The folder that every try of a run shares, and no other run; `training_set` is the digest of its rows."""
    return f"checkpoints/{recipe.pipeline}/{training_set[:16]}-{recipe.digest[:16]}"


def clear_checkpoints(lake: Lake, model: Model) -> None:
    """Removes what the tries of the training that made `model` left to resume from.

    Called once the model's receipt is written, never sooner: a try that ends before makes the model again from them,
    without training.
    """
    recipe = Recipe.model_validate_json(lake.objects.get(f"{model.uri}/config.json"))
    forget_checkpoints(lake, model.training_set, recipe)


def forget_checkpoints(lake: Lake, training_set: str, recipe: Recipe) -> None:
    """Removes what runs of `recipe` left; `training_set` is the digest of its rows."""
    for network in recipe.members:
        for path in lake.objects.list(checkpoint_folder(training_set, network)):
            lake.objects.delete(path)
