"""The third stage trains the language model on encoded query targets instead of image features.

It needs no images, so it runs in parallel with the first two stages. The codebook encodes the targets, and noise is
added. Samples are single questions in English at first, then single questions in every language, then also dialogues.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.model import embeddings, targets
from training.model.architecture import PAD, parameter_groups
from training.model.codebook import TargetCodebook
from training.model.generation import generate_from_features
from training.model.question_targets import QuestionHead
from training.model.targets import COUNT_QUERY, FACTORS, IGNORE_INDEX
from training.model.vocabulary import word_meanings
from training.recipe import Recipe
from training.scenes.colours import WHITE
from training.scenes.everyday import NAMES
from training.scenes.general_names import general_names
from training.scenes.layouts import Box
from training.scenes.mixture import ood_scene, sample_scene
from training.scenes.scene import MAX_OBJECTS, Scene, SceneObject
from training.stages import checkpoints
from training.stages.batches import ANSWER_CODES, SAMPLE_KINDS, Batch, TextResources, scene_sample, text_batch
from training.stages.loop import STORED_NAMES, Stage, TrainingContext, train
from training.stages.reports import NAME as REPORTS
from training.stages.reports import load_reports
from training.stages.vision_encoder import new_modules, saved_modules
from training.tasks.samples import SampleKind

NAME = "language_model"
SINGLE_KINDS: tuple[SampleKind, ...] = ("short", "long", "short")
ENGLISH_SHARE, SINGLE_SHARE = 0.05, 0.2
"""The shares of the steps, at the stage's beginning, with English only and with single questions only."""

NOISE_STD = 0.5
"""The standard deviation of the noise on encoded query targets."""

EMBEDDING_SCALE = 1.0
"""The embeddings' learning rate is that of the stage, multiplied by this."""

EVALUATION_SAMPLES = 256


REPORT_SHARE = 0.5
"""The share of the samples that read a report of rendered scenes, in a run from an initial model."""

PHOTOGRAPH_SHARE, UNKNOWN_SHARE = 0.1, 0.2
"""The share of new scenes that are photographs, and of those that show nothing known."""

GROUP_SHARE, MEMBER_SHARE = 0.5, 0.6
"""The share of new scenes of everyday objects that show several kinds with one general name, which random scenes rarely
do, and the share of their objects that have it."""

DOUBT_SHARE, MAX_DOUBT = 0.3, 0.45
"""The share of new scenes whose codes are blended with those of similar concepts, and the largest weight of those."""


@dataclass(frozen=True)
class TextBatches:
    """Makes the stage's batches: query targets, prompts and labels for new scenes, which are not rendered."""

    recipe: Recipe
    text: TextResources
    reports: int = 0
    """The number of reports that samples may read."""

    similar: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The kinds that are like each kind, all as options of the factor "kind"."""

    def __call__(self, step: int) -> Batch:
        """The batch of `step`. All its samples are of one kind, since dialogues are longer than single questions."""
        schedule, seed = self.recipe.language_model, self.recipe.seed
        rng = random.Random(f"text/{seed}/{step}")
        progress = step / schedule.steps
        first = step * schedule.batch
        scenes = [_text_scene(seed, first + i, rng) for i in range(schedule.batch)]
        report_indices = [
            rng.randrange(self.reports) if self.reports and rng.random() < REPORT_SHARE else -1 for _ in scenes
        ]
        for i, index in enumerate(report_indices):
            if index >= 0:
                scenes[i] = sample_scene(seed, index, split=REPORTS)
        is_beginning = not self.reports
        codes = ("en",) if is_beginning and progress < ENGLISH_SHARE else ANSWER_CODES
        kinds = SINGLE_KINDS if is_beginning and progress < SINGLE_SHARE else SAMPLE_KINDS
        samples = text_batch(scenes, rng, kind=kinds[step % len(kinds)], text=self.text, codes=codes)
        query_targets = sample_query_targets(scenes, rng)
        doubts = [rng.uniform(0, MAX_DOUBT) if rng.random() < DOUBT_SHARE else 0.0 for _ in scenes]
        return {
            "query_targets": query_targets,
            "doubtful_targets": self._similar_targets(query_targets, rng),
            "doubts": torch.tensor(doubts),
            "photographs": torch.tensor([float(scene.photograph) for scene in scenes]),
            "reports": torch.tensor(report_indices),
            **samples,
        }

    def _similar_targets(self, query_targets: Tensor, rng: random.Random) -> Tensor:
        """The targets with another, similar kind in place of each kind."""
        similar_targets = query_targets.clone()
        for scene_targets in similar_targets[..., 0]:
            for kind in set(scene_targets.tolist()) - {0, IGNORE_INDEX}:
                others = self.similar.get(kind) or (rng.randrange(1, FACTORS["kind"]),)
                scene_targets[scene_targets == kind] = -rng.choice(others) - 1000
        replaced = similar_targets[..., 0] <= -1000
        similar_targets[..., 0][replaced] = -similar_targets[..., 0][replaced] - 1000
        return similar_targets


def _text_scene(seed: int, index: int, rng: random.Random) -> Scene:
    """The scene number `index` of the stage, or a photograph of one thing or of nothing known."""
    if rng.random() >= PHOTOGRAPH_SHARE:
        scene = sample_scene(seed, index, split=STORED_NAMES[NAME])
        is_everyday = scene.objects and not scene.flat and len(scene.objects) <= MAX_OBJECTS
        return _grouped(scene, rng) if is_everyday and rng.random() < GROUP_SHARE else scene
    if rng.random() < UNKNOWN_SHARE:
        return replace(ood_scene("photo"), photograph=rng.random() < 0.5)
    box = Box(48, 48, 64)
    return Scene(96, 96, (WHITE, WHITE), (SceneObject(rng.choice(NAMES), None, box, WHITE),), photograph=True)


def sample_query_targets(scenes: Sequence[Scene], rng: random.Random) -> Tensor:
    """The scenes' query targets. A side without a clear object gets any object, as the Q-Former also predicts one."""
    query_targets = np.stack([targets.query_targets(scene) for scene in scenes])
    for scene_targets, scene in zip(query_targets, scenes, strict=True):
        for side in scene_targets[COUNT_QUERY + 1 :]:
            if side[0] == IGNORE_INDEX and scene.objects:
                side[:2] = scene_targets[rng.randrange(len(scene.objects)), :2]
    return torch.from_numpy(query_targets)


def _grouped(scene: Scene, rng: random.Random) -> Scene:
    """The scene with other kinds of objects, of which many have one general name: some fruit, and other things."""
    group = sorted(rng.choice(list(general_names().values())).members)
    pools = [group if rng.random() < MEMBER_SHARE else NAMES for _ in scene.objects]
    return replace(
        scene,
        objects=tuple(replace(obj, kind=rng.choice(pool)) for obj, pool in zip(scene.objects, pools, strict=True)),
    )


def train_language_model(context: TrainingContext, *, tokenizer: Any) -> None:
    """Run or resume the stage."""
    recipe = context.recipe
    model, heads = new_modules(context, vocabulary=len(tokenizer))
    if not context.initial_model:
        embeddings.initialize_embeddings(model, tokenizer, word_meanings(context.sources), heads.codebook)
    question_head = QuestionHead(recipe.sizes.text_width).to(context.device)
    text = TextResources(tokenizer, context.lexicons())
    evaluation = LanguageEvaluation(recipe, text)
    query_targets = sample_query_targets(evaluation.scenes, random.Random(f"exam-reports/{recipe.seed}"))

    reports = load_reports(context, model) if context.initial_model else None

    def features(batch: Batch) -> Tensor:
        encoded = noisy_features(heads.codebook, batch)
        return encoded if reports is None else reports.replace(encoded, batch["reports"])

    evaluation_batch = {"query_targets": query_targets.to(context.device)}

    train(
        Stage(
            name=NAME,
            schedule=recipe.language_model,
            modules={"model": model, "grasp": question_head},
            parameter_groups=[*language_model_groups(model), *parameter_groups(question_head)],
            batches=TextBatches(recipe, text, len(reports.features), reports.similar)
            if reports
            else TextBatches(recipe, text),
            loss=lambda batch: language_model_loss(model, question_head, features(batch), batch),
            evaluate=lambda: evaluation(model, noisy_features(heads.codebook, evaluation_batch)),
        ),
        context,
    )


def load_question_head(context: TrainingContext) -> QuestionHead:
    """The question head from this stage's checkpoint, or a new one if a run from an initial model has none."""
    question_head = QuestionHead(context.recipe.sizes.text_width).to(context.device)
    if context.initial_model and not checkpoints.load_checkpoint(context.checkpoint_path(NAME)):
        return question_head
    question_head.load_state_dict(saved_modules(context, NAME)["grasp"])
    return question_head


def noisy_features(codebook: TargetCodebook, batch: Batch) -> Tensor:
    """The encoded query targets plus Gaussian noise, (N, queries, text width), which replace image features.

    If the batch has doubts, each is the weight of the codes of similar kinds.
    """
    vectors = codebook.encode(batch["query_targets"], batch.get("photographs"))
    if "doubts" in batch:
        others = codebook.encode(batch["doubtful_targets"], batch["photographs"])
        vectors = torch.lerp(vectors, others, batch["doubts"][:, None, None])
    return vectors + NOISE_STD * torch.randn_like(vectors)


def language_model_loss(model: Any, question_head: QuestionHead, features: Tensor, batch: Batch) -> Tensor:
    """The cross entropy of the labels after the image features and the prompt, plus the question head's loss."""
    prompt = model.language_model.get_input_embeddings()(batch["prompt"])
    mask = torch.cat([torch.ones(features.shape[:2], dtype=torch.long, device=features.device), batch["mask"]], dim=1)
    inputs = torch.cat([features.to(prompt.dtype), prompt], dim=1)
    language = model.language_model
    states = language.encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
    labels, is_label = batch["labels"], batch["labels"] != IGNORE_INDEX
    decoder_input = torch.cat([torch.full_like(labels[:, :1], PAD), labels[:, :-1]], dim=1).clamp(min=PAD)
    outputs = language.decoder(input_ids=decoder_input, encoder_hidden_states=states, encoder_attention_mask=mask)
    # Logits for labels only, since the vocabulary is large and most of a batch of answers is padding.
    logits = language.lm_head(outputs.last_hidden_state[is_label])
    cross_entropy = nn.functional.cross_entropy(logits.float(), labels[is_label])
    return cross_entropy + question_head.loss(states, mask, batch["question_targets"])


def language_model_groups(model: Any) -> list[dict[str, Any]]:
    """Optimizer groups of the language model's parameters, with a separate group for the embeddings."""
    weight = model.language_model.get_input_embeddings().weight
    groups = [
        {**group, "params": [one for one in group["params"] if one is not weight]}
        for group in parameter_groups(model.language_model)
    ]
    return [*groups, {"params": [weight], "scale": EMBEDDING_SCALE, "weight_decay": 0.0}]


class LanguageEvaluation:
    """A fixed set of samples of held-out scenes, scored by exact match."""

    def __init__(self, recipe: Recipe, text: TextResources) -> None:
        size = min(EVALUATION_SAMPLES, recipe.evaluation_scenes)
        rng = random.Random(f"exam-words/{recipe.seed}")
        self.scenes = [sample_scene(recipe.seed, i, split="exam") for i in range(size)]
        self.kinds = [("English", "any", "dialogue")[i % 3] for i in range(size)]
        self.samples = []
        for i, kind in enumerate(self.kinds):
            sample_kind: SampleKind = "dialogue" if kind == "dialogue" else "any"
            codes = ("en",) if kind == "English" else tuple(text.lexicons)
            self.samples.append(
                scene_sample(self.scenes, i, rng, kind=sample_kind, lexicons=text.lexicons, codes=codes)
            )
        self.tokenizer = text.tokenizer

    def __call__(self, model: Any, features: Tensor) -> Mapping[str, float]:
        """The shares of exact answers in English, to single questions and in dialogues, given the image features."""
        model.eval()
        answers = generate_from_features(model, self.tokenizer, features, [sample.prompt for sample in self.samples])
        model.train()
        correct = [text == sample.answer for text, sample in zip(answers, self.samples, strict=True)]
        hits = [kind for kind, is_correct in zip(self.kinds, correct, strict=True) if is_correct]
        names = {"English": "exact in English", "any": "exact", "dialogue": "exact in dialogues"}
        return {name: hits.count(kind) / max(1, self.kinds.count(kind)) for kind, name in names.items()}
