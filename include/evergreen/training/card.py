"""The model card: what a person must know before trusting a model (Mitchell et al. 2019)."""

from __future__ import annotations

from datetime import date

from evergreen.artifacts import TrainingSet
from evergreen.pipeline import Pipeline
from evergreen.training.recipe import Recipe
from evergreen.training.report import Metrics


def model_card(pipeline: Pipeline, training_set: TrainingSet, recipe: Recipe, metrics: Metrics) -> str:
    """Markdown; the same inputs give the same text."""
    features, label = pipeline.features, pipeline.label
    return f"""# Model card: {pipeline.pipeline}, as of {training_set.as_of.isoformat()}

Owner: {pipeline.owner}
Purpose: {pipeline.purpose}

## Data
Nothing known only after {training_set.as_of.isoformat()} was used. Training set `{training_set.digest}`.

| part | days | rows | {label.name} |
|---|---|---|---|
{_part("train", training_set, training_set.train_days)}
{_part("validation", training_set, training_set.validation_days)}
{_part("holdout (not seen here)", training_set, training_set.holdout_days, "holdout")}

Label: `{label.name}`, 1 when {_meaning(pipeline)} within {label.matures_after_days} days of the event.

## Model
{_members(recipe, metrics)}
Seed {recipe.training.seed}, device {recipe.device}.
{_searched(pipeline, recipe)}Recipe `{recipe.digest}`; the spec is named by the receipt of the training.

## Metrics on the validation days
These chose the epoch and the calibration, so they flatter the model a little; the gate judges on the holdout days.

| metric | value |
|---|---|
| average precision | {metrics.average_precision:.4f} |
| area under the ROC curve | {metrics.roc_auc:.4f} |
| Brier score | {metrics.brier:.6f} |
| mean score / rate of positives | {metrics.mean_score:.6f} / {metrics.positives / metrics.rows:.6f} |

## Features
Numeric: {_listed(features.numeric)}.
Categorical: {_listed(features.categorical)}.

## Limits
- Scores are probabilities for events like those of the validation days; after a shift they are no longer calibrated.
- A number outside the range seen in training counts as the nearest one seen, a category not seen as unknown,
  and a missing number as the median, with a flag where training had missing values too.
- It learned from labels known by the as-of instant; whatever is never reported counts as 0.
- No fairness analysis beyond the slices the gate names ({_listed(pipeline.gate.slices)}) was made.
"""


def _members(recipe: Recipe, metrics: Metrics) -> str:
    """What the model is made of, a line each."""
    hidden = " x ".join(map(str, recipe.training.hidden))
    said = {
        "network": f"a multi-layer perceptron ({hidden} units) over piecewise-linear encoded numbers and embedded or "
        "target-encoded categories; early stopping on the validation days at epoch {best} of {steps}",
        "trees": "boosted trees (LightGBM) over numbers and target-encoded categories; {best} of {steps} kept by "
        "early stopping on the validation days",
    }
    lines = [
        f"- {said[m.kind].format(best=m.best, steps=m.steps)}: average precision {m.average_precision:.4f} there, "
        f"weight {m.weight:.3f}"
        for m in metrics.members
    ]
    return "\n".join(["The weighted sum of the logits, then calibrated, of:", "", *lines, ""])


def _searched(pipeline: Pipeline, recipe: Recipe) -> str:
    """A line with the fields that a search chooses, as this model has them; nothing without a search."""
    if pipeline.search is None:
        return ""
    training = recipe.training.model_dump(mode="json")
    varied = ", ".join(f"`{name}` {training[name]}" for name in pipeline.search.space)
    return f"Fields that the spec's search varies: {varied}.\n"


def _part(title: str, training_set: TrainingSet, days: tuple[date, date], part: str | None = None) -> str:
    name = part or title
    return f"| {title} | {days[0]} to {days[1]} | {training_set.rows[name]} | {training_set.positives[name]} |"


def _meaning(pipeline: Pipeline) -> str:
    label = pipeline.label
    said = f"`{label.table}.{label.value}` is true" if label.value else f"a row stands in `{label.table}`"
    return f"{said} for its `{pipeline.contract.key}`"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
